"""Documents: relative links, their anchors, and pages named in code exist; external links are
well-formed (`make links` looks them up).
"""

import pathlib
import re
import tomllib
import urllib.parse

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
