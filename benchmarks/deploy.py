"""Translation as it is deployed, against CTranslate2 and the bound of the memory's bandwidth.

    pip install ctranslate2
    python -m benchmarks.deploy --models=runs/bench/models --json=runs/bench/deploy/rows.json
    python -m automoe_jax.export --workdir=runs/demo --out=runs/bench/demo  # then, as one more row:
    python -m benchmarks.deploy --rows=start --exported=runs/bench/demo --json=…

Untrained weights. A sentence has 32 source tokens, and every system makes exactly 32 steps: the
engine and JAX because no number of finished hypotheses ends their search, CTranslate2 because
shortest and longest translation are 32 tokens. Each system is a process with as many cores as
threads; all processes of a row take turns of at least 0.1 s in each round.

A row of --json that exists is not measured again. --rows measures some rows, as `small` or
`small/1/5` for batch 1 and beam 5, and --seconds starts no row later; --build makes the models
alone.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.export.settings import FLOAT32, INT8
from automoe_jax.latency.timing import in_turn
from benchmarks import deploy_models
from benchmarks.deploy_models import PAPER_VOCABULARY, SHAPES
from benchmarks.deploy_worker import CANDIDATES, STEPS, reads
from benchmarks.harness import Row, parser, run_by_case

ROUNDS = 3, 9
ROW_SECONDS = 40  # for the rounds of a row, once it has made the fewest
SHORT = f"{INT8}, shortlist"
BOUND = "bound"
SETTINGS = [(batch, beam) for batch in (1, 32) for beam in (5, 1)]


@dataclasses.dataclass(frozen=True)
class System:
    """A process of a row."""

    kind: str  # in deploy_worker.SYSTEMS
    model: str  # its folder, relative to --models
    shortlist: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of a table: systems with the same sentences."""

    table: str
    model: str
    batch: int
    beam: int
    threads: int
    vocab_size: int
    systems: Mapping[str, System]

    @property
    def name(self) -> str:
        return f"{self.model}/{self.batch}/{self.beam}/{self.threads}"


@dataclasses.dataclass(frozen=True)
class Measured:
    """Result of a system."""

    seconds: list[float]  # of each round
    peak_bytes: int

    @property
    def ms(self) -> float:
        return 1000 * statistics.median(self.seconds)

    def __str__(self) -> str:
        low, high = (1000 * quantile for quantile in np.quantile(self.seconds, (0.25, 0.75)))
        return f"{_rounded(self.ms)} ({_rounded(low)}–{_rounded(high)})"


def dense_cases() -> Iterator[Case]:
    """The dense networks."""
    for name, shape in SHAPES.items():
        shortlist = CANDIDATES if shape.vocab_size > CANDIDATES else 0
        systems = {
            "XLA": System("xla", name),
            "engine float32": System("engine", f"{name}/{FLOAT32}"),
            f"engine {INT8}": System("engine", f"{name}/{INT8}"),
            f"engine {SHORT}": System("engine", f"{name}/{INT8}", shortlist),
            "CTranslate2 float32": System("ctranslate2", f"{name}/ctranslate2-{FLOAT32}"),
            f"CTranslate2 {INT8}": System("ctranslate2", f"{name}/ctranslate2-{INT8}"),
            f"CTranslate2 {INT8}, vmap": System(
                "ctranslate2", f"{name}/ctranslate2-{INT8}", CANDIDATES
            ),
        }
        for threads in (1, 2):
            for batch, beam in SETTINGS:
                yield Case(f"{shape}", name, batch, beam, threads, shape.vocab_size, systems)


def expert_cases() -> Iterator[Case]:
    """Four experts in the decoder, of which a token uses one, against one."""
    networks = {"dense": "experts-dense", "shared": "experts-shared", "spread": "experts-spread"}
    ways = {FLOAT32: (FLOAT32, 0), INT8: (INT8, 0), SHORT: (INT8, CANDIDATES)}
    systems = {
        f"{network} {way}": System("engine", f"{folder}/{precision}", shortlist)
        for network, folder in networks.items()
        for way, (precision, shortlist) in ways.items()
    }
    for threads in (1, 2):
        for beam in (5, 1):
            size = SHAPES["small"].vocab_size
            yield Case("Four experts", "experts", 1, beam, threads, size, systems)


def paper_cases() -> Iterator[Case]:
    """The published architectures."""
    ways = {FLOAT32: (FLOAT32, 0), INT8: (INT8, 0), SHORT: (INT8, CANDIDATES)}
    for way, (precision, shortlist) in ways.items():
        systems = {
            name: System("engine", f"{deploy_models.folder_of(name)}/{precision}", shortlist)
            for name in deploy_models.paper_archs()
        }
        for threads in (1, 2):
            name = f"paper-{way.replace(', ', '-')}"
            yield Case(way, name, 1, 5, threads, PAPER_VOCABULARY, systems)


def bytes_read(arch: Arch, vocab_size: int, weight_bytes: int) -> tuple[float, float]:
    """Bytes of weights that a step and the rest of a translation read, one expert a layer."""
    q, d, e = int(arch.qkv_dim), int(arch.decoder_embed_dim), int(arch.encoder_embed_dim)
    step = vocab_size * d + sum(4 * q * d + 2 * q * d + 2 * d * w[0] for w in arch.decoder_experts)
    once = sum(4 * q * e + 2 * e * w[0] for w in arch.encoder_experts)
    once += 2 * q * e * len(arch.decoder_experts)
    return weight_bytes * step, weight_bytes * once


class Process:
    """A running deploy_worker."""

    def __init__(self, case: Case, system: System, models: Path):
        is_file = system.kind != "bandwidth"
        model = str(models / system.model) if is_file else system.model
        numbers = (case.threads, system.shortlist, case.vocab_size)
        self._arguments = [system.kind, model, *map(str, numbers)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.deploy_worker", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request; raises `RuntimeError` if the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process ended: {self._arguments}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measured(case: Case, models: Path) -> dict[str, Measured]:
    """Times the systems of a case in turn."""
    request = {"batch": case.batch, "beam": case.beam}
    with contextlib.ExitStack() as stack:
        processes = {}
        for label, system in case.systems.items():
            processes[label] = Process(case, system, models)
            stack.callback(processes[label].close)
        for process in tqdm(processes.values(), desc=f"{case.name} (load)", leave=False):
            process.ask(**request, warm_up=True)
        started, least, most = time.perf_counter(), *ROUNDS
        answers: dict[str, list[dict[str, Any]]] = {label: [] for label in processes}
        labels = list(processes)
        for done in tqdm(range(most), desc=case.name, leave=False):
            spent = time.perf_counter() - started
            if done >= least and spent * (done + 1) / done > ROW_SECONDS:
                break
            for label in (labels[i] for i in in_turn(len(labels), done)):
                answers[label].append(processes[label].ask(**request, warm_up=False))
        return {
            label: Measured([one["seconds"] for one in own], own[-1]["peak_bytes"])
            for label, own in answers.items()
        }


def dense_rows(case: Case, models: Path) -> list[Row]:
    """Times of a dense network, its bounds, and for one setting memory and files."""
    arch = deploy_models.dense_arch(case.model)
    sizes = {
        "float32": bytes_read(arch, case.vocab_size, 4),
        INT8: bytes_read(arch, case.vocab_size, 1),
        SHORT: bytes_read(arch, min(case.vocab_size, CANDIDATES), 1),
    }
    readers = {
        f"{BOUND} {name}": System("bandwidth", str(int(step))) for name, (step, _) in sizes.items()
    }
    both = dataclasses.replace(case, systems={**case.systems, **readers})
    found = measured(both, models)
    bounds, rates = {}, {}
    for name, (step, once) in sizes.items():
        seconds = statistics.median(found[f"{BOUND} {name}"].seconds) / reads(int(step))
        bounds[name] = 1000 * (STEPS + once / step) * seconds
        rates[f"GB/s {name}"] = step / 1e9 / seconds
    ours, theirs = found[f"engine {SHORT}"].ms, found[f"CTranslate2 {INT8}, vmap"].ms
    goal, met = _dense_goal(case, theirs / ours, ours / bounds[SHORT])
    cells = {"batch": str(case.batch), "beam": str(case.beam), "threads": str(case.threads)}
    cells |= {label: str(found[label]) for label in case.systems}
    cells |= {f"{BOUND} {name}": _rounded(value) for name, value in bounds.items()}
    cells["CTranslate2 vmap / engine shortlist"] = f"{theirs / ours:.2f}"
    figures = {label: one.ms for label, one in found.items() if label in case.systems}
    figures |= {f"{BOUND} {name}": value for name, value in bounds.items()}
    figures |= rates
    title = f"Dense, {case.table}: milliseconds of a batch, median (quartiles)"
    rows = [Row(title, cells, goal, met, figures)]
    if (case.batch, case.beam, case.threads) == (1, 5, 1):
        rows += [
            Row(
                f"Dense, {case.table}: files, and largest memory of the process with its libraries",
                {
                    "system": label,
                    "files MB": _file_megabytes(models, case.systems[label]),
                    "memory MB": f"{found[label].peak_bytes / 1e6:.0f}",
                },
            )
            for label in case.systems
        ]
    return rows


def _dense_goal(case: Case, ratio: float, over_bound: float) -> tuple[str, bool | None]:
    """The goal of a row and whether it is met: speed against CTranslate2's int8 with vmap."""
    if case.model == "tiny":
        return "", None
    if case.batch > 1:
        return "≥ 1", ratio >= 1
    if case.beam == 1:
        return "", None
    if case.model == "small":
        return "≥ 4", ratio >= 4
    return "≥ 2, or 1.3 × the bound", ratio >= 2 or over_bound <= 1.3


def _file_megabytes(models: Path, system: System) -> str:
    if system.kind == "xla":
        return "–"
    files = [path for path in (models / system.model).rglob("*") if path.is_file()]
    return f"{sum(path.stat().st_size for path in files) / 1e6:.1f}"


def expert_rows(case: Case, models: Path) -> list[Row]:
    """Latency with experts relative to one expert."""
    found, rows = measured(case, models), []
    for way in (FLOAT32, INT8, SHORT):
        dense = found[f"dense {way}"].ms
        for routes in ("shared", "spread"):
            ms = found[f"{routes} {way}"].ms
            folder = models / f"experts-{routes}" / FLOAT32
            distinct = distinct_experts(folder, case.vocab_size, case.beam)
            has_goal = routes == "shared"
            cells = {
                "engine": way,
                "beam": str(case.beam),
                "threads": str(case.threads),
                "routes": {"shared": "all to one expert", "spread": "untrained"}[routes],
                "distinct experts of a step and layer": f"{distinct:.2f}",
                "ms": str(found[f"{routes} {way}"]),
                "dense ms": str(found[f"dense {way}"]),
                "ratio": f"{ms / dense:.2f}",
            }
            rows.append(
                Row(
                    "A decoder with four experts of which a token uses one, against the dense"
                    f" network of one expert's size: {SHAPES['small']}, one sentence",
                    cells,
                    "≤ 1.3" if has_goal else "",
                    ms <= 1.3 * dense if has_goal else None,
                    {"ms": ms, "dense_ms": dense, "ratio": ms / dense, "distinct": distinct},
                )
            )
    return rows


def distinct_experts(folder: Path, vocab_size: int, beam: int) -> float:
    """Mean number of experts that the hypotheses of a step use in a layer, one sentence."""
    from automoe_jax.inference.engine.folder import MODEL
    from automoe_jax.inference.engine.hypotheses import Records
    from automoe_jax.inference.engine.session import run, session

    feeds = {
        "source": np.random.default_rng(0).integers(4, vocab_size, (1, STEPS)),
        "beams": np.array(beam),
        "max_length": np.array(STEPS),
        "stop": np.array(1 << 30),
        "pieces": np.zeros(0, np.int64),
        "own": np.zeros((1, 0), bool),
        "explain": np.array(True),
    }
    gates = Records(*run(session(str(folder / MODEL), 1), feeds)).gates
    experts = sum(len(widths) for widths in deploy_models.with_experts().decoder_experts)
    used = (gates.reshape(len(gates), beam, experts) > 0).any(axis=1)
    return float(used.sum(axis=1).mean()) / SHAPES["small"].layers


def paper_rows(case: Case, models: Path) -> list[Row]:
    """The published architectures relative to the first, Transformer-Big."""
    found = measured(case, models)
    big, rows = next(iter(found.values())).ms, []
    for name, one in found.items():
        ratio = big / one.ms
        goal, met = ("≥ 4.2", ratio >= 4.2) if name.startswith("AutoMoE") else ("", None)
        cells = {
            "engine": case.table,
            "threads": str(case.threads),
            "architecture": name,
            "ms": str(one),
            "Big / it": f"{ratio:.2f}",
        }
        title = f"Published En-De architectures, one sentence, beam 5, V {PAPER_VOCABULARY}"
        rows.append(Row(title, cells, goal, met, {"ms": one.ms, "ratio": ratio}))
    return rows


def start_rows(folder: Path) -> list[Row]:
    """Seconds from the start of a process to the end of its first translation."""
    command = [sys.executable, "-m", "benchmarks.deploy_start", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole, parts = [], []
    for _ in tqdm(range(ROUNDS[1]), desc=f"start/{folder.name}", leave=False):
        started = time.perf_counter()
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        whole.append(time.perf_counter() - started)
        parts.append(json.loads(found.stdout))
    seconds = statistics.median(whole)
    medians = {name: statistics.median(one[name] for one in parts) for name in parts[0]}
    cells = {"folder": folder.name, "ms": str(Measured(whole, 0))}
    cells |= {f"of them {name}": _rounded(1000 * part) for name, part in medians.items()}
    title = "First translation of an exported folder, from the start of the process to its end"
    return [Row(title, cells, "≤ 1 s", seconds <= 1, {"seconds": seconds, **medians})]


def rows_of(case: Case, models: Path) -> list[Row]:
    """Measures a case whose models exist."""
    if case.model in SHAPES:
        return dense_rows(case, models)
    return expert_rows(case, models) if case.model == "experts" else paper_rows(case, models)


def build(cases: Sequence[Case], models: Path) -> None:
    """Makes the models of some cases, unless they are there."""
    names = dict.fromkeys(case.model.partition("-")[0] for case in cases)
    for name in tqdm(names, desc="models"):
        if name in SHAPES:
            deploy_models.build_dense(name, models)
        elif name == "experts":
            deploy_models.build_experts(models)
        else:
            deploy_models.build_paper(models)


def _rounded(ms: float) -> str:
    """Three digits."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def main() -> None:
    """Builds the models and measures the rows that --json does not contain yet."""
    flags = _parser().parse()
    chosen = _names(flags.rows)
    cases = [*dense_cases(), *expert_cases(), *paper_cases()]
    wanted = [case for case in cases if not chosen or case.name.startswith(chosen)]
    build(wanted, flags.models)
    if not flags.build:
        starts = {
            f"start/{Path(folder).name}": functools.partial(start_rows, Path(folder))
            for folder in _names(flags.exported)
        }
        timed = {case.name: functools.partial(rows_of, case, flags.models) for case in wanted}
        run_by_case(timed | starts, flags.json, flags.seconds)


def _parser() -> Parser:
    arguments = parser("benchmarks.deploy", __doc__)
    arguments.add_argument(
        "--models", type=Path, default=Path("runs/bench/models"), help="folder of the built models"
    )
    arguments.add_argument(
        "--rows", default="", help="rows, or beginnings of their names, separated by commas"
    )
    arguments.add_argument(
        "--exported", default="", help="exported folders whose start is timed, separated by commas"
    )
    arguments.add_argument("--seconds", type=float, default=math.inf, help="starts no row later")
    arguments.add_switch("build", "build the models and measure nothing")
    return arguments


def _names(text: str) -> tuple[str, ...]:
    """The names in a list that is separated by commas."""
    return tuple(name for name in text.split(",") if name)


if __name__ == "__main__":
    sys.exit(run_for_people(main))
