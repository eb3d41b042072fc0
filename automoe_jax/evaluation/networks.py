"""Rows of networks: scores, costs, expert usage and latency of one network on the test text.

Each row is computed once and then loaded from its file.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
from etils import epath

from automoe_jax import trained
from automoe_jax.arch import Arch
from automoe_jax.config import Config
from automoe_jax.costs import RouterCosts, costs
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
    if saved := load_row(workdir, key):
        return saved
    folder = trained.folder(workdir, key.role)
    network = _network(config, workdir, folder, arch)
    texts, seconds = outputs(config, workdir, key.title, network, sources)
    summary = runs.summary(folder)
    row = with_scores(Row(*key), config, texts, references)
    router = trained.router_costs(config, workdir, key.role)
    row = _with_costs(row, config, workdir, network, arch, router)
    row = dataclasses.replace(
        _with_latency(row, config, network),
        train_tokens=summary.tokens,
        train_seconds=summary.seconds,
        decode_sentences_per_second=round(len(sources) / seconds, 1),
    )
    scored = Scored(row, texts)
    save_row(workdir, scored)
    return scored


def with_scores(row: Row, config: Config, texts: Sequence[str], references: Sequence[str]) -> Row:
    """The row with the scores of these texts: BLEU and chrF with their signatures and a note, or
    accuracy and macro F1.
    """
    if config.task == "classify":
        classes = accuracy(texts, references)
        return dataclasses.replace(
            row, accuracy=round(classes.accuracy, 2), macro_f1=round(classes.macro_f1, 2)
        )
    scores = score(texts, references, config.data.target_language)
    return dataclasses.replace(
        row,
        bleu=round(scores.bleu, 2),
        chrf=round(scores.chrf, 2),
        bleu_signature=scores.bleu_signature,
        chrf_signature=scores.chrf_signature,
        note=scores.note,
    )


def joined(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(filter(None, notes))


def trained_network(config: Config, workdir: Workdir, role: Role) -> Network:
    """The network of a role, on the device."""
    arch = trained.arch(config, workdir, role)
    return _network(config, workdir, trained.folder(workdir, role), arch)


def _network(config: Config, workdir: Workdir, folder: epath.Path, arch: Arch) -> Network:
    """The network on the device, so that its weights are not transferred with every call."""
    if folder == workdir.supernet:
        return jax.device_put(extract(runs.load(folder, workdir.spec(config)), arch))
    return jax.device_put(runs.load(folder, workdir.spec(config, arch)))


def _with_costs(
    row: Row, config: Config, workdir: Workdir, network: Network, arch: Arch, router: RouterCosts
) -> Row:
    """The row with FLOPs and parameters, expected and as measured on the test text."""
    declaration = config.router.declaration
    counted = functools.partial(
        costs,
        arch,
        source_length=config.search.source_length,
        target_length=config.search.target_length,
        vocab_size=network.spec.output_size,
        router=router,
        pre_norm=network.spec.norm == "pre",
    )
    expected = counted()
    row = dataclasses.replace(
        row,
        flops=expected.flops,
        flops_with_vocabulary=expected.flops_with_vocabulary,
        params=expected.params,
        active_params=expected.active_params,
        experts_per_token=tuple(router.experts_per_token or ()),
    )
    if not (declaration.measurable and arch.routed):
        return row
    used = usage.measure(config, workdir, network)
    measured = counted(loads=used.loads)
    row = dataclasses.replace(
        row,
        flops_measured=round(measured.flops),
        active_params_measured=round(measured.active_params),
        expert_loads=usage.loads(used),
    )
    if declaration.counts_vary:
        row = usage.with_numbers_of_experts(row, used, workdir.tokenizer())
    return row


def _with_latency(row: Row, config: Config, network: Network) -> Row:
    """The row with the milliseconds of one sentence, unless `evaluate.latency_runs` is 0."""
    settings = config.evaluate
    if not settings.latency_runs:
        return row
    (took,) = latency.measure(
        [network],
        source_length=config.search.source_length,
        target_length=config.search.target_length,
        beam_size=settings.beam_size,
        runs=settings.latency_runs,
    )
    return dataclasses.replace(
        row,
        encoder_ms=round(took.encoder, 3),
        decoder_ms=round(took.decoder, 3),
        latency_ms=round(took.total, 3),
    )
