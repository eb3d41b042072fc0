"""Features of an architecture count the blocks that it has."""

import numpy as np

from automoe_jax.latency.features import NAMES, features
from tests.model.test_skips import ARCHS, SKIPPING


def test_all_blocks_count_as_whole_layers() -> None:
    arch = SKIPPING.largest()
    found = dict(zip(NAMES, features(arch), strict=True))
    q, e, d = 16, 16, 16
    assert found["encoder layers"] == arch.encoder_layers
    assert found["decoder layers"] == arch.decoder_layers
    assert found["encoder attention weights"] == arch.encoder_layers * 4 * e * q
    assert found["decoder attention weights"] == arch.decoder_layers * 6 * d * q


def test_skipped_blocks_count_nothing() -> None:
    found = dict(zip(NAMES, features(ARCHS["a layer of each side"]), strict=True))
    q, e, d = 16, 16, 16
    assert (found["encoder layers"], found["decoder layers"]) == (1, 1)
    assert found["encoder attention weights"] == 4 * e * q
    assert found["decoder attention weights"] == 6 * d * q
    assert found["encoder heads"] == 1
    assert found["FFN weights of all experts"] == 2 * e * 16 + 2 * d * 16
    assert np.all(features(SKIPPING.smallest()) <= features(SKIPPING.largest()))
