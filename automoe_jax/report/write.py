"""Writing the report: every file appears whole or not at all."""

import os
import pathlib
import tempfile

from automoe_jax.report.contents import ReportContents
from automoe_jax.report.figures import draw
from automoe_jax.report.markdown import FOLDER, markdown_page
from automoe_jax.report.page import html_page


def write_report(
    contents: ReportContents, workdir: pathlib.Path
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes `report.html`, `report.md` and `figures/*.svg` into `workdir`; returns the paths of
    the first two.

    Equal contents give equal bytes. The page and the document are written after the figures they
    show.
    """
    drawn = draw(contents)
    folder = workdir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        _write(folder / f"{name}.svg", figure.wide)
    page, document = workdir / "report.html", workdir / "report.md"
    _write(document, markdown_page(contents, drawn))
    _write(page, html_page(contents, drawn))
    return page, document


def _write(path: pathlib.Path, text: str) -> None:
    """Writes `path` through a temporary file beside it, so that no reader and no crash ever meets
    half of it.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are readable by their owner only
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
