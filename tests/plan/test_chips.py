"""Table of chips and their slices."""

import math

import pytest

from automoe_jax.errors import UserError
from automoe_jax.plan.chips import CHIPS, chip, slice_shape


def test_every_figure_has_a_source() -> None:
    assert set(CHIPS) == {"v5e", "v5p", "v6e", "h100", "h200"}
    for one in CHIPS.values():
        assert one.source
        assert one.network < one.link < one.bandwidth < one.flops
        assert bool(one.topology) == bool(one.dimensions)


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("v5e", 1, (1, 1)),
        ("v5e", 8, (2, 4)),
        ("v5e", 256, (16, 16)),
        ("v6e", 32, (4, 8)),
        ("v5p", 4, (2, 2, 1)),
        ("v5p", 16, (2, 2, 4)),
        ("v5p", 128, (4, 4, 8)),
        ("v5e", 6, None),
        ("v5e", 512, None),
        ("h100", 8, None),
    ],
)
def test_slices(name: str, count: int, shape: tuple[int, ...] | None) -> None:
    assert slice_shape(chip(name), count) == shape
    assert shape is None or math.prod(shape) == count


def test_an_unknown_chip_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"--chip=a100 is not in the table of automoe_jax/plan/chips\.py; choose one of v5e",
    ):
        chip("A100".lower())
