"""A translator as a page of static files: an exported folder, the page, and ONNX Runtime Web.

ONNX Runtime Web is fetched by npm at the export, in one version with its checksum, or read from a
folder. The page itself loads nothing from elsewhere.
"""

import base64
import hashlib
import importlib.resources
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping

import sentencepiece

from automoe_jax.data.tokenizer import is_bpe
from automoe_jax.errors import UserError
from automoe_jax.export.weights import joined
from automoe_jax.inference.engine.folder import (
    MODEL,
    SHORTLIST,
    TARGET_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
)
from automoe_jax.inference.engine.shortlist import load_shortlist

RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# Holds its weights: ONNX Runtime Web 1.30 rejects those in a file of their own.
WEB_MODEL = "translator.onnx"
PAGE = ("index.html", "style.css", "text.js", "translator.js", "page.js")
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# the npm registry's integrity field of this version
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_SPECIAL, _NORMAL, _BYTE = range(3)  # kinds of pieces
_OWN_COPY = f"or name a folder with these files of {PACKAGE} {VERSION} by --ort_web=DIR"


def runtime_files(folder: str | None = None) -> dict[str, bytes]:
    """The files of ONNX Runtime Web, from a folder (or its `dist`), by default fetched by npm;
    raises `UserError` where they cannot be had or are not those of the pinned version.
    """
    return _fetched() if folder is None else _copied(pathlib.Path(folder))


def page_files(
    model: Mapping[str, bytes], runtime: Mapping[str, bytes], shortlist: int = 0
) -> dict[str, bytes]:
    """All files of the page of an exported translator, whose files are `model`;
    shortlist: N, 0 for none.
    """
    source = importlib.resources.files("automoe_jax.export") / "page"
    files = {**runtime, **{name: (source / name).read_bytes() for name in PAGE}}
    files[WEB_MODEL] = joined(model[MODEL], model[WEIGHTS])
    for name in (TOKENIZER, TARGET_TOKENIZER):
        if name in model:
            files[_json_name(name)] = _tokenizer(model[name])
    if shortlist:
        files[_json_name(SHORTLIST)] = _shortlist(model[SHORTLIST], shortlist)
    return files


def _json_name(name: str) -> str:
    return pathlib.PurePath(name).stem + ".json"


def _tokenizer(content: bytes) -> bytes:
    """The pieces of a SentencePiece BPE: text, score and kind of each; raises `UserError` for a
    tokenizer of another kind.
    """
    if is_bpe(content):
        raise UserError(
            "the page reads SentencePiece tokenizers only, and this translator has the BPE of a"
            " published model; export it with --format=onnx"
        )
    model = sentencepiece.SentencePieceProcessor(model_proto=content)

    def kind(token: int) -> int:
        if model.is_byte(token):
            return _BYTE
        special = model.is_control(token) or model.is_unknown(token)
        return _SPECIAL if special else _NORMAL

    pieces = [
        [model.id_to_piece(token), model.get_score(token), kind(token)]
        for token in range(model.get_piece_size())
    ]
    return json.dumps(pieces, ensure_ascii=False).encode()


def _shortlist(content: bytes, size: int) -> bytes:
    """The tables of a shortlist as far as N = `size` uses them."""
    table = load_shortlist(content, SHORTLIST)
    tables = {
        "always": table.always.tolist(),
        "frequent": table.frequent[:size].tolist(),
        "translations": table.translations[:, :size].tolist(),
        "copies": None if table.copies is None else table.copies.tolist(),
    }
    return json.dumps(tables).encode()


def _copied(folder: pathlib.Path) -> dict[str, bytes]:
    if (folder / "dist").is_dir():
        folder = folder / "dist"
    missing = [name for name in RUNTIME if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"--ort_web={folder} lacks {', '.join(missing)}; name the folder dist of the npm"
            f" package {PACKAGE} {VERSION}"
        )
    return {name: (folder / name).read_bytes() for name in RUNTIME}


def _fetched() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"--format=web fetches {PACKAGE} by npm, which is absent; install npm,"
                        f" {_OWN_COPY}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        archives = list(pathlib.Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            reason = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
            raise UserError(
                f"npm cannot fetch {PACKAGE} {VERSION} ({reason}); try again, {_OWN_COPY}"
            )
        return unpacked(archives[0].read_bytes())


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The files of npm's archive; raises `UserError` unless it has the pinned checksum."""
    checksum = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if checksum != _SHA512:
        raise UserError(
            f"npm fetched a {PACKAGE} {VERSION} whose SHA-512 is not the pinned one; try again,"
            f" {_OWN_COPY}"
        )
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for name in RUNTIME:
            member = tar.extractfile(f"package/dist/{name}")
            assert member is not None
            files[name] = member.read()
    return files
