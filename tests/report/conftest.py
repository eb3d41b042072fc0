"""A small, invented report with all parts."""

import pytest

from automoe_jax.arch import make
from automoe_jax.report import ReportContents, Role, Row, RowKey, Sample
from automoe_jax.report.rows import DENSE, INHERITED, RETRAINED
from automoe_jax.search.candidate import Candidate
from automoe_jax.space import SearchSpace
from tests.report.candidates import candidate

SPACE = SearchSpace(
    qkv_dim=64,
    encoder_embed_dims=(48, 64),
    decoder_embed_dims=(48, 64),
    encoder_layers=(1, 2, 3),
    decoder_layers=(1, 2),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1, 2),
    encoder_experts=(1, 2, 3),
    decoder_experts=(1, 2),
    expert_ffn_dims=(64, 128),
    top_k=(1, 2),
)
ARCH = make(
    qkv_dim=64,
    encoder_embed_dim=64,
    decoder_embed_dim=48,
    encoder=[
        {"self_heads": 4, "expert_ffn_dims": [0, 128, 64], "top_k": 2},
        {"self_heads": 2, "expert_ffn_dims": [128], "top_k": 1},
    ],
    decoder=[
        {
            "self_heads": 4,
            "cross_heads": 2,
            "cross_layers": 2,
            "expert_ffn_dims": [64, 128],
            "top_k": 1,
        }
    ],
)
SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1"


def row(key: RowKey, bleu: float | None, flops: float | None = None, **more: object) -> Row:
    counted = {"params": flops / 20, "active_params": flops / 40} if flops else {}
    return Row(
        *key,
        bleu=bleu,
        chrf=None if bleu is None else bleu + 9,
        bleu_signature=SIGNATURE,
        flops=flops,
        **counted,
        **more,
    )


def curve(steps: int, routed: bool) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for step in range(10, steps + 1, 10):
        records.append(
            {"step": step, "loss": 9.0 / step + 0.7, "nll": 7.0 / step + 0.5, "learning_rate": 1e-3}
        )
        if routed:
            records[-1] |= {
                "routing_entropy": [0.9, None, 0.5, 0.7, 0.8],
                "dead_experts": [0.0, None, 0.25, 0.0, 0.0],
            }
        if step % 50 == 0:
            records.append({"step": step, "validation_nll": 7.0 / step + 0.6})
    return records


def candidates(count: int) -> list[Candidate]:
    origins = ("random", "mutation", "crossover")
    made = [
        candidate(2 + (i * 7 % 11) / 10 + 1 / (1 + i % 13), 1e6 * (8 + i % 13), origins[i % 3])
        for i in range(count)
    ]
    return [*made, candidate(1.875, 9e6, "mutation", ARCH)]


@pytest.fixture(scope="session")
def contents() -> ReportContents:
    every = candidates(40)
    return ReportContents(
        title="Toy <English> & German",
        arch=ARCH,
        space=SPACE,
        config={
            "data.source_language": "en",
            "search.source_length": 23,
            "search.target_length": 23,
            "data.buckets": (16, 32),
        },
        command="python -m automoe_jax.main --config=configs/demo.py",
        date="2025-06-03",
        device="2 × CPU",
        versions={"jax": "0.10.2"},
        seed=7,
        data_statistics={
            "pairs_read": 24000,
            "splits": {
                "train": {"pairs": 20123, "tokens": 1},
                "test": {"pairs": 1001, "tokens": 2},
            },
            "odd": {"deep": {"deeper": {"deepest": 4321}}},
        },
        costs={
            "flops": 9e6,
            "flops_min": 8e6,
            "flops_max": 1e7,
            "params": 4e5,
            "active_params": 2e5,
        },
        curves={
            Role.SUPERNET: curve(200, True),
            Role.RETRAINED: curve(100, True),
            Role.DENSE: curve(100, False),
        },
        candidates=every,
        pareto=every[-1:],
        hypervolume={
            "reference": {"loss": 5.25, "flops": 2.1e7},
            "by_generation": [0.31, 0.35, 0.39],
        },
        limits={"max_flops": 1.9e7, "max_params": 0.0},
        results=[
            row(
                RETRAINED,
                78.34,
                9e6,
                train_tokens=2_048_000,
                train_seconds=88.2,
                decode_sentences_per_second=61.2,
                note="from scratch",
            ),
            row(INHERITED, 61.2, 9e6),
            row(DENSE, 79.02, 2.1e7),
            row(RowKey(Role.BASELINE, "word_by_word"), 21.4),
            row(RowKey(Role.BASELINE, "copy"), None),
        ],
        samples=[
            Sample(
                "A <script>alert(1)</script> green | table.",
                "Ein grüner Tisch.",
                {
                    RETRAINED: "Ein grüner Tisch.",
                    INHERITED: "Ein <img src=http://evil/x.png> Tisch.",
                    DENSE: "",
                },
            )
        ],
        stage_seconds={"prepare": 3.2, "supernet": 122.5},
    )
