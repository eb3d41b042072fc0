"""Translation: `python -m automoe_jax.translate --workdir=DIR < source > target`, or with
`--model=DIR` and an exported model.

Reads lines and writes their translations in order. Lines that have arrived are translated and
written before more are read. Without an accelerator the engine is ONNX Runtime, and JAX is not
imported where a model has been exported already.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.errors import UserError
from automoe_jax.inference.alternatives import (
    Alternative,
    alternatives,
    as_json,
    as_text,
    checked_beam,
    checked_best,
)
from automoe_jax.inference.serving import (
    JAX,
    ONNX,
    add_model_flags,
    answer,
    check_input,
    check_language,
    check_model_flags,
    chosen_engine,
)

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
    if chosen_engine(engine, precision) == JAX:
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


def _jax_engine(root: str | os.PathLike[str], beam_size: int | None) -> Engine:
    import jax

    from automoe_jax.export.workdirs import trained
    from automoe_jax.inference.decode import hypotheses, translate_lines
    from automoe_jax.workdir import keep_compilations

    workdir, config, network = trained(root)
    if config.task != "translate":
        raise UserError(f"--workdir={root} holds a classifier; use python -m automoe_jax.classify")
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


def main() -> None:
    """Translates standard input to standard output."""
    arguments = _arguments()
    beam_size, threads, shortlist = arguments.beam_size, arguments.threads, arguments.shortlist
    if beam_size is not None and beam_size < 1:
        raise UserError(f"--beam_size={beam_size} must be at least 1")
    check_input("automoe_jax.translate")
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
    answer(lambda lines, done: _output(engine, lines, done, arguments))


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
    add_model_flags(parser)
    parser.add_argument("--beam_size", type=int, help="hypotheses; by default as in the evaluation")
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
    check_model_flags(arguments)
    if arguments.experts and not arguments.json:
        raise UserError("--experts is for --json; add it")
    return arguments


if __name__ == "__main__":
    sys.exit(run_for_people(main))
