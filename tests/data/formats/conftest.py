"""A reader of a small file."""

import pytest

from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Wanted


@pytest.fixture
def read(tmp_path):
    """`read(reader, content, **wanted)`: what a reader yields for a file of this content."""

    def run(reader, content, **wanted):
        path = tmp_path / "a"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        settings = {"languages": ("en", "de")} | wanted
        return list(reader(TextFile(str(path)), Wanted(**settings)))

    return run
