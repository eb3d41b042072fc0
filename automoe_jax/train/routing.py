"""Whether the routers of a training still choose among their experts at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from automoe_jax.routers import RouterConfig

# Routing entropy of a layer, of 1, below which one expert gets nearly every token: 98 % of four
# experts, 99 % of two.
COLLAPSED = 0.1
ENTROPY = "routing_entropy"  # in the records
_SHARE = 10  # the last tenth of the records is the end


def collapsed_layers(records: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The layers, encoder first and from 1, whose router sent nearly every token to one expert at
    the end of a training with these metrics (`train.metrics.summarise`).

    Their other experts get hardly any gradient. In a SuperNet, losses with inherited weights then
    say nothing about the number of experts and the widths of the others. Layers without a choice do
    not count.
    """
    entropies = [record[ENTROPY] for record in records if record.get(ENTROPY)]
    last = entropies[-max(1, len(entropies) // _SHARE) :] if entropies else []
    layers = zip(*last, strict=False)  # a record of a report may be damaged
    means = [_mean([value for value in layer if value is not None]) for layer in layers]
    return tuple(
        number for number, mean in enumerate(means, 1) if mean is not None and mean < COLLAPSED
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def warning(
    stage: str, records: Sequence[Mapping[str, Any]], router: RouterConfig, balance_loss: float
) -> str:
    """A sentence for the one who runs the stage, empty where no router has collapsed; `stage` is
    the group of settings, "supernet" or "retrain". Routes without a gate (THOR) do not collapse:
    one expert for a whole batch is another one in the next.
    """
    layers = collapsed_layers(records) if router.declaration.gated else ()
    if not layers:
        return ""
    value = f"X with X above {balance_loss:g}" if balance_loss else "0.01"
    return (
        f"{stage}: at the end, one expert got nearly every token in {in_words(layers)}, so the"
        f" others there are hardly trained; --config.{stage}.balance_loss={value} works"
        " against that"
    )


def in_words(layers: Sequence[int]) -> str:
    """The numbers of layers for a sentence."""
    numbers = ", ".join(map(str, layers))
    return f"layer{'s' * (len(layers) > 1)} {numbers} (counted from the encoder's first)"
