"""Arch: canonical form, equality, JSON, and messages that name the wrong field."""

import copy
import json
import pathlib
import pickle

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automoe_jax.arch import ABSENT, MAX_EXPERTS, MAX_LAYERS, Arch, check_shapes, make
from automoe_jax.errors import UserError
from automoe_jax.space import SearchSpace

SPACE = SearchSpace(encoder_layers=(1, 2, 6), expert_ffn_dims=(0, 1024, 3072), top_k=(1, 2))
RECORD = {
    "qkv_dim": 8,
    "encoder": {
        "embed_dim": 8,
        "layers": [{"self_heads": 2, "expert_ffn_dims": [0, 16], "top_k": 2}],
    },
    "decoder": {
        "embed_dim": 12,
        "layers": [
            {
                "self_heads": 4,
                "cross_heads": 2,
                "cross_layers": 1,
                "expert_ffn_dims": [16],
                "top_k": 1,
            }
        ],
    },
}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_json_round_trip_keeps_equality_and_hash(seed):
    arch = SPACE.sample(np.random.default_rng(seed))
    for again in (
        Arch.from_json(arch.to_json()),
        Arch.from_dict(arch.to_dict()),
        Arch.from_json(arch.to_json(indent=2)),
        copy.deepcopy(arch),
    ):
        assert again == arch
        assert hash(again) == hash(arch)
        assert again.to_json() == arch.to_json()
    assert pickle.loads(pickle.dumps(arch)) == arch


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_equal_exactly_when_the_text_is_equal(first, second):
    a, b = (SPACE.sample(np.random.default_rng(seed)) for seed in (first, second))
    assert (a == b) == (a.to_json() == b.to_json())
    assert (a != b) == (a.to_json() != b.to_json())
    assert a != "something else"


def test_fixed_shapes_and_types():
    arch = Arch.from_dict(RECORD)
    assert all(field.dtype == np.int32 for field in arch)
    assert arch.encoder_ffn_dims.shape == (MAX_LAYERS, MAX_EXPERTS)
    assert {field.shape for field in arch} == {(), (MAX_LAYERS,), (MAX_LAYERS, MAX_EXPERTS)}
    assert arch.encoder_ffn_dims[0, :3].tolist() == [0, 16, ABSENT]
    assert (arch.encoder_layers, arch.decoder_layers) == (1, 1)
    assert (arch.encoder_experts, arch.decoder_experts) == (((0, 16),), ((16,),))


def test_routed_when_some_layer_has_two_experts():
    assert Arch.from_dict(RECORD).routed
    record = copy.deepcopy(RECORD)
    record["encoder"]["layers"][0] |= {"expert_ffn_dims": [16], "top_k": 1}
    assert not Arch.from_dict(record).routed


def test_top_k_and_cross_layers_are_canonical():
    layer = {
        "self_heads": 2,
        "cross_heads": 2,
        "cross_layers": 3,
        "expert_ffn_dims": [8, 8],
        "top_k": 5,
    }
    arch = make(
        qkv_dim=8, encoder_embed_dim=8, decoder_embed_dim=8, encoder=[layer, layer], decoder=[layer]
    )
    assert arch.encoder_top_k[:3].tolist() == [2, 2, ABSENT]
    assert arch.decoder_top_k[0] == 2
    assert arch.cross_layers[0] == 2


def test_skipped_blocks():
    """Layers that skip each of their blocks exist, survive JSON and have one form."""
    record = copy.deepcopy(RECORD)
    record["encoder"]["layers"][0] |= {"self_heads": 0, "expert_ffn_dims": [], "top_k": 0}
    decoder = record["decoder"]["layers"]
    skipping = {"self_heads": 0, "cross_heads": 0, "cross_layers": 0}
    decoder.append(skipping | {"expert_ffn_dims": [], "top_k": 0})
    arch = Arch.from_dict(record)
    assert (arch.encoder_layers, arch.decoder_layers) == (1, 2)
    assert (arch.encoder_experts, arch.decoder_experts) == (((),), ((16,), ()))
    assert not arch.is_blind
    assert arch.to_dict() == record
    decoder[1] |= {"cross_layers": 1, "top_k": 2}
    assert Arch.from_dict(record) == arch


def changed(path, value):
    record = copy.deepcopy(RECORD)
    *parents, last = path
    place = record
    for key in parents:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["qkv_dim"], 0, "qkv_dim=0 must be a whole number"),
        (["qkv_dim"], "8", "qkv_dim='8' must be a whole number"),
        (["qkv_dim"], KeyError, "lacks the field 'qkv_dim'"),
        (["heads"], 8, "unknown field 'heads'"),
        (["encoder"], [], "encoder must be a JSON object"),
        (["encoder", "embed_dim"], 8.5, "encoder.embed_dim=8.5"),
        (["decoder", "embed_dim"], True, "decoder.embed_dim=True"),
        (["encoder", "layers"], [], "encoder.layers must be a list of 1 to 12 layers"),
        (["decoder", "layers"], "six", "decoder.layers must be a list"),
        (["encoder", "layers", 0], 3, r"encoder.layers\[0\] must be a JSON object"),
        (
            ["encoder", "layers", 0, "self_heads"],
            3,
            r"encoder.layers\[0\].self_heads=3 must divide qkv_dim=8",
        ),
        (
            ["decoder", "layers", 0, "cross_heads"],
            5,
            r"decoder.layers\[0\].cross_heads=5 must divide qkv_dim=8",
        ),
        (
            ["decoder", "layers", 0, "cross_layers"],
            2,
            r"decoder.layers\[0\].cross_layers=2 exceeds the 1 encoder layers",
        ),
        (
            ["decoder", "layers", 0, "cross_layers"],
            KeyError,
            r"decoder.layers\[0\] lacks the field 'cross_layers'",
        ),
        (
            ["encoder", "layers", 0, "expert_ffn_dims"],
            [8] * 33,
            r"encoder.layers\[0\].expert_ffn_dims=\[.*\] must be a list of at most 32",
        ),
        (
            ["encoder", "layers", 0, "expert_ffn_dims"],
            [16, 0],
            r"encoder.layers\[0\].expert_ffn_dims\[1\]=0",
        ),
        (["encoder", "layers", 0, "top_k"], 0, r"encoder.layers\[0\].top_k=0"),
        (["decoder", "layers", 0, "cross_layers"], 0, r"decoder.layers\[0\].cross_layers=0"),
        (["encoder", "layers", 0, "self_heads"], -1, r"encoder.layers\[0\].self_heads=-1"),
        (
            ["decoder", "layers", 0, "cross_heads"],
            0,
            "decoder.layers must have cross_heads of at least 1 in some layer",
        ),
    ],
)
def test_message_names_the_field(path, value, message):
    with pytest.raises(UserError, match=message):
        Arch.from_json(changed(path, value))


@pytest.mark.parametrize("text", ["", "{", "not json", '{"qkv_dim": 8,}'])
def test_invalid_json_says_so(text):
    with pytest.raises(UserError, match="not valid JSON"):
        Arch.from_json(text)


@pytest.mark.parametrize("place", [["qkv_dim"], ["encoder", "layers", 0, "expert_ffn_dims", 0]])
def test_numbers_fit_their_fields(place):
    with pytest.raises(UserError, match=r"=99999999999 must not exceed 2147483647"):
        Arch.from_json(changed(place, 99999999999))
    text = changed(place, 99999999999)
    with pytest.raises(UserError, match="not valid JSON: Exceeds the limit"):
        Arch.from_json(text.replace("99999999999", "9" * 5000))
    endless = {"99999999999": 10**5000}
    value = json.loads(text, parse_int=lambda digits: endless.get(digits) or int(digits))
    with pytest.raises(UserError, match=r"=a huge number must not exceed 2147483647"):
        Arch.from_dict(value)


@pytest.mark.parametrize("deep", ["[" * 100_000, "[" * 2000 + "]" * 2000, '{"a":' * 50_000])
def test_deep_nesting_is_a_sentence(deep):
    with pytest.raises(UserError) as raised:
        Arch.from_json(deep)
    assert len(str(raised.value)) < 300


def test_deep_values_are_shown_in_short():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UserError, match=r"must be a JSON object .* got \[\[\[") as raised:
        Arch.from_dict(deep)
    assert len(str(raised.value)) < 300
    while deep:  # Python frees nested lists by recursion
        deep = deep.pop()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not from None; a nested dictionary goes into Arch.from_dict"),
        (
            {"qkv_dim": 8},
            r"not from \{'qkv_dim': 8\}; a nested dictionary goes",
        ),
        (pathlib.Path("runs/demo/arch.json"), "not from a path; pass the text of the file"),
        ("[1, 2", r"not valid JSON: [^;]*$"),
        ("", r"not valid JSON: [^;]*$"),
        ("no architecture", r"not valid JSON: [^;]*$"),
        ("runs/demo/arch.json", "not valid JSON: .*; pass the file's text, not its name"),
        (b"\xff\xfe{", "not valid JSON"),
        ("NaN", "must be a JSON object with the fields"),
    ],
)
def test_what_is_no_json_text(text, message):
    with pytest.raises(UserError, match=message):
        Arch.from_json(text)


def test_shapes_of_the_fields():
    arch = Arch.from_json(changed(["qkv_dim"], 8))
    check_shapes(arch)
    check_shapes(jax.tree.map(lambda field: jax.ShapeDtypeStruct(field.shape, field.dtype), arch))
    for wrong, message in [
        (None, "must be an automoe_jax.arch.Arch, got None"),
        (arch._replace(qkv_dim=None), r"the field qkv_dim .* of the shape \(\), got no array"),
        (arch._replace(decoder_top_k=arch.decoder_top_k[:1]), "the field decoder_top_k"),
        (arch._replace(cross_layers=arch.cross_layers * 1.0), "got float64 of the shape"),
        (jax.tree.map(lambda *fields: np.stack(fields), arch, arch), "got int32 of the shape"),
    ]:
        with pytest.raises(UserError, match=message):
            check_shapes(wrong)
