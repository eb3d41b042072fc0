"""The found translator against the dense one of finished runs of a comparison, as deployed: a lone
sentence and batches, float32 and 8-bit, in turns.

python -m benchmarks.headline --runs=runs/systems --seeds=1,2 --json=headline.json

The weights are the trained ones, and tokens are random: as many as `search.source_length` and
`search.target_length` of the runs. The last column has the smallest architecture of the searched
space, untrained: no search in it gains more.
Rows with a shortlist and a beam of one show how much of the time is not that of the layers. The
BLEU of the same runs, with the interval of the difference, is in the table of
`automoe_jax.compare`.
"""

import argparse
import dataclasses

import numpy as np
from etils import epath

from automoe_jax.command.parser import Parser
from automoe_jax.errors import UserError
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import FLOAT32, INT8
from automoe_jax.latency.device import conditions_of, settings_of
from automoe_jax.latency.timing import Model, TimingConditions, build, milliseconds
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir
from benchmarks.harness import Row, run, timed_parser

FULL = 32  # sentences of a batch
SHORTLIST = 256  # candidates of the vocabulary
GOAL = 3.0


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times both systems of every seed."""
    return [
        row
        for seed in flags.seeds.split(",")
        for row in _rows(flags, _finished(flags, flags.baseline, seed), seed)
    ]


def _finished(flags: argparse.Namespace, name: str, seed: str) -> Workdir:
    workdir = Workdir(epath.Path(flags.runs) / f"{name}-{seed}")
    if not runs.is_complete(workdir.retrained):
        raise UserError(
            f"{workdir.root} holds no finished run; train it with python -m automoe_jax.compare"
            f" --configs=configs/systems.py:{name} --seeds={seed} --workdir={flags.runs}"
        )
    return workdir


def _rows(flags: argparse.Namespace, dense: Workdir, seed: str) -> list[Row]:
    found = _finished(flags, flags.system, seed)
    conditions = conditions_of(dense.config())
    few = dataclasses.replace(conditions, beam_size=1)
    full = dataclasses.replace(conditions, batch=FULL)
    cases = (
        (FLOAT32, conditions, 0),
        (INT8, conditions, 0),
        (FLOAT32, conditions, SHORTLIST),
        (INT8, conditions, SHORTLIST),
        (INT8, few, SHORTLIST),
        (FLOAT32, full, 0),
        (INT8, full, 0),
    )
    return [_row(flags, seed, dense, found, *case) for case in cases]


def _row(
    flags: argparse.Namespace,
    seed: str,
    dense: Workdir,
    found: Workdir,
    precision: str,
    conditions: TimingConditions,
    shortlist: int,
) -> Row:
    models = [
        _model(dense, precision, conditions, shortlist),
        _model(found, precision, conditions, shortlist),
        _smallest(found, precision, conditions, shortlist),
    ]
    dense_ms, found_ms, smallest_ms = milliseconds(models, flags.repeats)
    alone = conditions.batch == 1
    return Row(
        f"Deployed, {conditions.source_length} + {conditions.target_length} tokens, one thread:"
        f" times as fast as {flags.baseline}",
        {
            "seed": seed,
            "precision": precision,
            "sentences": str(conditions.batch),
            "beam": str(conditions.beam_size),
            "vocabulary": str(shortlist or "all"),
            f"{flags.baseline} ms": f"{dense_ms:.2f}",
            f"{flags.system} ms": f"{found_ms:.2f}",
            "times": f"{dense_ms / found_ms:.2f}",
            "smallest of the space": f"{dense_ms / smallest_ms:.2f}",
        },
        f"≥ {GOAL:g}" if alone else "",
        dense_ms / found_ms >= GOAL if alone else None,
        {
            "dense_ms": dense_ms,
            "found_ms": found_ms,
            "smallest_ms": smallest_ms,
            "ratio": dense_ms / found_ms,
        },
    )


def _model(workdir: Workdir, precision: str, conditions: TimingConditions, shortlist: int) -> Model:
    config = workdir.config()
    network = runs.load(workdir.retrained, workdir.spec(config, workdir.arch()))
    arch, settings, weights = inputs_of(network, config.data.buckets, precision)
    return _with_shortlist(build(arch, settings, conditions, weights), conditions, shortlist)


def _smallest(
    workdir: Workdir, precision: str, conditions: TimingConditions, shortlist: int
) -> Model:
    """The smallest architecture of the space, untrained."""
    config = workdir.config()
    spec = workdir.spec(config)
    settings = settings_of(config, spec.vocab_size, spec.target_vocab_size)
    settings = dataclasses.replace(settings, precision=precision)
    model = build(config.space.smallest(), settings, conditions)
    return _with_shortlist(model, conditions, shortlist)


def _with_shortlist(model: Model, conditions: TimingConditions, shortlist: int) -> Model:
    """The model translates with the first pieces of the vocabulary, as many as `shortlist`."""
    if not shortlist:
        return model
    feeds = {
        "pieces": np.arange(shortlist),
        "own": np.ones((conditions.batch, shortlist), bool),
    }
    return dataclasses.replace(model, feeds=dict(model.feeds) | feeds)


def _parser() -> Parser:
    flags = timed_parser("benchmarks.headline", __doc__)
    flags.add_argument("--runs", required=True, help="--workdir of automoe_jax.compare")
    flags.add_argument("--seeds", default="1,2", help="numbers, separated by commas (default: 1,2)")
    flags.add_argument("--baseline", default="dense", help="(default: dense)")
    flags.add_argument("--system", default="automoe", help="(default: automoe)")
    return flags


if __name__ == "__main__":
    run(measure, _parser())
