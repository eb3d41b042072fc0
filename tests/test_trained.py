"""The networks that the found one is compared with and what routers cost, from a run's files."""

import dataclasses
import json

import pytest
from etils import epath

from automoe_jax import trained
from automoe_jax.arch import Arch
from automoe_jax.config import Config, RetrainConfig, SearchConfig
from automoe_jax.report.rows import Role
from automoe_jax.routers import RouterConfig
from automoe_jax.runtime.files import write_json
from automoe_jax.stages.files import read, written
from automoe_jax.workdir import Workdir

CONFIG = Config(search=SearchConfig(max_flops=1e12))
FOUND, SMALLEST = CONFIG.space.largest(), CONFIG.space.dense().smallest()
DENSE = CONFIG.space.largest_dense()


@pytest.fixture
def workdir(tmp_path: epath.Path) -> Workdir:
    made = Workdir(epath.Path(tmp_path))
    write_json(made.arch_path, FOUND.to_dict())
    return made


def searched(workdir: Workdir, rival: Arch) -> Workdir:
    write_json(workdir.rival_arch_path, rival.to_dict())
    return workdir


def test_the_rival_is_trained_before_the_largest_dense(workdir: Workdir):
    assert trained.compared(CONFIG, workdir) == [Role.DENSE]
    searched(workdir, SMALLEST)
    assert trained.compared(CONFIG, workdir) == [Role.RIVAL, Role.DENSE]
    assert trained.arch(CONFIG, workdir, Role.RIVAL) == SMALLEST
    without = dataclasses.replace(CONFIG, search=SearchConfig(max_flops=1e12, dense_rival=False))
    assert trained.compared(without, workdir) == [Role.DENSE]


@pytest.mark.parametrize(("rival", "role"), [(FOUND, Role.RETRAINED), (DENSE, Role.DENSE)])
def test_a_rival_that_is_trained_anyway(workdir: Workdir, rival: Arch, role: Role):
    searched(workdir, rival)
    assert trained.twin_of_rival(CONFIG, workdir) is role
    assert trained.compared(CONFIG, workdir) == [Role.DENSE]
    alone = dataclasses.replace(CONFIG, retrain=RetrainConfig(dense_baseline=False))
    left = [Role.RIVAL] if role is Role.DENSE else []
    assert trained.compared(alone, workdir) == left


def test_its_files_are_those_of_the_stages(workdir: Workdir):
    searched(workdir, SMALLEST)
    assert workdir.rival_arch_path in written("search", CONFIG, workdir)
    assert workdir.rival_arch_path in read("retrain", CONFIG, workdir)
    assert workdir.rival / "summary.json" in written("retrain", CONFIG, workdir)


def test_costs_are_of_the_last_measured_numbers_of_experts(workdir: Workdir):
    config = dataclasses.replace(CONFIG, router=RouterConfig(kind="importance"))
    experts = [len(widths) for widths in (*FOUND.encoder_experts, *FOUND.decoder_experts)]
    evenly = tuple((count + 1) / 2 for count in experts)
    assert experts_of(config, workdir) == evenly, "no run has measured them yet"
    first, last = [3.0] * len(experts), [None, *[1.4] * (len(experts) - 1)]
    workdir.retrained.mkdir(parents=True)
    records = (
        {"step": 2, "experts_per_token": first},
        {"step": 4, "experts_per_token": last},
        {"step": 4, "validation_nll": 2.0},
    )
    (workdir.retrained / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    assert experts_of(config, workdir) == (1.0, *last[1:])
    assert experts_of(config, workdir, Role.INHERITED) == evenly, "the SuperNet's are of many"
    assert experts_of(CONFIG, workdir) is None, "a fixed K is not measured"


def experts_of(config: Config, workdir: Workdir, role: Role = Role.RETRAINED):
    return trained.router_costs(config, workdir, role).experts_per_token
