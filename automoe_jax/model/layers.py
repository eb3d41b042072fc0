"""Layers: parameters with logical axis names, and their computation.

A module knows only its exact array sizes; the architecture's choices within them (heads, experts,
widths) are genes, either Python numbers or traced. Post-norm, ReLU (docs/systems/automoe.md).

Axes: B sentences · T queries · S keys · D embedding width · M width of the attended memory · Q
query width · U hidden units of all experts · E experts · N tokens, flattened.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray

from automoe_jax.model.initial import FFN_INITS, Initializer, xavier
from automoe_jax.ops.attention import attention, split_heads
from automoe_jax.ops.dropout import dropout
from automoe_jax.ops.dropout import split as split_key
from automoe_jax.ops.grouped import ExpertDropout, ExpertRows, Experts, TableShape, dense_ffn
from automoe_jax.ops.grouped.capacity import capacity_ffn
from automoe_jax.ops.grouped.chosen import chosen_ffn
from automoe_jax.ops.grouped.parallel import parallel_experts_ffn
from automoe_jax.ops.norm import layer_norm
from automoe_jax.ops.routers import (
    Gate,
    RouterInputs,
    RouterMetrics,
    Routing,
    Tokens,
    functions_of,
    no_metrics,
    router_metrics,
)
from automoe_jax.routers import RouterConfig

T = TypeVar("T")


class Rates(NamedTuple):
    """Dropout rates of one side at one embedding width; floats, 0 in inference."""

    residual: float  # of the encoder's self-attention residual, and base of the scaled ones
    scaled: float  # residual · D / the SuperNet's D (docs/systems/automoe.md, dropout)
    attention: float
    hidden: float = 0.0  # of the experts' hidden units, scaled like `scaled`


INFERENCE = Rates(0.0, 0.0, 0.0)
APART, EACH = "apart", "each"  # collection and variable of experts by themselves (`chosen_ffn`)


class ExpertGenes(NamedTuple):
    """Genes of a layer's experts: concrete (NumPy, int) or traced."""

    widths: Int[np.ndarray | Array, "E"]  # absent −1, identity 0
    starts: Int[np.ndarray | Array, "E"]  # first row of each expert in the hidden table
    top_k: int | Int[Array, ""]


def split(rng: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """`count` keys, or `count` times None in inference."""
    return [None] * count if rng is None else list(split_key(rng, count))


class _Layer(nn.Module):
    """A module whose parameters carry logical axis names."""

    def weight(
        self,
        name: str,
        axes: tuple[str, ...],
        shape: tuple[int, ...],
        initializer: Initializer,
        dtype: jnp.dtype,
    ) -> Float[Array, "..."]:
        value = self.param(name, nn.with_logical_partitioning(initializer, axes), shape)
        return jnp.asarray(value, dtype)


class LayerNorm(_Layer):
    """Normalisation over D; parameters float32."""

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """x [..., D] → [..., D]."""
        width = x.shape[-1]
        scale = self.weight("scale", ("embed",), (width,), nn.initializers.ones, jnp.float32)
        bias = self.weight("bias", ("embed",), (width,), nn.initializers.zeros, jnp.float32)
        return layer_norm(x, scale, bias)


class Projection(_Layer):
    """x · kernel + bias from one axis to `parts` arrays of another, in one matrix product."""

    axes: tuple[str, str]
    features: int
    parts: int = 1
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> list[Float[Array, "... O"]]:
        """x [..., I] → `parts` arrays [..., O]."""
        fan_in, out = x.shape[-1], self.axes[1]
        kernel_shape, kernel_axes = (
            (fan_in, self.parts, self.features),
            (
                self.axes[0],
                "parts",
                out,
            ),
        )
        kernel = self.weight(
            "kernel", kernel_axes, kernel_shape, xavier(fan_in, self.features, self.gain), x.dtype
        )
        bias = self.weight("bias", ("parts", out), kernel_shape[1:], nn.initializers.zeros, x.dtype)
        # On [N, I]: the gradient of a product over several leading axes costs twice as much on CPU.
        joint = x.reshape(-1, fan_in) @ kernel.reshape(fan_in, -1) + bias.reshape(1, -1)
        return [part.reshape(*x.shape[:-1], -1) for part in jnp.split(joint, self.parts, axis=-1)]


class KeysValues(NamedTuple):
    """Keys and values of attention: Q split into P parts of width W, the narrowest heads."""

    key: Float[Array, "B P S W"]
    value: Float[Array, "B P S W"]


class SelfAttention(nn.Module):
    """Attention of a sequence to itself or to a cache of its past."""

    embed_dim: int
    qkv_dim: int
    max_heads: int

    def setup(self) -> None:
        """Declares the projections."""
        self.qkv = Projection(("embed", "qkv"), self.qkv_dim, parts=3, gain=2**-0.5)
        self.out = Projection(("qkv", "embed"), self.embed_dim)

    def project(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T Q"], KeysValues]:
        """x [B,T,D] → queries [B,T,Q], keys and values."""
        query, key, value = self.qkv(x)
        return query, KeysValues(
            split_heads(key, self.max_heads), split_heads(value, self.max_heads)
        )

    def attend(
        self,
        query: Float[Array, "B T Q"],
        memory: KeysValues,
        allowed: Bool[Array, "#B #P #T S"],
        heads: Int[Array, ""] | None,
        rate: float = 0.0,
        rng: PRNGKeyArray | None = None,
        importance: str | None = None,
        counted: Bool[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B T"] | None]:
        """Queries [B,T,Q] → [B,T,D], and the importance [B,T] of the tokens if requested, as in
        `attention`.
        """
        options: dict[str, Any] = {"heads": heads, "dropout_rate": rate, "rng": rng}
        attended = attention(
            query,
            memory.key,
            memory.value,
            allowed,
            importance=importance,
            counted=counted,
            **options,
        )
        return self.out(attended.mixed)[0], attended.importance


class CrossAttention(nn.Module):
    """Attention of the decoder to the encoder's last layers."""

    embed_dim: int
    qkv_dim: int
    max_heads: int

    def setup(self) -> None:
        """Declares the projections; that of the memory is separate, so that decoding computes it
        once.
        """
        self.q = Projection(("embed", "qkv"), self.qkv_dim)
        self.kv = Projection(("memory", "qkv"), self.qkv_dim, parts=2, gain=2**-0.5)
        self.out = Projection(("qkv", "embed"), self.embed_dim)

    def look_up(self, memory: Float[Array, "B S M"]) -> KeysValues:
        """memory [B,S,M] → keys and values."""
        return KeysValues(*(split_heads(part, self.max_heads) for part in self.kv(memory)))

    def attend(
        self,
        x: Float[Array, "B T D"],
        memory: KeysValues,
        allowed: Bool[Array, "#B #P #T S"],
        heads: Int[Array, ""] | None,
        rate: float = 0.0,
        rng: PRNGKeyArray | None = None,
    ) -> Float[Array, "B T D"]:
        """x [B,T,D] → [B,T,D]."""
        (query,) = self.q(x)
        attended = attention(
            query, memory.key, memory.value, allowed, heads=heads, dropout_rate=rate, rng=rng
        )
        return self.out(attended.mixed)[0]


class ExpertLayer(_Layer):
    """Experts of a layer and their router (docs/systems/automoe.md)."""

    shape: "LayerShape"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "N D"],
        tokens: Tokens,
        genes: ExpertGenes,
        rates: Rates,
        rng: PRNGKeyArray | None = None,
    ) -> "LayerOutput":
        """x [N, D] → [N, D], metrics over the counted tokens [N] and the routing [N, K].

        A decoding step may bring a copy of the weights by experts (`ops/grouped/chosen.py`), as the
        variable EACH of the collection APART.
        """
        shape = self.shape
        gate = self._gate(x.shape[-1]) if shape.gated else None
        if not shape.units:  # a single identity expert
            return LayerOutput(x, no_metrics(), None)
        experts = self._experts(x)
        if self.is_initializing():  # only the parameters matter
            return LayerOutput(x, no_metrics(), None)
        if shape.exact and len(shape.max_widths) == 1:
            y = dense_ffn(
                x, experts, hidden_dropout=rates.hidden, output_dropout=rates.scaled, rng=rng
            )
            return LayerOutput(y, no_metrics(), None)
        widths = jnp.asarray(genes.widths)
        active = widths >= 0
        routing, logits = self._route(x, gate, tokens, active, genes.top_k, rng)
        metrics = router_metrics(routing, active, tokens.counted, logits)
        if shape.router.capacity_factor and rng is not None:
            dropout = ExpertDropout(rates.hidden, rates.scaled, rng)
            y, kept = capacity_ffn(
                x, routing, tokens.counted, experts, shape.router.capacity_factor, dropout
            )
            made = tokens.counted[:, None] & (routing.chosen < len(shape.max_widths))
            kept_share = jnp.sum(kept) / jnp.maximum(jnp.sum(made), 1)
            return LayerOutput(y, metrics._replace(dropped=1 - kept_share), routing)
        if self.has_variable(APART, EACH):
            y = chosen_ffn(x, routing, self.get_variable(APART, EACH))
            return LayerOutput(y, metrics, routing)
        rows, table = ExpertRows(genes.starts, genes.widths), shape.table
        dropout = _dropout(len(widths), rates, rng)
        y = parallel_experts_ffn(x, routing, experts, rows, table, dropout)
        return LayerOutput(y, metrics, routing)

    def _route(
        self,
        x: Float[Array, "N D"],
        gate: Gate | None,
        tokens: Tokens,
        active: Bool[Array, "E"],
        top_k: int | Int[Array, ""],
        rng: PRNGKeyArray | None,
    ) -> tuple[Routing, Float[Array, "N E"] | None]:
        """The routing of x [N, D] to the active experts [E], and the logits [N, E] of the gate."""
        shape, router = self.shape, self.shape.router
        functions = functions_of(router)
        logits = None if gate is None else functions.logits(router, x, gate, rng)
        inputs = RouterInputs(
            router, logits, tokens, active, top_k, shape.max_top_k, shape.number, rng
        )
        return functions.route(inputs), logits

    def _gate(self, width: int) -> Gate:
        """The parameters of the router."""
        experts = len(self.shape.max_widths)
        kernel = self.weight(
            "router_kernel",
            ("embed", "expert"),
            (width, experts),
            xavier(width, experts),
            jnp.float32,
        )
        bias = self.weight(
            "router_bias", ("expert",), (experts,), nn.initializers.zeros, jnp.float32
        )
        return Gate(kernel, bias)

    def _experts(self, x: Float[Array, "N D"]) -> Experts:
        """The hidden table of all experts, in which an identity expert has no rows; such an expert
        can only be a layer's first.
        """
        width, units = x.shape[-1], self.shape.units
        computing = [rows for rows in self.shape.max_widths if rows > 0]
        initial = FFN_INITS.find(self.shape.ffn_init)(width, computing)
        hidden, dtype = ("hidden", "embed"), x.dtype
        b_out = self.weight(
            "b_out", ("expert", "embed"), (len(computing), width), initial.b_out, dtype
        )
        return Experts(
            self.weight("w_in", hidden, (units, width), initial.w_in, dtype),
            self.weight("b_in", ("hidden",), (units,), initial.b_in, dtype),
            self.weight("w_out", hidden, (units, width), initial.w_out, dtype),
            jnp.pad(b_out, ((len(self.shape.max_widths) - len(computing), 0), (0, 0))),
        )


class Skippable(NamedTuple):
    """Blocks that some architectures of a SuperNet skip (docs/systems/planer.md)."""

    self_attention: bool = False
    cross_attention: bool = False
    experts: bool = False


class LayerShape(NamedTuple):
    """Everything static about a layer."""

    embed_dim: int
    memory_dim: int  # the encoder's width, for a decoder layer
    qkv_dim: int
    max_self_heads: int  # 0: without self-attention
    max_cross_heads: int  # 0: without cross attention
    # [E] the largest width of each expert, which scales its initial weights; (): without an FFN
    max_widths: tuple[int, ...]
    gated: bool  # has a router's parameters
    max_top_k: int
    ffn_dims: tuple[int, ...]  # possible widths of a computing expert
    number: int  # of the layer, the encoder's first
    router: RouterConfig
    ffn_init: str  # scheme of the experts' initial weights
    pre_norm: bool  # LayerNorm before each branch instead of after each residual sum
    # the arrays have the sizes of one architecture: that of a sub-Transformer, not of a SuperNet
    exact: bool
    skippable: Skippable = Skippable()

    @property
    def table(self) -> TableShape:
        """Static facts about the table of the experts."""
        return TableShape(self.max_widths, self.ffn_dims, self.exact)

    def heads(self, gene: int | Int[Array, ""]) -> Int[Array, ""] | None:
        """The number of heads for `attention`: None where it is that of the arrays.

        Heads of an absent attention are never used, but must not divide by zero when traced.
        """
        return None if self.exact else jnp.maximum(jnp.asarray(gene), 1)

    def has_self_attention(self, genes: "LayerGenes") -> bool | Bool[Array, ""]:
        """Whether the layer does not skip its self-attention; traced where it may."""
        may_skip = self.skippable.self_attention
        return genes.self_heads > 0 if may_skip else self.max_self_heads > 0

    def has_cross_attention(self, genes: "LayerGenes") -> bool | Bool[Array, ""]:
        """Whether the layer does not skip its cross attention; traced where it may."""
        may_skip = self.skippable.cross_attention
        return genes.cross_heads > 0 if may_skip else self.max_cross_heads > 0

    def has_experts(self, genes: "LayerGenes") -> bool | Bool[Array, ""]:
        """Whether the layer does not skip its FFN; traced where it may."""
        may_skip = self.skippable.experts
        return genes.experts.widths[0] >= 0 if may_skip else len(self.max_widths) > 0

    @property
    def units(self) -> int:
        return sum(self.max_widths)

    @property
    def importance(self) -> str | None:
        """Statistic of the attention weights that the router of this layer needs."""
        if len(self.max_widths) <= 1:
            return None
        return self.router.declaration.importance(self.router, self.memory_dim > 0)


class LayerGenes(NamedTuple):
    """Genes of a layer: Python numbers and NumPy arrays, or traced ones."""

    self_heads: int | Int[Array, ""]
    cross_heads: int | Int[Array, ""]
    experts: ExpertGenes


class LayerOutput(NamedTuple):
    """Result of a layer, or of its experts alone."""

    x: Float[Array, "... D"]  # [B, T, D], or [N, D]
    metrics: RouterMetrics
    routing: Routing | None  # [N, …]; None at exact shapes with a lone expert


class EncoderLayer(nn.Module):
    """Self-attention, then experts."""

    shape: LayerShape

    def setup(self) -> None:
        """Declares the parts."""
        _declare_self_attention(self)
        _declare_experts(self)

    def declare(
        self, x: Float[Array, "B S D"], real: Bool[Array, "B S"], genes: LayerGenes
    ) -> None:
        """Runs every part once, for `init`."""
        self(x, real[:, None, None, :], _one_token(real), genes, INFERENCE)

    def __call__(
        self,
        x: Float[Array, "B S D"],
        allowed: Bool[Array, "B 1 1 S"],
        tokens: Tokens,
        genes: LayerGenes,
        rates: Rates,
        rng: PRNGKeyArray | None = None,
    ) -> LayerOutput:
        """x [B,S,D], allowed [B,1,1,S], tokens [B,S] → [B,S,D]."""
        attention_rng, residual_rng, experts_rng = split(rng, 3)

        def attend(layer: EncoderLayer, x: jax.Array) -> _Attended:
            norm = layer.self_attention_norm
            query, memory = layer.self_attention.project(_before(layer, norm, x))
            mixed, importance = layer.self_attention.attend(
                query,
                memory,
                allowed,
                layer.shape.heads(genes.self_heads),
                rates.attention,
                attention_rng,
                layer.shape.importance,
                tokens.counted,
            )
            x = _after(layer, norm, x + dropout(mixed, rates.residual, residual_rng))
            return _Attended(x, importance)

        attended = _unless_skipped(self, self.shape.has_self_attention(genes), attend, x)
        tokens = tokens._replace(importance=attended.importance)
        return _apply_experts(self, attended.x, tokens, genes, rates, experts_rng)


class DecoderLayer(nn.Module):
    """Self-attention to the past, attention to the encoder, then experts."""

    shape: LayerShape

    def setup(self) -> None:
        """Declares the parts."""
        shape = self.shape
        _declare_self_attention(self)
        if shape.max_cross_heads:
            self.cross_attention = CrossAttention(
                shape.embed_dim, shape.qkv_dim, shape.max_cross_heads
            )
            self.cross_attention_norm = LayerNorm()
        _declare_experts(self)

    def declare(
        self,
        y: Float[Array, "B T D"],
        memory: Float[Array, "B T M"],
        real: Bool[Array, "B T"],
        genes: LayerGenes,
    ) -> None:
        """Runs every part once, for `init`."""
        allowed = real[:, None, None, :]
        seen = self.look_up(memory) if self.shape.max_cross_heads else None
        self(y, allowed, seen, allowed, _one_token(real), genes, INFERENCE)

    def look_up(self, memory: Float[Array, "B S M"]) -> KeysValues:
        """memory [B,S,M] → the keys and values of the cross attention."""
        return self.cross_attention.look_up(memory)

    def __call__(
        self,
        y: Float[Array, "B T D"],
        allowed: Bool[Array, "1 1 T T"],
        memory: KeysValues | None,
        memory_allowed: Bool[Array, "B 1 1 S"] | None,
        tokens: Tokens,
        genes: LayerGenes,
        rates: Rates,
        rng: PRNGKeyArray | None = None,
    ) -> LayerOutput:
        """All positions at once. y [B,T,D], allowed [1,1,T,T], memory_allowed [B,1,1,S], tokens
        [B,T] → [B,T,D]; a layer without cross attention has no memory.
        """
        attention_rng, residual_rng, rest_rng = split(rng, 3)

        def attend(layer: DecoderLayer, y: jax.Array) -> _Attended:
            norm = layer.self_attention_norm
            query, past = layer.self_attention.project(_before(layer, norm, y))
            mixed, importance = layer.self_attention.attend(
                query,
                past,
                allowed,
                layer.shape.heads(genes.self_heads),
                rates.attention,
                attention_rng,
                layer.shape.importance,
            )
            y = _after(layer, norm, y + dropout(mixed, rates.scaled, residual_rng))
            return _Attended(y, importance)

        attended = _unless_skipped(self, self.shape.has_self_attention(genes), attend, y)
        tokens = tokens._replace(importance=attended.importance)
        return self._look_at_memory(
            attended.x, memory, memory_allowed, tokens, genes, rates, rest_rng
        )

    def step(
        self,
        y: Float[Array, "B k D"],
        cache: KeysValues | None,
        position: Int[Array, ""],
        past: Bool[Array, "B 1 k keys"],
        memory: KeysValues | None,
        memory_allowed: Bool[Array, "B 1 1 S"] | None,
        tokens: Tokens,
        genes: LayerGenes,
    ) -> tuple[Float[Array, "B k D"], KeysValues | None]:
        """One position of k hypotheses per sentence. y [B,k,D], cache [B,P,T·k,W], tokens [B,k] →
        the same, with `position` written; a layer without self-attention has no cache, one without
        cross attention no memory.

        past: bool [B,1,k,T·k], entries of the sentence's cache that belong to each hypothesis.
        """
        attended = _Attended(y, None)
        if cache is not None:
            attended, cache = self._attend_to_past(y, cache, position, past, genes)
        tokens = tokens._replace(importance=attended.importance)
        output = self._look_at_memory(
            attended.x, memory, memory_allowed, tokens, genes, INFERENCE, None
        )
        return output.x, cache

    def _attend_to_past(
        self,
        y: Float[Array, "B k D"],
        cache: KeysValues,
        position: Int[Array, ""],
        past: Bool[Array, "B 1 k keys"],
        genes: LayerGenes,
    ) -> tuple["_Attended", KeysValues]:
        query, now = self.self_attention.project(_before(self, self.self_attention_norm, y))
        first = position * y.shape[1]
        cache = KeysValues(
            *(
                jax.lax.dynamic_update_slice_in_dim(c, n, first, 2)
                for c, n in zip(cache, now, strict=True)
            )
        )
        mixed, importance = self.self_attention.attend(
            query, cache, past, self.shape.heads(genes.self_heads), importance=self.shape.importance
        )
        return _Attended(_after(self, self.self_attention_norm, y + mixed), importance), cache

    def _look_at_memory(
        self,
        y: Float[Array, "B T D"],
        memory: KeysValues | None,
        memory_allowed: Bool[Array, "B 1 1 S"] | None,
        tokens: Tokens,
        genes: LayerGenes,
        rates: Rates,
        rng: PRNGKeyArray | None,
    ) -> LayerOutput:
        attention_rng, residual_rng, experts_rng = split(rng, 3)

        def attend(layer: DecoderLayer, y: jax.Array) -> _Attended:
            assert memory is not None
            assert memory_allowed is not None
            norm = layer.cross_attention_norm
            mixed = layer.cross_attention.attend(
                _before(layer, norm, y),
                memory,
                memory_allowed,
                layer.shape.heads(genes.cross_heads),
                rates.attention,
                attention_rng,
            )
            y = _after(layer, norm, y + dropout(mixed, rates.scaled, residual_rng))
            return _Attended(y, None)

        attended = _unless_skipped(self, self.shape.has_cross_attention(genes), attend, y)
        return _apply_experts(self, attended.x, tokens, genes, rates, experts_rng)


L = TypeVar("L", EncoderLayer, DecoderLayer)


class _Attended(NamedTuple):
    """Result of an attention block."""

    x: Float[Array, "B T D"]
    importance: Float32[Array, "B T"] | None  # of the tokens, if the router needs it


def _declare_self_attention(layer: EncoderLayer | DecoderLayer) -> None:
    shape = layer.shape
    if shape.max_self_heads:
        layer.self_attention = SelfAttention(shape.embed_dim, shape.qkv_dim, shape.max_self_heads)
        layer.self_attention_norm = LayerNorm()


def _declare_experts(layer: EncoderLayer | DecoderLayer) -> None:
    if layer.shape.max_widths:
        layer.experts = ExpertLayer(layer.shape)
        layer.experts_norm = LayerNorm()


def _unless_skipped(
    layer: L,
    present: bool | Bool[Array, ""],
    block: Callable[[L, jax.Array], _Attended],
    x: jax.Array,
) -> _Attended:
    """block(layer, x), or x unchanged where the architecture skips the block."""
    return _one_of(layer, present, block, lambda x, _: _Attended(x, None), x)


def _one_of(
    layer: L,
    present: bool | Bool[Array, ""],
    block: Callable[[L, jax.Array], T],
    skip: Callable[[jax.Array, T | None], T],
    x: jax.Array,
) -> T:
    """block(layer, x) if the block is present, else skip(x, shapes of the block's result), at no
    other cost.
    """
    if isinstance(present, bool):
        return block(layer, x) if present else skip(x, None)
    if layer.is_initializing():
        return block(layer, x)
    # Flax does not see into a conditional: the branch is a function of the layer's parameters.
    free = type(layer)(layer.shape, parent=None)
    run = functools.partial(free.apply, layer.variables, method=block)
    shapes = jax.eval_shape(run, x)
    return jax.lax.cond(present, run, lambda x: skip(x, shapes), x)


def _apply_experts(
    layer: EncoderLayer | DecoderLayer,
    x: Float[Array, "B T D"],
    tokens: Tokens,
    genes: LayerGenes,
    rates: Rates,
    rng: PRNGKeyArray | None,
) -> LayerOutput:
    """The experts' residual block on x [B,T,D]; no dropout after the gate."""

    def transform(layer: EncoderLayer | DecoderLayer, x: jax.Array) -> LayerOutput:
        flat = _before(layer, layer.experts_norm, x).reshape(-1, x.shape[-1])
        output = layer.experts(flat, tokens.flat(), genes.experts, rates, rng)
        return output._replace(x=_after(layer, layer.experts_norm, x + output.x.reshape(x.shape)))

    def skip(x: jax.Array, shapes: LayerOutput | None) -> LayerOutput:
        return LayerOutput(x, no_metrics(), unrouted(shapes.routing if shapes else None))

    return _one_of(layer, layer.shape.has_experts(genes), transform, skip, x)


def unrouted(routing: Routing | None) -> Routing | None:
    """The routing of an absent layer or FFN, in which no choice is made, in the shapes of
    `routing`.
    """
    if routing is None:
        return None
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), routing)
    return zeros._replace(chosen=zeros.chosen + zeros.probabilities.shape[-1])


def _dropout(experts: int, rates: Rates, rng: PRNGKeyArray | None) -> ExpertDropout | None:
    """Dropout of dropless experts in training: one rate for the hidden units of all of them."""
    if rng is None:
        return None
    hidden_rates = jnp.full(experts, rates.hidden) if rates.hidden else None
    return ExpertDropout(hidden_rates, rates.scaled, rng)


def _before(
    layer: EncoderLayer | DecoderLayer, norm: LayerNorm, x: Float[Array, "... D"]
) -> Float[Array, "... D"]:
    """Input of a branch: the residual stream [B,T,D], normalised with pre-norm."""
    return norm(x) if layer.shape.pre_norm else x


def _after(
    layer: EncoderLayer | DecoderLayer, norm: LayerNorm, x: Float[Array, "... D"]
) -> Float[Array, "... D"]:
    """The residual stream [B,T,D] after a branch was added, normalised with post-norm."""
    return x if layer.shape.pre_norm else norm(x)


def _one_token(real: Bool[Array, "B T"]) -> Tokens:
    """Tokens for the initialisation of a layer."""
    return Tokens(real, jnp.zeros(real.shape, jnp.uint32))
