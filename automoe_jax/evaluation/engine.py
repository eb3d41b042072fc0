"""Rows of the inference engine: the retrained sub-Transformer as it is deployed, in float32 and in
8-bit integers, with the whole vocabulary and with a shortlist, and the defaults of `translate`.
"""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from automoe_jax.config import Config
from automoe_jax.evaluation.networks import joined, with_scores
from automoe_jax.evaluation.outputs import progress_bar
from automoe_jax.evaluation.results import Scored, load_row, save_row
from automoe_jax.evaluation.shortlist import missed_share
from automoe_jax.export.cache import exported
from automoe_jax.export.settings import FLOAT32, INT8, PRECISIONS
from automoe_jax.export.workdirs import variant
from automoe_jax.inference.engine.folder import MODEL, WEIGHTS
from automoe_jax.inference.engine.translator import Translator, load
from automoe_jax.inference.scores import Difference, paired_bootstrap, paired_chrf
from automoe_jax.names import DEFAULTS_FILE
from automoe_jax.report.rows import Role, Row, RowKey
from automoe_jax.workdir import Workdir, write_json

# BLEU that 8-bit integers, alone and with a shortlist, may lose as the default of `translate`
MOST_LOST = 0.3
# BLEU that a shortlist in float32 must lose less than
MOST_LOST_BY_SHORTLIST = 0.1


class Deployed(NamedTuple):
    """A way to run the inference engine."""

    precision: str
    shortlist: int = 0  # N; 0: the whole vocabulary

    @property
    def key(self) -> RowKey:
        """The key of its row."""
        return RowKey(Role.RETRAINED, variant(*self))


def deployed_rows(
    config: Config,
    workdir: Workdir,
    exact: Scored,
    sources: Sequence[str],
    references: Sequence[str],
) -> list[Scored]:
    """The rows of the engine that the configuration asks for, and of float32 where that is the
    default engine; `exact` is the row of the same network with JAX. Writes the defaults of
    `translate`, and states them in the note of their row.

    Every row is compared with that of float32 and the whole vocabulary.
    """
    plain, text = Deployed(FLOAT32), (sources, references)
    scored_rows: dict[Deployed, Scored] = {}
    if jax.default_backend() == "cpu":
        scored_rows[plain] = engine_row(config, workdir, plain, exact, *text)
    reference = scored_rows.get(plain, exact)
    asked = _asked(config)
    for way in asked:
        scored_rows[way] = engine_row(config, workdir, way, reference, *text)
    if asked:
        best = _record_defaults(workdir, {way: scored.row for way, scored in scored_rows.items()})
        if best in scored_rows:
            row = scored_rows[best].row
            row = dataclasses.replace(row, note=joined(row.note, "the default of translate"))
            scored_rows[best] = scored_rows[best]._replace(row=row)
    return list(scored_rows.values())


def engine_row(
    config: Config,
    workdir: Workdir,
    way: Deployed,
    reference: Scored,
    sources: Sequence[str],
    references: Sequence[str],
) -> Scored:
    """The row of one way to run the engine, computed unless its file exists; `reference` is the row
    that it is compared with.
    """
    key = way.key
    if saved := load_row(workdir, key):
        return saved
    folder = exported(os.fspath(workdir.root), way.precision)
    translator = load(folder, beam_size=config.evaluate.beam_size, shortlist=way.shortlist)
    translator(list(sources[:1]))
    with progress_bar(f"translate ({key.title})", len(sources), "sentence") as bar:
        started = time.perf_counter()
        translations = translator(list(sources), progress=bar.update)
        seconds = time.perf_counter() - started
    scored = with_scores(Row(*key), config, translations, references)
    before = reference.row
    bleu, chrf = _differences(config, reference.outputs, translations, references)
    equal = sum(a == b for a, b in zip(translations, reference.outputs, strict=True))
    note = (
        f"{_signed(bleu)} BLEU and {_signed(chrf)} chrF against {before.title},"
        f" {equal} of {len(sources)} lines equal"
    )
    row = dataclasses.replace(
        scored,
        flops=before.flops,
        flops_with_vocabulary=None if way.shortlist else before.flops_with_vocabulary,
        params=before.params,
        active_params=before.active_params,
        train_tokens=before.train_tokens,
        train_seconds=before.train_seconds,
        bleu_difference=round(bleu.mean, 2),
        bleu_interval=(round(bleu.low, 2), round(bleu.high, 2)),
        chrf_difference=round(chrf.mean, 2),
        chrf_interval=(round(chrf.low, 2), round(chrf.high, 2)),
        parameter_bytes=sum((folder / name).stat().st_size for name in (MODEL, WEIGHTS)),
        decode_sentences_per_second=round(len(sources) / seconds, 1),
        note=joined(note, _missed(translator, sources, references), scored.note),
    )
    save_row(workdir, Scored(row, translations))
    return Scored(row, translations)


def defaults(lost: Mapping[Deployed, float]) -> tuple[str, dict[str, int]]:
    """The default precision of `translate` and N of the default shortlist for each precision, for
    the BLEU that each measured way loses.

    8-bit integers may lose MOST_LOST, alone and with a shortlist; a shortlist in float32 less than
    MOST_LOST_BY_SHORTLIST. A shortlist that fails in float32 is no default in 8-bit integers
    either.
    """

    def loss(way: Deployed) -> float:
        return lost.get(way, float("inf"))

    sizes = dict.fromkeys(PRECISIONS, 0)
    for size in {way.shortlist for way in lost} - {0}:
        if loss(Deployed(FLOAT32, size)) < MOST_LOST_BY_SHORTLIST:
            sizes[FLOAT32] = size
            sizes[INT8] = size if loss(Deployed(INT8, size)) <= MOST_LOST else 0
    return (INT8 if loss(Deployed(INT8)) <= MOST_LOST else FLOAT32), sizes


def _asked(config: Config) -> list[Deployed]:
    """The ways that the configuration asks for."""
    settings = config.evaluate
    ways = [Deployed(INT8)] if settings.int8 else []
    if settings.shortlist:
        ways.append(Deployed(FLOAT32, settings.shortlist))
    if settings.int8 and settings.shortlist:
        ways.append(Deployed(INT8, settings.shortlist))
    return ways


def _record_defaults(workdir: Workdir, rows: Mapping[Deployed, Row]) -> Deployed:
    """Writes the defaults of `translate`, and returns the way that they choose."""
    lost = {way: -(row.bleu_difference or 0) for way, row in rows.items()}
    precision, sizes = defaults(lost)
    write_json(workdir.root / DEFAULTS_FILE, {"precision": precision, "shortlist": sizes})
    return Deployed(precision, sizes[precision])


def _missed(translator: Translator, sources: Sequence[str], references: Sequence[str]) -> str:
    """The share of the reference pieces that the shortlist misses, in words; empty without one."""
    if translator.shortlist is None:
        return ""
    share = missed_share(
        translator.shortlist,
        translator.shortlist_size,
        translator.tokenizer.encode(sources),
        translator.tokenizer.encode_target(references),
    )
    return f"the shortlist misses {share:.2%} of the reference pieces"


def _differences(
    config: Config, baseline: Sequence[str], translations: Sequence[str], references: Sequence[str]
) -> tuple[Difference, Difference]:
    language = config.data.target_language
    bleu = paired_bootstrap(baseline, {"engine": translations}, references, language)["engine"]
    return bleu, paired_chrf(baseline, translations, references)


def _signed(difference: Difference) -> str:
    return f"{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"
