"""Table of sharding rules, the mesh, and messages when they do not fit; one device suffices."""

import dataclasses

import jax
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from automoe_jax.config import default_config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.model.network import Spec, abstract, logical_axes
from automoe_jax.runtime.sharding import ONE_DEVICE, RULES, Placement, placement
from tests.oracles import SPACE

SPEC = Spec(SPACE, 32)
SHAPES, AXES = abstract(SPEC).params, logical_axes(SPEC)
MESH = AbstractMesh((2, 2, 2), ("data", "expert", "model"), axis_types=(AxisType.Auto,) * 3)


def settings(**mesh: int) -> ConfigDict:
    config = default_config()
    config.mesh.update(mesh)
    return config


def test_every_axis_of_a_network_has_a_rule_and_no_rule_is_idle() -> None:
    changes = ({"classes": 5}, {"weight_sets": 2}, {"width_norms": True})
    specs = [dataclasses.replace(SPEC, **change) for change in changes]
    networks = [AXES, *map(logical_axes, specs)]
    used = {
        name
        for names in jax.tree.leaves(networks, is_leaf=lambda x: isinstance(x, tuple))
        for name in names
    }
    assert used == set(RULES)


def test_parameters_lie_by_rule() -> None:
    shardings = Placement(MESH).params(AXES, SHAPES)
    experts, attention = (
        shardings["encoder"]["layer_0"]["experts"],
        shardings["encoder"]["layer_0"]["self_attention"],
    )
    assert shardings["embedding"]["table"].spec == P("model", None)
    assert experts["w_in"].spec == P(("expert", "model"), None)
    assert experts["b_in"].spec == P(("expert", "model"))
    assert experts["b_out"].spec == P(None, None)
    assert attention["qkv"]["kernel"].spec == P(None, None, "model")


def test_fsdp_splits_the_longest_free_dimension_too() -> None:
    placed = Placement(MESH, fsdp=True)
    shardings = placed.params(AXES, SHAPES)
    layer = shardings["encoder"]["layer_0"]
    assert layer["experts"]["w_in"].spec == P(("expert", "model"), "data")
    assert layer["experts"]["b_in"].spec == P(("expert", "model"))
    assert layer["experts_norm"]["scale"].spec == P("data")
    state = placed.optimizer_state(optax.adam(1e-3), shardings, SHAPES)
    assert state[0].mu == state[0].nu == shardings
    assert state[0].count == placed.everywhere


def test_one_device_places_nothing() -> None:
    assert placement(from_config_dict(settings()), jax.devices()[:1]) == ONE_DEVICE
    assert ONE_DEVICE.params(AXES, SHAPES) is None
    assert ONE_DEVICE.sentence_parts == 1


def test_a_parameter_without_a_rule_is_named() -> None:
    axes = {"odd": ("embed", "colour")}
    with pytest.raises(UserError, match=r"parameter layer/odd has an axis 'colour' without a rule"):
        Placement(MESH).params(
            {"layer": axes}, {"layer": {"odd": jax.ShapeDtypeStruct((4, 4), "float32")}}
        )


def test_a_parameter_that_is_not_divided_is_named() -> None:
    odd = Spec(SPACE, 31)
    with pytest.raises(
        UserError,
        match=(
            r"embedding/table has 31 entries along 'vocab', which config.mesh=model:2 does not"
            r" divide"
        ),
    ):
        Placement(MESH).params(logical_axes(odd), abstract(odd).params)


@pytest.mark.parametrize(("data", "expert"), [(3, 1), (2, 2), (0, 16)])
def test_a_mesh_that_does_not_match_the_devices(data: int, expert: int) -> None:
    config = from_config_dict(settings(data=data, expert=expert))
    with pytest.raises(UserError, match=r"config.mesh=.* does not match the 8 devices"):
        placement(config, [jax.devices()[0]] * 8)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ({"data": -1}, r"config.mesh.data=-1 must be positive, or 0"),
        ({"expert": 0}, r"config.mesh.expert=0 must be positive"),
        (
            {"expert": 3},
            (
                r"config.mesh.expert=3 must divide every width of"
                r" config.space.expert_ffn_dims=\(1024, 2048, 3072\)"
            ),
        ),
        (
            {"expert": 512, "model": 4},
            r"config.mesh.expert · config.mesh.model=2048 must divide every width",
        ),
        (
            {"data": 64},
            (
                r"config.supernet.tokens_per_batch=2048 must hold .* for each of the 64 devices"
                r" that share it \(4096 tokens\)"
            ),
        ),
    ],
)
def test_settings_of_the_mesh(mesh: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_config_dict(settings(**mesh))
