"""Classes of labelled text, numbered like the pieces of a vocabulary, after the special ids, so
that PAD is not a class.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32

from automoe_jax.data.tokenizer import SPECIAL_IDS


@dataclasses.dataclass(frozen=True)
class Labels:
    """The names of the classes, sorted."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Labels":
        """The distinct names."""
        return cls(tuple(sorted(set(names))))

    @property
    def size(self) -> int:
        """Size of a vocabulary with the special ids and the classes."""
        return len(SPECIAL_IDS) + len(self.names)

    def encode(self, names: Sequence[str]) -> list[Int32[np.ndarray, "1"]]:
        """int32 [1] for each name: its number, a target of one token; raises KeyError for an
        unknown name.
        """
        numbers = {name: number for number, name in enumerate(self.names, start=len(SPECIAL_IDS))}
        return [np.array([numbers[name]], np.int32) for name in names]

    def name(self, number: int) -> str:
        """Name of the class with this number."""
        return self.names[number - len(SPECIAL_IDS)]
