"""Embeddings of source, target and output in tables of their own, and separate vocabularies.

The oracle is the shared table: copies of it give the same logits, and their gradients add up to
its gradient; renumbered target pieces give renumbered logits.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from automoe_jax.config import TrainConfig
from automoe_jax.convert import from_fairseq
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.inference.decode import beam_search
from automoe_jax.model import ForwardOptions, Network, Spec, forward, init
from automoe_jax.model.network import abstract, logical_axes
from automoe_jax.space import SearchSpace
from automoe_jax.train.step import init_state, make_train_step
from tests.oracles import SPACE, quick_jit, random_network, step_by_step

VOCAB, TARGET_VOCAB, SPECIAL = 20, 13, 4
SMALL = dataclasses.replace(SPACE, encoder_layers=(1,), decoder_layers=(1,))
ARCH = SMALL.sample(np.random.default_rng(1))._replace(decoder_embed_dim=np.int32(8))
SHARED = random_network(SMALL, VOCAB)
SOURCE = jnp.asarray([[5, 6, 7, 2], [8, 9, 2, 1]])
TARGET = jnp.asarray([[2, 4, 12], [2, 11, 1]])
logits_of = quick_jit(forward)


def untied(degree: str, pieces: np.ndarray | None = None) -> Network:
    """SHARED with copies of its table; `pieces` are the rows that the target's tables get."""
    table = SHARED.params["embedding"]["table"]
    target = table if pieces is None else table[pieces]
    spec = dataclasses.replace(SHARED.spec, shared_embeddings=degree, target_vocab_size=len(target))
    copies = {"embedding": table, "target_embedding": target, "output": target}
    own = {name: {"table": copies[name][:, : one.width]} for name, one in spec.tables().items()}
    return Network(SHARED.params | own, spec)


@pytest.mark.parametrize("degree", ["decoder", "none"])
def test_copies_of_the_shared_table_give_its_logits_and_share_its_gradient(degree: str) -> None:
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, VOCAB)))

    def loss(network: Network) -> tuple[jax.Array, jax.Array]:
        logits = forward(network, ARCH, SOURCE, TARGET)
        return jnp.sum(logits * weights), logits

    gradient = quick_jit(jax.grad(loss, has_aux=True))
    whole, expected = gradient(SHARED)
    parts, logits = gradient(untied(degree))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    tables = [parts.params[name]["table"] for name in parts.spec.tables()]
    assert len(tables) == (2 if degree == "decoder" else 3)
    assert all(np.abs(table).max() > 0 for table in tables)
    np.testing.assert_allclose(sum(tables), whole.params["embedding"]["table"], atol=1e-5)
    for side in ("encoder", "decoder"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-5),
            parts.params[side],
            whole.params[side],
        )


@pytest.mark.parametrize("degree", ["decoder", "none"])
def test_another_target_vocabulary_is_the_shared_one_renumbered(degree: str) -> None:
    rng = np.random.default_rng(2)
    others = SPECIAL + rng.permutation(VOCAB - SPECIAL)[: TARGET_VOCAB - SPECIAL]
    pieces = np.concatenate([np.arange(SPECIAL), others])
    network = untied(degree, pieces)
    assert network.spec.output_size == TARGET_VOCAB
    renumbered = jnp.asarray([[2, 5, TARGET_VOCAB - 1], [2, 4, 1]])
    logits = logits_of(network, ARCH, SOURCE, renumbered)
    expected = logits_of(SHARED, ARCH, SOURCE, jnp.asarray(pieces)[renumbered])
    np.testing.assert_allclose(logits, expected[..., pieces], atol=1e-6)
    with pytest.raises(UserError, match=rf"target_input holds the token id {TARGET_VOCAB}"):
        forward(network, ARCH, SOURCE, renumbered.at[0, 1].set(TARGET_VOCAB))


@functools.cache
def separate(degree: str) -> Network:
    """Tables of random values, so that no two are equal."""
    spec = Spec(SMALL, VOCAB, shared_embeddings=degree, target_vocab_size=TARGET_VOCAB)
    rng = np.random.default_rng(3)
    own = {
        name: {"table": jnp.asarray(rng.normal(size=(one.rows, one.width)), jnp.float32)}
        for name, one in spec.tables().items()
    }
    return Network(SHARED.params | own, spec)


@pytest.mark.parametrize("degree", ["decoder", "none"])
def test_a_sub_transformer_cut_out_of_it_decodes_step_by_step(degree: str) -> None:
    network = separate(degree)
    cut = extract(network, ARCH)
    assert {name: cut.params[name]["table"].shape for name in cut.spec.tables()} == {
        name: (table.rows, table.width) for name, table in cut.spec.tables().items()
    }
    assert cut.params["target_embedding"]["table"].shape == (TARGET_VOCAB, 8)
    tokens = jnp.minimum(TARGET, TARGET_VOCAB - 1)
    expected = logits_of(network, ARCH, SOURCE, tokens)
    np.testing.assert_allclose(logits_of(cut, ARCH, SOURCE, tokens), expected, atol=1e-5)
    steps = quick_jit(step_by_step)(cut, SOURCE, tokens[:, None])
    real = np.asarray(tokens != 1)
    np.testing.assert_allclose(
        np.asarray(steps).reshape(expected.shape)[real], np.asarray(expected)[real], atol=1e-5
    )
    found, _ = beam_search(cut, SOURCE, beam_size=2, max_length=4)
    assert found.shape == (2, 2, 4)
    assert int(found.max()) < TARGET_VOCAB


def test_an_update_changes_every_table() -> None:
    spec = separate("none").spec
    train = TrainConfig(sampling="sandwich", warmup_steps=0)
    step = make_train_step(spec, train, ForwardOptions())
    state = jax.eval_shape(
        lambda params: init_state(Network(params, spec), train), abstract(spec).params
    )
    archs = jax.tree.map(lambda *fields: np.stack(fields), SMALL.largest(), ARCH, ARCH, ARCH)
    batch = {"source": SOURCE[None], "target": TARGET[None]}
    after, _ = jax.eval_shape(step, state, batch, archs, jax.random.key(0))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    axes = logical_axes(spec)
    assert {axes[name]["table"] for name in spec.tables()} == {("vocab", "embed")}


def test_new_tables_leave_the_other_initial_weights_as_they_are() -> None:
    key = jax.random.key(5)
    options: dict[str, Any] = {"vocab_size": VOCAB, "key": key, "arch": ARCH}
    shared = init(SMALL, **options).params
    three = init(SMALL, **options, shared_embeddings="none", target_vocab_size=9).params
    assert three["output"]["table"].shape == three["target_embedding"]["table"].shape == (9, 8)
    assert np.abs(three["output"]["table"] - three["target_embedding"]["table"]).max() > 0.1
    for side in ("encoder", "decoder"):
        jax.tree.map(np.testing.assert_array_equal, shared[side], three[side])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared_embeddings": "some"}, "'some' must be one of all, decoder, none"),
        ({"target_vocab_size": 9}, "two vocabularies need two tables, with shared_embeddings='dec"),
        ({"target_vocab_size": -1}, "target_vocab_size=-1 must be a whole number"),
        ({"classes": 5, "shared_embeddings": "none"}, "a classifier has no target embeddings"),
    ],
)
def test_what_no_network_has(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Spec(SMALL, VOCAB, **options)


def test_equal_vocabularies_are_one_spec() -> None:
    assert Spec(SMALL, VOCAB, target_vocab_size=VOCAB) == Spec(SMALL, VOCAB)


ONE = (1,)
TINY = SearchSpace(
    qkv_dim=8,
    encoder_embed_dims=(8,),
    decoder_embed_dims=(6,),
    encoder_layers=ONE,
    decoder_layers=ONE,
    encoder_self_heads=ONE,
    decoder_self_heads=ONE,
    decoder_cross_heads=ONE,
    cross_layers=ONE,
    encoder_experts=ONE,
    decoder_experts=ONE,
    expert_ffn_dims=(8,),
)
TABLES = {
    "encoder.embed_tokens.weight": (12, 8),
    "decoder.embed_tokens.weight": (30, 6),
    "decoder.embed_out": (30, 6),
}


def fairseq_weights() -> dict[str, np.ndarray]:
    """Random weights under fairseq's names, with three tables."""
    shapes = dict(TABLES)
    for side, width in (("encoder", 8), ("decoder", 6)):
        at = f"{side}.layers.0."
        for kind in ("self_attn", "encoder_attn")[: 1 + (side == "decoder")]:
            seen = 8 if kind == "encoder_attn" else width
            shapes |= {f"{at}{kind}.in_proj_weight": (24, seen), f"{at}{kind}.in_proj_bias": (24,)}
            shapes |= {
                f"{at}{kind}.out_proj.weight": (width, 8),
                f"{at}{kind}.out_proj.bias": (width,),
            }
            shapes |= {f"{at}{kind}_layer_norm.{name}": (width,) for name in ("weight", "bias")}
        shapes |= {f"{at}final_layer_norm.{name}": (width,) for name in ("weight", "bias")}
        shapes |= {f"{at}fc1.weight": (8, width), f"{at}fc1.bias": (8,)}
        shapes |= {f"{at}fc2.weight": (width, 8), f"{at}fc2.bias": (width,)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


SOURCE_TABLE, TARGET_TABLE, OUTPUT = TABLES


@pytest.mark.parametrize("output", [OUTPUT, "decoder.output_projection.weight"])
def test_conversion_of_three_tables(output: str) -> None:
    weights = fairseq_weights()
    weights[output] = weights.pop(OUTPUT)
    network = from_fairseq(weights, space=TINY)
    assert network.spec.shared_embeddings == "none"
    assert (network.spec.vocab_size, network.spec.output_size) == (12, 30)
    for name, original in zip(
        network.spec.tables(), (SOURCE_TABLE, TARGET_TABLE, output), strict=True
    ):
        np.testing.assert_array_equal(network.params[name]["table"], weights[original])
    arch, source, target = TINY.largest(), np.array([[5, 6, 2]]), np.array([[2, 29, 7]])
    logits = logits_of(network, arch, source, target)
    assert logits.shape == (1, 3, 30)
    for name in (TARGET_TABLE, output):
        other = from_fairseq(weights | {name: 2 * weights[name]}, space=TINY)
        assert np.abs(logits_of(other, arch, source, target) - logits).max() > 1e-3, name


def test_conversion_of_a_decoder_that_shares_its_input_and_output() -> None:
    weights = fairseq_weights()
    for tables in ({OUTPUT: weights[TARGET_TABLE]}, {OUTPUT: None}):
        given = {name: array for name, array in (weights | tables).items() if array is not None}
        network = from_fairseq(given, space=TINY)
        assert network.spec.shared_embeddings == "decoder"
        assert list(network.spec.tables()) == ["embedding", "target_embedding"]
        np.testing.assert_array_equal(
            network.params["target_embedding"]["table"], weights[TARGET_TABLE]
        )


def test_conversion_maps_gradients_of_tables_that_happen_to_be_equal() -> None:
    """A gradient may be zero in every table; the network's own degree is then given."""
    weights = fairseq_weights()
    zeros = weights | {name: np.zeros_like(weights[name]) for name in TABLES}
    for degree in ("decoder", "none"):
        network = from_fairseq(zeros, space=TINY, shared_embeddings=degree)
        assert network.spec.shared_embeddings == degree
        assert network.spec.output_size == 30


def test_conversion_refuses_by_name() -> None:
    weights = fairseq_weights()
    without = {name: array for name, array in weights.items() if name != TARGET_TABLE}
    with pytest.raises(UserError, match=f"weight '{TARGET_TABLE}' is missing"):
        from_fairseq(without, space=TINY)
    with pytest.raises(
        UserError, match=f"='all', but weight '{OUTPUT}' differs from '{TARGET_TABLE}'"
    ):
        from_fairseq(weights, space=TINY, shared_embeddings="all")
    tied = weights | {OUTPUT: weights[TARGET_TABLE]}
    with pytest.raises(UserError, match=f"'{TARGET_TABLE}' differs from '{SOURCE_TABLE}'"):
        from_fairseq(tied, space=TINY, shared_embeddings="all")
    with pytest.raises(
        UserError, match=r"'decoder\.output_projection\.weight' differ; keep the one"
    ):
        from_fairseq(
            weights | {"decoder.output_projection.weight": weights[OUTPUT] + 1}, space=TINY
        )
    with pytest.raises(UserError, match=f"weight '{OUTPUT}' has the shape"):
        from_fairseq(weights | {OUTPUT: weights[OUTPUT][:, :5]}, space=TINY)
    with pytest.raises(
        UserError, match=r"weight 'decoder\.adaptive_softmax\.head' does not belong"
    ):
        from_fairseq(weights | {"decoder.adaptive_softmax.head": np.zeros(3)}, space=TINY)
    with pytest.raises(UserError, match="shared_embeddings='both' must be one of"):
        from_fairseq(weights, space=TINY, shared_embeddings="both")
