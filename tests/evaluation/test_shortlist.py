"""The share of reference pieces that a shortlist misses."""

import numpy as np

from automoe_jax.evaluation.shortlist import missed_share
from automoe_jax.inference.engine.shortlist import Shortlist


def test_the_share_of_missed_pieces() -> None:
    shortlist = Shortlist(np.array([0, 1, 2]), np.array([9]), np.full((20, 1), -1))
    shortlist.translations[5] = 15
    references = [np.array([15, 16, 9, 5]), np.array([15, 17])]
    assert missed_share(shortlist, 1, [np.array([5]), np.array([6])], references) == 3 / 6
