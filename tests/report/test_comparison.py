"""Tables and plots of `compare`, from plain numbers."""

import dataclasses

from automoe_jax.report.comparison import System, disagreement_plot, pieces_table, plot, table
from automoe_jax.report.rows import Piece

ONE = System(
    name="one",
    quality=(20.0, 22.0),
    second=(40.0, 41.0),
    flops=(8e6,),
    params=(1e6,),
    active_params=(1e6,),
    sparsity=(0.0,),
    sparsity_published=(0.0,),
    train_tokens=(1e6,),
    train_seconds=(90.0,),
    search_seconds=(),
    latency_ms=(30.0,),
)


def test_ratios_are_to_the_baseline_and_what_is_not_known_is_a_dash() -> None:
    half = dataclasses.replace(
        ONE, name="half", flops=(4e6,), latency_ms=(), difference=(-1.5, -2.25, 0.75, 0.25)
    )
    head, _, base, row = (
        line.strip("| ").split(" | ") for line in table([ONE, half], "one").splitlines()
    )
    assert dict(zip(head, base, strict=True))["BLEU"] == "21.0 (20.0, 22.0)"
    assert row[head.index("MFLOPs") + 1] == "2.00×"
    assert row[head.index("latency ms") :][:2] == ["–", "–"]
    assert row[2] == "-1.5 [-2.2, +0.8], 0.250"


def test_frequent_and_rare_pieces_stand_apart() -> None:
    pieces = (
        Piece("▁the", 90, 1.25, "frequent"),
        Piece("|", 80, 1.5, "frequent"),
        Piece("▁ox", 1, 3.0, "rare"),
    )
    rows = pieces_table(dataclasses.replace(ONE, pieces=pieces)).splitlines()
    assert rows[2:] == ["| ▁the | 90 | 1.25 | ▁ox | 1 | 3.00 |", "| \\| | 80 | 1.50 |  |  |  |"]


def test_disagreement_has_a_line_for_each_seed_of_many_systems() -> None:
    curve = ([20.0, 40.0], [0.5, 0.1])
    systems = [
        dataclasses.replace(ONE, name=f"system {i}", disagreement=(curve, curve)) for i in range(9)
    ]
    drawn = disagreement_plot([ONE, *systems])
    assert all(drawn.count(f">system {i}  0.100<") == 1 for i in range(9))
    assert ">one<" not in drawn
    assert ">0.5<" in drawn  # a plain number, not a power of ten in TeX


def test_every_system_of_the_plot_has_a_name() -> None:
    systems = [dataclasses.replace(ONE, name=f"system {i}", flops=(8e6, 9e6)) for i in range(18)]
    drawn = plot(systems)
    assert all(drawn.count(f">system {i}<") == 1 for i in range(18))
    assert ">BLEU<" in drawn
