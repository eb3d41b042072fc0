"""Notebooks run from top to bottom, shortened by their cell of parameters, and are stored without
outputs.
"""

import os
import pathlib
import shutil
import sys
import tomllib

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECK = "assert _exit_code == 0, 'a command failed'"  # "!" itself raises nothing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A working directory with the repository's configurations, shared so that a notebook finds the
    workdir of the one before.
    """
    path = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(ROOT / "configs", path / "configs")
    return path


def shortened(path: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with SHORT = True, and a check after every command."""
    notebook = nbformat.read(path, as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert "SHORT = False" in parameters.source
    parameters.source = parameters.source.replace("SHORT = False", "SHORT = True")
    for cell in notebook.cells:
        lines = cell.source.splitlines()
        if cell.cell_type == "code" and any(line.startswith("!") for line in lines):
            cell.source = "\n".join(
                f"{line}\n{CHECK}" if line.startswith("!") else line for line in lines
            )
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "experts", "device_budget", "own_text", "sharding"])
def test_a_notebook_runs(name: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = shortened(ROOT / "notebooks" / f"{name}.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(
        "PATH", f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_every_notebook_is_run() -> None:
    marks = test_a_notebook_runs.pytestmark
    (names,) = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    assert sorted(names) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_clean(path: pathlib.Path) -> None:
    """No outputs; the badge opens this notebook of the package's repository."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = project["urls"]["Repository"].removeprefix("https://github.com/")
    text = "".join(cell.source for cell in notebook.cells)
    assert f"/github/{address}/blob/main/notebooks/{path.name})" in text
    assert f"git+https://github.com/{address}" in text
