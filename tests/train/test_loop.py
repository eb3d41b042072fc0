"""Training loop: exact resumption, broken checkpoints, a loss that is not finite, and the final
weights.
"""

import functools
import json
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import DataConfig, TrainConfig
from automoe_jax.data.batching import TokenPairs, evaluation_batches, train_batches
from automoe_jax.errors import UserError
from automoe_jax.model import ForwardOptions, Network, init
from automoe_jax.runtime.interruption import Interrupted
from automoe_jax.space import SearchSpace
from automoe_jax.train import loop, runs
from automoe_jax.train.loop import Run, train
from automoe_jax.train.metrics import MetricsWriter, read_metrics

SPACE = SearchSpace(
    qkv_dim=8,
    encoder_embed_dims=(8,),
    decoder_embed_dims=(8,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_self_heads=(2,),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    cross_layers=(1,),
    encoder_experts=(1, 2),
    decoder_experts=(1,),
    expert_ffn_dims=(8,),
)
VOCABULARY = 20
BUCKETS = (8,)


def token_pairs(seed: int, count: int) -> TokenPairs:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(4, VOCABULARY, offsets[-1]).astype(np.int32)
    return TokenPairs(tokens, offsets, tokens[::-1].copy(), offsets)


TRAINING, VALIDATION = token_pairs(0, 60), token_pairs(1, 10)


def settings(steps: int = 10, **changes: Any) -> TrainConfig:
    fixed = {
        "tokens_per_batch": 64,
        "warmup_steps": 2,
        "schedule": "inverse_sqrt",  # a shorter run has the same rates
        "log_every": 2,
        "evaluate_every": 5,
        "checkpoint_every": 5,
    }
    return TrainConfig(steps=steps, **fixed | changes)


def a_run(folder: pathlib.Path, **changes: Any) -> Run:
    def archs(step: int) -> list[Arch]:
        return [SPACE.sample(np.random.default_rng(step))]

    return Run(
        "test",
        epath.Path(folder),
        settings(**changes),
        ForwardOptions(0.1, 0.1),
        0,
        archs,
        {"largest": SPACE.largest()},
    )


@pytest.fixture(autouse=True, scope="module")
def _one_compilation() -> Iterator[None]:
    """Runs with equal settings share their compiled update and validation."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_train_step", "make_eval_step"):
            patch.setattr(loop, name, functools.cache(getattr(loop, name)))
        yield


@functools.cache
def initial() -> Network:
    return init(SPACE, VOCABULARY, jax.random.key(0))


def trained(run: Run, steps: int | None = None) -> Network:
    if steps is not None:
        run = run._replace(train=settings(**{**vars(run.train), "steps": steps}))
    network = jax.tree.map(jnp.copy, initial())  # an update donates its state
    batches = train_batches(TRAINING, BUCKETS, 64, 0)
    return train(run, network, batches, evaluation_batches(VALIDATION, BUCKETS, 64)).network


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """After ten updates without an interruption."""
    return trained(a_run(tmp_path_factory.mktemp("straight"), average_checkpoints=1))


def test_ten_updates_are_five_and_five(tmp_path: pathlib.Path) -> None:
    straight = trained(a_run(tmp_path / "straight", average_checkpoints=1))
    broken = a_run(tmp_path / "broken", average_checkpoints=1)
    trained(broken, steps=5)
    resumed = trained(broken)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, straight.params)
    losses = [
        [record.get("loss") for record in read_metrics(tmp_path / name)]
        for name in ("straight", "broken")
    ]
    assert losses[0][-1] == losses[1][-1]


@pytest.mark.parametrize("update", [3, 10], ids=["in between", "the last"])
@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")],
)
def test_an_update_in_which_a_signal_arrives_is_saved(
    update: int, number: int, name: str, straight: Network, tmp_path: pathlib.Path
) -> None:
    run = a_run(tmp_path / "stopped", average_checkpoints=1)

    def archs(step: int) -> list[Arch]:
        if step == update and not list((tmp_path / "stopped" / "checkpoints").glob(str(update))):
            signal.raise_signal(number)
        return run.archs(step)

    with pytest.raises(
        Interrupted, match=rf"stopped by {name} after update {update}, which is saved"
    ) as raised:
        trained(run._replace(archs=archs))
    assert raised.value.exit_code == 128 + number
    assert (tmp_path / "stopped" / "checkpoints" / str(update)).is_dir()
    resumed = trained(run)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, straight.params)


def test_a_broken_checkpoint_is_named_and_the_one_before_taken(
    straight: Network, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = a_run(tmp_path / "broken", average_checkpoints=1)
    trained(run)
    checkpoints = tmp_path / "broken" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir() if path.is_dir()) == ["10", "5"]
    for path in (checkpoints / "10" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = trained(run)
    assert "checkpoint 10 cannot be read" in caplog.text
    assert "falling back to the one before" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, again.params, straight.params)


def test_a_loss_that_is_no_number_names_update_and_architecture(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        UserError, match=r"not finite at update \d+ of architecture \{.*lower learning_rate"
    ):
        trained(a_run(tmp_path, learning_rate=1e30, warmup_steps=0))


def test_a_complete_run_is_loaded_not_repeated(tmp_path: pathlib.Path) -> None:
    run, data = a_run(tmp_path), DataConfig(buckets=BUCKETS)

    def start() -> Network:
        return jax.tree.map(jnp.copy, initial())

    first = runs.complete(run, start, data, TRAINING, VALIDATION)
    assert first.updates == 10
    assert first.tokens == sum(record.get("tokens", 0) for record in read_metrics(tmp_path))

    def never() -> Network:
        raise AssertionError("a finished run must not start")

    assert runs.complete(run, never, data, TRAINING, VALIDATION) == first
    spec = start().spec
    loaded = runs.load(run.folder, spec)
    assert jax.tree.structure(loaded) == jax.tree.structure(start())
    with pytest.raises(UserError, match="no finished training"):
        runs.load(epath.Path(tmp_path / "elsewhere"), spec)


def test_resumed_metrics_have_no_line_twice(tmp_path: pathlib.Path) -> None:
    with MetricsWriter(tmp_path, 0) as writer:
        for step in (1, 2, 3):
            writer.write(step, {"loss": float(step), "routing_entropy": [0.5, None]})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with MetricsWriter(tmp_path, 2) as writer:
        writer.write(3, {"loss": 30.0})
    assert [(record["step"], record["loss"]) for record in read_metrics(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
