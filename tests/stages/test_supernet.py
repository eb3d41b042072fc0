"""The sub-networks that the updates of a SuperNet train."""

import collections
import json
import pathlib

import numpy as np
import pytest

from automoe_jax.arch import Arch
from automoe_jax.config import Config, default_config, from_config_dict
from automoe_jax.search.limits import Conditions, cost_function
from automoe_jax.stages.supernet import FAIR_UPDATES, TrainedPart, sampled, trained_part
from tests.stages.test_pipeline import command, run
from tests.stages.tiny import get_config

DEMO = pathlib.Path(__file__).parents[2] / "configs" / "demo.py"
VOCAB_SIZE = 320


def config(**settings: object) -> Config:
    """The tiny configuration with the limit that a third of its architectures meet."""
    values = get_config()
    with values.unlocked():
        values.search.max_flops = 465e3
        values.supernet.within_limits = True
        for name, value in settings.items():
            values.supernet[name] = value
    return from_config_dict(values)


def part_of(config: Config) -> TrainedPart:
    return trained_part(config, Conditions(config.search, config.router, VOCAB_SIZE))


def flops(tiny: Config, arch: Arch) -> float:
    return cost_function(Conditions(tiny.search, tiny.router, VOCAB_SIZE))(arch)["flops"]


def test_updates_train_what_the_limit_admits() -> None:
    tiny = config()
    trained = part_of(tiny)
    drawn = [sampled(tiny, trained, step)[0] for step in range(1, 201)]
    admitted = [arch for arch in drawn if flops(tiny, arch) <= tiny.search.max_flops]
    assert admitted == drawn
    assert len(set(drawn)) > 20
    whole = config(within_limits=False)
    of_all = part_of(whole)
    everything = [sampled(whole, of_all, step)[0] for step in range(1, 201)]
    beyond = [arch for arch in everything if flops(tiny, arch) > tiny.search.max_flops]
    assert 60 < len(beyond) < 180
    assert {int(arch.decoder_layers) for arch in everything} == {1, 2}
    assert abs(trained.admitted - (1 - len(beyond) / 200)) < 0.03


def test_an_update_depends_on_the_seed_and_its_number_alone() -> None:
    """Every process draws the same, and a resumed run draws what an uninterrupted one does."""
    tiny = config()
    once, again = part_of(tiny), part_of(tiny)
    forwards = [sampled(tiny, once, step) for step in range(20)]
    backwards = [sampled(tiny, again, step) for step in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert len(collections.Counter(archs[0] for archs in forwards)) > 5


def test_the_largest_of_a_sandwich_is_the_largest_admitted() -> None:
    tiny = config(sampling="sandwich", sandwich_random=3)
    trained = part_of(tiny)
    largest, smallest, *others = sampled(tiny, trained, 1)
    assert largest == trained.largest != tiny.space.largest()
    assert smallest == tiny.space.smallest()
    assert len(others) == 3
    drawn = [sampled(tiny, trained, step)[2] for step in range(1, 101)]
    most = max(flops(tiny, arch) for arch in drawn)
    assert most <= flops(tiny, largest) <= tiny.search.max_flops
    whole = config(sampling="sandwich", within_limits=False)
    assert sampled(whole, part_of(whole), 1)[0] == tiny.space.largest()


def test_the_first_updates_may_train_the_largest_alone() -> None:
    tiny, started = config(), config(largest_steps=3)
    trained = part_of(tiny)
    updates = range(1, 4)
    assert [sampled(started, trained, step) for step in updates] == [[trained.largest]] * 3
    later = range(4, 20)
    assert [sampled(started, trained, step) for step in later] == [
        sampled(tiny, trained, step) for step in later
    ]


def test_fair_updates_train_every_choice_equally_often() -> None:
    fair = config(sampling="fair", within_limits=False)
    trained = part_of(fair)
    drawn = [sampled(fair, trained, step)[0] for step in range(1, FAIR_UPDATES + 1)]
    half = FAIR_UPDATES // 2
    assert sum(int(arch.decoder_layers) == 1 for arch in drawn) == half
    assert sum(arch.encoder_self_heads[0] == 1 for arch in drawn) == half
    assert sum(arch.encoder_ffn_dims[0][0] == 16 for arch in drawn) == half
    assert sum(arch.encoder_ffn_dims[0][1] > 0 for arch in drawn) == half
    assert len(set(drawn)) > half


def test_without_a_limit_updates_train_the_whole_space() -> None:
    values = default_config()
    plain = from_config_dict(values)
    trained = part_of(plain)
    assert trained.largest == plain.space.largest()
    assert trained.admitted == 1
    expected = plain.space.sample(np.random.default_rng([plain.seed, 7]))
    assert sampled(plain, trained, 7) == [expected]


@pytest.mark.slow
def test_sandwich_sampling_learns(tmp_path: pathlib.Path) -> None:
    """Within 300 updates of the built-in text. With distillation alone and from the start, the
    others learn from an untrained teacher, and the largest stays at the frequencies of the pieces.
    """
    alone = (
        "--config.supernet.distillation_weight=1.0",
        "--config.supernet.distillation_warmup=0.0",
    )
    assert after_300_updates(tmp_path / "mixed") < 1.5
    assert after_300_updates(tmp_path / "alone", *alone) > 4.5


def after_300_updates(workdir: pathlib.Path, *settings: str) -> float:
    """Validation loss of the largest architecture of the demo's SuperNet."""
    flags = (
        "--config.stages=prepare,supernet",
        "--config.search.max_latency_share=0",
        "--config.search.objective=flops",
        "--config.supernet.sampling=sandwich",
        "--config.supernet.steps=300",
        "--config.supernet.tokens_per_batch=1024",
    )
    done = run(command(workdir, *flags, *settings, config=DEMO))
    assert done.returncode == 0, done.stderr.decode()
    return json.loads((workdir / "supernet" / "summary.json").read_text())["validation_nll"]
