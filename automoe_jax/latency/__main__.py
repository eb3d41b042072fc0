"""Latency on a device that does not train; nothing here imports JAX.

    python -m automoe_jax.latency collect --config=C --out=device.jsonl    on the device
    python -m automoe_jax.latency fit --device=device.jsonl                anywhere
    python -m automoe_jax.main --config=C --config.search.device.file=device.jsonl …
    python -m automoe_jax.latency check --config=C --archs=arch.json       on the device

The device needs this package without its dependencies, and onnx, onnxruntime, numpy, scipy, tqdm,
ml-collections, jaxtyping and etils. `collect` resumes after an interruption.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from automoe_jax.arch import Arch
from automoe_jax.command import configuration
from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.errors import UserError
from automoe_jax.latency.collection import Collection, load
from automoe_jax.latency.device import conditions_of, settings_of, timed_here
from automoe_jax.latency.predictor import LEAST_HELD_OUT, HeldOut, fit
from automoe_jax.latency.timing import build, milliseconds

ROUNDS = 25


def collect(words: Sequence[str]) -> None:
    """Times architectures of the configuration's space on this device, into a file."""
    parser = _parser("collect", "Time architectures on this device.")
    parser.add_argument("--out", required=True, help="file of timed architectures; continued")
    config, flags = configuration.parse(parser, words)
    settings = settings_of(config, flags.vocab_size or config.data.vocab_size)
    collection = timed_here(config, settings, Path(flags.out))
    print(f"latency: {_described(collection)}; {flags.out}")


def fit_file(words: Sequence[str]) -> None:
    """Prints how well the latencies in a file predict one another."""
    parser = Parser("automoe_jax.latency fit", "Error of the predictions from a file.")
    parser.add_argument("--device", required=True, help="file of collect")
    flags = parser.parse(words)
    collection = load(Path(flags.device))
    if len(collection.measured) < LEAST_HELD_OUT:
        raise UserError(
            f"{flags.device} has {len(collection.measured)} timed architectures and"
            f" {LEAST_HELD_OUT} are needed; run collect again, which continues"
        )
    print(f"latency: {_described(collection)}")


def check(words: Sequence[str]) -> None:
    """Times architectures from JSON files on this device and prints predicted against measured."""
    parser = _parser("check", "Time found architectures on this device.")
    parser.add_argument(
        "--archs",
        required=True,
        help="JSON files of an architecture or a list of them, such as WORKDIR/arch.json, separated"
        " by commas",
    )
    parser.add_argument("--device", help="file of collect, for the predictions")
    config, flags = configuration.parse(parser, words)
    archs = [arch for path in flags.archs.split(",") for arch in _archs(Path(path))]
    settings = settings_of(config, flags.vocab_size or config.data.vocab_size)
    models = [build(arch, settings, conditions_of(config)) for arch in archs]
    predict = _predictor(flags.device)
    for arch, measured in zip(archs, milliseconds(models, ROUNDS), strict=True):
        line = f"measured {measured:.3g} ms"
        if predict:
            predicted = predict(arch)
            line += f", predicted {predicted:.3g} ms ({predicted / measured - 1:+.1%})"
        print(line)


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "collect": collect,
    "fit": fit_file,
    "check": check,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the first word names."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    if words[0] not in COMMANDS:
        raise UserError(
            f"{words[0]!r} is not a command of automoe_jax.latency; the commands are"
            f" {', '.join(COMMANDS)}"
        )
    COMMANDS[words[0]](words[1:])


def _parser(command: str, description: str) -> Parser:
    parser = Parser(f"automoe_jax.latency {command}", description)
    parser.add_argument("--config", help="configuration file, as for automoe_jax.main")
    parser.add_argument(
        "--vocab_size",
        type=int,
        default=0,
        help="pieces of the vocabulary (default: config.data.vocab_size)",
    )
    return parser


def _described(collection: Collection) -> str:
    error: HeldOut = collection.error()
    times = collection.values()
    return (
        f"{len(times)} architectures from {min(times):.3g} to {max(times):.3g} ms; held-out error"
        f" {error.mean:.1%}, at worst {error.worst:.1%}, rank correlation"
        f" {error.rank_correlation:.2f}"
    )


def _predictor(path: str | None) -> Callable[[Arch], float] | None:
    if not path:
        return None
    collection = load(Path(path))
    return fit(collection.archs(), collection.values())


def _archs(path: Path) -> list[Arch]:
    """The architectures of a file: one, or a list of records with an "arch"."""
    try:
        value = json.loads(path.read_text())
        records = value if isinstance(value, list) else [value]
        return [Arch.from_dict(record.get("arch", record)) for record in records]
    except OSError as error:
        raise UserError(f"--archs={path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--archs={path} holds no architecture: {error}") from None


if __name__ == "__main__":
    sys.exit(run_for_people(main, resumes=True))
