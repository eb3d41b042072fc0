"""Settings of all tests: CPU by default, cached compilations, reproducible Hypothesis.

The settings are environment variables, set before JAX is imported, so that commands started by a
test share them.
"""

import gc
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# float32 products on GPU and TPU; the only kind on CPU
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# programs run once or twice: a third of the time to compile
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    # 0.12 lacks this flag, and a flag that jaxlib does not know ends the process
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""),
)
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# A shell's background jobs ignore Ctrl-C and nohup a closed terminal, and so would everything that
# a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import hypothesis
import jax
import jaxtyping
import pytest

# Calls of functions on arrays are checked against their annotations. Left out are Flax modules,
# whose methods Flax transforms itself, and modules whose functions answer a caller's mistake.
jaxtyping.install_import_hook(
    [
        "automoe_jax.convert",
        "automoe_jax.data.lexicon",
        "automoe_jax.data.shards",
        "automoe_jax.evaluation.shortlist",
        "automoe_jax.export.parts",
        "automoe_jax.inference.expert_usage",
        "automoe_jax.latency.features",
        "automoe_jax.latency.predictor",
        "automoe_jax.model.masks",
        "automoe_jax.ops",
        "automoe_jax.train.loss",
    ],
    "beartype.beartype",
)

hypothesis.settings.register_profile(
    "automoe",
    deadline=None,  # the first example compiles
    max_examples=50,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("automoe")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking everything that is imported, again and again, while
    programs are traced: a fifth of the time of tracing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


_MAPPED = pathlib.Path("/proc/self/maps")
_MAPPED_AT_MOST = 30_000  # Linux allows a process 65 530 by default
_MAPPED_IN_A_TEST = 0.2  # seconds; a shorter test compiles too little to count


@pytest.fixture(autouse=True)
def _few_compiled_programs() -> Iterator[None]:
    """Forget compiled programs before a worker has too many: each maps hundreds of pieces of
    memory, and XLA crashes where Linux refuses to map one more.
    """
    begin = time.monotonic()
    yield
    if time.monotonic() - begin < _MAPPED_IN_A_TEST or not _MAPPED.exists():
        return
    if _MAPPED.read_bytes().count(b"\n") > _MAPPED_AT_MOST:
        jax.clear_caches()
        gc.collect()
