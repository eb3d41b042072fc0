"""What the commands that use a model share: their flags, the choice of the engine, and the lines of
standard input as they arrive. Imports no JAX where there is no accelerator.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Protocol

from automoe_jax.command.parser import Parser
from automoe_jax.data.cleaning import decoded
from automoe_jax.errors import UserError
from automoe_jax.export.settings import FLOAT32, PRECISIONS

ENGINES = ONNX, JAX = ("onnx", "jax")
MOST_LINES = 64  # that are answered together
_CHUNK_BYTES = 1 << 16


def add_model_flags(parser: Parser) -> None:
    """Adds the flags that name the model and the way to run it."""
    parser.add_argument("--workdir", help="folder in which python -m automoe_jax.main trained")
    parser.add_argument("--model", help="folder that python -m automoe_jax.export wrote")
    parser.add_argument(
        "--engine", help="with --workdir: onnx, or jax, the default where it has an accelerator"
    )
    parser.add_argument(
        "--precision",
        help="with --workdir: float32 or int8; by default int8 where the evaluation accepted it",
    )
    parser.add_argument(
        "--source_language",
        help="language of the input, such as en; an error if the model was trained for another one",
    )
    parser.add_argument("--threads", type=int, help="processor cores used; by default all")


def check_model_flags(arguments: argparse.Namespace) -> None:
    """Raises `UserError` for flags of `add_model_flags` that contradict each other."""
    if bool(arguments.workdir) == bool(arguments.model):
        raise UserError("give either --workdir or --model")
    for name, choices in (("engine", ENGINES), ("precision", PRECISIONS)):
        value = getattr(arguments, name)
        if value is not None and value not in choices:
            raise UserError(f"--{name}={value!r} must be one of {', '.join(choices)}")
        if value is not None and arguments.model:
            raise UserError(f"--{name} is for --workdir; a --model has been exported for one")


def chosen_engine(engine: str | None, precision: str | None) -> str:
    """`engine`, by default JAX where it has an accelerator, otherwise ONNX Runtime; raises
    `UserError` for a precision that it lacks.
    """
    engine = engine or (JAX if has_accelerator() else ONNX)
    if engine == JAX and precision not in (None, FLOAT32):
        raise UserError(
            f"--precision={precision} is for --engine={ONNX}; leave it out with --engine={JAX}"
        )
    return engine


def has_accelerator() -> bool:
    """Whether JAX computes on something else than CPUs; imports it only where a plugin for that is
    installed.
    """
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if not plugins and not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu"))):
        return False
    import jax

    return jax.default_backend() != "cpu"


def check_language(given: str | None, declared: str) -> None:
    """Raises `UserError` for an input in another language than the model's declared one."""
    if given is not None and given != declared:
        raise UserError(
            f"--source_language={given} is not the language that the model translates from,"
            f" {declared}; name a model for {given}"
        )


class Answers(Protocol):
    """Lines to print for lines of the input, of which `done` came before."""

    def __call__(self, lines: list[str], done: int) -> Iterable[str]: ...


def answer(answers: Answers) -> None:
    """Prints the answers to the lines of standard input, before more are read."""
    done = 0
    for lines in arriving_lines(sys.stdin.fileno()):
        for start in range(0, len(lines), MOST_LINES):
            chunk = lines[start : start + MOST_LINES]
            for line in answers(chunk, done):
                print(line)
            sys.stdout.flush()
            done += len(chunk)


def check_input(module: str) -> None:
    """Raises `UserError` if standard input is closed; `module` is what `python -m` runs."""
    if sys.stdin is None:
        raise UserError(
            f"standard input is closed; give it the lines, as in python -m {module} --workdir=DIR"
            " < source"
        )


def arriving_lines(descriptor: int) -> Iterator[list[str]]:
    """Complete lines of a file descriptor as soon as they arrive, in groups; the last may lack its
    newline.

    Raises `UserError` with the number of the first line that is not UTF-8, after the lines before
    it were yielded, and for a descriptor that cannot be read.
    """
    done = 0
    unfinished: list[bytes] = []  # the chunks of a long line, joined once
    while chunk := _read(descriptor):
        if b"\n" not in chunk:
            unfinished.append(chunk)
            continue
        *complete, rest = b"".join([*unfinished, chunk]).split(b"\n")
        unfinished = [rest] if rest else []
        yield from _decoded(complete, done)
        done += len(complete)
    if unfinished:
        yield from _decoded([b"".join(unfinished)], done)


def _read(descriptor: int) -> bytes:
    """The bytes that have arrived, empty at the end."""
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError as error:
        raise UserError(f"standard input cannot be read: {error.strerror}") from None


def _decoded(lines: list[bytes], done: int) -> Iterator[list[str]]:
    good: list[str] = []
    for number, line in enumerate(lines, start=done + 1):
        try:
            good.append(decoded(line))
        except ValueError as error:
            if good:
                yield good
            raise UserError(
                f"line {number} of the input is not UTF-8 ({error}); convert the text, with iconv"
                " for example"
            ) from None
    if good:
        yield good
