"""Classification: `python -m automoe_jax.classify --workdir=DIR < texts > classes`, or with
`--model=DIR` and an exported model.

Reads lines and writes the class of each, in order; an empty line for a line without text. Lines
that have arrived are classified and written before more are read.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.data.cleaning import clean_line
from automoe_jax.errors import UserError
from automoe_jax.inference.serving import (
    JAX,
    MOST_LINES,
    add_model_flags,
    answer,
    check_input,
    check_language,
    check_model_flags,
    chosen_engine,
)

_MODULE = "automoe_jax.classify"


class Engine(NamedTuple):
    """A loaded classifier."""

    # lines → probabilities float32 [lines, classes]
    probabilities: Callable[[list[str]], np.ndarray]
    labels: tuple[str, ...]
    source_language: str


class Class(NamedTuple):
    """A class of a text."""

    name: str
    probability: float


def load_engine(
    root: str | os.PathLike[str],
    *,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Engine:
    """The classifier of a workdir's retrained sub-Transformer; raises `UserError` if there is
    none. The engine is JAX where it has an accelerator, otherwise ONNX Runtime.
    """
    if chosen_engine(engine, precision) == JAX:
        return _jax_engine(root)
    from automoe_jax.export.cache import exported

    return load_model(exported(os.fspath(root), precision), threads=threads)


def load_model(folder: str | os.PathLike[str], *, threads: int | None = None) -> Engine:
    """The classifier of an exported folder; imports no JAX."""
    from automoe_jax.inference.engine.classifier import load

    classifier = load(folder, threads=threads)
    language = classifier.folder.description.languages["source"]
    return Engine(classifier, classifier.labels, language)


def _jax_engine(root: str | os.PathLike[str]) -> Engine:
    import jax

    from automoe_jax.data.batching import TokenPairs
    from automoe_jax.data.corpus import Pairs
    from automoe_jax.export.workdirs import trained
    from automoe_jax.inference.classify import probabilities
    from automoe_jax.workdir import keep_compilations

    workdir, config, network = trained(root)
    if config.task != "classify":
        raise UserError(f"--workdir={root} holds a translator; use python -m automoe_jax.translate")
    keep_compilations(workdir)
    network, tokenizer, labels = jax.device_put(network), workdir.tokenizer(), workdir.labels()
    buckets = config.data.buckets

    def classified(lines: list[str]) -> np.ndarray:
        pairs = Pairs(tuple(lines), labels.names[:1] * len(lines))
        tokens, _ = TokenPairs.from_pairs(pairs, tokenizer, buckets[-1], labels)
        size = buckets[-1] * (1 if len(lines) == 1 else MOST_LINES)
        return probabilities(network, tokens, buckets=buckets, tokens_per_batch=size)

    return Engine(classified, labels.names, config.data.source_language)


def ranked(names: Sequence[str], probabilities: np.ndarray, best: int) -> list[Class]:
    """The `best` classes of a text, most probable first; probabilities [C]."""
    order = np.argsort(-probabilities, kind="stable")[:best]
    return [Class(names[i], float(probabilities[i])) for i in order]


def main() -> None:
    """Classifies standard input to standard output."""
    arguments = _arguments()
    check_input(_MODULE)
    if arguments.model:
        engine = load_model(arguments.model, threads=arguments.threads)
    else:
        engine = load_engine(
            arguments.workdir,
            engine=arguments.engine,
            precision=arguments.precision,
            threads=arguments.threads,
        )
    check_language(arguments.source_language, engine.source_language)
    best, most = arguments.n_best, len(engine.labels)
    if best is not None and not 1 <= best <= most:
        raise UserError(f"--n_best={best} must be between 1 and the number of classes, {most}")
    answer(lambda lines, done: _output(engine, lines, done, arguments))


def _output(
    engine: Engine, lines: list[str], done: int, arguments: argparse.Namespace
) -> Iterator[str]:
    """Lines to print for `lines` of the input, of which `done` came before."""
    default = len(engine.labels) if arguments.json else 1
    best = arguments.n_best or default
    for i, one in enumerate(engine.probabilities(lines)):
        found = ranked(engine.labels, one, best) if clean_line(lines[i]) else []
        if arguments.json:
            classes = [{"class": name, "probability": round(p, 6)} for name, p in found]
            yield json.dumps({"source": lines[i], "classes": classes}, ensure_ascii=False)
        elif arguments.n_best is None:
            yield found[0].name if found else ""
        else:
            yield from (f"{done + i} ||| {name} ||| {p:.6f}" for name, p in found)


def _arguments() -> argparse.Namespace:
    """The flags; raises `UserError` for those that contradict each other."""
    parser = Parser(_MODULE, "Print the class of each line of standard input.")
    add_model_flags(parser)
    parser.add_argument(
        "--n_best",
        type=int,
        help="N: prints the N most probable classes of each line, as NUMBER OF LINE ||| CLASS |||"
        " PROBABILITY",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="prints a JSON object for each line: its classes, all or N, and their probabilities",
    )
    arguments = parser.parse()
    check_model_flags(arguments)
    return arguments


if __name__ == "__main__":
    sys.exit(run_for_people(main))
