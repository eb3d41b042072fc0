"""Export of the retrained sub-Transformer of a workdir."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from etils import epath

from automoe_jax.config import Config
from automoe_jax.costs import costs
from automoe_jax.data.tokenizer import EOS, SeparateTokenizers
from automoe_jax.errors import UserError
from automoe_jax.export import folder, models
from automoe_jax.export.cache import (
    FOLDER,
    default_precision,
    default_shortlist,
    fingerprint,
    is_current,
)
from automoe_jax.export.ctranslate2 import to_ctranslate2
from automoe_jax.export.folder import write_folder
from automoe_jax.export.network import inputs_of
from automoe_jax.export.settings import FLOAT32, INT8, PRECISIONS
from automoe_jax.export.stablehlo import to_stablehlo
from automoe_jax.export.tensors import to_safetensors
from automoe_jax.export.web import page_files, runtime_files
from automoe_jax.export.weights import separated
from automoe_jax.inference.engine.folder import (
    MODEL,
    SHORTLIST,
    TARGET_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
    Description,
)
from automoe_jax.inference.engine.shortlist import load_shortlist
from automoe_jax.model.network import Network
from automoe_jax.report.rows import Role, Row, RowKey
from automoe_jax.runtime.files import absolute
from automoe_jax.train import runs
from automoe_jax.trained import router_costs
from automoe_jax.workdir import Workdir, read_json

SAFETENSORS = "model.safetensors"
STABLEHLO = "model.stablehlo"
_SCORES = (
    "bleu",
    "bleu_signature",
    "bleu_difference",
    "bleu_interval",
    "chrf",
    "chrf_signature",
    "chrf_difference",
    "chrf_interval",
    "accuracy",
    "macro_f1",
)
NO_LICENSE = "not stated; that of the training text applies"


def variant(precision: str, shortlist: int = 0) -> str:
    """The variant of the evaluation's row of the inference engine with N = `shortlist`."""
    if not shortlist:
        return INT8 if precision == INT8 else "onnx"
    return ("int8, " if precision == INT8 else "") + f"shortlist of {shortlist}"


def trained(root: epath.PathLike) -> tuple[Workdir, Config, Network]:
    """The retrained sub-Transformer of a workdir; raises `UserError` if there is none."""
    workdir = Workdir(absolute(root))
    if not workdir.config_path.exists():
        raise UserError(
            f"--workdir={root} holds no run; train one with python -m automoe_jax.main"
            f" --workdir={root} first"
        )
    if not runs.is_complete(workdir.retrained):
        raise UserError(
            f"--workdir={root} holds no retrained sub-Transformer yet; finish its retrain stage"
            " with python -m automoe_jax.main"
        )
    config = workdir.config()
    network = runs.load(workdir.retrained, workdir.spec(config, workdir.arch()))
    return workdir, config, network


def export_onnx(
    root: epath.PathLike, out: pathlib.Path, precision: str = FLOAT32, license: str = NO_LICENSE
) -> None:
    """Writes the ONNX folder of a workdir's sub-Transformer, a translator's or a classifier's."""
    workdir, config, network = trained(root)
    files = _onnx_files(workdir, config, network, precision)
    write_folder(out, description(root, workdir, config, precision, license), files)


def export_web(
    root: epath.PathLike,
    out: pathlib.Path,
    precision: str = FLOAT32,
    license: str = NO_LICENSE,
    runtime: str | None = None,
) -> None:
    """Writes the page of a workdir's translator; runtime: a folder of ONNX Runtime Web, by default
    it is fetched by npm.
    """
    workdir, config, network = trained(root)
    if config.task != "translate":
        raise UserError(
            f"--format=web is for translators, and --workdir={root} holds a classifier; export it"
            " with --format=onnx"
        )
    library = runtime_files(runtime)
    described = description(root, workdir, config, precision, license)
    model = _onnx_files(workdir, config, network, precision)
    write_folder(out, described, page_files(model, library, described.shortlist))


def describe_again(root: epath.PathLike) -> None:
    """Describes the current exports in a local workdir as one that is made now would be, with the
    scores and defaults that the stage evaluate has measured since.
    """
    where = os.fspath(root)
    if "://" in where:
        return
    for precision in PRECISIONS:
        out = pathlib.Path(where) / FOLDER / precision
        if is_current(where, out):
            workdir = Workdir(absolute(root))
            described = description(root, workdir, workdir.config(), precision, NO_LICENSE)
            folder.describe_again(out, described)


def _onnx_files(
    workdir: Workdir, config: Config, network: Network, precision: str
) -> dict[str, bytes]:
    """The model with its weights, tokenizers and shortlist."""
    arch, settings, weights = inputs_of(network, config.data.buckets, precision)
    build = models.classifier if settings.classes else models.translator
    model, constants = separated(build(arch, settings, weights), WEIGHTS)
    files = _tokenizers(workdir) | {MODEL: model, WEIGHTS: constants}
    if not settings.classes and workdir.shortlist_path.exists():
        files[SHORTLIST] = _shortlist(workdir)
    return files


def export_safetensors(root: epath.PathLike, out: pathlib.Path, license: str = NO_LICENSE) -> None:
    """Writes the weights of a workdir's sub-Transformer as a safetensors file."""
    workdir, config, network = trained(root)
    files = _tokenizers(workdir) | {SAFETENSORS: to_safetensors(network, config)}
    write_folder(out, description(root, workdir, config, FLOAT32, license), files)


def export_stablehlo(root: epath.PathLike, out: pathlib.Path, license: str = NO_LICENSE) -> None:
    """Writes the forward pass of a workdir's sub-Transformer as a StableHLO program for sources and
    targets of the last bucket's length.
    """
    workdir, config, network = trained(root)
    files = _tokenizers(workdir) | {STABLEHLO: to_stablehlo(network, config.data.buckets[-1])}
    write_folder(out, description(root, workdir, config, FLOAT32, license), files)


def export_ctranslate2(root: epath.PathLike, out: pathlib.Path, license: str = NO_LICENSE) -> None:
    """Writes a workdir's translator for CTranslate2; raises `UserError` for an architecture that it
    cannot express.
    """
    workdir, config, network = trained(root)
    arch, settings, weights = inputs_of(network, config.data.buckets)
    both = workdir.tokenizer()
    source, target = (
        (both.source, both.target) if isinstance(both, SeparateTokenizers) else (both, both)
    )
    pieces = [[own.piece(token) for token in range(own.vocab_size)] for own in (source, target)]
    model = to_ctranslate2(arch, settings, weights, *pieces)
    described = description(root, workdir, config, FLOAT32, license)
    write_folder(out, described, _tokenizers(workdir) | model)


def _tokenizers(workdir: Workdir) -> dict[str, bytes]:
    """The files of the tokenizers."""
    files = {TOKENIZER: workdir.tokenizer_path.read_bytes()}
    if workdir.target_tokenizer_path.exists():
        files[TARGET_TOKENIZER] = workdir.target_tokenizer_path.read_bytes()
    return files


def _shortlist(workdir: Workdir) -> bytes:
    """The file of the shortlist; raises `UserError` if it is damaged."""
    content = workdir.shortlist_path.read_bytes()
    way_out = (
        f"remove {workdir.done_path('prepare')} and run python -m automoe_jax.main again, which"
        " writes it"
    )
    load_shortlist(content, str(workdir.shortlist_path), way_out)
    return content


def description(
    root: epath.PathLike, workdir: Workdir, config: Config, precision: str, license: str
) -> Description:
    """Description of the sub-Transformer of a workdir in an export."""
    arch, spec = workdir.arch(), workdir.spec(config)
    cost = costs(
        arch,
        config.search.source_length,
        config.search.target_length,
        spec.output_size,
        router=router_costs(config, workdir, Role.RETRAINED),
        pre_norm=spec.norm == "pre",
    )
    names = workdir.labels().names if config.task == "classify" else ()
    shortlist = default_shortlist(os.fspath(root), precision)
    return Description(
        task=config.task,
        precision=precision,
        architecture=arch.to_dict(),
        router=_plain(config.router),
        costs=_plain(cost),
        languages={"source": config.data.source_language, "target": config.data.target_language},
        license=license,
        scores=_scores(os.fspath(root), workdir, precision, shortlist),
        buckets=tuple(config.data.buckets),
        beam_size=config.evaluate.beam_size,
        length_penalty=config.evaluate.length_penalty,
        pad_id=spec.pad_id,
        eos_id=EOS,
        shortlist=shortlist,
        labels=tuple(names),
        trained=fingerprint(os.fspath(root)),
    )


def _scores(root: str, workdir: Workdir, precision: str, shortlist: int) -> dict[str, Any]:
    """The scores of the sub-Transformer on the test text where the stage evaluate measured them, if
    possible in this precision and with this shortlist; the title of their row as `measured`, and
    the `default_precision` of the workdir, which is int8 where that passed the stage's test.
    """
    for one in (variant(precision, shortlist), variant(precision), ""):
        path = workdir.evaluate / f"{RowKey(Role.RETRAINED, one)}.json"
        if path.exists():
            row = Row.from_json(read_json(path)).to_json()
            found = {name: row[name] for name in _SCORES if name in row}
            return found | {"measured": row["name"], "default_precision": default_precision(root)}
    return {}


def _plain(record: Any) -> dict[str, Any]:
    """A dataclass as the plain values of JSON."""
    return json.loads(json.dumps(dataclasses.asdict(record), default=float))
