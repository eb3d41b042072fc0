"""Inputs of a graph in addition to the architecture and the weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from automoe_jax.arch import DECODER, ENCODER, MAX_LAYERS, Arch
from automoe_jax.routers import TOP_K, RouterConfig

PRECISIONS = FLOAT32, INT8 = ("float32", "int8")

Weights = Mapping[str, Any]  # nested, as in `model.Network.params`, with NumPy arrays


@dataclasses.dataclass(frozen=True)
class Settings:
    """Static properties of a trained network and of its graph."""

    vocab_size: int
    # the widest embeddings of the search space, which determine the sinusoids
    encoder_super_dim: int
    decoder_super_dim: int
    max_source: int  # tokens of the longest source, EOS included
    max_target: int  # tokens of the longest translation, EOS included
    pad_id: int = 1
    eos_id: int = 2
    never: tuple[int, ...] = (0, 1)  # never generated
    router: RouterConfig = TOP_K
    classes: int = 0  # of a classifier, with the special ones before them
    special_classes: int = 4
    precision: str = FLOAT32
    norm: str = "post"  # LayerNorm after each residual sum, or pre: before each branch
    # tables of the vocabulary: all (one for source, target and output), decoder (the source has its
    # own) or none (three)
    shared_embeddings: str = "all"
    target_vocab_size: int = 0  # 0: as many pieces as the source has

    @property
    def output_size(self) -> int:
        """Number of pieces of the target's vocabulary."""
        return self.target_vocab_size or self.vocab_size

    def side_size(self, side: str) -> int:
        """Number of pieces of a side's vocabulary."""
        return self.vocab_size if side == ENCODER else self.output_size

    def input_table(self, side: str) -> str:
        """Name of the parameters with the embeddings of a side."""
        own = side == DECODER and self.shared_embeddings != "all"
        return "target_embedding" if own else "embedding"

    @property
    def output_table(self) -> str:
        """Name of the parameters that the decoder's states are projected with."""
        return "output" if self.shared_embeddings == "none" else self.input_table(DECODER)

    def super_dim(self, side: str) -> int:
        """The widest embeddings of a side."""
        return self.encoder_super_dim if side == ENCODER else self.decoder_super_dim


def embed_dim(arch: Arch, side: str) -> int:
    """The embedding width of a side."""
    return int(getattr(arch, f"{side}_embed_dim"))


def layer_number(side: str, layer: int) -> int:
    """The number of a layer in the hashes of random routes: the encoder's first."""
    return layer if side == ENCODER else MAX_LAYERS + layer


def sinusoids(rows: int, width: int, pad_id: int) -> np.ndarray:
    """Positions float32 [rows, width]: the first half sines, the second half cosines, the pad's row
    zero.
    """
    half = width // 2
    rate = np.exp(np.arange(half) * -(np.log(10000.0) / max(half - 1, 1)))
    angle = np.arange(rows)[:, None] * rate
    table = np.concatenate([np.sin(angle), np.cos(angle), np.zeros((rows, width % 2))], axis=1)
    table[pad_id] = 0
    return table.astype(np.float32)
