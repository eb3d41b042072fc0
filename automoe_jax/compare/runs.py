"""Training of the runs of a comparison: one process per run, with shared stages."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from etils import epath

from automoe_jax.command.run import exit_code
from automoe_jax.compare.experiments import Experiment
from automoe_jax.compare.results import keep, load_record, record_path
from automoe_jax.dependencies import TABLE, completed, relevant, settings_of
from automoe_jax.errors import UserError
from automoe_jax.runtime.interruption import handled
from automoe_jax.workdir import Workdir, difference, recorded_settings

# The dense Transformer is a separate configuration here.
# Other networks than the system's own are systems of their own: `dense` and `hat`.
_ALONE = {"retrain.dense_baseline": False, "search.dense_rival": False}
# What every result of a run depends on is what this stage depends on.
_LAST = "evaluate"
# Stages whose results other runs can reuse.
_SHARED = ("prepare", "supernet", "search")


def run_all(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    root: Path,
    results: Path,
    redo: bool = False,
) -> list[str]:
    """Trains every configuration with every seed, skips finished runs, and writes the results of
    each; returns the names of the runs that failed.

    Finished runs whose settings have changed since run again with `redo`, which is a flag of `main`
    too; without it they are a `UserError`, before anything is trained.
    """
    failed = []
    changed = {
        f"{experiment.name}-{seed}": said
        for seed in seeds
        for experiment in experiments
        if (said := changes(experiment, seed, results))
    }
    if changed and not redo:
        raise UserError(
            f"{'; '.join(changed.values())}; add --redo to run {' and '.join(changed)} again, or"
            " name another --workdir or the same settings"
        )
    for seed in seeds:
        for experiment in experiments:
            name = f"{experiment.name}-{seed}"
            if record_path(results, name).exists() and name not in changed:
                print(f"compare: {name} is finished, skipped", flush=True)
                continue
            print(f"compare: {name} starts", flush=True)
            folder = root / name
            if run(experiment, seed, root, folder, [f"--redo={redo}"]):
                keep(Workdir(epath.Path(folder)), experiment.name, seed, results)
            else:
                failed.append(name)
    return failed


def changes(experiment: Experiment, seed: int, results: Path) -> str:
    """The settings in which a finished run differs from the experiment now, in words; empty if
    there are none, or no finished run.
    """
    name = f"{experiment.name}-{seed}"
    if not record_path(results, name).exists():
        return ""
    recorded, now = completed(load_record(results, name).config), settings(experiment, seed)
    there, here = (
        {name: value for name, value in one.items() if name in relevant(_LAST, now)}
        for one in (recorded, now)
    )
    said = difference(there, here, ("there", "here"))
    return (
        f"the results of {name} in {results} are of another configuration: {said}" if said else ""
    )


def settings(experiment: Experiment, seed: int) -> dict[str, Any]:
    """The flat settings of a run."""
    return settings_of(experiment.config) | {"seed": seed} | _ALONE


def share(stage: str, experiment: Experiment, seed: int, root: Path, folder: Path) -> None:
    """Copies the results of a stage from another run with the same settings, if there is one."""
    done, kept = Path("stages") / f"{stage}.json", TABLE[stage].results
    if (folder / done).exists():
        return
    wanted = relevant(stage, settings(experiment, seed))
    for marker in sorted(root.glob(f"*/{done}")):
        other = marker.parents[1]
        config = Workdir(epath.Path(other)).config_path
        if not config.exists():  # another process has just begun that run
            continue
        there = relevant(stage, recorded_settings(config))
        if wanted == there and all((other / name).exists() for name in kept):
            for name in kept:
                if (other / name).is_dir():
                    shutil.copytree(other / name, folder / name, dirs_exist_ok=True)
                else:
                    shutil.copy(other / name, folder / name)
            (folder / done).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(marker, folder / done)
            return


def run(
    experiment: Experiment, seed: int, root: Path, folder: Path, flags: Sequence[str] = ()
) -> bool:
    """Runs the pipeline of one experiment in a separate process, with further flags of `main`;
    returns whether it finished. Finished stages of other runs in `root` with the same settings are
    reused.
    """
    for stage in _SHARED:
        share(stage, experiment, seed, root, folder)
    command = [
        sys.executable,
        "-m",
        "automoe_jax.main",
        f"--config={experiment.path}",
        f"--workdir={folder}",
        f"--config.seed={seed}",
        *(f"--config.{name}={str(value).lower()}" for name, value in _ALONE.items()),
        *flags,
    ]
    cache = Workdir(epath.Path(root)).compilation_cache
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(cache.resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        # as in `workdir.keep_compilations`
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    }
    return finishes(command, environment | os.environ)


def finishes(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a process ends without an error. After Ctrl-C, SIGTERM or SIGHUP it is asked to stop,
    and has the time to save its work; `subprocess.run` would kill it, or leave it running. Then
    this process ends as after such a signal.
    """
    arrived: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: FrameType | None) -> None:
        arrived.append(number)
        if process:
            process.terminate()  # Ctrl-C in a terminal has reached it already, `kill` has not

    with handled(stop):
        process = subprocess.Popen(command, env=dict(environment))
        if arrived:
            process.terminate()
        succeeded = process.wait() == 0
    if signal.SIGINT in arrived:
        raise KeyboardInterrupt
    if arrived:
        print(
            f"compare: stopped by {signal.Signals(arrived[0]).name}; run the same command again to"
            " resume",
            file=sys.stderr,
        )
        raise SystemExit(exit_code(arrived[0]))
    return succeeded
