"""Hypotheses and their decisions from records written by hand."""

import numpy as np

from automoe_jax.inference.engine.hypotheses import Records, finished

EOS = 2


def test_decisions_follow_the_hypothesis() -> None:
    """Two beams, four extensions a step. The best hypothesis is 7 9: its first token is the second
    extension of the first step, and the second comes first in the second step.
    """
    tokens = np.array([[[6, 7, 8, 5]], [[9, 6, 5, 4]], [[EOS, EOS, 5, 4]]])
    origins = np.array([[[0, 0, 0, 0]], [[1, 0, 0, 1]], [[0, 1, 0, 1]]])
    scores = np.array([[[-1, -2, -3, -4]], [[-3, -4, -5, -6]], [[-5, -6, -7, -8]]], np.float32)
    numbers = np.arange(3, dtype=np.float32)
    attention = (10 * numbers[:, None] + np.array([0, 0, 1, 1])).reshape(3, 1, 4)  # S = 2
    gates = (100 * numbers[:, None] + np.array([0, 1])).reshape(3, 1, 2)  # G = 1
    source_gates = np.ones((1, 2, 3), np.float32)
    records = Records(scores, tokens, origins, attention, gates, source_gates)
    ((best, second),) = finished(records, 2, 0.0, EOS, best=2)
    assert best.tokens.tolist() == [7, 9]
    assert best.decisions is not None
    assert best.decisions.attention.tolist() == [[0, 0], [11, 11]]  # the steps that predict
    assert best.decisions.gates.tolist() == [[101], [200]]  # the steps that read
    assert best.decisions.source_gates.shape == (2, 3)
    assert second.tokens.tolist() == [6, 6]
    assert second.decisions is not None
    assert second.decisions.attention.tolist() == [[0, 0], [10, 10]]
    assert second.decisions.gates.tolist() == [[100], [201]]
    ((only,),) = finished(records, 2, 0.0, EOS)
    assert only.score == best.score == -5


def test_a_translation_without_tokens_has_no_decisions() -> None:
    tokens = np.array([[[EOS, 4]]])
    records = Records(
        np.array([[[-1.0, -2.0]]], np.float32),
        tokens,
        np.zeros((1, 1, 2), np.int64),
        np.ones((1, 1, 3), np.float32),
        np.ones((1, 1, 2), np.float32),
        np.ones((1, 3, 2), np.float32),
    )
    ((found,),) = finished(records, 1, 0.6, EOS)
    assert found.tokens.size == 0
    assert found.decisions is not None
    assert found.decisions.attention.shape == (0, 3)
    assert found.decisions.gates.shape == (0, 2)
