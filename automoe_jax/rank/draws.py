"""The networks that a SuperNet is asked to rank: every second one has nearly equal FLOPs."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.errors import UserError
from automoe_jax.search.sampling import Draw

BAND = 1.1  # most FLOPs of the networks of equal FLOPs, relative to the fewest
TRIED = 1000  # draws that place the band
ATTEMPTS = 5000  # draws in a row without a new network


class Drawn(NamedTuple):
    """Distinct architectures, and which of them have equal FLOPs."""

    archs: tuple[Arch, ...]
    alike: tuple[bool, ...]  # by architecture


def draw_networks(
    draw: Draw, flops: Callable[[Arch], float], count: int, size: int, seed: int
) -> Drawn:
    """`count` networks from even draws, the first and then every second one within the band of
    FLOPs that has most draws. Fewer networks are the first ones of more.

    size: architectures that there are. Raises `UserError` if there are too few, in all or in the
    band.
    """
    if count > size:
        raise UserError(f"--archs={count} is more than the {size} architectures of the space")
    low, high = _band(draw, flops)
    found: dict[Arch, bool] = {}
    streams = [np.random.default_rng([seed, stream]) for stream in range(2)]
    for number in range(count):
        alike = number % 2 == 0
        for arch in _draws(draw, streams[number % 2]):
            if arch not in found and (not alike or low <= flops(arch) <= high):
                found[arch] = alike
                break
        else:
            where = "with equal FLOPs " if alike else ""
            raise UserError(
                f"--archs={count} needs more networks {where}than were found within the limits of"
                f" the search: {number} in all; set at most --archs={number}"
            )
    return Drawn(tuple(found), tuple(found.values()))


def _draws(draw: Draw, rng: np.random.Generator) -> Iterator[Arch]:
    return (draw(rng) for _ in range(ATTEMPTS))


def _band(draw: Draw, flops: Callable[[Arch], float]) -> tuple[float, float]:
    """The FLOPs between which most draws are, of which the largest is `BAND` times the smallest."""
    rng = np.random.default_rng(0)
    drawn = np.sort([flops(draw(rng)) for _ in range(TRIED)])
    inside = np.searchsorted(drawn, drawn * BAND, side="right") - np.arange(TRIED)
    low = drawn[int(np.argmax(inside))]
    return low, low * BAND
