"""The page of a translator: in a browser it gives the translations and experts of Python."""

import io
import json
import pathlib
import random
import tarfile

import pytest

from automoe_jax.errors import UserError
from automoe_jax.export import web
from automoe_jax.export.folder import write_folder
from automoe_jax.export.settings import INT8, PRECISIONS
from automoe_jax.inference.engine.folder import (
    MODEL,
    SHORTLIST,
    TOKENIZER,
    WEIGHTS,
    open_folder,
)
from automoe_jax.inference.engine.translator import load
from tests.export import chromium
from tests.inference.engine import folders

ODD = [
    "",
    "  the   small\tdog ",
    "ein Vogel, 日本 🐕\u200d🦺 — e\u0301",
    "\ufeffcaf\u00e9\u00a0x\x07\u2581y",
    "می\u200cخواهم a\u200db",
    "the small dog sees a bird " * 12,
]


def sentences() -> list[str]:
    """50 lines, some with odd characters, blanks or more tokens than the longest bucket."""
    words = sorted({word for line in folders.LINES for word in line.split()})
    draw = random.Random(0)
    lines = [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(50 - len(ODD))]
    return ODD + lines


@pytest.mark.parametrize("skips", ["", "attention", "FFN"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_browser_translates_as_python_does(
    precision: str, skips: str, tmp_path: pathlib.Path
) -> None:
    """Also where layers skip blocks. In 8 bits the sentences of a batch share the scales of
    activations, so they go alone.
    """
    if chromium.EXECUTABLE is None:
        pytest.skip("no chromium is installed")
    try:
        runtime = web.runtime_files()
    except UserError as error:
        pytest.skip(str(error))
    plain = folders.write(tmp_path / "plain", shortlist=2, precision=precision, skips=skips)
    described = open_folder(plain).description
    names = (MODEL, WEIGHTS, TOKENIZER, SHORTLIST)
    model = {name: (plain / name).read_bytes() for name in names}
    page = tmp_path / "page"
    write_folder(page, described, web.page_files(model, runtime, described.shortlist))
    lines = sentences()
    translator = load(plain)
    if precision == INT8:
        pieces = translator.tokenizer.encode(lines)
        lines = [x for x, ids in zip(lines, pieces, strict=True) if len(ids) < folders.BUCKETS[-1]]
    expected = [translator.alternatives([line], 1, explain=True)[0][0] for line in lines]
    with chromium.served(page) as address, chromium.tab() as tab:
        tab.open(address)
        program = "ready.then(async (t) => { const all = [];"
        program += f"for (const line of {json.dumps(lines)}) all.push(await t.translate(line));"
        found = tab.value(program + "return all; })")
        assert [one["text"] for one in found] == [one.text for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert other.explanation is not None
            for side in ("source", "target"):
                pieces = [(piece["piece"], piece["experts"]) for piece in one[side]]
                names = getattr(other.explanation, f"{side}_pieces")
                experts = getattr(other.explanation, f"{side}_experts")
                assert pieces == list(zip(names, experts, strict=True))
        shown = "element('translation').textContent"
        typed = f"element('source').value = {json.dumps(lines[-1])}"
        assert tab.value(f"{typed}; translateTyped().then(() => {shown})") == expected[-1].text
        assert tab.value("element('problem').hidden")
        tab.open((page / "index.html").as_uri())
        assert "http.server" in tab.value("ready.catch(() => element('problem').textContent)")


def test_a_folder_of_the_runtime_is_complete(tmp_path: pathlib.Path) -> None:
    (tmp_path / web.RUNTIME[0]).write_bytes(b"")
    with pytest.raises(UserError, match=f"--ort_web=.* lacks {web.RUNTIME[1]}, {web.RUNTIME[2]}"):
        web.runtime_files(str(tmp_path))
    for name in web.RUNTIME[1:]:
        (tmp_path / name).write_bytes(name.encode())
    assert web.runtime_files(str(tmp_path))[web.RUNTIME[1]] == web.RUNTIME[1].encode()


def test_an_archive_with_another_checksum_is_refused() -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz"):
        pass
    with pytest.raises(UserError, match="not the pinned one"):
        web.unpacked(content.getvalue())


def test_without_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"install npm, or name a folder.*--ort_web=DIR"):
        web.runtime_files()
