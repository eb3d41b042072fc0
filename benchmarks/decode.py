"""Beam search: the fixed job against the original, and dense Transformers against CTranslate2 with
the same weights.

    pip install ctranslate2
    python -m benchmarks.decode --json=decode.json

Every sentence has 32 source tokens and is decoded for exactly 32 steps, because untrained
networks do not end sentences.
"""

import argparse
import functools
import os
import statistics
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.data.tokenizer import BOS, EOS, PAD, UNK
from automoe_jax.inference.decode import beam_search
from automoe_jax.model import Network, init
from automoe_jax.model.transformer import sinusoids
from automoe_jax.space import SearchSpace
from benchmarks import job
from benchmarks.harness import Row, medians, run, timed_parser

STEPS = 32
BEAM = 5


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times beam search against the original and against CTranslate2."""
    base = _ctranslate2(flags.repeats, width=512, heads=8, layers=6, vocab_size=32_000)
    small = _ctranslate2(flags.repeats, width=256, heads=4, layers=3, vocab_size=8000)
    return [*_fixed_job(flags.repeats), *base, *small]


def _fixed_job(repeats: int) -> list[Row]:
    (arch,), sentences = job.archs("middle"), 16
    network, source = (
        init(job.SPACE, job.VOCAB_SIZE, jax.random.key(0), arch=arch),
        job.batch(sentences)["source"],
    )
    seconds = medians(
        {f"beam {size}": functools.partial(_ours, network, source, size) for size in (1, BEAM)},
        repeats,
        title="decode",
    )
    rows = []
    for size in (1, BEAM):
        rate, original = (
            sentences / seconds[f"beam {size}"],
            statistics.mean(job.ORIGINAL[f"beam{size}_sentences_per_s"]),
        )
        goal, met = ("≥ 3", rate >= 3 * original) if size == BEAM else ("", None)
        rows.append(
            Row(
                f"Beam search against the original (timed on another machine): {sentences}"
                f" sentences of {STEPS} + {STEPS} tokens, architecture 'middle' of the fixed job",
                {
                    "beam": str(size),
                    "sentences/s": f"{rate:.0f}",
                    "original's": f"{original:.0f}",
                    "speed-up": f"{rate / original:.2f}",
                },
                goal,
                met,
                {"sentences_per_second": rate, "speedup": rate / original},
            )
        )
    return rows


def _ours(network: Network, source: jax.Array | np.ndarray, beam_size: int) -> jax.Array:
    return beam_search(network, jnp.asarray(source), beam_size=beam_size, max_length=STEPS)[0]


def dense_space(*, width: int, heads: int, layers: int) -> SearchSpace:
    """The space of one dense architecture."""
    return SearchSpace(
        qkv_dim=width,
        encoder_embed_dims=(width,),
        decoder_embed_dims=(width,),
        encoder_layers=(layers,),
        decoder_layers=(layers,),
        encoder_self_heads=(heads,),
        decoder_self_heads=(heads,),
        decoder_cross_heads=(heads,),
        cross_layers=(1,),
        encoder_experts=(1,),
        decoder_experts=(1,),
        expert_ffn_dims=(4 * width,),
        top_k=(1,),
    )


def _ctranslate2(
    repeats: int, *, width: int, heads: int, layers: int, vocab_size: int
) -> list[Row]:
    import ctranslate2

    space = dense_space(width=width, heads=heads, layers=layers)
    arch = space.largest_dense()
    network = init(space, vocab_size, jax.random.key(0), arch=arch)
    source = np.random.default_rng(0).integers(4, vocab_size, (32, STEPS)).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        model = converted(network, arch, vocab_size)
        model.validate()
        model.save(folder)
        theirs = ctranslate2.Translator(
            folder,
            device="cpu",
            compute_type="float32",
            inter_threads=1,
            intra_threads=os.cpu_count(),
        )

        def translate(rows: np.ndarray, beam_size: int) -> list[list[str]]:
            words = [[str(token) for token in row] for row in rows]
            results = theirs.translate_batch(
                words,
                beam_size=beam_size,
                max_batch_size=32,
                max_decoding_length=STEPS,
                min_decoding_length=STEPS,
                length_penalty=0.6,
            )
            return [result.hypotheses[0] for result in results]

        agreement = _agreement(network, translate, source[:8])
        cases: dict[str, Any] = {}
        for size in (32, 1):
            rows = source[:size]
            cases[f"ours {size}"] = lambda rows=rows: _ours(network, rows, BEAM)
            cases[f"theirs {size}"] = lambda rows=rows: translate(rows, BEAM)
        seconds = medians(cases, repeats, title=f"CTranslate2, width {width}")
    lines = []
    for size in (32, 1):
        ours, other = size / seconds[f"ours {size}"], size / seconds[f"theirs {size}"]
        lines.append(
            Row(
                f"Beam {BEAM} against CTranslate2 {ctranslate2.__version__}: dense networks with"
                f" the same weights, float32, {STEPS} + {STEPS} tokens",
                {
                    "width": str(width),
                    "layers": f"{layers} + {layers}",
                    "vocabulary": str(vocab_size),
                    "batch": str(size),
                    "sentences/s": f"{ours:.1f}",
                    "CTranslate2": f"{other:.1f}",
                    "ratio": f"{ours / other:.2f}",
                    "equal greedy tokens": f"{agreement:.0%}",
                },
                "≥ 1.0",
                ours >= other,
                {
                    "ratio": ours / other,
                    "ours": ours,
                    "ctranslate2": other,
                    "equal_tokens": agreement,
                },
            )
        )
    return lines


def _agreement(network: Network, translate: Any, source: np.ndarray) -> float:
    """Share of equal greedy tokens; both run the same network."""
    ours = np.asarray(_ours(network, source, 1))[:, 0]
    theirs = translate(source, 1)
    equal = [
        str(a) == b
        for row, words in zip(ours, theirs, strict=True)
        for a, b in zip(row, words, strict=False)
    ]
    return float(np.mean(equal))


def converted(network: Network, arch: Arch, vocab_size: int) -> Any:
    """The network's weights as a CTranslate2 model."""
    from ctranslate2.specs import TransformerSpec

    params = jax.tree.map(np.array, network.params)  # it is quantised in place
    layers = tuple(
        int(np.sum(np.asarray(heads) > 0))
        for heads in (arch.encoder_self_heads, arch.decoder_self_heads)
    )
    spec = TransformerSpec.from_config(layers, int(arch.encoder_self_heads[0]), pre_norm=False)
    table = params["embedding"]["table"]
    # Position p of a sentence is row p + pad + 1 of ours.
    positions = sinusoids(PAD + 1 + 2 * STEPS, table.shape[1], PAD)[PAD + 1 :]
    for side in (spec.encoder, spec.decoder):
        side.scale_embeddings = True
        side.position_encodings.encodings = positions
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = table
    spec.decoder.projection.weight = table
    for name, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        for i, layer in enumerate(side.layer):
            own = params[name][f"layer_{i}"]
            _attention(
                layer.self_attention,
                own["self_attention"],
                own["self_attention_norm"],
                ("qkv", "out"),
            )
            if name == "decoder":
                _attention(
                    layer.attention,
                    own["cross_attention"],
                    own["cross_attention_norm"],
                    ("q", "kv", "out"),
                )
            experts = own["experts"]
            layer.ffn.linear_0.weight, layer.ffn.linear_0.bias = experts["w_in"], experts["b_in"]
            layer.ffn.linear_1.weight, layer.ffn.linear_1.bias = (
                np.ascontiguousarray(experts["w_out"].T),
                experts["b_out"][0],
            )
            _norm(layer.ffn.layer_norm, own["experts_norm"])
    tokens = [str(i) for i in range(vocab_size)]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    special = {"bos": BOS, "eos": EOS, "unk": UNK}
    for field, token in special.items():
        setattr(spec.config, f"{field}_token", str(token))
    spec.config.decoder_start_token = str(EOS)
    spec.config.add_source_eos = False
    return spec


def _attention(
    theirs: Any, ours: dict[str, Any], norm: dict[str, Any], names: tuple[str, ...]
) -> None:
    for linear, name in zip(theirs.linear, names, strict=True):
        kernel, bias = ours[name]["kernel"], ours[name]["bias"]
        linear.weight = np.ascontiguousarray(kernel.reshape(kernel.shape[0], -1).T)
        linear.bias = bias.reshape(-1)
    _norm(theirs.layer_norm, norm)


def _norm(theirs: Any, ours: dict[str, Any]) -> None:
    theirs.gamma, theirs.beta = ours["scale"], ours["bias"]


if __name__ == "__main__":
    run(measure, timed_parser("benchmarks.decode", __doc__))
