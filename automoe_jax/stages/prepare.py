"""prepare: the configured corpus → tokenizer, token ids, text and statistics."""

import contextlib
import math
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from etils import epath
from tqdm import tqdm

from automoe_jax.config import MOST_TRANSLATIONS, STAGES, Config
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.corpus import (
    OVERLAPPING,
    SPLITS,
    Corpus,
    Pairs,
    describe,
    filtered,
    load_corpus,
)
from automoe_jax.data.labels import Labels
from automoe_jax.data.lexicon import ITERATIONS, frequent_targets, word_translations
from automoe_jax.data.origin import digests
from automoe_jax.data.rules import describe as removals_in_short
from automoe_jax.data.tokenizer import (
    SPECIAL_IDS,
    SeparateTokenizers,
    Tokenizer,
    train_tokenizer,
)
from automoe_jax.errors import UserError
from automoe_jax.inference.engine.shortlist import Shortlist
from automoe_jax.latency.search import search_conditions
from automoe_jax.runtime.files import atomic_writer, is_local, read_json, write_json
from automoe_jax.search.limits import COSTS, check_limits, cost_function
from automoe_jax.workdir import Workdir

# A larger share of a split that is left out deserves a warning.
_QUIET_SHARE = 0.03
_QUIET_SECONDS = 5  # before a progress bar appears
_LEAST_CLASSES = 2
_LEFT_OUT = "left out"
# A vocabulary smaller than asked has a multiple of this many pieces, which meshes divide.
_VOCABULARY_MULTIPLE = 8
# Names in the statistics.
VOCABULARIES = JOINT, SOURCE, TARGET = ("vocabulary", "source vocabulary", "target vocabulary")


def run(config: Config, workdir: Workdir) -> None:
    """Writes `data/` in the workdir. Sentences beyond the last bucket are counted, and left out of
    training and validation, or cut.

    Raises `UserError` with the cause if a split is empty.
    """
    with _cache(workdir) as folder:
        corpus = load_corpus(config.data, folder, config.task)
    files = digests(config.data)
    _check_there_is_text(corpus, config)
    _check_same_text(corpus, workdir)
    labels = _labels(corpus) if config.task == "classify" else None
    if labels:
        write_json(workdir.labels_path, labels.names)
    vocabularies = _vocabularies(corpus, config, workdir)
    before = _pieces_in_use(workdir)
    for stale in (workdir.target_tokenizer_path, workdir.shortlist_path):
        stale.unlink(missing_ok=True)  # of settings that have changed
    pieces = {one: _write_tokenizer(one, config, before.get(one.name)) for one in vocabularies}
    use = {split: _write_split(split, corpus, labels, config, workdir) for split in SPLITS}
    if config.task == "translate":
        _write_shortlist(workdir)
    longest = config.data.buckets[-1]
    statistics = corpus.statistics | {
        "files": files,
        **{one.name: count for one, count in pieces.items()},
        **{f"{one.name} asked for": one.asked(config) for one in vocabularies},
        f"pairs beyond {longest} tokens": {name: counts.too_long for name, counts in use.items()},
        "use": {name: counts._asdict() for name, counts in use.items()},
    }
    write_json(workdir.cleaning_path, corpus.removals)
    write_json(workdir.statistics_path, statistics)
    print(describe(statistics), flush=True)
    if left_out := removals_in_short(corpus.removals):
        print(f"left out, with an example of each (more in {workdir.cleaning_path}):")
        print("\n".join(left_out), flush=True)
    print("\n".join(_summary(pieces, use, config)), flush=True)
    for line in _costs(config, workdir):
        print(line, flush=True)
    for warning in _warnings(use, corpus.statistics["preparation"], config):
        print(f"warning: {warning}", file=sys.stderr, flush=True)


class Vocabulary(NamedTuple):
    """The pieces of one tokenizer."""

    name: str  # in the statistics
    setting: str  # of `config.data`: the number of pieces asked for
    lines: Callable[[], Iterable[str]]  # the text that the pieces are learnt from
    path: epath.Path  # of the tokenizer
    given: str = ""  # file of a tokenizer that is used as it is

    def asked(self, config: Config) -> int:
        """The number of pieces asked for."""
        return getattr(config.data, self.setting)


class Use(NamedTuple):
    """Numbers of pairs of a split."""

    pairs: int
    unknown_class: int  # left out
    too_long: int  # beyond the last bucket
    used: int


def _labels(corpus: Corpus) -> Labels:
    labels = Labels.of(corpus.train.target)
    if len(labels.names) < _LEAST_CLASSES:
        raise UserError(
            f"the training text has one class only, {labels.names[0]!r}; give text of two classes"
            " or more"
        )
    return labels


def _write_split(
    split: str, corpus: Corpus, labels: Labels | None, config: Config, workdir: Workdir
) -> Use:
    """Writes the tokens of a split, and the text of those that are evaluated."""
    given = getattr(corpus, split)
    pairs = _of_known_classes(given, corpus, split, labels) if labels else given
    longest = config.data.buckets[-1]
    tokens, too_long = TokenPairs.from_pairs(pairs, workdir.tokenizer(), longest, labels)
    if not len(tokens):
        raise UserError(_nothing_fits(pairs, workdir.tokenizer(), split, config))
    tokens.save(workdir.tokens_path(split))
    if split != "train":
        lines = {"source": list(pairs.source), "target": list(pairs.target)}
        write_json(workdir.text_path(split), lines)
    used = len(tokens) if _fate(split, config) == _LEFT_OUT else len(pairs)
    return Use(len(given), len(given) - len(pairs), too_long, used)


def _write_shortlist(workdir: Workdir) -> None:
    """Writes the word translations of the training text for the decoder's shortlist."""
    tokens, tokenizer = workdir.tokens("train"), workdir.tokenizer()
    size = tokenizer.target_vocab_size
    with tqdm(
        desc="word translations",
        total=ITERATIONS,
        unit="iteration",
        file=sys.stderr,
        dynamic_ncols=True,
        delay=_QUIET_SECONDS,
        leave=False,
    ) as bar:
        translations = word_translations(
            tokens, tokenizer.vocab_size, size, MOST_TRANSLATIONS, bar.update
        )
    shortlist = Shortlist(
        always=np.array([*SPECIAL_IDS, *tokenizer.target_byte_pieces()], np.int32),
        frequent=frequent_targets(tokens, size, MOST_TRANSLATIONS),
        translations=translations,
        copies=tokenizer.copies() if isinstance(tokenizer, SeparateTokenizers) else None,
    )
    with atomic_writer(workdir.shortlist_path) as file:
        shortlist.save(file)


def _fate(split: str, config: Config) -> str:
    """Treatment, in words, of the pairs of a split that are longer than the last bucket."""
    if config.task == "classify":
        return "cut"
    return "translated in parts" if split == "test" else _LEFT_OUT


def _vocabularies(corpus: Corpus, config: Config, workdir: Workdir) -> list[Vocabulary]:
    data, train = config.data, corpus.train
    if data.joint_vocabulary:
        joint = Vocabulary(JOINT, "vocab_size", train.lines, workdir.tokenizer_path, data.tokenizer)
        return [joint]
    own = "target_vocab_size" if data.target_vocab_size else "vocab_size"
    source = Vocabulary(
        SOURCE, "vocab_size", lambda: train.source, workdir.tokenizer_path, data.tokenizer
    )
    target = Vocabulary(
        TARGET, own, lambda: train.target, workdir.target_tokenizer_path, data.target_tokenizer
    )
    return [source, target]


def _pieces_in_use(workdir: Workdir) -> dict[str, int]:
    """The pieces of each vocabulary that results of later stages depend on; empty if there are none
    of these.
    """
    if not workdir.statistics_path.exists() or not _later_stages(workdir):
        return {}
    statistics = read_json(workdir.statistics_path, dict)
    return {name: statistics[name] for name in VOCABULARIES if name in statistics}


def _write_tokenizer(vocabulary: Vocabulary, config: Config, before: int | None) -> int:
    """The number of pieces of the tokenizer that is written: the one given, or a trained one."""
    if not vocabulary.given:
        return _train_tokenizer(vocabulary, config, before)
    name = "target_tokenizer" if vocabulary.name == TARGET else "tokenizer"
    try:
        content = epath.Path(vocabulary.given).read_bytes()
        pieces = Tokenizer(vocabulary.given).vocab_size
    except (OSError, RuntimeError, ValueError, LookupError, TypeError):
        raise UserError(
            f"config.data.{name}={vocabulary.given} is not a tokenizer; name the file"
            " data/tokenizer.model of a workdir, or leave it empty"
        ) from None
    if before not in (None, pieces):
        raise UserError(
            f"config.data.{name}={vocabulary.given} has {pieces} pieces, and the weights of this"
            f" workdir were trained with {before}; give the tokenizer that they were trained with"
        )
    with atomic_writer(vocabulary.path) as file:
        file.write(content)
    return pieces


def _train_tokenizer(vocabulary: Vocabulary, config: Config, before: int | None) -> int:
    """The number of pieces of the tokenizer that is written; `before`, if given: as many as the
    weights of this workdir were trained with.

    Where the text has fewer pieces than asked, unused ones are added, so that devices can share the
    vocabulary evenly (`config.mesh.model`).
    """
    wanted, setting = before or vocabulary.asked(config), f"config.data.{vocabulary.setting}"
    pieces = train_tokenizer(vocabulary.lines(), wanted, vocabulary.path, setting)
    divisor = math.lcm(_VOCABULARY_MULTIPLE, config.mesh.model)
    rounded = before or min(wanted, math.ceil(pieces / divisor) * divisor)
    if pieces == rounded:
        return pieces
    return train_tokenizer(
        vocabulary.lines(), rounded, vocabulary.path, setting, unused=rounded - pieces
    )


def _check_there_is_text(corpus: Corpus, config: Config) -> None:
    for split in SPLITS:
        pairs = getattr(corpus, split)
        for side in (pairs.source, pairs.target):
            blank = next((i for i, line in enumerate(side, start=1) if not line.strip()), 0)
            if blank:
                raise UserError(
                    f"config.data.source={config.data.source!r} gave a blank line in pair {blank}"
                    f" of the {split} text; a source must leave out blank lines"
                )
        if not len(pairs):
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


def _nothing_fits(
    pairs: Pairs, tokenizer: Tokenizer | SeparateTokenizers, split: str, config: Config
) -> str:
    tokens, _ = TokenPairs.from_pairs(pairs, tokenizer, sys.maxsize)
    return (
        f"no {split} sentence fits into config.data.buckets={config.data.buckets}: the shortest of"
        f" its {len(pairs)} pairs has {tokens.lengths().min()} tokens; add a longer bucket"
    )


def _summary(pieces: Mapping[Vocabulary, int], use: Mapping[str, Use], config: Config) -> list[str]:
    """One line about each vocabulary, and one about each split."""
    longest, lines = config.data.buckets[-1], []
    for vocabulary, count in pieces.items():
        asked, unused = vocabulary.asked(config), Tokenizer(vocabulary.path).unused
        line = f"  {vocabulary.name}: {count:,} pieces"
        if vocabulary.given:
            line += f" of {vocabulary.given}"
        elif count != asked or unused:
            line += f" of config.data.{vocabulary.setting}={asked}: the text has no more"
        lines.append(f"{line}; {unused} of them only round up their number" if unused else line)
    for split, counts in use.items():
        line = f"  {split}: {counts.used:,} of {counts.pairs:,} pairs used"
        if counts.unknown_class:
            line += f"; {counts.unknown_class:,} of unknown classes, {_LEFT_OUT}"
        if counts.too_long:
            fate = _fate(split, config)
            line += f"; {counts.too_long:,} longer than {longest} tokens, {fate}"
        lines.append(line)
    return lines


def _costs(config: Config, workdir: Workdir) -> Iterator[str]:
    """A line for the smallest and one for the largest architecture of the space, with their costs.

    Raises `UserError` for a limit that the smallest one exceeds.
    """
    if config.space.size() == 1:
        return
    cost = cost_function(search_conditions(config, workdir, workdir.spec(config)))
    for name, arch in (
        ("smallest", config.space.smallest()),
        ("largest dense", config.space.largest_dense()),
        ("largest", config.space.largest()),
    ):
        costs = (f"{value:.4g} {COSTS[one].unit}" for one, value in cost(arch).items())
        yield f"  {name} architecture: {', '.join(costs)}"
    check_limits(config.space, config.search, cost)


def _warnings(
    use: Mapping[str, Use], preparation: Mapping[str, int], config: Config
) -> Iterator[str]:
    """A sentence for each share of pairs left out above `_QUIET_SHARE`, with the setting that
    changes it.
    """
    buckets = config.data.buckets
    for split, counts in use.items():
        of = f"of {counts.pairs:,} {split} pairs"
        if counts.unknown_class > _QUIET_SHARE * counts.pairs:
            yield (
                f"{counts.unknown_class:,} {of} ({counts.unknown_class / counts.pairs:.0%}) are"
                " left out, of classes that the training text lacks; give training text of them"
            )
        lost = counts.too_long if _fate(split, config) == _LEFT_OUT else 0
        if lost > _QUIET_SHARE * counts.pairs:
            yield (
                f"{lost:,} {of} ({lost / counts.pairs:.0%}) are left out, longer than"
                f" {buckets[-1]} tokens; add a longer bucket to config.data.buckets={buckets}"
            )
    overlapping = preparation.get(OVERLAPPING, 0)
    whole = use["train"].pairs + overlapping
    if overlapping > _QUIET_SHARE * whole:
        yield (
            f"{overlapping:,} of {whole:,} training pairs ({overlapping / whole:.0%}) are left out,"
            " near-duplicates of held-out lines; hold out fewer with config.data.validation_pairs"
            " and config.data.test_pairs, or give text that repeats itself less"
        )


def _check_same_text(corpus: Corpus, workdir: Workdir) -> None:
    """Raises `UserError` if other stages have results of another text than this one."""
    path, later = workdir.statistics_path, _later_stages(workdir)
    if not path.exists() or not later:
        return
    before, now = read_json(path)["fingerprint"], corpus.statistics["fingerprint"]
    if before != now:
        raise UserError(
            f"the text has changed since {later[0]} began in {workdir.root}: its fingerprint was"
            f" {before[:12]} and is {now[:12]}; restore the text (and the version of this package"
            " that prepared it), or name another --workdir"
        )


def _later_stages(workdir: Workdir) -> list[str]:
    """The stages after this one that have results, finished or not."""
    return [stage for stage in STAGES[1:] if workdir.has_begun(stage)]


@contextlib.contextmanager
def _cache(workdir: Workdir) -> Iterator[pathlib.Path]:
    """The folder of downloads: in the workdir, or for a bucket one that is removed afterwards."""
    if is_local(workdir.root):
        yield pathlib.Path(workdir.root) / "downloads"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)
