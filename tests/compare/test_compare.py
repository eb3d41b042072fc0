"""Comparison of systems on the toy corpus: real runs, resumed, gathered and plotted."""

import dataclasses
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from automoe_jax.compare import command, rates, repeat
from automoe_jax.compare.experiments import Experiment, check_protocol, load_experiments
from automoe_jax.compare.latencies import specs
from automoe_jax.compare.results import Record, load_outputs, load_record
from automoe_jax.compare.runs import settings, share
from automoe_jax.compare.table import gather
from automoe_jax.config import flatten
from automoe_jax.dependencies import settings_of
from automoe_jax.errors import UserError
from automoe_jax.model.network import abstract
from automoe_jax.report.rows import RETRAINED
from automoe_jax.runtime.files import read_json, write_json
from automoe_jax.train.runs import load, summary
from automoe_jax.workdir import Workdir

TINY = """
from automoe_jax.config import default_config

def get_config():
    config = default_config()
    config.data.pairs, config.data.validation_pairs, config.data.test_pairs = 400, 20, 30
    config.data.vocab_size, config.data.buckets = 400, (32,)
    config.space.qkv_dim = 16
    ones = ("encoder_layers", "decoder_layers", "cross_layers")
    ones += ("encoder_experts", "decoder_experts")
    twos = ("encoder_self_heads", "decoder_self_heads", "decoder_cross_heads")
    widths = ("encoder_embed_dims", "decoder_embed_dims", "expert_ffn_dims")
    sizes = dict.fromkeys(ones, 1) | dict.fromkeys(twos, 2) | dict.fromkeys(widths, 16)
    for name, value in sizes.items():
        setattr(config.space, name, (value,))
    config.retrain.steps, config.retrain.checkpoint_every = 4, 4
    config.retrain.tokens_per_batch = 256
    config.retrain.dense_baseline = False
    config.evaluate.latency_runs, config.evaluate.beam_size = 5, 2
    {more}
    return config
"""
DENSE, MOE = (
    "",
    (
        "config.space.encoder_experts = (2,); config.router.kind = 'importance';"
        " config.retrain.passes = 2"
    ),
)


@dataclasses.dataclass(frozen=True)
class Compared:
    """A finished comparison."""

    root: pathlib.Path  # its --workdir
    flags: tuple[str, ...]
    out: str  # what it printed


def write_configs(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    (folder / "dense.py").write_text(TINY.format(more=DENSE))
    (folder / "moe.py").write_text(TINY.format(more=MOE))
    (folder / "shared.py").write_text("WIDTH = 16\n")
    return folder


@pytest.fixture
def configs(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_configs(tmp_path / "configs")


def test_a_folder_is_its_experiments(configs: pathlib.Path) -> None:
    assert [experiment.name for experiment in load_experiments([str(configs)])] == ["dense", "moe"]


def test_a_table_of_systems_is_its_experiments(configs: pathlib.Path) -> None:
    text = TINY.format(more="config.space.top_k = (K,)").replace("get_config()", "of_k(K)")
    text += """
SYSTEMS = {"one": lambda: of_k(1), "two": lambda: of_k(2)}

def get_config(name):
    return SYSTEMS[name]()
"""
    (configs.parent / "counts.py").write_text(text)
    table = str(configs.parent / "counts")
    found = load_experiments([table])
    assert [one.name for one in found] == ["one", "two"]
    assert [one.path for one in found] == [f"{table}.py:one", f"{table}.py:two"]
    assert [one.config.space.top_k for one in found] == [(1,), (2,)]
    assert load_experiments([f"{table}.py:two"]) == found[1:]
    (configs.parent / "counts").mkdir()  # output of an older version
    assert load_experiments([table]) == found
    assert [one.name for one in load_experiments([str(configs), f"{table}:one"])] == [
        "dense",
        "moe",
        "one",
    ]


def test_systems_must_train_alike(configs: pathlib.Path) -> None:
    (configs / "longer.py").write_text(TINY.format(more="config.retrain.steps = 5"))
    with pytest.raises(
        UserError,
        match=(
            r"config.retrain.steps is 4 in .*dense.py and 5 in .*longer.py; compared systems"
            r" must share"
        ),
    ):
        load_experiments([str(configs)])


def test_systems_must_be_alike_in_the_folder_of_results(
    configs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Found before anything is trained; where files are may differ."""
    (experiment,) = load_experiments([str(configs / "dense.py")])
    alike = settings_of(experiment.config)
    check_protocol({"here-1": alike, "there-1": alike | {"data.path": "/elsewhere.tsv"}})
    record = {field.name: None for field in dataclasses.fields(Record)}
    record |= {"name": "longer", "seed": 1, "arch": {}, "config": alike | {"retrain.steps": 5}}
    record |= {"rows": [], "disagreement": [[], []], "validation_nll": [[], []]}
    write_json(epath.Path(tmp_path / "results" / "longer-1.json"), record)
    with pytest.raises(
        UserError,
        match=(
            r"dense has config.retrain.steps=4 and longer-1 5; keep their files in separate folders"
        ),
    ):
        command.main([f"--configs={configs / 'dense.py'}", "--seeds=1", f"--workdir={tmp_path}"])
    assert not (tmp_path / "dense-1").exists()


def test_mistakes(configs: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"--configs names nowhere.py, which is not there"):
        load_experiments(["nowhere.py"])
    with pytest.raises(UserError, match="names no configuration"):
        load_experiments([str(configs / "shared.py")])
    with pytest.raises(UserError, match="--seeds=1,x must be whole numbers"):
        command.main([f"--configs={configs}", "--seeds=1,x", f"--workdir={tmp_path}"])
    with pytest.raises(UserError, match="holds no finished run"):
        command.main([f"--workdir={tmp_path}"])


def test_a_search_is_taken_over_where_only_the_retraining_differs(tmp_path: pathlib.Path) -> None:
    for name, more in {
        "searched": "",
        "balanced": "config.retrain.balance_loss = 0.01",
        "longer": "config.search.iterations = 9",
    }.items():
        (tmp_path / f"{name}.py").write_text(TINY.format(more=more))
    root = tmp_path / "runs"
    searched, balanced, longer = load_experiments(
        [str(tmp_path / f"{name}.py") for name in ("searched", "balanced", "longer")]
    )
    other = Workdir(epath.Path(root / "searched-2"))
    flat = flatten(dataclasses.asdict(searched.config))
    write_json(other.root / "config.json", flat | {"seed": 2, "search.dense_rival": False})
    other.candidates_path.parent.mkdir()
    other.candidates_path.write_text("{}\n")
    write_json(other.arch_path, {"the winner": 1})
    other.mark_done("search", 7.0)

    def taken_over(experiment: Experiment, seed: int) -> bool:
        folder = root / f"{experiment.name}-{seed}"
        share("search", experiment, seed, root, folder)
        return Workdir(epath.Path(folder)).is_done("search")

    assert not taken_over(longer, 2)
    assert not taken_over(balanced, 1)
    assert taken_over(balanced, 2)
    mine = Workdir(epath.Path(root / "balanced-2"))
    assert read_json(mine.arch_path) == {"the winner": 1}
    begun = Workdir(epath.Path(root / "begun-2"))  # by another process, just now
    begun.mark_done("search", 1.0)
    assert not taken_over(longer, 2)
    assert mine.candidates_path.read_text() == "{}\n"
    assert mine.seconds("search") == 7.0


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Two systems, trained and compared by the command line."""
    folder = tmp_path_factory.mktemp("compared")
    write_configs(folder / "configs")
    flags = (f"--configs={folder / 'configs'}", "--seeds=1", f"--workdir={folder / 'runs'}")
    command_line = [sys.executable, "-m", "automoe_jax.compare", *flags]
    done = subprocess.run(command_line, check=True, capture_output=True, text=True)
    return Compared(folder / "runs", flags, done.stdout)


@pytest.fixture
def results(compared: Compared, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of its results that a test may change."""
    return shutil.copytree(compared.root / "results", tmp_path / "results")


@pytest.mark.slow
def test_a_record_has_what_was_measured(results: pathlib.Path) -> None:
    record = read_json(epath.Path(results / "moe-1.json"))
    assert record["seed"] == 1
    row = record["rows"][0]
    assert row["latency_ms"] == pytest.approx(row["encoder_ms"] + row["decoder_ms"], abs=0.01)
    assert 1 <= row["experts_per_token"][0] <= 2
    assert row["experts_per_token"][1] == 1
    assert [sum(loads) for loads in row["expert_loads"]] == pytest.approx(
        row["experts_per_token"], abs=1e-3
    )
    assert row["role"] == "retrained"
    every = load_outputs(results, Record.from_json(record))
    assert [key.variant for key in every] == [""]
    assert all(len(outputs) == 30 for outputs in every.values())
    steps, values = record["disagreement"]
    assert len(steps) == len(values) > 0
    assert all(value > 0 for value in values)
    validated, losses = record["validation_nll"]
    assert validated[-1] == steps[-1]
    assert all(0 < loss < 20 for loss in losses)


@pytest.mark.slow
def test_the_table_and_its_plots(results: pathlib.Path) -> None:
    record = read_json(epath.Path(results / "moe-1.json"))
    table = (results / "comparison.md").read_text()
    assert table.startswith(
        "# All columns\n\n`python -m automoe_jax.compare --workdir=W --results="
    )
    assert f"Runs of {record['date'][:10]}, seeds 1, on {record['device']}.\n" in table
    assert "| **dense** |" in table
    assert "| moe |" in table
    assert "Experts of a token of the source, moe:" in table
    pieces = record["rows"][0]["experts_of_pieces"]
    assert sum(piece["piece"] in table for piece in pieces) > 10
    assert (results / "comparison.svg").read_text().count("moe") == 1
    assert (results / "disagreement.svg").read_text().count(">moe ") == 1
    assert "dense" not in (results / "disagreement.svg").read_text()


@pytest.mark.slow
def test_runs_share_their_text_and_the_timing(compared: Compared) -> None:
    assert compared.out.count("prepare: starts") == 1
    assert "prepare: finished before, skipped" in compared.out
    assert "compare: measures the latency of 2 networks, interleaved" in compared.out
    latencies = read_json(epath.Path(compared.root / "results" / "latency.json"))["milliseconds"]
    assert latencies.keys() == {"dense-1", "moe-1"}
    assert all(list(rows) == ["retrained"] and rows["retrained"] > 0 for rows in latencies.values())


@pytest.mark.slow
def test_the_timed_network_is_the_trained_one(compared: Compared) -> None:
    """The same settings, the same shapes."""
    workdir = Workdir(epath.Path(compared.root / "moe-1"))
    trained = load(workdir.retrained, workdir.spec(workdir.config(), workdir.arch()))
    record = load_record(compared.root / "results", "moe-1")
    assert specs(record) == {RETRAINED: trained.spec}
    assert jax.tree.map(jnp.shape, trained.params) == jax.tree.map(
        jnp.shape, abstract(trained.spec).params
    )


@pytest.mark.slow
def test_finished_runs_are_skipped(compared: Compared, capfd: pytest.CaptureFixture[str]) -> None:
    files = sorted((compared.root / "results").glob("*.json"))
    written = [path.stat().st_mtime_ns for path in files]
    assert command.main([*compared.flags]) == 0
    out = capfd.readouterr().out
    assert "compare: moe-1 is finished, skipped" in out
    assert "measures the latency" not in out
    assert written == [path.stat().st_mtime_ns for path in files]
    assert "no differences" not in out


@pytest.mark.slow
def test_a_missing_baseline_is_named(
    results: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = (f"--workdir={tmp_path}", f"--results={results}")
    assert command.main([*flags, "--baseline=rdrop"]) == 0
    assert (
        "compare: no differences, since no run of --baseline=rdrop is finished; name one of"
        in capfd.readouterr().out
    )
    assert all(system.difference is None for system in gather(results, "rdrop"))


@pytest.mark.slow
def test_recorded_runs_begin_as_they_did(
    compared: Compared,
    results: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (compared.flags[0], f"--results={results}", f"--workdir={tmp_path / 'again'}")

    def said() -> dict[str, str]:
        assert repeat.main(arguments) == 0
        *lines, machines = capsys.readouterr().out.splitlines()
        assert machines.startswith("then on ")
        rows = [line.strip("| ").split(" | ") for line in lines]
        return {run: equal for run, *_, equal in rows[2:]}

    assert said() == {"dense-1": "yes", "moe-1": "yes"}
    record = read_json(epath.Path(results / "moe-1.json"))
    record["validation_nll"][1][0] += 1e-6
    write_json(epath.Path(results / "moe-1.json"), record)
    assert said() == {"dense-1": "yes", "moe-1": "no"}


@pytest.mark.slow
def test_results_of_another_machine_join_the_table(results: pathlib.Path) -> None:
    add_seed(results, 7)
    (moe,) = (system for system in gather(results, "dense") if system.name == "moe")
    assert len(moe.quality) == 2
    own = read_json(epath.Path(results / "latency.json"))["milliseconds"]["moe-1"]["retrained"]
    assert moe.latency_ms == (own,), "measured at another time, the other's is left out"
    assert moe.difference is not None


@pytest.mark.slow
def test_latencies_need_no_weights(
    results: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Networks of other machines' runs are timed too, unless this version does not know them."""
    add_seed(results, 7, {"evaluate.latency_runs": 3})
    add_seed(results, 8, {"router.of_the_future": True})
    (results / "latency.json").unlink()
    flags = [f"--workdir={tmp_path / 'elsewhere'}", f"--results={results}"]
    assert command.main(flags) == 0
    out = capfd.readouterr().out
    assert "compare: the latency of moe-8 is not measured: " in out
    assert "router.of_the_future" in out
    assert "measures the latency of 3 networks" in out
    latencies = read_json(epath.Path(results / "latency.json"))["milliseconds"]
    assert latencies["moe-7"]["retrained"] > 0
    assert latencies["moe-8"] == {}
    assert command.main(flags) == 0
    assert "measures the latency" not in capfd.readouterr().out


def add_seed(results: pathlib.Path, seed: int, settings: Mapping[str, Any] | None = None) -> None:
    """Adds the run moe-1 as if it had been another seed, with some settings changed."""
    record = read_json(epath.Path(results / "moe-1.json"))
    config = record["config"] | (settings or {})
    write_json(epath.Path(results / f"moe-{seed}.json"), record | {"seed": seed, "config": config})
    shutil.copy(results / "moe-1.outputs.json.xz", results / f"moe-{seed}.outputs.json.xz")


@pytest.mark.slow
def test_a_failing_run_does_not_stop_the_others(
    configs: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    (root / "dense-1").mkdir(parents=True)
    (root / "dense-1" / "config.json").write_text("not JSON")
    assert (
        command.main([f"--configs={configs}", "--seeds=1", f"--workdir={root}", "--baseline=dense"])
        == 1
    )
    said = capfd.readouterr()
    assert "dense-1 did not finish" in said.err
    assert (root / "results" / "moe-1.json").exists()


def test_learning_rates_by_validation_loss(
    configs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (configs / "dense.py").write_text(
        TINY.format(more="config.retrain.steps, config.retrain.warmup_steps = 40, 4")
    )
    arguments = [f"--configs={configs / 'dense.py'}", "--rates=1e-4,1e-2", f"--workdir={tmp_path}"]
    assert rates.main(arguments) == 0
    file = epath.Path(tmp_path / "results" / "rates.json")
    losses = read_json(file)["dense"]["losses"]
    assert set(losses) == {"0.0001", "0.01"}
    assert losses["0.01"] < losses["0.0001"], "a rate of 1e-4 hardly moves in ten updates"
    assert f"**{losses['0.01']:.3f}**" in capsys.readouterr().out
    trained = Workdir(epath.Path(tmp_path / "rate_0.01_dense-1")).retrained
    assert summary(trained).updates == 10
    assert not (tmp_path / "rate_0.01_dense-1" / "evaluate").exists(), "the test text is not used"


def test_learning_rates_of_an_architecture_found_before(
    configs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The architecture in a finished run's record is trained without a SuperNet and a search,
    unless the search has other settings now or training starts from the SuperNet's weights.
    """
    config = configs / "dense.py"
    config.write_text(TINY.format(more="config.space.expert_ffn_dims = (8, 16)"))
    experiment, results = load_experiments([str(config)])[0], tmp_path / "results"
    found = experiment.config.space.smallest().to_dict()
    record = {field.name: None for field in dataclasses.fields(Record)}
    record |= {"name": "dense", "seed": 1, "arch": found, "config": settings(experiment, 1)}
    record |= {"rows": [], "disagreement": [[], []], "validation_nll": [[], []]}
    write_json(epath.Path(results / "dense-1.json"), record)
    assert rates.found_before(experiment, 1, results) == found
    assert rates.found_before(experiment, 2, results) is None

    assert rates.main([f"--configs={config}", "--rates=1e-3", f"--workdir={tmp_path}"]) == 0
    workdir = Workdir(epath.Path(tmp_path / "rate_0.001_dense-1"))
    assert workdir.arch().to_dict() == found
    assert not workdir.supernet.exists()
    loss = read_json(epath.Path(results / "rates.json"))["dense"]["losses"]["0.001"]
    assert loss == summary(workdir.retrained).validation_nll

    for file in ("dense-1.json", "rates.json"):  # a run that has begun goes on as it began
        (results / file).unlink()
    assert rates.main([f"--configs={config}", "--rates=1e-3", f"--workdir={tmp_path}"]) == 0
    assert not workdir.supernet.exists()
    write_json(epath.Path(results / "dense-1.json"), record)

    for more in ("search.iterations = 3", "retrain.init = 'inherited'"):
        both = f"config.space.expert_ffn_dims = (8, 16); config.{more}"
        config.write_text(TINY.format(more=both))
        assert rates.found_before(load_experiments([str(config)])[0], 1, results) is None


def test_learning_rates_of_two_commands_share_a_file(
    configs: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that another command writes meanwhile is kept."""
    dense, moe = (f"--configs={configs / name}.py" for name in ("dense", "moe"))

    def loss(experiment: Experiment, *_: object) -> float:
        if experiment.name == "dense":
            rates.main([moe, "--rates=1e-3", f"--workdir={tmp_path}"])
        return 2.0

    monkeypatch.setattr(rates, "validation_loss", loss)
    assert rates.main([dense, "--rates=1e-3", f"--workdir={tmp_path}"]) == 0
    written = read_json(epath.Path(tmp_path / "results" / "rates.json"))
    assert {name: one["losses"] for name, one in written.items()} == {
        "dense": {"0.001": 2.0},
        "moe": {"0.001": 2.0},
    }
    with pytest.raises(UserError, match="is a file; name a folder"):
        rates.main([dense, f"--workdir={tmp_path}", f"--results={configs / 'dense.py'}"])


def test_learning_rates_are_measured_once(
    configs: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of results that came without its runs is completed; changed settings measure again,
    settings younger than the file do not.
    """
    measured = []

    def loss(experiment: Experiment, rate: float, *_: object) -> float:
        measured.append((experiment.name, rate))
        return rate

    monkeypatch.setattr(rates, "validation_loss", loss)
    dense, moe = (f"--configs={configs / name}.py" for name in ("dense", "moe"))
    assert rates.main([dense, "--rates=1e-3,2e-3", f"--workdir={tmp_path}"]) == 0
    assert rates.main([moe, "--rates=1e-3", f"--workdir={tmp_path}"]) == 0
    assert measured == [("dense", 1e-3), ("dense", 2e-3), ("moe", 1e-3)]
    measured.clear()
    elsewhere = [f"--workdir={tmp_path / 'elsewhere'}", f"--results={tmp_path / 'results'}"]
    assert rates.main([dense, "--rates=1e-3,2e-3,4e-3", *elsewhere]) == 0
    assert measured == [("dense", 4e-3)]
    written = read_json(epath.Path(tmp_path / "results" / "rates.json"))
    assert written["dense"]["losses"] == {"0.001": 1e-3, "0.002": 2e-3, "0.004": 4e-3}
    assert written["moe"]["losses"] == {"0.001": 1e-3}

    measured.clear()
    del written["dense"]["settings"]["supernet.width_norms"]
    write_json(epath.Path(tmp_path / "results" / "rates.json"), written)
    (configs / "dense.py").write_text(TINY.format(more="config.retrain.learning_rate = 0.5"))
    assert rates.main([dense, "--rates=1e-3", *elsewhere]) == 0
    assert measured == []
    (configs / "dense.py").write_text(TINY.format(more="config.retrain.steps = 9"))
    assert rates.main([dense, "--rates=1e-3", *elsewhere]) == 0
    assert measured == [("dense", 1e-3)]

    measured.clear()
    written["moe"]["settings"] = "59c089b716ee"  # the digest of earlier versions
    write_json(epath.Path(tmp_path / "results" / "rates.json"), written)
    assert rates.main([moe, "--rates=1e-3", *elsewhere]) == 0
    assert measured == [("moe", 1e-3)]
