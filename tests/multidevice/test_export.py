"""The sharded SuperNet step lowers for TPU on a CPU, with kernels, collectives and shardings.

Lowering needs no devices: the mesh is an abstract one of 2 × 4 chips.
"""

import functools
import re
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from automoe_jax.config import TrainConfig
from automoe_jax.model import ForwardOptions, Network
from automoe_jax.model.network import Spec, abstract
from automoe_jax.ops.grouped import use_backend
from automoe_jax.runtime.sharding import DATA, EXPERT, MODEL, Placement
from automoe_jax.space import SearchSpace
from automoe_jax.train.step import init_state, make_train_step, state_shardings

pytestmark = pytest.mark.slow

# Like the paper's, with elastic heads, experts and widths of experts; more width pairs and layers
# would only repeat the kernels.
SPACE = SearchSpace(
    qkv_dim=128,
    encoder_embed_dims=(256,),
    decoder_embed_dims=(256,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1,),
    encoder_experts=(1, 2),
    decoder_experts=(1, 2),
    expert_ffn_dims=(256, 512),
)
SPEC, TRAIN = Spec(SPACE, vocab_size=512), TrainConfig(accumulate=2)
MESH = AbstractMesh((2, 4, 1), (DATA, EXPERT, MODEL), axis_types=(AxisType.Auto,) * 3)


@functools.cache
def exported(fsdp: bool) -> Any:
    """The step in bfloat16 with dropout, of two micro-batches of 16 sentences."""
    step = make_train_step(SPEC, TRAIN, ForwardOptions(0.3, 0.1, "bfloat16"), Placement(MESH, fsdp))
    tokens = jax.ShapeDtypeStruct((2, 16, 24), jnp.int32)
    state = jax.eval_shape(
        lambda params: init_state(Network(params, SPEC), TRAIN), abstract(SPEC).params
    )
    archs = jax.tree.map(lambda genes: np.asarray(genes)[None], SPACE.largest())
    key = jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))
    with use_backend("megablox"):
        return jax.export.export(step, platforms=["tpu"])(
            state, {"source": tokens, "target": tokens}, archs, key
        )


@pytest.mark.parametrize("fsdp", [False, True])
def test_kernels_and_collectives(fsdp: bool) -> None:
    program = exported(fsdp)
    assert program.platforms == ("tpu",)
    assert program.nr_devices == 8
    text = program.mlir_module()
    assert "tpu_custom_call" in text
    # Tokens are gathered along `expert`, and their sums scattered back; the gradients mirror both.
    for collective in ("all_gather", "reduce_scatter"):
        assert re.search(rf"stablehlo\.{collective}\b", text), collective
    assert re.search(r"tensor<\d+x256xbf16>", text)


@pytest.mark.parametrize("fsdp", [False, True])
def test_state_comes_and_goes_as_the_rules_say(fsdp: bool) -> None:
    expected = state_shardings(SPEC, TRAIN, Placement(MESH, fsdp))
    rows = expected.params["encoder"]["layer_0"]["experts"]["w_in"].spec
    assert rows == PartitionSpec((EXPERT, MODEL), (DATA,) if fsdp else ())
    program = exported(fsdp)
    signature = re.search(r"func\.func public @main\((.*)\) -> \((.*)\) \{", program.mlir_module())
    assert signature
    flat = jax.tree.leaves(expected)
    for side in signature.groups():
        found = re.findall(r"sdy\.sharding = #sdy\.sharding<@mesh, \[(.*?)\]>", side)
        assert len(found) >= len(flat)
        for dimensions, wanted in zip(found, flat, strict=False):
            axes = [set(re.findall(r"\w+", part)) for part in re.findall(r"\{(.*?)\}", dimensions)]
            names = [
                set(filter(None, (axis,) if isinstance(axis, str) else axis or ()))
                for axis in wanted.spec
            ]
            assert [part - {MODEL} for part in axes][: len(names)] == [
                part - {MODEL} for part in names
            ]
            assert not any(axes[len(names) :])
