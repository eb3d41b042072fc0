"""The plan of a step: flags, and figures equal to those of the compiled step and of the closed
form.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from automoe_jax.arch import Arch
from automoe_jax.config import Config, DataConfig, MeshConfig, TrainConfig
from automoe_jax.costs import costs
from automoe_jax.errors import UserError
from automoe_jax.plan.chips import CHIPS
from automoe_jax.plan.estimate import Plan, flops_of, make_plan
from automoe_jax.plan.job import Job, make_job, parse_mesh
from automoe_jax.plan.text import report, to_json
from automoe_jax.space import SearchSpace

ROOT = pathlib.Path(__file__).parents[2]
SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16,),
    decoder_embed_dims=(8, 16),
    encoder_layers=(1,),
    decoder_layers=(1, 2),
    encoder_self_heads=(2,),
    decoder_self_heads=(2,),
    decoder_cross_heads=(2,),
    cross_layers=(1,),
    encoder_experts=(1, 2),
    decoder_experts=(1, 2),
    expert_ffn_dims=(16, 32),
)
TRAIN = TrainConfig(tokens_per_batch=512, accumulate=4)
CONFIG = Config(
    data=DataConfig(vocab_size=64, buckets=(8, 16)),
    space=SPACE,
    supernet=TRAIN,
    retrain=dataclasses.replace(Config().retrain, tokens_per_batch=512, accumulate=4),
)
ONE = MeshConfig(1, 1, 1)


def test_mesh() -> None:
    assert parse_mesh("data:64,expert:4") == MeshConfig(64, 4, 1)
    assert parse_mesh("model:2") == MeshConfig(1, 1, 2)


@pytest.mark.parametrize("text", ["data", "data:0", "data:-1", "pipe:2", "", "data:2;expert:2"])
def test_a_mesh_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        UserError, match=r"--mesh=.* must name data, expert, model with a positive number each"
    ):
        parse_mesh(text)


def test_the_batch_is_the_configured_one() -> None:
    job = make_job(CONFIG, ONE)
    assert (job.bucket, job.sentences, job.train.accumulate, job.devices) == (16, 32, 4, 1)
    assert make_job(CONFIG, ONE, bucket=8).sentences == 64


def test_fewer_micro_batches_where_a_device_would_have_less_than_a_sentence() -> None:
    job = make_job(CONFIG, MeshConfig(4, 4, 1))
    assert (job.train.accumulate, job.configured, job.sentences, job.devices) == (1, 4, 32, 16)


def test_what_does_not_fit_the_configuration_is_refused() -> None:
    with pytest.raises(UserError, match=r"--bucket=10 is none of config\.data\.buckets"):
        make_job(CONFIG, ONE, bucket=10)
    with pytest.raises(UserError, match=r"--arch=nowhere\.json cannot be read"):
        make_job(CONFIG, ONE, arch="nowhere.json")
    with pytest.raises(UserError, match=r"give one of them"):
        make_job(CONFIG, ONE, arch="largest", widest=True)
    with pytest.raises(
        UserError,
        match=(
            r"config.task='classify' cannot be planned: the number of classes is known only"
            r" after"
        ),
    ):
        make_job(dataclasses.replace(CONFIG, task="classify"), ONE)
    with pytest.raises(
        UserError, match=r"tokens_per_batch=512 must hold a sentence of the longest bucket"
    ):
        make_job(CONFIG, MeshConfig(64, 1, 1))
    with pytest.raises(UserError, match=r"must divide every width"):
        make_job(CONFIG, MeshConfig(1, 3, 1))


def test_flops_are_three_times_the_closed_form() -> None:
    largest = SPACE.largest()
    forward = costs(largest, 16, 16, 64)
    found = flops_of(make_job(CONFIG, ONE, arch="largest"))
    assert found.model == found.largest == 3 * 32 * forward.flops_with_vocabulary
    assert found.again == 0
    again = flops_of(make_job(dataclasses.replace(CONFIG, remat="full"), ONE, arch="largest")).again
    assert again == 32 * forward.flops
    supernet = flops_of(make_job(CONFIG, ONE))
    assert supernet.model < supernet.largest == found.largest
    # The decoder's second layer may be absent, so its forward pass runs twice.
    assert 0 < supernet.again < supernet.model / 3


def test_skipped_blocks_count_nothing(tmp_path: pathlib.Path) -> None:
    space = dataclasses.replace(
        SPACE,
        decoder_layers=(1,),
        encoder_self_heads=(0, 2),
        decoder_self_heads=(0, 2),
        decoder_cross_heads=(0, 2),
        encoder_experts=(0, 1, 2),
        decoder_experts=(0, 1, 2),
    )
    config = dataclasses.replace(CONFIG, space=space)
    smallest, file = space.smallest(), tmp_path / "arch.json"
    file.write_text(smallest.to_json())
    job = make_job(config, ONE, arch=str(file))
    forward = costs(smallest, 16, 16, 64)
    assert forward.flops < costs(SPACE.smallest(), 16, 16, 64).flops
    assert flops_of(job).model == 3 * 32 * forward.flops_with_vocabulary
    supernet = flops_of(make_job(config, ONE))
    assert 3 * 32 * forward.flops_with_vocabulary < supernet.model < supernet.largest
    memory = make_plan(job, CHIPS["h100"]).memory
    weights = forward.params + job.spec.vocab_size * 16
    tokens = 2 * 4 * job.sentences * job.bucket
    # weights and both moments, and the batch; nothing of the skipped blocks
    assert 12 * weights + tokens <= memory.arguments <= 12 * weights + tokens + 10_000


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Of the largest dense architecture on one simulated device."""
    space = dataclasses.replace(
        SPACE, encoder_experts=(1,), decoder_experts=(1,), decoder_layers=(1,)
    )
    return make_plan(
        make_job(dataclasses.replace(CONFIG, space=space), ONE, arch="largest"), CHIPS["h100"]
    )


def test_memory_is_the_compiled_steps(plan: Plan) -> None:
    memory, job = plan.memory, plan.job
    found = costs(job.spec.exact_arch)
    weights = found.params + job.spec.vocab_size * 16
    assert plan.is_estimate
    tokens = 2 * 4 * job.sentences * job.bucket
    # weights and both moments, and the batch
    assert 12 * weights + tokens <= memory.arguments <= 12 * weights + tokens + 10_000
    assert memory.reused >= 12 * weights  # the state is donated
    assert memory.temporaries > 4 * weights  # the gradients, at least
    assert memory.peak == memory.arguments + memory.outputs - memory.reused + memory.temporaries
    assert plan.fits


def test_one_device_sends_nothing(plan: Plan) -> None:
    assert plan.seconds.links == 0
    assert plan.seconds.serial >= plan.seconds.overlapped > 0
    assert plan.seconds.compute == pytest.approx(plan.flops.model / 989e12)


def test_report_says_what_is_a_model_and_what_to_change(plan: Plan) -> None:
    text = report(plan)
    assert "ESTIMATE" in text
    assert "a MODEL, not a measurement" in text
    assert "of 80 GB: fits" in text
    small = dataclasses.replace(
        plan, chip=dataclasses.replace(plan.chip, memory=plan.memory.peak * 0.9)
    )
    assert not small.fits
    assert (
        "it does not fit: try --config.retrain.accumulate=8, or --config.remat=full, or more"
        " devices" in report(small)
    )
    record = json.loads(to_json(plan))
    assert record["memory"]["peak"] == plan.memory.peak
    assert Arch.from_dict(record["network"]) == plan.job.spec.arch


def command(*flags: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "automoe_jax.plan", *flags]
    return subprocess.run(
        line, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600, check=False
    )


TINY = (
    "--config=configs/demo.py",
    "--config.data.vocab_size=64",
    "--config.space.encoder_layers=(1,)",
    "--config.space.decoder_layers=(1,)",
    "--config.space.encoder_experts=(2,)",
    "--config.space.decoder_experts=(1,)",
    "--config.space.expert_ffn_dims=(64,)",
)


@pytest.mark.slow
def test_command_on_a_mesh(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "plan.json"
    ended = command(
        *TINY, "--arch=largest", "--mesh=data:2,expert:2", "--chip=h100", f"--json={file}"
    )
    assert ended.returncode == 0, ended.stderr
    assert "simulated devices" in ended.stdout
    record = json.loads(file.read_text())
    assert record["devices"] == 4
    kinds = {collective["name"] for collective in record["collectives"]}
    # Tokens are gathered along `expert` and their sums scattered back, gradients are summed over
    # `data`.
    assert {"all-gather", "all-reduce", "reduce-scatter"} <= kinds
    assert record["seconds"]["links"] > 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--mesh=data:x", "--mesh=data:x must name"),
        ("--chip=abacus", "--chip=abacus is not in the table"),
    ],
)
def test_a_mistake_is_one_line(flag: str, message: str) -> None:
    ended = command("--config=configs/demo.py", flag)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_job_names_its_architectures() -> None:
    job: Job = make_job(CONFIG, ONE)
    assert job.archs(0) == job.archs(0)
    assert all(SPACE.contains(arch) for arch in job.archs(3))
