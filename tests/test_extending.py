"""The walks of docs/EXTENDING.md: each adds something from outside the package and uses it."""

import dataclasses
import functools
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.compare.experiments import load_experiments
from automoe_jax.config import SearchConfig, default_config, from_config_dict
from automoe_jax.data.corpus import load_corpus
from automoe_jax.data.sources import SOURCES
from automoe_jax.errors import UserError
from automoe_jax.export import models
from automoe_jax.export.network import inputs_of
from automoe_jax.extract import extract
from automoe_jax.inference.engine import session
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import ForwardOptions, Output, apply
from automoe_jax.ops.grouped import ExpertRows, Experts, backends, experts_ffn
from automoe_jax.registry import Registry, import_file
from automoe_jax.routers import ROUTERS, RouterConfig
from automoe_jax.search.algorithms import ALGORITHMS
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.limits import COSTS, Conditions, cost_function
from automoe_jax.search.sampling import even_draws
from automoe_jax.space import SearchSpace
from automoe_jax.workdir import Workdir, read_json
from tests.oracles import experts_loop, quick_jit, random_network, routing
from tests.stages.tiny import get_config as tiny_config

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "EXTENDING.md").read_text()
VOCAB, PAD = 30, 1
RNG = np.random.default_rng(0)


def code(name: str) -> str:
    """The code block of the page that starts with the comment `# name`."""
    found = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1, f"docs/EXTENDING.md has {len(found)} code blocks called {name}"
    return found[0]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder for files from the page; what they register is removed afterwards."""
    registries: tuple[Registry[Any], ...] = (ROUTERS,)
    registries += (backends.BACKENDS, SOURCES, ALGORITHMS, COSTS)
    known = [dict(registry) for registry in registries]
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for registry, entries in zip(registries, known, strict=True):
        registry.clear()
        registry.update(entries)


def write(folder: pathlib.Path, *names: str) -> pathlib.Path:
    """The code blocks as files; the path of the last one."""
    for name in names:
        (folder / name).write_text(code(name))
    return folder / names[-1]


def train_a_few_steps(config: pathlib.Path, workdir: pathlib.Path) -> str:
    """Runs the first stages of the pipeline, from the text to a trained SuperNet."""
    run_stages(config, workdir, "prepare,supernet")
    return (workdir / "supernet" / "metrics.jsonl").read_text()


def run_stages(config: pathlib.Path, workdir: pathlib.Path, stages: str, *options: str) -> None:
    """Runs some stages of the pipeline in a separate process."""
    command = [sys.executable, "-m", "automoe_jax.main", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--config.stages={stages}", *options]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        command, env=os.environ | paths, cwd=ROOT, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()


# A router

SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(16,),
    encoder_layers=(1,),
    decoder_layers=(1,),
    encoder_self_heads=(1, 2),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    cross_layers=(1,),
    encoder_experts=(2, 3),
    decoder_experts=(2, 3),
    expert_ffn_dims=(8, 16),
)


@quick_jit
def routed(network: Network, arch: Arch, source: jax.Array, target_input: jax.Array) -> Output:
    forward_options = ForwardOptions(routings=True)
    return apply(network, arch, source, target_input, forward_options=forward_options)


def test_a_router_in_the_model(folder: pathlib.Path) -> None:
    """Masked equals extracted, every token gets the expert of the option, and costs count one."""
    options = import_file(str(write(folder, "first_expert.py")))["Options"]
    router = RouterConfig("first", options=options(expert=1))
    supernet = random_network(SPACE, VOCAB, router=router)
    assert "router_kernel" not in supernet.params["encoder"]["layer_0"]["experts"]
    source, target_input = RNG.integers(4, VOCAB, (3, 9)), RNG.integers(4, VOCAB, (3, 6))
    source[1, 6:] = PAD
    arch = dataclasses.replace(SPACE, encoder_experts=(2,), encoder_self_heads=(1,)).smallest()
    masked, exact = (
        routed(network, arch, source, target_input)
        for network in (supernet, extract(supernet, arch))
    )
    np.testing.assert_allclose(masked.logits, exact.logits, atol=2e-5)
    for layer in (*masked.routings, *exact.routings):
        assert layer is not None
        np.testing.assert_array_equal(layer.chosen, 1)
    assert router.costs(arch).experts_per_token == (1.0, 1.0)
    assert not router.costs(arch).gated


def test_a_router_in_an_export(folder: pathlib.Path) -> None:
    """ONNX Runtime computes the logits of JAX; a router without a graph is rejected."""
    options = import_file(str(write(folder, "first_expert.py")))["Options"]
    router = RouterConfig("first", options=options(expert=1))
    supernet = random_network(SPACE, VOCAB, router=router)
    network = extract(supernet, SPACE.largest())
    source, target_input = RNG.integers(4, VOCAB, (3, 9)), RNG.integers(4, VOCAB, (3, 6))
    source[1, 6:] = PAD
    inputs = inputs_of(network, (16,))
    with pytest.raises(UserError, match=r"cannot be exported to ONNX"):
        models.scorer(*inputs)
    import_file(str(write(folder, "first_expert_onnx.py")))
    model = session.session(models.scorer(*inputs).SerializeToString(), threads=1)
    (found,) = session.run(model, {"source": source, "target_input": target_input})
    expected = routed(network, network.spec.exact_arch, source, target_input).logits
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_router_s_own_settings(folder: pathlib.Path) -> None:
    import_file(str(write(folder, "first_expert.py")))
    config = default_config()
    config.router.kind = "first"
    assert from_config_dict(config).router.options.expert == 0
    config.router.options = {"expert": 9}
    with pytest.raises(UserError, match=r"config.router.options.expert=9 must be in \[0, 1\)"):
        from_config_dict(config)
    config.router.options = {"expert": 0}
    config.router.jitter = 0.1
    with pytest.raises(UserError, match=r"jitter=0.1 is for config.router.kind='topk'"):
        from_config_dict(config)


@pytest.mark.slow
def test_a_router_in_the_pipeline(folder: pathlib.Path) -> None:
    """The configuration file registers it; the SuperNet trains with it, and reads it back."""
    write(folder, "first_expert.py", "first_demo.py")
    small = folder / "small.py"
    small.write_text(
        "import first_demo\n"
        "from tests.stages import tiny\n"
        "def get_config():\n"
        "    config = tiny.get_config()\n"
        "    config.space.encoder_experts = config.space.decoder_experts = (2,)\n"
        "    config.router.update(first_demo.get_config().router)\n"
        "    return config\n"
    )
    metrics = train_a_few_steps(small, folder / "run")
    assert '"step": 12' in metrics
    # one of two experts gets every token: entropy 0, and half of the experts are dead
    assert '"routing_entropy": [0.0, 0.0, 0.0], "dead_experts": [0.5, 0.5, 0.5]' in metrics


# An expert backend

N, K, D, E = 40, 2, 12, 3
STARTS, WIDTHS = np.array([0, 8, 24]), np.array([8, 16, 5], np.int32)


def test_an_expert_backend(folder: pathlib.Path) -> None:
    """Values and gradients equal those of a loop over experts, by name and by `use_backend`."""
    import_file(str(write(folder, "every_expert.py")))

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(RNG.normal(size=shape), jnp.float32)

    x, cotangent = normal(N, D), normal(N, D)
    gates = jnp.asarray(RNG.random((N, K)), jnp.float32)
    experts = Experts(normal(29, D), normal(29), normal(29, D), normal(E, D))
    chosen = RNG.integers(0, E + 1, (N, K)).astype(np.int32)
    expected, gradients = experts_loop(x, gates, experts, chosen, STARTS, WIDTHS, cotangent)

    @functools.partial(quick_jit, static_argnames="backend")
    def run(backend: str | None) -> Any:
        def ffn(x: Any, gates: Any, experts: Any) -> jax.Array:
            rows = ExpertRows(STARTS, WIDTHS)
            return experts_ffn(
                x, routing(chosen, gates), experts, rows, (5, 8, 16), backend=backend
            )

        y, pullback = jax.vjp(ffn, x, gates, experts)
        return y, pullback(cotangent)

    close = functools.partial(np.testing.assert_allclose, atol=2e-4)
    jax.tree.map(close, run("every-expert"), (expected, gradients))
    with backends.use_backend("every-expert"):
        jax.tree.map(close, run(None), (expected, gradients))


@pytest.mark.slow
def test_an_expert_backend_in_the_pipeline(folder: pathlib.Path) -> None:
    """The SuperNet learns what it learns with the platform's own backend."""
    write(folder, "every_expert.py")
    plain, changed = folder / "plain.py", folder / "changed.py"
    plain.write_text(
        "from tests.stages import tiny\n"
        "def get_config():\n"
        "    config = tiny.get_config()\n"
        "    config.model.dropout = 0.0\n"  # backends draw differently
        "    return config\n"
    )
    changed.write_text(
        "import every_expert\n"
        "from automoe_jax.ops.grouped.backends import BY_PLATFORM\n"
        'BY_PLATFORM["cpu"] = "every-expert"\n' + plain.read_text()
    )
    losses = [
        np.array(re.findall(r'"loss": ([\d.]+)', train_a_few_steps(config, folder / config.stem)))
        for config in (plain, changed)
    ]
    assert len(losses[0]) >= 6
    np.testing.assert_allclose(*(loss.astype(float) for loss in losses), rtol=1e-4)


# A data source


def test_a_data_source(folder: pathlib.Path) -> None:
    """The configuration file registers it; its text is loaded, but not for classification."""
    write(folder, "three_sentences.py", "three_demo.py")
    settings = import_file(str(folder / "three_demo.py"))["get_config"]()
    config = from_config_dict(settings)
    corpus = load_corpus(config.data, folder)
    assert list(corpus.train) == [("the cat sleeps", "die Katze schläft")]
    assert list(corpus.validation) == [("the dog barks", "der Hund bellt")]
    assert list(corpus.test) == [("the bird sings", "der Vogel singt")]
    settings.task = "classify"
    settings.space.decoder_layers, settings.space.decoder_embed_dims = (0,), (512,)
    with pytest.raises(UserError, match=r"config\.data\.source='three' has no classes; choose"):
        from_config_dict(settings)


@pytest.mark.slow
def test_a_data_source_in_the_pipeline(folder: pathlib.Path) -> None:
    """Its text is prepared and trained on; a command that reads only the workdir knows it."""
    write(folder, "three_sentences.py", "three_demo.py")
    small = folder / "small.py"
    small.write_text(
        "import three_demo\n"
        "from tests.stages import tiny\n"
        "def get_config():\n"
        "    config, demo = tiny.get_config(), three_demo.get_config()\n"
        "    config.data.source, config.plugins = demo.data.source, demo.plugins\n"
        "    config.data.vocab_size = demo.data.vocab_size\n"
        "    return config\n"
    )
    metrics = train_a_few_steps(small, folder / "run")
    assert '"step": 12' in metrics
    workdir = Workdir(epath.Path(folder / "run"))
    assert read_json(workdir.text_path("test"))["target"] == ["der Vogel singt"]
    assert "three" not in SOURCES
    assert workdir.config().data.source == "three"


# A search algorithm


def test_a_search_algorithm(folder: pathlib.Path) -> None:
    """It is found by its name, resumes and keeps to the limits."""
    write(folder, "smallest_only.py", "smallest_demo.py")
    config = from_config_dict(import_file(str(folder / "smallest_demo.py"))["get_config"]())
    algorithm = ALGORITHMS.find(config.search.algorithm)
    assert algorithm.max_candidates(config.search) == 1
    recorded: list[Candidate] = []
    conditions = Conditions(config.search, config.router)
    search = functools.partial(
        algorithm.search, SPACE, config.search, cost=cost_function(conditions), seed=0
    )
    steps: list[tuple[int, int, float]] = []
    found = search(
        score=lambda trials: [Score(2.5) for _ in trials],
        record=recorded.append,
        known={},
        progress=lambda *step: steps.append(step),
    )
    assert [one.arch for one in found] == [SPACE.smallest()]
    assert found == recorded
    assert steps == [(0, 1, 2.5)]
    again = search(
        score=lambda trials: pytest.fail("scored again"),
        record=lambda _: pytest.fail("recorded again"),
        known={one.arch: one.score for one in found},
        progress=lambda *step: None,
    )
    assert again == found


@pytest.mark.slow
def test_a_search_algorithm_and_a_cost_in_the_pipeline(folder: pathlib.Path) -> None:
    """The search stage runs it; the candidate has the cost, and the SuperNet met its limit."""
    write(folder, "smallest_only.py", "depth.py", "smallest_demo.py")
    small = folder / "small.py"
    small.write_text(
        "import smallest_demo\n"
        "from tests.stages import tiny\n"
        "def get_config():\n"
        "    config = tiny.get_config()\n"
        "    config.search.algorithm = smallest_demo.get_config().search.algorithm\n"
        "    config.supernet.within_limits = True\n"
        "    return config\n"
    )
    options = [f"--config.plugins={folder / 'depth.py'}", "--config.search.limits=depth=2"]
    run_stages(small, folder / "run", "prepare,supernet,search", *options)
    workdir = Workdir(epath.Path(folder / "run"))
    space = from_config_dict(tiny_config()).space
    assert workdir.arch() == space.smallest()
    (candidate,) = (folder / "run" / "search" / "candidates.jsonl").read_text().splitlines()
    assert '"origin": "smallest"' in candidate
    assert '"depth": 2' in candidate


# A cost


def test_a_cost(folder: pathlib.Path) -> None:
    """Even draws keep to its limit, and are even: all else has the distribution of the space."""
    import_file(str(write(folder, "depth.py")))
    space = SearchSpace(encoder_layers=(1, 2, 3, 4), decoder_layers=(1, 2, 3, 4))
    settings = SearchConfig(limits="depth=4")
    cost = cost_function(Conditions(settings, RouterConfig()))
    draw, rng = even_draws(space, settings, cost), np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(300)]
    depths = {(int(arch.encoder_layers), int(arch.decoder_layers)) for arch in drawn}
    assert depths == {(a, b) for a in range(1, 4) for b in range(1, 4) if a + b <= 4}
    assert {cost(arch)["depth"] for arch in drawn} == {2, 3, 4}


# A system


def test_a_system(folder: pathlib.Path) -> None:
    """It is compared with those of the repository, by name."""
    path = write(folder, "two_wide_experts.py")
    found = load_experiments(["configs/systems.py:topk", str(path)])
    assert [one.name for one in found] == ["topk", "two_wide_experts"]
    assert [one.config.space.expert_ffn_dims for one in found] == [(512,), (1024,)]


@pytest.mark.slow
def test_a_system_in_the_pipeline(folder: pathlib.Path) -> None:
    """It trains a few steps, here on the built-in text and with fewer layers."""
    options = ["--config.data.source=toy", "--config.data.pairs=200", "--config.data.buckets=(72,)"]
    options += ["--config.data.validation_pairs=20", "--config.data.test_pairs=20"]
    options += ["--config.data.vocab_size=320", "--config.retrain.steps=3"]
    options += [f"--config.space.{side}_layers=(1,)" for side in ("encoder", "decoder")]
    stages = "prepare,supernet,search,retrain"
    run_stages(write(folder, "two_wide_experts.py"), folder / "run", stages, *options)
    arch = Workdir(epath.Path(folder / "run")).arch()
    assert arch.encoder_experts == arch.decoder_experts == ((1024, 1024),)
    assert (folder / "run" / "retrain" / "subtransformer" / "summary.json").exists()
