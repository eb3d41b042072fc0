"""prepare: the configured corpus → tokenizer, token ids, text and statistics."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

from automoe_jax.config import Config
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.corpus import describe, filtered, load_corpus
from automoe_jax.data.labels import Labels
from automoe_jax.data.tokenizer import train_tokenizer
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import is_local
from automoe_jax.workdir import SPLITS, Workdir, write_json


def run(config: Config, workdir: Workdir) -> None:
    """Leaves `data/` in the workdir. Sentences beyond the last bucket are counted, and left out of
    training and validation, or cut.
    """
    with _cache(workdir) as folder:
        corpus = load_corpus(config.data, folder, config.task)
    labels = Labels.of(corpus.train.target) if config.task == "classify" else None
    if labels:
        write_json(workdir.labels_path, labels.names)
    pieces = train_tokenizer(corpus.train.lines(), config.data.vocab_size, workdir.tokenizer_path)
    tokenizer, longest = workdir.tokenizer(), config.data.buckets[-1]
    too_long = {}
    for split in SPLITS:
        pairs = getattr(corpus, split)
        if labels:
            pairs = filtered(
                pairs,
                corpus.statistics["preparation"],
                f"{split}: of unknown classes",
                lambda _, name: name in labels.names,
            )
        tokens, too_long[split] = TokenPairs.from_pairs(pairs, tokenizer, longest, labels)
        if not len(tokens):
            raise UserError(
                f"no {split} sentence fits into config.data.buckets={config.data.buckets}; add a"
                " longer bucket"
            )
        tokens.save(workdir.tokens_path(split))
        if split != "train":
            write_json(
                workdir.text_path(split),
                {"source": list(pairs.source), "target": list(pairs.target)},
            )
    statistics = corpus.statistics | {
        "vocabulary": pieces,
        f"pairs beyond {longest} tokens": too_long,
    }
    write_json(workdir.statistics_path, statistics)
    print(describe(statistics), flush=True)


@contextlib.contextmanager
def _cache(workdir: Workdir) -> Iterator[pathlib.Path]:
    """Where downloads are kept: in the workdir, or for a bucket in a folder that lasts as long as
    the block.
    """
    if is_local(workdir.root):
        yield pathlib.Path(workdir.root) / "downloads"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)
