"""Documents: relative links, their anchors, and pages named in code exist; external links are
well-formed (`make links` looks them up); every table of results names the command that measures it.
"""

import dataclasses
import itertools
import pathlib
import re
import tomllib
import urllib.parse
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(
    path
    for folder in ("automoe_jax", "benchmarks", "configs", "launch", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".sbatch", ".yaml")
)
LINKING = [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb")), ROOT / "CITATION.cff"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
# Files of this repository as GitHub and Colab show them.
OWN = re.compile(
    rf"(?:{REPOSITORY}|https://colab.research.google.com/github/.*?/.*?)/(?:blob|tree)/main/(.*)"
)
# Pages that a table of results can be on; the notes become parts of pages in docs/.
RESULTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
COMMAND = re.compile(r"\b(?:python -m ((?:automoe_jax|benchmarks)[\w.]*)|make (?!sure\b)([a-z]+))")
COMPARE = "python -m automoe_jax.compare"
NUMBER = re.compile(r"[*(~≈<>≤≥±+−-]*\d")
# Tables with numbers that nothing here measured: page, first cells of their first rows.
GIVEN = {
    ("docs/costs.md", "part"): "formulas",
    ("docs/data.md", "`config.data.cleaning.`"): "defaults",
    ("docs/systems/automoe.md", "gene"): "a paper's search space",
    ("docs/systems/automoe.md", ""): "a paper's results",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page, and the text in which its command is looked for."""

    line: int  # of its first row, from 1
    rows: list[list[str]]  # cells
    around: str  # its section, without subsections, and the head of the page

    @property
    def has_results(self) -> bool:
        """Whether a cell outside of the first column and the first row begins with a number."""
        return any(NUMBER.match(cell) for row in self.rows[2:] for cell in row[1:])


def tables(page: pathlib.Path) -> Iterator[Table]:
    """The tables of a page, outside of blocks of code."""
    lines = page.read_text().splitlines()
    code = [False]
    for line in lines:
        code.append(code[-1] != line.lstrip().startswith("```"))
    headings = [i for i, line in enumerate(lines) if re.match("#+ ", line) and not code[i]]
    bounds = sorted({0, *headings, len(lines)})
    head = lines[: next((i for i in headings if lines[i].startswith("## ")), len(lines))]
    for start, end in itertools.pairwise(bounds):
        rows = [i for i in range(start, end) if lines[i].lstrip().startswith("|") and not code[i]]
        for first in (i for i in rows if i - 1 not in rows):
            last = next(i for i in itertools.count(first) if i not in rows)
            cells = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in lines[first:last]]
            rows_of_table = [[cell.strip() for cell in row] for row in cells]
            yield Table(first + 1, rows_of_table, "\n".join([*lines[start:end], *head]))


def links(page: pathlib.Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: pathlib.Path) -> set[str]:
    """GitHub's anchors of the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_page(page: pathlib.Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if name.startswith("notebooks/"):  # which docs/conf.py copies into the site
            target = ROOT / name
        assert target.exists(), f"{link} does not exist"
        assert not anchor or anchor in anchors(target), f"{link} has no such heading"


def test_pages_named_in_code() -> None:
    assert CODE
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in CODE
        for name in re.findall(r"docs/[\w/]+\.md", path.read_text())
        if not (ROOT / name).exists()
    }
    assert not missing


@pytest.mark.parametrize("page", LINKING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_external_links_of_a_page(page: pathlib.Path) -> None:
    for link in re.findall(r"https?://[^\s)<>\"'`\\]+", page.read_text()):
        parts = urllib.parse.urlsplit(link)
        if parts.hostname == "localhost":
            continue
        assert parts.scheme == "https", f"{link} is not https"
        assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.hostname or ""), f"{link} has no host"
        assert link[-1] not in ".,;:", f"{link} ends in punctuation"
        own = OWN.fullmatch(link)
        assert not own or (ROOT / own[1]).exists(), f"{link} is no file of this repository"


@pytest.mark.parametrize("page", RESULTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tables_of_results_name_their_command(page: pathlib.Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    for table in tables(page):
        if table.has_results and (name, table.rows[0][0]) not in GIVEN:
            assert COMMAND.search(table.around), (
                f"{name}, line {table.line}: the table has numbers; name the command that measures"
                " them (`python -m …`, `make …`) in its section or at the head of the page"
            )


def test_tables_that_are_given_exist() -> None:
    assert set(GIVEN) <= {
        (page.relative_to(ROOT).as_posix(), table.rows[0][0])
        for page in RESULTS
        for table in tables(page)
        if table.has_results
    }


def test_a_table_without_a_command_is_found(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    table = "| system | BLEU |\n| --- | ---: |\n| dense | **6.5** |\n"
    page.write_text(
        "# Page\n\n"
        f"## A\n\n{table}\n## B\n\n```\nmake demo  # not a heading\n```\n\n{table}"
        f"\n### C\n\n{table.replace('**6.5**', 'better')}"
    )
    found = list(tables(page))
    assert [one.line for one in found] == [5, 15, 21]
    assert [one.has_results for one in found] == [True, True, False]
    assert [bool(COMMAND.search(one.around)) for one in found] == [False, True, False]


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda path: path.name)
def test_commands_of_a_page_exist(page: pathlib.Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", page.read_text(), re.DOTALL))
    for module, target in COMMAND.findall(code):
        path = ROOT / module.rstrip(".").replace(".", "/")
        exists = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert not module or exists, f"python -m {module} is no command"
        assert not target or target in targets, f"make {target} is no target of the Makefile"
    for config in re.findall(r"--configs?=(configs/\w+)", code):
        assert (ROOT / f"{config}.py").is_file(), f"{config} is no configuration"


def makefile() -> str:
    """The Makefile with its abbreviations written out."""
    text = (ROOT / "Makefile").read_text()
    return text.replace("$(COMPARE)", COMPARE).replace("$(BIN)/", "")


def runs_of(text: str) -> set[tuple[str, str, str]]:
    """Configurations, seeds and working directory of every `automoe_jax.compare` in a text."""
    commands = re.findall(rf"{COMPARE} (.*)", text.replace("\\\n", " "))
    flags = [dict(re.findall(r"--(\w+)=(\S+)", command)) for command in commands]
    return {
        (config, seeds, one.get("workdir", ""))
        for one in flags
        for config in one.get("configs", "").split(",")
        for seeds in one.get("seeds", "").split(",")
    }


def test_one_command_repeats_the_results() -> None:
    repeated = runs_of(makefile())
    for page in ("RESULTS.md", "results/classification.md", "results/repeats.md"):
        runs = runs_of((ROOT / "docs" / page).read_text())
        assert runs
        assert runs <= repeated, f"`make results` lacks runs of docs/{page}"


def flags_of(module: str, text: str) -> list[set[str]]:
    """The flags of every command `python -m MODULE`, but those that name where results are kept."""
    kept = ("--workdir=", "--results=")
    return [
        {flag for flag in command.split() if not flag.startswith(kept)}
        for command in re.findall(
            rf"python -m {re.escape(module)} ([^#\n]*)", text.replace("\\\n", " ")
        )
    ]


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("RESULTS.md", "benchmarks.headline"),
        ("results/rates.md", "automoe_jax.compare.rates"),
        ("results/ranking.md", "automoe_jax.rank"),
        ("results/learning.md", "benchmarks.learning"),
    ],
)
def test_the_command_of_a_page_is_part_of_it(page: str, module: str) -> None:
    (repeated,) = flags_of(module, makefile())
    assert repeated in flags_of(module, (ROOT / "docs" / page).read_text())
