"""prepare: the configured corpus → tokenizer, token ids, text and statistics."""

import contextlib
import math
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping

from automoe_jax.config import Config
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.corpus import OVERLAPPING, Corpus, Pairs, describe, filtered, load_corpus
from automoe_jax.data.labels import Labels
from automoe_jax.data.tokenizer import Tokenizer, train_tokenizer
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import is_local
from automoe_jax.workdir import SPLITS, Workdir, write_json

# A larger share of a split that is left out deserves a warning.
_QUIET_SHARE = 0.03
# A vocabulary smaller than asked has a multiple of this many pieces, which meshes divide.
_VOCABULARY_MULTIPLE = 8


def run(config: Config, workdir: Workdir) -> None:
    """Writes `data/` in the workdir. Sentences beyond the last bucket are counted, and left out of
    training and validation, or cut.

    Raises `UserError` with the cause where nothing of a split remains.
    """
    with _cache(workdir) as folder:
        corpus = load_corpus(config.data, folder, config.task)
    labels = Labels.of(corpus.train.target) if config.task == "classify" else None
    if labels:
        write_json(workdir.labels_path, labels.names)
    _check_there_is_text(corpus)
    pieces = _train_tokenizer(corpus, config, workdir)
    tokenizer, longest = workdir.tokenizer(), config.data.buckets[-1]
    too_long, use = {}, {}
    for split in SPLITS:
        given = getattr(corpus, split)
        pairs = _of_known_classes(given, corpus, split, labels) if labels else given
        tokens, too_long[split] = TokenPairs.from_pairs(pairs, tokenizer, longest, labels)
        if not len(tokens):
            raise UserError(_nothing_fits(pairs, tokenizer, split, config))
        tokens.save(workdir.tokens_path(split))
        if split != "train":
            write_json(
                workdir.text_path(split),
                {"source": list(pairs.source), "target": list(pairs.target)},
            )
        use[split] = {
            "pairs": len(given),
            "of unknown classes": len(given) - len(pairs),
            f"longer than {longest} tokens": len(pairs) - len(tokens),
            "used": len(tokens),
        }
    statistics = corpus.statistics | {
        "vocabulary": pieces,
        "vocabulary asked for": config.data.vocab_size,
        f"pairs beyond {longest} tokens": too_long,
        "use": use,
    }
    write_json(workdir.statistics_path, statistics)
    print(describe(statistics), flush=True)
    print("\n".join(_summary(pieces, use, too_long, config)), flush=True)
    for warning in _warnings(use, corpus.statistics["preparation"], config):
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _train_tokenizer(corpus: Corpus, config: Config, workdir: Workdir) -> int:
    """The number of pieces of the tokenizer that is written to the workdir.

    Where the text has fewer pieces than asked, the rarest few are left out, so that devices can
    share the vocabulary evenly (`config.mesh.model`): what remains is the same BPE, stopped some
    merges earlier.
    """
    path, asked = workdir.tokenizer_path, config.data.vocab_size
    pieces = train_tokenizer(corpus.train.lines(), asked, path)
    excess = pieces % math.lcm(_VOCABULARY_MULTIPLE, config.mesh.model)
    if pieces == asked or not excess:
        return pieces
    # A text of hardly more than its characters has no merges to leave out.
    with contextlib.suppress(UserError):
        return train_tokenizer(corpus.train.lines(), pieces - excess, path)
    return pieces


def _check_there_is_text(corpus: Corpus) -> None:
    for split in SPLITS:
        if not len(getattr(corpus, split)):
            counts = corpus.statistics["preparation"]
            removed = "; ".join(f"{name}: {count}" for name, count in counts.items() if count)
            raise UserError(
                f"no {split} text is left after cleaning ({removed}); give more text, or hold out"
                " less of it with config.data.validation_pairs and config.data.test_pairs"
            )


def _of_known_classes(pairs: Pairs, corpus: Corpus, split: str, labels: Labels) -> Pairs:
    known = set(labels.names)
    counts = corpus.statistics["preparation"]
    kept = filtered(pairs, counts, f"{split}: of unknown classes", lambda _, name: name in known)
    if not len(kept):
        unknown = sorted(set(pairs.target))
        names = ", ".join(map(repr, unknown[:3])) + (" …" if len(unknown) > 3 else "")
        raise UserError(
            f"none of the {len(pairs)} {split} texts has a class that occurs in the training text"
            f" (theirs are {names}; it has {len(labels.names)} others); give more text of each"
            " class, or check that the target names classes"
        )
    return kept


def _nothing_fits(pairs: Pairs, tokenizer: Tokenizer, split: str, config: Config) -> str:
    tokens, _ = TokenPairs.from_pairs(pairs, tokenizer, sys.maxsize)
    return (
        f"no {split} sentence fits into config.data.buckets={config.data.buckets}: the shortest of"
        f" its {len(pairs)} pairs has {tokens.lengths().min()} tokens; add a longer bucket"
    )


def _summary(
    pieces: int,
    use: Mapping[str, Mapping[str, int]],
    too_long: Mapping[str, int],
    config: Config,
) -> list[str]:
    """One line about the vocabulary, and one about each split."""
    asked = config.data.vocab_size
    fewer = "" if pieces == asked else f" of config.data.vocab_size={asked}: the text has no more"
    lines = [f"  vocabulary: {pieces:,} pieces{fewer}"]
    for split, counts in use.items():
        reasons = [
            f"{count:,} left out, {name}"
            for name, count in counts.items()
            if count and name not in ("pairs", "used")
        ]
        if config.task == "classify" and too_long[split]:
            reasons.append(f"{too_long[split]:,} cut to {config.data.buckets[-1]} tokens")
        lines.append(
            f"  {split}: {counts['used']:,} of {counts['pairs']:,} pairs used"
            + "".join(f"; {reason}" for reason in reasons)
        )
    return lines


def _warnings(
    use: Mapping[str, Mapping[str, int]], preparation: Mapping[str, int], config: Config
) -> Iterator[str]:
    """What is left out above `_QUIET_SHARE`, and the setting that changes it."""
    for split, counts in use.items():
        for name, count in counts.items():
            if name not in ("pairs", "used") and count > _QUIET_SHARE * counts["pairs"]:
                way_out = (
                    f"add a longer bucket to config.data.buckets={config.data.buckets}"
                    if name.startswith("longer")
                    else "give training text of these classes"
                )
                yield (
                    f"{count:,} of {counts['pairs']:,} {split} pairs"
                    f" ({count / counts['pairs']:.0%}) are left out, {name}; {way_out}"
                )
    overlapping = preparation.get(OVERLAPPING, 0)
    whole = use["train"]["pairs"] + overlapping
    if overlapping > _QUIET_SHARE * whole:
        yield (
            f"{overlapping:,} of {whole:,} training pairs ({overlapping / whole:.0%}) are left out,"
            " near-duplicates of held-out lines; hold out fewer with config.data.validation_pairs"
            " and config.data.test_pairs, or give text that repeats itself less"
        )


@contextlib.contextmanager
def _cache(workdir: Workdir) -> Iterator[pathlib.Path]:
    """The folder of downloads: in the workdir, or for a bucket one that is removed afterwards."""
    if is_local(workdir.root):
        yield pathlib.Path(workdir.root) / "downloads"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)
