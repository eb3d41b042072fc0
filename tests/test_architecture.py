"""Imports point one way (ARCHITECTURE.md), the page matches the folders, and every configuration is
a valid one.
"""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from automoe_jax.config import Config, from_config_dict
from automoe_jax.registry import import_file

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "automoe_jax"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))

# A module imports from its own level and from those below it. Add new modules and folders here.
LEVELS = (
    {"errors", "names"},
    {"registry"},
    {
        "arch",
        "space",
        "costs",
        "routers",
        "config",
        "dependencies",
        "command",
        "data/formats/table",
        "data/sources",
        "export/settings",
        "search/algorithms",
        "search/choice",
        "search/limits",
    },
    {"runtime"},
    {"ops"},
    {"model"},
    {"data"},
    {
        "train",
        "search",
        "inference",
        "export",
        "latency",
        "evaluation",
        "extract",
        "convert",
        "report",
        "workdir",
        "trained",
    },
    {"stages"},
    {"main", "translate", "classify", "compare", "plan", "rank"},
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def imports(module: pathlib.Path) -> set[str]:
    """Everything `module` imports anywhere, as dotted names: "flax.linen",
    "automoe_jax.ops.norm". Imports for annotations alone do not count.
    """
    found = set()
    package = ("automoe_jax", *module.parent.parts)
    tree = ast.parse((PACKAGE / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*parents, *(node.module or "").split("."))).strip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def place(module: pathlib.Path) -> str:
    """The entry of LEVELS that `module` belongs to: "ops" for ops/norm.py, "arch" for arch.py; a
    module of a folder may have a separate entry.
    """
    parts = module.with_suffix("").parts
    names = ("/".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((name for name in names if name in LEVEL), parts[0])


def own_places(names: set[str]) -> set[str]:
    """The entries of LEVELS among imported names; `automoe_jax.__version__` is none."""
    parts = [name.split(".")[1:] for name in names if name.startswith("automoe_jax.")]
    found = {place(pathlib.Path(*part)) for part in parts}
    return {
        name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    }


def libraries(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"automoe_jax"}


def members(*places: str) -> list[pathlib.Path]:
    return [module for module in MODULES if place(module) in places]


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts != ("__init__.py",)], ids=str)
def test_imports_point_down(module: pathlib.Path) -> None:
    assert place(module) in LEVEL, f"{place(module)} has no place in LEVELS"
    upward = {
        name for name in own_places(imports(module)) if LEVEL.get(name, 0) > LEVEL[place(module)]
    }
    assert not upward, f"{module} is below {sorted(upward)} and must not import them"


@pytest.mark.parametrize("module", members("stages"), ids=str)
def test_stages_do_not_import_stages(module: pathlib.Path) -> None:
    if module.name != "__init__.py":
        assert "stages" not in own_places(imports(module)), "stages talk through files"


@pytest.mark.parametrize("module", members("ops"), ids=str)
def test_ops_are_pure_functions_on_arrays(module: pathlib.Path) -> None:
    assert "flax" not in libraries(imports(module))
    assert "config" not in own_places(imports(module))


@pytest.mark.parametrize("module", members("search"), ids=str)
def test_search_knows_no_model(module: pathlib.Path) -> None:
    if module.name != "evaluator.py":
        beyond = {
            name for name in own_places(imports(module)) if LEVEL.get(name, 0) >= LEVEL["ops"]
        } - {"search"}
        assert not beyond, f"{module} imports {sorted(beyond)}; only search/evaluator.py may"


@pytest.mark.parametrize("module", members("search", "inference"), ids=str)
def test_searching_and_translating_need_no_training(module: pathlib.Path) -> None:
    assert "train" not in own_places(imports(module)), f"{module} imports training"


@pytest.mark.parametrize(
    "name", ["arch", "space", "costs", "routers", "config", "errors", "registry"]
)
def test_answers_without_jax(name: str) -> None:
    code = f"import sys, automoe_jax.{name}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0, (
        f"automoe_jax.{name} imports jax"
    )


def test_page_matches_folders() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    names = {
        module.parent.name if module.name == "__init__.py" else module.stem for module in MODULES
    } - {""}
    missing = sorted(name for name in names if not re.search(rf"\b{name}\b", page))
    assert not missing, f"ARCHITECTURE.md does not mention {missing}"
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in ("automoe_jax", "configs", "tests", "benchmarks", "docs")
        for path in (ROOT / folder).rglob("*")
    }
    gone = sorted(
        name
        for name in re.findall(r"[\w/]+\.py\b", page)
        if not any(f"/{file}".endswith(f"/{name}") for file in files)
    )
    assert not gone, f"ARCHITECTURE.md mentions {gone}, which are no files"


def test_there_are_configs() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid(path: pathlib.Path) -> None:
    module = import_file(str(path))
    assert module["__doc__"], "the docstring holds the command, hardware, time and measured result"
    for name, system in module.get("SYSTEMS", {}).items():
        assert system.__doc__, f"the docstring of {name} holds its measured result"
        assert isinstance(from_config_dict(module["get_config"](name)), Config)
    if "SYSTEMS" not in module:
        assert isinstance(from_config_dict(module["get_config"]()), Config)
