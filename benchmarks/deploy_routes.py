"""Trained routes: a trained translator whose decoder has several experts, against the same network
with one expert in each decoder layer, the widest, in the deployed engine.

    python -m benchmarks.deploy_routes --workdir=runs/automoe --json=routes.json

Translates sentences of the test text one by one, in turn, with one thread and the beam of the
evaluation. The dense network has untrained weights; both make exactly 32 steps, because no number
of finished hypotheses ends their search. Times are those of the processor, which other programs
disturb less than the time of the day.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.export.models import translator
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import PRECISIONS, Settings, Weights
from automoe_jax.export.untrained import untrained
from automoe_jax.export.workdirs import trained
from automoe_jax.inference.engine.hypotheses import Records
from automoe_jax.inference.engine.session import run as run_session
from automoe_jax.inference.engine.session import session
from automoe_jax.latency.timing import NEVER, in_turn
from automoe_jax.runtime.files import read_json
from benchmarks.harness import Row, run, timed_parser

STEPS = 32
SENTENCES = 8
GOAL = 1.3
Search = Callable[[np.ndarray, bool], Records]  # (source [S], whether to explain) → its records


def widest_alone(arch: Arch) -> Arch:
    """The architecture with only the widest expert of each decoder layer."""
    record = arch.to_dict()
    for layer in record["decoder"]["layers"]:
        widths = layer["expert_ffn_dims"]
        layer |= {"expert_ffn_dims": [max(widths)], "top_k": 1} if widths else {}
    return Arch.from_dict(record)


def searcher(arch: Arch, settings: Settings, weights: Weights, beams: int) -> Search:
    """Beam search of one sentence in the engine."""
    loaded = session(translator(arch, settings, weights).SerializeToString(), 1)

    def search(source: np.ndarray, explain: bool) -> Records:
        feeds: dict[str, Any] = {
            "source": np.append(source, settings.eos_id)[None],
            "beams": np.array(beams),
            "max_length": np.array(STEPS),
            "stop": np.array(NEVER),
            "pieces": np.zeros(0, np.int64),
            "own": np.zeros((1, 0), bool),
            "explain": np.array(explain),
        }
        return Records(*run_session(loaded, feeds))

    return search


def distinct_experts(records: Records, beams: int, arch: Arch) -> list[float]:
    """Mean number of experts of each decoder layer that the hypotheses of a step use."""
    gates = records.gates.reshape(len(records.gates), beams, -1)
    ends = np.cumsum([len(widths) for widths in arch.decoder_experts])[:-1]
    layers = np.split((gates > 0).any(axis=1), ends, axis=-1)
    return [float(used.sum(axis=-1).mean()) for used in layers]


def milliseconds(searches: list[Search], sources: list[np.ndarray], repeats: int) -> list[float]:
    """For each search the median processor time of a translation by its steps."""
    taken: list[list[float]] = [[] for _ in searches]
    for number in range(repeats + 1):  # the first warms up
        for i in in_turn(len(searches), number):
            started = time.process_time()
            for source in sources:
                searches[i](source, False)
            taken[i].append(time.process_time() - started)
    return [1000 * statistics.median(own[1:]) / STEPS / len(sources) for own in taken]


def measure(flags: argparse.Namespace) -> list[Row]:
    """One row for each precision."""
    workdir, config, network = trained(flags.workdir)
    beams, tokenizer = config.evaluate.beam_size, workdir.tokenizer()
    lines = read_json(workdir.text_path("test"))["source"][:SENTENCES]
    longest = config.data.buckets[-1] - 1
    sources = [ids[:longest] for ids in tokenizer.encode(lines)]
    arch, settings, weights = inputs_of(network, config.data.buckets)
    dense, rows = widest_alone(arch), []
    for precision in PRECISIONS:
        own = dataclasses.replace(settings, precision=precision)
        both = [
            searcher(arch, own, weights, beams),
            searcher(dense, own, untrained(dense, own), beams),
        ]
        ms, dense_ms = milliseconds(both, sources, flags.repeats)
        each = [distinct_experts(both[0](source, True), beams, arch) for source in sources]
        distinct = np.mean(each, axis=0)
        shared = bool(np.all(distinct == 1))
        ratio = ms / dense_ms
        cells = {
            "experts of the decoder's layers": str(list(map(list, arch.decoder_experts))),
            "engine": precision,
            "beam": str(beams),
            "distinct experts of a step": ", ".join(f"{one:.2f}" for one in distinct),
            "ms of a step": f"{ms:.3f}",
            "dense ms of a step": f"{dense_ms:.3f}",
            "ratio": f"{ratio:.2f}",
        }
        title = "Trained routes, against the widest expert alone, one sentence, 1 thread"
        figures = {"ms": ms, "dense_ms": dense_ms, "ratio": ratio, "distinct": distinct.mean()}
        goal, met = (f"≤ {GOAL}", ratio <= GOAL) if shared else ("", None)
        rows.append(Row(title, cells, goal, met, figures))
    return rows


if __name__ == "__main__":
    arguments = timed_parser("benchmarks.deploy_routes", __doc__)
    arguments.add_argument("--workdir", type=Path, required=True, help="folder of a finished run")
    run(measure, arguments)
