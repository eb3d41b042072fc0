"""Training of the runs of a comparison: one process per run, with shared stages."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from etils import epath

from automoe_jax.compare.experiments import Experiment
from automoe_jax.compare.results import keep, record_path
from automoe_jax.config import flatten
from automoe_jax.dependencies import TABLE, relevant
from automoe_jax.workdir import Workdir, recorded_settings

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
    each; returns the names of the runs that failed. `redo` is the flag of `main`.
    """
    failed = []
    for seed in seeds:
        for experiment in experiments:
            name = f"{experiment.name}-{seed}"
            if record_path(results, name).exists():
                print(f"compare: {name} is finished, skipped", flush=True)
                continue
            print(f"compare: {name} starts", flush=True)
            folder = root / name
            if run(experiment, seed, root, folder, [f"--redo={redo}"]):
                keep(Workdir(epath.Path(folder)), experiment.name, seed, results)
            else:
                failed.append(name)
    return failed


def share(stage: str, experiment: Experiment, seed: int, root: Path, folder: Path) -> None:
    """Copies the results of a stage from another run with the same settings, if there is one."""
    done, kept = Path("stages") / f"{stage}.json", TABLE[stage].results
    if (folder / done).exists():
        return
    settings = flatten(dataclasses.asdict(experiment.config)) | {"seed": seed}
    wanted = relevant(stage, json.loads(json.dumps(settings)))
    for marker in sorted(root.glob(f"*/{done}")):
        other = marker.parents[1]
        there = relevant(stage, recorded_settings(Workdir(epath.Path(other)).config_path))
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
        # The dense Transformer is a separate configuration here.
        "--config.retrain.dense_baseline=false",
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
    """Whether a process ends without an error. After Ctrl-C it is asked to stop, and has the time
    to save its work; `subprocess.run` would kill it.
    """
    process = subprocess.Popen(command, env=dict(environment))
    try:
        return process.wait() == 0
    except KeyboardInterrupt:
        process.terminate()  # Ctrl-C in a terminal has reached it already, `kill` has not
        process.wait()
        raise
