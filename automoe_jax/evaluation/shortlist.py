"""Quality of a shortlist on the test text."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from automoe_jax.inference.engine.shortlist import Shortlist


def missed_share(
    shortlist: Shortlist,
    size: int,
    sources: Sequence[Int[np.ndarray, "_"]],
    references: Sequence[Int[np.ndarray, "_"]],
) -> float:
    """Share of the references' pieces that are not candidates of their source."""
    missed = [
        np.isin(reference, shortlist.of_sentence(source, size), invert=True).sum()
        for source, reference in zip(sources, references, strict=True)
    ]
    return float(sum(missed) / max(sum(map(len, references)), 1))
