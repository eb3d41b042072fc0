"""Writes the report; every file is complete or absent."""

from etils import epath

from automoe_jax.report.contents import ReportContents
from automoe_jax.report.figures import draw
from automoe_jax.report.markdown import FOLDER, markdown_page
from automoe_jax.report.page import html_page
from automoe_jax.runtime.files import atomic_writer


def write_report(
    contents: ReportContents, workdir: epath.PathLike
) -> tuple[epath.Path, epath.Path]:
    """Writes `report.html`, `report.md` and `figures/*.svg` into `workdir`; returns the paths of
    the first two.

    Equal contents give equal bytes. The page and the document are written after the figures they
    show.
    """
    folder, drawn = epath.Path(workdir), draw(contents)
    figures = {folder / FOLDER / f"{name}.svg": figure.wide for name, figure in drawn.items()}
    page, document = folder / "report.html", folder / "report.md"
    texts = figures | {
        document: markdown_page(contents, drawn),
        page: html_page(contents, drawn),
    }
    for path, text in texts.items():
        with atomic_writer(path) as file:
            file.write(text.encode())
    return page, document
