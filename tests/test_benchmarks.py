"""docs/BENCHMARKS.md: rows with one title form one table with its own columns."""

import dataclasses

from benchmarks.harness import Row
from benchmarks.render import tables


def test_rows_of_one_title_form_a_table() -> None:
    rows = [
        Row("Speed", {"batch": "1", "ms": "7.8"}, "≤ 8", True),
        Row("Speed", {"batch": "32", "ms": "40.1"}, "≤ 30", False),
        Row("Speed", {"batch": "64", "ms": "80.0"}),
        Row("Memory", {"program": "dense", "MB": "12"}),
    ]
    assert tables([dataclasses.asdict(row) for row in rows]) == [
        "**Speed**\n\n"
        "| batch | ms | goal | result |\n"
        "| ---: | ---: | --- | --- |\n"
        "| 1 | 7.8 | ≤ 8 | met |\n"
        "| 32 | 40.1 | ≤ 30 | **not met** |\n"
        "| 64 | 80.0 | – | – |\n",
        "**Memory**\n\n| program | MB |\n| --- | ---: |\n| dense | 12 |\n",
    ]


def test_a_row_prints_as_one_line() -> None:
    assert str(Row("Speed", {"ms": "7.8"}, "≤ 8", True)) == "Speed: ms 7.8 (goal ≤ 8: met)"
    assert str(Row("Speed", {"ms": "9.1"}, "≤ 8", False)) == "Speed: ms 9.1 (goal ≤ 8: NOT met)"
    assert str(Row("Speed", {"ms": "9.1"})) == "Speed: ms 9.1"
