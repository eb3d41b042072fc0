"""evaluate: translations or classes of the test text, their scores, and the costs of each
network.
"""

import dataclasses

from automoe_jax import trained
from automoe_jax.config import Config
from automoe_jax.evaluation import contenders, results
from automoe_jax.evaluation.baselines import baselines
from automoe_jax.evaluation.deployed import is_measured, with_latencies
from automoe_jax.evaluation.differences import with_differences
from automoe_jax.evaluation.engine import deployed_rows
from automoe_jax.evaluation.networks import inferences, joined, network_row
from automoe_jax.evaluation.results import Evaluation, Scored
from automoe_jax.evaluation.usage import evenly_spaced
from automoe_jax.export.workdirs import describe_again
from automoe_jax.inference.scores import tokenization
from automoe_jax.report import Sample, results_table
from automoe_jax.report.rows import DENSE, INHERITED, RETRAINED, RIVAL, RowKey
from automoe_jax.runtime.files import read_json
from automoe_jax.runtime.machine import device, versions
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes a file for each row, so that none is computed twice, and `results.json` with all
    rows.
    """
    text = read_json(workdir.text_path("test"))
    count = min(config.evaluate.max_pairs or len(text["source"]), len(text["source"]))
    sources, references = text["source"][:count], text["target"][:count]
    networks = _networks(config, workdir, sources, references)
    simple = baselines(config, workdir, sources, references)
    samples = [
        Sample(
            sources[i],
            references[i],
            {scored.row.key: scored.outputs[i] for scored in networks},
        )
        for i in evenly_spaced(count, config.evaluate.samples)
    ]
    rows = [*with_differences(config, networks, references), *(one.row for one in simple)]
    if is_measured(config):
        rows = with_latencies(config, workdir, rows, (RETRAINED, RIVAL, DENSE))
    if config.task == "translate":
        tokenizer = tokenization(config.data.target_language, references)
        rows[0] = dataclasses.replace(rows[0], note=joined(tokenizer.note, rows[0].note))
    evaluation = Evaluation(
        rows, samples, count, workdir.spec(config).output_size, device(), versions()
    )
    results.save(workdir, evaluation)
    describe_again(workdir.root)
    print(results_table(rows), flush=True)
    for row in rows:
        if row.note:
            print(f"{row.title}: {row.note}", flush=True)


def _networks(
    config: Config, workdir: Workdir, sources: list[str], references: list[str]
) -> list[Scored]:
    """Rows of the retrained sub-Transformer, then those it is compared with."""
    arch, text = workdir.arch(), (sources, references)
    rows = [network_row(way, workdir, key, arch, *text) for key, way in inferences(config).items()]
    if config.task == "translate":
        rows[1:1] = deployed_rows(config, workdir, rows[0], *text)
    if runs.is_complete(workdir.supernet):
        rows.append(network_row(config, workdir, INHERITED, arch, *text))
    for role in trained.compared(config, workdir):
        compared = trained.arch(config, workdir, role)
        rows.append(network_row(config, workdir, RowKey(role), compared, *text))
    return [_with_choice(config, workdir, one) for one in rows]


def _with_choice(config: Config, workdir: Workdir, scored: Scored) -> Scored:
    """The row, with a note if its network was chosen of several, or also is the dense rival."""
    notes = [scored.row.note]
    if scored.row.key == RETRAINED:
        notes.insert(0, contenders.note(config, workdir))
    twin = trained.twin_of_rival(config, workdir)
    if twin is not None and scored.row.key == RowKey(twin):
        notes.insert(0, "also the best dense architecture within the limits")
    return Scored(dataclasses.replace(scored.row, note=joined(*notes)), scored.outputs)
