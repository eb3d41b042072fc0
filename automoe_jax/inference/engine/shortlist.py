"""The lexical shortlist: the target pieces that a sentence's translation may consist of.

Candidates of a sentence are the N most frequent target pieces, the N best translations of each of
its pieces (Jean et al., 2015, "On Using Very Large Target Vocabulary for Neural Machine
Translation", section 3.3), its own pieces, to be copied, and the special and byte pieces, which can
spell any text.

Axes: B sentences · V source vocabulary · M translations of a piece · C candidates of a batch.
"""

import dataclasses
import io
import zipfile
from collections.abc import Sequence
from typing import IO, NamedTuple

import numpy as np

from automoe_jax.errors import UserError

MOST = 2000  # candidates of a sentence: beyond, the least probable translations are left out
TABLES = ("always", "frequent", "translations", "copies")


class Candidates(NamedTuple):
    """Candidates of a batch."""

    pieces: np.ndarray  # int64 [C], rising
    own: np.ndarray  # bool [B, C]: those of each sentence


@dataclasses.dataclass(frozen=True)
class Shortlist:
    """The tables behind the candidates."""

    always: np.ndarray  # int32: special and byte pieces
    frequent: np.ndarray  # int32, most frequent first
    translations: np.ndarray  # int32 [V, M], best first, then −1
    # int32 [V]: the target piece with the same text, −1 for none; None: the vocabularies are one
    copies: np.ndarray | None = None

    def of_sentence(self, source: np.ndarray, size: int) -> np.ndarray:
        """The candidates of a sentence of token ids, rising; size: N.

        Raises `UserError` for an id without a row in the table.
        """
        if len(source) and source.max() >= len(self.translations):
            raise UserError(
                f"the shortlist has no row for the piece {source.max()} (its table has"
                f" {len(self.translations)} rows): it was made for another tokenizer; export the"
                " model again, or translate with --shortlist=0"
            )
        own = source if self.copies is None else self.copies[source]
        fixed = np.concatenate([self.always, self.frequent[:size], own[own >= 0]])
        ranked = self.translations[source, :size].T.reshape(-1)  # the best of every piece first
        pieces, first = np.unique(ranked[ranked >= 0], return_index=True)
        return np.union1d(fixed, pieces[np.argsort(first)][:MOST]).astype(np.int64)

    def of_batch(self, sources: Sequence[np.ndarray], size: int) -> Candidates:
        """The candidates of each of the sentences."""
        each = [self.of_sentence(source, size) for source in sources]
        pieces = np.unique(np.concatenate(each))
        return Candidates(pieces, np.stack([np.isin(pieces, one) for one in each]))

    def checked_size(self, size: int) -> int:
        """`--shortlist`, at most M; raises `UserError` for others."""
        most = self.translations.shape[1]
        if not 0 < size <= most:
            raise UserError(
                f"--shortlist={size} must be between 0, the whole vocabulary, and {most}, the"
                " translations of a piece that the table holds"
            )
        return size

    def save(self, file: IO[bytes]) -> None:
        """Writes the tables as .npz."""
        tables = {name: getattr(self, name) for name in TABLES}
        np.savez_compressed(file, **{k: v for k, v in tables.items() if v is not None})


def load_shortlist(
    content: bytes, where: str, way_out: str = "export the model again"
) -> Shortlist:
    """The shortlist that `save` wrote; raises `UserError` with the place of a damaged file."""
    try:
        with np.load(io.BytesIO(content)) as arrays:
            return Shortlist(**{name: arrays[name] for name in {*TABLES[:3], *arrays}})
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{where} is damaged ({error}); {way_out}") from None
