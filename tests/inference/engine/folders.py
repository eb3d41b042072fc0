"""A small exported translator with random weights."""

import functools
import io
import pathlib

import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.data.tokenizer import EOS, PAD, Tokenizer, train_tokenizer
from automoe_jax.export import models
from automoe_jax.export.folder import write_folder
from automoe_jax.export.network import inputs_of
from automoe_jax.export.weights import separated
from automoe_jax.inference.engine.folder import (
    MODEL,
    SHORTLIST,
    TOKENIZER,
    WEIGHTS,
    Description,
)
from automoe_jax.inference.engine.shortlist import Shortlist
from automoe_jax.model import Network
from tests.model.test_skips import ARCHS, SKIPPING
from tests.oracles import SPACE, random_network

BUCKETS = (8, 24)
LINES = ["the small dog sees a bird", "der kleine Hund sieht einen Vogel", "a bird", "ein Vogel"]
VOCAB = 304


@functools.cache
def network(skips: str = "") -> tuple[Arch, Network]:
    """A random network; skips: the name of one of `test_skips.ARCHS`, whose layers skip blocks."""
    space, arch = (SKIPPING, ARCHS[skips]) if skips else (SPACE, SPACE.largest())
    return arch, random_network(space, VOCAB, arch=arch)


def shortlist_of(tokenizer: Tokenizer) -> Shortlist:
    """Two random translations of each piece."""
    rng = np.random.default_rng(0)
    return Shortlist(
        np.array([0, 1, EOS, 3], np.int32),
        np.arange(270, 280, dtype=np.int32),
        rng.integers(4, VOCAB, (tokenizer.vocab_size, 20)).astype(np.int32),
    )


def write(
    out: pathlib.Path,
    shortlist: int = 0,
    with_table: bool = True,
    precision: str = "float32",
    skips: str = "",
) -> pathlib.Path:
    """Writes the folder `out`, with the default `shortlist`; skips: as in `network`."""
    arch, net = network(skips)
    path = out.parent / "tokenizer.model"
    assert train_tokenizer(LINES * 5, VOCAB, path) == VOCAB
    model, weights = separated(models.translator(*inputs_of(net, BUCKETS, precision)), WEIGHTS)
    table = io.BytesIO()
    shortlist_of(Tokenizer(path)).save(table)
    files = {MODEL: model, WEIGHTS: weights, TOKENIZER: path.read_bytes()}
    files |= {SHORTLIST: table.getvalue()} if with_table else {}
    description = Description(
        task="translate",
        precision=precision,
        architecture=arch.to_dict(),
        router={},
        costs={},
        languages={"source": "en", "target": "de"},
        license="none",
        scores={},
        buckets=BUCKETS,
        beam_size=3,
        length_penalty=0.6,
        pad_id=PAD,
        eos_id=EOS,
        shortlist=shortlist,
    )
    write_folder(out, description, files)
    return out
