"""Rows of networks: scores, costs, expert usage and latency of one network on the test text.

Each row is computed once and then loaded from its file.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.costs import costs
from automoe_jax.evaluation import usage
from automoe_jax.evaluation.outputs import outputs
from automoe_jax.evaluation.results import Scored, load_row, save_row
from automoe_jax.extract import extract
from automoe_jax.inference import latency
from automoe_jax.inference.scores import accuracy, score
from automoe_jax.model.network import Network
from automoe_jax.report.rows import RETRAINED, Role, Row, RowKey
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir


def inferences(config: Config) -> dict[RowKey, Config]:
    """Configurations for evaluating the retrained sub-Transformer: the configured one first, then
    those of the router's other modes of inference.
    """
    others = config.router.declaration.variants(config.router)
    return {RETRAINED: config} | {
        RowKey(Role.RETRAINED, name): dataclasses.replace(config, router=router)
        for name, router in others.items()
    }


def network_row(
    config: Config,
    workdir: Workdir,
    key: RowKey,
    arch: Arch,
    sources: Sequence[str],
    references: Sequence[str],
) -> Scored:
    """The row of one trained network, computed unless its file exists."""
    if found := load_row(workdir, key):
        return found
    folder = _folder(workdir, key.role)
    network = _network(config, workdir, folder, arch)
    texts, seconds = outputs(config, workdir, key.title, network, sources)
    trained = runs.summary(folder)
    fields = (
        scores(config, texts, references)
        | _costs(config, workdir, network, arch)
        | _latency(config, network)
    )
    row = Row(
        *key,
        **fields,
        train_tokens=trained.tokens,
        train_seconds=trained.seconds,
        decode_sentences_per_second=round(len(sources) / seconds, 1),
    )
    scored = Scored(row, texts)
    save_row(workdir, scored)
    return scored


def scores(config: Config, texts: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Score fields of a row: BLEU and chrF with their signatures and a note, or accuracy and macro
    F1.
    """
    if config.task == "classify":
        found = accuracy(texts, references)._asdict()
    else:
        found = score(texts, references, config.data.target_language)._asdict()
        del found["tokenizer_note"]  # the same for all rows
    return {
        key: value if isinstance(value, str) else round(value, 2) for key, value in found.items()
    }


def joined(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(filter(None, notes))


def trained_network(config: Config, workdir: Workdir, role: Role) -> Network:
    """The network of a role, on the device."""
    arch = config.space.largest_dense() if role is Role.DENSE else workdir.arch()
    return _network(config, workdir, _folder(workdir, role), arch)


def _folder(workdir: Workdir, role: Role) -> epath.Path:
    return {
        Role.RETRAINED: workdir.retrained,
        Role.INHERITED: workdir.supernet,
        Role.DENSE: workdir.dense,
    }[role]


def _network(config: Config, workdir: Workdir, folder: epath.Path, arch: Arch) -> Network:
    """The network on the device, so that its weights are not transferred with every call."""
    if folder == workdir.supernet:
        return jax.device_put(extract(runs.load(folder, workdir.spec(config)), arch))
    return jax.device_put(runs.load(folder, workdir.spec(config, arch)))


def _costs(config: Config, workdir: Workdir, network: Network, arch: Arch) -> dict[str, Any]:
    """Fields of a row: FLOPs and parameters, expected and as measured on the test text."""
    router, declaration = config.router.costs(arch), config.router.declaration
    count: dict[str, Any] = _lengths(config)
    count |= {"vocab_size": network.spec.output_size, "router": router}
    count |= {"pre_norm": network.spec.norm == "pre"}
    cost = costs(arch, **count)
    fields: dict[str, Any] = {
        "flops": cost.flops,
        "flops_with_vocabulary": cost.flops_with_vocabulary,
        "params": cost.params,
        "active_params": cost.active_params,
        "experts_per_token": tuple(router.experts_per_token or ()),
    }
    if not (declaration.measurable and arch.routed):
        return fields
    used = usage.measure(config, workdir, network)
    measured = costs(arch, **count, loads=used.loads)
    fields |= {
        "flops_measured": round(measured.flops),
        "active_params_measured": round(measured.active_params),
        "expert_loads": usage.loads(used),
    }
    if declaration.counts_vary:
        fields |= usage.numbers_of_experts(used, workdir.tokenizer())
    return fields


def _latency(config: Config, network: Network) -> dict[str, float]:
    """Fields of a row: milliseconds of one sentence; none where `evaluate.latency_runs` is 0."""
    settings = config.evaluate
    if not settings.latency_runs:
        return {}
    (took,) = latency.measure(
        [network],
        **_lengths(config),
        beam_size=settings.beam_size,
        runs=settings.latency_runs,
    )
    return {
        "encoder_ms": round(took.encoder, 3),
        "decoder_ms": round(took.decoder, 3),
        "latency_ms": round(took.total, 3),
    }


def _lengths(config: Config) -> dict[str, int]:
    search = config.search
    return {"source_length": search.source_length, "target_length": search.target_length}
