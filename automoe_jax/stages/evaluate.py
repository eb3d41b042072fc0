"""evaluate: translations of the test text, their scores, and what each network costs."""

import sys
import time
from typing import Any

from etils import epath
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.costs import costs
from automoe_jax.data import toy
from automoe_jax.decode import translate_lines
from automoe_jax.extract import extract
from automoe_jax.model.network import Network, Spec
from automoe_jax.report import DENSE, INHERITED, RETRAINED, results_table
from automoe_jax.scores import score
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir, read_json, write_json


def run(config: Config, workdir: Workdir) -> None:
    """Leaves a file for each row, so that none is computed twice, and `results.json` with all of them."""
    text = read_json(workdir.text_path("test"))
    count = config.evaluate.max_pairs or len(text["source"])
    sources, references = text["source"][:count], text["target"][:count]
    spec, arch = Spec(config.space, workdir.tokenizer().vocab_size), workdir.arch()
    rows = [
        _row(config, workdir, RETRAINED, workdir.retrained, arch, sources, references),
        _row(config, workdir, INHERITED, workdir.supernet, arch, sources, references),
    ]
    if config.retrain.dense_baseline:
        rows.append(_row(config, workdir, DENSE, workdir.dense, config.space.largest_dense(), sources, references))
    rows.append(_text_row("copy of the source", sources, references))
    if config.data.source == "toy":
        rows.append(_text_row("word by word", [toy.word_by_word(line) for line in sources], references))
    samples = [
        {"source": sources[i], "reference": references[i]} | {row["name"]: row["translations"][i] for row in rows if "flops" in row}
        for i in _spread(count, config.evaluate.samples)
    ]
    table = [{name: value for name, value in row.items() if name != "translations"} for row in rows]
    write_json(workdir.evaluate / "results.json", {"rows": table, "samples": samples, "sentences": count, "vocab_size": spec.vocab_size})
    print(results_table(table), flush=True)


def _row(
    config: Config, workdir: Workdir, name: str, folder: epath.Path, arch: Arch, sources: list[str], references: list[str]
) -> dict[str, Any]:
    """The row of one network, from its file if it was computed before."""
    path = workdir.evaluate / f"{name.replace(' ', '_')}.json"
    if path.exists():
        return read_json(path)
    vocab_size = workdir.tokenizer().vocab_size
    network = _network(config, workdir, folder, arch, vocab_size)
    translations, seconds = _translated(config, workdir, name, network, sources)
    cost = costs(arch, config.search.source_length, config.search.target_length, vocab_size)
    trained = runs.summary(folder)
    row = {
        "name": name,
        **{key: value if isinstance(value, str) else round(value, 2) for key, value in score(translations, references)._asdict().items()},
        "flops": cost.flops,
        "flops_with_vocabulary": cost.flops_with_vocabulary,
        "params": cost.params,
        "active_params": cost.active_params,
        "train_tokens": trained.tokens,
        "train_seconds": trained.seconds,
        "decode_sentences_per_second": round(len(sources) / seconds, 1),
        "note": "",
        "translations": translations,
    }
    write_json(path, row)
    return row


def _network(config: Config, workdir: Workdir, folder: epath.Path, arch: Arch, vocab_size: int) -> Network:
    if folder == workdir.supernet:
        return extract(runs.load(folder, Spec(config.space, vocab_size)), arch)
    return runs.load(folder, Spec(config.space, vocab_size, arch=arch))


def _translated(config: Config, workdir: Workdir, name: str, network: Network, sources: list[str]) -> tuple[list[str], float]:
    """Translations and the seconds they took, after one sentence of each shape was translated to compile."""
    tokenizer, settings = workdir.tokenizer(), config.evaluate
    options: dict[str, Any] = {
        "buckets": config.data.buckets,
        "beam_size": settings.beam_size,
        "length_penalty": settings.length_penalty,
        "batch_sizes": (settings.batch_size,),
    }
    lengths: dict[int, str] = {}
    for line, ids in zip(sources, tokenizer.encode(sources), strict=True):
        lengths.setdefault(next((bucket for bucket in config.data.buckets if len(ids) < bucket), 0), line)
    for line in lengths.values():
        translate_lines(network, tokenizer, [line], **options)
    with tqdm(total=len(sources), desc=f"translate ({name})", unit="sentence", file=sys.stderr, dynamic_ncols=True) as bar:
        started = time.perf_counter()
        translations = translate_lines(network, tokenizer, sources, progress=bar.update, **options)
        return translations, time.perf_counter() - started


def _text_row(name: str, translations: list[str], references: list[str]) -> dict[str, Any]:
    scores = score(translations, references)
    return {
        "name": name,
        **{key: value if isinstance(value, str) else round(value, 2) for key, value in scores._asdict().items()},
        "translations": translations,
    }


def _spread(count: int, samples: int) -> list[int]:
    """At most `samples` sentence numbers at even distances."""
    samples = min(samples, count)
    return [i * count // samples for i in range(samples)]
