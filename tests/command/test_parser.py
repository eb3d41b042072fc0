"""Flags: switches in all their forms, and sentences for what is not understood."""

import pytest

from automoe_jax.command.parser import Parser
from automoe_jax.errors import UserError


def parser() -> Parser:
    made = Parser("somewhere", "Something.")
    made.add_argument("--workdir")
    made.add_argument("--size", type=int, default=3)
    made.add_switch("int8", "small weights")
    return made


@pytest.mark.parametrize(
    ("words", "on"),
    [
        ([], False),
        (["--int8"], True),
        (["--int8=true"], True),
        (["--int8=Yes"], True),
        (["--int8=False"], False),
        (["--int8", "--noint8"], False),
        (["--int8=0"], False),
    ],
)
def test_a_switch_in_all_its_forms(words: list[str], on: bool) -> None:
    assert parser().parse(words).int8 is on


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8", "False"], r"'False' is left over; .* equals sign"),
        (["stray"], "'stray' is left over"),
        (["--workdir=a", "b", "c"], "'b' is left over"),
        (["--int8=maybe"], "--int8=maybe must be true or false"),
        (
            ["--workdri=x"],
            r"unrecognized arguments: --workdri; did you mean --workdir\?; see --help",
        ),
        (["--work=x"], "unrecognized arguments: --work;"),
        (["--workdir"], "--workdir: expected one argument; see --help"),
        (["--size=big"], "--size: invalid int value: 'big'; see --help"),
        (["--halp"], r"unrecognized arguments: --halp; did you mean --help\?"),
        (["-x"], "unrecognized arguments: -x; see --help"),
    ],
)
def test_what_is_not_understood_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parser().parse(words)


def test_a_misspelt_flag_is_named_before_the_required_one_that_it_was_meant_to_be() -> None:
    required = Parser("somewhere", "does something")
    required.add_argument("--folder", required=True)
    with pytest.raises(UserError, match=r"--fold; did you mean --folder\?"):
        required.parse(["--fold=x"])
    with pytest.raises(UserError, match="the following arguments are required: --folder"):
        required.parse([])
    with pytest.raises(SystemExit):
        required.parse(["--fold=x", "--help"])
