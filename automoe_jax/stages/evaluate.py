"""evaluate: translations of the test text or its classes, their scores, and what each network
costs.
"""

import dataclasses
import sys
import time
from typing import Any

import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.costs import costs
from automoe_jax.data.batching import Batch, evaluation_batches
from automoe_jax.data.sources import SOURCES
from automoe_jax.extract import extract
from automoe_jax.inference import expert_usage, latency
from automoe_jax.inference.classify import classify
from automoe_jax.inference.decode import translate_lines
from automoe_jax.inference.quantise import quantised, size
from automoe_jax.inference.scores import accuracy, score
from automoe_jax.model.network import Network
from automoe_jax.report import DENSE, INHERITED, RETRAINED, results_table
from automoe_jax.runtime.machine import device, versions
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir, read_json, write_json

# of the table of pieces: so many frequent ones, and of those that come at most so often
PIECES, RARE = 20, 3


def run(config: Config, workdir: Workdir) -> None:
    """Leaves a file for each row, so that none is computed twice, and `results.json` with all of
    them.
    """
    text = read_json(workdir.text_path("test"))
    count = min(config.evaluate.max_pairs or len(text["source"]), len(text["source"]))
    sources, references = text["source"][:count], text["target"][:count]
    arch = workdir.arch()
    rows = [
        _row(way, workdir, name, workdir.retrained, arch, sources, references)
        for name, way in inferences(config).items()
    ]
    if config.evaluate.int8:
        rows.insert(1, _int8_row(config, workdir, rows[0], arch, sources, references))
    if runs.is_complete(workdir.supernet):
        rows.append(_row(config, workdir, INHERITED, workdir.supernet, arch, sources, references))
    if config.retrain.dense_baseline:
        rows.append(
            _row(
                config,
                workdir,
                DENSE,
                workdir.dense,
                config.space.largest_dense(),
                sources,
                references,
            )
        )
    rows += [
        {"name": name, **_scores(config, outputs, references), "outputs": outputs}
        for name, outputs in _simple(config, workdir, sources)
    ]
    samples = [
        {"source": sources[i], "reference": references[i]}
        | {row["name"]: row["outputs"][i] for row in rows if "flops" in row}
        for i in evenly_spaced(count, config.evaluate.samples)
    ]
    table = [{name: value for name, value in row.items() if name != "outputs"} for row in rows]
    write_json(
        workdir.evaluate / "results.json",
        {
            "rows": table,
            "samples": samples,
            "sentences": count,
            "output_size": workdir.spec(config).output_size,
            "device": device(),
            "versions": versions(),
        },
    )
    print(results_table(table), flush=True)


def inferences(config: Config) -> dict[str, Config]:
    """The configurations that the retrained sub-Transformer is evaluated under, by the name of the
    row: the configured one first, then the router's other modes of inference.
    """
    others = config.router.declaration.variants(config.router)
    return {RETRAINED: config} | {
        f"{RETRAINED} ({name})": dataclasses.replace(config, router=router)
        for name, router in others.items()
    }


def _row(
    config: Config,
    workdir: Workdir,
    name: str,
    folder: epath.Path,
    arch: Arch,
    sources: list[str],
    references: list[str],
) -> dict[str, Any]:
    """The row of one network, from its file if it was computed before."""
    path = workdir.evaluate / f"{name.replace(' ', '_')}.json"
    if path.exists():
        return read_json(path)
    network = _network(config, workdir, folder, arch)
    vocab_size = network.spec.output_size
    outputs, seconds = _outputs(config, workdir, name, network, sources)
    lengths: dict[str, Any] = {
        "source_length": config.search.source_length,
        "target_length": config.search.target_length,
    }
    router = config.router.costs(arch)
    cost = costs(arch, **lengths, vocab_size=vocab_size, router=router)
    measured: dict[str, Any] = {}
    if router.experts_per_token:
        measured["experts_per_token"] = list(router.experts_per_token)
    declaration = config.router.declaration
    if declaration.measurable and arch.routed:
        chosen = expert_usage.measure(network, _test_batches(config, workdir))
        found = costs(arch, **lengths, vocab_size=vocab_size, router=router, loads=chosen.loads)
        measured |= {
            "flops_measured": round(found.flops),
            "active_params_measured": round(found.active_params),
        }
        measured |= {
            "expert_loads": [[round(share, 4) for share in layer] for layer in chosen.loads]
        }
        measured |= _expert_usage(workdir, chosen) if declaration.counts_vary else {}
    if config.evaluate.latency_runs:
        (took,) = latency.measure(
            [network],
            **lengths,
            beam_size=config.evaluate.beam_size,
            runs=config.evaluate.latency_runs,
        )
        measured |= {
            "encoder_ms": round(took.encoder, 3),
            "decoder_ms": round(took.decoder, 3),
            "latency_ms": round(took.total, 3),
        }
    trained = runs.summary(folder)
    row = {
        "name": name,
        **_scores(config, outputs, references),
        "flops": cost.flops,
        "flops_with_vocabulary": cost.flops_with_vocabulary,
        "params": cost.params,
        "active_params": cost.active_params,
        **measured,
        "train_tokens": trained.tokens,
        "train_seconds": trained.seconds,
        "decode_sentences_per_second": round(len(sources) / seconds, 1),
        "note": "",
        "outputs": outputs,
    }
    write_json(path, row)
    return row


def _scores(config: Config, outputs: list[str], references: list[str]) -> dict[str, Any]:
    found = (accuracy if config.task == "classify" else score)(outputs, references)
    return {
        key: value if isinstance(value, str) else round(value, 2)
        for key, value in found._asdict().items()
    }


def _simple(config: Config, workdir: Workdir, sources: list[str]) -> list[tuple[str, list[str]]]:
    """What no network is needed for: (name of the row, outputs)."""
    if config.task == "classify":
        tokens = workdir.tokens("train")
        return [
            (
                "most frequent class",
                [workdir.labels().name(int(np.bincount(tokens.target_tokens).argmax()))]
                * len(sources),
            )
        ]
    baselines = SOURCES.find(config.data.source).baselines
    return [
        ("copy of the source", sources),
        *((name, [translated(line) for line in sources]) for name, translated in baselines.items()),
    ]


def _int8_row(
    config: Config,
    workdir: Workdir,
    exact: dict[str, Any],
    arch: Arch,
    sources: list[str],
    references: list[str],
) -> dict[str, Any]:
    """The row of the sub-Transformer with its weights in 8-bit integers, beside `exact`, its own;
    from its file if there is one.
    """
    name = f"{RETRAINED} (int8)"
    path = workdir.evaluate / f"{name.replace(' ', '_')}.json"
    if path.exists():
        return read_json(path)
    network = _network(config, workdir, workdir.retrained, arch)
    small = quantised(network)
    translations, seconds = _translated(config, workdir, name, small, sources)
    scores = _scores(config, translations, references)
    same = (
        "flops",
        "flops_with_vocabulary",
        "params",
        "active_params",
        "train_tokens",
        "train_seconds",
    )
    difference = scores["bleu"] - exact["bleu"]
    row = {
        "name": name,
        **scores,
        **{key: exact[key] for key in same},
        "bleu_difference": round(difference, 2),
        "parameter_bytes": size(small),
        "decode_sentences_per_second": round(len(sources) / seconds, 1),
        "note": (
            f"{difference:+.2f} BLEU against float32, {size(small) / size(network):.0%} of its"
            " memory"
        ),
        "outputs": translations,
    }
    write_json(path, row)
    print(f"{name}: {row['note']}", flush=True)
    return row


def _network(config: Config, workdir: Workdir, folder: epath.Path, arch: Arch) -> Network:
    """On the device, so that its weights do not travel with every call."""
    if folder == workdir.supernet:
        return jax.device_put(extract(runs.load(folder, workdir.spec(config)), arch))
    return jax.device_put(runs.load(folder, workdir.spec(config, arch)))


def _test_batches(config: Config, workdir: Workdir) -> list[Batch]:
    tokens = config.retrain.tokens_per_batch // config.retrain.accumulate
    return evaluation_batches(workdir.tokens("test"), config.data.buckets, tokens)


def _expert_usage(workdir: Workdir, chosen: expert_usage.ExpertUsage) -> dict[str, Any]:
    """Experts per token for the row: of each layer, and of the most frequent and some rare pieces
    of the source text.
    """
    known = np.flatnonzero(chosen.counts)
    frequent = known[np.argsort(-chosen.counts[known], kind="stable")][:PIECES]
    rare = np.setdiff1d(known[chosen.counts[known] <= RARE], frequent)
    rare = rare[evenly_spaced(len(rare), PIECES)]  # the first are single bytes
    tokenizer = workdir.tokenizer()
    table = [
        {
            "piece": tokenizer.piece(i),
            "count": int(chosen.counts[i]),
            "experts": round(float(chosen.source_tokens[i]), 3),
            "group": group,
        }
        for group, members in (("frequent", frequent), ("rare", rare))
        for i in members.tolist()
    ]
    layers = [round(sum(loads), 4) for loads in chosen.loads]
    shares = [[round(share, 4) for share in layer] for layer in chosen.shares]
    means = {
        name: round(float(np.average(chosen.source_tokens[group], weights=chosen.counts[group])), 4)
        for name, group in (("frequent", frequent), ("rare", known[chosen.counts[known] <= RARE]))
        if len(group)
    }
    return {
        "experts_per_token": layers,
        "experts_shares": shares,
        "experts_of_pieces": table,
        "experts_of_groups": means,
    }


def _outputs(
    config: Config, workdir: Workdir, name: str, network: Network, sources: list[str]
) -> tuple[list[str], float]:
    """Translations or classes, and the seconds they took."""
    return (_classified if config.task == "classify" else _translated)(
        config, workdir, name, network, sources
    )


def _classified(
    config: Config, workdir: Workdir, name: str, network: Network, sources: list[str]
) -> tuple[list[str], float]:
    tokens, labels = workdir.tokens("test"), workdir.labels()
    options: dict[str, Any] = {
        "buckets": config.data.buckets,
        "tokens_per_batch": config.retrain.tokens_per_batch,
    }
    classify(network, tokens, **options)  # compiles
    with tqdm(
        total=len(tokens),
        desc=f"classify ({name})",
        unit="text",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        started = time.perf_counter()
        found = classify(network, tokens, progress=bar.update, **options)
        seconds = time.perf_counter() - started
    return [labels.name(number) for number in found[: len(sources)]], seconds * len(sources) / len(
        tokens
    )


def _translated(
    config: Config, workdir: Workdir, name: str, network: Network, sources: list[str]
) -> tuple[list[str], float]:
    """Translations and the seconds they took, after one sentence of each shape was translated to
    compile.
    """
    tokenizer, settings = workdir.tokenizer(), config.evaluate
    options: dict[str, Any] = {
        "buckets": config.data.buckets,
        "beam_size": settings.beam_size,
        "length_penalty": settings.length_penalty,
        "batch_sizes": (settings.batch_size,),
    }
    lengths: dict[int, str] = {}
    for line, ids in zip(sources, tokenizer.encode(sources), strict=True):
        lengths.setdefault(
            next((bucket for bucket in config.data.buckets if len(ids) < bucket), 0), line
        )
    for line in lengths.values():
        translate_lines(network, tokenizer, [line], **options)
    with tqdm(
        total=len(sources),
        desc=f"translate ({name})",
        unit="sentence",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        started = time.perf_counter()
        translations = translate_lines(network, tokenizer, sources, progress=bar.update, **options)
        return translations, time.perf_counter() - started


def evenly_spaced(count: int, samples: int) -> list[int]:
    """At most `samples` numbers below `count` at even distances."""
    samples = min(samples, count)
    return [i * count // samples for i in range(samples)]
