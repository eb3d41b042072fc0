"""Commands as processes: exit codes, and one line on stderr for any failure of their streams."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from automoe_jax.space import SearchSpace

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = ["main", "costs", "translate", "compare", "plan", "export"]
WORK = """
import sys
from automoe_jax.command.run import run_for_people

def work():
{body}

sys.exit(run_for_people(work, resumes={resumes}))
"""


def run(
    arguments: list[str], before: str = "", after: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python from a shell, with redirections."""
    command = f'{before} "$@" {after}'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", "-", sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a command that answers at once."""
    arch = tmp_path_factory.mktemp("costs") / "arch.json"
    arch.write_text(SearchSpace().smallest().to_json())
    return ["-m", "automoe_jax.costs", f"--arch={arch}"]


def work(body: str, resumes: bool = False) -> list[str]:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return ["-c", WORK.format(body=indented, resumes=resumes)]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_helps(name: str) -> None:
    ended = run(["-m", f"automoe_jax.{name}", "--help"])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"usage: python -m automoe_jax.{name}" in ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--no_such_flag=1", "stray"])
def test_what_is_not_understood_is_one_line(name: str, flag: str) -> None:
    needed = {
        "costs": ["--arch=x"],
        "translate": ["--workdir=x"],
        "compare": ["--workdir=x"],
        "export": ["--workdir=x", "--out=x"],
    }
    ended = run(["-m", f"automoe_jax.{name}", *needed.get(name, []), flag])
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert flag.partition("=")[0] in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("after", "code", "said"),
    [
        ("| true", 141, ""),
        ("> /dev/full", 1, "error: standard output cannot be written: No space left on device\n"),
        (">&-", 1, "error: standard output is closed; redirect it to a file, or to /dev/null\n"),
        ("2>&-", 0, ""),
        ("2> /dev/full", 0, ""),
        ("< /dev/null <&-", 0, ""),
    ],
)
def test_streams(costs: list[str], after: str, code: int, said: str, unbuffered: str) -> None:
    # The sleep lets the reader of the pipe end before anything is written.
    slow = ["-c", f"import time, runpy, sys; time.sleep(0.5); sys.argv[1:] = {costs[2:]!r}\n"
            "runpy.run_module('automoe_jax.costs', run_name='__main__')"]  # fmt: skip
    ended = run(slow, after=after, PYTHONUNBUFFERED=unbuffered)
    assert (ended.returncode, ended.stderr) == (code, said)


def test_help_that_cannot_be_written(costs: list[str]) -> None:
    ended = run([*costs, "--help"], after="> /dev/full")
    assert ended.returncode == 1
    assert "standard output cannot be written" in ended.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_output_is_utf_8_whatever_the_terminal(encoding: str) -> None:
    body = "print('–é日')\nraise __import__('automoe_jax').UserError('no – such \\udcff')"
    ended = run(work(body), PYTHONIOENCODING=encoding)
    assert ended.stdout == "–é日\n"
    assert ended.stderr == "error: no – such \\udcff\n"
    assert ended.returncode == 1


def test_output_is_utf_8_in_an_ascii_locale() -> None:
    strict = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run(work(r"print('\u2013')"), **strict).stdout == "–\n"


@pytest.mark.parametrize(("resumes", "ending"), [(False, "interrupted"), (True, "it resumes")])
def test_an_interruption_says_whether_the_command_resumes(resumes: bool, ending: str) -> None:
    code = work("import time\nprint('ready', flush=True)\ntime.sleep(60)", resumes)
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, *code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("error: interrupted")
    assert said.count("\n") == 1
    assert ending in said
    assert ("resumes" in said) == resumes


@pytest.mark.parametrize("name", ["main", "translate", "compare", "plan", "export"])
def test_an_early_interruption_leaves_no_traceback(name: str) -> None:
    """Ctrl-C while the libraries are imported, which takes seconds."""
    needed = {
        "main": ["--config=configs/demo.py", "--workdir=/dev/null/x"],
        "plan": ["--config=configs/demo.py", "--simulate"],
        "translate": ["--workdir=.", "--engine=jax"],
        "export": ["--workdir=.", "--out=."],
        "compare": ["--workdir=."],
    }
    code = (
        "import runpy, sys\n"
        "class Strike:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'jax':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Strike())\n"
        f"sys.argv[1:] = {needed[name]!r}\n"
        f"runpy.run_module('automoe_jax.{name}', run_name='__main__')"
    )
    ended = run(["-c", code], after="< /dev/null")
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: interrupted")


@pytest.mark.parametrize("resumes", [False, True])
def test_a_full_disk_promises_only_what_holds(resumes: bool) -> None:
    body = "import errno\nraise OSError(errno.ENOSPC, 'No space left on device', 'a/file')"
    said = run(work(body, resumes)).stderr
    assert said.startswith("error: the disk is full while writing a/file; free some space")
    assert ("resumes" in said) == resumes


def test_a_bug_keeps_its_traceback() -> None:
    ended = run(work("raise KeyError('x')"))
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    body = f"import os\nwith open({str(path)!r}, 'w') as file:\n    assert file.fileno() > 2\n"
    body += "os.write(1, b'to nowhere')\nprint('neither')"
    ended = run(work(body, resumes=True), after="<&- >&- 2>&-")
    assert ended.returncode == 0
    assert path.read_text() == ""


def test_a_package_that_is_not_installed_is_named() -> None:
    ended = run(work("import sys\nsys.modules['onnxruntime'] = None\nimport onnxruntime"))
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: the Python package onnxruntime is not installed; install it with pip\n"
    )


def test_a_reader_that_ends_stops_a_long_command_with_one_line() -> None:
    body = "import time\nfor i in range(100):\n    print(i, flush=True)\n    time.sleep(0.05)"
    started = time.monotonic()
    ended = run(work(body, resumes=True), after="| head -1")
    assert ended.stdout == "0\n"
    assert ended.returncode == 141
    assert ended.stderr.startswith("error: the output is no longer read; run the same command")
    assert ended.stderr.count("\n") == 1
    assert time.monotonic() - started < 5


def test_translate_says_what_is_wrong_with_its_input(tmp_path: pathlib.Path) -> None:
    arguments = ["-m", "automoe_jax.translate", f"--workdir={tmp_path}"]
    assert "standard input is closed; give it the lines" in run(arguments, after="<&-").stderr
    code = (
        "import automoe_jax.inference.serving as t, sys;"
        "from automoe_jax.command.run import run_for_people;"
        "sys.exit(run_for_people(lambda: print(*t.arriving_lines(0))))"
    )
    ended = run(["-c", code], after="0> /dev/null")
    assert ended.stderr == "error: standard input cannot be read: Bad file descriptor\n"
