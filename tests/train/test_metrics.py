"""Metrics of a run: on a disk and in an object store, with damaged lines."""

import pathlib
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
import tensorboardX
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from automoe_jax.train.metrics import MetricsWriter, read_metrics


class NoBoard:
    """In the place of TensorBoard's writer, which reaches real buckets only."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def add_scalar(self, *_: Any) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(params=["disk", "bucket"])
def folder(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[epath.Path]:
    if request.param == "disk":
        yield epath.Path(tmp_path)
        return
    monkeypatch.setattr(tensorboardX, "SummaryWriter", NoBoard)
    fsspec.register_implementation("gcs", MemoryFileSystem, clobber=True)
    yield epath.Path("gs://bucket/run")
    MemoryFileSystem.store.clear()


def test_records_are_appended_and_those_after_the_resumed_update_dropped(
    folder: epath.Path,
) -> None:
    assert read_metrics(folder) == []
    for resumed_at in (0, 2):
        with MetricsWriter(folder, resumed_at) as writer:
            for step in range(resumed_at + 1, resumed_at + 4):
                writer.write(step, {"loss": float(resumed_at), "parts": [1.0, None]})
    assert [(one["step"], one["loss"]) for one in read_metrics(folder)] == [
        (1, 0.0),
        (2, 0.0),
        (3, 2.0),
        (4, 2.0),
        (5, 2.0),
    ]


def test_a_damaged_line_is_named_and_left_out(
    folder: epath.Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1}\n{"st\n\xff\n[]\n{"step": "x"}\n{"loss": 1}\n{"step": 7}\n{"step"'
    )
    assert read_metrics(folder) == [{"step": 1}, {"step": 7}]
    for number in (2, 3, 4, 5, 6):
        assert f"{path}, line {number} holds no record" in caplog.text
