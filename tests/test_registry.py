"""Registries: built-in entries, entries from outside, and the modules that add them."""

import pathlib
import subprocess
import sys

import pytest

from automoe_jax.config import SearchConfig, default_config, from_config_dict
from automoe_jax.data.sources import SOURCES
from automoe_jax.errors import UserError
from automoe_jax.registry import Registry, import_file, import_plugins, lazily
from automoe_jax.search import limits
from automoe_jax.search.algorithms import ALGORITHMS

PLUGIN = """
from automoe_jax.search.limits import COSTS, Cost

COSTS.register("{name}", Cost("layers", lambda conditions: lambda arch: int(arch.encoder_layers)))
"""


@pytest.fixture
def table() -> Registry[int]:
    return Registry("config.number", {"one": 1, "two": 2})


@pytest.fixture
def plugin(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A file that registers the cost "depth", which is forgotten after the test."""
    path = tmp_path / "costs_of_mine.py"
    path.write_text(PLUGIN.format(name="depth"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    limits.COSTS.pop("depth", None)
    sys.modules.pop("costs_of_mine", None)


def test_what_is_registered_is_found_and_can_be_replaced(table: Registry[int]) -> None:
    table.register("three", 4)
    table.register("three", 3)
    assert table.find("three") == 3
    assert list(table) == ["one", "two", "three"]


def test_what_is_built_in_stays(table: Registry[int]) -> None:
    with pytest.raises(UserError, match=r"config\.number='one' is built in; register yours as"):
        table.register("one", 7)
    assert table.find("one") == 1


def test_an_unknown_name_gets_the_known_ones(table: Registry[int]) -> None:
    with pytest.raises(
        UserError, match=r"^config\.number='onee' must be one of one, two; did you mean 'one'\?"
    ):
        table.find("onee")


def test_lazily_imports_at_the_call() -> None:
    code = (
        "import sys; from automoe_jax.registry import lazily; root = lazily('cmath', 'sqrt');"
        "assert 'cmath' not in sys.modules; assert root(-1) == 1j"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert lazily("math", "sqrt").__name__ == "sqrt"


def test_plugins_are_imported_by_path_and_by_name(plugin: pathlib.Path) -> None:
    import_plugins(f"json, {plugin}")
    assert limits.COSTS.find("depth").unit == "layers"
    limits.COSTS.pop("depth")
    import_plugins("costs_of_mine")  # its folder is importable by now
    assert "depth" in limits.COSTS


def test_a_configuration_imports_its_plugins_before_it_is_checked(plugin: pathlib.Path) -> None:
    config = default_config()
    config.search.limits = "depth=3"
    with pytest.raises(UserError, match=r"config\.search\.limits='depth' must be one of flops"):
        from_config_dict(config)
    config.plugins = str(plugin)
    assert limits.limits(from_config_dict(config).search) == {"depth": 3.0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("no_such_module", "names no_such_module, which is not installed"),
        ("no_such_package.module", "names no_such_package.module, which is not installed"),
        ("nowhere.py", "nowhere.py is not a file"),
    ],
)
def test_a_plugin_that_does_not_exist(names: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_plugins(names)


def test_an_import_inside_a_plugin_that_fails_keeps_its_traceback(plugin: pathlib.Path) -> None:
    plugin.write_text("import no_such_library")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        import_plugins(str(plugin))


def test_a_file_imports_its_neighbours_and_defines_dataclasses(
    plugin: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "main_file.py"
    path.write_text(
        "from __future__ import annotations\nimport dataclasses\nimport costs_of_mine\n"
        "@dataclasses.dataclass\nclass One:\n    two: int = 2\n"
    )
    assert import_file(str(path))["One"]().two == 2
    assert "depth" in limits.COSTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight=3", "config.search.limits='weight' must be one of flops, params, active_params"),
        ("flops=3e6", "config.search.limits='flops' has its own setting, search.max_flops"),
        ("depth=much", "config.search.limits='much' must be a positive number, as in depth=2.5"),
        ("depth", "config.search.limits='' must be a positive number"),
        ("depth=inf", "config.search.limits='inf' must be a positive number"),
    ],
)
def test_limits_in_words(text: str, message: str, plugin: pathlib.Path) -> None:
    import_file(str(plugin))
    config = default_config()
    config.search.limits = text
    with pytest.raises(UserError) as raised:
        from_config_dict(config)
    assert message in str(raised.value)


def test_limits_of_own_settings_and_of_others(plugin: pathlib.Path) -> None:
    import_file(str(plugin))
    settings = SearchConfig(max_flops=5.0, limits=" depth=2, ")
    assert limits.limits(settings) == {"flops": 5.0, "depth": 2.0}
    costs = {"flops": 5, "params": 10**9, "active_params": 10**9, "depth": 2}
    assert limits.within_limits(costs, settings)
    assert not limits.within_limits(costs | {"depth": 3}, settings)
    assert not limits.within_limits(costs | {"flops": 6}, settings)


def test_every_entry_of_the_package_can_be_imported() -> None:
    for source in SOURCES.values():
        assert source.loader("translate") or source.loader("classify")
    for name, algorithm in ALGORITHMS.items():
        most = 1 if name == "cost_ranking" else 205
        assert algorithm.max_candidates(SearchConfig(iterations=2, population=5)) == most
