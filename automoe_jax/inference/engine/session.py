"""ONNX Runtime sessions."""

import os
from collections.abc import Mapping

import numpy as np
import onnxruntime

from automoe_jax.errors import UserError

# The fused operator is three times slower than an addition and a normalisation.
_SLOW_FUSION = "SkipLayerNormFusion"


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_threads(threads: int | None) -> int:
    """`threads`, by default the number of cores; raises `UserError` for more."""
    most = cores()
    if threads is not None and not 1 <= threads <= most:
        raise UserError(
            f"--threads={threads} must be between 1 and {most}, the processor cores that this"
            " process may use"
        )
    return threads or most


def session(model: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU, whose matrix products share `threads`; raises `UserError` for a model
    that the library cannot run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads do not spin: where other programs run, spinning doubles the time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[_SLOW_FUSION],
        )
    except Exception as error:  # the library's errors have no common class
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise UserError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {model!r} on this platform"
            f" ({str(error).splitlines()[0]}); install a newer onnxruntime, or use --engine=jax"
            " with the workdir"
        ) from None


def run(session: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs."""
    return session.run(None, dict(feeds))
