"""Settings of Sphinx for the documentation site: `make docs` writes build/docs/index.html."""

import pathlib
import posixpath
import re
import shutil
import sys
import tomllib

from sphinx.application import Sphinx

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))  # autodoc imports the package of this checkout

import automoe_jax  # noqa: E402

REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")

project = "automoe_jax"
version = release = automoe_jax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["reference/modules.rst"]
html_theme = "furo"
html_title = "automoe_jax"

# The reference: one page for each module, from its docstrings.
apidoc_modules = [
    {
        "path": str(ROOT / "automoe_jax"),
        "destination": "reference",
        "separate_modules": True,
        "module_first": True,
    }
]
autodoc_default_options = {"ignore-module-all": True}  # a name is described in its own module
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature's axis letters are the docstring's
default_role = "code"  # single backticks

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
linkcheck_ignore = [r"data:"]  # a mesh such as data:64,expert:4 in a docstring
linkcheck_anchors = False  # GitHub's are made by scripts; tests/test_docs.py checks our own
linkcheck_timeout, linkcheck_retries = 20, 2
nb_execution_mode = "off"  # notebooks have no outputs in the repository; a test executes them


def link_to_repository(app: Sphinx, name: str, source: list[str]) -> None:
    """Points the relative links of a page that leave the folder docs, or name a folder, to the
    repository.
    """
    folder = posixpath.dirname(name)

    def linked(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        page = path.startswith("docs/") and (ROOT / path).is_file()
        if page or not (ROOT / path).exists():  # a missing one is Sphinx's to report
            return match[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{before}{REPOSITORY}/{kind}/main/{path}{after}"

    source[0] = LINK.sub(linked, source[0])


def copy_notebooks(app: Sphinx) -> None:
    """Sphinx reads pages below its own folder only."""
    shutil.copytree(ROOT / "notebooks", DOCS / "notebooks", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", copy_notebooks)
    app.connect("source-read", link_to_repository)
