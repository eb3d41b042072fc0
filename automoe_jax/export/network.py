"""The adapter from `model.Network` to the graph builder's inputs."""

from collections.abc import Sequence

import jax
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.data.tokenizer import EOS, SPECIAL_IDS
from automoe_jax.export.settings import FLOAT32, Settings, Weights
from automoe_jax.inference.decode import NEVER
from automoe_jax.inference.lines import longest_translation
from automoe_jax.model.network import Network


def inputs_of(
    network: Network, buckets: Sequence[int], precision: str = FLOAT32
) -> tuple[Arch, Settings, Weights]:
    """Architecture, settings and NumPy weights of a sub-Transformer, for sources of at most the
    last bucket; raises `UserError` for a SuperNet.
    """
    spec = network.spec
    settings = Settings(
        vocab_size=spec.vocab_size,
        encoder_super_dim=spec.super_widths.encoder,
        decoder_super_dim=spec.super_widths.decoder,
        max_source=buckets[-1],
        max_target=longest_translation(buckets[-1]),
        pad_id=spec.pad_id,
        eos_id=EOS,
        never=NEVER,
        router=spec.router,
        classes=spec.classes,
        special_classes=len(SPECIAL_IDS),
        precision=precision,
        norm=spec.norm,
        shared_embeddings=spec.shared_embeddings,
        target_vocab_size=spec.target_vocab_size,
    )
    return spec.exact_arch, settings, jax.tree.map(np.asarray, network.params)
