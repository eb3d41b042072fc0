"""The README's way from two files to an exported translator has every step, and its configuration
is a valid one.
"""

import pathlib
import re
from typing import Any

from automoe_jax.config import from_config_dict

README = pathlib.Path(__file__).parents[1] / "README.md"
STEPS = ("make install", "automoe_jax.main", "automoe_jax.export", "automoe_jax.translate")


def blocks() -> list[tuple[str, str]]:
    """(language, content) of the code blocks of the section."""
    _, _, text = README.read_text().partition("## Your own text\n")
    section, _, _ = text.partition("\n## ")
    return re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def test_every_step_has_a_command() -> None:
    commands = "".join(content for language, content in blocks() if not language)
    places = [commands.index(step) for step in STEPS]
    assert places == sorted(places)
    assert set(re.findall(r"--config=(\S+)", commands)) == {"my_config.py"}
    assert len(set(re.findall(r"--workdir=(\S+)", commands))) == 1
    (out,), (model,) = (re.findall(rf"--{flag}=(\S+)", commands) for flag in ("out", "model"))
    assert out == model


def test_the_configuration_is_valid() -> None:
    (content,) = [content for language, content in blocks() if language == "python"]
    module: dict[str, Any] = {}
    exec(content, module)
    config = from_config_dict(module["get_config"]())
    assert (config.data.path, config.data.target_path) == ("train.en", "train.de")
