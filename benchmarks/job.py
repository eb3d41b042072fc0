"""Fixed job of the benchmarks: a SuperNet, sampled architectures, batches without padding."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.space import SearchSpace

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "job.json").read_text())
ORIGINAL = FACTS["original_pytorch_seen_on_2_cores"]
SPACE = SearchSpace(
    qkv_dim=256,
    encoder_embed_dims=(192, 256),
    decoder_embed_dims=(192, 256),
    encoder_layers=(3,),
    decoder_layers=(1, 2, 3),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1, 2, 3),
    encoder_experts=(1, 2, 3, 4),
    decoder_experts=(1, 2, 3, 4),
    expert_ffn_dims=(512, 768, 1024),
    top_k=(1,),
)
VOCAB_SIZE = 8000
LENGTH = 32
SENTENCES = 64
DROPOUT, ATTENTION_DROPOUT = 0.3, 0.1


def archs(name: str) -> list[Arch]:
    """The architectures listed under `name`: train_step, evaluate, largest, middle."""
    listed = FACTS[name]
    return [
        Arch.from_json(json.dumps(arch))
        for arch in (listed if isinstance(listed, list) else [listed])
    ]


def batch(sentences: int = SENTENCES) -> dict[str, jax.Array]:
    """Source and target [sentences, 32], on the device."""
    rng = np.random.default_rng(0)
    return {
        side: jax.device_put(rng.integers(4, VOCAB_SIZE, (sentences, LENGTH)).astype(np.int32))
        for side in ("source", "target")
    }


def stacked(arch: Arch) -> Arch:
    """`arch` with a leading axis of the update's sub-networks, as the training step expects it."""
    return jax.tree.map(lambda field: np.stack([field]), arch)
