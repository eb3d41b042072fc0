"""Translation of lines of text with an exported model.

Axes: B sentences · S source tokens.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime

from automoe_jax.data.tokenizer import SeparateTokenizers, Tokenizer
from automoe_jax.errors import UserError
from automoe_jax.inference.alternatives import (
    Alternative,
    alternatives,
    checked_beam,
    checked_best,
)
from automoe_jax.inference.engine.folder import (
    MODEL,
    SHORTLIST,
    TARGET_TOKENIZER,
    TOKENIZER,
    Folder,
    check_has_model,
    open_folder,
)
from automoe_jax.inference.engine.hypotheses import Hypothesis, Records, finished
from automoe_jax.inference.engine.session import checked_threads, run, session
from automoe_jax.inference.engine.shortlist import (
    Candidates,
    Shortlist,
    load_shortlist,
)
from automoe_jax.inference.explanations import Explanation, explained
from automoe_jax.inference.lines import Batch, batches, padded, translate_lines

MOST_SENTENCES = 64  # of a batch


@dataclasses.dataclass(frozen=True)
class Translator:
    """A loaded model; calling it translates lines."""

    folder: Folder
    tokenizer: Tokenizer | SeparateTokenizers
    session: onnxruntime.InferenceSession
    beam_size: int
    workers: int = 1  # batches that are translated at the same time
    shortlist: Shortlist | None = None
    shortlist_size: int = 0  # N; 0: the whole vocabulary

    def __call__(
        self, lines: Sequence[str], progress: Callable[[int], Any] = lambda done: None
    ) -> list[str]:
        """The translation of each line, in order; `progress` is called after each batch with the
        number of finished lines.
        """
        return translate_lines(
            self.translate_ids,
            self.tokenizer,
            lines,
            longest=self.folder.description.buckets[-1] - 1,
            progress=progress,
        )

    def alternatives(
        self, lines: Sequence[str], best: int, explain: bool = False
    ) -> list[list[Alternative]]:
        """The `best` translations of each line, best first; see `inference.alternatives`."""

        def explanation(
            sources: Sequence[np.ndarray], translation: Sequence[Hypothesis]
        ) -> Explanation:
            layers = self.folder.experts("encoder"), self.folder.experts("decoder")
            return explained(self.tokenizer, sources, translation, *layers)

        return alternatives(
            lambda sources, count: self.hypotheses(sources, best=count, explain=explain),
            self.tokenizer,
            lines,
            longest=self.folder.description.buckets[-1] - 1,
            best=checked_best(best, self.beam_size),
            explain=explanation if explain else None,
        )

    def translate_ids(
        self,
        sources: list[np.ndarray],
        progress: Callable[[list[int]], Any] = lambda done: None,
    ) -> list[np.ndarray]:
        """The best translation of each source, token ids without EOS in and out, in order."""
        return [best[0].tokens for best in self.hypotheses(sources, progress)]

    def hypotheses(
        self,
        sources: list[np.ndarray],
        progress: Callable[[list[int]], Any] = lambda done: None,
        best: int = 1,
        explain: bool = False,
    ) -> list[list[Hypothesis]]:
        """The `best` hypotheses of each source, at most as many as beams, best first; with their
        decisions to `explain` them.
        """
        description = self.folder.description
        by_source: list[list[Hypothesis]] = [[] for _ in sources]
        lengths = [len(source) for source in sources]
        most = min(MOST_SENTENCES, -(-len(sources) // self.workers))

        def translated(batch: Batch) -> list[int]:
            records = self._search_batch([sources[i] for i in batch.members], batch, explain)
            results = finished(
                records, self.beam_size, description.length_penalty, description.eos_id, best
            )
            for i, hypotheses in zip(batch.members, results, strict=True):
                by_source[i] = hypotheses
            return batch.members

        waiting = list(batches(lengths, description.buckets, max(most, 1)))
        for members in _each(translated, waiting, self.workers):
            progress(members)
        return by_source

    def _search_batch(self, sources: Sequence[np.ndarray], batch: Batch, explain: bool) -> Records:
        description = self.folder.description
        longest = max(map(len, sources)) + 1
        padding = (description.eos_id, description.pad_id)
        source = padded(sources, len(sources), longest, *padding)
        return self.search(source, batch.max_length, self.candidates(sources), explain)

    def candidates(self, sources: Sequence[np.ndarray]) -> Candidates:
        """The shortlist of a batch; none for the whole vocabulary."""
        if self.shortlist is None or not self.shortlist_size:
            return Candidates(np.zeros(0, np.int64), np.zeros((len(sources), 0), bool))
        return self.shortlist.of_batch(sources, self.shortlist_size)

    def search(
        self, source: np.ndarray, max_length: int, shortlist: Candidates, explain: bool
    ) -> Records:
        """The records of a beam search over source [B,S]."""
        feeds = {
            "source": source.astype(np.int64),
            "beams": np.array(self.beam_size),
            "max_length": np.array(max_length),
            "stop": np.array(self.beam_size),
            "pieces": shortlist.pieces,
            "own": shortlist.own,
            "explain": np.array(explain),
        }
        return Records(*run(self.session, feeds))


def load(
    path: str | os.PathLike[str],
    *,
    beam_size: int | None = None,
    threads: int | None = None,
    shortlist: int | None = None,
) -> Translator:
    """The translator of an exported folder; raises `UserError` if there is none that runs here.

    shortlist: N, 0 for the whole vocabulary; by default as the folder says.
    """
    threads = checked_threads(threads)
    folder = open_folder(path)
    if folder.description.task != "translate":
        raise UserError(f"--model={path} holds a classifier; use python -m automoe_jax.classify")
    check_has_model(folder)
    size = folder.description.shortlist if shortlist is None else shortlist
    table = _shortlist(folder) if size else None
    is_large = folder.is_large
    tokenizer = _tokenizer(folder)
    beams = folder.description.beam_size if beam_size is None else beam_size
    return Translator(
        folder=folder,
        tokenizer=tokenizer,
        session=session(folder.file(MODEL), threads if is_large else 1),
        beam_size=checked_beam(beams, tokenizer.target_vocab_size),
        workers=1 if is_large else threads,
        shortlist=table,
        shortlist_size=table.checked_size(size) if table else 0,
    )


def _each(
    function: Callable[[Batch], list[int]], waiting: Sequence[Batch], workers: int
) -> Iterator[list[int]]:
    """The results of a function for all batches, `workers` of them at the same time."""
    if workers == 1 or len(waiting) < 2:
        yield from map(function, waiting)
        return
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, waiting)


def _tokenizer(folder: Folder) -> Tokenizer | SeparateTokenizers:
    source = _loaded_tokenizer(folder, TOKENIZER)
    if not (folder.path / TARGET_TOKENIZER).exists():
        return source
    return SeparateTokenizers(source, _loaded_tokenizer(folder, TARGET_TOKENIZER))


def _loaded_tokenizer(folder: Folder, name: str) -> Tokenizer:
    try:
        return Tokenizer(folder.file(name))
    except (RuntimeError, OSError) as error:  # SentencePiece's
        raise UserError(
            f"{folder.file(name)} is no tokenizer ({str(error).splitlines()[0]}); export the model"
            " again from a workdir whose tokenizer can be read"
        ) from None


def _shortlist(folder: Folder) -> Shortlist:
    path = folder.path / SHORTLIST
    if not path.exists():
        raise UserError(
            f"{folder.path} holds no shortlist: its workdir was prepared by an earlier version;"
            " translate with --shortlist=0"
        )
    return load_shortlist(path.read_bytes(), str(path))
