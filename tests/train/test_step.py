"""One update: micro-batches, sandwich sampling, load balancing, poisoned updates, the optimizer and
its schedule.
"""

import copy
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from automoe_jax.arch import Arch
from automoe_jax.config import TrainConfig
from automoe_jax.data.tokenizer import EOS, PAD
from automoe_jax.extract import extract
from automoe_jax.model import ForwardOptions, Network, Spec
from automoe_jax.model.network import abstract
from automoe_jax.model.transformer import apply, shift_right
from automoe_jax.ops.dropout import split
from automoe_jax.routers import RouterConfig
from automoe_jax.train import step as step_module
from automoe_jax.train.loss import distilled, label_smoothed
from automoe_jax.train.optim import optimizer, schedule
from automoe_jax.train.step import (
    TrainState,
    balance_loss,
    distillation_weight,
    init_state,
    make_eval_step,
    make_train_step,
    mean_over_routers,
)
from tests.oracles import SPACE, inside, quick_jit, random_network

VOCAB = 30
SMALL = dataclasses.replace(
    SPACE, decoder_embed_dims=(16,), encoder_layers=(1,), decoder_layers=(1,)
)
NETWORK = random_network(SMALL, VOCAB)
TRAIN = TrainConfig(
    steps=10, warmup_steps=2, warmup_learning_rate=1e-4, learning_rate=1e-3, label_smoothing=0.1
)
KEY = jax.random.key(0)
BETA1, BETA2 = TRAIN.adam_b1, TRAIN.adam_b2


def draw(seed: int, shape: tuple[int, int], lengths: tuple[int, ...]) -> np.ndarray:
    tokens = np.random.default_rng(seed).integers(4, VOCAB, shape)
    for row, length in zip(tokens, lengths, strict=True):
        row[length - 1], row[length:] = EOS, PAD
    return tokens


SOURCE, TARGET = draw(0, (4, 7), (7, 3, 5, 2)), draw(1, (4, 6), (6, 1, 2, 5))
TOKENS = 14
LARGEST, SMALLEST = SMALL.largest(), SMALL.smallest()
RANDOM = [SMALL.sample(np.random.default_rng(seed)) for seed in range(8)]


def batch(micro_batches: int = 1) -> dict[str, jax.Array]:
    return {
        name: jnp.asarray(array.reshape(micro_batches, -1, array.shape[1]))
        for name, array in (("source", SOURCE), ("target", TARGET))
    }


def stacked(*archs: Arch) -> Arch:
    return jax.tree.map(lambda *fields: jnp.stack(fields), *archs)


@functools.cache
def compiled(**options: Any) -> Any:
    """The train step without dropout, compiled quickly, and once for all tests that need it."""
    step = make_train_step(NETWORK.spec, dataclasses.replace(TRAIN, **options), ForwardOptions())
    return quick_jit(step.__wrapped__)


def fresh() -> TrainState:
    return init_state(NETWORK, TRAIN)


def moments(state: TrainState) -> tuple[Any, Any]:
    return tuple(optax.tree_utils.tree_get(state.opt_state, name) for name in ("mu", "nu"))


def gradient(state: TrainState) -> Any:
    """The gradient of a first update, from Adam's first moment."""
    return jax.tree.map(lambda mean: mean / (1 - BETA1), moments(state)[0])


def assert_close(found: Any, expected: Any, atol: float = 2e-6) -> None:
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=atol, rtol=1e-4), found, expected
    )


@quick_jit
def reference(
    params: Any, arch: Arch, teacher: jax.Array, learns: jax.Array, balance: jax.Array
) -> Any:
    """(logits, loss, gradient) of one sub-network on the whole batch, from public functions
    only.
    """

    def objective(params: Any) -> tuple[jax.Array, Any]:
        output = apply(
            Network(params, NETWORK.spec),
            arch,
            jnp.asarray(SOURCE),
            shift_right(jnp.asarray(TARGET), PAD),
        )
        own = label_smoothed(output.logits, jnp.asarray(TARGET), pad_id=PAD, smoothing=0.1).loss
        taught = distilled(output.logits, teacher, jnp.asarray(TARGET), pad_id=PAD)
        loss = jnp.where(learns, taught, own) / TOKENS
        return loss + balance * mean_over_routers(output, "balance_loss"), (output.logits, loss)

    gradient, (logits, loss) = jax.grad(objective, has_aux=True)(params)
    return logits, loss, gradient


def refer(arch: Arch, teacher: Any = None, balance: float = 0.0) -> Any:
    nobody = jnp.zeros((*TARGET.shape, VOCAB))
    return reference(
        NETWORK.params, arch, nobody if teacher is None else teacher, teacher is not None, balance
    )


def test_shift_right() -> None:
    shifted = shift_right(jnp.array([[7, 8, EOS, PAD], [9, EOS, PAD, PAD]]), PAD)
    np.testing.assert_array_equal(shifted, [[EOS, 7, 8, PAD], [EOS, 9, PAD, PAD]])


def test_gradient_and_metrics_equal_the_parts_put_together() -> None:
    state, metrics = compiled()(fresh(), batch(), stacked(RANDOM[0]), KEY)
    _, loss, expected = refer(RANDOM[0])
    assert_close(gradient(state), expected)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert metrics.tokens == TOKENS
    assert metrics.finite
    assert state.step == 1


def test_two_micro_batches_equal_one_batch() -> None:
    """With 7 + 7 tokens in sentences of 6, 1, 2 and 5; equal moments give equal updates."""
    one, one_metrics = compiled()(fresh(), batch(1), stacked(RANDOM[0]), KEY)
    two, two_metrics = compiled(accumulate=2)(fresh(), batch(2), stacked(RANDOM[0]), KEY)
    for first, second in zip(moments(one), moments(two), strict=True):
        assert_close(second, first)
    for name in ("loss", "nll", "tokens", "finite"):
        np.testing.assert_allclose(
            getattr(two_metrics, name), getattr(one_metrics, name), rtol=1e-5
        )


def test_uneven_micro_batches_weigh_their_tokens() -> None:
    """Sentences in another order: 11 + 3 tokens."""
    order = np.array([0, 3, 1, 2])
    two, _ = compiled(accumulate=2)(
        fresh(),
        {
            name: array.reshape(4, -1)[order].reshape(array.shape)
            for name, array in batch(2).items()
        },
        stacked(RANDOM[1]),
        KEY,
    )
    assert_close(gradient(two), refer(RANDOM[1])[2])


def test_one_trace_for_all_architectures() -> None:
    step = compiled()
    before, state = step._cache_size(), fresh()
    for arch in (LARGEST, SMALLEST, *RANDOM):
        state, metrics = step(state, batch(), stacked(arch), KEY)
        assert metrics.finite
    assert step._cache_size() <= before + 1
    assert state.step == 10


def test_poisoned_update_is_not_made() -> None:
    params = jax.tree.map(jnp.asarray, NETWORK.params)
    params["decoder"]["layer_0"]["experts"]["b_out"] = (
        params["decoder"]["layer_0"]["experts"]["b_out"].at[0].set(jnp.nan)
    )
    before = fresh()._replace(params=params)
    after, metrics = compiled()(before, batch(), stacked(LARGEST), KEY)
    assert not metrics.finite
    assert after.step == 1
    jax.tree.map(np.testing.assert_array_equal, after._replace(step=0), before._replace(step=0))


def test_unused_parts_get_zero_gradient_and_their_moments_decay() -> None:
    first, _ = compiled()(fresh(), batch(), stacked(LARGEST), KEY)
    second, _ = compiled()(first, batch(), stacked(SMALLEST), KEY)
    unused = [~kept for kept in inside(NETWORK, SMALLEST)]
    assert sum(map(np.sum, unused)) > 1000
    for before, after, decay in zip(moments(first), moments(second), (BETA1, BETA2), strict=True):
        for old, new, where in zip(
            jax.tree.leaves(before), jax.tree.leaves(after), unused, strict=True
        ):
            np.testing.assert_allclose(
                np.asarray(new)[where], decay * np.asarray(old)[where], rtol=1e-6
            )
    # The remaining momentum still moves them: Adam's update from the decayed moments.
    rate, (mean, square) = schedule(TRAIN)(1), moments(second)
    for old, new, m, v, where in zip(
        *map(jax.tree.leaves, (first.params, second.params, mean, square)), unused, strict=True
    ):
        move = -rate * (m / (1 - BETA1**2)) / (np.sqrt(v / (1 - BETA2**2)) + 1e-8)
        np.testing.assert_allclose(np.asarray(new - old)[where], np.asarray(move)[where], atol=2e-7)
    assert any(
        np.any(np.asarray(new != old)[where])
        for old, new, where in zip(
            *map(jax.tree.leaves, (first.params, second.params)), unused, strict=True
        )
    )


def test_first_update_of_a_sub_network_leaves_the_rest_alone() -> None:
    state, _ = compiled()(fresh(), batch(), stacked(SMALLEST), KEY)
    for old, new, kept in zip(
        *map(jax.tree.leaves, (NETWORK.params, state.params)),
        inside(NETWORK, SMALLEST),
        strict=True,
    ):
        np.testing.assert_array_equal(np.asarray(new)[~kept], np.asarray(old)[~kept])
    moved = [
        np.any(old != new)
        for old, new in zip(
            *(
                jax.tree.leaves(extract(Network(p, NETWORK.spec), SMALLEST))
                for p in (NETWORK.params, state.params)
            ),
            strict=True,
        )
    ]
    assert all(moved)


SANDWICH = (LARGEST, SMALLEST, next(arch for arch in RANDOM if arch.routed))


def test_sandwich_equals_its_sub_networks_one_by_one() -> None:
    """The largest one's logits are constants for the others: no gradient flows back to the
    teacher.
    """
    step = compiled(sampling="sandwich", distillation_weight=1.0, distillation_warmup=0.0)
    state, metrics = step(fresh(), batch(), stacked(*SANDWICH), KEY)
    logits, loss, total = refer(LARGEST)
    for arch in SANDWICH[1:]:
        _, other, part = refer(arch, logits)
        loss, total = loss + other, jax.tree.map(jnp.add, total, part)
    assert_close(gradient(state), jax.tree.map(lambda leaf: leaf / 3, total))
    np.testing.assert_allclose(metrics.loss, loss / 3, rtol=1e-5)
    assert metrics.finite
    assert metrics.tokens == TOKENS
    for others in zip(RANDOM[:4], RANDOM[4:], strict=True):
        assert step(fresh(), batch(), stacked(LARGEST, *others), KEY)[1].finite
    assert step._cache_size() == 1


def test_distillation_rises_from_nothing_to_its_weight() -> None:
    """Halfway through the rise of a run of 100 updates the share is half the weight."""
    settings = {"steps": 100, "distillation_weight": 0.6, "distillation_warmup": 0.4}
    train = dataclasses.replace(TRAIN, sampling="sandwich", **settings)
    shares = [float(distillation_weight(train, step)) for step in (0, 20, 40, 99)]
    np.testing.assert_allclose(shares, [0.0, 0.3, 0.6, 0.6], rtol=1e-6)
    state = fresh()._replace(step=jnp.asarray(20, jnp.int32))
    after, _ = compiled(sampling="sandwich", **settings)(state, batch(), stacked(*SANDWICH), KEY)
    logits, _, total = refer(LARGEST)
    for arch in SANDWICH[1:]:
        own, taught = refer(arch)[2], refer(arch, logits)[2]
        mixed = jax.tree.map(lambda own, taught: 0.7 * own + 0.3 * taught, own, taught)
        total = jax.tree.map(jnp.add, total, mixed)
    assert_close(gradient(after), jax.tree.map(lambda leaf: leaf / 3, total))


@pytest.mark.parametrize("layers", ["mean", "sum"])
def test_balance_loss_over_layers(layers: str) -> None:
    arch = next(arch for arch in RANDOM if arch.routed)
    output = apply(NETWORK, arch, jnp.asarray(SOURCE), shift_right(jnp.asarray(TARGET), PAD))
    each = np.concatenate([output.encoder.balance_loss, output.decoder.balance_loss])
    routed = np.concatenate([output.encoder.routed, output.decoder.routed])
    expected = each.sum() / (routed.sum() if layers == "mean" else 1)
    np.testing.assert_allclose(balance_loss(output, layers), expected, rtol=1e-6)


def test_balance_loss_adds_its_gradient_in_a_sandwich_without_distillation() -> None:
    coefficient = 0.5
    state, metrics = compiled(sampling="sandwich", distillation=False, balance_loss=coefficient)(
        fresh(), batch(), stacked(*SANDWICH), KEY
    )
    parts, plain = (
        [refer(arch, balance=balance) for arch in SANDWICH] for balance in (coefficient, 0.0)
    )
    mean, without = (
        jax.tree.map(lambda *leaves: sum(leaves) / 3, *(part[2] for part in some))
        for some in (parts, plain)
    )
    assert_close(gradient(state), mean)
    np.testing.assert_allclose(metrics.loss, sum(part[1] for part in parts) / 3, rtol=1e-5)
    with_loss, without_loss = (
        tree["encoder"]["layer_0"]["experts"]["router_kernel"] for tree in (mean, without)
    )
    assert np.abs(with_loss - without_loss).max() > 1e-3


def test_eval_step_sums_the_unsmoothed_loss() -> None:
    step = quick_jit(make_eval_step(NETWORK.spec, ForwardOptions()).__wrapped__)
    whole = {name: array[0] for name, array in batch().items()}
    for arch in RANDOM[:3]:
        sums = step(NETWORK.params, whole, arch)
        log_p = np.asarray(jax.nn.log_softmax(refer(arch)[0]))
        expected = -sum(
            log_p[b, t, TARGET[b, t]] for b, t in zip(*np.nonzero(TARGET != PAD), strict=True)
        )
        np.testing.assert_allclose(sums.loss, expected, rtol=1e-5)
        np.testing.assert_allclose(sums.nll, expected, rtol=1e-5)
        assert sums.tokens == TOKENS
    assert step._cache_size() == 1


def test_every_update_draws_its_own_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's key is folded with the step and split for micro-batches and sub-networks; without
    dropout nothing is drawn.
    """
    keys: list[jax.Array] = []

    def one(network: Network, batch: Any, arch: Arch, key: jax.Array, *_: Any) -> Any:
        keys.append(key)
        raise StopIteration

    monkeypatch.setattr(step_module, "_one", one)
    for step, key in ((0, KEY), (0, KEY), (1, KEY), (0, jax.random.key(1))):
        run = make_train_step(NETWORK.spec, TRAIN, ForwardOptions(0.3, 0.1)).__wrapped__
        with pytest.raises(StopIteration):
            run(fresh()._replace(step=jnp.asarray(step)), batch(), stacked(LARGEST), key)
    first, again, later, other = (tuple(np.asarray(jax.random.key_data(key))) for key in keys)
    assert first == again
    assert len({first, later, other}) == 3


@pytest.mark.parametrize(
    ("forward_options", "draws"),
    [(ForwardOptions(), False), (ForwardOptions(0.3, 0.0), True), (ForwardOptions(0.0, 0.1), True)],
)
def test_dropout_is_drawn_where_set(forward_options: ForwardOptions, draws: bool) -> None:
    source, target_input = batch()["source"][0], shift_right(batch()["target"][0], PAD)
    run = quick_jit(
        lambda key: (
            apply(
                NETWORK, LARGEST, source, target_input, forward_options=forward_options, rng=key
            ).logits
        )
    )
    first, again, other = (run(jax.random.fold_in(KEY, number)) for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) != draws


def test_metrics_name_every_layer_and_the_state_is_donated() -> None:
    traced = make_train_step(NETWORK.spec, TRAIN, ForwardOptions()).trace(
        fresh(), batch(), stacked(LARGEST), KEY
    )
    state, *others = traced.args_info[0]
    assert all(leaf.donated for leaf in jax.tree.leaves(state))
    assert not any(leaf.donated for leaf in jax.tree.leaves(others))
    assert traced.out_info[1].encoder.entropy.shape == (NETWORK.spec.layers("encoder"),)


def test_runs_of_equal_settings_share_one_program():
    def made(options: ForwardOptions) -> object:
        spec, train = copy.deepcopy((NETWORK.spec, TRAIN))
        return make_train_step(spec, train, options)

    first = made(ForwardOptions(0.3))
    assert made(ForwardOptions(0.3)) is first
    assert made(ForwardOptions(0.2)) is not first


# Losses


def test_label_smoothed_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    logits, target = (
        rng.normal(size=(2, 3, 5)).astype(np.float32),
        np.array([[2, 4, PAD], [3, PAD, PAD]]),
    )
    log_p = np.asarray(jax.nn.log_softmax(logits))
    real = [(0, 0, 2), (0, 1, 4), (1, 0, 3)]
    nll = -sum(log_p[at] for at in real)
    uniform = -sum(log_p[b, t].mean() for b, t, _ in real)
    sums = label_smoothed(jnp.asarray(logits), jnp.asarray(target), pad_id=PAD, smoothing=0.2)
    np.testing.assert_allclose(sums, (0.8 * nll + 0.2 * uniform, nll, 3), rtol=1e-5)


def test_distilled_equals_its_definition_and_teaches_one_way() -> None:
    rng = np.random.default_rng(0)
    student, teacher = (jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32) for _ in range(2))
    target = jnp.array([[2, 4, PAD], [3, PAD, PAD]])
    p, log_q = jax.nn.softmax(teacher), jax.nn.log_softmax(student)
    expected = -sum(float(p[at] @ log_q[at]) for at in ((0, 0), (0, 1), (1, 0)))
    np.testing.assert_allclose(distilled(student, teacher, target, pad_id=PAD), expected, rtol=1e-5)
    to_student, to_teacher = jax.grad(
        lambda *logits: distilled(*logits, target, pad_id=PAD), argnums=(0, 1)
    )(student, teacher)
    np.testing.assert_allclose(
        to_student, jnp.where((target != PAD)[..., None], jax.nn.softmax(student) - p, 0), atol=1e-6
    )
    assert not np.any(to_teacher)


# Schedules


def cosine(train: TrainConfig, step: int) -> float:
    if step < train.warmup_steps:
        return (
            train.warmup_learning_rate
            + (train.learning_rate - train.warmup_learning_rate) * step / train.warmup_steps
        )
    progress = min((step - train.warmup_steps) / (train.steps - train.warmup_steps), 1.0)
    return train.final_learning_rate + (train.learning_rate - train.final_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * progress)
    )


def inverse_sqrt(train: TrainConfig, step: int) -> float:
    return (
        cosine(train, step)
        if step < train.warmup_steps
        else train.learning_rate * math.sqrt(max(train.warmup_steps, 1) / max(step, 1))
    )


@pytest.mark.parametrize("formula", [cosine, inverse_sqrt])
@pytest.mark.parametrize("step", [0, 1, 100, 199, 200, 201, 600, 999, 1000, 2000])
def test_schedule(formula: Any, step: int) -> None:
    train = TrainConfig(steps=1000, warmup_steps=200, learning_rate=2e-3, schedule=formula.__name__)
    np.testing.assert_allclose(
        schedule(train)(jnp.asarray(step)), formula(train, step), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize(
    ("kind", "steps", "rates"),
    [
        ("cosine", (0, 200, 1000), (1e-7, 1e-3, 1e-7)),
        ("inverse_sqrt", (0, 200, 800), (1e-7, 1e-3, 5e-4)),
    ],
)
def test_schedule_ends(kind: str, steps: tuple[int, ...], rates: tuple[float, ...]) -> None:
    run = schedule(TrainConfig(steps=1000, warmup_steps=200, schedule=kind))
    np.testing.assert_allclose(
        [run(jnp.asarray(step)) for step in steps], rates, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("kind", ["cosine", "inverse_sqrt"])
def test_schedule_without_warm_up_starts_at_the_peak(kind: str) -> None:
    train = TrainConfig(steps=1000, warmup_steps=0, schedule=kind)
    np.testing.assert_allclose(schedule(train)(jnp.asarray(0)), train.learning_rate, rtol=1e-6)


def test_clipping_and_weight_decay() -> None:
    params, gradients = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([30.0, 40.0])}
    train = dataclasses.replace(TRAIN, clip_norm=1.0, weight_decay=0.1)
    transform = optimizer(train)
    updates, state = transform.update(gradients, transform.init(params), params)
    np.testing.assert_allclose(
        optax.tree_utils.tree_get(state, "mu")["w"], (1 - BETA1) * jnp.array([0.6, 0.8]), rtol=1e-5
    )
    np.testing.assert_allclose(updates["w"], -1e-4 * (1 + 0.1 * params["w"]), rtol=1e-4)


def test_two_passes_are_two_cross_entropies_and_their_divergence() -> None:
    """THOR: each pass draws its own experts; in a SuperNet each cross entropy counts half."""
    router = RouterConfig(kind="random")
    train = dataclasses.replace(TRAIN, passes=2, consistency=5.0)
    arch, key = SMALL.largest(), jax.random.key(1)  # for which the passes draw differently
    for network, each in (
        (random_network(SMALL, VOCAB, router=router), 0.5),
        (random_network(SMALL, VOCAB, arch=arch, router=router), 1.0),
    ):
        step = quick_jit(make_train_step(network.spec, train, ForwardOptions()).__wrapped__)
        state, metrics = step(init_state(network, train), batch(), stacked(arch), key)
        rng = split(jax.random.fold_in(key, 0), 1)[0]

        def parts(
            params: Any, network: Network = network, rng: jax.Array = rng
        ) -> tuple[jax.Array, ...]:
            source, target = (jnp.concatenate([jnp.asarray(side)] * 2) for side in (SOURCE, TARGET))
            forward_options = ForwardOptions(passes=2)
            logits = apply(
                Network(params, network.spec),
                arch,
                source,
                shift_right(target, PAD),
                forward_options=forward_options,
                rng=rng,
            ).logits
            real = jnp.asarray(TARGET != PAD)
            entropies = [
                label_smoothed(half, jnp.asarray(TARGET), pad_id=PAD, smoothing=0.1).loss
                for half in jnp.split(logits, 2)
            ]
            p, q = (jax.nn.softmax(half) for half in jnp.split(logits, 2))
            apart = 0.5 * jnp.sum(((p - q) * (jnp.log(p) - jnp.log(q))).sum(-1) * real)
            return *entropies, apart

        def objective(
            params: Any, each: float = each, parts: Any = parts
        ) -> tuple[jax.Array, jax.Array]:
            first, second, apart = parts(params)
            return (each * (first + second) + 5.0 * apart) / TOKENS, apart

        (loss, apart), expected = quick_jit(jax.value_and_grad(objective, has_aux=True))(
            network.params
        )
        np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
        np.testing.assert_allclose(metrics.disagreement, apart / TOKENS, rtol=1e-4)
        assert metrics.disagreement > 0.01
        assert metrics.tokens == TOKENS
        assert_close(gradient(state), expected)


def test_z_loss_moves_the_router() -> None:
    plain, with_loss = (
        compiled(z_loss=z)(fresh(), batch(), stacked(LARGEST), KEY)[0] for z in (0.0, 1.0)
    )
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), gradient(plain), gradient(with_loss)
    )
    assert moved["encoder"]["layer_0"]["experts"]["router_kernel"] > 1e-4
    # after the last router
    assert moved["decoder"]["layer_0"]["experts_norm"]["scale"] == pytest.approx(0, abs=1e-7)


def test_sandwich_of_a_classifier_counts_its_classes_not_the_vocabulary() -> None:
    space = dataclasses.replace(SMALL, decoder_layers=(0,))
    spec = Spec(space, VOCAB, classes=7)
    step = make_train_step(spec, dataclasses.replace(TRAIN, sampling="sandwich"), ForwardOptions())
    classes = np.full((1, len(SOURCE), 1), 5, np.int32)
    archs = stacked(space.largest(), space.smallest(), space.smallest())
    state = jax.eval_shape(
        lambda params: init_state(Network(params, spec), TRAIN), abstract(spec).params
    )
    after, metrics = jax.eval_shape(
        step, state, {"source": SOURCE[None], "target": classes}, archs, KEY
    )
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert metrics.loss.shape == ()
