"""Files of a results folder: compact, readable in the form of version 0.1, and named where missing
or damaged.
"""

import dataclasses
import json
import lzma
import pathlib

import pytest

from automoe_jax.compare.results import (
    Record,
    load_outputs,
    load_records,
    load_references,
    record_path,
)
from automoe_jax.compare.table import gather
from automoe_jax.config import Config
from automoe_jax.dependencies import settings_of
from automoe_jax.errors import UserError
from automoe_jax.report.rows import RETRAINED, Role, Row, RowKey

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "results"
RECORD = Record(
    name="one",
    seed=3,
    date="2026-01-01",
    device="CPU",
    versions={"jax": "0"},
    test="abcabcabcabc",
    arch={},
    vocab_size=9,
    classes=0,
    sparsity=0.0,
    sparsity_published=0.0,
    stage_seconds={"search": None},
    rows=(Row(Role.RETRAINED, bleu=1.5), Row(Role.RETRAINED, "mean", bleu=2.5)),
    disagreement=([], []),
    validation_nll=([1.0], [2.0]),
    config={"seed": 3},
)


def old_folder(folder: pathlib.Path) -> pathlib.Path:
    """A results folder as version 0.1 wrote it."""
    record = dataclasses.asdict(RECORD)
    record["rows"] = [
        {"name": row.title, "bleu": row.bleu, "outputs": [f"{row.bleu}"]} for row in RECORD.rows
    ]
    record_path(folder, "one-3").write_text(json.dumps(record, indent=1))
    (folder / "test-abcabcabcabc.json").write_text(json.dumps({"source": ["s"], "target": ["t"]}))
    return folder


def test_folders_of_version_0_1_are_read(tmp_path: pathlib.Path) -> None:
    (record,) = load_records(old_folder(tmp_path))
    assert record == RECORD
    assert load_outputs(tmp_path, record) == {
        RETRAINED: ["1.5"],
        RowKey(Role.RETRAINED, "mean"): ["2.5"],
    }
    assert load_references(tmp_path, "abcabcabcabc") == ["t"]


def test_missing_and_damaged_files_are_named(tmp_path: pathlib.Path) -> None:
    record_path(tmp_path, "one-3").write_text(json.dumps(RECORD.to_json()))
    with pytest.raises(UserError, match=r"one-3.outputs.json.xz is missing; copy it"):
        load_outputs(tmp_path, RECORD)
    with pytest.raises(UserError, match=r"references-abcabcabcabc.json.xz is missing"):
        load_references(tmp_path, "abcabcabcabc")
    for content in (b"", b"\xfd7zXZ", b"[]"):
        (tmp_path / "one-3.outputs.json.xz").write_bytes(content)
        with pytest.raises(UserError, match=r"one-3.outputs.json.xz is damaged"):
            load_outputs(tmp_path, RECORD)


def test_a_seed_that_found_a_dense_network_keeps_its_costs(tmp_path: pathlib.Path) -> None:
    """It has no measured FLOPs; the other seed has both."""
    config, arch = settings_of(Config()), Config().space.smallest().to_dict()
    seconds = {"supernet": 1.0, "search": None}
    rows = (
        Row(Role.RETRAINED, bleu=1.0, flops=5.0, flops_measured=4.0),
        Row(Role.RETRAINED, bleu=2.0, flops=3.0),
    )
    for seed, row in enumerate(rows, start=1):
        run = dataclasses.replace(
            RECORD, arch=arch, seed=seed, rows=(row,), config=config, stage_seconds=seconds
        )
        record_path(tmp_path, f"one-{seed}").write_text(json.dumps(run.to_json()))
        (tmp_path / f"one-{seed}.outputs.json.xz").write_bytes(
            lzma.compress(json.dumps({str(RETRAINED): ["a"]}).encode())
        )
    (system,) = gather(tmp_path, "none")
    assert system.flops == (4.0, 3.0)
    assert system.quality == (1.0, 2.0)


@pytest.mark.parametrize("folder", ["systems", "classify"])
def test_committed_results_are_complete_and_small(folder: str) -> None:
    results = DOCS / folder
    records = load_records(results)
    assert len(records) >= 10
    references = load_references(results, records[0].test)
    for record in records:
        outputs = load_outputs(results, record)
        assert list(outputs) == [row.key for row in record.rows]
        assert all(len(texts) == len(references) for texts in outputs.values())
    assert sum(path.stat().st_size for path in results.rglob("*") if path.is_file()) < 2e6
