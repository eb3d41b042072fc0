"""The models of `benchmarks.deploy`, as files."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from automoe_jax import arch as arch_lib
from automoe_jax.arch import DECODER, Arch
from automoe_jax.export.models import translator
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import FLOAT32, INT8, PRECISIONS, Settings, Weights
from automoe_jax.export.untrained import untrained
from automoe_jax.export.weights import separated
from automoe_jax.inference.engine.folder import MODEL, WEIGHTS
from automoe_jax.model import Network, init
from benchmarks.decode import converted, dense_space
from benchmarks.deploy_worker import CANDIDATES, STEPS

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "costs.json"


@dataclasses.dataclass(frozen=True)
class Shape:
    """A dense network."""

    width: int
    heads: int
    layers: int
    vocab_size: int

    def __str__(self) -> str:
        return (
            f"{self.layers} + {self.layers} layers, {self.width}/{4 * self.width},"
            f" vocabulary {self.vocab_size}"
        )


SHAPES = {
    "tiny": Shape(96, 2, 2, 1000),
    "small": Shape(256, 4, 3, 8000),
    "base": Shape(512, 8, 6, 32_000),
}
# En-De networks; table 5 of AutoMoE prints no embedding width: with 512, active parameters and
# FLOPs are those of its table 4
PAPER_VOCABULARY = 32_768
_STANDARD = (
    [[3072] * 5, [3072], [3072], [3072], [2048] * 2, [3072]],
    [[3072]] * 4,
)
_FRACTIONAL = (
    [
        [2048, 3072, 2048],
        [3072, 1024],
        [3072, 3072, 1024],
        [3072, 1024, 3072, 2048],
        [3072],
        [3072, 1024, 3072],
    ],
    [[3072, 1024, 2048], [3072], [3072], [3072]],
)
_BIG, _HAT = "transformer_big", "HAT_wmt14ende_xeon@450.9ms_bleu@28.5"


def architecture(
    width: int, heads: int, encoder: list[list[int]], decoder: list[list[int]]
) -> Arch:
    """Layers by the widths of their experts, one of which each token uses."""
    common = {"self_heads": heads, "cross_heads": heads, "cross_layers": 1, "top_k": 1}
    layers = [
        [common | {"expert_ffn_dims": widths} for widths in side] for side in (encoder, decoder)
    ]
    return arch_lib.make(
        qkv_dim=width,
        encoder_embed_dim=width,
        decoder_embed_dim=width,
        encoder=layers[0],
        decoder=layers[1],
    )


def dense_arch(name: str) -> Arch:
    """The architecture of a shape."""
    shape = SHAPES[name]
    return architecture(shape.width, shape.heads, *[[[4 * shape.width]] * shape.layers] * 2)


def dense_network(name: str) -> Network:
    """The network of a shape, always with the same weights."""
    shape = SHAPES[name]
    space = dense_space(width=shape.width, heads=shape.heads, layers=shape.layers)
    return init(space, shape.vocab_size, jax.random.key(0), arch=space.largest_dense())


def with_experts() -> Arch:
    """The shape `small` with four experts in each layer of the decoder."""
    shape = SHAPES["small"]
    units = [4 * shape.width]
    return architecture(
        shape.width, shape.heads, [units] * shape.layers, [units * 4] * shape.layers
    )


def paper_archs() -> dict[str, Arch]:
    """The published En-De architectures."""
    published = {row["name"]: row["arch"] for row in json.loads(GOLDEN.read_text())}
    return {
        "Transformer-Big": Arch.from_dict(published[_BIG]),
        "HAT, 57 M": Arch.from_dict(published[_HAT]),
        "AutoMoE, standard experts": architecture(512, 8, *_STANDARD),
        "AutoMoE, fractional experts": architecture(512, 8, *_FRACTIONAL),
    }


def folder_of(name: str) -> str:
    """The folder of a model with this name."""
    return name.replace(",", "").replace(" ", "-")


def build_dense(name: str, out: pathlib.Path) -> None:
    """Writes the network of a shape for the engine and for CTranslate2, unless it is there."""
    network = dense_network(name)
    arch, settings, weights = inputs_of(network, (STEPS * 2,))
    build_engine(arch, settings, weights, out / name)
    for precision in PRECISIONS:
        folder = out / name / f"ctranslate2-{precision}"
        if folder.exists():
            continue
        spec = converted(network, arch, settings.vocab_size)
        mapping = out / name / "vmap.txt"
        mapping.write_text("\t" + " ".join(map(str, range(CANDIDATES))) + "\n")
        spec.register_vocabulary_mapping(str(mapping))
        spec.validate()
        spec.optimize(quantization=precision if precision == INT8 else None)
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        spec.save(str(part))
        part.rename(folder)


def build_engine(arch: Arch, settings: Settings, weights: Weights, out: pathlib.Path) -> None:
    """Writes the engine's files of a network in both precisions, unless they are there."""
    for precision in PRECISIONS:
        folder = out / precision
        if folder.exists():
            continue
        own = dataclasses.replace(settings, precision=precision)
        model, constants = separated(translator(arch, own, weights), WEIGHTS)
        part = folder.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        (part / MODEL).write_bytes(model)
        (part / WEIGHTS).write_bytes(constants)
        part.rename(folder)


def settings_of(arch: Arch, vocab_size: int) -> Settings:
    """Settings of a network with the widths of `arch` alone."""
    return Settings(
        vocab_size=vocab_size,
        encoder_super_dim=int(arch.encoder_embed_dim),
        decoder_super_dim=int(arch.decoder_embed_dim),
        max_source=2 * STEPS,
        max_target=2 * STEPS,
        precision=FLOAT32,
    )


def build_experts(out: pathlib.Path) -> None:
    """Writes networks with four experts: routes of an untrained router, and all to one expert."""
    arch, vocab_size = with_experts(), SHAPES["small"].vocab_size
    settings = settings_of(arch, vocab_size)
    weights: Any = untrained(arch, settings)
    build_engine(arch, settings, weights, out / "experts-spread")
    for layer in weights[DECODER].values():
        layer["experts"]["router_kernel"] *= 0
        layer["experts"]["router_bias"] = np.array([4, 0, 0, 0], np.float32)
    build_engine(arch, settings, weights, out / "experts-shared")
    dense = dense_arch("small")
    settings = settings_of(dense, vocab_size)
    build_engine(dense, settings, untrained(dense, settings), out / "experts-dense")


def build_paper(out: pathlib.Path) -> None:
    """Writes the published architectures."""
    for name, arch in paper_archs().items():
        settings = settings_of(arch, PAPER_VOCABULARY)
        build_engine(arch, settings, untrained(arch, settings), out / folder_of(name))
