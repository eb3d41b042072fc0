"""A limit in milliseconds, from end to end on a tiny corpus."""

import json
import pathlib

import pytest

from tests.stages.test_pipeline import command, run

SHORT = (
    "--config.search.source_length=6",
    "--config.search.target_length=6",
    "--config.search.device.architectures=12",
)


@pytest.mark.slow
def test_a_translator_within_milliseconds(tmp_path: pathlib.Path) -> None:
    limits = (
        "--config.search.max_latency_ms=1000",
        "--config.search.max_latency_share=100",
        "--config.search.max_memory_mb=10000",
    )
    settings = (*limits, "--config.supernet.within_limits=true", "--config.retrain.candidates=2")
    ran = run(command(tmp_path, *SHORT, *settings))
    assert ran.returncode == 0, ran.stderr.decode()
    said = ran.stdout.decode()
    for name in ("smallest", "largest dense", "largest"):
        line = next(one for one in said.splitlines() if f"  {name} architecture:" in one)
        assert all(unit in line for unit in (" FLOPs", " ms", " MB", " parameters")), line
    assert (tmp_path / "device.jsonl").exists()
    finalists = json.loads((tmp_path / "search" / "finalists.json").read_text())
    assert finalists[0]["arch"] == json.loads((tmp_path / "arch.json").read_text())
    assert all(0 < one["measured_ms"] <= 1000 for one in finalists[:1])
    candidates = (tmp_path / "search" / "candidates.jsonl").read_text().splitlines()
    assert all(json.loads(line)["latency_ms"] > 0 for line in candidates)
    rows = json.loads((tmp_path / "evaluate" / "results.json").read_text())["rows"]
    timed = {row["role"] for row in rows if row.get("deployed_ms")}
    rival = json.loads((tmp_path / "search" / "dense_arch.json").read_text())
    assert all(len(one["expert_ffn_dims"]) == 1 for one in rival["encoder"]["layers"])
    twin = any("also the best dense" in row.get("note", "") for row in rows)
    assert timed == {"retrained", "dense"} | (set() if twin else {"rival"})
    dense = (tmp_path / "search" / "dense_candidates.jsonl").read_text().splitlines()
    assert len(dense) == len(candidates)
    report = (tmp_path / "report.md").read_text()
    assert "The found translator takes " in report
    trained = [line.split(":")[0] for line in said.splitlines() if "validation loss" in line]
    assert trained[1:4] == ["largest dense", "candidate 1 of 2", "candidate 2 of 2"]
    assert trained.count("largest dense") == 1
    contenders = json.loads((tmp_path / "retrain" / "candidates.json").read_text())
    assert all(one["admitted"] and one["milliseconds"] > 0 for one in contenders)
    again = run(command(tmp_path, *SHORT, *settings))
    assert again.returncode == 0
    assert "latency:" not in again.stderr.decode(), "nothing is timed again"


def test_a_limit_below_the_smallest_names_its_costs(tmp_path: pathlib.Path) -> None:
    ran = run(command(tmp_path, *SHORT, "--config.search.max_latency_ms=0.0001"))
    assert ran.returncode == 1
    said = ran.stderr.decode()
    assert "error: search.max_latency_ms=1e-4 is below the smallest architecture" in said
    assert " FLOPs" in said.splitlines()[-1]
    assert " MB" in said.splitlines()[-1]
    assert "Traceback" not in said
