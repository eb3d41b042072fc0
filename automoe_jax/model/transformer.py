"""Forward pass: the same code for a SuperNet under a traced `Arch` and for a sub-Transformer at its
own shapes.

Embedding widths are few, so each pair of them has a branch of exact shapes (`at_widths`); depth,
heads, experts and their widths are traced inside it. Layers that an architecture may lack are
skipped, not masked.

A classifier has no decoder. In place of the decoder's output it has one target position per
sentence, the mean of the encoder's states, and its vocabulary is the classes. Losses, search and
training need no special case.

Axes: B sentences · S source tokens · T target tokens · D embedding width · L layers · V vocabulary.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, PRNGKeyArray, UInt32

from automoe_jax.arch import Arch, check_shapes
from automoe_jax.config import Config
from automoe_jax.model import masks
from automoe_jax.model.inputs import check_same_batch, check_tokens
from automoe_jax.model.layers import (
    APART,
    EACH,
    INFERENCE,
    DecoderLayer,
    KeysValues,
    LayerGenes,
    LayerOutput,
    LayerShape,
    Rates,
    split,
    unrouted,
)
from automoe_jax.model.mixture import mixed
from automoe_jax.model.network import EOS_ID, Network, Spec, Widths, logical_axes, narrow
from automoe_jax.model.width_norms import of_width
from automoe_jax.ops.columns import ROWS, by_columns
from automoe_jax.ops.dropout import dropout
from automoe_jax.ops.grouped import Experts
from automoe_jax.ops.grouped.chosen import apart, pays
from automoe_jax.ops.hashing import hashed_sentences
from automoe_jax.ops.norm import layer_norm
from automoe_jax.ops.routers import (
    RouterMetrics,
    Routing,
    TokenContext,
    Tokens,
    functions_of,
    no_metrics,
)
from automoe_jax.ops.vocabulary import project

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ForwardOptions:
    """Options of a forward pass; static under `jit`."""

    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: str = "float32"  # of activations and matrix products
    passes: int = 1  # equal parts of the batch, with independent random routes in training
    # recomputation in the backward pass, for layers that every architecture has: none, dots or full
    remat: str = "none"
    activation_dropout: float = 0.0  # of the experts' hidden units
    routings: bool = False  # return the routers' choices of every layer


def training_options(config: Config) -> ForwardOptions:
    """The forward pass in the training of a configuration."""
    model = config.model
    return ForwardOptions(
        dropout=model.dropout,
        attention_dropout=model.attention_dropout,
        activation_dropout=model.activation_dropout,
        dtype=model.dtype,
        remat=config.remat,
    )


class Output(NamedTuple):
    """Result of a forward pass."""

    logits: Float32[Array, "B T V"]
    encoder: RouterMetrics  # [L] each
    decoder: RouterMetrics  # [L] each
    # of each layer, the encoder's first, by [B, S] or [B, T]; None where a sub-Transformer has a
    # single expert; empty unless `ForwardOptions.routings` requests them
    routings: tuple[Routing | None, ...] = ()


def forward(
    network: Network, arch: Arch, source: Int[Array, "B S"], target_input: Int[Array, "B T"]
) -> Float32[Array, "B T V"]:
    """Logits [B,T,V], float32, of the sub-Transformer `arch` of a SuperNet, or of a sub-Transformer
    itself.

    source [B,S] and target_input [B,T] hold token ids, the source padded on either side, the target
    on the right (its attention is masked causally only). Deterministic; callable under `jax.jit`
    with `arch` traced.

    Raises `UserError` for arrays of other shapes or without a sentence or a token, and, where they
    are known, for an `arch` that the network does not contain and token ids beyond the vocabulary.
    A traced `arch` must be checked by the caller, with `network.spec.check(arch)` outside the
    compiled function: one that is not in the search space gives numbers without a meaning.
    """
    check_shapes(arch)
    if is_concrete(arch):
        network.spec.check(arch)
    return apply(network, arch, source, target_input).logits


def apply(
    network: Network,
    arch: Arch,
    source: Int[Array, "B S"],
    target_input: Int[Array, "B T"],
    *,
    forward_options: ForwardOptions = ForwardOptions(),
    rng: PRNGKeyArray | None = None,
) -> Output:
    """`forward` with the routers' metrics; with `rng`, applies the dropout of `forward_options`."""

    def branch(widths: Widths) -> Output:
        states = states_at(
            network, widths, arch, source, target_input, forward_options=forward_options, rng=rng
        )
        logits = project(states.hidden, output_table(network, widths))
        return Output(logits, states.encoder, states.decoder, states.routings)

    return at_widths(network.spec, arch, branch)


def at_widths(spec: Spec, arch: Arch, branch: Callable[[Widths], T]) -> T:
    """branch(widths) for the embedding widths of `arch`: chosen by `lax.switch` where `arch` is
    traced.

    All branches must return the same shapes. Take gradients inside `branch`, not around this
    function, so that no residuals cross the switch.
    """
    if spec.arch is not None:
        return branch(spec.widths)
    choices = [
        Widths(*pair)
        for pair in itertools.product(spec.embed_dims("encoder"), spec.embed_dims("decoder"))
    ]
    if len(choices) == 1:
        return branch(choices[0])
    if is_concrete(arch):
        return branch(Widths(int(arch.encoder_embed_dim), int(arch.decoder_embed_dim)))
    fits = [
        (arch.encoder_embed_dim == widths.encoder) & (arch.decoder_embed_dim == widths.decoder)
        for widths in choices
    ]
    return jax.lax.switch(
        jnp.argmax(jnp.stack(fits)), [functools.partial(branch, widths) for widths in choices]
    )


class States(NamedTuple):
    """Result of a forward pass before the projection to the vocabulary."""

    hidden: Float[Array, "B T D"]  # the decoder's last hidden states
    encoder: RouterMetrics  # [L] each
    decoder: RouterMetrics  # [L] each
    routings: tuple[Routing | None, ...]  # as in `Output`


def states_at(
    network: Network,
    widths: Widths,
    arch: Arch,
    source: Int[Array, "B S"],
    target_input: Int[Array, "B T"],
    *,
    forward_options: ForwardOptions = ForwardOptions(),
    rng: PRNGKeyArray | None = None,
) -> States:
    """`apply` without the projection, for an `arch` that is known to have these embedding
    widths.
    """
    encoder_rng, decoder_rng = split(rng, 2)
    encoded = encode(
        network, widths, arch, source, forward_options=forward_options, rng=encoder_rng
    )
    decoded = decode(
        network,
        widths,
        arch,
        target_input,
        encoded.memory,
        forward_options=forward_options,
        rng=decoder_rng,
    )
    routings = encoded.routings + decoded.routings
    return States(decoded.hidden, encoded.metrics, decoded.metrics, routings)


def shift_right(target: Int[Array, "B T"], pad_id: int, eos_id: int = EOS_ID) -> Int[Array, "B T"]:
    """The decoder's input: EOS, then the target without its last token; pads where the target has
    pads.

    target [B,T] → [B,T].
    """
    shifted = jnp.concatenate([jnp.full_like(target[:, :1], eos_id), target[:, :-1]], axis=1)
    return jnp.where(target == pad_id, pad_id, shifted)


def output_table(network: Network, widths: Widths) -> Float32[Array, "V D"]:
    """[V, D]: the projection of the decoder's states to the target's vocabulary, which is the table
    of its embeddings where that is shared; a classifier's own table.
    """
    width = widths.encoder if network.spec.classes else widths.decoder
    return network.params[network.spec.output_table]["table"][:, :width]


class Memory(NamedTuple):
    """Encoder outputs that the decoder attends to."""

    # the last n encoder layers, concatenated along time, the last one first; keys = n·S
    layers: Float[Array, "B keys D"]
    source_real: Bool[Array, "B S"]
    sentences: UInt32[Array, "B"]  # a hash of each source sentence


class Encoded(NamedTuple):
    """Result of the encoder."""

    memory: Memory
    metrics: RouterMetrics  # [L] each
    routings: tuple[Routing | None, ...]  # of its layers, as in `Output`


class Decoded(NamedTuple):
    """Result of the decoder."""

    hidden: Float[Array, "B T D"]  # its last hidden states
    metrics: RouterMetrics  # [L] each
    routings: tuple[Routing | None, ...]  # of its layers, as in `Output`


def encode(
    network: Network,
    widths: Widths,
    arch: Arch,
    source: Int[Array, "B S"],
    *,
    forward_options: ForwardOptions = ForwardOptions(),
    rng: PRNGKeyArray | None = None,
) -> Encoded:
    """source [B,S] → the memory of the decoder, and the routers' metrics [L]."""
    check_tokens("source", source, network.spec.vocab_size)
    spec, rates = network.spec, _rates(network.spec, "encoder", widths, forward_options, rng)
    source = jnp.asarray(source)
    real, sentences = source != spec.pad_id, hashed_sentences(source, spec.pad_id)
    tokens = Tokens(real, _identity(spec, source, sentences, forward_options, rng))
    embedding_rng, *rngs = split(rng, 1 + spec.layers("encoder"))
    x = dropout(
        embed(network, "encoder", widths, source, forward_options), rates.scaled, embedding_rng
    )
    allowed = real[:, None, None, :]
    outputs, metrics, routings = [], [], []
    depth = masks.depth(arch.encoder_self_heads)
    for i in range(spec.layers("encoder")):

        def layer(
            x: jax.Array, params: Any, genes: LayerGenes, rng: Any, i: int = i
        ) -> LayerOutput:
            with jax.named_scope(f"encoder_layer_{i}"):
                return spec.layer("encoder", i, widths).apply(
                    {"params": params}, x, allowed, tokens, genes, rates, rng
                )

        arguments = (
            x,
            layer_params(network, "encoder", i, widths, arch),
            spec.layer_genes("encoder", i, arch),
            rngs[i],
        )
        x, measured, routing = _if_present(
            spec, "encoder", i, depth, forward_options, layer, arguments
        )
        outputs.append(x)
        metrics.append(measured)
        routings.append(_by_position(routing, source))
    most = spec.most_cross_layers()
    if spec.least_layers("encoder") == len(outputs):
        newest = outputs[::-1][:most]
    else:
        # An absent layer repeats the one below it, so counting back from the depth is always safe.
        newest = [jnp.stack(outputs)[jnp.maximum(depth - 1 - back, 0)] for back in range(most)]
    layers = final_norm(network, "encoder", widths, jnp.concatenate(newest, axis=1))
    memory = Memory(layers, real, sentences)
    return Encoded(memory, _stack(metrics), tuple(routings) if forward_options.routings else ())


def decode(
    network: Network,
    widths: Widths,
    arch: Arch,
    target_input: Int[Array, "B T"],
    memory: Memory,
    *,
    forward_options: ForwardOptions = ForwardOptions(),
    rng: PRNGKeyArray | None = None,
) -> Decoded:
    """target_input [B,T] → the decoder's last hidden states [B,T,D] and the routers' metrics [L];
    of a classifier [B,1,D] and none.
    """
    if network.spec.classes:
        return Decoded(_pooled(memory), _stack([no_metrics()], 0), ())
    check_tokens("target_input", target_input, network.spec.target_size)
    check_same_batch(memory.source_real.shape[0], target_input)
    spec, rates = network.spec, _rates(network.spec, "decoder", widths, forward_options, rng)
    target_input = jnp.asarray(target_input)
    tokens = Tokens(
        target_input != spec.pad_id,
        _identity(spec, target_input, memory.sentences, forward_options, rng),
    )
    embedding_rng, *rngs = split(rng, 1 + spec.layers("decoder"))
    y = dropout(
        embed(network, "decoder", widths, target_input, forward_options),
        rates.scaled,
        embedding_rng,
    )
    causal, depth = masks.causal(target_input.shape[1]), masks.depth(arch.decoder_self_heads)
    metrics, routings = [], []
    for i in range(spec.layers("decoder")):

        def layer(
            y: jax.Array,
            params: Any,
            genes: LayerGenes,
            allowed: jax.Array | None,
            rng: Any,
            i: int = i,
        ) -> LayerOutput:
            module, variables = spec.layer("decoder", i, widths), {"params": params}
            with jax.named_scope(f"decoder_layer_{i}"):
                seen = _look_up(spec, module, variables, memory, allowed, arch.cross_layers[i])
                return module.apply(variables, y, causal, seen, allowed, tokens, genes, rates, rng)

        allowed = cross_allowed(spec, arch, i, memory)
        arguments = (
            y,
            layer_params(network, "decoder", i, widths, arch),
            spec.layer_genes("decoder", i, arch),
            allowed,
            rngs[i],
        )
        y, measured, routing = _if_present(
            spec, "decoder", i, depth, forward_options, layer, arguments
        )
        metrics.append(measured)
        routings.append(_by_position(routing, target_input))
    y = final_norm(network, "decoder", widths, y)
    return Decoded(y, _stack(metrics), tuple(routings) if forward_options.routings else ())


def embed(
    network: Network,
    side: str,
    widths: Widths,
    tokens: Int[Array, "B S"],
    forward_options: ForwardOptions = ForwardOptions(),
) -> Float[Array, "B S D"]:
    """tokens [B,S] → √D · embedding + sinusoid [B,S,D]; a position counts non-pad tokens only
    (docs/systems/automoe.md).
    """
    spec = network.spec
    real = (tokens != spec.pad_id).astype(jnp.int32)
    positions = jnp.cumsum(real, axis=1) * real + spec.pad_id
    return _embed_at(
        network, side, widths, tokens, positions, spec.pad_id + 1 + tokens.shape[1], forward_options
    )


def cross_allowed(
    spec: Spec, arch: Arch, layer: int, memory: Memory
) -> Bool[Array, "B 1 1 keys"] | None:
    """bool [B,1,1,n·S]: positions that a decoder layer may attend to; only as many as the layer
    needs if that is known, and None if it has no cross attention.
    """
    if spec.arch is not None:
        layers = int(spec.arch.cross_layers[layer])
        return masks.memory_allowed(memory.source_real, layers, layers) if layers else None
    return masks.memory_allowed(
        memory.source_real, jnp.asarray(arch.cross_layers)[layer], spec.most_cross_layers()
    )


class DecodingLayer(NamedTuple):
    """Constants of a decoder layer in all decoding steps."""

    variables: dict[str, Any]  # of its module
    # keys and values of cross attention, [B, P, n·S, W] each; None where the layer has none
    memory: KeysValues | None
    allowed: Bool[Array, "B 1 1 keys"] | None


class DecodingConstants(NamedTuple):
    """Constants of all decoding steps."""

    layers: list[DecodingLayer]
    table: Float[Array, "V D"]  # the projection to the vocabulary


def start_decoding(
    network: Network, memory: Memory, beams: int, length: int
) -> tuple[DecodingConstants, list[KeysValues | None]]:
    """Constants of a sub-Transformer's decoding, and an empty cache [B,P,T·k,W] for each layer,
    None for one without self-attention.
    """
    spec, arch = network.spec, network.spec.exact_arch
    rows = len(memory.source_real) * beams
    layers: list[DecodingLayer] = []
    caches: list[KeysValues | None] = []
    for i in range(spec.layers("decoder")):
        allowed = cross_allowed(spec, arch, i, memory)
        module, params = (
            spec.layer("decoder", i, spec.widths),
            network.params["decoder"][f"layer_{i}"],
        )
        known = _look_up(spec, module, {"params": params}, memory, allowed, 0)
        variables = _laid_out(params, module.shape, rows, memory.layers.dtype)
        layers.append(DecodingLayer(variables, known, allowed))
        heads = module.shape.max_self_heads
        if not heads:
            caches.append(None)
            continue
        empty = jnp.zeros(
            (len(memory.source_real), heads, length * beams, spec.space.qkv_dim // heads),
            memory.layers.dtype,
        )
        caches.append(KeysValues(empty, empty))
    return DecodingConstants(layers, by_columns(output_table(network, spec.widths), rows)), caches


def _laid_out(
    params: dict[str, Any], shape: LayerShape, rows: int, dtype: jnp.dtype
) -> dict[str, Any]:
    """A layer's variables for products of few rows in `dtype`: each expert's weights by themselves
    where only the chosen ones are computed, else a table of which no expert's weights are sliced
    (`few_rows`).
    """
    if not shape.units:
        return {"params": params}
    experts = params["experts"]
    count = len(shape.max_widths)
    measured = shape.router.declaration.experts_per_token(shape.router, count)
    choices = shape.max_top_k if measured is None else measured
    if pays(rows, choices, count):
        table = Experts(*(jnp.asarray(experts[name], dtype) for name in Experts._fields))
        each = apart(table, shape.max_widths, rows)
        return {"params": params, APART: {"experts": {EACH: each}}}
    if count > rows:
        return {"params": params}
    by_unit = experts | {"w_in": by_columns(experts["w_in"], rows)}
    return {"params": params | {"experts": by_unit}}


def decode_step(
    network: Network,
    constants: DecodingConstants,
    caches: list[KeysValues | None],
    tokens: Int[Array, "B k"],
    slots: Int[Array, "B k T"],
    position: Int[Array, ""],
    sentences: UInt32[Array, "B"],
) -> tuple[Float32[Array, "B k V"], list[KeysValues | None]]:
    """Next-token logits [B,k,V] after tokens [B,k] at `position` (from 0), and the updated caches.

    sentences [B]: the memory's. slots [B,k,T]: the entry, of k, of each position that belongs to a
    hypothesis; its own at `position`. Caches are therefore not moved when hypotheses are reordered.
    """
    spec, arch = network.spec, network.spec.exact_arch
    batch, beams, length = slots.shape
    past_positions = (jnp.arange(length) <= position)[None, None, :, None]
    descends = (slots[..., None] == jnp.arange(beams)[None, None, None]) & past_positions
    past = descends.reshape(batch, 1, beams, length * beams)
    positions = jnp.full(tokens.shape, position + spec.pad_id + 1)
    y = _embed_at(
        network,
        "decoder",
        spec.widths,
        tokens,
        positions,
        spec.pad_id + 1 + length,
        ForwardOptions(),
    )
    known = Tokens(
        jnp.ones(tokens.shape, bool),
        _identity(spec, tokens, sentences, ForwardOptions(), None, position),
    )
    written = []
    for i, (layer, cache) in enumerate(zip(constants.layers, caches, strict=True)):
        genes = spec.layer_genes("decoder", i, arch)
        y, cache = spec.layer("decoder", i, spec.widths).apply(
            layer.variables,
            y,
            cache,
            position,
            past,
            layer.memory,
            layer.allowed,
            known,
            genes,
            method="step",
        )
        written.append(cache)
    return project(final_norm(network, "decoder", spec.widths, y), constants.table), written


def final_norm(
    network: Network, side: str, widths: Widths, x: Float[Array, "B T D"]
) -> Float[Array, "B T D"]:
    """States x [B,T,D] of the last layer of a side, normalised where the layers did not do it."""
    params = final_norm_params(network, side, widths)
    return layer_norm(x, params["scale"], params["bias"]) if params else x


def final_norm_params(network: Network, side: str, widths: Widths) -> dict[str, Any]:
    """Parameters [D] of the LayerNorm after the last layer of a side, cut to these embedding
    widths; empty without one.
    """
    whole = network.params[side].get("final_norm", {})
    cut = jax.tree.map(lambda array: array[..., : getattr(widths, side)], whole)
    return _of_widths(network.spec, side, {"final_norm": cut}, widths)["final_norm"]


def is_concrete(arch: Arch) -> bool:
    """Whether the architecture holds numbers, not tracers."""
    return not any(isinstance(field, jax.core.Tracer) for field in arch)


def sinusoids(rows: int, width: int, pad_id: int) -> Float32[np.ndarray, "rows width"]:
    """Positions [rows, width]: the first half sines, the second half cosines, the pad's row
    zero.
    """
    half = width // 2
    rate = np.exp(np.arange(half) * -(np.log(10000.0) / max(half - 1, 1)))
    angle = np.arange(rows)[:, None] * rate
    table = np.concatenate([np.sin(angle), np.cos(angle), np.zeros((rows, width % 2))], axis=1)
    table[pad_id] = 0
    return table.astype(np.float32)


def _embed_at(
    network: Network,
    side: str,
    widths: Widths,
    tokens: jax.Array,
    positions: jax.Array,
    rows: int,
    forward_options: ForwardOptions,
) -> jax.Array:
    width = getattr(widths, side)
    table = sinusoids(rows, getattr(network.spec.super_widths, side), network.spec.pad_id)
    own = network.params[network.spec.input_table(side)]["table"]
    embedded = _embeddings(own[:, :width], tokens)
    return (width**0.5 * embedded + jnp.asarray(table[:, :width])[positions]).astype(
        forward_options.dtype
    )


def _embeddings(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """table [V,D] at tokens of any shape. Few rows are sliced one by one: XLA's gather on CPU wakes
    all threads for a large table.
    """
    if jax.export.is_symbolic_dim(tokens.size) or tokens.size > ROWS:
        return table[tokens]
    rows = [
        jax.lax.dynamic_index_in_dim(table, token, keepdims=False) for token in tokens.reshape(-1)
    ]
    return jnp.stack(rows).reshape(*tokens.shape, -1)


def _identity(
    spec: Spec,
    tokens: jax.Array,
    sentences: jax.Array,
    forward_options: ForwardOptions,
    rng: jax.Array | None,
    position: jax.Array | None = None,
) -> jax.Array | None:
    """Numbers uint32 [B,T] that identify tokens [B,T] to the router, or None where it needs none.

    `position` is that of all tokens; by default they follow one another.
    """
    identity = functions_of(spec.router).identity
    if identity is None:
        return None
    context = TokenContext(
        tokens, sentences, spec.pad_id, forward_options.passes, rng is not None, position
    )
    return identity(spec.router, context)


def layer_params(
    network: Network, side: str, layer: int, widths: Widths, arch: Arch
) -> dict[str, Any]:
    """A layer's parameters cut to these embedding widths; those of `arch` where a SuperNet mixes
    several sets, those of the widths where its LayerNorms differ by width.
    """
    spec, name = network.spec, f"layer_{layer}"
    params = network.params[side][name]
    if widths != spec.widths:
        sizes = {"embed": getattr(widths, side), "memory": widths.encoder}
        params = narrow(params, logical_axes(spec)[side][name], sizes)
    if spec.weight_sets > 1:
        genes = spec.layer_genes(side, layer, arch)
        params = mixed(params, spec.layer_shape(side, layer, widths), genes)
    return _of_widths(spec, side, params, widths)


def _of_widths(spec: Spec, side: str, params: dict[str, Any], widths: Widths) -> dict[str, Any]:
    """Parameters with the LayerNorms of these embedding widths."""
    if not spec.width_norms:
        return params
    return of_width(params, spec.embed_dims(side).index(getattr(widths, side)))


def _look_up(
    spec: Spec,
    module: DecoderLayer,
    variables: dict[str, Any],
    memory: Memory,
    allowed: jax.Array | None,
    layers: int | jax.Array,
) -> KeysValues | None:
    """The cross attention's keys and values [B,P,n·S,W]; zeros for encoder layers that it does not
    attend to, None for a layer without cross attention.
    """
    if allowed is None:
        return None

    def look_up(memory: jax.Array) -> KeysValues:
        return module.apply(variables, memory, method="look_up")

    if spec.arch is not None:
        return look_up(memory.layers[:, : allowed.shape[-1]])
    each = jnp.split(memory.layers, spec.most_cross_layers(), axis=1)
    shapes = jax.eval_shape(look_up, each[0])

    def absent(_: jax.Array) -> KeysValues:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    always = 0 if module.shape.skippable.cross_attention else 1
    parts = [look_up(part) for part in each[:always]] + [
        jax.lax.cond(back < layers, look_up, absent, part)
        for back, part in enumerate(each[always:], start=always)
    ]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=2), *parts)


def _if_present(
    spec: Spec,
    side: str,
    layer: int,
    depth: jax.Array,
    forward_options: ForwardOptions,
    run: Callable[..., LayerOutput],
    arguments: tuple,
) -> LayerOutput:
    """run(*arguments) if the layer exists, else its first argument unchanged.

    A skipped layer costs nothing: its branch is rematerialised, so that no residuals cross the
    conditional.
    """
    requested = run if forward_options.routings else _without_routing(run)
    if layer < spec.least_layers(side):
        return _rematerialised(requested, forward_options.remat)(*arguments)
    skipped = None
    if forward_options.routings:
        skipped = unrouted(jax.eval_shape(run, *arguments).routing)

    def skip(x: jax.Array, *_: Any) -> LayerOutput:
        return LayerOutput(x, no_metrics(), skipped)

    return jax.lax.cond(layer < depth, jax.checkpoint(requested), skip, *arguments)


def _without_routing(run: Callable[..., LayerOutput]) -> Callable[..., LayerOutput]:
    """`run` without its routing, so that no conditional or checkpoint has to hold it."""

    def run_without_routing(*arguments: Any) -> LayerOutput:
        return run(*arguments)._replace(routing=None)

    return run_without_routing


def _by_position(routing: Routing | None, tokens: jax.Array) -> Routing | None:
    """A routing of N tokens by their positions [B,T]; None stays None."""
    return jax.tree.map(lambda array: array.reshape(*tokens.shape, -1), routing)


def _rematerialised(run: Callable[..., T], remat: str) -> Callable[..., T]:
    """`run`, storing for its gradient everything (none), its products with weights (dots), or only
    its arguments (full).

    Only `none` stores the hidden units of routed experts.
    """
    if remat == "none":
        return run
    policies = jax.checkpoint_policies
    kept = (
        policies.dots_with_no_batch_dims_saveable if remat == "dots" else policies.nothing_saveable
    )
    return jax.checkpoint(run, policy=kept)


def _rates(
    spec: Spec, side: str, widths: Widths, forward_options: ForwardOptions, rng: jax.Array | None
) -> Rates:
    if rng is None:
        return INFERENCE
    share = getattr(widths, side) / getattr(spec.super_widths, side)
    return Rates(
        residual=forward_options.dropout,
        scaled=forward_options.dropout * share,
        attention=forward_options.attention_dropout,
        hidden=forward_options.activation_dropout * share,
    )


def _pooled(memory: Memory) -> jax.Array:
    """Mean [B,1,D] of the last encoder layer's states over the real tokens, in float32; 0 for a
    sentence without tokens.
    """
    real = memory.source_real[..., None].astype(jnp.float32)
    summed = jnp.sum(memory.layers[:, : real.shape[1]] * real, axis=1, keepdims=True)
    return (summed / jnp.maximum(real.sum(axis=1, keepdims=True), 1)).astype(memory.layers.dtype)


def _stack(metrics: list[RouterMetrics], count: int | None = None) -> RouterMetrics:
    """Metrics of the layers, stacked to [L]; only the first `count` of them."""
    return jax.tree.map(lambda *values: jnp.stack(values)[:count], *metrics)
