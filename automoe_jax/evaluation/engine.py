"""Rows of the inference engine: the retrained sub-Transformer as it is deployed, in float32 and in
8-bit integers, and the default precision of a workdir.
"""

import dataclasses
import os
import time
from collections.abc import Sequence

from automoe_jax.config import Config
from automoe_jax.evaluation.networks import joined, with_scores
from automoe_jax.evaluation.outputs import progress_bar
from automoe_jax.evaluation.results import Scored, load_row, save_row
from automoe_jax.export.cache import PRECISION, exported
from automoe_jax.export.settings import FLOAT32, INT8
from automoe_jax.export.workdirs import VARIANTS
from automoe_jax.inference.engine.folder import MODEL, WEIGHTS
from automoe_jax.inference.engine.translator import load
from automoe_jax.inference.scores import Difference, paired_bootstrap, paired_chrf
from automoe_jax.report.rows import Role, Row, RowKey
from automoe_jax.workdir import Workdir, write_json

# BLEU that 8-bit integers may lose to become the default of `translate`
MOST_LOST = 0.3


def engine_row(
    config: Config,
    workdir: Workdir,
    precision: str,
    exact: Scored,
    sources: Sequence[str],
    references: Sequence[str],
) -> Scored:
    """The row of the engine with one precision, computed unless its file exists; `exact` is the row
    of the same network with JAX, or with the engine in float32, that it is compared with.
    """
    key = RowKey(Role.RETRAINED, VARIANTS[precision])
    if saved := load_row(workdir, key):
        return saved
    folder = exported(os.fspath(workdir.root), precision)
    translate = load(folder, beam_size=config.evaluate.beam_size, shortlist=0)
    translate(list(sources[:1]))
    with progress_bar(f"translate ({key.title})", len(sources), "sentence") as bar:
        started = time.perf_counter()
        translations = translate(list(sources), progress=bar.update)
        seconds = time.perf_counter() - started
    scored = with_scores(Row(*key), config, translations, references)
    reference = exact.row
    bleu, chrf = _differences(config, exact.outputs, translations, references)
    equal = sum(a == b for a, b in zip(translations, exact.outputs, strict=True))
    note = (
        f"{_signed(bleu)} BLEU and {_signed(chrf)} chrF against {reference.title},"
        f" {equal} of {len(sources)} lines equal"
    )
    row = dataclasses.replace(
        scored,
        flops=reference.flops,
        flops_with_vocabulary=reference.flops_with_vocabulary,
        params=reference.params,
        active_params=reference.active_params,
        train_tokens=reference.train_tokens,
        train_seconds=reference.train_seconds,
        bleu_difference=round(bleu.mean, 2),
        bleu_interval=(round(bleu.low, 2), round(bleu.high, 2)),
        chrf_difference=round(chrf.mean, 2),
        chrf_interval=(round(chrf.low, 2), round(chrf.high, 2)),
        parameter_bytes=sum((folder / name).stat().st_size for name in (MODEL, WEIGHTS)),
        decode_sentences_per_second=round(len(sources) / seconds, 1),
        note=joined(note, scored.note),
    )
    save_row(workdir, Scored(row, translations))
    return Scored(row, translations)


def record_precision(workdir: Workdir, int8: Row) -> None:
    """Writes the default precision of `translate` for this workdir: int8 if its row loses no more
    than `MOST_LOST` BLEU.
    """
    assert int8.bleu_difference is not None
    passed = int8.bleu_difference >= -MOST_LOST
    write_json(
        workdir.root / PRECISION,
        {
            "default": INT8 if passed else FLOAT32,
            "bleu_difference": int8.bleu_difference,
            "bleu_interval": list(int8.bleu_interval),
            "most_lost": MOST_LOST,
        },
    )


def _differences(
    config: Config, baseline: Sequence[str], translations: Sequence[str], references: Sequence[str]
) -> tuple[Difference, Difference]:
    language = config.data.target_language
    bleu = paired_bootstrap(baseline, {"engine": translations}, references, language)["engine"]
    return bleu, paired_chrf(baseline, translations, references)


def _signed(difference: Difference) -> str:
    return f"{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"
