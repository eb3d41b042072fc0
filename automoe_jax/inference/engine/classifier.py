"""Classes of lines of text with an exported model.

Axes: B texts · S source tokens · C classes.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import onnxruntime

from automoe_jax.data.tokenizer import SPECIAL_IDS, Tokenizer
from automoe_jax.errors import UserError
from automoe_jax.inference.engine.folder import (
    MODEL,
    TOKENIZER,
    Folder,
    check_has_model,
    open_folder,
)
from automoe_jax.inference.engine.session import checked_threads, run, session
from automoe_jax.inference.lines import batches, padded

MOST_TEXTS = 64  # of a batch


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A loaded model; calling it classifies lines."""

    folder: Folder
    tokenizer: Tokenizer
    session: onnxruntime.InferenceSession

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.folder.description.labels

    def __call__(self, lines: Sequence[str]) -> np.ndarray:
        """float32 [lines, C]: the probability of each class of each line of text.

        Lines are cleaned and cut at the longest bucket, as the training text was.
        """
        description = self.folder.description
        longest = description.buckets[-1] - 1
        sources = [ids[:longest] for ids in self.tokenizer.encode(lines)]
        found = np.zeros((len(sources), len(self.labels)), np.float32)
        lengths = [len(source) for source in sources]
        for batch in batches(lengths, description.buckets, MOST_TEXTS):
            members = [sources[i] for i in batch.members]
            width = max(map(len, members)) + 1
            source = padded(members, len(members), width, description.eos_id, description.pad_id)
            (logits,) = run(self.session, {"source": source.astype(np.int64)})
            found[batch.members] = softmax(logits[:, len(SPECIAL_IDS) :])
        return found


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Classifier:
    """The classifier of an exported folder; raises `UserError` if there is none that runs here."""
    threads = checked_threads(threads)
    folder = open_folder(path)
    if folder.description.task != "classify":
        raise UserError(f"--model={path} holds a translator; use python -m automoe_jax.translate")
    check_has_model(folder)
    return Classifier(
        folder,
        Tokenizer(folder.file(TOKENIZER)),
        session(folder.file(MODEL), threads if folder.is_large else 1),
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [B, C] of logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
