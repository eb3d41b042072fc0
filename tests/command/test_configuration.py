"""Configuration files and the flags that change their settings: what they mean, and one sentence
with file and line for each mistake.
"""

import dataclasses
import json
import pathlib
import re

import pytest

from automoe_jax.command.configuration import ConfigFile, read_config, split_overrides
from automoe_jax.compare.experiments import load_experiments
from automoe_jax.config import Config
from automoe_jax.dependencies import settings_of
from automoe_jax.errors import UserError
from automoe_jax.main import parse
from automoe_jax.plan.command import run as plan

ROOT = pathlib.Path(__file__).parents[2]
DEMO = f"--config={ROOT / 'configs' / 'demo.py'}"
HEAD = (
    "from automoe_jax.config import default_config\ndef get_config():\n    c = default_config()\n"
)

# Text of a file → what the sentence says, with FILE for its path.
FILES = {
    "import_error": ("import nothing_like_this\n", "FILE, line 1: ModuleNotFoundError: No module"),
    "name_error": (
        "def get_config():\n    return no_such_name\n",
        "FILE, line 2: NameError: name 'no_such_name' is not defined",
    ),
    "syntax": (HEAD + "    c.data.path =\n    return c\n", "FILE, line 4: SyntaxError: invalid"),
    "indentation": (HEAD + "  return c\n", "FILE, line 4: IndentationError: unindent"),
    "null_byte": ("x = 1\0\n", "FILE.*: .*null bytes"),
    "latin_1": ("x = 'é'\n", "FILE.*: SyntaxError: .*utf-8"),
    "returns_none": (HEAD, "FILE, line 2: get_config() returns None; .*return config"),
    "returns_dict": (
        "def get_config():\n    return {'seed': 1}\n",
        "FILE, line 1: get_config() returns a dict; .*return config",
    ),
    "wrong_type": (
        HEAD + "    c.retrain.steps = 'many'\n    return c\n",
        "FILE, line 4: steps must be of type int, not str",
    ),
    "range_for_tuple": (
        HEAD + "    c.data.seed = 1\n    c.data.buckets = range(3)\n    return c\n",
        "FILE, line 5: buckets must be of type tuple, not range",
    ),
    "typo": (
        HEAD + "    c.seed = 1\n    c.data.pth = 'x'\n    return c\n",
        "FILE, line 5: config.data.pth is not a setting; did you mean 'data.path'",
    ),
    "rule": (
        HEAD + "    c.retrain.steps = 5\n    c.retrain.steps = -5\n    return c\n",
        "FILE, line 5: config.retrain.steps=-5 must be positive",
    ),
    "rule_elsewhere": (
        HEAD + "    setattr(c.retrain, 'steps', -5)\n    return c\n",
        "FILE, line 2: config.retrain.steps=-5 must be positive",
    ),
    "needs_argument": (
        "def get_config(size):\n    return size\n",
        "FILE, line 1: get_config: missing a required argument: 'size'; add it behind a colon",
    ),
    "raises": (
        "def f():\n    return {}['a']\n\ndef get_config():\n    return f()\n",
        "FILE, line 2: KeyError: 'a'",
    ),
}


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> tuple[pathlib.Path, str]:
    text, message = FILES[request.param]
    path = tmp_path / f"{request.param}.py"
    path.write_bytes(text.encode("latin-1" if request.param == "latin_1" else "utf-8"))
    pattern = re.escape(message).replace(r"\.\*", ".*").replace("FILE", re.escape(str(path)))
    return path, f"^{pattern}"


@pytest.mark.parametrize("file", FILES, indirect=True)
def test_a_mistake_in_a_file_is_one_sentence(file: tuple[pathlib.Path, str]) -> None:
    path, message = file
    for read in (
        lambda: parse(["main", f"--config={path}", "--workdir=x"]),
        lambda: load_experiments([str(path)]),
        lambda: plan(["plan", f"--config={path}"]),
    ):
        with pytest.raises(UserError, match=message) as raised:
            read()
        assert "\n" not in str(raised.value)


def test_a_file_without_get_config_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1\n")
    for read in (
        lambda: parse(["main", f"--config={tmp_path / 'helper.py'}"]),
        lambda: load_experiments([DEMO.partition("=")[2], str(tmp_path / "helper.py")]),
    ):
        with pytest.raises(UserError, match=r"helper.py has no get_config\(\)"):
            read()


def test_an_argument_that_the_file_does_not_take(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(HEAD + "    return c\n")
    with pytest.raises(UserError, match=r"line 2: get_config: too many .*; leave out :6"):
        read_config(ConfigFile(str(path), "6"))


def test_an_override_is_not_blamed_on_the_file_and_may_correct_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(HEAD + "    c.retrain.steps = -5\n    return c\n")
    config, _ = parse(["main", f"--config={path}", "--config.retrain.steps=7"])
    assert config.retrain.steps == 7
    with pytest.raises(UserError, match=r"^config.retrain.steps=-6 must be positive"):
        parse(["main", f"--config={path}", "--config.retrain.steps=-6"])


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--config.seed=3"], "seed", 3),
        (["--config.seed", "3"], "seed", 3),
        (["--config.seed=3", "--config.seed=4"], "seed", 4),
        (["--config.evaluate.int8"], "evaluate.int8", True),
        (["--config.evaluate.int8=False"], "evaluate.int8", False),
        (["--config.evaluate.int8", "--noconfig.evaluate.int8"], "evaluate.int8", False),
        (["--config.retrain.learning_rate=1"], "retrain.learning_rate", 1.0),
        (["--config.search.max_flops=1e9"], "search.max_flops", 1e9),
        (["--config.retrain.steps=1e3"], "retrain.steps", 1000),
        (["--config.data.name=it's=a"], "data.name", "it's=a"),
        (["--config.data.name=12"], "data.name", "12"),
        (["--config.data.name="], "data.name", ""),
        (["--config.data.buckets=(8,16)"], "data.buckets", (8, 16)),
        (["--config.data.buckets=8, 16"], "data.buckets", (8, 16)),
        (["--config.data.buckets=[8]"], "data.buckets", (8,)),
        (["--config.data.buckets=8", "--config.data.buckets=16"], "data.buckets", (8, 16)),
    ],
)
def test_overrides(flags: list[str], field: str, value: object) -> None:
    found: object = parse(["main", DEMO, *flags])[0]
    for name in field.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--config.evaluate.int8", "False"],
            r"'False' after --config.evaluate.int8 is left over; write .*int8=False",
        ),
        (["--config.evaluate.int8=maybe"], "--config.evaluate.int8=maybe must be true or false"),
        (["--config.seed=4", "stray"], "'stray' is left over"),
        (["--config.seed", "4", "stray"], "'stray' is left over"),
        (["--config.seed"], "--config.seed has no value; give it one, as in --config.seed=0"),
        (["--config.seed="], "--config.seed has no value"),
        (["--config.seed=x"], "^config.seed='x' must be of type int"),
        (["--config.seed=1.5"], "^config.seed=1.5 must be of type int"),
        (["--noconfig.seed"], "--noconfig.seed is not a flag; give --config.seed a value"),
        (["--config.sed=1"], 'config.sed is not a setting. Did you mean "seed"'),
        (["--config.search.populaton=1"], 'not a setting. Did you mean "population"'),
        (["--config.serch.population=1"], 'Did you mean "search.population"'),
        (["--config.population=1"], 'Did you mean "search.population"'),
        (["--config.retrain.step=1"], 'Did you mean "steps"'),
        (
            ["--config.search.no_such_field=1"],
            "config.search.no_such_field is not a setting; config.search has .*population",
        ),
        (["--config.qqq=1"], "config.qqq is not a setting; config has data, "),
        (["--config.seed.more=1"], "config.seed.more is not a setting; config.seed is a single"),
        (["--config.data=toy"], "config.data is a group of settings; change one of them"),
        (["--config.=1"], "config. is not a setting"),
        (["--config.data.buckets=(8,"], "config.data.buckets=.* must be a list of whole numbers"),
        (["--workdir"], "--workdir: expected one argument"),
        (["--redo=maybe"], "--redo=maybe must be true or false"),
    ],
)
def test_mistakes_in_flags(flags: list[str], message: str) -> None:
    for read in (parse, plan):
        with pytest.raises(UserError, match=message):
            read(["program", DEMO, *flags])


def test_overrides_stand_anywhere() -> None:
    words = ["--config.seed=1", "--workdir", "x", "--config.evaluate.int8", "--redo"]
    rest, overrides = split_overrides(words)
    assert rest == ["--workdir", "x", "--redo"]
    assert [override.field for override in overrides] == ["seed", "evaluate.int8"]


def test_a_missing_file_or_flag() -> None:
    with pytest.raises(UserError, match="--config is missing"):
        parse(["main"])
    with pytest.raises(UserError, match=r"--config=nowhere.py:6 is not a file"):
        parse(["main", "--config=nowhere.py:6"])
    assert isinstance(parse(["main", "--config", DEMO.partition("=")[2]])[0], Config)


def test_an_empty_workdir_is_not_taken_for_the_default() -> None:
    with pytest.raises(UserError, match="--workdir= is empty; name a folder"):
        parse(["main", DEMO, "--workdir="])


def test_the_settings_of_a_workdir_are_a_configuration(tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(Config(), seed=7)
    path = tmp_path / "config.json"
    recorded = {name: value for name, value in settings_of(config).items() if name != "fsdp"}
    path.write_text(json.dumps(recorded))
    assert read_config(ConfigFile(str(path), "")) == config
    changed = parse(["main", f"--config={path}", "--config.data.pairs=5"])[0]
    assert (changed.seed, changed.data.pairs) == (7, 5)
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"config\.json holds no settings .*name the config\.json"):
        read_config(ConfigFile(str(path), ""))
    path.write_text('{"seeds": 7}')
    with pytest.raises(UserError, match=r"config\.seeds is not a setting; did you mean 'seed'"):
        read_config(ConfigFile(str(path), ""))
