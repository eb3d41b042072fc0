"""The costs on a device that the limits of a search need."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.export.settings import Settings
from automoe_jax.inference.lines import longest_translation
from automoe_jax.latency.collection import (
    Collection,
    check_header,
    check_rows,
    collect,
    header_of,
    load,
)
from automoe_jax.latency.predictor import HeldOut, fit
from automoe_jax.latency.timing import TimingConditions

MB = 1e6


def settings_of(
    config: Config, vocab_size: int, target_vocab_size: int = 0, classes: int = 0
) -> Settings:
    """The graph's settings of a configuration, for vocabularies of these sizes."""
    space, longest = config.space, config.data.buckets[-1]
    return Settings(
        vocab_size=vocab_size,
        encoder_super_dim=max(space.encoder_embed_dims),
        decoder_super_dim=max(space.decoder_embed_dims),
        max_source=max(longest, config.search.source_length),
        max_target=max(longest_translation(longest), config.search.target_length),
        router=config.router,
        classes=classes,
        precision=config.search.device.precision,
        norm=config.model.norm,
        shared_embeddings=config.model.shared_embeddings,
        target_vocab_size=target_vocab_size,
    )


def conditions_of(config: Config) -> TimingConditions:
    """The conditions of timing that `config.search` names."""
    search, device = config.search, config.search.device
    return TimingConditions(
        device.batch, device.beam_size, device.threads, search.source_length, search.target_length
    )


def costs_on_device(
    config: Config, settings: Settings, path: Path
) -> Mapping[str, Callable[[Arch], float]]:
    """Predicted latency_ms, latency_share, file_mb and, where it was measured, memory_mb of an
    architecture.

    Uses the file `search.device.file` of another device, or times architectures on this one, with
    a progress bar, and stores them in `path`. Raises `UserError` for a file of other conditions.
    """
    collection = _collection(config, settings, path)
    latency = fit(collection.archs(), collection.values())
    size = fit(collection.archs(), [one.file_bytes / MB for one in collection.measured])
    dense = latency(config.space.largest_dense())
    costs: dict[str, Callable[[Arch], float]] = {
        "latency_ms": latency,
        "latency_share": lambda arch: latency(arch) / dense,
        "file_mb": size,
    }
    weighed = [one for one in collection.measured if one.memory_mb]
    if len(weighed) > 1:
        sizes = [one.file_bytes / MB for one in weighed]
        slope, base = np.polyfit(sizes, [one.memory_mb for one in weighed], 1)
        costs["memory_mb"] = lambda arch: float(base + slope * size(arch))
    return costs


def _collection(config: Config, settings: Settings, path: Path) -> Collection:
    file = config.search.device.file
    if file:
        collection = load(Path(file))
        check_header(
            collection.header, header_of(settings, conditions_of(config), config.space), file
        )
        check_rows(collection, config.space, file)
        return collection
    return timed_here(config, settings, path)


def timed_here(config: Config, settings: Settings, path: Path) -> Collection:
    """Times architectures on this device, with a progress bar, until the file in `path` has enough
    of them.
    """
    device = config.search.device
    with tqdm(
        total=device.architectures,
        desc="latency",
        unit="architecture",
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:

        def progress(done: int, error: HeldOut | None) -> None:
            bar.update(done - bar.n)
            if error:
                bar.set_postfix_str(f"held-out error {error.mean:.1%}", refresh=False)

        return collect(
            path,
            config.space,
            settings,
            conditions_of(config),
            most=device.architectures,
            error=device.error,
            progress=progress,
        )
