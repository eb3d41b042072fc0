"""Registries: the entries that a setting can name, and how code outside the package adds one.

A configuration file, or a module that it imports, registers an entry when it is imported:

    from automoe_jax.data.sources import SOURCES, Source

    SOURCES.register("mine", Source(load=my_load))

Where no configuration file is imported, as in `translate`, `config.plugins` names the modules to
import first. This module imports no JAX.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from automoe_jax.errors import UserError, suggestion

T = TypeVar("T")
OTHERS = "; the configuration file or config.plugins must import the module that registers others"


class Registry(dict[str, T]):
    """A dictionary from the values of one setting to the entries that they name."""

    def __init__(self, setting: str, built_in: Mapping[str, T], others: str = OTHERS):
        """`setting` is the full name, such as "config.data.source"; `others` is the sentence about
        entries from outside in error messages.
        """
        super().__init__(built_in)
        self.setting = setting
        self._others = others
        self._built_in = frozenset(built_in)

    def register(self, name: str, entry: T) -> None:
        """Adds an entry from outside the package, or replaces one: a configuration file may be
        imported several times.

        Raises `UserError` for the name of a built-in entry.
        """
        if name in self._built_in:
            raise UserError(f"{self.setting}={name!r} is built in; register yours as another name")
        self[name] = entry

    def find(self, name: str) -> T:
        """The entry called `name`; raises `UserError` if there is none."""
        if name not in self:
            raise UserError(f"{self.setting}={name!r} {self.rule(name)}")
        return self[name]

    def rule(self, name: str) -> str:
        """The valid names in words, with the one closest to `name`."""
        return f"must be one of {', '.join(self)}{suggestion(name, self)}{self._others}"


def lazily(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of `module`, which is imported at the first call."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **options)

    call.__name__ = call.__qualname__ = name
    return call


def attribute(module: str, name: str) -> Callable[[], Any]:
    """A function that returns `name` of `module`, which is imported at the first call."""
    return lambda: getattr(importlib.import_module(module), name)


def import_plugins(names: str) -> None:
    """Imports what `config.plugins` lists: modules or paths of .py files, separated by commas.

    Raises `UserError` for one that does not exist.
    """
    for name in [part.strip() for part in names.split(",") if part.strip()]:
        if name.endswith(".py"):
            import_file(name)
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not error.name or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise UserError(
                f"config.plugins={names!r} names {name}, which is not installed; install it, or add"
                " its folder to PYTHONPATH"
            ) from None


def import_file(path: str) -> Mapping[str, Any]:
    """The names that a Python file defines; it can import the modules of its folder.

    Raises `UserError` if there is no file.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise UserError(f"{path} is not a file; name a Python file such as configs/demo.py")
    make_folder_importable(path)
    spec = importlib.util.spec_from_file_location(f"_file_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses of the file look for their module
    spec.loader.exec_module(module)
    return vars(module)


def make_folder_importable(path: str) -> None:
    """Lets Python import the modules in the folder of a file, as it does for a script; modules that
    are importable already take precedence.
    """
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
