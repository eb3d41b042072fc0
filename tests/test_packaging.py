"""Imports are declared, declared packages have bounds, the lock file pins them without naming an
index, and the source distribution is complete.
"""

import ast
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()


def requirements(text: str) -> list[Requirement]:
    """The requirements in lines of a requirements file, comments dropped."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line]


RUNTIME = requirements((ROOT / "requirements.txt").read_text())
EXTRAS = {
    extra: requirements("\n".join(lines))
    for extra, lines in PROJECT["optional-dependencies"].items()
}
ALL = RUNTIME + [requirement for extra in EXTRAS.values() for requirement in extra]
LOCKED = RUNTIME + EXTRAS["dev"] + EXTRAS["docs"] + EXTRAS["formats"]


def names(wanted: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in wanted}


@pytest.mark.parametrize("requirement", ALL, ids=str)
def test_bounds(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {">=", "<"}, f"{requirement} needs a lower and an upper bound"


def test_imports_are_declared() -> None:
    distributions = importlib.metadata.packages_distributions()
    optional = ("data", "formats", "convert", "ctranslate2")
    declared = names(RUNTIME + [one for extra in optional for one in EXTRAS[extra]])
    for path in sorted((ROOT / "automoe_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            )
            for top in (
                {name.split(".")[0] for name in found} - sys.stdlib_module_names - {"automoe_jax"}
            ):
                providers = {canonicalize_name(name) for name in distributions.get(top, [top])}
                assert providers & declared, (
                    f"{path.relative_to(ROOT)} imports {top}, which neither requirements.txt nor"
                    f" the extras {', '.join(optional)} list"
                )


@pytest.mark.parametrize("requirement", LOCKED, ids=str)
def test_lock_pins(requirement: Requirement) -> None:
    pins = [
        pin
        for pin in requirements(LOCK)
        if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
    ]
    assert pins, "not in requirements.lock; run `make lock`"
    for pin in pins:
        (version,) = [specifier.version for specifier in pin.specifier]
        assert requirement.specifier.contains(version), (
            f"requirements.lock has {pin}; run `make lock`"
        )


def test_lock_is_portable_and_small() -> None:
    assert not re.search(r"://|file:|^-", LOCK, re.MULTILINE)
    assert not names(requirements(LOCK)) & {"torch", "tensorflow", "tensorflow-cpu"}


def test_source_distribution_is_the_repository(tmp_path: pathlib.Path) -> None:
    """A packager builds the documentation and runs the tests from it."""
    copy = tmp_path / "repository"
    left_out = (".*", "runs", "build", "dist", "__pycache__", "*.egg-info", "reference")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*left_out))
    shutil.rmtree(copy / "docs" / "notebooks", ignore_errors=True)  # copied by `make docs`
    expected = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        found = {name.partition("/")[2] for name in file.getnames()}
    assert {"docs/index.md", "tests/conftest.py", "CITATION.cff", "CHANGELOG.md"} <= expected
    assert not sorted(expected - found)
    assert not [name for name in found if name.endswith(".pyc")]
