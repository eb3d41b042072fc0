"""docs/BENCHMARKS.md: rows with one title form one table with its own columns."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.export.untrained import untrained
from automoe_jax.inference.engine.hypotheses import Records
from benchmarks import deploy, deploy_models, deploy_routes, deploy_worker, harness, learning, parts
from benchmarks.harness import Row
from benchmarks.render import tables


def test_rows_of_one_title_form_a_table() -> None:
    rows = [
        Row("Speed", {"batch": "1", "ms": "7.8"}, "≤ 8", True),
        Row("Speed", {"batch": "32", "ms": "40.1"}, "≤ 30", False),
        Row("Speed", {"batch": "64", "ms": "80.0"}),
        Row("Memory", {"program": "dense", "MB": "12"}),
    ]
    assert tables([dataclasses.asdict(row) for row in rows]) == [
        "**Speed**\n\n"
        "| batch | ms | goal | result |\n"
        "| ---: | ---: | --- | --- |\n"
        "| 1 | 7.8 | ≤ 8 | met |\n"
        "| 32 | 40.1 | ≤ 30 | **not met** |\n"
        "| 64 | 80.0 | – | – |\n",
        "**Memory**\n\n| program | MB |\n| --- | ---: |\n| dense | 12 |\n",
    ]


def test_a_row_prints_as_one_line() -> None:
    assert str(Row("Speed", {"ms": "7.8"}, "≤ 8", True)) == "Speed: ms 7.8 (goal ≤ 8: met)"
    assert str(Row("Speed", {"ms": "9.1"}, "≤ 8", False)) == "Speed: ms 9.1 (goal ≤ 8: NOT met)"
    assert str(Row("Speed", {"ms": "9.1"})) == "Speed: ms 9.1"


def test_products_of_a_program_are_told_from_the_rest() -> None:
    x = jnp.ones((64, 64))
    kinds = [
        list(parts.kinds_of(jax.jit(function).lower(x).compile().as_text()).values())
        for function in (lambda x: jnp.tanh(x @ x) @ x, jnp.tanh)
    ]
    assert [parts.PRODUCTS in of for of in kinds] == [True, False]
    assert all(parts.OTHERS in of for of in kinds)


def test_cases_that_are_in_the_file_are_not_measured_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, measured = tmp_path / "results" / "rows.json", []
    monkeypatch.setattr(harness, "machine", dict)

    def rows_of(name: str) -> list[Row]:
        measured.append(name)
        return [Row("Speed", {"case": name}), Row("Memory", {"case": name})]

    def run(*names: str, seconds: float = 60.0) -> None:
        cases = {name: functools.partial(rows_of, name) for name in names}
        harness.run_by_case(cases, path, seconds)

    run("a")
    run("a", "b")
    assert measured == ["a", "b"]
    found = [(row["table"], row["case"]) for row in json.loads(path.read_text())["rows"]]
    assert found == [("Speed", "a"), ("Speed", "b"), ("Memory", "a"), ("Memory", "b")]
    run("a", "b", "c", seconds=-1.0)
    assert measured == ["a", "b"]


def test_bytes_of_a_step() -> None:
    arch = deploy_models.architecture(4, 2, [[8]], [[8, 8]])
    step, once = deploy.bytes_read(arch, 100, 4)
    # the vocabulary; q, k, v and out, then q and out of cross attention; one expert
    assert step == 4 * (100 * 4 + 6 * 16 + 2 * 4 * 8)
    # the same of the encoder's layer, and keys and values for cross attention
    assert once == 4 * (4 * 16 + 2 * 4 * 8 + 2 * 16)


def test_published_architectures_have_the_published_costs() -> None:
    published = {"AutoMoE, standard experts": 45, "Transformer-Big": 176}
    for name, millions in published.items():
        found = costs(deploy_models.paper_archs()[name], 30, 30, deploy_models.PAPER_VOCABULARY)
        assert round(found.active_params / 1e6) == millions


def test_an_engine_process_makes_all_steps(tmp_path: pathlib.Path) -> None:
    arch = deploy_models.architecture(16, 2, [[32]], [[32]])
    settings = deploy_models.settings_of(arch, 50)
    deploy_models.build_engine(arch, settings, untrained(arch, settings), tmp_path)
    translate = deploy_worker.engine(tmp_path / "int8", 2, 20)
    source = np.random.default_rng(0).integers(4, 50, (3, deploy_worker.STEPS))
    assert sum(map(len, translate(source, 2))) == 3
    assert deploy_worker.turn(translate, source, 2) > 0


def test_the_widest_expert_remains_alone() -> None:
    arch = deploy_models.architecture(16, 2, [[32, 8]], [[8, 32], [16]])
    dense = deploy_routes.widest_alone(arch)
    assert list(map(tuple, dense.decoder_experts)) == [(32,), (16,)]
    assert list(map(tuple, dense.encoder_experts)) == [(32, 8)]


def test_distinct_experts_are_those_of_all_hypotheses() -> None:
    arch = deploy_models.architecture(16, 2, [[32]], [[8, 32], [16]])
    gates = np.array([[[1, 0, 1, 0, 1, 1]], [[0, 0.5, 1, 0, 0.5, 1]]], np.float32)
    nothing = dict.fromkeys(Records._fields) | {"gates": gates}
    assert deploy_routes.distinct_experts(Records(**nothing), 2, arch) == [1.5, 1.0]


def test_a_shorter_training_of_initial_weights() -> None:
    train = learning.configuration(learning.DENSE, "linear", learning.Training(0.1, 1024, 0.2))
    assert (train.retrain.steps, train.retrain.warmup_steps) == (60, 12)
    assert train.retrain.tokens_per_batch == 1024
    assert train.model.ffn_init == "linear"


def test_trainings_of_other_lengths_have_folders_of_their_own() -> None:
    trainings = [
        learning.Training(share, tokens, warmup)
        for share in (0.1, 1.0)
        for tokens in (1024, 2048)
        for warmup in (0.1, 0.25)
    ]
    assert len({training.folder for training in trainings}) == 8
    assert learning.Training().folder == "trained"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ((0.0, 2048, 0.25), "--updates=0 must be positive"),
        ((1.0, -1, 0.25), "--tokens=-1 must be positive"),
        ((1.0, 2048, 1.5), r"--warmup=1.5 must be in \[0, 1\]"),
    ],
)
def test_trainings_that_cannot_be(training: tuple[float, int, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        learning.Training(*training)
