"""A process that translates with one system, for `benchmarks.deploy`.

    python -m benchmarks.deploy_worker SYSTEM MODEL --threads=1

Reads a JSON object with `batch` and `beam` from each line of the standard input, translates such a
batch, and writes the seconds as JSON. A process for each system shows its peak memory, and only as
many cores as `--threads` says are visible to it. Every sentence has 32 source tokens and is decoded
for exactly 32 steps.
"""

import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 32
CANDIDATES = 1000  # pieces of the shortlist
NEVER = 1 << 30  # finished hypotheses at which the engine's search stops: all steps are made
ALPHA = 0.6  # of the length penalty
READ_BYTES = 1 << 30
TURN = 0.1  # seconds of a turn at least, where a batch is short
SLOW = 0.5  # seconds of a batch from which on a turn is one batch without a warm-up
Translate = Callable[[np.ndarray, int], Any]


def engine(model: Path, threads: int, shortlist: int) -> Translate:
    """The inference engine, which imports no JAX. As in its `load`, the products of a large model
    share the threads, and each thread of a small one translates its part of the sentences.
    """
    from concurrent.futures import ThreadPoolExecutor

    from automoe_jax.inference.engine.folder import LARGE_BYTES, MODEL, WEIGHTS
    from automoe_jax.inference.engine.hypotheses import Records, finished
    from automoe_jax.inference.engine.session import run, session

    is_large = (model / WEIGHTS).stat().st_size >= LARGE_BYTES
    loaded = session(os.fspath(model / MODEL), threads if is_large else 1)
    pool = ThreadPoolExecutor(threads)

    def part(source: np.ndarray, beam: int) -> Any:
        feeds = {
            "source": source,
            "beams": np.array(beam),
            "max_length": np.array(STEPS),
            "stop": np.array(NEVER),
            "pieces": np.arange(shortlist),
            "own": np.ones((len(source), shortlist), bool),
            "explain": np.array(False),
        }
        records = Records(*run(loaded, feeds))
        assert len(records.scores) == STEPS
        return finished(records, beam, ALPHA, eos_id=2)

    def translate(source: np.ndarray, beam: int) -> Any:
        parts = 1 if is_large else min(threads, len(source))
        if parts == 1:
            return part(source, beam)
        return list(pool.map(lambda own: part(own, beam), np.array_split(source, parts)))

    return translate


def xla(model: Path, threads: int, shortlist: int) -> Translate:
    """Beam search with JAX in float32."""
    import jax
    import jax.numpy as jnp

    from automoe_jax.inference.decode import search_from
    from automoe_jax.model.transformer import encode
    from benchmarks.deploy_models import dense_network

    network = dense_network(model.name)

    @functools.partial(jax.jit, static_argnames="beam")
    def search(network: Any, source: jax.Array, beam: int) -> Any:
        memory = encode(network, network.spec.widths, network.spec.exact_arch, source).memory
        return search_from(
            network,
            memory,
            beam_size=beam,
            max_length=STEPS,
            length_penalty=ALPHA,
            stop_early=False,
        )

    def translate(source: np.ndarray, beam: int) -> Any:
        return jax.block_until_ready(search(network, jnp.asarray(source, jnp.int32), beam))

    return translate


def ctranslate2(model: Path, threads: int, shortlist: int) -> Translate:
    """CTranslate2 in the precision of the model's files."""
    import ctranslate2

    precision = model.name.partition("-")[2]
    loaded = ctranslate2.Translator(
        os.fspath(model),
        device="cpu",
        compute_type=precision,
        inter_threads=1,
        intra_threads=threads,
    )

    def translate(source: np.ndarray, beam: int) -> Any:
        found = loaded.translate_batch(
            [[str(token) for token in row] for row in source],
            beam_size=beam,
            max_batch_size=len(source),
            max_decoding_length=STEPS,
            min_decoding_length=STEPS,
            length_penalty=ALPHA,
            use_vmap=bool(shortlist),
        )
        assert all(len(one.hypotheses[0]) == STEPS for one in found)
        return found

    return translate


def bandwidth(model: Path, threads: int, shortlist: int) -> Translate:
    """Reads as many bytes as `model` is named `reads` times, each thread its part, by dot
    products.
    """
    from concurrent.futures import ThreadPoolExecutor

    size = int(model.name)
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    pool = ThreadPoolExecutor(threads)

    def read(part: np.ndarray) -> None:
        for _ in range(reads(size)):
            part @ part

    return lambda source, beam: list(pool.map(read, parts))


def reads(size: int) -> int:
    """Number of times that `bandwidth` reads its bytes, so that starting threads costs little."""
    return max(1, READ_BYTES // size)


SYSTEMS: dict[str, Callable[[Path, int, int], Translate]] = {
    "engine": engine,
    "xla": xla,
    "ctranslate2": ctranslate2,
    "bandwidth": bandwidth,
}


def turn(translate: Translate, source: np.ndarray, beam: int) -> float:
    """Median seconds of a batch in one turn."""

    def once() -> float:
        started = time.perf_counter()
        translate(source, beam)
        return time.perf_counter() - started

    first = once()
    if first >= SLOW:
        return first
    return statistics.median(once() for _ in range(max(1, round(TURN / first))))


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM; this benchmark runs on Linux")


def main(system: str, model: str, threads: int, shortlist: int, vocab_size: int) -> None:
    """Answers requests until the standard input ends."""
    translate = SYSTEMS[system](Path(model), threads, shortlist)
    for line in sys.stdin:
        request = json.loads(line)
        rng = np.random.default_rng(0)
        source = rng.integers(4, vocab_size, (request["batch"], STEPS))
        if request["warm_up"]:
            translate(source, request["beam"])
            seconds = 0.0
        else:
            seconds = turn(translate, source, request["beam"])
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    wanted = int(sys.argv[3])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:wanted])
    main(sys.argv[1], sys.argv[2], wanted, int(sys.argv[4]), int(sys.argv[5]))
