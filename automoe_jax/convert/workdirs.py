"""A published model as a workdir, which continues like one that this package trained."""

import dataclasses
import pathlib
from typing import NamedTuple

from etils import epath

from automoe_jax.arch import Arch
from automoe_jax.config import Config, check
from automoe_jax.convert.arguments import languages_of, model_of, words_of
from automoe_jax.convert.checkpoint import Checkpoint
from automoe_jax.convert.weights import check_layout, from_fairseq
from automoe_jax.data.bpe import Bpe, Codes, Words, parse_codes, parse_dictionary
from automoe_jax.errors import UserError
from automoe_jax.extract import extract
from automoe_jax.model.network import Network
from automoe_jax.runtime.files import atomic_writer, write_json
from automoe_jax.train import runs
from automoe_jax.workdir import Workdir, make_folder, settings_of

# Stages of a sub-Transformer's workdir; it has no SuperNet to search.
_STAGES = "prepare,retrain,evaluate,report"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Files of a model's vocabulary."""

    dictionary: str  # fairseq's dict.txt of the source, or of both languages
    target_dictionary: str | None = None  # of the target, where it has its own
    codes: str | None = None  # of subword-nmt or fastBPE; None: words are pieces
    words: str | None = None  # recipe in `arguments.WORDS`; None: that of the model's data
    source_language: str | None = None  # None: as the checkpoint says
    target_language: str | None = None


class Converted(NamedTuple):
    """A converted model."""

    workdir: Workdir
    config: Config
    network: Network
    equal_experts: bool  # of `arguments.Model`


def convert(checkpoint: Checkpoint, vocabulary: Vocabulary, out: str, config: Config) -> Converted:
    """Writes the workdir of a checkpoint at `out`, which must be new or empty; its settings are
    those of `config`, but for what the checkpoint and its vocabulary decide.

    A SuperNet becomes the result of the stage supernet, a sub-Transformer that of the stage
    retrain. Raises `UserError` for a model that no `Network` computes, with the setting or the
    weight in the way, and for a vocabulary of another size than its tables.
    """
    check_layout(checkpoint.weights)
    model = model_of(checkpoint.arguments)
    supernet = from_fairseq(checkpoint.weights, space=model.space)
    tokenizers = _tokenizers(checkpoint, vocabulary, supernet)
    workdir = Workdir(make_folder(out))
    if any(workdir.root.iterdir()):
        raise UserError(f"--out={out} holds files already; name a new folder")
    paths = [workdir.root / path.name for path in _paths(workdir)[: len(tokenizers)]]
    for path, own, tokenizer in zip(paths, _paths(workdir), tokenizers, strict=False):
        for place in (path, own):
            with atomic_writer(place) as file:
                file.write(tokenizer.to_bytes())
    settings = _settings(checkpoint, config, supernet, tokenizers, paths)
    if model.arch is None:
        network = supernet
        runs.save(workdir.supernet, network, _summary(checkpoint))
        workdir.mark_done("supernet", 0.0)
    else:
        network, settings = _write_sub_transformer(
            workdir, checkpoint, settings, extract(supernet, model.arch), model.arch
        )
    check(settings)
    write_json(workdir.config_path, settings_of(settings))
    return Converted(workdir, settings, network, model.equal_experts)


def _write_sub_transformer(
    workdir: Workdir, checkpoint: Checkpoint, config: Config, network: Network, arch: Arch
) -> tuple[Network, Config]:
    """Writes the result of the stage retrain; returns the settings of a run that starts there."""
    for path in (workdir.arch_path, workdir.chosen_arch_path):
        write_json(path, arch.to_dict())
    runs.save(workdir.retrained, network, _summary(checkpoint))
    workdir.mark_done("retrain", 0.0)
    retrain = dataclasses.replace(
        config.retrain, arch=str(workdir.chosen_arch_path), dense_baseline=False
    )
    return network, dataclasses.replace(config, retrain=retrain, stages=_STAGES)


def _summary(checkpoint: Checkpoint) -> runs.Summary:
    return runs.Summary(checkpoint.updates, 0, 0.0, checkpoint.validation_nll)


def _paths(workdir: Workdir) -> tuple[epath.Path, epath.Path]:
    return workdir.tokenizer_path, workdir.target_tokenizer_path


def _settings(
    checkpoint: Checkpoint,
    config: Config,
    supernet: Network,
    tokenizers: list[Bpe],
    paths: list[epath.Path],
) -> Config:
    """`config` with the model's own settings."""
    arguments, joint = checkpoint.arguments, len(tokenizers) == 1
    source, target = tokenizers[0].languages
    data = dataclasses.replace(
        config.data,
        source_language=source,
        target_language=target,
        vocab_size=tokenizers[0].size,
        joint_vocabulary=joint,
        target_vocab_size=0 if joint else tokenizers[-1].size,
        tokenizer=str(paths[0]),
        target_tokenizer="" if joint else str(paths[-1]),
    )
    model = dataclasses.replace(
        config.model,
        dropout=float(getattr(arguments, "dropout", config.model.dropout)),
        attention_dropout=float(getattr(arguments, "attention_dropout", 0.0)),
        activation_dropout=float(getattr(arguments, "activation_dropout", 0.0)),
        norm=supernet.spec.norm,
        shared_embeddings=supernet.spec.shared_embeddings,
    )
    return dataclasses.replace(
        config,
        data=data,
        model=model,
        space=supernet.spec.space,
        router=supernet.spec.router,
        # the originals sample from the whole space
        supernet=dataclasses.replace(config.supernet, within_limits=False),
    )


def _tokenizers(checkpoint: Checkpoint, vocabulary: Vocabulary, supernet: Network) -> list[Bpe]:
    """The tokenizer of both languages, or those of source and target; raises `UserError` if their
    sizes are not those of the tables.
    """
    spec, given = supernet.spec, vocabulary
    words = words_of(checkpoint.arguments, given.words)
    languages = languages_of(checkpoint.arguments, (given.source_language, given.target_language))
    codes = _codes(given.codes)
    files = [("dictionary", given.dictionary, spec.vocab_size)]
    if given.target_dictionary is not None:
        files.append(("target_dictionary", given.target_dictionary, spec.target_size))
    elif spec.target_size != spec.vocab_size:
        raise UserError(
            f"the model's target has a vocabulary of its own, of {spec.target_size} pieces; name"
            " its dict.txt with --target_dictionary"
        )
    return [_tokenizer(*file, codes, words, languages) for file in _separate(files, supernet)]


def _separate(files: list[tuple[str, str, int]], supernet: Network) -> list[tuple[str, str, int]]:
    """The dictionaries to use: a single one where all tables are one."""
    if supernet.spec.shared_embeddings != "all" or len(files) == 1:
        return files
    (_, one, _), (_, other, _) = files
    if pathlib.Path(one).read_bytes() != pathlib.Path(other).read_bytes():
        raise UserError(
            f"--target_dictionary={other} differs from --dictionary={one}, but the model has one"
            " table for both languages; leave it out"
        )
    return files[:1]


def _tokenizer(
    name: str, path: str, rows: int, codes: Codes | None, words: Words, languages: tuple[str, str]
) -> Bpe:
    symbols = parse_dictionary(_text(name, path), f"--{name}={path}")
    tokenizer = Bpe(symbols, codes, words, languages)
    if tokenizer.size != rows:
        raise UserError(
            f"--{name}={path} has {tokenizer.size} pieces with the four special ones, and the"
            f" model's table {rows}; give the dictionary that the model was trained with"
        )
    return tokenizer


def _codes(path: str | None) -> Codes | None:
    if path is None:
        return None
    return parse_codes(_text("codes", path), f"--codes={path}")


def _text(name: str, path: str) -> str:
    try:
        return pathlib.Path(path).read_bytes().decode()
    except OSError as error:
        raise UserError(
            f"--{name}={path} cannot be read ({error.strerror}); name an existing file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"--{name}={path} is not UTF-8 (byte {error.start}); convert it, with iconv for example"
        ) from None
