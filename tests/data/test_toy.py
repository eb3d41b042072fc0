"""The generated grammar: correct German, no leak between the splits, deterministic."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, toy
from automoe_jax.data.toy import Clause, NounPhrase, Sentence, english, german
from automoe_jax.errors import UserError

SMALL = DataConfig(pairs=3000, validation_pairs=200, test_pairs=200, seed=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return corpus.load_corpus(SMALL, tmp_path_factory.mktemp("cache"))


def phrase(noun, determiner="the", adjective="", modifier="", plural=False):
    return NounPhrase(noun, determiner, adjective, modifier, plural)


MAN, WOMEN = phrase("man", adjective="old"), phrase("woman", "two", plural=True)
BUYS = Clause(MAN, "buy", thing=phrase("table", "a", "new", "kitchen"))
OPENS = Clause(phrase("child", "my"), "open", thing=phrase("door", "this"), negated=True)
HELPS = Clause(
    NounPhrase("she"), "help", "perfect", person=phrase("teacher", "these", "good", plural=True)
)
GIVES = Clause(
    WOMEN,
    "give",
    "want to",
    person=phrase("girl"),
    thing=phrase("cup", "two", "red", plural=True),
    time="today",
)
COMES = Clause(NounPhrase("I"), "come", "perfect", preposition="in", place=phrase("garden"))


@pytest.mark.parametrize(
    ("sentence", "expected_english", "expected_german"),
    [
        (
            Sentence(BUYS),
            "The old man buys a new kitchen table.",
            "Der alte Mann kauft einen neuen Küchentisch.",
        ),
        (
            Sentence(OPENS),
            "My child does not open this door.",
            "Mein Kind macht diese Tür nicht auf.",
        ),
        (
            Sentence(HELPS),
            "She has helped these good teachers.",
            "Sie hat diesen guten Lehrern geholfen.",
        ),
        (
            Sentence(GIVES, fronted_time=True),
            "Today two women want to give the girl two red cups.",
            "Heute wollen zwei Frauen dem Mädchen zwei rote Tassen geben.",
        ),
        (
            Sentence(GIVES, question=True),
            "Do two women want to give the girl two red cups today?",
            "Wollen zwei Frauen heute dem Mädchen zwei rote Tassen geben?",
        ),
        (Sentence(COMES), "I have come in the garden.", "Ich bin im Garten gekommen."),
        (
            Sentence(BUYS, "because", OPENS),
            "The old man buys a new kitchen table because my child does not open this door.",
            "Der alte Mann kauft einen neuen Küchentisch, weil mein Kind diese Tür nicht aufmacht.",
        ),
        (
            Sentence(BUYS, "if", HELPS, subordinate_first=True),
            "If she has helped these good teachers, the old man buys a new kitchen table.",
            (
                "Wenn sie diesen guten Lehrern geholfen hat, kauft der alte Mann einen neuen"
                " Küchentisch."
            ),
        ),
        (
            Sentence(Clause(NounPhrase("they"), "say"), "that", GIVES),
            "They say that two women want to give the girl two red cups today.",
            "Sie sagen, dass zwei Frauen heute dem Mädchen zwei rote Tassen geben wollen.",
        ),
    ],
)
def test_grammar(sentence, expected_english, expected_german):
    assert english(sentence) == expected_english
    assert german(sentence) == expected_german


@pytest.mark.parametrize(
    ("determiner", "adjective", "noun", "plural", "nominative", "accusative", "dative"),
    [
        ("the", "small", "man", False, "der kleine Mann", "den kleinen Mann", "dem kleinen Mann"),
        (
            "a",
            "small",
            "man",
            False,
            "ein kleiner Mann",
            "einen kleinen Mann",
            "einem kleinen Mann",
        ),
        (
            "this",
            "young",
            "woman",
            False,
            "diese junge Frau",
            "diese junge Frau",
            "dieser jungen Frau",
        ),
        (
            "my",
            "young",
            "woman",
            False,
            "meine junge Frau",
            "meine junge Frau",
            "meiner jungen Frau",
        ),
        ("the", "good", "child", False, "das gute Kind", "das gute Kind", "dem guten Kind"),
        ("my", "good", "child", False, "mein gutes Kind", "mein gutes Kind", "meinem guten Kind"),
        ("the", "old", "child", True, "die alten Kinder", "die alten Kinder", "den alten Kindern"),
        ("two", "old", "guest", True, "zwei alte Gäste", "zwei alte Gäste", "zwei alten Gästen"),
        ("my", "new", "car", True, "meine neuen Autos", "meine neuen Autos", "meinen neuen Autos"),
    ],
)
def test_declension(determiner, adjective, noun, plural, nominative, accusative, dative):
    declined = phrase(noun, determiner, adjective, plural=plural)
    forms = [toy._german_phrase(declined, case) for case in ("nominative", "accusative", "dative")]
    assert forms == [nominative, accusative, dative]


def test_every_english_sentence_has_one_translation(small):
    translations = collections.defaultdict(set)
    for pairs in (small.train, small.validation, small.test):
        for source, target in pairs:
            translations[source].add(target)
    assert sum(map(len, translations.values())) == 3400


def test_held_out_clauses_are_new_combinations_in_every_clause():
    """Parsed from generated sentences, not from the statistics."""
    seen: dict[str, set] = {}
    for name, size in {"train": 3000, "validation": 200, "test": 200}.items():
        sentences = toy.generate(name, size, 3, toy.random.Random(name), set())
        seen[name] = {clause.combination for sentence in sentences for clause in sentence.clauses}
    assert len(seen["train"]) > 500
    assert min(map(len, seen.values())) > 50
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_held_out_words_all_occur_in_train(small):
    """The combinations are new, not the words."""
    known = {word.lower().strip(".,?") for line in small.train.lines() for word in line.split()}
    unknown = {
        word
        for pairs in (small.validation, small.test)
        for line in pairs.lines()
        for word in line.lower().split()
    }
    assert len({word.strip(".,?") for word in unknown} - known) <= 5


def test_statistics_say_that_nothing_leaks(small):
    assert small.statistics["preparation"]["held-out combinations that occur in train"] == 0
    assert [small.statistics["splits"][name]["pairs"] for name in corpus.SPLITS] == [3000, 200, 200]


def test_sentences_are_short_and_varied(small):
    lengths = [len(line.split()) for line in small.train.source]
    assert min(lengths) >= toy.SHORTEST
    assert max(lengths) <= toy.LONGEST
    for word in ("weil", "dass", "wenn", "hat", "wollen", "auf.", "Küchentisch", "zurück."):
        assert any(word in line.split() for line in small.train.target), word


def test_the_same_seed_gives_the_same_corpus(small, tmp_path):
    assert corpus.load_corpus(SMALL, tmp_path) == small
    assert not list(tmp_path.iterdir())


def test_german_to_english_is_the_same_text_turned_round(tmp_path):
    config = DataConfig(pairs=50, validation_pairs=5, test_pairs=5)
    turned = DataConfig(
        pairs=50, validation_pairs=5, test_pairs=5, source_language="de", target_language="en"
    )
    assert toy.load(config, tmp_path).train.source == toy.load(turned, tmp_path).train.target


def test_other_languages_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"toy.* is English and German, not 'en' and 'fr'"):
        toy.load(DataConfig(target_language="fr"), tmp_path)


def test_more_sentences_than_the_grammar_has_is_an_error():
    everything = _Everything()
    with pytest.raises(UserError, match="too few test sentences for 1 pairs"):
        toy.generate("test", 1, 0, toy.random.Random(0), everything)


class _Everything(set):
    def __contains__(self, item):
        return True


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The old man buys a kitchen table.", "Der alt Mann kaufen ein Küche Tisch."),
        (
            "Does she want to pick up my guests in the evening?",
            "Sie wollen abholen mein Gäste am Abend?",
        ),
        ("I laugh, zebra.", "Ich lachen, zebra."),
        ("", ""),
    ],
)
def test_word_by_word(sentence, expected):
    assert toy.word_by_word(sentence) == expected


@settings(max_examples=50)
@given(st.integers(0, 10**6))
def test_every_word_is_in_the_dictionary(seed):
    (sentence,) = toy.generate("train", 1, 0, toy.random.Random(seed), set())
    words = english(sentence).rstrip(".?").replace(",", "").split()
    words[0] = words[0] if words[0] == "I" else words[0].lower()
    parts = {part for entry in toy.DICTIONARY for part in entry.split()}
    assert set(words) <= parts
