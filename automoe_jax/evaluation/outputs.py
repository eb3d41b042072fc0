"""Outputs of a network for the test text, translations or classes, and the time they take."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from automoe_jax.config import Config
from automoe_jax.inference.classify import classify
from automoe_jax.inference.decode import translate_lines
from automoe_jax.model.network import Network
from automoe_jax.workdir import Workdir


def outputs(
    config: Config,
    workdir: Workdir,
    title: str,
    network: Network,
    sources: Sequence[str],
    split: str = "test",
) -> tuple[list[str], float]:
    """Translations or classes of the sources, the first of a split, and the seconds they took
    without compilation.

    `title` is shown with the progress.
    """
    if config.task == "classify":
        return _classes(config, workdir, title, network, sources, split)
    return _translations(config, workdir, title, network, sources)


def _classes(
    config: Config,
    workdir: Workdir,
    title: str,
    network: Network,
    sources: Sequence[str],
    split: str,
) -> tuple[list[str], float]:
    tokens, labels = workdir.tokens(split), workdir.labels()
    options: dict[str, Any] = {
        "buckets": config.data.buckets,
        "tokens_per_batch": config.retrain.tokens_per_batch,
    }
    classify(network, tokens, **options)  # compiles
    with progress_bar(f"classify ({title})", len(tokens), "text") as bar:
        started = time.perf_counter()
        numbers = classify(network, tokens, progress=bar.update, **options)
        seconds = time.perf_counter() - started
    names = [labels.name(number) for number in numbers[: len(sources)]]
    return names, seconds * len(sources) / len(tokens)


def _translations(
    config: Config, workdir: Workdir, title: str, network: Network, sources: Sequence[str]
) -> tuple[list[str], float]:
    """Translates one sentence of each shape first, to compile."""
    tokenizer, settings = workdir.tokenizer(), config.evaluate
    options: dict[str, Any] = {
        "buckets": config.data.buckets,
        "beam_size": settings.beam_size,
        "length_penalty": settings.length_penalty,
        "batch_sizes": (settings.batch_size,),
    }
    shapes: dict[int, str] = {}
    for line, ids in zip(sources, tokenizer.encode(sources), strict=True):
        bucket = next((bucket for bucket in config.data.buckets if len(ids) < bucket), 0)
        shapes.setdefault(bucket, line)
    for line in shapes.values():
        translate_lines(network, tokenizer, [line], **options)
    with progress_bar(f"translate ({title})", len(sources), "sentence") as bar:
        started = time.perf_counter()
        translations = translate_lines(network, tokenizer, sources, progress=bar.update, **options)
        return translations, time.perf_counter() - started


def progress_bar(description: str, total: int, unit: str) -> tqdm:
    """A progress bar on stderr."""
    return tqdm(desc=description, total=total, unit=unit, file=sys.stderr, dynamic_ncols=True)
