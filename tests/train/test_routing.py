"""Whether routers have collapsed, from the metrics of a training."""

import numpy as np
import pytest

from automoe_jax.routers import RouterConfig
from automoe_jax.train.routing import COLLAPSED, collapsed_layers, warning

EVEN, ONE = 0.9, 0.02
TOP_K = RouterConfig()


def records(*layers: list[float | None]) -> list[dict]:
    """Records with the entropies of each layer over time."""
    return [
        {"step": step, "routing_entropy": list(entropies)}
        for step, entropies in enumerate(zip(*layers, strict=True))
    ]


def test_layers_are_judged_by_the_end_of_the_training() -> None:
    late, early, even = [EVEN] * 18 + [ONE] * 2, [ONE] * 18 + [EVEN] * 2, [EVEN] * 20
    assert collapsed_layers(records(late, early, even)) == (1,)
    assert collapsed_layers(records(even, late, late)) == (2, 3)


def test_layers_and_records_without_a_choice_do_not_count() -> None:
    dense, sometimes = [None] * 4, [ONE, None, None, ONE]
    assert collapsed_layers(records(dense, sometimes, [EVEN] * 4)) == (2,)
    assert collapsed_layers([*records([ONE], [EVEN]), {"step": 9, "validation_nll": 2.0}]) == (1,)
    assert collapsed_layers([]) == ()
    assert collapsed_layers([{"step": 1, "loss": 2.0}]) == ()


@pytest.mark.parametrize(("experts", "share"), [(4, 0.98), (2, 0.99)])
def test_the_bound_is_nearly_every_token(experts: int, share: float) -> None:
    for widest, below in ((share, True), (share - 0.02, False)):
        load = np.array([widest] + [(1 - widest) / (experts - 1)] * (experts - 1))
        entropy = -(load * np.log(load)).sum() / np.log(experts)
        assert (entropy < COLLAPSED) == below


def test_a_warning_names_the_way_out() -> None:
    assert warning("supernet", records([EVEN]), TOP_K, 0.0) == ""
    said = warning("supernet", records([ONE], [EVEN], [ONE]), TOP_K, 0.0)
    assert (
        "nearly every token in layers 1, 3 (counted from the encoder's first), so the others"
        in said
    )
    assert "--config.supernet.balance_loss=0.01 works against" in said
    said = warning("retrain", records([ONE]), TOP_K, 0.01)
    assert "in layer 1 (counted" in said
    assert "--config.retrain.balance_loss=X with X above 0.01 works against" in said


def test_routes_without_a_gate_do_not_collapse() -> None:
    """One expert for a whole batch is another one in the next, and no loss could balance them."""
    assert warning("supernet", records([0.0]), RouterConfig(kind="random"), 0.0) == ""
