"""Classes of lines through an exported folder."""

import dataclasses
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from automoe_jax.classify import ranked
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.corpus import Pairs
from automoe_jax.data.labels import Labels
from automoe_jax.data.tokenizer import EOS, PAD, Tokenizer, train_tokenizer
from automoe_jax.errors import UserError
from automoe_jax.export import models
from automoe_jax.export.folder import write_folder
from automoe_jax.export.network import inputs_of
from automoe_jax.export.weights import separated
from automoe_jax.inference.classify import classify, probabilities
from automoe_jax.inference.engine import translator
from automoe_jax.inference.engine.classifier import load
from automoe_jax.inference.engine.folder import MODEL, TOKENIZER, WEIGHTS, Description
from automoe_jax.model import Network
from tests.inference.engine import folders
from tests.oracles import SPACE, random_network

LABELS = Labels(("animal", "fruit", "tool"))
BUCKETS = (8, 16)
LINES = ["the small dog", "", "a bird " * 30, "eine Birne", "dog " * 7]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, pathlib.Path]:
    folder = tmp_path_factory.mktemp("export") / "model"
    tokenizer = folder.parent / "tokenizer.model"
    size = train_tokenizer(folders.LINES * 5, 300, tokenizer)
    space = dataclasses.replace(SPACE, decoder_embed_dims=(16,), decoder_layers=(0,))
    arch = space.largest()
    network = random_network(space, size, arch=arch, classes=LABELS.size)
    model, weights = separated(models.classifier(*inputs_of(network, BUCKETS)), WEIGHTS)
    description = Description(
        task="classify",
        precision="float32",
        architecture=arch.to_dict(),
        router={},
        costs={},
        languages={"source": "en", "target": "class"},
        license="none",
        scores={},
        buckets=BUCKETS,
        beam_size=1,
        length_penalty=0.0,
        pad_id=PAD,
        eos_id=EOS,
        labels=LABELS.names,
    )
    files = {MODEL: model, WEIGHTS: weights, TOKENIZER: tokenizer.read_bytes()}
    write_folder(folder, description, files)
    return network, folder


def test_probabilities_are_those_of_jax(exported: tuple[Network, pathlib.Path]) -> None:
    network, folder = exported
    classifier = load(folder)
    tokenizer = Tokenizer(folder / TOKENIZER)
    named = Pairs(tuple(LINES), ("tool",) * len(LINES))
    tokens, cut = TokenPairs.from_pairs(named, tokenizer, BUCKETS[-1], LABELS)
    assert cut
    expected = probabilities(network, tokens, buckets=BUCKETS, tokens_per_batch=32)
    found = classifier(LINES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    for line, own in zip(LINES, found, strict=True):
        np.testing.assert_allclose(classifier([line])[0], own, atol=1e-6)
    numbers = classify(network, tokens, buckets=BUCKETS, tokens_per_batch=32)
    best = [ranked(classifier.labels, own, 1)[0].name for own in found]
    assert best == [LABELS.name(number) for number in numbers]


def test_classes_are_ranked() -> None:
    found = ranked(LABELS.names, np.array([0.2, 0.5, 0.3]), 2)
    assert found == [("fruit", 0.5), ("tool", 0.3)]


def test_the_commands_name_each_other(
    exported: tuple[Network, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"holds a classifier; use .*automoe_jax\.classify"):
        translator.load(exported[1])
    with pytest.raises(UserError, match=r"holds a translator; use .*automoe_jax\.translate"):
        load(folders.write(tmp_path / "model"))


def test_the_command_needs_no_jax(
    exported: tuple[Network, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    folder = shutil.copytree(exported[1], tmp_path / "model")
    program = (
        "import sys; from automoe_jax.classify import main;"
        f"sys.argv[1:] = ['--model={folder}', '--n_best=2']; main();"
        "assert not {'jax', 'flax', 'grain', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"dog\n\nbird\n", capture_output=True, check=True
    )
    printed = [line.split(" ||| ") for line in done.stdout.decode().splitlines()]
    assert [line[0] for line in printed] == ["0", "0", "2", "2"]
    for number, line in ((0, "dog"), (2, "bird")):
        own = load(folder)([line])[0]
        assert [(name, float(p)) for place, name, p in printed if int(place) == number] == [
            (name, pytest.approx(p, abs=1e-6)) for name, p in ranked(LABELS.names, own, 2)
        ]
