"""The paper's configurations: spaces, schedule, and the number after the colon."""

import dataclasses
import math
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from automoe_jax.config import Config
from automoe_jax.errors import UserError
from automoe_jax.main import parse
from automoe_jax.model import ForwardOptions, Network, Spec
from automoe_jax.model.network import abstract
from automoe_jax.registry import import_file
from automoe_jax.search.limits import Conditions, cost_function, within_limits
from automoe_jax.train.optim import schedule
from automoe_jax.train.step import init_state, make_train_step

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
COMPARED = [
    (file, name)
    for file in (
        "systems",
        "variants",
        "controls",
        "low_resource",
        "low_resource_long",
        "classify",
        "skips",
    )
    for name in import_file(str(CONFIGS / f"{file}.py"))["SYSTEMS"]
]
TEXTS = {
    "wmt_supernet": ("wmt14_translate/de-en", "de"),
    "wmt14_en_fr": ("wmt14_translate/fr-en", "fr"),
    "wmt19_en_de": ("wmt19_translate/de-en", "de"),
}


def load(name: str, *arguments: str) -> Config:
    """As `main` loads it."""
    return parse(["main", f"--config={':'.join([str(CONFIGS / f'{name}.py'), *arguments])}"])[0]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("experts", [2, 6, 16])
def test_space_and_schedule_are_the_papers(name: str, experts: int) -> None:
    config = load(name, str(experts))
    assert (config.data.name, config.data.target_language) == TEXTS[name]
    for train in (config.supernet, config.retrain):
        assert (train.steps, train.tokens_per_batch, train.warmup_steps, train.learning_rate) == (
            40_000,
            4096 * 128,
            10_000,
            1e-3,
        )
        assert (train.adam_b1, train.adam_b2, train.label_smoothing, train.balance_loss) == (
            0.9,
            0.98,
            0.1,
            0,
        )
    assert (config.model.dropout, config.model.attention_dropout) == (0.3, 0.1)
    # Table 2: heads 4 or 8, the last 1 to 3 encoder layers, 1 to `experts` experts of 1024, 2048 or
    # 3072 each.
    ffn = sum(3**count for count in range(1, experts + 1))
    encoder, decoder = (
        2 * (2 * ffn) ** 6,
        2 * sum((2 * 2 * 3 * ffn) ** layers for layers in range(1, 7)),
    )
    assert math.isclose(config.space.size(), encoder * decoder, rel_tol=1e-12)
    assert config.space.qkv_dim == 512


@pytest.mark.parametrize("name", TEXTS)
def test_six_experts_unless_told(name: str) -> None:
    assert load(name) == load(name, "6")


@pytest.mark.parametrize("name", ["automoe", "random_search", "hat"])
def test_the_compared_searches_have_a_choice_under_their_limit(name: str) -> None:
    """Of depths, widths and, except for HAT, numbers of experts; a fifth of even draws is within
    the limit.
    """
    config = load("systems", name)
    cost = cost_function(Conditions(config.search, config.router))
    rng = np.random.default_rng(1)
    drawn = [config.space.sample(rng) for _ in range(1000)]
    within = [arch for arch in drawn if within_limits(cost(arch), config.search)]
    assert len(within) >= 200
    depths = {(len(arch.encoder_experts), len(arch.decoder_experts)) for arch in within}
    experts = [
        widths for arch in within for widths in (*arch.encoder_experts, *arch.decoder_experts)
    ]
    assert len(depths) >= 3
    assert {width for widths in experts for width in widths} == {32, 64, 128, 256, 512}
    assert {int(arch.decoder_embed_dim) for arch in within} == {64, 128}
    assert {len(widths) for widths in experts} == ({1} if name == "hat" else {1, 2, 3, 4})


@pytest.mark.parametrize("wrong", ["many", "0", "-1"])
def test_a_number_that_is_none_is_refused(wrong: str) -> None:
    get_config = import_file(str(CONFIGS / "wmt14_en_fr.py"))["get_config"]
    with pytest.raises(
        UserError,
        match=f"'{wrong}' behind the configuration's colon must be the most experts of a layer",
    ):
        get_config(wrong)


def test_short_texts_change_the_lengths_alone() -> None:
    short, long = (load(file, "da_moe") for file in ("classify_short", "classify"))
    assert (short.data.buckets, long.data.buckets) == ((16, 24), (32, 64, 96, 128))
    assert (short.space, short.router, short.model) == (long.space, long.router, long.model)


@pytest.mark.parametrize("system", ["switch", "thor"])
def test_a_longer_training_begins_as_the_shorter(system: str) -> None:
    """Only its lengths differ, and no update's learning rate depends on them."""
    longer = load("low_resource_long", system)
    shorter = load("low_resource", f"{system}_4e3")
    lengths = ("steps", "evaluate_every", "checkpoint_every")
    assert {field: getattr(longer.retrain, field) for field in lengths} == {
        field: 4 * getattr(shorter.retrain, field) for field in lengths
    }
    same = {field: getattr(shorter.retrain, field) for field in lengths}
    retrain = dataclasses.replace(longer.retrain, **same)
    assert dataclasses.replace(longer, retrain=retrain) == shorter
    updates = np.arange(shorter.retrain.steps)
    assert np.array_equal(schedule(longer.retrain)(updates), schedule(shorter.retrain)(updates))


@pytest.mark.parametrize(("file", "name"), COMPARED)
def test_what_is_compared_can_make_an_update(file: str, name: str) -> None:
    """Traces the update of `retrain` for the largest architecture."""
    config = load(file, name)
    arch, train = config.space.largest(), config.retrain
    spec = Spec(
        config.space,
        config.data.vocab_size,
        arch=arch,
        router=config.router,
        classes=5 if config.task == "classify" else 0,
    )
    forward_options = ForwardOptions(
        config.model.dropout, config.model.attention_dropout, config.model.dtype, remat=config.remat
    )
    state = jax.eval_shape(
        lambda params: init_state(Network(params, spec), train), abstract(spec).params
    )
    source = jax.ShapeDtypeStruct((train.accumulate, 2, 32), np.int32)
    target = (
        source
        if config.task == "translate"
        else jax.ShapeDtypeStruct((train.accumulate, 2, 1), np.int32)
    )
    archs = jax.tree.map(lambda genes: np.asarray(genes)[None], arch)
    step = make_train_step(spec, train, forward_options)
    after, metrics = jax.eval_shape(
        step,
        state,
        {"source": source, "target": target},
        archs,
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics.loss.shape == ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "systems.py:tor",
            r"^system='tor' must be one of dense, .*; did you mean 'thor'\?; your own system",
        ),
        ("classify.py", "^system='' must be one of top1, top2, "),
        ("wmt_supernet.py:many", "^'many' behind the configuration's colon must be the most"),
    ],
)
def test_a_mistake_behind_the_colon_is_one_sentence(
    config: str, message: str, tmp_path: pathlib.Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "automoe_jax.main", f"--config={CONFIGS / config}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CONFIGS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert re.search(message, ran.stderr.removeprefix("error: ")), ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_configuration_imports_its_neighbour_from_any_folder(tmp_path: pathlib.Path) -> None:
    code = (
        "from automoe_jax.main import parse;"
        f"print(*parse(['main', '--config={CONFIGS / 'wmt14_en_fr.py'}:16']), sep='\\n')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CONFIGS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "wmt14_translate/fr-en" in ran.stdout, ran.stderr
    assert ran.stdout.splitlines()[-1] == "runs/wmt14_en_fr-16"
