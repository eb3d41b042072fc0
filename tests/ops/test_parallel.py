"""Equal parts of a hidden table for any experts, and the balance of the parts' work."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automoe_jax.ops.grouped import ExpertRows, width_choices
from automoe_jax.ops.grouped.parallel import part_of, part_widths
from automoe_jax.space import SearchSpace

EXPERTS, UNITS, PARTS = 4, 48, 4
cut = jax.jit(jax.vmap(part_of, in_axes=(None, 0, None)), static_argnums=2)


def table(widths: list[int], rows_each: list[int]) -> ExpertRows:
    """First rows of the experts in a table where each has `rows_each` rows."""
    return ExpertRows(np.cumsum([0, *rows_each[:-1]], dtype=np.int32), np.asarray(widths, np.int32))


def rows_by_part(expert_rows: ExpertRows, units: int, parts: int) -> np.ndarray:
    """[parts, E]: number of live hidden units of each expert in a part."""
    return np.maximum(cut(expert_rows, np.arange(parts), units // parts).widths, 0)


@given(st.lists(st.sampled_from([-1, 0, 4, 8, 12]), min_size=EXPERTS, max_size=EXPERTS))
@settings(max_examples=30)
def test_every_row_of_an_expert_is_in_one_part(widths: list[int]) -> None:
    expert_rows = table(widths, [UNITS // EXPERTS] * EXPERTS)
    rows = UNITS // PARTS
    parts = cut(expert_rows, np.arange(PARTS), rows)
    for expert, (start, width) in enumerate(zip(*expert_rows, strict=True)):
        held = [
            part * rows + first + np.arange(count)
            for part, (first, count) in enumerate(
                zip(parts.starts[:, expert], parts.widths[:, expert], strict=True)
            )
            if count > 0
        ]
        np.testing.assert_array_equal(
            np.concatenate([np.zeros(0), *held]), np.arange(start, start + width)
        )
        assert np.sum(parts.widths[:, expert] == 0) == (width == 0), (
            "an identity expert is computed once"
        )


@pytest.mark.parametrize("traced", [True, False])
@given(widths=st.lists(st.sampled_from([4, 8, 16]), min_size=EXPERTS, max_size=EXPERTS))
@settings(max_examples=30)
def test_no_part_has_a_width_that_is_not_compiled(traced: bool, widths: list[int]) -> None:
    """Traced widths may be any of the choices; those of a sub-Transformer are known."""
    rows_each = [16] * EXPERTS if traced else widths
    expert_rows = table(widths, rows_each)
    compiled = part_widths(
        [(4, 8, 16) if traced else (width,) for width in widths], tuple(rows_each), PARTS
    )
    found = set(rows_by_part(expert_rows, sum(rows_each), PARTS).reshape(-1).tolist()) - {0}
    assert found <= set(compiled)
    assert traced or compiled == width_choices(sorted(found))


def worst_share(expert_rows: ExpertRows, units: int, parts: int) -> float:
    """Work of the busiest device relative to the mean, with equally many tokens per expert."""
    work = rows_by_part(expert_rows, units, parts).sum(1)
    return work.max() / work.mean()


@pytest.mark.parametrize(("parts", "mean"), [(2, 1.6), (4, 2.4), (8, 3.2)])
def test_the_busiest_device(parts: int, mean: float) -> None:
    """In the paper's space: even for a network trained alone; an architecture inside a SuperNet
    leaves rows unused.
    """
    space, rng = SearchSpace(), np.random.default_rng(0)
    widest, most = space.super_ffn_dim, max(space.encoder_experts)
    alone, inside = [], []
    for arch in (space.sample(rng) for _ in range(100)):
        for widths in arch.encoder_experts:
            # Absent experts pad all lists to one length, to compile once.
            absent = [-1] * (most - len(widths))
            alone.append(
                worst_share(table([*widths, *absent], [*widths, *absent]), sum(widths), parts)
            )
            inside.append(
                worst_share(table([*widths, *absent], [widest] * most), most * widest, parts)
            )
    assert max(alone) == 1.0
    np.testing.assert_allclose(np.mean(inside), mean, atol=0.1)
