"""Declarations of routers: settings of another kind, ranges, costs, and routers from outside."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from automoe_jax import routers
from automoe_jax.config import Config, default_config, flatten, from_config_dict, from_flat
from automoe_jax.costs import RouterCosts
from automoe_jax.errors import UserError
from automoe_jax.export.routing import Router, graph_of
from automoe_jax.ops.routers import RouterFunctions, functions_of
from automoe_jax.routers import ROUTERS, RouterConfig, RouterDeclaration
from automoe_jax.space import SearchSpace

ARCH = dataclasses.replace(SearchSpace(), encoder_experts=(4,), decoder_experts=(2,)).largest()


def configured(**settings: object) -> Config:
    config = default_config()
    for name, value in settings.items():
        config.router[name] = value
    return from_config_dict(config)


@dataclasses.dataclass(frozen=True)
class ShiftOptions:
    by: int = 1


def shift_rules(router: RouterConfig, space: SearchSpace, devices: int) -> Iterator[routers.Rule]:
    by = router.options.by
    yield "config.router.options.by", by, by >= 0, "must not be negative"


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> None:
    at_least_zero = routers.Range(lambda seed: seed >= 0, "must not be negative")
    declaration = RouterDeclaration({"seed": at_least_zero}, ShiftOptions(), rules=shift_rules)
    monkeypatch.setitem(ROUTERS, "shift", declaration)


@pytest.mark.parametrize(
    ("kind", "setting", "value", "owner", "default"),
    [
        ("importance", "jitter", 0.1, "'topk'", "0.0"),
        ("importance", "capacity_factor", 1.25, "'topk'", "0.0"),
        ("random", "renormalise", False, "'importance'", "True"),
        ("topk", "importance", "given", "'importance'", "'received'"),
        ("topk", "draw", "fixed", "'random'", "'batch'"),
        ("importance", "inference", "mean", "'random'", "'token'"),
        ("topk", "seed", 3, "'random'", "0"),
    ],
)
def test_setting_of_another_kind(
    kind: str, setting: str, value: object, owner: str, default: str
) -> None:
    with pytest.raises(UserError) as error:
        configured(kind=kind, **{setting: value})
    assert str(error.value) == (
        f"config.router.{setting}={value!r} is for config.router.kind={owner}; leave it {default}"
    )


@pytest.mark.parametrize(
    ("kind", "setting", "value", "rule"),
    [
        ("topk", "jitter", 1.0, r"must be in \[0, 1\)"),
        ("topk", "capacity_factor", -1.0, "must not be negative"),
        ("importance", "importance", "taken", "must be one of received, given"),
        ("random", "seed", -1, r"must be in \[0, 2³¹\)"),
    ],
)
def test_range_of_a_setting(kind: str, setting: str, value: object, rule: str) -> None:
    with pytest.raises(UserError, match=f"config.router.{setting}={value!r} {rule}"):
        configured(kind=kind, **{setting: value})


def test_unknown_kind() -> None:
    with pytest.raises(UserError, match=r"topk, importance, random; did you mean 'topk'.*plugins"):
        configured(kind="topkk")


def test_costs() -> None:
    layers = [*ARCH.encoder_experts, *ARCH.decoder_experts]
    counts = [len(widths) for widths in layers]
    by_importance = tuple((count + 1) / 2 for count in counts)
    assert RouterConfig().costs(ARCH) == RouterCosts()
    assert RouterConfig(kind="importance").costs(ARCH) == RouterCosts(True, by_importance)
    assert RouterConfig(kind="random").costs(ARCH) == RouterCosts(False)
    mean = RouterConfig(kind="random", inference="mean")
    assert mean.costs(ARCH) == RouterCosts(False, tuple(map(float, counts)))
    assert dataclasses.replace(mean, draw="fixed").costs(ARCH) == RouterCosts(False)


def test_variants() -> None:
    drawn = RouterConfig(kind="random", inference="mean", seed=2)
    found = drawn.declaration.variants(drawn)
    assert found == {
        mode: dataclasses.replace(drawn, inference=mode) for mode in ("token", "sentence")
    }
    assert not RouterConfig().declaration.variants(RouterConfig())
    fixed = RouterConfig(kind="random", draw="fixed")
    assert not fixed.declaration.variants(fixed)


@pytest.mark.usefixtures("shift")
def test_options_of_a_router_from_outside() -> None:
    assert configured(kind="shift", seed=3).router.options == ShiftOptions(1)
    config = configured(kind="shift", options={"by": 2})
    assert config.router.options == ShiftOptions(2)
    assert RouterConfig("shift").options == ShiftOptions(1)
    assert {config.router: 1}[RouterConfig("shift", options=ShiftOptions(2))] == 1
    assert from_flat(flatten(dataclasses.asdict(config))) == config


@pytest.mark.usefixtures("shift")
def test_wrong_options_of_a_router_from_outside() -> None:
    with pytest.raises(UserError, match=r"config.router.options.by=-1 must not be negative"):
        configured(kind="shift", options={"by": -1})
    with pytest.raises(UserError, match=r"config.router.options.bye is not a setting.*mean .*by'"):
        configured(kind="shift", options={"bye": 1})
    with pytest.raises(UserError, match=r"config.router.options.by='2' must be of type int"):
        configured(kind="shift", options={"by": "2"})
    with pytest.raises(UserError, match=r"jitter=0.1 is for config.router.kind='topk'"):
        configured(kind="shift", jitter=0.1)


def test_records_of_the_package_s_routers_have_no_options() -> None:
    flat = flatten(dataclasses.asdict(Config()))
    assert not [name for name in flat if name.startswith("router.options")]


def test_a_kind_of_the_package_is_not_replaced() -> None:
    with pytest.raises(UserError, match="register yours as another name"):
        ROUTERS.register("topk", RouterDeclaration())


def test_every_kind_of_the_package_has_functions_and_settings_that_exist() -> None:
    for kind in ROUTERS:
        assert isinstance(functions_of(RouterConfig(kind)), RouterFunctions)
        assert isinstance(graph_of(RouterConfig(kind)), Router)
    known = {field.name for field in dataclasses.fields(RouterConfig)}
    assert all(set(router.settings) < known for router in ROUTERS.values())


def test_a_declaration_without_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROUTERS, "half", RouterDeclaration())
    with pytest.raises(UserError, match=r"kind='half' is declared without functions"):
        functions_of(RouterConfig("half"))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_router_that_uses_self_attention_needs_it(side: str) -> None:
    field = f"{side}_self_heads"
    changes: dict[str, Any] = {field: (0, 4)}
    space = dataclasses.replace(SearchSpace(), **changes)
    for kind in ("topk", "random", "importance"):
        found = routers.rules(RouterConfig(kind=kind), space, 1)
        failed = [name for name, _, valid, _ in found if not valid]
        assert failed == ([f"config.space.{field}"] if kind == "importance" else [])


def test_a_layer_without_an_ffn_has_no_experts_per_token() -> None:
    space = dataclasses.replace(SearchSpace(), encoder_experts=(0, 2))
    skipping = space.smallest()
    found = RouterConfig(kind="importance").costs(skipping).experts_per_token
    assert found == (0.0,) * skipping.encoder_layers + (1.0,) * skipping.decoder_layers
