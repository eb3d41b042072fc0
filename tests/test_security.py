"""SECURITY.md: no file is unpickled, and what it says about versions and files holds."""

import ast
import pathlib

import numpy as np
import pytest
import yaml

import automoe_jax

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted((ROOT / "automoe_jax").rglob("*.py"))
_UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of imported modules."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def keywords(tree: ast.AST, function: str) -> list[dict[str, str]]:
    """The keyword arguments of every call of a function or method of this name."""
    return [
        {str(one.arg): ast.unparse(one.value) for one in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) == function
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text())
    assert not imported(tree) & _UNSAFE
    assert all("allow_pickle" not in one for one in keywords(tree, "np.load"))
    for one in keywords(tree, "torch.load"):
        assert one.get("weights_only") == "True"


def test_objects_in_tables_are_refused(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "table.npz", x=np.array([{}], object))
    with np.load(tmp_path / "table.npz") as file, pytest.raises(ValueError, match="allow_pickle"):
        file["x"]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == automoe_jax.__version__
    assert citation["cff-version"] == "1.2.0"
