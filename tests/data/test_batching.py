"""Token pairs, training batches and their exact resumption, evaluation batches."""

import collections
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automoe_jax.data.batching import TokenPairs, evaluation_batches, rows_per_batch, train_batches
from automoe_jax.data.corpus import Labelled, Pairs
from automoe_jax.data.labels import Labels
from automoe_jax.data.tokenizer import EOS, PAD, Tokenizer, train_tokenizer

BUCKETS = (6, 10, 16)
TOKENS = 64


def token_pairs(lengths):
    """Pair i is (i + 10 repeated, i + 10 repeated) of the given (source, target) lengths: every row
    identifies its pair.
    """

    def side(which):
        offsets = np.cumsum([0] + [pair[which] for pair in lengths], dtype=np.int64)
        return np.repeat(np.arange(len(lengths)) + 10, np.diff(offsets)).astype(np.int32), offsets

    return TokenPairs(*side(0), *side(1))


def ids(batch):
    """Indices of the pairs in a batch, without rows of PAD."""
    return [int(row[0]) - 10 for row in batch["source"] if row[0] != PAD]


def same(a, b):
    return all(np.array_equal(a[side], b[side]) for side in ("source", "target"))


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return token_pairs(rng.integers(1, 16, (200, 2)))


def test_a_row_is_tokens_then_eos_then_padding():
    batch = next(train_batches(token_pairs([(2, 3)]), (6,), 6, 0))
    np.testing.assert_array_equal(batch["source"], [[10, 10, EOS, PAD, PAD, PAD]])
    np.testing.assert_array_equal(batch["target"], [[10, 10, 10, EOS, PAD, PAD]])
    assert batch["source"].dtype == batch["target"].dtype == np.int32


def test_shapes_are_the_buckets_and_no_row_would_fit_a_smaller_one(pairs):
    for batch in itertools.islice(train_batches(pairs, BUCKETS, TOKENS, 0), 60):
        rows, bucket = batch["source"].shape
        assert batch["target"].shape == (rows, bucket)
        assert (rows, bucket) in {(10, 6), (6, 10), (4, 16)}
        lengths = pairs.lengths()[ids(batch)]
        assert lengths.max() <= bucket
        assert lengths.min() > max([0, *(other for other in BUCKETS if other < bucket)])


def test_every_pair_comes_once_per_pass_and_passes_differ(pairs):
    drawn = collections.defaultdict(list)
    for batch in itertools.islice(train_batches(pairs, BUCKETS, TOKENS, 0), 400):
        drawn[batch["source"].shape[1]] += ids(batch)
    sizes = [
        int(np.sum((pairs.lengths() > low) & (pairs.lengths() <= high)))
        for low, high in zip((0, *BUCKETS), BUCKETS, strict=False)
    ]
    for bucket, size in zip(BUCKETS, sizes, strict=True):
        passes = [drawn[bucket][start : start + size] for start in range(0, 3 * size, size)]
        assert all(sorted(one) == sorted(set(one)) and len(one) == size for one in passes)
        assert passes[0] != passes[1]
        assert set(passes[0]) == set(passes[1])


def test_sentences_of_all_lengths_come_equally_often(pairs):
    count = collections.Counter(
        i
        for batch in itertools.islice(train_batches(pairs, BUCKETS, TOKENS, 0), 1000)
        for i in ids(batch)
    )
    visits = np.array([count[i] for i in range(len(pairs))])
    assert visits.min() >= 0.9 * visits.mean()
    assert visits.max() <= 1.1 * visits.mean()


def test_shapes_do_not_come_in_long_runs(pairs):
    shapes = [
        batch["source"].shape[1]
        for batch in itertools.islice(train_batches(pairs, BUCKETS, TOKENS, 0), 300)
    ]
    rarest = min(collections.Counter(shapes).values()) / len(shapes)
    assert max(len(list(run)) for _, run in itertools.groupby(shapes)) <= 2 / rarest


@pytest.mark.parametrize("read_ahead", [0, 1, 5])
@pytest.mark.parametrize("consumed", [0, 1, 7, 83])
def test_resumes_with_the_exact_next_batch(pairs, consumed, read_ahead):
    """Batch 83 is in the third pass."""
    uninterrupted = list(
        itertools.islice(train_batches(pairs, BUCKETS, TOKENS, 5, read_ahead=4), consumed + 20)
    )
    iterator = train_batches(pairs, BUCKETS, TOKENS, 5, read_ahead=read_ahead)
    for _ in range(consumed):
        next(iterator)
    state = iterator.get_state()
    next(iterator)
    resumed = train_batches(pairs, BUCKETS, TOKENS, 5, read_ahead=read_ahead)
    resumed.set_state(state)
    assert all(
        same(a, b)
        for a, b in zip(uninterrupted[consumed:], itertools.islice(resumed, 20), strict=True)
    )


def test_the_order_depends_on_the_seed(pairs):
    first, again, other = (
        list(itertools.islice(train_batches(pairs, BUCKETS, TOKENS, seed), 5)) for seed in (0, 0, 1)
    )
    assert all(map(same, first, again))
    assert not all(map(same, first, other))


@pytest.mark.parametrize("count", [2, 4])
def test_what_processes_hold_is_the_batch_of_one(pairs, count):
    """Row for row; a position saved by one process is valid for all."""
    whole = train_batches(pairs, BUCKETS, TOKENS, 0, multiple_of=4)
    shards = [
        train_batches(
            pairs,
            BUCKETS,
            TOKENS,
            0,
            multiple_of=4,
            held=lambda rows, i=i: np.arange(rows)[i::count],
        )
        for i in range(count)
    ]
    for _ in range(40):
        batch, parts = next(whole), [next(shard) for shard in shards]
        for i, part in enumerate(parts):
            assert same(part, {side: tokens[i::count] for side, tokens in batch.items()})
    assert all(shard.get_state() == whole.get_state() for shard in shards)
    alone = train_batches(pairs, BUCKETS, TOKENS, 0, multiple_of=4)
    alone.set_state(shards[1].get_state())
    assert same(next(alone), next(whole))


def test_a_bucket_without_a_full_batch_joins_the_next_one():
    few = token_pairs([(2, 2)] * 3 + [(8, 8)] * 30)
    batches = list(itertools.islice(train_batches(few, BUCKETS, TOKENS, 0), 11))
    assert {batch["source"].shape for batch in batches} == {(6, 10)}
    assert {number for batch in batches for number in ids(batch)} == set(range(33))


@pytest.mark.parametrize("lengths", [[(2, 2)], [(2, 2)] * 30 + [(15, 3)], [(9, 1)] * 3])
def test_a_last_bucket_without_a_full_batch_repeats_its_sentences(lengths):
    drawn = list(itertools.islice(train_batches(token_pairs(lengths), BUCKETS, TOKENS, 0), 60))
    assert all(
        len(ids(batch)) == rows_per_batch(batch["source"].shape[1], TOKENS) for batch in drawn
    )
    longest = max(map(max, lengths)) + 1
    assert min(bucket for bucket in BUCKETS if bucket >= longest) in {
        batch["source"].shape[1] for batch in drawn
    }


def test_rows_are_a_multiple_of_the_devices(pairs):
    batch = next(train_batches(pairs, BUCKETS, TOKENS, 0, multiple_of=4))
    assert batch["source"].shape in {(8, 6), (4, 10), (4, 16)}
    with pytest.raises(
        ValueError, match="tokens_per_batch=64 cannot hold 8 sentences of 10 tokens"
    ):
        train_batches(pairs, BUCKETS, TOKENS, 0, multiple_of=8)


def test_too_long_pairs_and_no_pairs_are_refused(pairs):
    with pytest.raises(ValueError, match="a pair of 16 tokens exceeds the last bucket, 10"):
        train_batches(pairs, (6, 10), TOKENS, 0)
    with pytest.raises(ValueError, match="no pairs"):
        train_batches(token_pairs([]), BUCKETS, TOKENS, 0)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=60),
    st.sampled_from([0, 1, 100, 300]),
)
def test_evaluation_takes_every_pair_at_most_once(lengths, max_tokens):
    # One token more than drawn, so that every row identifies its pair.
    few = token_pairs([(source + (source < 15), target) for source, target in lengths])
    batches = evaluation_batches(few, BUCKETS, TOKENS, max_tokens)
    numbers = [number for batch in batches for number in ids(batch)]
    assert len(numbers) == len(set(numbers))
    assert {batch["source"].shape for batch in batches} <= {(10, 6), (6, 10), (4, 16)}
    if not max_tokens:
        assert sorted(numbers) == list(range(len(few)))
    for batch in batches:
        for source, target in zip(batch["source"], batch["target"], strict=True):
            assert np.sum(source == EOS) == np.sum(target == EOS) == int(source[0] != PAD)


def test_evaluation_keeps_the_order_and_fills_up_with_padding(pairs):
    batches = evaluation_batches(pairs, BUCKETS, TOKENS)
    for bucket in BUCKETS:
        mine = [batch for batch in batches if batch["source"].shape[1] == bucket]
        numbers = [number for batch in mine for number in ids(batch)]
        assert numbers == sorted(numbers)
        assert all((batch["target"] != PAD).any(axis=1).all() for batch in mine[:-1])


def test_a_subset_is_spread_over_the_text_and_of_about_the_asked_size(pairs):
    batches = evaluation_batches(pairs, BUCKETS, TOKENS, max_tokens=800)
    numbers = sorted(number for batch in batches for number in ids(batch))
    padded = sum(len(ids(batch)) * batch["target"].shape[1] for batch in batches)
    assert 600 <= padded <= 1000
    assert max(np.diff(numbers)) - min(np.diff(numbers)) <= 1
    assert numbers[-1] > 190


def test_from_pairs_leaves_out_what_is_too_long(tmp_path):
    text = Pairs(
        ("the red door", "a very much longer sentence about nothing at all", "the key"),
        ("die rote Tür", "kurz", "der Schlüssel"),
    )
    train_tokenizer(text.lines(), 310, tmp_path / "model")
    tokenizer = Tokenizer(tmp_path / "model")
    lengths = [len(line) + 1 for line in tokenizer.encode(text.source)]
    kept, dropped = TokenPairs.from_pairs(text, tokenizer, lengths[1] - 1)
    assert (len(kept), dropped) == (2, 1)
    assert tokenizer.decode(kept[0][1]) == "die rote Tür"
    assert tokenizer.decode(kept[1][0]) == "the key"
    everything, dropped = TokenPairs.from_pairs(text, tokenizer, lengths[1])
    assert (len(everything), dropped) == (3, 0)
    assert everything.lengths()[1] == lengths[1]
    with pytest.raises(IndexError):
        kept[2]


def test_save_and_load(pairs, tmp_path):
    pairs.save(tmp_path / "new" / "train.npz")
    loaded = TokenPairs.load(tmp_path / "new" / "train.npz")
    assert all(
        np.array_equal(a, b)
        for i in range(len(pairs))
        for a, b in zip(pairs[i], loaded[i], strict=True)
    )
    assert loaded.source_tokens.dtype == np.int32
    assert loaded.target_offsets.dtype == np.int64
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["train.npz"]


def test_a_failed_save_leaves_the_old_file(pairs, tmp_path):
    pairs.save(tmp_path / "train.npz")
    before = (tmp_path / "train.npz").read_bytes()
    broken = TokenPairs(*[np.array([object()])] * 4)
    with pytest.raises(TypeError):
        broken.save(tmp_path / "train.npz", allow_pickle=False)
    assert (tmp_path / "train.npz").read_bytes() == before


def test_text_alone_needs_neither_grain_nor_jax():
    code = (
        "import sys, automoe_jax.data.corpus, automoe_jax.data.toy, automoe_jax.data.text;"
        " print({'jax', 'grain'} & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "set()"
    )


def test_classes_are_targets_of_one_token_and_long_texts_are_cut(tmp_path):
    labels = Labels.of(["b", "a", "b"])
    train_tokenizer(["one two three four five six seven"] * 20, 300, tmp_path / "model")
    texts = ("one two three four five six seven", "one")
    pairs, cut = TokenPairs.from_pairs(
        Labelled(texts, ("b", "a")), Tokenizer(tmp_path / "model"), 4, labels
    )
    assert cut == 1
    assert [len(pairs[i][0]) for i in range(2)] == [3, 1]
    pairs.save(tmp_path / "pairs.npz")
    batches = [
        next(train_batches(TokenPairs.load(tmp_path / "pairs.npz"), (2, 4), 8, 0)),
        *evaluation_batches(pairs, (4,), 12),
    ]
    assert all(batch["target"].shape == (len(batch["source"]), 1) for batch in batches)
    np.testing.assert_array_equal(batches[-1]["target"], [[5], [4], [PAD]])
    assert [labels.name(int(number)) for number in batches[-1]["target"][:2, 0]] == ["b", "a"]
    assert labels.size == 6
