"""Sharded equals unsharded: values, gradients, updates and shardings on meshes of eight devices.

pytest does not collect this file by itself: JAX must have started with eight devices, so
`test_eight_devices.py` runs it in a separate process. A mesh of one device needs no test here: its
`Placement` is `ONE_DEVICE`, the reference.
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from jax.sharding import PartitionSpec as P

from automoe_jax.arch import Arch
from automoe_jax.config import MeshConfig, TrainConfig
from automoe_jax.data.batching import TokenPairs, evaluation_batches, train_batches
from automoe_jax.data.tokenizer import EOS, PAD
from automoe_jax.model import ForwardOptions, Network
from automoe_jax.model.network import abstract
from automoe_jax.ops.grouped import ExpertDropout, ExpertRows, Experts, TableShape
from automoe_jax.ops.grouped.capacity import capacity_ffn
from automoe_jax.ops.grouped.parallel import parallel_experts_ffn
from automoe_jax.routers import RouterConfig
from automoe_jax.runtime.sharding import ONE_DEVICE, Placement, make_mesh
from automoe_jax.train import loop
from automoe_jax.train import step as step_module
from automoe_jax.train.checkpoint import load_params, save_params
from automoe_jax.train.loop import Run
from automoe_jax.train.metrics import read_metrics
from automoe_jax.train.optim import optimizer
from automoe_jax.train.step import (
    TrainState,
    init_state,
    make_eval_step,
    make_train_step,
    state_shardings,
)
from tests.oracles import SPACE, random_network, routing

VOCAB, TARGET_VOCAB, STEPS, SGD_RATE = 32, 40, 5, 0.1
# Architectures may lack the decoder's second layer. Genes that sharding does not affect are fixed.
SMALL = dataclasses.replace(
    SPACE,
    decoder_embed_dims=(16,),
    encoder_layers=(1,),
    decoder_layers=(1, 2),
    encoder_self_heads=(2,),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    cross_layers=(1,),
)
# Every block of a layer may be absent, cross attention of the only decoder layer aside.
SKIPPING = dataclasses.replace(
    SMALL,
    encoder_self_heads=(0, 2),
    decoder_self_heads=(0, 2),
    decoder_cross_heads=(0, 2),
    encoder_experts=(0, 2),
    decoder_experts=(0, 2),
)
TRAIN = TrainConfig(
    steps=10, warmup_steps=2, warmup_learning_rate=1e-3, learning_rate=1e-2, balance_loss=0.01
)
KEY = jax.random.key(0)
REGIME = ForwardOptions(0.2, 0.1)
MESHES = {
    "data": Placement(make_mesh(MeshConfig(8, 1, 1))),
    "expert": Placement(make_mesh(MeshConfig(2, 4, 1))),
    "model": Placement(make_mesh(MeshConfig(2, 2, 2))),
    "model fsdp": Placement(make_mesh(MeshConfig(2, 2, 2)), fsdp=True),
}


def heterogeneous() -> Arch:
    """An identity expert and two widths in the decoder, two widths in the encoder, up to two
    experts for a token.
    """

    def wanted(arch):
        return arch.encoder_experts[0] == (16, 8) and arch.decoder_experts == ((0, 8, 16),)

    drawn = (SMALL.sample(np.random.default_rng(seed)) for seed in range(10_000))
    return next(arch for arch in drawn if wanted(arch) and arch.decoder_top_k[0] == 2)


SUB = heterogeneous()
ARCHS = [
    SMALL.largest(),
    SUB,
    *(SMALL.sample(np.random.default_rng(seed)) for seed in range(STEPS - 2)),
]
SKIPPED = [
    *(SKIPPING.sample(np.random.default_rng(seed)) for seed in range(STEPS - 2)),
    SKIPPING.smallest(),
    SKIPPING.largest(),
]
# NumPy arrays, which are not donated.
NETWORKS = jax.device_get(
    {
        "SuperNet": random_network(SMALL, VOCAB),
        "SuperNet with skips": random_network(SKIPPING, VOCAB),
        "sub-Transformer": random_network(SMALL, VOCAB, arch=SUB),
        # the decoder has its own input and output tables, of another size
        "tables of each side": random_network(
            SMALL, VOCAB, arch=SUB, shared_embeddings="none", target_vocab_size=TARGET_VOCAB
        ),
    }
)
TRAINED = {"SuperNet": ARCHS, "SuperNet with skips": SKIPPED}  # the others: SUB


def tokens(seed: int) -> np.ndarray:
    """[1, 8, 6]: one sentence for each device, of 1 to 6 tokens."""
    rng = np.random.default_rng(seed)
    drawn, lengths = rng.integers(4, VOCAB, (1, 8, 6)).astype(np.int32), rng.integers(1, 7, 8)
    for row, length in zip(drawn[0], lengths, strict=True):
        row[length - 1], row[length:] = EOS, PAD
    return drawn


BATCH = {"source": tokens(0), "target": tokens(1)}


class Both(NamedTuple):
    """State of an optimizer that is Adam or, where `plain`, gradient descent: one compilation for
    two equality tests.
    """

    plain: jax.Array
    adam: optax.OptState
    gradient: Any


def adam_or_descent(train: TrainConfig) -> optax.GradientTransformation:
    adam = optimizer(train)

    def init(params: Any) -> Both:
        return Both(jnp.array(True), adam.init(params), optax.tree.zeros_like(params))

    def update(gradient: Any, state: Both, params: Any) -> tuple[Any, Both]:
        updates, after = adam.update(gradient, state.adam, params)
        chosen = jax.tree.map(
            lambda fast, slope: jnp.where(state.plain, -SGD_RATE * slope, fast), updates, gradient
        )
        return chosen, Both(state.plain, after, gradient)

    return optax.GradientTransformation(init, update)


class Outcome(NamedTuple):
    first: Any  # the state after one step of gradient descent
    last: TrainState  # after five
    losses: list[float]
    adam_losses: list[float]
    compilations: int


@functools.cache
def outcome(name: str, mesh: str | None) -> Outcome:
    """Five steps of either optimizer on one device or a mesh."""
    placement = MESHES[mesh] if mesh else ONE_DEVICE
    network: Network = NETWORKS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "optimizer", adam_or_descent)
        step = make_train_step(network.spec, TRAIN, ForwardOptions(), placement)
        placed = functools.partial(
            jax.device_put, device=state_shardings(network.spec, TRAIN, placement)
        )
        batch = jax.device_put(BATCH, placement.micro_batches)

        def run(state: TrainState) -> tuple[list[Any], list[float]]:
            losses, fetched = [], []
            for arch in TRAINED.get(name, [SUB] * STEPS):
                state, metrics = step(
                    state, batch, jax.tree.map(lambda gene: np.stack([gene]), arch), KEY
                )
                assert metrics.finite
                losses.append(float(metrics.loss))
                fetched.append(jax.device_get(state) if len(losses) < STEPS else state)
            return fetched, losses

        state = jax.device_get(init_state(network, TRAIN))
        states, losses = run(placed(state))
        _, adam_losses = run(
            placed(state._replace(opt_state=state.opt_state._replace(plain=np.array(False))))
        )
    return Outcome(states[0], states[-1], losses, adam_losses, step._cache_size())


def assert_close(found: Any, expected: Any, atol: float) -> None:
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=atol, rtol=1e-4),
        jax.device_get(found),
        jax.device_get(expected),
    )


# All three meshes for both optimizers; the last with FSDP for one of them.
CASES = [("SuperNet", "data"), ("SuperNet", "expert"), ("SuperNet", "model")]
CASES += [
    ("SuperNet with skips", "expert"),
    ("sub-Transformer", "data"),
    ("sub-Transformer", "expert"),
    ("sub-Transformer", "model fsdp"),
    ("tables of each side", "model fsdp"),
]
cases = pytest.mark.parametrize(("name", "mesh"), CASES)


@cases
def test_loss_and_gradients(name: str, mesh: str) -> None:
    found, expected = outcome(name, mesh), outcome(name, None)
    np.testing.assert_allclose(found.losses[0], expected.losses[0], rtol=1e-6)
    assert_close(found.first.opt_state.gradient, expected.first.opt_state.gradient, atol=1e-6)


@cases
def test_five_steps_of_gradient_descent(name: str, mesh: str) -> None:
    found, expected = outcome(name, mesh), outcome(name, None)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)
    assert_close(found.last.params, expected.last.params, atol=5e-6)


@cases
def test_five_steps_of_adam(name: str, mesh: str) -> None:
    """Compared by loss: Adam amplifies gradients that are zero up to rounding."""
    np.testing.assert_allclose(
        outcome(name, mesh).adam_losses, outcome(name, None).adam_losses, rtol=1e-4
    )


@cases
def test_everything_lies_where_the_rules_say(name: str, mesh: str) -> None:
    state, placement = outcome(name, mesh).last, MESHES[mesh]
    rows = P(("expert", "model"), "data" if placement.fsdp else None)
    expected = {
        "w_in": rows,
        "w_out": rows,
        "b_in": P(("expert", "model")),
        "b_out": P(None, "data" if placement.fsdp else None),
    }
    for params in (
        state.params,
        state.opt_state.gradient,
        optax.tree.get(state.opt_state.adam, "mu"),
    ):
        for array, spec in (
            (params["decoder"]["layer_0"]["experts"][key], spec) for key, spec in expected.items()
        ):
            assert array.sharding.is_equivalent_to(
                jax.NamedSharding(placement.mesh, spec), array.ndim
            )
    parts = placement.mesh.shape["expert"] * placement.mesh.shape["model"]
    table = state.params["encoder"]["layer_0"]["experts"]["b_in"]
    held = sorted(
        {(shard.index[0].start or 0, len(shard.data)) for shard in table.addressable_shards}
    )
    assert held == [(part * len(table) // parts, len(table) // parts) for part in range(parts)]
    for name_of_table, size in NETWORKS[name].spec.tables().items():
        array = state.params[name_of_table]["table"]
        assert {len(shard.data) for shard in array.addressable_shards} == {
            size.rows // placement.mesh.shape["model"]
        }


@cases
def test_one_compilation_for_all_architectures(name: str, mesh: str) -> None:
    assert outcome(name, mesh).compilations == 1


LENGTHS = np.random.default_rng(0).integers(1, 6, 40)
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
WORDS = np.random.default_rng(1).integers(4, VOCAB, OFFSETS[-1]).astype(np.int32)
PAIRS = TokenPairs(WORDS, OFFSETS, WORDS[::-1].copy(), OFFSETS)
# The schedule does not depend on the number of steps, so one compilation serves all runs.
LOOP = dataclasses.replace(
    TRAIN,
    tokens_per_batch=96,
    checkpoint_every=2,
    log_every=1,
    average_checkpoints=2,
    schedule="inverse_sqrt",
    learning_rate=1e-3,
)


@pytest.fixture
def one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares compiled steps of a placement between the runs of a test."""
    train_step, eval_step = functools.cache(make_train_step), functools.cache(make_eval_step)
    monkeypatch.setattr(
        loop, "make_train_step", lambda spec, _, *rest: train_step(spec, LOOP, *rest)
    )
    monkeypatch.setattr(loop, "make_eval_step", eval_step)


def trained(
    folder: pathlib.Path, steps: int, forward_options: ForwardOptions, placement: Placement
) -> loop.Trained:
    """The sub-Transformer after this number of updates, resumed from the folder; 16 sentences per
    batch on any mesh.
    """
    run = Run(
        "test",
        epath.Path(folder),
        dataclasses.replace(LOOP, steps=steps),
        forward_options,
        0,
        lambda _: [SUB],
        {"": SUB},
        placement,
    )
    parts = placement.sentence_parts
    batches = train_batches(PAIRS, (6,), 96, 0, multiple_of=parts)
    network = jax.tree.map(jnp.asarray, NETWORKS["sub-Transformer"])
    return loop.train(run, network, batches, evaluation_batches(PAIRS, (6,), 96, multiple_of=parts))


@pytest.mark.usefixtures("one_compilation")
def test_the_loop_on_a_mesh(tmp_path: pathlib.Path) -> None:
    """With dropout and all axes: an interrupted run equals an uninterrupted one, and its weights
    load on any mesh.
    """
    straight = trained(tmp_path / "straight", 4, REGIME, MESHES["model fsdp"]).network
    trained(tmp_path / "broken", 2, REGIME, MESHES["model fsdp"])
    resumed = trained(tmp_path / "broken", 4, REGIME, MESHES["model fsdp"]).network
    jax.tree.map(np.testing.assert_array_equal, resumed.params, straight.params)
    save_params(tmp_path / "final", straight.params)
    jax.tree.map(
        np.testing.assert_array_equal,
        load_params(tmp_path / "final", abstract(straight.spec).params),
        straight.params,
    )


@pytest.mark.usefixtures("one_compilation")
def test_a_run_moves_from_eight_devices_to_four_and_to_one(tmp_path: pathlib.Path) -> None:
    """Its text continues at the same place, so its losses equal those of a run on one mesh; without
    dropout, which depends on the mesh.
    """
    four = Placement(make_mesh(MeshConfig(2, 2, 1), jax.devices()[:4]))
    trained(tmp_path / "stays", 6, ForwardOptions(), MESHES["model fsdp"])
    for steps, placement in ((2, MESHES["model fsdp"]), (4, four), (6, ONE_DEVICE)):
        moved = trained(tmp_path / "moves", steps, ForwardOptions(), placement)
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(moved.network.params))
    losses = [
        [
            record[name]
            for record in read_metrics(tmp_path / run)
            for name in ("loss", "validation_nll")
            if name in record
        ]
        for run in ("stays", "moves")
    ]
    assert len(losses[0]) == len(losses[1]) == 9
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_experts_drop_other_units_on_every_device() -> None:
    """All units are 1 with weight 1/16: the output is the kept share divided by the rate, and
    differs between tokens.
    """
    units, tokens, width = 16, 64, 4
    experts = Experts(
        jnp.zeros((units, width)),
        jnp.ones(units),
        jnp.full((units, width), 1 / units),
        jnp.zeros((2, width)),
    )
    chosen = jnp.zeros((tokens, 1), jnp.int32)
    expert_rows = ExpertRows(np.array([0, 16]), np.array([16, -1]))
    placement = MESHES["model"]

    def run(key: jax.Array) -> jax.Array:
        rates = jnp.array([0.25, 0.0])
        ones = jnp.ones((tokens, 1))
        return parallel_experts_ffn(
            jnp.ones((tokens, width)),
            routing(chosen, ones),
            experts,
            expert_rows,
            TableShape(max_widths=(16, 0), ffn_dims=(16,), exact=True),
            ExpertDropout(rates, 0.0, key),
        )

    kept = (
        np.asarray(
            placement.jit(run, placement.everywhere, placement.batch)(jax.random.key(3, impl="rbg"))
        )[:, 0]
        * 0.75
        * units
    )
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-3)
    assert abs(kept.mean() / units - 0.75) < 0.05
    # of independent draws
    np.testing.assert_allclose(kept.std(), np.sqrt(units * 0.25 * 0.75), rtol=0.25)
    halves = np.split(kept, 2)
    assert np.mean(halves[0] == halves[1]) < 0.5, (
        "tokens of different devices along `data` must not share their draws"
    )


@pytest.mark.parametrize("mesh", ["data", "expert", "model"])
def test_a_bounded_number_of_tokens_travels_to_whole_experts_and_back(mesh: str) -> None:
    """Each device fills its own places: computing the devices with different tokens one after
    another gives the same.
    """
    count, units, width, tokens, factor = 4, 8, 4, 64, 1.0
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    x, gates, cotangent = normal(tokens, width), normal(tokens, 1), normal(tokens, width)
    experts = Experts(
        normal(count * units, width),
        normal(count * units),
        normal(count * units, width),
        normal(count, width),
    )
    chosen, counted = (
        jnp.asarray(rng.integers(0, count, (tokens, 1)), jnp.int32),
        jnp.asarray(rng.random(tokens) < 0.8),
    )

    def run(x: Any, gates: Any, experts: Any, chosen: Any, counted: Any, cotangent: Any) -> Any:
        y, pullback, kept = jax.vjp(
            lambda *args: capacity_ffn(args[0], routing(chosen, args[1]), counted, args[2], factor),
            x,
            gates,
            experts,
            has_aux=True,
        )
        return y, kept, pullback(cotangent)

    placement = MESHES[mesh]
    y, kept, (dx, d_gates, d_experts) = placement.jit(run, placement.everywhere, None)(
        x, gates, experts, chosen, counted, cotangent
    )
    groups = placement.sentence_parts
    pieces = [jnp.split(array, groups) for array in (x, gates, chosen, counted, cotangent)]
    parts = [run(a, b, experts, c, d, e) for a, b, c, d, e in zip(*pieces, strict=True)]
    np.testing.assert_array_equal(kept, np.concatenate([part[1] for part in parts]))
    assert np.sum(~np.asarray(kept[:, 0]) & np.asarray(counted)) > 0
    for found, expected in ((y, 0), (dx, 0), (d_gates, 1)):
        pieces = [part[0] if found is y else part[2][expected] for part in parts]
        np.testing.assert_allclose(found, np.concatenate(pieces), atol=1e-5)
    jax.tree.map(
        lambda one, *each: np.testing.assert_allclose(one, sum(each), atol=1e-4),
        d_experts,
        *(part[2][2] for part in parts),
    )


def test_every_router_gives_on_a_mesh_what_it_gives_on_one_device() -> None:
    """Without dropout; random routers draw the same."""
    for router in (
        RouterConfig(kind="importance"),
        RouterConfig(kind="random"),
        RouterConfig(kind="random", draw="fixed"),
    ):
        network = jax.device_get(random_network(SMALL, VOCAB, arch=SUB, router=router))
        batch = {"source": tokens(0)[0], "target": tokens(1)[0]}
        sums = [
            make_eval_step(network.spec, ForwardOptions(), placed)(network.params, batch, SUB)
            for placed in (ONE_DEVICE, MESHES["expert"])
        ]
        np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5)
