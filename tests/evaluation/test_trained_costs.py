"""Expected costs of a router whose number of experts depends on the tokens."""

import dataclasses
import json
import pathlib

from etils import epath

from automoe_jax.config import Config
from automoe_jax.costs import RouterCosts
from automoe_jax.evaluation.networks import _trained_costs
from automoe_jax.report.rows import Role
from automoe_jax.routers import RouterConfig

EVENLY = RouterCosts(experts_per_token=(2.5, 1.0, 2.5))


def costs(folder: pathlib.Path, kind: str, role: Role = Role.RETRAINED) -> RouterCosts:
    config = dataclasses.replace(Config(), router=RouterConfig(kind=kind))
    return _trained_costs(EVENLY, config, role, epath.Path(folder))


def test_the_last_measured_numbers_replace_the_even_ones(tmp_path: pathlib.Path) -> None:
    assert costs(tmp_path, "importance") == EVENLY, "no run has measured them yet"
    records = [
        {"step": 2, "experts_per_token": [3.0, None, 3.5]},
        {"step": 4, "experts_per_token": [1.4, None, 1.6]},
        {"step": 4, "validation_nll": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    assert costs(tmp_path, "importance").experts_per_token == (1.4, 1.0, 1.6)
    assert costs(tmp_path, "importance", Role.INHERITED) == EVENLY
    assert costs(tmp_path, "topk") == EVENLY
