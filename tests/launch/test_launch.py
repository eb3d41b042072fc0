"""Launch scripts: commands of dry runs, messages about mistakes, shellcheck."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
pytestmark = pytest.mark.skipif(not LAUNCH.is_dir(), reason="a wheel holds no launch scripts")

RUN = {"CONFIG": "configs/demo.py", "WORKDIR": "runs/demo"}
CLOUD_RUN = RUN | {"WORKDIR": "gs://bucket/demo"}
TPU = CLOUD_RUN | {
    "PROJECT": "my-project",
    "ZONE": "us-west4-a",
    "TPU_NAME": "automoe",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
}
GKE = CLOUD_RUN | {
    "NAME": "automoe",
    "IMAGE": "registry/automoe",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "4x8",
}
SETTINGS = {"local.sh": RUN, "gpu.sh": RUN, "slurm.sbatch": RUN, "tpu_vm.sh": TPU, "gke.sh": GKE}
MISSING = [(script, name) for script, settings in SETTINGS.items() for name in settings]
TOOLS = {"gpu.sh": "nvidia-smi", "slurm.sbatch": "srun", "tpu_vm.sh": "gcloud", "gke.sh": "kubectl"}


def launch(script: str, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in an environment with only `settings` and the basics."""
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable} | settings
    return subprocess.run(
        ["bash", f"launch/{script}", *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def dry_run(script: str, *flags: str, **settings: str) -> list[str]:
    """Lines that a script's dry run prints, without comments."""
    done = launch(script, "--dry_run", *flags, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def mistake(script: str, *flags: str, **settings: str) -> str:
    """The message that a script ends with."""
    done = launch(script, *flags, **settings)
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")
    return sentence


def basics(folder: pathlib.Path) -> str:
    """A PATH with the programs that every system has, without the tools."""
    for name in ("bash", "cat", "dirname", "env", "grep", "sed", "seq", "git"):
        source = subprocess.run(
            ["bash", "-c", f"command -v {name}"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if source:
            (folder / name).symlink_to(source)
    return str(folder)


def stub(path: pathlib.Path, code: str) -> None:
    """A stand-in for a real program."""
    path.write_text(f"#!/usr/bin/env bash\n{code}\n")
    path.chmod(0o755)


def test_shellcheck_finds_nothing() -> None:
    scripts = [
        str(path.relative_to(ROOT))
        for path in sorted(LAUNCH.iterdir())
        if path.suffix in {".sh", ".sbatch"}
    ]
    shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, "--external-sources", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_there_is_a_test_for_every_script() -> None:
    scripts = {path.name for path in LAUNCH.iterdir() if path.suffix in {".sh", ".sbatch"}}
    assert scripts == SETTINGS.keys() | {"common.sh", "install.sh"}


@pytest.mark.parametrize(("script", "name"), MISSING)
def test_missing_variable(script: str, name: str) -> None:
    settings = {key: value for key, value in SETTINGS[script].items() if key != name}
    assert re.fullmatch(
        rf"error: {name} is not set; set it to .+, such as {name}=\S+",
        mistake(script, "--dry_run", **settings),
    )


@pytest.mark.parametrize("script", TOOLS)
def test_missing_tool(script: str, tmp_path: pathlib.Path) -> None:
    sentence = mistake(script, PATH=basics(tmp_path), **SETTINGS[script])
    assert sentence.startswith(f"error: there is no '{TOOLS[script]}' on this machine; ")


@pytest.mark.parametrize("script", ["local.sh", "gpu.sh", "slurm.sbatch"])
def test_missing_environment(script: str, tmp_path: pathlib.Path) -> None:
    sentence = mistake(script, PYTHON=str(tmp_path / "python"), **SETTINGS[script])
    assert re.search(r"run launch/install.sh (cpu|gpu) first, or set PYTHON", sentence)


@pytest.mark.parametrize("script", SETTINGS)
def test_flag_in_the_wrong_place(script: str) -> None:
    sentence = mistake(script, "--dry_run", "--config.seed=1", **SETTINGS[script])
    assert sentence.endswith(f"come after --, as in: launch/{script} -- --config.seed=1")


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh"])
def test_workdir_that_one_machine_sees(script: str) -> None:
    sentence = mistake(script, "--dry_run", **SETTINGS[script] | {"WORKDIR": "runs/demo"})
    assert "WORKDIR=runs/demo is a folder of one machine" in sentence


@pytest.mark.parametrize(
    ("script", "name", "value"),
    [
        ("local.sh", "PROCESSES", "two"),
        ("local.sh", "DEVICES", "0"),
        ("slurm.sbatch", "SLURM_GPUS_ON_NODE", "all"),
        ("tpu_vm.sh", "SPOT", "yes"),
        ("tpu_vm.sh", "POLL", "-1"),
        ("gke.sh", "CHIPS", "5"),
        ("gke.sh", "TOPOLOGY", "32"),
    ],
)
def test_senseless_setting(script: str, name: str, value: str) -> None:
    sentence = mistake(script, "--dry_run", **SETTINGS[script] | {name: value})
    assert f"{name.removeprefix('SLURM_').removesuffix('_ON_NODE')}={value}" in sentence
    assert " set " in sentence or "form" in sentence


@pytest.mark.parametrize("script", [*SETTINGS, "install.sh"])
def test_help(script: str) -> None:
    done = launch(script, "--help")
    assert done.returncode == 0
    assert f"launch/{script} [--dry_run]" in done.stdout
    assert "set -euo" not in done.stdout


def test_local() -> None:
    first, second = dry_run(
        "local.sh", "--", "--config.seed=7", PORT="20001", DEVICES="8", XLA_FLAGS="--xla_a=1", **RUN
    )
    assert shlex.split(first) == [
        *(
            "env",
            "JAX_PLATFORMS=cpu",
            "XLA_FLAGS=--xla_a=1 --xla_force_host_platform_device_count=8",
            sys.executable,
        ),
        *(
            "-m",
            "automoe_jax.main",
            "--config=configs/demo.py",
            "--workdir=runs/demo",
            "--config.seed=7",
        ),
        *("--coordinator=127.0.0.1:20001", "--processes=2", "--process=0"),
    ]
    assert second == first.replace("--process=0", "--process=1")


def test_gpu() -> None:
    (line,) = dry_run("gpu.sh", "--", "--config.data.name=it's", **RUN)
    assert shlex.split(line) == [
        *("env", "JAX_PLATFORMS=cuda,cpu", sys.executable, "-m", "automoe_jax.main"),
        *("--config=configs/demo.py", "--workdir=runs/demo", "--config.data.name=it's"),
    ]


@pytest.mark.parametrize(("script", "tool"), [("gpu.sh", "nvidia-smi"), ("slurm.sbatch", "srun")])
def test_runs_what_the_dry_run_prints(script: str, tool: str, tmp_path: pathlib.Path) -> None:
    stub(tmp_path / tool, 'exec "${@:3}"')  # srun runs the command after its own two flags
    stub(tmp_path / "python", "printf '%s\\n' \"$@\"; exit 143")
    settings = RUN | {
        "PYTHON": str(tmp_path / "python"),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1",
    }
    done = launch(script, "--", "--config.data.name=it's", **settings)
    (line,) = dry_run(script, "--", "--config.data.name=it's", **settings)
    assert done.returncode == 143  # main's own
    assert done.stdout.splitlines() == shlex.split(line)[shlex.split(line).index("-m") :]
    assert done.stderr == f"+ {line}\n"


def test_slurm() -> None:
    (line,) = dry_run("slurm.sbatch", "--", "--config.seed=7", SLURM_GPUS_ON_NODE="4", **RUN)
    words = shlex.split(line)
    assert words[:3] == ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    assert "JAX_LOCAL_DEVICE_IDS=0,1,2,3" in words
    assert words[-6:] == [
        "-m",
        "automoe_jax.main",
        "--config=configs/demo.py",
        "--workdir=runs/demo",
        "--config.seed=7",
        "--distributed",
    ]


def test_slurm_finds_the_repository_from_a_copy(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "slurm_script"
    copy.write_text((LAUNCH / "slurm.sbatch").read_text())
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, **RUN}
    command = ["bash", str(copy), "--dry_run"]

    def run(folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=environment | {"SLURM_SUBMIT_DIR": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run(ROOT).stdout.startswith("srun ")
    assert run(tmp_path).returncode == 1
    assert run(tmp_path).stderr.endswith("call sbatch in the repository's root\n")


def test_slurm_outside_a_job(tmp_path: pathlib.Path) -> None:
    stub(tmp_path / "srun", "")
    assert mistake("slurm.sbatch", PATH=f"{tmp_path}:{os.environ['PATH']}", **RUN).endswith(
        "start one: sbatch launch/slurm.sbatch"
    )


def test_tpu_vm() -> None:
    lines = [shlex.split(line) for line in dry_run("tpu_vm.sh", "--", "--config.seed=7", **TPU)]
    where = ["--project=my-project", "--zone=us-west4-a"]
    verbs = [line[3:5] for line in lines if line[0] == "gcloud"]
    assert verbs == [
        *(["queued-resources", "list"], ["queued-resources", "create"]),
        *(["tpu-vm", "scp"], ["tpu-vm", "ssh"], ["tpu-vm", "ssh"]),
        ["queued-resources", "delete"],
    ]
    assert all(set(where) <= set(line) for line in lines if line[0] == "gcloud")
    _, create, archive, copy, prepare, train, _ = lines
    assert {
        "--spot",
        "--node-id=automoe",
        "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite",
    } <= set(create)
    assert archive[0] == "git"
    assert all("--worker=all" in line for line in (copy, prepare, train))
    assert prepare[-1].endswith("automoe/launch/install.sh tpu")
    assert (
        train[-1]
        == "--command=cd automoe && JAX_PLATFORMS=tpu,cpu .venv/bin/python -m automoe_jax.main"
        " --config=configs/demo.py --workdir=gs://bucket/demo --config.seed=7 --distributed"
    )


# A cloud of one TPU: a sequence of queue states and a sequence of exit codes of training; each
# command is recorded.
CLOUD = """
cd "$(dirname "$0")"
next() { sed -n 1p "$1"; sed -i 1d "$1"; }
case "$4 $*" in
  list*) next states ;;
  ssh*automoe_jax.main*--distributed*) echo train >>calls; exit "$(next codes)" ;;
  *) echo "$4" >>calls ;;
esac
"""


def train_on_tpu(
    folder: pathlib.Path, states: list[str], codes: list[int], **settings: str
) -> tuple[int, list[str], str]:
    """Exit code, calls of gcloud except checks of the queue, and stderr of tpu_vm.sh over a
    simulated cloud.
    """
    stub(folder / "gcloud", CLOUD)
    stub(folder / "git", "")
    stub(folder / "sleep", "")
    # the first check is for errors only
    (folder / "states").write_text("".join(f"{state}\n" for state in ["", *states]))
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    done = launch("tpu_vm.sh", **TPU | {"PATH": f"{folder}:{os.environ['PATH']}"} | settings)
    return done.returncode, (folder / "calls").read_text().split(), done.stderr


def test_tpu_vm_continues_after_a_preemption(tmp_path: pathlib.Path) -> None:
    states = [
        "",
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "ACTIVE",
        "SUSPENDING",
        "SUSPENDED",
        "",
        "ACTIVE",
    ]
    code, calls, _ = train_on_tpu(tmp_path, states, [255, 0])
    assert code == 0
    assert calls == [
        "create",
        "scp",
        "ssh",
        "train",
        "delete",
        "create",
        "scp",
        "ssh",
        "train",
        "delete",
    ]


def test_tpu_vm_stops_when_training_itself_fails(tmp_path: pathlib.Path) -> None:
    code, calls, said = train_on_tpu(tmp_path, ["ACTIVE", "ACTIVE"], [1])
    assert (code, calls) == (1, ["scp", "ssh", "train"])
    assert "error: training failed on a TPU that is still there" in said


def test_tpu_vm_stops_when_the_request_fails(tmp_path: pathlib.Path) -> None:
    code, calls, said = train_on_tpu(tmp_path, ["", "FAILED"], [])
    assert (code, calls) == (1, ["create"])
    assert (
        "error: the request for automoe failed; see: gcloud compute tpus queued-resources describe"
        " automoe" in said
    )


def test_tpu_vm_keeps_the_tpu(tmp_path: pathlib.Path) -> None:
    assert train_on_tpu(tmp_path, ["ACTIVE"], [0], KEEP="true")[:2] == (0, ["scp", "ssh", "train"])


def test_tpu_vm_without_spot() -> None:
    assert not any("--spot" in line for line in dry_run("tpu_vm.sh", **TPU | {"SPOT": "false"}))


def jobset(*flags: str, **settings: str) -> dict:
    """The JobSet that gke.sh would create."""
    delete, create, *lines, end = dry_run("gke.sh", *flags, **settings)
    assert delete.startswith("kubectl delete jobset automoe ")
    assert (create, end) == ("kubectl create -f - <<'END'", "END")
    return yaml.safe_load("\n".join(lines))


def test_gke() -> None:
    made = jobset("--", "--config.seed=7", '--config.data.name="$HOME"', **GKE)
    assert made["metadata"]["name"] == "automoe"
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["parallelism"], job["completions"]) == (8, 8)  # 32 chips on hosts of 4
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
        "cloud.google.com/gke-spot": "true",
    }
    (container,) = pod["containers"]
    assert container["command"] == ["python"]
    assert container["args"] == [
        *("-m", "automoe_jax.main", "--config=configs/demo.py", "--workdir=gs://bucket/demo"),
        *("--config.seed=7", '--config.data.name="$HOME"', "--distributed"),
    ]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}


def test_gke_without_spot_on_one_host() -> None:
    job = jobset(**GKE | {"SPOT": "false", "TOPOLOGY": "2x4", "CHIPS": "8"})["spec"][
        "replicatedJobs"
    ][0]["template"]["spec"]
    assert job["parallelism"] == 1
    assert "cloud.google.com/gke-spot" not in job["template"]["spec"]["nodeSelector"]


def test_gke_for_real(tmp_path: pathlib.Path) -> None:
    stub(
        tmp_path / "kubectl",
        f'echo "$1" >>{tmp_path}/calls; if [[ $1 == create ]]; then cat >{tmp_path}/made.yaml; fi',
    )
    done = launch("gke.sh", **GKE | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 0
    assert (tmp_path / "calls").read_text().split() == ["delete", "create"]
    assert yaml.safe_load((tmp_path / "made.yaml").read_text()) == jobset(**GKE)


def test_jobset_template_is_yaml() -> None:
    assert yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())["kind"] == "JobSet"


def test_install(tmp_path: pathlib.Path) -> None:
    pip, venv, install = dry_run("install.sh", "tpu", VENV=str(tmp_path / "venv"))
    assert pip.endswith("-m pip install --quiet --disable-pip-version-check uv")
    assert "uv venv" in venv
    assert shlex.split(install)[-4:] == [
        f"--constraint={ROOT}/requirements.lock",
        "--editable",
        f"{ROOT}[tpu]",
        "gcsfs",
    ]
    assert mistake("install.sh", "abacus").startswith(
        "error: 'abacus' is no kind of device; say one"
    )
