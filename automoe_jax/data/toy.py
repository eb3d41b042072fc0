"""A generated English–German corpus without a download, with the typical grammar of German.

Agreement of subject and verb, three genders, nominative, accusative and dative with their
determiners and adjective endings, verb-second order behind fronted adverbials and clauses,
verb-final order in subordinate clauses, modals and perfects with the other verb at the end,
separable verbs, plurals and noun compounds. One English sentence has exactly one German translation
here, so a model can learn the grammar without guessing.

The test measures grammar, not memory: the (subject, verb, object) lemmas of every clause in
validation and test occur in no clause of the training text. `combination_split` assigns
combinations by hash.
"""

import dataclasses
import functools
import hashlib
import pathlib
import random
from collections.abc import Iterable, Iterator, Sequence

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus
from automoe_jax.data.cleaning import duplicate_key
from automoe_jax.errors import UserError

DEFAULT_PAIRS = 20_000
SHORTEST, LONGEST = 4, 14  # words of an English sentence
# Percentages of the (subject, verb, object) combinations for validation and for test.
_VALIDATION_PERCENT, _TEST_PERCENT = 8, 8
# Unsuccessful draws before the grammar counts as exhausted.
_PATIENCE = 2_000


@dataclasses.dataclass(frozen=True)
class Noun:
    """A noun in both languages; `gender` is m, f or n."""

    plural: str
    german: str
    german_plural: str
    gender: str


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb in both languages. `complement` is what it needs; `prefix` is the separable prefix; `first`
    and `third` lack it.
    """

    third: str
    participle: str
    infinitive: str
    german_first: str
    german_third: str
    german_participle: str
    complement: str
    prefix: str = ""
    auxiliary: str = "haben"


def _table(kind: type, text: str) -> dict:
    """Rows of 'lemma field field …', cells separated by two spaces or more; '-' is an empty
    cell.
    """
    rows = [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in text.strip().splitlines()
    ]
    return {row[0]: kind(*("" if cell == "-" else cell for cell in row[1:])) for row in rows}


PERSONS: dict[str, Noun] = _table(
    Noun,
    """
    man       men        Mann      Männer      m
    woman     women      Frau      Frauen      f
    child     children   Kind      Kinder      n
    girl      girls      Mädchen   Mädchen     n
    teacher   teachers   Lehrer    Lehrer      m
    doctor    doctors    Arzt      Ärzte       m
    friend    friends    Freund    Freunde     m
    sister    sisters    Schwester  Schwestern  f
    daughter  daughters  Tochter   Töchter     f
    cook      cooks      Koch      Köche       m
    guest     guests     Gast      Gäste       m
    aunt      aunts      Tante     Tanten      f
    """,
)
THINGS: dict[str, Noun] = _table(
    Noun,
    """
    table    tables    Tisch      Tische     m
    chair    chairs    Stuhl      Stühle     m
    lamp     lamps     Lampe      Lampen     f
    door     doors     Tür        Türen      f
    window   windows   Fenster    Fenster    n
    key      keys      Schlüssel  Schlüssel  m
    clock    clocks    Uhr        Uhren      f
    picture  pictures  Bild       Bilder     n
    book     books     Buch       Bücher     n
    letter   letters   Brief      Briefe     m
    apple    apples    Apfel      Äpfel      m
    cup      cups      Tasse      Tassen     f
    bottle   bottles   Flasche    Flaschen   f
    car      cars      Auto       Autos      n
    """,
)
PLACES: dict[str, Noun] = _table(
    Noun,
    """
    kitchen  kitchens  Küche    Küchen    f
    garden   gardens   Garten   Gärten    m
    school   schools   Schule   Schulen   f
    house    houses    Haus     Häuser    n
    office   offices   Büro     Büros     n
    station  stations  Bahnhof  Bahnhöfe  m
    """,
)
NOUNS = PERSONS | THINGS | PLACES
# The first part of a compound, and the things it combines with: "kitchen table", "Küchentisch".
COMPOUND_PARTS = {
    "kitchen": "Küchen",
    "garden": "Garten",
    "school": "Schul",
    "house": "Haus",
    "office": "Büro",
    "station": "Bahnhofs",
}
COMPOUND_HEADS = ("table", "chair", "lamp", "door", "window", "key", "clock", "picture")
# Verbs take: thing (accusative), opening (a door, window or bottle), person (accusative), helped (a
# person, dative),
# both (a person in the dative and a thing in the accusative), nothing, or clause ("that …").
VERBS: dict[str, Verb] = _table(
    Verb,
    """
    see       sees        seen          sehen         sehe       sieht      gesehen        thing
    buy       buys        bought        kaufen        kaufe      kauft      gekauft        thing
    find      finds       found         finden        finde      findet     gefunden       thing
    carry     carries     carried       tragen        trage      trägt      getragen       thing
    sell      sells       sold          verkaufen     verkaufe   verkauft   verkauft       thing
    need      needs       needed        brauchen      brauche    braucht    gebraucht      thing
    look at   looks at    looked at     anschauen     schaue     schaut     angeschaut     thing    an
    bring back  brings back  brought back  zurückbringen  bringe  bringt    zurückgebracht  thing   zurück
    open      opens       opened        aufmachen     mache      macht      aufgemacht     opening  auf
    close     closes      closed        zumachen      mache      macht      zugemacht      opening  zu
    pick up   picks up    picked up     abholen       hole       holt       abgeholt       person   ab
    visit     visits      visited       besuchen      besuche    besucht    besucht        person
    know      knows       known         kennen        kenne      kennt      gekannt        person
    help      helps       helped        helfen        helfe      hilft      geholfen       helped
    thank     thanks      thanked       danken        danke      dankt      gedankt        helped
    give      gives       given         geben         gebe       gibt       gegeben        both
    show      shows       shown         zeigen        zeige      zeigt      gezeigt        both
    send      sends       sent          schicken      schicke    schickt    geschickt      both
    sleep     sleeps      slept         schlafen      schlafe    schläft    geschlafen     nothing
    work      works       worked        arbeiten      arbeite    arbeitet   gearbeitet     nothing
    laugh     laughs      laughed       lachen        lache      lacht      gelacht        nothing
    come      comes       come          kommen        komme      kommt      gekommen       nothing  -  sein
    say       says        said          sagen         sage       sagt       gesagt         clause
    believe   believes    believed      glauben       glaube     glaubt     geglaubt       clause
    hope      hopes       hoped         hoffen        hoffe      hofft      gehofft        clause
    """,
)
OPENINGS = ("door", "window", "bottle")
ADJECTIVES = {
    "old": "alt",
    "new": "neu",
    "small": "klein",
    "big": "groß",
    "beautiful": "schön",
    "good": "gut",
    "red": "rot",
    "young": "jung",
}
_ADJECTIVES_FOR = {
    "person": ("old", "small", "big", "good", "young"),
    "thing": ("old", "new", "small", "big", "beautiful", "red"),
}
# Pronoun: German pronoun, English agreement, German agreement.
PRONOUNS = {
    "I": ("ich", "plural", "first"),
    "we": ("wir", "plural", "plural"),
    "he": ("er", "third", "third"),
    "she": ("sie", "third", "third"),
    "they": ("sie", "plural", "plural"),
}
# Modal: English plural form (also of "I"), English third person, German singular, German plural.
MODALS = {
    "can": ("can", "can", "kann", "können"),
    "must": ("must", "must", "muss", "müssen"),
    "should": ("should", "should", "soll", "sollen"),
    "want to": ("want to", "wants to", "will", "wollen"),
}
TIMES = {
    "today": "heute",
    "tomorrow": "morgen",
    "now": "jetzt",
    "often": "oft",
    "in the evening": "am Abend",
    "every morning": "jeden Morgen",
}
_PAST_TIMES = ("today", "often")
# Preposition: German, its case, whether a person or a place follows.
PREPOSITIONS = {
    "with": ("mit", "dative", "person"),
    "without": ("ohne", "accusative", "person"),
    "for": ("für", "accusative", "person"),
    "in": ("in", "dative", "place"),
    "behind": ("hinter", "dative", "place"),
    "in front of": ("vor", "dative", "place"),
}
CONJUNCTIONS = {"because": "weil", "if": "wenn", "although": "obwohl"}
# English determiner (singular, plural): German stem. The stem and the endings below give every
# form.
_SINGULAR_DETERMINERS = {"the": "d", "this": "dies", "a": "ein", "my": "mein"}
_PLURAL_DETERMINERS = {"the": "d", "these": "dies", "two": "zwei", "my": "mein"}
DETERMINERS = {
    "the": "der",
    "this": "dieser",
    "these": "diese",
    "a": "ein",
    "two": "zwei",
    "my": "mein",
}
# Endings by case for masculine, feminine, neuter, plural.
_ARTICLE = {
    "nominative": ("er", "ie", "as", "ie"),
    "accusative": ("en", "ie", "as", "ie"),
    "dative": ("em", "er", "em", "en"),
}
_THIS = {
    "nominative": ("er", "e", "es", "e"),
    "accusative": ("en", "e", "es", "e"),
    "dative": ("em", "er", "em", "en"),
}
_EIN = {
    "nominative": ("", "e", "", "e"),
    "accusative": ("en", "e", "", "e"),
    "dative": ("em", "er", "em", "en"),
}
_WEAK = {
    "nominative": ("e", "e", "e", "en"),
    "accusative": ("en", "e", "e", "en"),
    "dative": ("en", "en", "en", "en"),
}
_MIXED = {
    "nominative": ("er", "e", "es", "en"),
    "accusative": ("en", "e", "es", "en"),
    "dative": ("en", "en", "en", "en"),
}
_BARE_PLURAL = {"nominative": "e", "accusative": "e", "dative": "en"}


@dataclasses.dataclass(frozen=True)
class NounPhrase:
    """English lemmas. A pronoun is a phrase without determiner."""

    noun: str
    determiner: str = ""
    adjective: str = ""
    modifier: str = ""
    plural: bool = False


@dataclasses.dataclass(frozen=True)
class Clause:
    """One subject and verb with their complements; `tense` is present, perfect or a modal."""

    subject: NounPhrase
    verb: str
    tense: str = "present"
    # the object in the dative, or the accusative of a verb that takes a person
    person: NounPhrase | None = None
    thing: NounPhrase | None = None
    preposition: str = ""
    place: NounPhrase | None = None  # the noun after the preposition
    time: str = ""
    negated: bool = False

    @property
    def combination(self) -> tuple[str, str, str]:
        """(subject, verb, object) lemmas; the object is the thing if there are two, and "" if there
        is none.
        """
        noun = self.thing or self.person
        return self.subject.noun, self.verb, noun.noun if noun else ""


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A main clause, perhaps as a question, perhaps with a subordinate clause before or after
    it.
    """

    main: Clause
    conjunction: str = ""  # of the subordinate clause: because, if, although or that
    subordinate: Clause | None = None
    subordinate_first: bool = False
    fronted_time: bool = False
    question: bool = False

    @property
    def clauses(self) -> tuple[Clause, ...]:
        return (self.main, self.subordinate) if self.subordinate else (self.main,)


def load(config: DataConfig, cache_dir: pathlib.Path) -> corpus.Corpus:
    """The corpus of `config.pairs` training sentences (0: DEFAULT_PAIRS), the same for the same
    seed; writes nothing.
    """
    del cache_dir
    languages = (config.source_language, config.target_language)
    if sorted(languages) != ["de", "en"]:
        raise UserError(
            f"config.data.source='toy' is English and German, not {languages[0]!r} and"
            f" {languages[1]!r}; use 'en' and 'de'"
        )
    wanted = {
        "train": config.pairs or DEFAULT_PAIRS,
        "validation": config.validation_pairs,
        "test": config.test_pairs,
    }
    splits: dict[str, corpus.Pairs] = {}
    sentences: dict[str, list[Sentence]] = {}
    seen: set[str] = set()
    for name, size in wanted.items():
        sentences[name] = generate(
            name, size, config.seed, random.Random(f"{config.seed} {name}"), seen
        )
        pairs = corpus.Pairs(
            tuple(map(english, sentences[name])), tuple(map(german, sentences[name]))
        )
        splits[name] = (
            pairs if config.source_language == "en" else corpus.Pairs(pairs.target, pairs.source)
        )
    combinations = {
        name: {clause.combination for s in kept for clause in s.clauses}
        for name, kept in sentences.items()
    }
    held_out = combinations["validation"] | combinations["test"]
    counts = {f"combinations in {name}": len(kept) for name, kept in combinations.items()}
    counts["held-out combinations that occur in train"] = len(held_out & combinations["train"])
    notes = (
        "combination: (subject, verb, object) lemmas of a clause; every one of validation and test"
        " is new"
    )
    return corpus.finished(
        "toy", splits["train"], splits["validation"], splits["test"], counts, notes
    )


def generate(name: str, size: int, seed: int, rng: random.Random, seen: set[str]) -> list[Sentence]:
    """`size` sentences of the split `name`, with combinations of this split only; adds their
    near-duplicate keys to `seen`.
    """
    sentences: list[Sentence] = []
    misses = 0
    while len(sentences) < size:
        sentence = _draw_sentence(rng, name, seed)
        text = english(sentence)
        key = duplicate_key(text)
        misses += 1
        if key not in seen and SHORTEST <= len(text.split()) <= LONGEST:
            seen.add(key)
            sentences.append(sentence)
            misses = 0
        if misses > _PATIENCE:
            raise UserError(
                f"the toy grammar has too few {name} sentences for {size} pairs; ask for fewer in"
                " config.data"
            )
    return sentences


@functools.cache
def combination_split(combination: tuple[str, str, str], seed: int) -> str:
    """The split whose sentences may use this (subject, verb, object) combination."""
    digest = hashlib.blake2b("\t".join([str(seed), *combination]).encode(), digest_size=8).digest()
    percent = int.from_bytes(digest, "big") % 100
    if percent < _VALIDATION_PERCENT:
        return "validation"
    return "test" if percent < _VALIDATION_PERCENT + _TEST_PERCENT else "train"


# English


def english(sentence: Sentence) -> str:
    """The sentence as English text."""
    if sentence.question:
        return _written(_english_question(sentence.main), "?")
    main = _english_clause(sentence.main, sentence.fronted_time)
    if not sentence.subordinate:
        return _written(main, ".")
    subordinate = f"{sentence.conjunction} {_english_clause(sentence.subordinate)}"
    return _written(
        f"{subordinate}, {main}" if sentence.subordinate_first else f"{main} {subordinate}", "."
    )


def _english_clause(clause: Clause, fronted_time: bool = False) -> str:
    subject = _english_phrase(clause.subject)
    auxiliary, verb = _english_verb(clause)
    words = [
        subject,
        auxiliary,
        "not" if clause.negated else "",
        verb,
        _english_rest(clause, with_time=not fronted_time),
    ]
    return _joined(clause.time if fronted_time else "", *words)


def _english_question(clause: Clause) -> str:
    auxiliary, verb = _english_verb(clause)
    if not auxiliary:
        auxiliary, verb = _do(clause.subject), clause.verb
    elif auxiliary.endswith(" to"):
        auxiliary, verb = _do(clause.subject), f"want to {verb}"
    return _joined(auxiliary, _english_phrase(clause.subject), verb, _english_rest(clause))


def _english_verb(clause: Clause) -> tuple[str, str]:
    """(auxiliary or nothing, main verb) as they follow the subject."""
    verb, third = VERBS[clause.verb], _english_agreement(clause.subject) == "third"
    if clause.tense == "perfect":
        return "has" if third else "have", verb.participle
    if clause.tense in MODALS:
        return MODALS[clause.tense][1 if third else 0], clause.verb
    if clause.negated:
        return _do(clause.subject), clause.verb
    return "", verb.third if third else clause.verb


def _do(subject: NounPhrase) -> str:
    return "does" if _english_agreement(subject) == "third" else "do"


def _english_agreement(phrase: NounPhrase) -> str:
    if phrase.noun in PRONOUNS:
        return PRONOUNS[phrase.noun][1]
    return "plural" if phrase.plural else "third"


def _english_rest(clause: Clause, with_time: bool = True) -> str:
    place = f"{clause.preposition} {_english_phrase(clause.place)}" if clause.place else ""
    objects = [_english_phrase(phrase) for phrase in (clause.person, clause.thing) if phrase]
    return _joined(*objects, place, clause.time if with_time else "")


def _english_phrase(phrase: NounPhrase) -> str:
    if phrase.noun in PRONOUNS:
        return phrase.noun
    noun = NOUNS[phrase.noun].plural if phrase.plural else phrase.noun
    after = phrase.adjective or phrase.modifier or noun
    determiner = "an" if phrase.determiner == "a" and after[0] in "aeiou" else phrase.determiner
    return _joined(determiner, phrase.adjective, phrase.modifier, noun)


# German


def german(sentence: Sentence) -> str:
    """The sentence as German text."""
    main = sentence.main
    subject, finite, middle, final = _german_parts(main, with_time=not sentence.fronted_time)
    if sentence.question:
        return _written(_joined(finite, subject, middle, final), "?")
    if sentence.fronted_time:
        return _written(_joined(TIMES[main.time], finite, subject, middle, final), ".")
    if not sentence.subordinate:
        return _written(_joined(subject, finite, middle, final), ".")
    subordinate = _german_subordinate(sentence.conjunction, sentence.subordinate)
    if sentence.subordinate_first:
        return _written(f"{subordinate}, {_joined(finite, subject, middle, final)}", ".")
    return _written(f"{_joined(subject, finite, middle, final)}, {subordinate}", ".")


def _german_subordinate(conjunction: str, clause: Clause) -> str:
    """Verb-final order; a separable prefix joins its verb again."""
    subject, finite, middle, final = _german_parts(clause)
    prefix = VERBS[clause.verb].prefix
    ending = f"{prefix}{finite}" if clause.tense == "present" else _joined(final, finite)
    return _joined(
        "dass" if conjunction == "that" else CONJUNCTIONS[conjunction], subject, middle, ending
    )


def _german_parts(clause: Clause, with_time: bool = True) -> tuple[str, str, str, str]:
    """(subject, finite verb, middle field, end of a main clause)."""
    verb = VERBS[clause.verb]
    person = (
        _german_phrase(clause.person, "accusative" if verb.complement == "person" else "dative")
        if clause.person
        else ""
    )
    thing = _german_phrase(clause.thing, "accusative") if clause.thing else ""
    time = TIMES[clause.time] if clause.time and with_time else ""
    middle = _joined(time, person, thing, _german_place(clause), "nicht" if clause.negated else "")
    finite, final = _german_verb(clause)
    return _german_phrase(clause.subject, "nominative"), finite, middle, final


def _german_place(clause: Clause) -> str:
    if not clause.place:
        return ""
    preposition, case, _ = PREPOSITIONS[clause.preposition]
    return _joined(preposition, _german_phrase(clause.place, case)).replace("in dem ", "im ")


def _german_verb(clause: Clause) -> tuple[str, str]:
    """(the finite verb, the verb or prefix at the end of a main clause)."""
    verb, agreement = VERBS[clause.verb], _german_agreement(clause.subject)
    if clause.tense == "perfect":
        forms = {"haben": ("habe", "hat", "haben"), "sein": ("bin", "ist", "sind")}[verb.auxiliary]
        return _conjugated(forms, agreement), verb.german_participle
    if clause.tense in MODALS:
        _, _, singular, plural = MODALS[clause.tense]
        return _conjugated((singular, singular, plural), agreement), verb.infinitive
    forms = (verb.german_first, verb.german_third, verb.infinitive.removeprefix(verb.prefix))
    return _conjugated(forms, agreement), verb.prefix


def _conjugated(forms: tuple[str, str, str], agreement: str) -> str:
    return forms[("first", "third", "plural").index(agreement)]


def _german_agreement(phrase: NounPhrase) -> str:
    if phrase.noun in PRONOUNS:
        return PRONOUNS[phrase.noun][2]
    return "plural" if phrase.plural else "third"


def _german_phrase(phrase: NounPhrase, case: str) -> str:
    if phrase.noun in PRONOUNS:
        return PRONOUNS[phrase.noun][0]
    noun = NOUNS[phrase.noun]
    form = "mfn".index(noun.gender) if not phrase.plural else 3
    stem = (_PLURAL_DETERMINERS if phrase.plural else _SINGULAR_DETERMINERS)[phrase.determiner]
    endings, adjective_endings = {"d": (_ARTICLE, _WEAK), "dies": (_THIS, _WEAK)}.get(
        stem, (_EIN, _MIXED)
    )
    determiner, ending = stem + endings[case][form], adjective_endings[case][form]
    if stem == "zwei":
        determiner, ending = stem, _BARE_PLURAL[case]
    adjective = ADJECTIVES[phrase.adjective] + ending if phrase.adjective else ""
    return _joined(determiner, adjective, _german_noun(phrase, case))


def _german_noun(phrase: NounPhrase, case: str) -> str:
    noun = NOUNS[phrase.noun]
    word = noun.german_plural if phrase.plural else noun.german
    if phrase.plural and case == "dative" and not word.endswith(("n", "s")):
        word += "n"
    return COMPOUND_PARTS[phrase.modifier] + word.lower() if phrase.modifier else word


# Drawing sentences

_SHAPES = {"plain": 25, "fronted": 20, "question": 10, "after": 15, "before": 15, "that": 15}
_SPEECH_VERBS = tuple(verb for verb, entry in VERBS.items() if entry.complement == "clause")
_OTHER_VERBS = tuple(verb for verb, entry in VERBS.items() if entry.complement != "clause")
_TENSES = {"present": 40, "perfect": 28} | dict.fromkeys(MODALS, 8)


def _draw_sentence(rng: random.Random, name: str, seed: int) -> Sentence:
    shape = _weighted(rng, _SHAPES)
    if shape == "that":
        return Sentence(
            _draw_clause(rng, name, seed, "speech"), "that", _draw_clause(rng, name, seed, "short")
        )
    if shape in ("after", "before"):
        conjunction = _pick(rng, tuple(CONJUNCTIONS))
        main, subordinate = (
            _draw_clause(rng, name, seed, "short"),
            _draw_clause(rng, name, seed, "short"),
        )
        return Sentence(main, conjunction, subordinate, subordinate_first=shape == "before")
    main = _draw_clause(rng, name, seed, "long")
    if shape == "question":
        return Sentence(dataclasses.replace(main, negated=False), question=True)
    if shape == "fronted":
        time = main.time or _draw_time(rng, main.tense)
        return Sentence(dataclasses.replace(main, time=time), fronted_time=True)
    return Sentence(main)


def _draw_clause(rng: random.Random, name: str, seed: int, size: str) -> Clause:
    """A clause whose combination belongs to the split `name`; `size` is long, short or speech ("the
    man says").
    """
    while True:
        subject, verb, person, thing = _draw_lemmas(rng, size)
        if combination_split((subject, verb, thing or person), seed) == name:
            break
    clause = Clause(
        NounPhrase(subject) if subject in PRONOUNS else _draw_phrase(rng, subject, "person", size),
        verb,
        person=_draw_phrase(rng, person, "person", size) if person else None,
        thing=_draw_phrase(rng, thing, "thing", size) if thing else None,
    )
    return clause if size == "speech" else _with_circumstances(rng, clause, size)


def _draw_lemmas(rng: random.Random, size: str) -> tuple[str, str, str, str]:
    """(subject, verb, person or "", thing or "")."""
    subject = _pick(rng, tuple(PRONOUNS) if rng.random() < 0.3 else tuple(PERSONS))
    verb = _pick(rng, _SPEECH_VERBS if size == "speech" else _OTHER_VERBS)
    kind = VERBS[verb].complement
    person = _pick_other(rng, PERSONS, subject) if kind in ("person", "helped", "both") else ""
    thing = (
        _pick(rng, OPENINGS if kind == "opening" else tuple(THINGS))
        if kind in ("thing", "both", "opening")
        else ""
    )
    return subject, verb, person, thing


def _with_circumstances(rng: random.Random, clause: Clause, size: str) -> Clause:
    """Adds tense, time, place and negation; a short clause gets at most one of the last three."""
    tense = _weighted(rng, _TENSES)
    time = _draw_time(rng, tense) if rng.random() < (0.3 if size == "long" else 0.1) else ""
    clause = dataclasses.replace(clause, tense=tense, time=time)
    empty = VERBS[clause.verb].complement == "nothing"
    if rng.random() < (0.35 if size == "long" or empty else 0.1):
        return _with_place(rng, clause)
    objects = [phrase for phrase in (clause.person, clause.thing) if phrase]
    definite = all(phrase.determiner in ("the", "this", "these", "my") for phrase in objects)
    may_negate = definite and tense not in MODALS
    return dataclasses.replace(clause, negated=may_negate and rng.random() < 0.3)


def _with_place(rng: random.Random, clause: Clause) -> Clause:
    preposition = _pick(rng, tuple(PREPOSITIONS))
    _, _, follows = PREPOSITIONS[preposition]
    noun = _pick_other(
        rng,
        PERSONS if follows == "person" else PLACES,
        clause.subject.noun,
        clause.person.noun if clause.person else "",
    )
    return dataclasses.replace(
        clause, preposition=preposition, place=_draw_phrase(rng, noun, follows, "short")
    )


def _draw_phrase(rng: random.Random, noun: str, kind: str, size: str) -> NounPhrase:
    plural = rng.random() < 0.25
    determiner = _pick(rng, tuple(_PLURAL_DETERMINERS if plural else _SINGULAR_DETERMINERS))
    adjective = modifier = ""
    if kind != "place" and rng.random() < (0.4 if size == "long" else 0.2):
        adjective = _pick(rng, _ADJECTIVES_FOR[kind])
    if noun in COMPOUND_HEADS and rng.random() < 0.4:
        modifier = _pick(rng, tuple(COMPOUND_PARTS))
    return NounPhrase(noun, determiner, adjective, modifier, plural)


def _draw_time(rng: random.Random, tense: str) -> str:
    return _pick(rng, _PAST_TIMES if tense == "perfect" else tuple(TIMES))


def _weighted(rng: random.Random, shares: dict[str, int]) -> str:
    """One of the names, with probability proportional to its share."""
    rank = rng.random() * sum(shares.values())
    for name, share in shares.items():
        rank -= share
        if rank < 0:
            return name
    return name


def _pick_other(rng: random.Random, choices: Iterable[str], *taken: str) -> str:
    return _pick(rng, [choice for choice in choices if choice not in taken])


def _pick(rng: random.Random, choices: Sequence[str]) -> str:
    return choices[int(rng.random() * len(choices))]


# The dictionary


def word_by_word(sentence: str) -> str:
    """Each English word or fixed expression replaced by its German dictionary form, in the same
    order.

    A baseline with vocabulary but without grammar: nouns keep their number, verbs become
    infinitives, articles nominative and masculine. Words outside the lexicon are unchanged.
    """
    text = sentence.strip()
    end = text[-1:] if text[-1:] in (".", "?") else ""
    words = text.removesuffix(end).replace(",", " ,").split()
    if words and words[0] != "I":
        words[0] = words[0].lower()
    return _written(" ".join(_looked_up(words)).replace(" ,", ","), end)


def _looked_up(words: list[str]) -> Iterator[str]:
    """Translations from left to right, the longest entry first."""
    start = 0
    while start < len(words):
        for length in range(min(_LONGEST_ENTRY, len(words) - start), 0, -1):
            entry = " ".join(words[start : start + length])
            if length == 1 or entry in DICTIONARY:
                if translation := DICTIONARY.get(entry, entry):
                    yield translation
                start += length
                break


def _dictionary() -> dict[str, str]:
    entries = {
        "an": "ein",
        "that": "dass",
        "not": "nicht",
        "do": "",
        "does": "",
        "have": "haben",
        "has": "haben",
    }
    for english_noun, noun in NOUNS.items():
        entries |= {english_noun: noun.german, noun.plural: noun.german_plural}
    for english_verb, verb in VERBS.items():
        entries |= dict.fromkeys((english_verb, verb.third, verb.participle), verb.infinitive)
    for plural_form, third, _, infinitive in MODALS.values():
        entries |= {plural_form: infinitive, third: infinitive}
    entries |= {name: translation for name, (translation, *_) in (PRONOUNS | PREPOSITIONS).items()}
    return entries | DETERMINERS | ADJECTIVES | TIMES | CONJUNCTIONS


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _written(text: str, end: str) -> str:
    return text[:1].upper() + text[1:] + end


DICTIONARY = _dictionary()
_LONGEST_ENTRY = max(len(entry.split()) for entry in DICTIONARY)
