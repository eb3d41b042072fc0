"""Translation: `python -m automoe_jax.translate --workdir=DIR < source > target`, or with
`--model=DIR` and an exported model.

Reads lines and writes their translations in order. Lines that have arrived are translated and
written before more are read. Without an accelerator the engine is ONNX Runtime, and JAX is not
imported where a model has been exported already.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.data.cleaning import decoded
from automoe_jax.errors import UserError
from automoe_jax.export.settings import PRECISIONS
from automoe_jax.inference.alternatives import (
    Alternative,
    alternatives,
    as_json,
    as_text,
    checked_beam,
    checked_best,
)

_CHUNK_BYTES = 1 << 16
ENGINES = ONNX, JAX = ("onnx", "jax")
# of the engine jax: few shapes to compile, and a single line does not cost a full batch's
# arithmetic
BATCH_SIZES = (1, 8, 64)

Translate = Callable[[list[str]], list[str]]


class Engine(NamedTuple):
    """A loaded translator."""

    translate: Translate
    # (lines, N, whether to explain, which the engine jax cannot)
    alternatives: Callable[[list[str], int, bool], list[list[Alternative]]]
    explains: bool
    source_language: str


def load_engine(
    root: str | os.PathLike[str],
    beam_size: int | None = None,
    *,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    shortlist: int | None = None,
) -> Engine:
    """The translator of a workdir's retrained sub-Transformer; raises `UserError` if there is none.

    The engine is JAX where it has an accelerator, otherwise ONNX Runtime. The precision is float32,
    or int8 where that passed the test of the stage evaluate; the shortlist likewise, for the given
    precision.
    """
    engine = engine or (JAX if has_accelerator() else ONNX)
    if engine == JAX:
        if precision not in (None, "float32"):
            raise UserError(
                f"--precision={precision} is for --engine={ONNX}; leave it out with --engine={JAX}"
            )
        if shortlist:
            raise UserError(
                f"--shortlist={shortlist} is for --engine={ONNX}; leave it out with --engine={JAX}"
            )
        return _jax_engine(root, beam_size)
    from automoe_jax.export.cache import default_precision, default_shortlist, exported

    path = os.fspath(root)
    precision = precision or default_precision(path)
    folder = exported(path, precision)
    size = default_shortlist(path, precision) if shortlist is None else shortlist
    return load_model(folder, beam_size, threads=threads, shortlist=size)


def load_model(
    folder: str | os.PathLike[str],
    beam_size: int | None = None,
    *,
    threads: int | None = None,
    shortlist: int | None = None,
) -> Engine:
    """The translator of an exported folder; imports no JAX."""
    from automoe_jax.inference.engine.translator import load

    translator = load(folder, beam_size=beam_size, threads=threads, shortlist=shortlist)
    language = translator.folder.description.languages["source"]
    return Engine(translator, translator.alternatives, explains=True, source_language=language)


def has_accelerator() -> bool:
    """Whether JAX computes on something else than CPUs; imports it only where a plugin for that is
    installed.
    """
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if not plugins and not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu"))):
        return False
    import jax

    return jax.default_backend() != "cpu"


def _jax_engine(root: str | os.PathLike[str], beam_size: int | None) -> Engine:
    import jax

    from automoe_jax.export.workdirs import trained
    from automoe_jax.inference.decode import hypotheses, translate_lines
    from automoe_jax.workdir import keep_compilations

    workdir, config, network = trained(root)
    if config.task != "translate":
        raise UserError(f"--workdir={root} holds a classifier; it classifies and cannot translate")
    keep_compilations(workdir)
    network, tokenizer = jax.device_put(network), workdir.tokenizer()
    beam_size = checked_beam(
        config.evaluate.beam_size if beam_size is None else beam_size, tokenizer.target_vocab_size
    )
    options: dict[str, Any] = {
        "buckets": config.data.buckets,
        "batch_sizes": BATCH_SIZES,
        "beam_size": beam_size,
        "length_penalty": config.evaluate.length_penalty,
    }

    def several(lines: list[str], best: int, explain: bool) -> list[list[Alternative]]:
        return alternatives(
            lambda sources, count: hypotheses(network, sources, best=count, **options),
            tokenizer,
            lines,
            longest=config.data.buckets[-1] - 1,
            best=checked_best(best, beam_size),
        )

    return Engine(
        lambda lines: translate_lines(network, tokenizer, lines, **options),
        several,
        explains=False,
        source_language=config.data.source_language,
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


def main() -> None:
    """Translates standard input to standard output."""
    arguments = _arguments()
    beam_size, threads, shortlist = arguments.beam_size, arguments.threads, arguments.shortlist
    if beam_size is not None and beam_size < 1:
        raise UserError(f"--beam_size={beam_size} must be at least 1")
    if sys.stdin is None:
        raise UserError(
            "standard input is closed; give it the lines to translate, as in python -m"
            " automoe_jax.translate --workdir=DIR < source"
        )
    if arguments.model:
        engine = load_model(arguments.model, beam_size, threads=threads, shortlist=shortlist)
    else:
        engine = load_engine(
            arguments.workdir,
            beam_size,
            engine=arguments.engine,
            precision=arguments.precision,
            threads=threads,
            shortlist=shortlist,
        )
    check_language(arguments.source_language, engine.source_language)
    if arguments.experts and not engine.explains:
        raise UserError(f"--experts is for --engine={ONNX}; leave it out, or add --engine={ONNX}")
    done = 0
    for lines in arriving_lines(sys.stdin.fileno()):
        for start in range(0, len(lines), BATCH_SIZES[-1]):
            chunk = lines[start : start + BATCH_SIZES[-1]]
            for line in _output(engine, chunk, done, arguments):
                print(line)
            sys.stdout.flush()
            done += len(chunk)


def check_language(given: str | None, declared: str) -> None:
    """Raises `UserError` for an input in another language than the model's declared one."""
    if given is not None and given != declared:
        raise UserError(
            f"--source_language={given} is not the language that the model translates from,"
            f" {declared}; name a model for {given}"
        )


def _output(
    engine: Engine, lines: list[str], done: int, arguments: argparse.Namespace
) -> Iterator[str]:
    """Lines to print for `lines` of the input, of which `done` came before."""
    if arguments.n_best is None and not arguments.json:
        yield from engine.translate(lines)
        return
    best = 1 if arguments.n_best is None else arguments.n_best
    explain = arguments.json and engine.explains
    for i, translations in enumerate(engine.alternatives(lines, best, explain)):
        if arguments.json:
            yield as_json(lines[i], translations, arguments.experts)
        else:
            yield from as_text(done + i, translations)


def _arguments() -> argparse.Namespace:
    """The flags; raises `UserError` for those that contradict each other."""
    parser = Parser(
        "automoe_jax.translate",
        "Translate lines of text from standard input to standard output.",
    )
    parser.add_argument("--workdir", help="folder in which python -m automoe_jax.main trained")
    parser.add_argument("--model", help="folder that python -m automoe_jax.export wrote")
    parser.add_argument("--beam_size", type=int, help="hypotheses; by default as in the evaluation")
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
    parser.add_argument(
        "--shortlist",
        type=int,
        help="N: translations consist of the N most frequent pieces and the N best translations of"
        " each source piece; 0: of the whole vocabulary; by default as the evaluation accepted",
    )
    parser.add_argument(
        "--n_best",
        type=int,
        help="N: prints the N best translations of each line, at most as many as the beam size, as"
        " NUMBER OF LINE ||| TRANSLATION ||| SCORE",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="prints a JSON object for each line: its translations, their scores and, with the"
        " engine onnx, their word alignments",
    )
    parser.add_argument(
        "--experts",
        action="store_true",
        help="with --json and the engine onnx: also the experts of each piece in each layer",
    )
    arguments = parser.parse()
    if bool(arguments.workdir) == bool(arguments.model):
        raise UserError("give either --workdir or --model")
    if arguments.experts and not arguments.json:
        raise UserError("--experts is for --json; add it")
    for name, choices in (("engine", ENGINES), ("precision", PRECISIONS)):
        value = getattr(arguments, name)
        if value is not None and value not in choices:
            raise UserError(f"--{name}={value!r} must be one of {', '.join(choices)}")
        if value is not None and arguments.model:
            raise UserError(f"--{name} is for --workdir; a --model has been exported for one")
    return arguments


if __name__ == "__main__":
    sys.exit(run_for_people(main))
