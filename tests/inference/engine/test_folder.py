"""Exported folders: one sentence for each defect."""

import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from automoe_jax.data.tokenizer import EOS, PAD, train_tokenizer
from automoe_jax.errors import UserError
from automoe_jax.export import models
from automoe_jax.export.folder import write_folder
from automoe_jax.export.network import inputs_of
from automoe_jax.export.weights import separated
from automoe_jax.inference.engine import session
from automoe_jax.inference.engine.folder import (
    DESCRIPTION,
    MODEL,
    TOKENIZER,
    WEIGHTS,
    Description,
    open_folder,
    sha256,
    with_checksum,
)
from automoe_jax.inference.engine.translator import load
from tests.oracles import SPACE, random_network

LINES = ["the small dog sees a house", "a house", "", "the dog " * 30, "dogs see"]
ROOT = pathlib.Path(__file__).parents[3]
ENGINE_NEEDS = ("numpy", "sentencepiece", "onnxruntime")


def export(folder: pathlib.Path) -> None:
    tokenizer = folder.parent / "tokenizer.model"
    size = train_tokenizer([*LINES, "Hund Haus"] * 5, 300, tokenizer)
    arch = SPACE.sample(np.random.default_rng(0))
    network = random_network(SPACE, size, arch=arch)
    model, weights = separated(models.translator(*inputs_of(network, (8, 16))), WEIGHTS)
    description = Description(
        task="translate",
        precision="float32",
        architecture=arch.to_dict(),
        router={},
        costs={},
        languages={"source": "en", "target": "de"},
        license="none",
        scores={},
        buckets=(8, 16),
        beam_size=2,
        length_penalty=0.6,
        pad_id=PAD,
        eos_id=EOS,
    )
    files = {MODEL: model, WEIGHTS: weights, TOKENIZER: tokenizer.read_bytes()}
    write_folder(folder, description, files)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    export(folder)
    return folder


@pytest.fixture
def folder(original: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(original, tmp_path / "model"))


def test_lines_keep_their_order_and_do_not_depend_on_their_company(folder: pathlib.Path) -> None:
    translate = load(folder)
    together = translate(LINES)
    assert together[2] == ""
    assert together == [translate([line])[0] for line in LINES]


def change(name: str, edit: Callable[[dict], None]) -> Callable[[pathlib.Path], None]:
    def apply(folder: pathlib.Path) -> None:
        record = json.loads((folder / name).read_text())
        edit(record)
        (folder / name).write_text(json.dumps(record))

    return apply


def resealed(edit: Callable[[dict], object]) -> Callable[[pathlib.Path], None]:
    """Changes the description and its checksum, as another version of the package may."""

    def apply(folder: pathlib.Path) -> None:
        change(DESCRIPTION, lambda record: (record.pop("sha256"), edit(record)))(folder)
        record = json.loads((folder / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps(with_checksum(record)))

    return apply


def resealed_tokenizer(folder: pathlib.Path) -> None:
    (folder / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes()[:300])
    checksum = sha256(folder / TOKENIZER)
    resealed(lambda record: record["files"].update({TOKENIZER: checksum}))(folder)


def append(name: str) -> Callable[[pathlib.Path], None]:
    def apply(folder: pathlib.Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b"x")

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "holds no exported model"),
        (
            change(DESCRIPTION, lambda r: r.update(version=99)),
            "has the format version 99, and this",
        ),
        (change(DESCRIPTION, lambda r: r.update(format="x")), "describes no model of this package"),
        (change(DESCRIPTION, lambda r: r.pop("buckets")), "model.json is not the file that was"),
        (change(DESCRIPTION, lambda r: r.update(pad_id=7)), "model.json is not the file that was"),
        (change(DESCRIPTION, lambda r: r.pop("sha256")), "model.json is not the file that was"),
        (lambda folder: (folder / DESCRIPTION).write_text("{"), "is damaged"),
        (
            lambda folder: ((folder / DESCRIPTION).unlink(), (folder / DESCRIPTION).mkdir()),
            "model.json cannot be read (Is a directory)",
        ),
        (resealed(lambda r: r.update(wings=2)), "was written by another version of this package"),
        (resealed(lambda r: r.pop("pad_id")), "was written by another version of this package"),
        (resealed(lambda r: r.pop("files")), "was written by another version of this package"),
        (resealed(lambda r: r.update(buckets=None)), "was written by another version"),
        (resealed(lambda r: r.update(languages={})), "was written by another version"),
        (resealed_tokenizer, "tokenizer.model is no tokenizer ("),
        (lambda folder: (folder / WEIGHTS).unlink(), "lacks the file weights.bin; copy the whole"),
        (append(WEIGHTS), "weights.bin is not the file that was exported"),
        (append(TOKENIZER), "tokenizer.model is not the file that was exported"),
    ],
)
def test_a_damaged_folder_is_named(
    folder: pathlib.Path, damage: Callable[[pathlib.Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(UserError) as raised:
        load(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_operator_that_the_library_lacks_is_named(folder: pathlib.Path) -> None:
    (folder / MODEL).write_bytes(
        (folder / MODEL).read_bytes().replace(b"LogSoftmax", b"LogSoftmix")
    )
    with pytest.raises(UserError, match=r"cannot run .*model\.onnx") as raised:
        session.session(str(folder / MODEL), threads=1)
    assert "\n" not in str(raised.value)


def test_more_threads_than_cores_are_refused(folder: pathlib.Path) -> None:
    with pytest.raises(
        UserError, match=r"--threads=100000 must be between 1 and \d+, the processor"
    ):
        load(folder, threads=100000)


def test_a_folder_with_other_files_is_not_replaced(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files; name a new folder"):
        export(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def test_an_export_replaces_an_export(folder: pathlib.Path) -> None:
    append(WEIGHTS)(folder)
    export(folder)
    open_folder(folder)


def test_translating_imports_only_what_the_engine_needs(folder: pathlib.Path) -> None:
    """As in an environment without the other requirements: importing one of them fails."""
    modules = importlib.metadata.packages_distributions()
    requirements = (
        re.split(r"[\[<>=]", line)[0]
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    missing = {_normal(name) for name in requirements} - set(ENGINE_NEEDS) - {"flatbuffers"}
    blocked = [
        module
        for module, distributions in modules.items()
        if missing & {_normal(name) for name in distributions}
    ]
    assert {"jax", "flax", "jaxtyping", "tqdm"} <= set(blocked)
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({blocked}));"
        f"sys.argv = ['translate', {f'--model={folder}'!r}, '--json', '--experts'];"
        "runpy.run_module('automoe_jax.translate', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="a house\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["translations"]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.slow
def test_an_environment_without_jax_translates(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Only what the engine needs is installed, and this package without its dependencies."""
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "environment")], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [pin for pin in lock if pin.split("=")[0] in ENGINE_NEEDS]
    assert {pin.split("=")[0] for pin in pins} == set(ENGINE_NEEDS)
    subprocess.run([*pip, *pins], check=True)
    shutil.copytree(ROOT / "automoe_jax", tmp_path / "source" / "automoe_jax")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / "source" / name)
    subprocess.run([*pip, "--no-deps", str(tmp_path / "source")], check=True)
    translated = subprocess.run(
        [str(python), "-m", "automoe_jax.translate", f"--model={folder}"],
        input="\n".join(LINES) + "\n",
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env={},
        check=False,
    )
    assert translated.returncode == 0, translated.stderr
    assert translated.stdout.splitlines() == load(folder)(LINES)
    listed = subprocess.run(
        [str(python), "-c", "import jax"], cwd=tmp_path, capture_output=True, check=False
    )
    assert listed.returncode != 0
