"""Checks of the arrays that callers pass in: shapes always, token ids where they are known.

Under `jax.jit` shapes and dtypes are known while numbers are not, so ids beyond the vocabulary are
found in concrete arrays only; a compiled lookup would read the table's last row for them.

Axes: B sentences · S tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.errors import UserError


def check_tokens(name: str, tokens: Any, vocab_size: int) -> None:
    """Raises `UserError` unless `tokens` holds token ids [B,S] of at least one sentence and one
    token; ids are compared with the vocabulary where they are known.
    """
    shape = jnp.shape(tokens)
    if len(shape) != 2:
        raise UserError(
            f"{name} has the shape {shape}; it must hold token ids [sentences, tokens], so a"
            f" single sentence is {name}[None]"
        )
    if 0 in shape:
        raise UserError(
            f"{name} has the shape {shape}; it must hold at least one sentence of at least one"
            " token, such as EOS"
        )
    if not jnp.issubdtype(jnp.result_type(tokens), jnp.integer):
        raise UserError(
            f"{name} holds {jnp.result_type(tokens)}; token ids must be integers, such as int32"
        )
    check_ids(name, tokens, vocab_size)


def check_ids(name: str, tokens: Any, vocab_size: int) -> None:
    """Raises `UserError` for token ids outside [0, vocab_size); passes under `jax.jit`, where they
    are unknown.
    """
    if isinstance(tokens, jax.core.Tracer) or not np.size(tokens):
        return
    if isinstance(tokens, jax.Array) and not tokens.is_fully_addressable:
        return  # parts of it are in other processes
    values = np.asarray(tokens)  # a constant of a compiled function would be traced by reductions
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise UserError(
            f"{name} holds the token id {wrong}, which is not in [0, {vocab_size}); the vocabulary"
            f" has {vocab_size} pieces"
        )


def check_same_batch(source_sentences: int, target_input: Any) -> None:
    """Raises `UserError` unless the target has as many sentences as the source."""
    sentences = jnp.shape(target_input)[0]
    if sentences != source_sentences:
        raise UserError(
            f"target_input has {sentences} sentences and source {source_sentences}; they must be"
            " pairs, so repeat the rows of the shorter one"
        )
