"""Parameters with the static properties of a network.

Axes: V vocabulary · D embedding width · L layers · E experts · C classes.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PRNGKeyArray

from automoe_jax.arch import MAX_LAYERS, SIDES, Arch, check_shapes
from automoe_jax.config import SHARED_EMBEDDINGS, Config
from automoe_jax.errors import UserError, check_whole
from automoe_jax.model.layers import (
    DecoderLayer,
    EncoderLayer,
    ExpertGenes,
    LayerGenes,
    LayerNorm,
    LayerShape,
    Skippable,
)
from automoe_jax.model.mixture import with_sets
from automoe_jax.model.width_norms import for_each_width
from automoe_jax.ops.grouped import width_choices
from automoe_jax.routers import TOP_K, RouterConfig, check_attention
from automoe_jax.runtime.sharding import Placement
from automoe_jax.space import SearchSpace

PAD_ID, EOS_ID = 1, 2  # as in fairseq's dictionaries, and in `data.tokenizer`


class Widths(NamedTuple):
    """The embedding widths of both sides."""

    encoder: int
    decoder: int


class Table(NamedTuple):
    """Shape [rows, width] of a table of embeddings or outputs, and the logical axis of its rows."""

    rows: int
    width: int
    axis: str = "vocab"


@dataclasses.dataclass(frozen=True)
class Spec:
    """Static properties of a network: the SuperNet of `space`, or `arch` extracted from it.

    A sub-Transformer keeps its space, whose largest widths determine its sinusoids and its dropout
    (docs/systems/automoe.md). A space without decoder layers gives a classifier, whose `classes`
    are numbered like the pieces of a vocabulary.
    """

    space: SearchSpace
    vocab_size: int
    pad_id: int = PAD_ID
    arch: Arch | None = None
    router: RouterConfig = TOP_K
    classes: int = 0  # of a classifier, special ids included (data.labels)
    ffn_init: str = "xavier"  # scheme of the experts' initial weights (model.initial)
    norm: str = "post"  # LayerNorm after each residual sum, or pre: before each branch
    # all: one table for source, target and output (fairseq's --share-all-embeddings); decoder: the
    # source has its own (--share-decoder-input-output-embed); none: three tables
    shared_embeddings: str = "all"
    target_vocab_size: int = 0  # 0: as many pieces as the source has
    weight_sets: int = 1  # of each layer of a SuperNet, mixed by the architecture (model.mixture)
    width_norms: bool = False  # LayerNorms of a SuperNet by width (model.width_norms)

    def __post_init__(self) -> None:
        """Raises `UserError` for sizes that no network has, or an `arch` that does not fit."""
        check_whole(vocab_size=self.vocab_size)
        check_whole(0, pad_id=self.pad_id, classes=self.classes)
        if self.pad_id >= self.vocab_size:
            raise UserError(
                f"pad_id={self.pad_id} must be a piece of the vocabulary, below"
                f" vocab_size={self.vocab_size}"
            )
        self._check_tables()
        if self.arch is not None:
            check_shapes(self.arch)
            if int(self.arch.qkv_dim) != self.space.qkv_dim or any(
                width > most for width, most in zip(self.widths, self.super_widths, strict=True)
            ):
                raise UserError(
                    f"the architecture has qkv_dim={self.arch.qkv_dim} and the embedding widths"
                    f" {tuple(self.widths)}, its space qkv_dim={self.space.qkv_dim} and widths of"
                    f" at most {tuple(self.super_widths)}; give both of one experiment"
                )
            check_attention(self.router, self.arch)

    @property
    def target_size(self) -> int:
        """Number of pieces of the target's vocabulary."""
        return self.target_vocab_size or self.vocab_size

    @property
    def output_size(self) -> int:
        """Number of outputs, the pieces of the target's vocabulary or the classes."""
        return self.classes or self.target_size

    def tables(self) -> dict[str, "Table"]:
        """The tables of embeddings and outputs, by their names in the parameters."""
        widths, joint = self.widths, self.shared_embeddings == "all"
        tables = {"embedding": Table(self.vocab_size, max(widths) if joint else widths.encoder)}
        if not joint:
            tables["target_embedding"] = Table(self.target_size, widths.decoder)
        if self.shared_embeddings == "none":
            tables["output"] = Table(self.target_size, widths.decoder)
        if self.classes:
            tables["classifier"] = Table(self.classes, widths.encoder, "class")
        return tables

    def input_table(self, side: str) -> str:
        """Name of the table with the embeddings of one side."""
        own = side == "decoder" and self.shared_embeddings != "all"
        return "target_embedding" if own else "embedding"

    @property
    def output_table(self) -> str:
        """Name of the table that states are projected with."""
        if self.classes:
            return "classifier"
        return "output" if self.shared_embeddings == "none" else self.input_table("decoder")

    def _check_tables(self) -> None:
        check_whole(0, target_vocab_size=self.target_vocab_size)
        if self.target_vocab_size == self.vocab_size:  # so that equal networks have equal specs
            object.__setattr__(self, "target_vocab_size", 0)
        if self.shared_embeddings not in SHARED_EMBEDDINGS:
            raise UserError(
                f"shared_embeddings={self.shared_embeddings!r} must be one of"
                f" {', '.join(SHARED_EMBEDDINGS)}"
            )
        joint = self.shared_embeddings == "all"
        if joint and self.target_size != self.vocab_size:
            raise UserError(
                f"target_vocab_size={self.target_vocab_size} differs from"
                f" vocab_size={self.vocab_size}; two vocabularies need two tables, with"
                " shared_embeddings='decoder' or 'none'"
            )
        if self.classes and not joint:
            raise UserError(
                f"shared_embeddings={self.shared_embeddings!r} is for translation; a classifier has"
                " no target embeddings, so leave it 'all'"
            )

    @property
    def widths(self) -> Widths:
        """The widths of the arrays."""
        if self.arch is not None:
            return Widths(int(self.arch.encoder_embed_dim), int(self.arch.decoder_embed_dim))
        return self.super_widths

    @property
    def exact_arch(self) -> Arch:
        """The architecture of a sub-Transformer; raises `UserError` for a SuperNet."""
        if self.arch is None:
            raise UserError(
                "this is a SuperNet; cut a sub-Transformer out of it first, with extract(network,"
                " arch)"
            )
        return self.arch

    @property
    def super_widths(self) -> Widths:
        return Widths(self.space.super_encoder_embed_dim, self.space.super_decoder_embed_dim)

    def embed_dims(self, side: str) -> tuple[int, ...]:
        """The choices of a side's embedding width."""
        return getattr(self.space, f"{side}_embed_dims")

    @property
    def super_ffn_dim(self) -> int:
        return self.space.super_ffn_dim

    @property
    def gated(self) -> bool:
        """Whether every layer has a router with parameters (docs/costs.md, routers)."""
        routed = self.space.is_routed if self.arch is None else self.arch.routed
        return routed and self.router.declaration.gated

    def layers(self, side: str) -> int:
        """Number of layers in the arrays."""
        return (
            getattr(self.arch, f"{side}_layers")
            if self.arch is not None
            else max(getattr(self.space, f"{side}_layers"))
        )

    def least_layers(self, side: str) -> int:
        """Number of layers that every architecture of this network has."""
        return (
            getattr(self.arch, f"{side}_layers")
            if self.arch is not None
            else min(getattr(self.space, f"{side}_layers"))
        )

    def most_cross_layers(self) -> int:
        """The largest number of encoder layers that a decoder layer attends to."""
        if self.arch is not None:
            return max(1, int(max(self.arch.cross_layers)))
        return (
            min(max(self.space.cross_layers), self.layers("encoder"))
            if self.layers("decoder")
            else 1
        )

    def expert_widths(self, side: str, layer: int) -> tuple[int, ...]:
        """The widths of the arrays of each expert of a layer."""
        if self.arch is not None:
            return getattr(self.arch, f"{side}_experts")[layer]
        return (self.super_ffn_dim,) * max(self.space.expert_counts(side, layer))

    def layer_shape(self, side: str, layer: int, widths: Widths) -> LayerShape:
        """Static properties of a layer with these embedding widths."""
        space, max_widths = self.space, self.expert_widths(side, layer)
        if self.arch is None:
            self_heads, cross_heads = (
                max(getattr(space, f"{side}_self_heads")),
                max(space.decoder_cross_heads),
            )
            top_k, choices = max(space.top_k), space.expert_ffn_dims
        else:
            self_heads, cross_heads = (
                int(getattr(self.arch, f"{side}_self_heads")[layer]),
                int(self.arch.decoder_cross_heads[layer]),
            )
            top_k, choices = int(getattr(self.arch, f"{side}_top_k")[layer]), max_widths
        return LayerShape(
            embed_dim=getattr(widths, side),
            memory_dim=widths.encoder if side == "decoder" else 0,
            qkv_dim=space.qkv_dim,
            max_self_heads=self_heads,
            max_cross_heads=cross_heads if side == "decoder" else 0,
            max_widths=max_widths,
            gated=self.gated,
            max_top_k=min(top_k, len(max_widths)),
            ffn_dims=width_choices(choices),
            number=layer if side == "encoder" else MAX_LAYERS + layer,
            router=self.router,
            ffn_init=self.ffn_init,
            pre_norm=self.norm == "pre",
            exact=self.arch is not None,
            skippable=Skippable() if self.arch is not None else self._skippable(side, layer),
        )

    def _skippable(self, side: str, layer: int) -> Skippable:
        """Blocks of a SuperNet's layer that some architectures skip."""
        return Skippable(
            self_attention=0 in getattr(self.space, f"{side}_self_heads"),
            cross_attention=side == "decoder" and 0 in self.space.decoder_cross_heads,
            experts=0 in self.space.expert_counts(side, layer),
        )

    def layer_genes(self, side: str, layer: int, arch: Arch) -> LayerGenes:
        """The genes of a layer: Python numbers for a sub-Transformer, rows of the (traced) `arch`
        for a SuperNet.
        """
        max_widths = self.expert_widths(side, layer)
        starts = np.cumsum((0, *max_widths[:-1]), dtype=np.int32)
        if self.arch is not None:
            arch = self.arch
            heads, cross = (
                int(getattr(arch, f"{side}_self_heads")[layer]),
                int(arch.decoder_cross_heads[layer]),
            )
            return LayerGenes(
                heads,
                cross,
                ExpertGenes(
                    np.asarray(max_widths, np.int32),
                    starts,
                    int(getattr(arch, f"{side}_top_k")[layer]),
                ),
            )
        widths = jnp.asarray(getattr(arch, f"{side}_ffn_dims"))[layer, : len(max_widths)]
        top_k = jnp.asarray(getattr(arch, f"{side}_top_k"))[layer]
        heads = jnp.asarray(getattr(arch, f"{side}_self_heads"))[layer]
        cross = jnp.asarray(arch.decoder_cross_heads)[layer]
        return LayerGenes(heads, cross, ExpertGenes(widths, starts, top_k))

    def layer(self, side: str, layer: int, widths: Widths) -> EncoderLayer | DecoderLayer:
        """The Flax module of a layer."""
        return (EncoderLayer if side == "encoder" else DecoderLayer)(
            self.layer_shape(side, layer, widths)
        )

    def check(self, arch: Arch) -> None:
        """Raises `UserError` unless `arch` is a concrete architecture of this network."""
        check_shapes(arch)
        if any(isinstance(field, jax.core.Tracer) for field in arch):
            raise UserError(
                "the architecture is traced, so it cannot be checked or extracted; use it outside"
                " jax.jit, or as a constant of the compiled function"
            )
        if self.arch is not None and arch != self.arch:
            raise UserError(
                "this network was extracted for another architecture; pass its own,"
                " network.spec.arch"
            )
        if self.arch is None and not self.space.contains(arch):
            raise UserError(
                "the architecture is not in the search space of this SuperNet; use space.sample,"
                " or check it with space.contains"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    """Parameters, a plain nested dict of arrays, and their Spec: a pytree whose gradient is a
    Network.

    `params["embedding"]["table"]` is [V, D]; `params["encoder"]["layer_0"]` and so on hold each
    layer's arrays; a classifier also has `params["classifier"]["table"]`, [C, D], and a translator
    whose embeddings are not shared those of `Spec.tables`. With pre-norm each side with layers has
    a `final_norm`. With several `weight_sets` the arrays of a layer have a leading axis for them,
    and `layer_0["mixture"]` holds the parameters of their mixture. With `width_norms` the arrays of
    a LayerNorm have an axis for the embedding widths before that of the features.
    """

    params: dict[str, Any]
    spec: Spec = dataclasses.field(metadata={"static": True})


def spec_of(
    config: Config,
    vocab_size: int,
    *,
    arch: Arch | None = None,
    classes: int = 0,
    target_vocab_size: int = 0,
) -> Spec:
    """The SuperNet of a configuration, or its sub-Transformer `arch`."""
    return Spec(
        config.space,
        vocab_size,
        arch=arch,
        router=config.router,
        classes=classes,
        ffn_init=config.model.ffn_init,
        norm=config.model.norm,
        shared_embeddings=config.model.shared_embeddings,
        target_vocab_size=target_vocab_size,
        weight_sets=config.supernet.weight_sets if arch is None else 1,
        width_norms=config.supernet.width_norms and arch is None,
    )


def init(
    space: SearchSpace,
    vocab_size: int,
    key: PRNGKeyArray,
    *,
    arch: Arch | None = None,
    pad_id: int = PAD_ID,
    router: RouterConfig = TOP_K,
    classes: int = 0,
    ffn_init: str = "xavier",
    norm: str = "post",
    shared_embeddings: str = "all",
    target_vocab_size: int = 0,
) -> Network:
    """Random float32 parameters of the SuperNet of `space`, or of the sub-Transformer `arch` at its
    own shapes.
    """
    spec = Spec(
        space,
        vocab_size,
        pad_id,
        arch,
        router,
        classes,
        ffn_init,
        norm,
        shared_embeddings,
        target_vocab_size,
    )
    return initialised(spec, key)


def initialised(spec: Spec, key: PRNGKeyArray) -> Network:
    """`init` for a spec."""
    return Network(nn.meta.unbox(jax.jit(lambda key: _boxed(spec, key))(key)), spec)


def abstract(spec: Spec) -> Network:
    """Shapes and dtypes of the network, without values."""
    return Network(nn.meta.unbox(_abstract_boxed(spec)), spec)


@functools.lru_cache(maxsize=64)
def logical_axes(spec: Spec) -> dict[str, Any]:
    """Logical axis names of every parameter, as a tree of tuples of strings."""
    return jax.tree.map(
        lambda box: tuple(box.names),
        _abstract_boxed(spec),
        is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata),
    )


def param_shardings(spec: Spec, placement: Placement) -> Any:
    """Sharding of every parameter, as a tree; None on one device."""
    return (
        None
        if placement.mesh is None
        else placement.params(logical_axes(spec), abstract(spec).params)
    )


def narrow(
    params: Mapping[str, Any], axes: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The leading entries of every array along the named axes, as a sub-network uses them."""

    def cut(array: Any, names: tuple[str, ...]) -> Any:
        index = tuple(slice(sizes[name]) if name in sizes else slice(None) for name in names)
        return array[index] if any(name in sizes for name in names) else array

    return jax.tree.map(cut, params, axes)


def _abstract_boxed(spec: Spec) -> dict[str, Any]:
    return jax.eval_shape(lambda key: _boxed(spec, key), jax.random.key(0))


def _boxed(spec: Spec, key: jax.Array) -> dict[str, Any]:
    """Parameters with their axis names around them."""
    embedding_key, *keys = jax.random.split(key, 1 + sum(spec.layers(side) for side in SIDES))
    table_keys = {"embedding": embedding_key} | {
        name: jax.random.fold_in(key, number)
        for number, name in enumerate(("classifier", "target_embedding", "output"))
    }
    params: dict[str, Any] = {
        name: {"table": _table(table_keys[name], table)} for name, table in spec.tables().items()
    }
    remaining = iter(keys)
    for side in SIDES:
        params[side] = {
            f"layer_{i}": _layer_params(spec, side, i, next(remaining))
            for i in range(spec.layers(side))
        }
        if spec.norm == "pre" and spec.layers(side):
            x = jnp.zeros((1, getattr(spec.widths, side)))
            norm = {"final_norm": LayerNorm().init(key, x)["params"]}
            params[side] |= _by_width(spec, side, norm)
    return params


def _table(key: jax.Array, table: Table) -> nn.LogicallyPartitioned:
    """Normal, such that the product of a row with a state of unit variance has unit variance."""
    values = jax.random.normal(key, (table.rows, table.width)) * table.width**-0.5
    return nn.LogicallyPartitioned(values, (table.axis, "embed"))


def _layer_params(spec: Spec, side: str, layer: int, key: jax.Array) -> dict[str, Any]:
    """One layer's boxed parameters; Flax finds them by running the layer on one token."""
    widths = spec.widths
    x, real = jnp.zeros((1, 1, getattr(widths, side))), jnp.ones((1, 1), bool)
    genes = spec.layer_genes(side, layer, spec.arch or spec.space.largest())
    inputs = (x,) if side == "encoder" else (x, jnp.zeros((1, 1, widths.encoder)))
    variables = spec.layer(side, layer, widths).init(key, *inputs, real, genes, method="declare")
    # none where the layer skips all of its blocks
    params = _by_width(spec, side, variables.get("params", {}))
    if spec.weight_sets == 1:
        return params
    shape = spec.layer_shape(side, layer, widths)
    return with_sets(params, shape, spec.weight_sets, jax.random.fold_in(key, 1))


def _by_width(spec: Spec, side: str, params: dict[str, Any]) -> dict[str, Any]:
    return for_each_width(params, len(spec.embed_dims(side))) if spec.width_norms else params
