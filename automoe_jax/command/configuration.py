"""The flags --config and --config.FIELD: from a configuration file to a `Config`."""

import ast
import contextlib
import difflib
import inspect
import json
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from automoe_jax.command.parser import Parser, truth
from automoe_jax.config import Config, default_config, from_config_dict
from automoe_jax.dependencies import completed
from automoe_jax.errors import UserError
from automoe_jax.registry import import_file

_OVERRIDE = re.compile(r"--(no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)
_CAST = re.compile(
    r"field '(\w+)'.*original type <class '(.+?)'>.*to type <class '(.+?)'>", re.DOTALL
)
_HELP = "Any setting can be changed: --config.FIELD=VALUE, as in --config.retrain.steps=100."


class Override(NamedTuple):
    """One --config.FIELD flag."""

    field: str  # "retrain.steps"
    text: str | None  # None: the flag has no equals sign
    negated: bool = False  # --noconfig.FIELD
    following: str = ""  # the next word of the command line, where it may be the value


class ConfigFile(NamedTuple):
    """A configuration file, and the text behind its colon."""

    path: str
    argument: str

    @classmethod
    def parse(cls, text: str) -> "ConfigFile":
        path, _, argument = text.partition(":")
        return cls(path, argument)

    def __str__(self) -> str:
        return f"{self.path}:{self.argument}" if self.argument else self.path


def config_parser(module: str, description: str) -> Parser:
    """A parser with --config, for `parse`."""
    parser = Parser(module, description, epilog=_HELP)
    parser.add_argument(
        "--config",
        help="configuration file with a get_config(), such as configs/demo.py, or config.json of a"
        " workdir",
    )
    return parser


def parse(
    parser: Parser, arguments: Sequence[str], default: ConfigDict | None = None
) -> tuple[Config, Any]:
    """The configuration and the values of all flags; raises `UserError` for a mistake in them.

    `default`: the settings without --config, which is otherwise required.
    """
    words, overrides = split_overrides(arguments)
    flags = parser.parse(words)
    if flags.config is None and default is not None:
        return _overridden(default.to_dict(), overrides), flags
    if flags.config is None:
        raise UserError(
            "--config is missing; name a configuration file, such as --config=configs/demo.py"
        )
    file = ConfigFile.parse(flags.config)
    if not Path(file.path).is_file():
        raise UserError(f"--config={file} is not a file; name one such as configs/demo.py")
    return read_config(file, overrides), flags


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Separates the --config.FIELD flags from all others."""
    words: list[str] = []
    overrides: list[Override] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        match = _OVERRIDE.fullmatch(word)
        if not match:
            words.append(word)
            continue
        negated, field, text = match.groups()
        alone = text is None and not negated and rest and not rest[0].startswith("--")
        overrides.append(Override(field, text, bool(negated), rest.pop(0) if alone else ""))
    return words, overrides


def read_config(file: ConfigFile, overrides: Sequence[Override] = ()) -> Config:
    """The configuration of a file with these settings changed: a Python file, or the config.json
    of a workdir.

    Raises `UserError` with file and line for a file that does not compile, does not run, has no
    get_config() or returns something else, and for a setting of the file that is not valid.
    """
    if file.path.endswith(".json"):
        return _overridden(_recorded(file.path), overrides)
    module = load_module(file.path)
    if "get_config" not in module:
        raise UserError(
            f"{file.path} has no get_config(); define one that returns default_config() with its"
            " changes, as configs/demo.py does"
        )
    settings = call_get_config(module["get_config"], file)
    try:
        return _overridden(settings.to_dict(), overrides)
    except UserError as error:
        if str(error) != _mistake(settings):
            raise  # made by an override
        raise UserError(f"{_place(file.path, module['get_config'], str(error))}: {error}") from None


def _overridden(settings: dict[str, Any], overrides: Sequence[Override]) -> Config:
    for field, value in _values(overrides, default_config()).items():
        _set(settings, field, value)
    return from_config_dict(settings)


def _recorded(path: str) -> dict[str, Any]:
    """The nested settings of a workdir's config.json."""
    nested: dict[str, Any] = {}
    try:
        recorded = json.loads(Path(path).read_text())
        for field, value in completed(dict(recorded)).items():
            _set(nested, field, value)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(
            f"--config={path} holds no settings ({error}); name the config.json of a workdir"
        ) from None
    return nested


def load_module(path: str) -> Mapping[str, Any]:
    """The names that a configuration file defines; raises `UserError` with file and line."""
    with _explained(path):
        return import_file(path)


def call_get_config(get_config: Callable[..., Any], file: ConfigFile) -> ConfigDict:
    """The settings that get_config() returns; raises `UserError` unless it is a `ConfigDict`."""
    place = f"{file.path}, line {_line(get_config)}"
    arguments = [file.argument] if file.argument else []
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError as error:
        way_out = (
            f"leave out :{file.argument}" if arguments else f"add it behind a colon, {file.path}:…"
        )
        raise UserError(f"{place}: get_config: {error}; {way_out}") from None
    with _explained(file.path):
        settings = get_config(*arguments)
    if not isinstance(settings, ConfigDict):
        returned = "None" if settings is None else f"a {type(settings).__name__}"
        raise UserError(
            f"{place}: get_config() returns {returned}; let it change config = default_config() and"
            " end with `return config`"
        )
    return settings


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turns errors of a configuration file's code into a `UserError` with file and line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_where(path, error)}: {_words(error)}") from None


def _where(path: str, error: Exception) -> str:
    """File and line of an error in a configuration file, or in a module that it imports."""
    if isinstance(error, SyntaxError):
        file = error.filename or path
        shown = path if Path(file).resolve() == Path(path).resolve() else file
        return f"{shown}, line {error.lineno}" if error.lineno else shown
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == Path(path).resolve()
    ]
    return f"{path}, line {lines[-1]}" if lines else path


def _words(error: Exception) -> str:
    if cast := _CAST.search(str(error)):  # of ConfigDict
        field, given, wanted = cast.groups()
        return f"{field} must be of type {wanted}, not {given}"
    said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _mistake(settings: ConfigDict) -> str | None:
    """The error message for the settings of a file alone, or None."""
    try:
        from_config_dict(settings)
    except UserError as error:
        return str(error)
    return None


def _place(path: str, get_config: Callable[..., Any], message: str) -> str:
    """File and line where the setting that a message begins with is assigned; the line of
    get_config() where it is not assigned by name.
    """
    field = re.match(r"config\.([\w.]+)", message)
    lines = list(_lines(path, field[1])) if field else []
    return f"{path}, line {lines[-1] if lines else _line(get_config)}"


def _lines(path: str, field: str) -> Iterator[int]:
    """Lines with an attribute .FIELD of anything."""
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(f".{field}"):
            yield node.lineno


def _line(function: Callable[..., Any]) -> int:
    code = getattr(function, "__code__", None)
    return code.co_firstlineno if code else 1


def _values(overrides: Sequence[Override], settings: ConfigDict) -> dict[str, Any]:
    """The new value of each field; a list that is given several times is the list of all values."""
    values: dict[str, Any] = {}
    for override in overrides:
        default = _default(override.field, settings)
        value = _value(override, default)
        if isinstance(default, tuple) and override.field in values:
            value = values[override.field] + value
        values[override.field] = value
    return values


def _default(field: str, settings: ConfigDict) -> Any:
    """The default of a setting; raises `UserError` if it does not exist."""
    here: Any = settings
    known = ""
    for part in field.split("."):
        if not isinstance(here, ConfigDict):
            raise UserError(f"config.{field} is not a setting; config.{known} is a single value")
        if part not in here:
            raise UserError(f"config.{field} is not a setting{_hint(field, known, settings)}")
        here, known = here[part], f"{known}.{part}".lstrip(".")
    if isinstance(here, ConfigDict):
        raise UserError(
            f"config.{field} is a group of settings; change one of them, as in"
            f" --config.{field}.{next(iter(here))}=…"
        )
    return here


def _hint(field: str, group: str, settings: ConfigDict) -> str:
    """The setting that was meant by `field`, or all settings of the group that it begins with."""
    fields, last = _fields(settings), field.split(".")[-1]
    namesakes = [name for name in fields if name.split(".")[-1] == last]
    inside = [name for name in fields if name.startswith(f"{group}.")]
    by_last = {name.split(".")[-1]: name for name in inside}
    close = (
        difflib.get_close_matches(field, namesakes, n=1, cutoff=0)
        or difflib.get_close_matches(field, fields, n=1, cutoff=0.75)
        or [by_last[name] for name in difflib.get_close_matches(last, by_last, n=1)]
    )
    if close:
        return f'. Did you mean "{close[0].removeprefix(f"{group}.") if group else close[0]}"?'
    names = [name.removeprefix(f"{group}.") for name in inside] or list(settings)
    where = f"config.{group}" if inside else "config"
    return f"; {where} has {', '.join(names)}"


def _fields(settings: ConfigDict, prefix: str = "") -> list[str]:
    return [
        field
        for name, value in settings.items()
        for field in (
            _fields(value, f"{prefix}{name}.")
            if isinstance(value, ConfigDict)
            else [f"{prefix}{name}"]
        )
    ]


def _value(override: Override, default: Any) -> Any:
    """The value as Python reads it, text where it cannot; `from_config_dict` checks its type."""
    name, text = f"--config.{override.field}", override.text
    if isinstance(default, bool):
        if override.following:
            raise UserError(
                f"{override.following!r} after {name} is left over; write"
                f" {name}={override.following}, as a flag that is true or false takes its value"
                " after an equals sign"
            )
        return not override.negated if text is None else truth(name, text) != override.negated
    if override.negated:
        raise UserError(f"--noconfig.{override.field} is not a flag; give {name} a value")
    text = override.following if text is None else text
    if text == "" and not isinstance(default, str):
        raise UserError(f"{name} has no value; give it one, as in {name}={default}")
    if isinstance(default, str):
        return text
    value = _literal(text)
    if isinstance(default, tuple):
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    return value


def _literal(text: str) -> Any:
    for read in (int, float, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def _set(settings: dict[str, Any], field: str, value: Any) -> None:
    *groups, name = field.split(".")
    for group in groups:
        settings = settings.setdefault(group, {})
    settings[name] = value
