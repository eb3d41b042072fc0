"""One update: gradients of the sampled sub-networks, summed over micro-batches, then the optimizer;
in one program.

Axes: A micro-batches · G sub-networks of an update · B sentences · S source tokens · T target
tokens · L layers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int, Int32, Key, PRNGKeyArray

from automoe_jax.arch import Arch
from automoe_jax.config import TrainConfig
from automoe_jax.model.network import Network, Spec, Widths, abstract, param_shardings
from automoe_jax.model.transformer import (
    ForwardOptions,
    Output,
    States,
    at_widths,
    output_table,
    shift_right,
    states_at,
)
from automoe_jax.ops.dropout import split
from automoe_jax.ops.routers import RouterMetrics
from automoe_jax.ops.vocabulary import project
from automoe_jax.runtime.sharding import ONE_DEVICE, Placement
from automoe_jax.train.loss import (
    Sums,
    disagreement,
    distilled,
    label_smoothed,
    projected_label_smoothed,
)
from automoe_jax.train.optim import optimizer

Batch = Mapping[str, Int[Array, "..."]]
_Logits = Float32[Array, "B T V"] | None  # requested only by a student or a teacher


class TrainState(NamedTuple):
    """State that an update changes; a pytree of arrays."""

    step: Int32[Array, ""]  # updates done
    params: dict[str, Any]
    opt_state: optax.OptState


class StepMetrics(NamedTuple):
    """Metrics of an update; sums are over its non-pad target tokens and all its sub-networks."""

    loss: Float32[Array, ""]  # the training loss, mean per token
    nll: Float32[Array, ""]  # mean per token, nats
    tokens: Float32[Array, ""]  # non-pad target tokens of the batch
    # divergence between the two passes, mean per token, nats; 0 with one pass
    disagreement: Float32[Array, ""]
    # whether loss and gradients are finite; otherwise the update was not applied
    finite: Bool[Array, ""]
    encoder: RouterMetrics  # [L] each, summed over the sub-networks and micro-batches
    decoder: RouterMetrics  # [L] each


def init_state(network: Network, train: TrainConfig) -> TrainState:
    """The state before the first update."""
    # One program, not one per parameter shape.
    return TrainState(
        jnp.zeros((), jnp.int32), network.params, jax.jit(optimizer(train).init)(network.params)
    )


def state_shardings(spec: Spec, train: TrainConfig, placement: Placement) -> TrainState | None:
    """Shardings of the state, as a tree like it; None on one device."""
    if placement.mesh is None:
        return None
    params = param_shardings(spec, placement)
    opt_state = placement.optimizer_state(optimizer(train), params, abstract(spec).params)
    return TrainState._make((placement.everywhere, params, opt_state))


# A program is kept for the next run of the same settings, such as another network of `rank`:
# tracing and loading it takes as long as hundreds of updates of a small network.
@functools.lru_cache(maxsize=1)
def make_train_step(
    spec: Spec,
    train: TrainConfig,
    forward_options: ForwardOptions,
    placement: Placement = ONE_DEVICE,
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """step(state, batch, archs, key) → (state, metrics), jitted once for all architectures; the
    state is donated.

    batch: source [A,B,S] and target [A,B,T]. archs: an `Arch` whose fields have a leading axis G;
    with sandwich sampling the first is the largest, whose predictions are the others' targets. key:
    the run's key, which is folded with the step.
    """
    transform = optimizer(train)

    def step(
        state: TrainState, batch: Batch, archs: Arch, key: PRNGKeyArray
    ) -> tuple[TrainState, StepMetrics]:
        network = Network(state.params, spec)
        gradients, metrics = gradients_of(
            network,
            batch,
            archs,
            jax.random.fold_in(key, state.step),
            train,
            forward_options,
            distillation_weight(train, state.step),
        )
        finite = jnp.isfinite(metrics.loss) & jnp.isfinite(optax.tree.norm(gradients))
        updates, opt_state = transform.update(gradients, state.opt_state, state.params)
        new = TrainState(state.step, optax.apply_updates(state.params, updates), opt_state)
        # An update that is not finite is not applied, so the weights survive the stop that follows.
        kept = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)
        return kept._replace(step=state.step + 1), metrics._replace(finite=finite)

    state, everywhere = state_shardings(spec, train, placement), placement.everywhere
    return placement.jit(
        step,
        (state, placement.micro_batches, everywhere, everywhere),
        (state, everywhere),
        donate_argnums=0,
    )


@functools.lru_cache(maxsize=1)
def make_eval_step(
    spec: Spec, forward_options: ForwardOptions, placement: Placement = ONE_DEVICE
) -> Callable[[dict[str, Any], Batch, Arch], Sums]:
    """step(params, batch, arch) → sums of the unsmoothed loss, jitted once for all architectures,
    without dropout.
    """

    def step(params: dict[str, Any], batch: Batch, arch: Arch) -> Sums:
        network, target = Network(params, spec), batch["target"]

        def branch(widths: Widths) -> Sums:
            states = states_at(
                network,
                widths,
                arch,
                batch["source"],
                shift_right(target, spec.pad_id),
                forward_options=forward_options,
            )
            return projected_label_smoothed(
                states.hidden,
                output_table(network, widths),
                target,
                pad_id=spec.pad_id,
                smoothing=0.0,
            )

        return at_widths(spec, arch, branch)

    return placement.jit(
        step,
        (param_shardings(spec, placement), placement.batch, placement.everywhere),
        placement.everywhere,
    )


class _Update(NamedTuple):
    """Inputs of the gradients of one update, except the micro-batch."""

    network: Network
    train: TrainConfig
    forward_options: ForwardOptions
    token_weight: Float32[Array, ""]  # of each token's loss: 1 / (tokens · G)
    router_weight: float  # of each sub-network's router losses, which are means: 1 / (A · G)
    teacher_weight: (
        Float32[Array, ""] | float
    )  # share of distillation in a student's loss, in [0, 1]


class _Teacher(NamedTuple):
    """Predictions of the teacher."""

    ready: Bool[Array, ""]  # false for the teacher itself
    logits: Float32[Array, "B T V"]


def gradients_of(
    network: Network,
    batch: Batch,
    archs: Arch,
    key: PRNGKeyArray,
    train: TrainConfig,
    forward_options: ForwardOptions,
    teacher_weight: Float32[Array, ""] | float = 1.0,
) -> tuple[dict[str, Any], StepMetrics]:
    """Gradients of the mean loss over all micro-batches and sub-networks; `teacher_weight` is the
    share of distillation in the loss of all sub-networks but the first.
    """
    micro_batches, networks = batch["target"].shape[0], len(archs.qkv_dim)
    tokens = jnp.sum(batch["target"] != network.spec.pad_id).astype(jnp.float32)
    forward_options = dataclasses.replace(forward_options, passes=train.passes)
    update = _Update(
        network,
        train,
        forward_options,
        1 / (tokens * networks),
        1 / (micro_batches * networks),
        teacher_weight,
    )
    keys = split(key, micro_batches * networks).reshape(micro_batches, networks)

    def piece(micro_batch: Batch, keys: Key[Array, "G"]) -> tuple[dict[str, Any], StepMetrics]:
        if networks == 1:
            return _one(update, micro_batch, _first(archs), keys[0], None)[:2]
        return _sandwich(update, micro_batch, archs, keys)

    if micro_batches == 1:
        gradients, sums = piece(_first(batch), keys[0])
    else:

        def add(total, inputs):
            return (
                jax.tree.map(jnp.add, total, piece(*inputs)),
                None,
            )

        (gradients, sums), _ = jax.lax.scan(
            add, _zeros_like(piece, _first(batch), keys[0]), (batch, keys)
        )
    means = {
        name: getattr(sums, name) / (tokens * networks) for name in ("loss", "nll", "disagreement")
    }
    return gradients, sums._replace(**means, tokens=tokens)


def _one(
    update: _Update, batch: Batch, arch: Arch, key: PRNGKeyArray, teacher: _Teacher | None
) -> tuple[dict[str, Any], StepMetrics, _Logits]:
    """Gradients, summed metrics and, if there is a teacher, logits of one sub-network on one
    micro-batch source [B,S], target [B,T].

    The gradient is taken inside the switch over embedding widths, so that no residuals cross it.
    """
    spec, train, target = update.network.spec, update.train, batch["target"]

    def loss(
        params: dict[str, Any], widths: Widths
    ) -> tuple[Float32[Array, ""], tuple[StepMetrics, _Logits]]:
        network = Network(params, spec)
        source, wanted = (
            jnp.concatenate([side] * train.passes) for side in (batch["source"], target)
        )
        states = states_at(
            network,
            widths,
            arch,
            source,
            shift_right(wanted, spec.pad_id),
            forward_options=update.forward_options,
            rng=key,
        )
        table, logits, apart = output_table(network, widths), None, jnp.zeros(())
        if teacher is None:
            sums = projected_label_smoothed(
                states.hidden, table, wanted, pad_id=spec.pad_id, smoothing=train.label_smoothing
            )
        else:
            logits = project(states.hidden, table)
            sums = label_smoothed(
                logits, wanted, pad_id=spec.pad_id, smoothing=train.label_smoothing
            )
            taught = distilled(logits, teacher.logits, wanted, pad_id=spec.pad_id)
            share = jnp.where(teacher.ready, update.teacher_weight, 0.0)
            sums = sums._replace(loss=(1 - share) * sums.loss + share * taught)
        if train.passes == 2:
            apart = disagreement(states.hidden, table, target, pad_id=spec.pad_id)
            # THOR sums the two cross entropies; in a SuperNet each counts half
            # (docs/systems/thor.md).
            each = 1.0 if spec.arch is not None else 0.5
            sums = Sums(each * sums.loss + train.consistency * apart, sums.nll / 2, sums.tokens / 2)
        metrics = StepMetrics(
            *sums, apart, jnp.zeros((), jnp.int32), states.encoder, states.decoder
        )
        balance = balance_loss(states, train.balance_layers)
        z_loss = mean_over_routers(states, "z_loss")
        routers = train.balance_loss * balance + train.z_loss * z_loss
        return sums.loss * update.token_weight + routers * update.router_weight, (metrics, logits)

    def branch(widths: Widths) -> tuple[dict[str, Any], StepMetrics, _Logits]:
        gradients, (metrics, logits) = jax.grad(loss, has_aux=True)(update.network.params, widths)
        return gradients, metrics, logits

    return at_widths(spec, arch, branch)


def _sandwich(
    update: _Update, batch: Batch, archs: Arch, keys: Key[Array, "G"]
) -> tuple[dict[str, Any], StepMetrics]:
    """Several sub-networks one after another; with distillation the first one's logits are the
    others' targets.
    """
    shape = (*batch["target"].shape, update.network.spec.output_size)
    no_teacher = (
        _Teacher(jnp.array(False), jnp.zeros(shape, jnp.float32))
        if update.train.distillation
        else None
    )

    def run(carry: Any, inputs: tuple[Arch, PRNGKeyArray]) -> tuple[Any, None]:
        total, teacher = carry
        gradients, metrics, logits = _one(update, batch, *inputs, teacher)
        if teacher is not None and logits is not None:
            teacher = _Teacher(jnp.array(True), jnp.where(teacher.ready, teacher.logits, logits))
        return (jax.tree.map(jnp.add, total, (gradients, metrics)), teacher), None

    zeros = _zeros_like(lambda: _one(update, batch, _first(archs), keys[0], no_teacher)[:2])
    (total, _), _ = jax.lax.scan(run, (zeros, no_teacher), (archs, keys))
    return total


def _first(tree: Any) -> Any:
    """The first entry of every array's leading axis."""
    return jax.tree.map(lambda array: array[0], tree)


def _zeros_like(function: Callable[..., Any], *arguments: Any) -> Any:
    """Zeros of the shapes and dtypes that the function would return."""
    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, *arguments)
    )


def distillation_weight(train: TrainConfig, step: Int[Array, ""] | int) -> Float32[Array, ""]:
    """Share of distillation in the loss of an update: it rises linearly from 0, as long as the
    teacher itself has nothing to teach, to `distillation_weight`.
    """
    warmup = train.distillation_warmup * train.steps
    done = jnp.asarray(step, jnp.float32) / warmup if warmup else jnp.ones(())
    return train.distillation_weight * jnp.minimum(done, 1.0)


def balance_loss(output: Output | States, layers: str) -> Float32[Array, ""]:
    """The balancing loss over the layers with more than one expert: their mean, or their sum as in
    Switch Transformer (section 2.2).
    """
    if layers == "mean":
        return mean_over_routers(output, "balance_loss")
    return output.encoder.balance_loss.sum() + output.decoder.balance_loss.sum()


def mean_over_routers(output: Output | States, name: str) -> Float32[Array, ""]:
    """One of the routers' metrics, averaged over the layers with more than one expert; 0 if there
    is none.
    """
    values, routed = (
        jnp.concatenate([getattr(side, field) for side in (output.encoder, output.decoder)])
        for field in (name, "routed")
    )
    return values.sum() / jnp.maximum(routed.sum(), 1.0)
