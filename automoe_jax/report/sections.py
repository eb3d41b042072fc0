"""Text shared by both forms of the report: captions, notes, tables of statistics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from automoe_jax.report import numbers, plots
from automoe_jax.report.contents import ReportContents, finite, number, scored
from automoe_jax.report.drawing import has_ghosts, has_identity
from automoe_jax.report.rows import RowKey
from automoe_jax.routers import ROUTERS
from automoe_jax.train.routing import ENTROPY, collapsed_layers, in_words

MOST_COLUMNS = 8
SMALL = 1000  # limits below it are shown with their fractions
FILLED = 0.75  # share of cells that must not be empty for groups to form one table

SECTIONS = {
    "results": "Results",
    "architecture": "The found architecture",
    "search": "The search",
    "training": "Training",
    "routing": "Routing",
    "samples": "Samples",
    "data": "The text",
    "reproduce": "Settings and how to reproduce",
}
# shown in place of a section's content
NOTHING = {
    "results": "Nothing was scored.",
    "search": "No candidate with a finite loss was recorded.",
    "training": "No loss was recorded.",
    "samples": "No sample was recorded.",
    "data": "No statistics were recorded.",
}
IN_WORDS = "The same in words"  # title of the architecture's description

CAPTIONS = {
    "loss": (
        "Thin: training text. Thick with markers: validation text; the number is the last value."
        " Training runs with dropout, if any, and, in the SuperNet, on sampled sub-networks, so its"
        " loss can exceed the validation loss."
    ),
    "routing_entropy": (
        "Entropy of the distribution of a batch's tokens over a layer's experts, relative to its"
        " maximum: 1 is an even distribution, 0 is a collapse onto one expert."
    ),
    "dead_experts": "Share of a layer's experts that got no token.",
    "experts_per_token": "Number of experts per token, the mean over the tokens of a layer.",
    "dropped_choices": (
        "Share of the tokens that skipped the layer because their expert was full."
    ),
    "experts_shares": (
        "Shares of the test text's tokens with 1, 2, … experts, in each layer of the retrained"
        " sub-Transformer; a darker shade is a larger number. The number on the right is the mean."
    ),
}


def count_note(contents: ReportContents) -> str:
    """Note on the FLOPs of the table."""
    source, target = (contents.config.get(f"search.{side}_length") for side in ("source", "target"))
    if contents.config.get("task") == "classify":
        return (
            f"FLOPs are those of one text of {source} tokens, expected under uniform routing;"
            " parameters leave out embeddings."
        )
    lengths = (
        f" of {source} source and {target} target tokens"
        if isinstance(source, int) and isinstance(target, int)
        else ""
    )
    return (
        f"FLOPs are those of one sentence{lengths}, teacher-forced, expected under uniform routing,"
        " vocabulary projection left out; parameters leave out embeddings."
    )


def architecture_caption(contents: ReportContents) -> str:
    """Caption of the drawing; mentions only its contents."""
    parts = [
        "Each card is a layer, the first at the bottom. The bars are attention heads (the width is"
        " fixed, so fewer heads are wider heads)."
    ]
    parts += [
        "The boxes are experts, as wide as their hidden layer; the number at the right of a card"
        " is the number of experts that a token uses."
    ]
    parts += (
        ["A dashed “id” box is an identity expert, which costs nothing."]
        if has_identity(contents.arch)
        else []
    )
    parts += (
        ["Curves run from a decoder layer to the encoder layers its cross attention sees."]
        if contents.arch.decoder_layers
        else []
    )
    parts += (
        ["Dashed outlines are what the space offers and the search left out."]
        if has_ghosts(contents.arch, contents.space)
        else []
    )
    return " ".join(parts)


def search_caption(contents: ReportContents) -> str:
    """Caption of the search plot, with what it leaves out."""
    parts = [
        "Every scored architecture; lower and further left is better. The star is the one that was"
        " retrained."
    ]
    unscored = len(contents.candidates) - len(scored(contents.candidates))
    above = plots.outliers(contents.candidates)
    parts += (
        [
            f"{above:,} with a much higher loss {'is' if above == 1 else 'are'} drawn as arrows at"
            " the upper edge."
        ]
        if above
        else []
    )
    stopped = sum(not one.complete for one in contents.candidates)
    parts += (
        [
            f"The crosses are candidates that were stopped early ({stopped:,}): their losses are"
            " estimates."
        ]
        if stopped
        else []
    )
    parts += (
        [f"{unscored:,} without a finite loss {'is' if unscored == 1 else 'are'} left out."]
        if unscored
        else []
    )
    limits = {name: limit for name in contents.limits if (limit := number(contents.limits, name))}
    shown = [
        f"{name} = {numbers.count(limit) if limit >= SMALL else f'{limit:g}'}"
        for name, limit in limits.items()
    ]
    return " ".join([*parts, f"Limits: {', '.join(shown)}." if shown else "No limit was set."])


def hypervolume_caption(contents: ReportContents) -> str:
    """Caption of the plot of hypervolumes, with its reference point."""
    reference = {
        name: value
        for name in contents.hypervolume.get("reference", {})
        if (value := number(contents.hypervolume["reference"], name)) is not None
    }
    point = ", ".join(f"{name} {numbers.significant(value)}" for name, value in reference.items())
    return (
        "Share of the rectangle from zero to the reference point that the candidates up to a"
        f" generation dominate; higher is better. Reference point: {point}."
    )


def routing_figures(contents: ReportContents) -> list[tuple[str, str]]:
    """(key, axis title) of the routing plots that have data."""
    keys = {
        "routing_entropy": "relative entropy",
        "dead_experts": "share of dead experts",
        "experts_per_token": "experts per token",
        "dropped_choices": "share of dropped choices",
    }
    return [
        (key, title)
        for key, title in keys.items()
        if (values := _layer_values(contents, key))
        and (key == "routing_entropy" or max(values) > 0)
    ]


def dead_note(contents: ReportContents) -> str:
    """Sentence in place of a plot of zeros."""
    values = _layer_values(contents, "dead_experts")
    return "No expert was dead at any logged update." if values and max(values) <= 0 else ""


def collapse_note(contents: ReportContents) -> str:
    """Sentences about networks in which one expert of a layer got nearly every token at the end;
    none about routes without a gate, which draw another expert for the next batch.
    """
    router = ROUTERS.get(str(contents.config.get("router.kind")))
    if router is not None and not router.gated:
        return ""
    found = {
        role: collapsed_layers(
            [{ENTROPY: [finite(value) for value in layers]} for layers in _layers(records, ENTROPY)]
        )
        for role, records in contents.curves.items()
    }
    return " ".join(
        f"At the end of the training of the {RowKey(role).title}, one expert got nearly every token"
        f" in {in_words(layers)}."
        for role, layers in found.items()
        if layers
    )


def _layer_values(contents: ReportContents, key: str) -> list[float]:
    return [
        value
        for records in contents.curves.values()
        for layers in _layers(records, key)
        for value in map(finite, layers)
        if value is not None
    ]


def _layers(records: Iterable[Mapping[str, Any]], key: str) -> list[Sequence[Any]]:
    """The values by layer of the records that have them."""
    lists = [record.get(key) for record in records]
    return [layers for layers in lists if isinstance(layers, list | tuple)]


def scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that are not groups."""
    return {str(name): value for name, value in values.items() if not isinstance(value, Mapping)}


def matrix(values: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(columns, rows) of the groups that hold only scalars, if they share enough names for one
    table.
    """
    groups = {
        str(name): group
        for name, group in values.items()
        if isinstance(group, Mapping) and group and len(scalars(group)) == len(group)
    }
    columns = list(dict.fromkeys(str(name) for group in groups.values() for name in group))
    filled = sum(len(group) for group in groups.values())
    if (
        len(groups) < 2
        or len(columns) > MOST_COLUMNS
        or filled < FILLED * len(groups) * len(columns)
    ):
        return [], []
    return columns, [
        (name, [_cell(group, column) for column in columns]) for name, group in groups.items()
    ]


def _cell(group: Mapping[str, Any], column: str) -> str:
    return numbers.plain(group[column]) if column in group else ""


def removal_rows(removals: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """(rule, number of pairs, setting, an example's place, source and target) of the rules that
    left out something.
    """
    rows: list[tuple[str, ...]] = []
    for removal in removals:
        if removal["count"]:
            example = removal["examples"][0]
            sides = (example["place"], example["source"], example["target"])
            count = numbers.plain(removal["count"])
            rows.append((removal["rule"], count, removal["setting"], *sides))
    return rows


REMOVAL_COLUMNS = ("left out", "pairs", "setting", "example", "source", "target")


def flat(values: Mapping[str, Any], path: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Nested statistics as (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        here = (*path, str(name))
        rows += (
            flat(value, here)
            if isinstance(value, Mapping)
            else [(".".join(here), numbers.plain(value))]
        )
    return rows
