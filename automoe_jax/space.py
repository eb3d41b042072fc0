"""The search space (SPEC 1.1)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Choices of every gene; see SPEC 1.1."""

    qkv_dim: int = 512
    encoder_embed_dims: tuple[int, ...] = (512, 640)
    decoder_embed_dims: tuple[int, ...] = (512, 640)
    encoder_layers: tuple[int, ...] = (6,)
    decoder_layers: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    encoder_self_heads: tuple[int, ...] = (4, 8)
    decoder_self_heads: tuple[int, ...] = (4, 8)
    decoder_cross_heads: tuple[int, ...] = (4, 8)
    cross_layers: tuple[int, ...] = (1, 2, 3)
    encoder_experts: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    decoder_experts: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    expert_ffn_dims: tuple[int, ...] = (1024, 2048, 3072)
    top_k: tuple[int, ...] = (1,)
