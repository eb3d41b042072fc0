"""The closed form against the original's profiler, against a count layer by layer, and on the
command line.
"""

import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automoe_jax.arch import Arch
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.space import SearchSpace

GOLDEN = json.loads((Path(__file__).parent / "golden" / "costs.json").read_text(encoding="utf-8"))
ROUTED_SPACE = SearchSpace(
    qkv_dim=24,
    encoder_embed_dims=(16, 24),
    decoder_embed_dims=(16, 32),
    encoder_layers=(1, 2, 3),
    decoder_layers=(1, 2),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1, 2, 3),
    encoder_experts=(1, 2, 3),
    decoder_experts=(1, 2, 3),
    expert_ffn_dims=(0, 8, 20, 36),
    top_k=(1, 2),
)
SKIPPING_SPACE = dataclasses.replace(
    ROUTED_SPACE,
    encoder_self_heads=(0, 4),
    decoder_self_heads=(0, 4),
    decoder_cross_heads=(0, 4),
    encoder_experts=(0, 1, 2),
    decoder_experts=(0, 1, 2),
)
seeds = st.integers(0, 2**32 - 1)


def draw(seed, space=ROUTED_SPACE):
    return space.sample(np.random.default_rng(seed))


def costs_of(row):
    return costs(
        Arch.from_dict(row["arch"]), row["source_length"], row["target_length"], row["target_vocab"]
    )


def test_golden_file_is_complete():
    assert len(GOLDEN) == 58
    assert sum("HAT" in row["name"] for row in GOLDEN) == 44


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_golden_flops(row):
    found = costs_of(row)
    if row["expected_routing"] is None:
        np.testing.assert_allclose(
            found.flops, row["measured"]["flops_without_vocabulary"], rtol=1e-4
        )
        np.testing.assert_allclose(found.flops_with_vocabulary, row["measured"]["flops"], rtol=1e-4)
        assert found.flops == found.flops_min == found.flops_max
        return
    expected = row["expected_routing"]
    for name, routing in {"flops": "uniform", "flops_min": "min", "flops_max": "max"}.items():
        np.testing.assert_allclose(
            getattr(found, name), expected[routing]["flops_without_vocabulary"], rtol=1e-4
        )
    np.testing.assert_allclose(found.flops_with_vocabulary, expected["uniform"]["flops"], rtol=1e-4)
    assert found.flops_min <= row["measured"]["flops_without_vocabulary"] <= found.flops_max


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_golden_parameters(row):
    found, expected = costs_of(row), row["params"]
    assert found.params == expected["total_non_embedding"]
    # The file's mean was summed in floats.
    assert found.active_params == pytest.approx(expected["active_non_embedding_uniform"], rel=1e-14)
    assert found.active_params_min == expected["active_non_embedding_min"]
    assert found.active_params_max == expected["active_non_embedding_max"]


@pytest.mark.parametrize(
    "row", [row for row in GOLDEN if "published" in row], ids=lambda row: row["name"]
)
def test_published_digits(row):
    found, published = costs_of(row), row["published"]
    for value, printed in (
        (found.flops / 1e9, published.get("flops_G")),
        (found.params / 1e6, published.get("params_M")),
    ):
        if printed is not None:
            digits = len(str(printed).partition(".")[2])
            assert round(value, digits) == printed


def count_by_loops(arch, s, t, vocab):
    """(expected FLOPs, with vocabulary, parameters), counted product by product, independently of
    `costs`.
    """
    record = arch.to_dict()
    q, de, dd = record["qkv_dim"], record["encoder"]["embed_dim"], record["decoder"]["embed_dim"]
    layers = record["encoder"]["layers"] + record["decoder"]["layers"]
    routed = max(len(layer["expert_ffn_dims"]) for layer in layers) > 1
    macs, params = [Fraction(s * de), Fraction(t * dd)], []

    def linear(rows, inputs, outputs, instances=1):
        macs.append(rows * inputs * outputs)
        params.append((inputs * outputs + outputs) * instances)

    def norm(rows, d):
        macs.append(rows * d)
        params.append(2 * d)

    def attention(queries, d_query, keys, d_key, heads):
        if not heads:
            return
        linear(queries, d_query, q)
        macs.append(queries * q)
        for _ in ("key", "value"):
            linear(keys, d_key, q)
        for _ in range(queries):
            macs.append(keys * q + keys * q)
        linear(queries, q, d_query)
        norm(queries, d_query)

    def experts(rows, d, layer):
        widths, k = layer["expert_ffn_dims"], layer["top_k"]
        if not widths:
            return
        for width in widths:
            if width:
                linear(Fraction(rows * k, len(widths)), d, width)
                linear(Fraction(rows * k, len(widths)), width, d)
        if routed:
            linear(rows, d, len(widths))
            macs.append(rows * k * d)
        norm(rows, d)

    for layer in record["encoder"]["layers"]:
        attention(s, de, s, de, layer["self_heads"])
        experts(s, de, layer)
    for layer in record["decoder"]["layers"]:
        attention(t, dd, t, dd, layer["self_heads"])
        attention(t, dd, layer["cross_layers"] * s, de, layer["cross_heads"])
        experts(t, dd, layer)
    return 2 * sum(macs), 2 * (sum(macs) + t * dd * vocab), sum(params)


@given(
    st.sampled_from([ROUTED_SPACE, SKIPPING_SPACE]),
    seeds,
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 5000),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_count_by_loops_at_any_lengths(space, seed, source, target, vocab):
    arch = draw(seed, space)
    flops, with_vocabulary, params = count_by_loops(arch, source, target, vocab)
    found = costs(arch, source, target, vocab)
    assert (found.flops, found.flops_with_vocabulary, found.params) == (
        float(flops),
        float(with_vocabulary),
        params,
    )


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_smallest_mean_and_largest_are_in_order(seed):
    found = costs(draw(seed))
    assert found.flops_min <= found.flops <= found.flops_max
    assert found.active_params_min <= found.active_params <= found.active_params_max <= found.params


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_measured_loads_weigh_the_experts(seed):
    """Even loads cost the mean over routings; all tokens on the widest or narrowest experts cost
    the most or the least.
    """
    arch = draw(seed)
    layers = [
        *zip(arch.encoder_experts, arch.encoder_top_k, strict=False),
        *zip(arch.decoder_experts, arch.decoder_top_k, strict=False),
    ]
    even = [[k / len(widths)] * len(widths) for widths, k in layers]
    assert costs(arch, loads=even).flops == pytest.approx(costs(arch).flops)
    assert costs(arch, loads=even).active_params == pytest.approx(costs(arch).active_params)
    for sign, name in ((1, "min"), (-1, "max")):
        chosen = [np.argsort(sign * np.array(widths))[:k].tolist() for widths, k in layers]
        loads = [
            [float(e in taken) for e in range(len(widths))]
            for taken, (widths, _) in zip(chosen, layers, strict=True)
        ]
        found = costs(arch, loads=loads)
        assert (
            found.flops == getattr(found, f"flops_{name}") == getattr(costs(arch), f"flops_{name}")
        )
        assert found.active_params == getattr(found, f"active_params_{name}")


def raised(record, data):
    """`record` with one drawn gene at its next larger choice, or None if there is none."""
    layers = [
        (side, i) for side in ("encoder", "decoder") for i in range(len(record[side]["layers"]))
    ]
    side, i = data.draw(st.sampled_from(layers))
    layer = record[side]["layers"][i]
    gene = data.draw(
        st.sampled_from(
            ["embed_dim", "self_heads", "cross_heads", "cross_layers", "top_k", "width", "layer"]
        )
    )
    if gene == "embed_dim":
        record[side]["embed_dim"] += 8
    elif gene == "layer":
        record[side]["layers"].append(layer)
    elif gene == "width":
        expert = data.draw(st.integers(0, len(layer["expert_ffn_dims"]) - 1))
        layer["expert_ffn_dims"][expert] += 4
    elif gene == "top_k":
        layer["top_k"] = min(layer["top_k"] + 1, len(layer["expert_ffn_dims"]))
    elif gene == "cross_layers" and side == "decoder":
        layer["cross_layers"] = min(layer["cross_layers"] + 1, len(record["encoder"]["layers"]))
    elif gene in layer:
        layer[gene] = 12
    return record


@given(seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_every_cost_grows_with_every_gene(seed, data):
    arch = draw(seed)
    before, after = costs(arch), costs(Arch.from_dict(raised(arch.to_dict(), data)))
    for field in dataclasses.fields(before):
        assert getattr(before, field.name) <= getattr(after, field.name), field.name


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_another_expert_costs_parameters_and_never_less_at_most(seed):
    arch = draw(seed)
    record = arch.to_dict()
    record["encoder"]["layers"][0]["expert_ffn_dims"].append(20)
    more, less = costs(Arch.from_dict(record)), costs(arch)
    assert more.params > less.params
    assert more.flops_max >= less.flops_max


def test_identity_expert_costs_only_router_and_gate():
    identity = {"self_heads": 2, "expert_ffn_dims": [0], "top_k": 1}
    decoder = {
        "self_heads": 2,
        "cross_heads": 2,
        "cross_layers": 1,
        "expert_ffn_dims": [8],
        "top_k": 1,
    }

    def record(first, second):
        layers = [identity | {"expert_ffn_dims": first}]
        return {
            "qkv_dim": 8,
            "encoder": {"embed_dim": 8, "layers": layers},
            "decoder": {"embed_dim": 8, "layers": [decoder | {"expert_ffn_dims": second}]},
        }

    dense = costs(Arch.from_dict(record([0], [8])), 5, 5)
    routed = costs(Arch.from_dict(record([0, 8], [8])), 5, 5)
    # Two routers (2 and 1 experts) and two gates over 5 tokens of width 8; half the tokens meet the
    # expert of width 8.
    assert routed.flops_min - dense.flops_min == 2 * 5 * 8 * (2 + 1 + 1 + 1)
    assert routed.flops - routed.flops_min == 2 * 5 * 2 * 8 * 8 / 2
    assert routed.params - dense.params == 3 * (8 + 1) + (2 * 8 * 8 + 8 + 8)
    assert routed.active_params_min - dense.active_params_min == 3 * (8 + 1)


@pytest.mark.parametrize("name", ["source_length", "target_length", "vocab_size"])
def test_lengths_must_be_positive(name):
    with pytest.raises(UserError, match=f"{name}=0 must be"):
        costs(draw(0), **{name: 0})


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "automoe_jax.costs", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_prints_the_costs(tmp_path):
    row = GOLDEN[-1]
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(row["arch"]), encoding="utf-8")
    done = run(f"--arch={path}", "--source_length=17", "--target_length=9", "--vocab_size=100")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == dataclasses.asdict(
        costs(Arch.from_dict(row["arch"]), 17, 9, 100)
    )
    assert list(json.loads(done.stdout)) == [
        "flops",
        "flops_min",
        "flops_max",
        "flops_with_vocabulary",
        "params",
        "active_params",
        "active_params_min",
        "active_params_max",
    ]
    assert all(
        isinstance(value, int) for value in json.loads(run(f"--arch={path}").stdout).values()
    )


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (None, [], "cannot be read: No such file"),
        ("{", [], "not valid JSON"),
        ("[1]", [], "must be a JSON object"),
        ('{"qkv_dim": 8}', [], "lacks the field 'decoder'"),
        (
            json.dumps(GOLDEN[0]["arch"] | {"qkv_dim": 1000}),
            [],
            r"encoder.layers[0].self_heads=16 must divide qkv_dim=1000",
        ),
        (json.dumps(GOLDEN[0]["arch"]), ["--source_length=0"], "source_length=0 must be"),
        (json.dumps(GOLDEN[0]["arch"]), ["--target_length=two"], "invalid int value: 'two'"),
        (json.dumps(GOLDEN[0]["arch"]), ["--beam"], "unrecognized arguments: --beam"),
        ("\udcff", [], "not UTF-8"),
    ],
)
def test_command_says_in_one_sentence_what_is_wrong(tmp_path, text, arguments, message):
    path = tmp_path / "arch.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = run(f"--arch={path}", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_command_without_an_architecture_says_so():
    done = run()
    assert done.returncode == 1
    assert "--arch" in done.stderr


def test_neither_importing_nor_running_imports_jax(tmp_path):
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(GOLDEN[0]["arch"]), encoding="utf-8")
    script = (
        "import runpy, sys; import automoe_jax.arch, automoe_jax.space, automoe_jax.costs,"
        " automoe_jax.search.evolution\nimport automoe_jax.search.history,"
        " automoe_jax.search.pareto\ndel sys.modules['automoe_jax.costs']\nsys.argv = ['costs',"
        f" '--arch={path}']\ntry: runpy.run_module('automoe_jax.costs',"
        " run_name='__main__')\nexcept SystemExit as error: assert error.code == 0\nassert not"
        " {'jax', 'jaxlib', 'flax'} & set(sys.modules), 'jax was imported'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
