"""Tokenizers: a SentencePiece BPE over both languages, or the BPE of a published model. Ids 0 to 3
are BOS, PAD, EOS and UNK, as in fairseq's dictionaries.

In the SentencePiece BPE, characters that the training text lacks become bytes (byte fallback), so
every line can be encoded and UNK is not used. Reading a tokenizer needs NumPy and SentencePiece
alone.
"""

import dataclasses
import io
import itertools
import os
import pathlib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import sentencepiece

from automoe_jax.data import bpe
from automoe_jax.data.cleaning import clean_line
from automoe_jax.errors import UserError

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_IDS = (BOS, PAD, EOS, UNK)
_BYTES = 256
# Share of the text's characters with a piece of their own; rarer ones are written in bytes.
_CHARACTER_COVERAGE = 0.9995
# More text than this does not change the pieces but costs memory.
_MOST_LINES = 5_000_000
# SentencePiece ignores longer lines; a character has at most four bytes.
_LONGEST_LINE, _BYTES_PER_CHARACTER = 4192, 4
# Of a longer line only the start is learnt from: more than any bucket holds, and a single line of
# megabytes does not decide the pieces.
_MOST_CHARACTERS = 65_536
# SentencePiece ignores a line with this character, its own sign for an unknown one; as it is in no
# piece, it is spelled in bytes.
_IGNORED = "▅"
# No text has a piece of this name: in pieces a space is ▁.
_UNUSED = "<unused {}>"


def train_tokenizer(
    corpus_lines: Iterable[str],
    vocab_size: int,
    path: os.PathLike[str] | str,
    setting: str = "config.data.vocab_size",
    unused: int = 0,
) -> int:
    """Learns the pieces from `corpus_lines` and writes the model to `path`, complete or not at all.

    `corpus_lines` alternates the languages (`Pairs.lines`). Returns the number of pieces, the
    special and `unused` ones included: `vocab_size`, or fewer when the text is too small for that
    number. Unused pieces are in no text, and decode to nothing. The same lines give the same file.
    Raises `UserError`, which names the `setting`, when `vocab_size` cannot hold even the
    characters.
    """
    from automoe_jax.runtime.files import atomic_writer

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_parts(itertools.islice(corpus_lines, _MOST_LINES)),
            max_sentence_length=_LONGEST_LINE,
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=_CHARACTER_COVERAGE,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            bos_id=BOS,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            control_symbols=[_UNUSED.format(number) for number in range(unused)],
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_explained(error, f"{setting}={vocab_size}")) from None
    with atomic_writer(path) as file:
        file.write(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()


class _Model(Protocol):
    """What a tokenizer's file holds; lines are clean, and ids are never special ones."""

    @property
    def size(self) -> int: ...
    def encode(self, lines: Sequence[str], target: bool) -> list[list[int]]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def piece(self, token: int) -> str: ...
    def pieces(self, tokens: Sequence[int]) -> list[str]: ...
    def is_byte(self, token: int) -> bool: ...
    def is_unused(self, token: int) -> bool: ...


class _SentencePiece:
    """The model that `train_tokenizer` wrote."""

    def __init__(self, content: bytes) -> None:
        self._model = sentencepiece.SentencePieceProcessor(model_proto=content)
        self.size: int = self._model.get_piece_size()

    def encode(self, lines: Sequence[str], target: bool) -> list[list[int]]:
        return self._model.encode(list(lines))

    def decode(self, tokens: Sequence[int]) -> str:
        return self._model.decode(list(tokens))

    def piece(self, token: int) -> str:
        return self._model.id_to_piece(token)

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        return self._model.id_to_piece(list(tokens))

    def is_byte(self, token: int) -> bool:
        return self._model.is_byte(token)

    def is_unused(self, token: int) -> bool:
        return self._model.is_control(token)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """The tokenizer in the file `path`: of `train_tokenizer`, or a BPE of a published model
    (`data.bpe`).
    """

    path: os.PathLike[str] | str
    _model: _Model = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_model", _model(_bytes_of(self.path)))

    @property
    def vocab_size(self) -> int:
        """The number of pieces, the special ones included."""
        return self._model.size

    @property
    def unused(self) -> int:
        """The number of pieces that only round up the size."""
        others = set(range(self.vocab_size)) - set(SPECIAL_IDS)
        return sum(self._model.is_unused(token) for token in others)

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        """The int32 ids of each cleaned line of the source, without BOS and EOS."""
        return self._ids(lines, target=False)

    @property
    def target_vocab_size(self) -> int:
        """The number of pieces of the target, which are those of the source."""
        return self.vocab_size

    def encode_target(self, lines: Sequence[str]) -> list[np.ndarray]:
        """The ids of lines of the target, as `encode`."""
        return self._ids(lines, target=True)

    def piece(self, token: int) -> str:
        """The vocabulary's text of one id."""
        return self._model.piece(token)

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The texts of consecutive ids of the source, where ▁ is the space before a word."""
        return self._model.pieces([int(token) for token in tokens])

    def target_pieces(self, tokens: Sequence[int]) -> list[str]:
        """`pieces` of the target."""
        return self.pieces(tokens)

    def target_byte_pieces(self) -> list[int]:
        """The ids of the target's pieces of a single byte."""
        return [token for token in range(self.vocab_size) if self._model.is_byte(token)]

    def decode(self, ids: Iterable[int]) -> str:
        """The clean text of `ids` up to the first EOS, one line for any byte pieces; the other
        special ids are dropped.
        """
        before_end = itertools.takewhile(lambda token: token != EOS, map(int, ids))
        text = self._model.decode([token for token in before_end if token not in SPECIAL_IDS])
        return clean_line(text)

    def _ids(self, lines: Sequence[str], target: bool) -> list[np.ndarray]:
        found = self._model.encode([clean_line(line) for line in lines], target)
        return [np.array(ids, np.int32) for ids in found]


@dataclasses.dataclass(frozen=True)
class SeparateTokenizers:
    """The tokenizers of source and target, with the interface of one: encodes lines of the source
    and decodes ids of the target.
    """

    source: Tokenizer
    target: Tokenizer

    @property
    def vocab_size(self) -> int:
        """The number of pieces of the source."""
        return self.source.vocab_size

    @property
    def target_vocab_size(self) -> int:
        """The number of pieces of the target."""
        return self.target.vocab_size

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        """The ids of lines of the source, as `Tokenizer.encode`."""
        return self.source.encode(lines)

    def encode_target(self, lines: Sequence[str]) -> list[np.ndarray]:
        """The ids of lines of the target, as `Tokenizer.encode`."""
        return self.target.encode_target(lines)

    def piece(self, token: int) -> str:
        """The text of one id of the source, as `Tokenizer.piece`."""
        return self.source.piece(token)

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The texts of consecutive ids of the source, as `Tokenizer.pieces`."""
        return self.source.pieces(tokens)

    def target_pieces(self, tokens: Sequence[int]) -> list[str]:
        """The texts of consecutive ids of the target."""
        return self.target.target_pieces(tokens)

    def target_byte_pieces(self) -> list[int]:
        """The ids of the target's pieces of a single byte."""
        return self.target.target_byte_pieces()

    def copies(self) -> np.ndarray:
        """int32 [source pieces]: the id of the target's piece with the same text, −1 for none."""
        numbers = {self.target.piece(token): token for token in range(self.target_vocab_size)}
        pieces = map(self.source.piece, range(self.vocab_size))
        return np.array([numbers.get(piece, -1) for piece in pieces], np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids of the target, as `Tokenizer.decode`."""
        return self.target.decode(ids)


def _model(content: bytes) -> _Model:
    """The model of a file's content: JSON of `data.bpe`, or SentencePiece's format."""
    return bpe.from_bytes(content) if is_bpe(content) else _SentencePiece(content)


def is_bpe(content: bytes) -> bool:
    """Whether a tokenizer's file holds a BPE of a published model."""
    return content.startswith(b"{")


def _parts(lines: Iterable[str]) -> Iterator[str]:
    """The cleaned lines, without characters for which SentencePiece ignores a line.

    Long lines are cut at blanks, which pieces do not cross, and a word of that length anywhere.
    """
    for line in map(clean_line, lines):
        line = line[:_MOST_CHARACTERS].replace(_IGNORED, " ")
        if len(line.encode()) <= _LONGEST_LINE:
            yield line
        else:
            width = _LONGEST_LINE // _BYTES_PER_CHARACTER
            yield from textwrap.wrap(line, width, break_on_hyphens=False)


def _bytes_of(path: os.PathLike[str] | str) -> bytes:
    if "://" not in os.fspath(path):
        return pathlib.Path(path).read_bytes()
    from etils import epath

    return epath.Path(path).read_bytes()


def _explained(error: RuntimeError, size: str) -> str:
    """SentencePiece's error in terms of our settings."""
    if sizes := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
        rule = (
            f"must be at least {sizes[1]} for this text: 4 special pieces, {_BYTES} bytes and the"
            " text's own characters"
        )
        return f"{size} {rule}"
    detail = " ".join(str(error).split())
    return (
        f"no tokenizer of {size} can be learnt from this text"
        f" ({detail}); give more text or another size"
    )
