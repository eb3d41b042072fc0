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

from automoe_jax.arch import Arch
from automoe_jax.config import default_config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.model.network import Network
from automoe_jax.model.transformer import ForwardOptions, Output, apply
from automoe_jax.ops.grouped import ExpertRows, Experts, backends, experts_ffn
from automoe_jax.ops.routers import FUNCTIONS
from automoe_jax.registry import Registry, import_file
from automoe_jax.routers import ROUTERS, RouterConfig
from automoe_jax.space import SearchSpace
from tests.oracles import experts_loop, quick_jit, random_network

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
    registries: tuple[Registry[Any], ...] = (ROUTERS, FUNCTIONS, backends.BACKENDS)
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
    command = [sys.executable, "-m", "automoe_jax.main", f"--config={config}"]
    command += [f"--workdir={workdir}", "--config.stages=prepare,supernet"]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        command, env=os.environ | paths, cwd=ROOT, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    return (workdir / "supernet" / "metrics.jsonl").read_text()


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
    for routing in (*masked.routings, *exact.routings):
        assert routing is not None
        np.testing.assert_array_equal(routing.chosen, 1)
    assert router.costs(arch).experts_per_token == (1.0, 1.0)
    assert not router.costs(arch).gated


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
            return experts_ffn(x, chosen, gates, experts, rows, (5, 8, 16), backend=backend)

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
