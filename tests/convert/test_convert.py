"""Checkpoints of the originals become workdirs whose networks compute what the originals did."""

import argparse
import collections
import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from automoe_jax.arch import SIDES, Arch
from automoe_jax.command import configuration
from automoe_jax.config import Config, from_config_dict
from automoe_jax.convert import from_fairseq
from automoe_jax.convert.arguments import WORDS, model_of
from automoe_jax.convert.checkpoint import Checkpoint, parse, read_checkpoint
from automoe_jax.convert.workdirs import Vocabulary, convert
from automoe_jax.errors import UserError
from automoe_jax.export.workdirs import trained
from automoe_jax.model import Network, Spec, forward
from automoe_jax.model.transformer import embed
from automoe_jax.runtime.files import absolute
from automoe_jax.space import SearchSpace
from automoe_jax.train import runs
from automoe_jax.translate import load_engine
from automoe_jax.workdir import Workdir
from tests.convert.checkpoints import (
    ALPHABET,
    META,
    PIECES,
    batch,
    checkpoint,
    logits,
    settings,
    sub_settings,
    weights,
    write_vocabulary,
)
from tests.oracles import quick_jit

WORDS_ONLY = "words"  # no Moses, whose package is an extra
logits_of = quick_jit(forward)


def converted(
    folder: pathlib.Path, one: Checkpoint, config: Config | None = None, **vocabulary: Any
) -> pathlib.Path:
    dictionary, codes = write_vocabulary(folder)
    files = Vocabulary(dictionary, codes=codes, words=WORDS_ONLY)
    convert(one, dataclasses.replace(files, **vocabulary), str(folder / "W"), config or Config())
    return folder / "W"


@pytest.mark.parametrize("name", ["fractional_experts", "dense_mixed"])
def test_a_sub_transformer_computes_what_it_did(name: str, tmp_path: pathlib.Path) -> None:
    root = converted(tmp_path, checkpoint(name, sub=True))
    workdir, config, network = trained(root)
    made = next(one for one in META["subnets"] if one["name"] == name)
    assert workdir.arch() == network.spec.arch == Arch.from_dict(made["arch"])
    found = logits_of(network, network.spec.arch, *batch())
    np.testing.assert_allclose(found, logits(name), atol=1e-5)
    assert config.stages == "prepare,retrain,evaluate,report"
    assert workdir.is_done("retrain")
    assert config.model.dropout == 0.3
    assert (config.data.source_language, config.data.target_language) == ("en", "de")
    assert workdir.tokenizer().vocab_size == network.spec.vocab_size == len(PIECES) + 4
    assert math.isnan(runs.summary(workdir.retrained).validation_nll)


@pytest.mark.parametrize(
    ("name", "subnet"), [("moe2", "fractional_experts"), ("dense2", "dense_mixed")]
)
def test_a_supernet_holds_every_architecture_of_its_space(
    name: str, subnet: str, tmp_path: pathlib.Path
) -> None:
    found = converted(tmp_path, checkpoint(name))
    workdir = Workdir(absolute(found))
    config = workdir.config()
    assert config.space == SearchSpace(**META["supernets"][name]["space"])
    assert not config.supernet.within_limits
    assert workdir.is_done("supernet")
    assert runs.summary(workdir.supernet) == runs.Summary(40000, 0, 0.0, 2.5)
    network = runs.load(workdir.supernet, workdir.spec(config))
    arch = next(one["arch"] for one in META["subnets"] if one["name"] == subnet)
    values = logits_of(network, Arch.from_dict(arch), *batch())
    np.testing.assert_allclose(values, logits(subnet), atol=1e-5)
    # nothing is left that a run would ask to redo
    assert from_config_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_dictionary_of_its_own_for_the_target(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    own = {
        "decoder.embed_tokens.weight": rng.normal(size=(30, 32)).astype(np.float32),
        "decoder.embed_out": rng.normal(size=(30, 32)).astype(np.float32),
    }
    arguments = settings("dense2", share_all_embeddings=False)
    one = Checkpoint(weights("dense2") | own, arguments)
    with pytest.raises(UserError, match=r"of 30 pieces; name its dict\.txt with --target_diction"):
        converted(tmp_path, one)
    (tmp_path / "target.txt").write_text("".join(f"{piece} 1\n" for piece in PIECES[:26]))
    root = converted(tmp_path, one, target_dictionary=str(tmp_path / "target.txt"))
    recorded = json.loads((root / "config.json").read_text())
    assert recorded["model.shared_embeddings"] == "none"
    assert not recorded["data.joint_vocabulary"]
    assert (recorded["data.vocab_size"], recorded["data.target_vocab_size"]) == (50, 30)
    assert (root / "target_tokenizer.model").exists()


@pytest.mark.parametrize("sharing", ["all", "decoder", "none"])
def test_pre_norm_and_separate_tables(sharing: str, tmp_path: pathlib.Path) -> None:
    """The logits of fairseq's formula for pre-norm, written out."""
    rng = np.random.default_rng(0)
    own = weights("dense2")
    shape = own["encoder.embed_tokens.weight"].shape
    extra = {f"{side}.layer_norm.weight": 1 + 0.3 * rng.normal(size=32) for side in SIDES}
    extra |= {f"{side}.layer_norm.bias": rng.normal(size=32) for side in SIDES}
    if sharing != "all":
        extra["decoder.embed_tokens.weight"] = rng.normal(size=shape) / 6
    if sharing == "none":
        extra["decoder.embed_out"] = rng.normal(size=shape) / 6
    own |= {name: array.astype(np.float32) for name, array in extra.items()}
    own = {name: array for name, array in own.items() if "output_projection" not in name}
    pre = {f"{side}_normalize_before": True for side in SIDES}
    arguments = settings("dense2", decoder_arbitrary_ende_attn_choice=[-1], **pre)
    root = converted(tmp_path, Checkpoint(own, arguments))
    workdir = Workdir(absolute(root))
    config = workdir.config()
    assert (config.model.norm, config.model.shared_embeddings) == ("pre", sharing)
    network = runs.load(workdir.supernet, workdir.spec(config))
    arch = config.space.largest()
    found = logits_of(network, arch, *batch())
    real = np.asarray(batch()[1]) != 1
    np.testing.assert_allclose(found[real], pre_norm_logits(own, network, arch)[real], atol=2e-4)
    for name in ("encoder.layer_norm.bias", "decoder.layer_norm.weight"):
        with pytest.raises(UserError, match=f"weight '{name}' is missing"):
            from_fairseq({k: v for k, v in own.items() if k != name}, space=config.space)


def pre_norm_logits(own: dict[str, np.ndarray], network: Network, arch: Arch) -> np.ndarray:
    """Logits [B, T, V] of a dense pre-norm Transformer with fairseq's weights."""
    genes = arch.to_dict()
    source, target = map(np.asarray, batch())

    def normalised(name: str, x: np.ndarray) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * own[f"{name}.weight"] + own[f"{name}.bias"]

    def attention(name: str, x: np.ndarray, memory: np.ndarray, heads: int, mask: Any) -> Any:
        into, bias = own[f"{name}.in_proj_weight"], own[f"{name}.in_proj_bias"]
        parts = zip((x, memory, memory), np.split(into, 3), np.split(bias, 3), strict=True)
        q, k, v = (
            (states @ matrix.T + offset).reshape(*states.shape[:2], heads, -1).swapaxes(1, 2)
            for states, matrix, offset in parts
        )
        scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ v).swapaxes(1, 2)
        flat = mixed.reshape(*x.shape[:2], -1)
        return flat @ own[f"{name}.out_proj.weight"].T + own[f"{name}.out_proj.bias"]

    def feed_forward(name: str, x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x @ own[f"{name}.fc1.weight"].T + own[f"{name}.fc1.bias"], 0)
        return hidden @ own[f"{name}.fc2.weight"].T + own[f"{name}.fc2.bias"]

    padding = (source != 1)[:, None, None, :]
    x = np.asarray(embed(network, "encoder", network.spec.widths, source))
    for i, layer in enumerate(genes["encoder"]["layers"]):
        at = f"encoder.layers.{i}"
        inner = normalised(f"{at}.self_attn_layer_norm", x)
        x = x + attention(f"{at}.self_attn", inner, inner, layer["self_heads"], padding)
        x = x + feed_forward(at, normalised(f"{at}.final_layer_norm", x))
    memory = normalised("encoder.layer_norm", x)
    past = np.tril(np.ones((target.shape[1],) * 2, bool))
    y = np.asarray(embed(network, "decoder", network.spec.widths, target))
    for i, layer in enumerate(genes["decoder"]["layers"]):
        at = f"decoder.layers.{i}"
        inner = normalised(f"{at}.self_attn_layer_norm", y)
        y = y + attention(f"{at}.self_attn", inner, inner, layer["self_heads"], past)
        inner = normalised(f"{at}.encoder_attn_layer_norm", y)
        y = y + attention(f"{at}.encoder_attn", inner, memory, layer["cross_heads"], padding)
        y = y + feed_forward(at, normalised(f"{at}.final_layer_norm", y))
    output = own.get("decoder.embed_out", own["decoder.embed_tokens.weight"])
    return normalised("decoder.layer_norm", y) @ output.T


def test_experts_on_one_side_only() -> None:
    """AutoMoE with experts in the encoder: its decoder has no routers. With one expert in each
    layer it has routers that change nothing.
    """
    moe, dense = weights("moe2"), weights("dense2")
    mixed = {k: v for k, v in moe.items() if not k.startswith("decoder.layers")}
    mixed |= {k: v for k, v in dense.items() if k.startswith("decoder.layers")}
    space = SearchSpace(**META["supernets"]["moe2"]["space"] | {"decoder_experts": [1]})
    network = from_fairseq(mixed, space=space)
    router = network.params["decoder"]["layer_0"]["experts"]
    assert router["router_kernel"].shape == (32, 1)
    assert not router["router_kernel"].any()
    alone = {k: v for k, v in moe.items() if ".experts." not in k or ".experts.0." in k}
    alone = {k: v[:1] if ".switch." in k else v for k, v in alone.items()}
    plain = SearchSpace(**META["supernets"]["dense2"]["space"])
    experts = from_fairseq(alone, space=plain).params["encoder"]["layer_0"]["experts"]
    assert "router_kernel" not in experts
    np.testing.assert_array_equal(
        experts["b_out"][0], moe["encoder.layers.0.switch_layer.experts.0.1.bias"]
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"activation_fn": "gelu"}, r"activation_fn='gelu' is not supported"),
        ({"encoder_normalize_before": True}, r"encoder_normalize_before=True and decoder_norm"),
        (
            {f"{side}_normalize_before": True for side in SIDES},
            r"decoder_arbitrary_ende_attn_choice=\[-1, 1\] is not supported with encoder_normalize",
        ),
        ({"no_decoder_final_norm": True}, r"no_decoder_final_norm=True is not supported"),
        ({"encoder_is_scale_prob": False}, r"encoder_is_scale_prob=False is not supported"),
        ({"decoder_drop_ffn_sublayer": [1, 0]}, r"decoder_drop_ffn_sublayer=\[1, 0\] leaves out"),
        ({"encoder_ffn_embed_dim_choice": [32]}, None),
        ({"decoder_embed_choice": [24]}, r"decoder_embed_dim=32 is not the largest .* 24"),
        ({"encoder_layer_num_choice": None}, r"lack encoder_layer_num_choice"),
        ({"decoder_arbitrary_ende_attn_choice": [3]}, r"decoder_arbitrary_ende_attn=3 must be one"),
    ],
)
def test_a_setting_that_no_network_has(changed: dict[str, Any], message: str | None) -> None:
    if message is None:
        model_of(settings("moe2", **changed))  # the decoder has the wider choices
        return
    with pytest.raises(UserError, match=message):
        model_of(settings("moe2", **changed))


def test_an_identity_expert_and_equal_experts() -> None:
    widths = sub_settings("fractional_experts", encoder_std_vs_dummy_experts=[1, 0])
    arch = model_of(widths).arch
    assert arch is not None
    assert arch.encoder_experts == ((32, 64, 48), (0, 32))
    assert (
        model_of(settings("moe2", encoder_std_vs_dummy_experts=[0, 1])).space.expert_ffn_dims[0]
        == 0
    )
    one_width = {f"{side}_each_expert_ffn_dim": [1] for side in ("encoder", "decoder")}
    assert model_of(settings("moe2", **one_width)).equal_experts
    assert not model_of(settings("moe2")).equal_experts
    equal = sub_settings(
        "fractional_experts",
        encoder_each_expert_ffn_dim_listoflist=None,
        decoder_each_expert_ffn_dim_listoflist=None,
    )
    assert model_of(equal).arch.encoder_experts == ((32,) * 3, (48,) * 2)  # type: ignore[union-attr]


def test_an_unknown_layout_names_the_first_key(tmp_path: pathlib.Path) -> None:
    modern = {
        name.replace("self_attn.in_proj_weight", "self_attn.q_proj.weight"): array
        for name, array in weights("dense2").items()
    }
    with pytest.raises(UserError, match=r"'encoder\.layers\.0\.self_attn\.q_proj\.weight' has no"):
        converted(tmp_path, Checkpoint(modern, settings("dense2")))
    learned = weights("dense2") | {"encoder.embed_positions.weight": np.ones((9, 32))}
    with pytest.raises(UserError, match=r"'encoder\.embed_positions\.weight' has no place"):
        converted(tmp_path, Checkpoint(learned, settings("dense2")))
    assert not (tmp_path / "W").exists()


def test_vocabulary_of_another_model(tmp_path: pathlib.Path) -> None:
    one = checkpoint("dense_mixed", sub=True)
    (tmp_path / "short").write_text("a 1\nb 1\n")
    with pytest.raises(UserError, match=r"short has 6 pieces .* the model's table 50"):
        converted(tmp_path, one, dictionary=str(tmp_path / "short"))
    with pytest.raises(UserError, match=r"absent cannot be read \(No such file"):
        converted(tmp_path, one, dictionary=str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"--words=bytes must be one of wmt16_en_de"):
        converted(tmp_path, one, words="bytes")
    home = checkpoint("dense_mixed", sub=True, data=["data/binary/my_corpus/"])
    with pytest.raises(UserError, match=r"folder 'my_corpus', whose preparation is not known"):
        converted(tmp_path, home, words=None)
    nameless = checkpoint("dense_mixed", sub=True, target_lang=None)
    with pytest.raises(UserError, match="does not name its target language"):
        converted(tmp_path, nameless)
    root = converted(tmp_path, nameless, target_language="nl")
    assert json.loads((root / "config.json").read_text())["data.target_language"] == "nl"
    with pytest.raises(UserError, match="holds files already"):
        converted(tmp_path, one)


def test_what_is_no_checkpoint() -> None:
    with pytest.raises(UserError, match=r"no checkpoint of fairseq.* holds 'state_dict'"):
        parse({"state_dict": {}}, "--checkpoint=x.pt")
    with pytest.raises(UserError, match="and holds list"):
        parse([1], "--checkpoint=x.pt")


def saved(folder: pathlib.Path, state: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """A file of torch.save with objects of fairseq's meters, as its trainer adds them."""
    torch = pytest.importorskip("torch", reason="the extra convert is not installed")
    module = types.ModuleType("fairseq.meters")
    meter = type("AverageMeter", (), {"__module__": "fairseq.meters"})
    module.AverageMeter = meter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fairseq", types.ModuleType("fairseq"))
    monkeypatch.setitem(sys.modules, "fairseq.meters", module)
    average = meter()
    average.avg = 3.0
    state = state | {"extra_state": {"train_meters": {"valid_nll_loss": average}, "best": 4.5}}
    torch.save(state, folder / "model.pt", **options)
    monkeypatch.undo()
    return str(folder / "model.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_reads_the_file(
    zipped: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the format of today and that of PyTorch 1.5 and before, in half precision."""
    torch = pytest.importorskip("torch", reason="the extra convert is not installed")
    own = weights("dense2")
    state = {
        "args": settings("dense2"),
        "model": collections.OrderedDict((k, torch.tensor(v).half()) for k, v in own.items()),
        "optimizer_history": [{"criterion_name": "LabelSmoothed", "num_updates": 7}],
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(2)}}},
    }
    path = saved(tmp_path, state, monkeypatch, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path)
    assert found.arguments == state["args"]
    assert found.updates == 7
    assert found.validation_nll == pytest.approx(3 * math.log(2))
    assert list(found.weights) == list(own)
    for name, array in own.items():
        assert found.weights[name].dtype == np.float32
        np.testing.assert_array_equal(found.weights[name], array.astype(np.float16))


class Attack:
    """Code that runs where a file is unpickled without care."""

    def __reduce__(self) -> Any:
        return (pathlib.Path.touch, (pathlib.Path("attacked"),))


def test_no_code_of_a_file_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="the extra convert is not installed")
    monkeypatch.chdir(tmp_path)
    torch.save({"args": argparse.Namespace(), "model": {"a": Attack()}}, "model.pt")
    with pytest.raises(UserError, match=r"model\.pt cannot be read as a checkpoint of tensors"):
        read_checkpoint("model.pt")
    assert not pathlib.Path("attacked").exists()
    pathlib.Path("half.pt").write_bytes(pathlib.Path("model.pt").read_bytes()[:100])
    with pytest.raises(UserError, match=r"half\.pt cannot be read"):
        read_checkpoint("half.pt")
    with pytest.raises(UserError, match=r"absent\.pt is not a file"):
        read_checkpoint("absent.pt")


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'automoe_jax\[convert\]'"):
        read_checkpoint("model.pt")


def test_help_is_answered_without_jax() -> None:
    script = (
        "import runpy, sys; sys.argv = ['convert', '--help']\n"
        "try: runpy.run_module('automoe_jax.convert', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert all(name in done.stdout.decode() for name in WORDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sub-Transformer", "SuperNet"])
def test_the_stages_continue(kind: str, tmp_path: pathlib.Path) -> None:
    """A SuperNet is searched and its architecture retrained; a sub-Transformer is evaluated,
    exported and translates, to what the network's own beam search gives.
    """
    sub = kind == "sub-Transformer"
    one = checkpoint("fractional_experts" if sub else "moe2", sub=sub)
    root = converted(tmp_path, one, text_config(tmp_path))
    workdir = Workdir(absolute(root))
    before = runs.load(*_result(workdir, sub)).params
    command = ["automoe_jax.main", f"--config={root}/config.json", f"--workdir={root}"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    out = done.stdout.decode()
    assert f"{'retrain' if sub else 'supernet'}: finished before, skipped" in out
    assert "redo" not in out
    rows = json.loads((root / "evaluate" / "results.json").read_text())["rows"]
    assert {row["role"] for row in rows} >= {"retrained"} | (set() if sub else {"inherited"})
    assert (root / "report.html").exists()
    after = runs.load(*_result(workdir, sub)).params
    np.testing.assert_array_equal(before["embedding"]["table"], after["embedding"]["table"])
    lines = ["the fast there", "er an ban", "x y z"]
    found = [load_engine(root, engine=engine, beam_size=3) for engine in ("onnx", "jax")]
    texts = [
        [[one.text for one in best] for best in engine.alternatives(lines, 3, False)]
        for engine in found
    ]
    assert texts[0] == texts[1]
    assert any(text for best in texts[0] for text in best)


def text_config(folder: pathlib.Path) -> Config:
    """Settings of the tiny test run, on text over the dictionary's letters."""
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice([*ALPHABET, " "], 12)).strip() or "a" for _ in range(120)]
    for name in ("source", "target"):
        (folder / name).write_text("".join(f"{line} {name[:1]}\n" for line in lines))
    file = configuration.ConfigFile(str(pathlib.Path(__file__).parents[1] / "stages/tiny.py"), "")
    tiny = configuration.read_config(file)
    data = dataclasses.replace(
        tiny.data,
        source="text",
        path=f"{folder}/source",
        target_path=f"{folder}/target",
        validation_pairs=10,
        test_pairs=8,
        buckets=(24,),
    )
    retrain = dataclasses.replace(tiny.retrain, dense_baseline=False)
    return dataclasses.replace(tiny, data=data, retrain=retrain)


def _result(workdir: Workdir, sub: bool) -> tuple[Any, Spec]:
    config = workdir.config()
    if sub:
        return workdir.retrained, workdir.spec(config, workdir.arch())
    return workdir.supernet, workdir.spec(config)
