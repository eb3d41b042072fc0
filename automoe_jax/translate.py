"""Translation with a trained sub-Transformer: `python -m automoe_jax.translate --workdir=DIR <
source > target`.

Lines in, lines out, in order and as they come: whatever has arrived is translated and written
before more is read.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath

from automoe_jax.data.cleaning import decoded
from automoe_jax.errors import UserError, run_for_people
from automoe_jax.inference.decode import translate_lines
from automoe_jax.inference.quantise import quantised
from automoe_jax.runtime.files import absolute
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir, keep_compilations

_CHUNK_BYTES = 1 << 16
# Few shapes to compile, and a lone line need not wait for a full batch's arithmetic.
BATCH_SIZES = (1, 8, 64)


def load_translator(
    root: epath.PathLike, beam_size: int | None = None, int8: bool = False
) -> Callable[[list[str]], list[str]]:
    """translate(lines) → lines, with the retrained sub-Transformer of a workdir; raises `UserError`
    if there is none.

    With `int8`, its matrices are held in 8-bit integers.
    """
    workdir = Workdir(absolute(root))
    if not (workdir.root / "config.json").exists():
        raise UserError(
            f"--workdir={root} holds no run; train one with python -m automoe_jax.main"
            f" --workdir={root} first"
        )
    if not runs.is_complete(workdir.retrained):
        raise UserError(
            f"--workdir={root} holds no retrained sub-Transformer yet; let python -m"
            " automoe_jax.main finish its retrain stage"
        )
    config, tokenizer = workdir.config(), workdir.tokenizer()
    keep_compilations(workdir)
    if config.task != "translate":
        raise UserError(
            f"--workdir={root} was trained with config.task={config.task!r}; it classifies and"
            " cannot translate"
        )
    network = jax.device_put(runs.load(workdir.retrained, workdir.spec(config, workdir.arch())))
    network = quantised(network) if int8 else network
    options: dict[str, Any] = {
        "beam_size": beam_size or config.evaluate.beam_size,
        "length_penalty": config.evaluate.length_penalty,
    }
    return lambda lines: translate_lines(
        network, tokenizer, lines, buckets=config.data.buckets, batch_sizes=BATCH_SIZES, **options
    )


def arriving_lines(descriptor: int) -> Iterator[list[str]]:
    """Complete lines of a file descriptor as soon as they are there, some at a time; the last may
    lack its newline.

    Raises `UserError` with the number of the first line that is not UTF-8, after the lines before
    it were yielded.
    """
    done = 0
    unfinished: list[bytes] = []  # the chunks of a long line, joined once
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        if b"\n" not in chunk:
            unfinished.append(chunk)
            continue
        *complete, rest = b"".join([*unfinished, chunk]).split(b"\n")
        unfinished = [rest] if rest else []
        yield from _decoded(complete, done)
        done += len(complete)
    if unfinished:
        yield from _decoded([b"".join(unfinished)], done)


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


def main() -> None:
    """Translates standard input to standard output."""
    parser = argparse.ArgumentParser(
        description="Translate lines of text with the sub-Transformer of a workdir."
    )
    parser.add_argument(
        "--workdir", required=True, help="where python -m automoe_jax.main has trained it"
    )
    parser.add_argument(
        "--beam_size", type=int, help="hypotheses kept; as in the evaluation by default"
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="hold the weights in 8-bit integers, a quarter of the memory (needs qwix)",
    )
    arguments = parser.parse_args()
    if arguments.beam_size is not None and arguments.beam_size < 1:
        raise UserError(f"--beam_size={arguments.beam_size} must be at least 1")
    translate = load_translator(arguments.workdir, arguments.beam_size, arguments.int8)
    for lines in arriving_lines(sys.stdin.fileno()):
        for start in range(0, len(lines), BATCH_SIZES[-1]):
            for line in translate(lines[start : start + BATCH_SIZES[-1]]):
                print(line)
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run_for_people(main))
