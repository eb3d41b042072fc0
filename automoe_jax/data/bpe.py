"""BPE of subword-nmt and fastBPE with the ids of a fairseq dictionary (Sennrich et al., Neural
Machine Translation of Rare Words with Subword Units), as published models use it.

A line becomes words, words become pieces, and every piece of a word but the last ends in @@. A
piece that the dictionary lacks becomes UNK. Ids 0 to 3 are BOS, PAD, EOS and UNK; the dictionary's
symbols follow.
"""

import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from automoe_jax.errors import UserError

FORMAT, VERSION = "automoe_jax bpe", 1
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
UNK = SPECIALS.index("<unk>")
CONTINUED = "@@"  # at the end of a piece that does not end its word
_END = "</w>"  # in codes: the end of a word
_PADDING = re.compile(r"madeupword\d{4}")  # symbols with which fairseq rounds up a dictionary
_CACHED_WORDS = 1 << 17


@dataclasses.dataclass(frozen=True)
class Words:
    """How a line becomes words, and words a line."""

    moses: bool = False  # Moses' tokenizer; otherwise words are what blanks separate
    dashes: bool = False  # Moses' option -a: a dash in a word is a word of its own, @-@
    punctuation: bool = False  # quotes and dashes as ASCII first
    lowercase: bool = False

    @property
    def exact(self) -> bool:
        """Whether words are what blanks separate."""
        return not (self.moses or self.punctuation or self.lowercase)


class Codes(NamedTuple):
    """Merges of a BPE, the most frequent first."""

    merges: tuple[tuple[str, str], ...]
    separate_end: bool  # the end of a word is a symbol of its own, as in version 0.1 of subword-nmt


@dataclasses.dataclass(frozen=True)
class Bpe:
    """A BPE with its dictionary; `languages`: codes of source and target, for Moses."""

    symbols: tuple[str, ...]  # of the dictionary, without the special ones
    codes: Codes | None  # None: words are pieces
    words: Words = Words()
    languages: tuple[str, str] = ("en", "en")
    _ids: dict[str, int] = dataclasses.field(init=False, repr=False, compare=False)
    _ranks: dict[tuple[str, str], int] = dataclasses.field(init=False, repr=False, compare=False)
    _pieces_of: Callable[[str], list[str]] = dataclasses.field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        merges = enumerate(self.codes.merges if self.codes else ())
        cached = functools.lru_cache(maxsize=_CACHED_WORDS)(self._segmented)
        object.__setattr__(self, "_ids", {one: i for i, one in enumerate(self._all)})
        object.__setattr__(self, "_ranks", {pair: i for i, pair in reversed(list(merges))})
        object.__setattr__(self, "_pieces_of", cached)

    @property
    def _all(self) -> tuple[str, ...]:
        return SPECIALS + self.symbols

    @property
    def size(self) -> int:
        """Number of ids, the special ones included."""
        return len(self._all)

    def encode(self, lines: Sequence[str], target: bool) -> list[list[int]]:
        """The ids of each line of the source or target."""
        split = _splitter(self.words, self.languages[target])
        return [
            [self._ids.get(piece, UNK) for word in split(line) for piece in self._pieces_of(word)]
            for line in lines
        ]

    def decode(self, tokens: Sequence[int]) -> str:
        """The line of ids of the target."""
        pieces = " ".join(self._all[token] for token in tokens)
        words = f"{pieces} ".replace(f"{CONTINUED} ", "").split()
        return _joiner(self.words, self.languages[1])(words)

    def piece(self, token: int) -> str:
        """The dictionary's symbol of an id."""
        return self._all[token]

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The pieces of consecutive ids, with ▁ before each word."""
        names = [self.piece(token) for token in tokens]
        starts = [True, *(not name.endswith(CONTINUED) for name in names)]
        return [
            "▁" * start + name.removesuffix(CONTINUED)
            for start, name in zip(starts, names, strict=False)
        ]

    def is_byte(self, token: int) -> bool:
        """Whether an id spells a single byte; none does."""
        return False

    def is_unused(self, token: int) -> bool:
        """Whether an id only rounds up the size."""
        return _PADDING.fullmatch(self.piece(token)) is not None

    def to_bytes(self) -> bytes:
        """The file of this tokenizer."""
        record = {
            "format": FORMAT,
            "version": VERSION,
            "words": dataclasses.asdict(self.words),
            "languages": self.languages,
            "codes": self.codes
            and {
                "separate_end": self.codes.separate_end,
                "merges": [" ".join(pair) for pair in self.codes.merges],
            },
            "symbols": self.symbols,
        }
        return json.dumps(record, ensure_ascii=False, indent=0).encode()

    def _segmented(self, word: str) -> list[str]:
        if self.codes is None:
            return [word]
        *others, last = merged(word, self._ranks, self.codes.separate_end)
        return [*(piece + CONTINUED for piece in others), last]


def from_bytes(content: bytes) -> Bpe:
    """The tokenizer of a file that `Bpe.to_bytes` wrote; raises `ValueError` for another one."""
    record: dict[str, Any] = json.loads(content)
    if record.get("format") != FORMAT or record.get("version") != VERSION:
        raise ValueError(f"it is not a tokenizer of the format {FORMAT!r}, version {VERSION}")
    source, target = record["languages"]
    codes = record["codes"] and Codes(
        tuple(_pair(line) for line in record["codes"]["merges"]), record["codes"]["separate_end"]
    )
    return Bpe(
        tuple(record["symbols"]),
        codes,
        Words(**record["words"]),
        (source, target),
    )


def parse_dictionary(text: str, name: str) -> tuple[str, ...]:
    """The symbols of a fairseq dictionary, in the order of their ids, the special ones left out;
    raises `UserError` with the number of a line that is not "SYMBOL COUNT".
    """
    symbols = []
    for number, line in enumerate(_lines(text), start=1):
        symbol, _, count = line.rpartition(" ")
        if not symbol or not count.isdecimal():
            raise UserError(
                f"{name}, line {number}: {line!r} is not a symbol and its count; give the dict.txt"
                " that fairseq's preprocess.py wrote"
            )
        symbols.append(symbol)
    return tuple(symbols)


def parse_codes(text: str, name: str) -> Codes:
    """The merges of subword-nmt (versions 0.1 and 0.2) or fastBPE; raises `UserError` with the
    number of a line that is none.

    fastBPE adds a count to each line. Version 0.1 of subword-nmt has no header, and its end of a
    word is a symbol of its own.
    """
    lines, first = _lines(text), 1
    header = lines and lines[0].startswith("#version:")
    version = lines[0].partition(":")[2].strip() if header else ""
    if header:
        lines, first = lines[1:], 2
    merges, counted = [], False
    for number, line in enumerate(lines, start=first):
        fields = line.strip(" ").split(" ")
        if not (len(fields) == 2 or (len(fields) == 3 and fields[2].isdecimal())):
            raise UserError(
                f"{name}, line {number}: {line!r} is not a pair of pieces; give the codes that"
                " subword-nmt or fastBPE learnt"
            )
        counted |= len(fields) == 3
        merges.append((fields[0], fields[1]))
    return Codes(tuple(merges), separate_end=not counted and version in ("", "0.1"))


def merged(word: str, ranks: dict[tuple[str, str], int], separate_end: bool = False) -> list[str]:
    """The pieces of a word: its characters, of which the adjacent pair with the lowest rank is
    joined, everywhere in the word, until no pair has a rank.
    """
    pieces = [*word, _END] if separate_end else [*word[:-1], word[-1] + _END]
    while len(pieces) > 1:
        best = min(itertools.pairwise(pieces), key=lambda pair: ranks.get(pair, math.inf))
        if best not in ranks:
            break
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == best:
                # a marker, so that the result takes part in no other merge of this round
                joined[-1:] = ["".join(best), ""]
            else:
                joined.append(piece)
        pieces = [piece for piece in joined if piece]
    if pieces[-1] == _END:
        return pieces[:-1]
    return [*pieces[:-1], pieces[-1].removesuffix(_END)]


def _splitter(words: Words, language: str) -> Callable[[str], list[str]]:
    """line → words."""
    if words.exact:
        return str.split
    tokenizer = _moses("MosesTokenizer", language) if words.moses else None
    normalizer = _moses("MosesPunctNormalizer", language) if words.punctuation else None

    def split(line: str) -> list[str]:
        if normalizer:
            line = normalizer.normalize(line)
        found = (
            tokenizer.tokenize(line, aggressive_dash_splits=words.dashes)
            if tokenizer
            else line.split()
        )
        return [word.lower() for word in found] if words.lowercase else list(found)

    return split


def _joiner(words: Words, language: str) -> Callable[[list[str]], str]:
    """words → line."""
    if not words.moses:
        return " ".join
    return _moses("MosesDetokenizer", language).detokenize


@functools.cache
def _moses(kind: str, language: str) -> Any:
    """An object of sacremoses; raises `UserError` where it is not installed."""
    try:
        import sacremoses
    except ImportError:
        raise UserError(
            "this model's text is in words as Moses' tokenizer makes them, and the package"
            " sacremoses is missing; install it with pip install 'automoe_jax[convert]'"
        ) from None
    return getattr(sacremoses, kind)(lang=language)


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split(" ")
    return first, second


def _lines(text: str) -> list[str]:
    """Lines that line feeds end; other separators may be symbols."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
