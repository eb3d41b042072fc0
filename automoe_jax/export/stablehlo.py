"""Networks as StableHLO programs, which JAX and other XLA runtimes load without this package.

Axes: b sentences, any number · S source tokens · T target tokens · V vocabulary · C classes.
"""

import jax
import jax.export
import jax.numpy as jnp

from automoe_jax.model.network import Network
from automoe_jax.model.transformer import forward

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(network: Network, length: int) -> bytes:
    """A serialised `jax.export.Exported` with the weights in it.

    A translator's takes source and target_input int32 [b, length] and gives logits float32 [b,
    length, V]; a classifier's takes source alone and gives logits [b, C], special classes included.
    """
    spec, network = network.spec, jax.tree.map(jnp.asarray, network)
    (batch,) = jax.export.symbolic_shape("b")
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)

    def translator(source: jax.Array, target_input: jax.Array) -> jax.Array:
        return forward(network, spec.exact_arch, source, target_input)

    def classifier(source: jax.Array) -> jax.Array:
        unread = jnp.full((source.shape[0], 1), spec.pad_id, jnp.int32)
        return forward(network, spec.exact_arch, source, unread)[:, 0]

    if spec.classes:
        exported = jax.export.export(jax.jit(classifier), platforms=PLATFORMS)(tokens)
    else:
        exported = jax.export.export(jax.jit(translator), platforms=PLATFORMS)(tokens, tokens)
    return bytes(exported.serialize())


def from_stablehlo(program: bytes) -> jax.export.Exported:
    """The program that `to_stablehlo` gave; its `call` computes the logits."""
    return jax.export.deserialize(bytearray(program))
