"""The row of the shortlist: translations by the exported model that may only use a sentence's
candidates.
"""

import dataclasses
import os
import time
from collections.abc import Sequence

import numpy as np

from automoe_jax.config import Config
from automoe_jax.evaluation.networks import joined, with_scores
from automoe_jax.evaluation.outputs import progress_bar
from automoe_jax.evaluation.results import Scored, load_row, save_row
from automoe_jax.export.cache import SHORTLIST, exported
from automoe_jax.export.settings import FLOAT32
from automoe_jax.inference.engine.shortlist import Shortlist
from automoe_jax.inference.engine.translator import load
from automoe_jax.inference.scores import paired_bootstrap
from automoe_jax.report.rows import Role, Row, RowKey
from automoe_jax.runtime.files import write_json
from automoe_jax.workdir import Workdir

MOST_LOST = 0.1  # BLEU; a shortlist that loses more is not the default of `translate`


def shortlist_row(
    config: Config,
    workdir: Workdir,
    exact: Scored,
    sources: Sequence[str],
    references: Sequence[str],
) -> Scored:
    """The row of the retrained sub-Transformer with `config.evaluate.shortlist`, computed unless
    its file exists; `exact` is its row with the whole vocabulary.

    Writes the default of `translate`: the shortlist, if it loses less than MOST_LOST BLEU.
    """
    size = config.evaluate.shortlist
    key = RowKey(Role.RETRAINED, f"shortlist of {size}")
    if saved := load_row(workdir, key):
        return saved
    root = os.fspath(workdir.root)
    translator = load(exported(root, FLOAT32), shortlist=size)
    assert translator.shortlist is not None
    with progress_bar(f"translate ({key.title})", len(sources), "sentence") as bar:
        started = time.perf_counter()
        translations = translator(sources, bar.update)
        seconds = time.perf_counter() - started
    scored = with_scores(Row(*key), config, translations, references)
    language = config.data.target_language
    difference = paired_bootstrap(exact.outputs, {"shortlist": translations}, references, language)[
        "shortlist"
    ]
    missed = missed_share(
        translator.shortlist,
        size,
        translator.tokenizer.encode(sources),
        translator.tokenizer.encode(references),
    )
    accepted = difference.mean > -MOST_LOST
    note = (
        f"{difference.mean:+.2f} BLEU (95 % interval {difference.low:+.2f} to"
        f" {difference.high:+.2f}) against the whole vocabulary; the shortlist misses {missed:.2%}"
        f" of the reference pieces and is {'' if accepted else 'not '}the default of translate"
    )
    row = dataclasses.replace(
        scored,
        bleu_difference=round(difference.mean, 2),
        decode_sentences_per_second=round(len(sources) / seconds, 1),
        note=joined(note, scored.note),
    )
    save_row(workdir, Scored(row, translations))
    write_json(
        workdir.root / SHORTLIST,
        {
            "default": size if accepted else 0,
            "size": size,
            "bleu_difference": difference.mean,
            "interval": [difference.low, difference.high],
            "missed": missed,
        },
    )
    return Scored(row, translations)


def missed_share(
    shortlist: Shortlist,
    size: int,
    sources: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
) -> float:
    """Share of the references' pieces that are not candidates of their source."""
    missed = [
        np.isin(reference, shortlist.of_sentence(source, size), invert=True).sum()
        for source, reference in zip(sources, references, strict=True)
    ]
    return float(sum(missed) / max(sum(map(len, references)), 1))
