"""The block experts against a plain loop over experts, in values and gradients; the layout;
dropout.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from automoe_jax.ops.grouped import (
    ExpertDropout,
    ExpertRows,
    Experts,
    block_rows,
    dense_ffn,
    experts_ffn,
    layout,
    use_backend,
    width_choices,
)
from automoe_jax.ops.grouped.chosen import apart, chosen_ffn, pays
from automoe_jax.ops.grouped.few_rows import few_rows_ffn
from tests.oracles import experts_loop, quick_jit, routing

D = 24


def weights(units, experts, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((units, D), (units,), (units, D), (experts, D))
    return Experts(*(jnp.asarray(rng.normal(0, 0.5, shape), jnp.float32) for shape in shapes))


def tokens_and_gates(tokens, choices, seed=1):
    rng = np.random.default_rng(seed)
    x, gates, cotangent = (
        rng.normal(size=(tokens, D)),
        rng.uniform(0.1, 0.9, (tokens, choices)),
        rng.normal(size=(tokens, D)),
    )
    return tuple(jnp.asarray(array, jnp.float32) for array in (x, gates, cotangent))


@functools.partial(quick_jit, static_argnames="ffn_dims")
def values_and_gradients(x, gates, experts, chosen, starts, widths, cotangent, ffn_dims):
    y, pullback = jax.vjp(
        lambda x, gates, experts: experts_ffn(
            x, routing(chosen, gates), experts, ExpertRows(starts, widths), ffn_dims
        ),
        x,
        gates,
        experts,
    )
    return y, pullback(cotangent)


@quick_jit
def few_rows_values_and_gradients(x, gates, experts, chosen, starts, widths, cotangent):
    y, pullback = jax.vjp(
        lambda x, gates, experts: few_rows_ffn(
            x, routing(chosen, gates), experts, ExpertRows(starts, widths)
        ),
        x,
        gates,
        experts,
    )
    return y, pullback(cotangent)


def check(chosen, starts, widths, ffn_dims):
    chosen, starts, widths = (np.asarray(array, np.int32) for array in (chosen, starts, widths))
    x, gates, cotangent = tokens_and_gates(*chosen.shape)
    experts = weights(int((starts + np.maximum(widths, 0)).max()), len(widths))
    y, gradients = values_and_gradients(
        x, gates, experts, chosen, starts, widths, cotangent, ffn_dims
    )
    expected, expected_gradients = experts_loop(
        x, gates, experts, chosen, starts, widths, cotangent
    )
    np.testing.assert_allclose(y, expected, atol=2e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=5e-5), gradients, expected_gradients
    )
    inputs = (x, gates, experts, chosen, starts, widths, cotangent)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=5e-5),
        few_rows_values_and_gradients(*inputs),
        (y, gradients),
    )
    return y


E, F, N, K = 4, 20, 40, 2
STARTS = np.arange(E) * F  # as in a SuperNet, where every expert owns as many rows as the widest
NOT_MADE = E


def drawn(among, seed=0, shape=(N, K)):
    return np.random.default_rng(seed).choice(among, shape)


CASES = {
    "widths differ": ((20, 8, 5, 13), drawn([0, 1, 2, 3])),
    "first is the identity": ((0, 8, 20, 5), drawn([0, 1, 2, 3])),
    "two are absent": ((20, 8, -1, -1), drawn([0, 1])),
    "one gets no token": ((20, 8, 5, 13), drawn([0, 2, 3])),
    "one gets all, second choices not made": (
        (20, 8, 5, 13),
        np.stack([np.full(N, 2), np.full(N, NOT_MADE)], 1),
    ),
    "some choices not made": ((0, 8, 5, 20), drawn([0, 1, 2, 3, NOT_MADE])),
    "no choice made": ((20, 8, 5, 13), np.full((N, K), NOT_MADE)),
    "only the identity": ((0, -1, -1, -1), drawn([0, NOT_MADE])),
    "one row too many for a block": (
        (20, 8, 5, 13),
        np.stack([np.arange(N) < 9, np.full(N, NOT_MADE)], 1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_loop(name):
    """All through one compilation: 80 pairs make blocks of 8 rows, four of which are taken
    together.
    """
    widths, chosen = CASES[name]
    y = check(chosen, STARTS, widths, (5, 8, 13, 20))
    if name == "no choice made":
        assert not np.any(y)


def test_cases_compile_once():
    before = values_and_gradients._cache_size()
    for name in CASES:
        test_equals_loop(name)
    assert values_and_gradients._cache_size() <= before + 1


@pytest.mark.parametrize(
    ("tokens", "choices", "widths", "ffn_dims"),
    [
        (1, 1, (8,), (8,)),  # one token, E = 1
        (9, 3, (5, 3, 7), (3, 5, 7)),  # K = E
        (300, 1, (0, 8, 4, 12), (4, 8, 12)),  # blocks of 32 rows
    ],
)
def test_equals_loop_in_tight_tables(tokens, choices, widths, ffn_dims):
    """As in an extracted network: each expert's rows follow the one before."""
    rng = np.random.default_rng(3)
    chosen = np.argsort(rng.random((tokens, len(widths))), axis=1)[:, :choices]
    check(chosen, np.cumsum((0, *widths[:-1])), widths, ffn_dims)


@pytest.mark.parametrize(("tokens", "loops"), [(1, True), (2, False), (16, False), (17, True)])
def test_few_rows_are_not_sorted(tokens, loops):
    """Four experts and two choices: from two tokens on, up to 8 rows an expert."""
    (x, gates, _), experts = tokens_and_gates(tokens, K), weights(E * F, E)

    def run(x, chosen, gates, experts):
        expert_rows = ExpertRows(STARTS, np.array([5, 8, 20, 13]))
        return experts_ffn(x, routing(chosen, gates), experts, expert_rows, (5, 8, 13, 20))

    program = str(jax.make_jaxpr(run)(x, drawn(range(E), shape=(tokens, K)), gates, experts))
    assert ("while[" in program) is loops


@pytest.mark.parametrize(
    "chosen",
    [[[0], [1], [2], [3], [1]], [[3], [3], [3], [3], [3]], [[0, 2], [NOT_MADE, 1]]],
    ids=["all", "one", "two each, one not made"],
)
def test_experts_by_themselves_equal_the_loop(chosen):
    """An identity and three experts; those that no token chose hold NaN and are not computed."""
    widths, chosen = np.array([0, 8, 5, 13], np.int32), np.array(chosen, np.int32)
    starts = np.cumsum((0, *widths[:-1]))
    (x, gates, cotangent), experts = tokens_and_gates(*chosen.shape), weights(26, E)
    y, _ = experts_loop(x, gates, experts, chosen, starts, widths, cotangent)
    unused = ~np.isin(np.arange(E), chosen)
    spoilt = np.repeat(unused, widths)[:, None]
    given = Experts(
        *(jnp.where(spoilt, jnp.nan, w) for w in (experts.w_in, experts.b_in[:, None])),
        jnp.where(spoilt, jnp.nan, experts.w_out),
        experts.b_out[1:],
    )
    each = apart(given._replace(b_in=given.b_in[:, 0]), widths.tolist(), len(x))
    computed = quick_jit(lambda x, *choices: chosen_ffn(x, routing(*choices), each))
    np.testing.assert_allclose(computed(x, chosen, gates), y, atol=2e-5)


@pytest.mark.parametrize(
    ("tokens", "choices", "experts", "expected"),
    [
        (5, 1, 4, True),
        (5, 1, 16, True),
        (2, 2, 4, True),
        (1, 1, 2, True),
        (5, 1, 2, False),
        (8, 1, 4, False),
        (5, 2, 4, False),
        (1, 4, 4, False),
        (9, 1, 16, False),
        (5, 1, 1, False),
    ],
)
def test_few_choices_are_worth_skipping_experts(tokens, choices, experts, expected):
    assert pays(tokens, choices, experts) is expected
    with use_backend("padded"):
        assert not pays(tokens, choices, experts)


def test_bfloat16_stays_near_float32():
    chosen, widths = drawn([0, 1, 2, 3]).astype(np.int32), np.array([0, 8, 20, 5], np.int32)
    (x, gates, cotangent), experts, ffn_dims = tokens_and_gates(N, K), weights(E * F, E), (5, 8, 20)
    half_x, half_experts = jax.tree.map(lambda array: array.astype(jnp.bfloat16), (x, experts))
    y = quick_jit(
        lambda x, *choices, experts: experts_ffn(
            x, routing(*choices), experts, ExpertRows(STARTS, widths), ffn_dims
        )
    )(half_x, chosen, gates, experts=half_experts)
    assert y.dtype == jnp.bfloat16
    expected, _ = experts_loop(x, gates, experts, chosen, STARTS, widths, cotangent)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02 * np.abs(expected).max())


def test_width_choices():
    assert width_choices((2048, 0, 1024, -1, 2048)) == (1024, 2048)
    assert width_choices((0,)) == (1,)


@pytest.mark.parametrize(
    ("pairs", "experts", "rows"),
    [(1, 1, 8), (80, 4, 32), (300, 4, 64), (4096, 2, 64), (10**6, 1, 64)],
)
def test_block_rows(pairs, experts, rows):
    assert block_rows(pairs, experts) == rows


ROWS = 8
jitted_layout = quick_jit(lambda chosen, widths: layout(chosen, widths, ROWS))


@given(
    arrays.arrays(np.int32, (13, 2), elements=st.integers(0, 4)),
    arrays.arrays(np.int32, (4,), elements=st.sampled_from([-1, 0, 5, 8])),
)
def test_layout_holds_every_pair_once(chosen, widths):
    plan = jax.tree.map(np.asarray, jitted_layout(chosen, widths))
    computes = np.append(widths > 0, False)[chosen].reshape(-1)
    rows = np.flatnonzero(plan.row_pair >= 0)
    assert sorted(plan.row_pair[rows]) == np.flatnonzero(computes).tolist()
    assert np.all(plan.position.reshape(-1)[~computes] == -1)
    assert np.all(plan.position.reshape(-1)[plan.row_pair[rows]] == rows)
    assert np.all(plan.block_expert[rows // ROWS] == chosen.reshape(-1)[plan.row_pair[rows]])
    needed = sum(-(-np.sum((chosen == e) & (widths[e] > 0)) // ROWS) for e in range(4))
    assert plan.blocks == needed <= len(plan.block_expert)
    assert np.all(rows < needed * ROWS)


# Dropout: 6 rows for each expert, so that the 24 outputs can show the 24 hidden units one by one.

DROP_WIDTHS, DROP_STARTS, DROP_BLOCKS = (
    np.array([0, 6, 3, 5], np.int32),
    np.arange(4) * 6,
    (3, 5, 6),
)
HIDDEN_RATES, OUTPUT_RATE = np.array([0.0, 0.5, 0.25, 0.4], np.float32), 0.3
DROP_CHOSEN = np.argsort(np.random.default_rng(5).random((400, 4)), axis=1)[:, :2].astype(np.int32)


def dropped(x, gates, experts, key, output_rate=OUTPUT_RATE, hidden_rates=HIDDEN_RATES):
    expert_rows = ExpertRows(DROP_STARTS, DROP_WIDTHS)
    return experts_ffn(
        x,
        routing(DROP_CHOSEN, gates),
        experts,
        expert_rows,
        DROP_BLOCKS,
        None if key is None else ExpertDropout(jnp.asarray(hidden_rates), output_rate, key),
    )


@quick_jit
def keep_masks(key):
    """(hidden [N,K,U], output [N,K,D]): what dropout multiplied with, read off the outputs of
    networks made to show it.
    """
    nothing, ones = jnp.zeros((D, D)), jnp.ones((400, D))
    shows_hidden = Experts(nothing, jnp.ones(D), jnp.eye(D), jnp.zeros((4, D)))
    shows_output = Experts(nothing, jnp.zeros(D), nothing, jnp.ones((4, D)))
    only = [jnp.zeros((400, 2)).at[:, k].set(1.0) for k in range(2)]
    hidden = [dropped(ones, gates, shows_hidden, key, output_rate=0.0) for gates in only]
    output = [dropped(ones, gates, shows_output, key, hidden_rates=np.zeros(4)) for gates in only]
    return jnp.stack(hidden, 1), jnp.stack(output, 1)


@quick_jit
def dropped_values_and_gradients(x, gates, experts, key, cotangent):
    y, pullback = jax.vjp(
        lambda x, gates, experts: dropped(x, gates, experts, key), x, gates, experts
    )
    return y, pullback(cotangent)


def test_dropout_rates():
    hidden, output = map(np.asarray, keep_masks(jax.random.key(0)))
    for e in (1, 2, 3):
        for k in (0, 1):
            masks = hidden[DROP_CHOSEN[:, k] == e, k, 6 * e : 6 * e + DROP_WIDTHS[e]]
            np.testing.assert_allclose(masks[masks != 0], 1 / (1 - HIDDEN_RATES[e]), rtol=1e-4)
            assert abs(np.mean(masks == 0) - HIDDEN_RATES[e]) < 5 * (0.25 / masks.size) ** 0.5
    computed = DROP_CHOSEN > 0
    assert abs(np.mean(output[computed] == 0) - OUTPUT_RATE) < 0.02
    np.testing.assert_allclose(
        output[computed][output[computed] != 0], 1 / (1 - OUTPUT_RATE), rtol=1e-4
    )
    both = computed.all(1)
    # independent: 0.7² + 0.3² = 0.58 agree by chance
    assert np.mean(output[both, 0] == output[both, 1]) < 0.7


def test_gradients_under_dropout_equal_loop_with_the_same_masks():
    x, gates, cotangent = tokens_and_gates(400, 2)
    experts, key = weights(D, 4), jax.random.key(1)
    hidden, output = keep_masks(key)
    y, gradients = dropped_values_and_gradients(x, gates, experts, key, cotangent)
    expected, expected_gradients = experts_loop(
        x, gates, experts, DROP_CHOSEN, DROP_STARTS, DROP_WIDTHS, cotangent, hidden, output
    )
    np.testing.assert_allclose(y, expected, atol=5e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=5e-4, rtol=1e-4),
        gradients,
        expected_gradients,
    )


def test_dropout_is_right_on_average_and_spares_the_identity():
    x, gates, cotangent = tokens_and_gates(400, 2)
    experts, keys = weights(D, 4), 300
    draws = np.stack(
        [
            dropped_values_and_gradients(x, gates, experts, jax.random.key(i), cotangent)[0]
            for i in range(keys)
        ]
    )
    exact, _ = experts_loop(x, gates, experts, DROP_CHOSEN, DROP_STARTS, DROP_WIDTHS, cotangent)
    error = (draws.mean(0) - exact) / (draws.std(0) / keys**0.5 + 1e-6)
    assert np.abs(error).max() < 6  # the largest of 9600 standard normal numbers
    assert abs(error.mean()) < 0.1
    # With all weight on the identity nothing is left to chance.
    first = jnp.asarray(DROP_CHOSEN == 0, jnp.float32)
    y, _ = dropped_values_and_gradients(x, first, experts, jax.random.key(0), cotangent)
    np.testing.assert_array_equal(y, x * first.sum(1, keepdims=True))


def test_dense_equals_loop():
    x, _, cotangent = tokens_and_gates(11, 1)
    experts, one = weights(10, 1), np.zeros((11, 1), np.int32)
    y, pullback = jax.vjp(dense_ffn, x, experts)
    expected, (dx, _, d_experts) = experts_loop(
        x, np.ones((11, 1)), experts, one, [0], [10], cotangent
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=5e-5),
        pullback(cotangent),
        (dx, d_experts),
    )
