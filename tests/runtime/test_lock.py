"""The lock of a workdir: between processes, after a kill, in an object store and on file systems
without locks.
"""

import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from automoe_jax.errors import UserError
from automoe_jax.runtime.lock import LOCK, locked

HOLD = (
    "import sys\n"
    "from etils import epath\n"
    "from automoe_jax.runtime.lock import locked\n"
    "with locked(epath.Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def other(tmp_path: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def bucket() -> Iterator[epath.Path]:
    fsspec.register_implementation("gcs", MemoryFileSystem, clobber=True)
    yield epath.Path("gs://bucket/run")
    MemoryFileSystem.store.clear()


def owner(process: int, host: str = socket.gethostname()) -> str:
    return json.dumps({"host": host, "process": process, "started": "2026-01-02T03:04:05+00:00"})


def test_a_second_run_is_refused_until_the_first_ends(
    tmp_path: pathlib.Path, other: subprocess.Popen[bytes]
) -> None:
    folder = epath.Path(tmp_path)
    said = rf"{tmp_path} is in use by process {other.pid} on {socket.gethostname()} since 20.*stop"
    with pytest.raises(UserError, match=said), locked(folder):
        pass
    other.communicate(b"")
    with locked(folder):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
        with pytest.raises(UserError, match=f"process {os.getpid()} on"), locked(folder):
            pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(
    tmp_path: pathlib.Path, other: subprocess.Popen[bytes]
) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert json.loads((tmp_path / LOCK).read_text())["process"] == other.pid
    with locked(epath.Path(tmp_path)):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", owner(1, "elsewhere"), owner(os.getpid())],
    ids=["empty", "cut short", "a list", "another host's", "our own"],
)
def test_a_file_whose_lock_nobody_holds_says_nothing(content: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(epath.Path(tmp_path)):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


def test_without_locks_the_content_decides(
    bucket: epath.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bucket / LOCK
    with locked(bucket):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert not path.exists()

    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    path.write_text(owner(int(ended.stdout)))
    with locked(bucket):
        pass
    assert capsys.readouterr().err == ""

    path.write_text(owner(os.getppid()))
    with pytest.raises(UserError, match=f"if that is no run, remove {path}"), locked(bucket):
        pass
    path.unlink()

    path.write_text(owner(1, "elsewhere"))
    with locked(bucket):
        assert json.loads(path.read_text())["host"] == socket.gethostname()
        said = "run is in use by process 1 on elsewhere since 2026-01-02T03:04:05"
        assert said in capsys.readouterr().err
        path.write_text(owner(1, "elsewhere"))
    assert json.loads(path.read_text())["host"] == "elsewhere", "the other one has taken it over"


def test_a_file_system_without_locks_is_treated_like_a_bucket(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / LOCK).write_text(owner(1, "elsewhere"))
    with locked(epath.Path(tmp_path)):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert "is in use by process 1 on elsewhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_only_be_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "open", read_only)
    folder = epath.Path(tmp_path / "run")
    said = r"run cannot be written to \(Read-only file system\); name a folder in which you may"
    with pytest.raises(UserError, match=said), locked(folder):
        pass
    monkeypatch.undo()
    (tmp_path / "run" / "config.json").touch()
    monkeypatch.setattr(os, "open", read_only)
    with locked(folder):
        assert [path.name for path in folder.iterdir()] == ["config.json"]
