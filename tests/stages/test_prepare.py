"""prepare in this process: what it says, counts and refuses."""

import dataclasses
import pathlib

import numpy as np
import pytest
from etils import epath

from automoe_jax.config import (
    MOST_TRANSLATIONS,
    CleaningConfig,
    Config,
    MeshConfig,
    from_config_dict,
)
from automoe_jax.data import corpus
from automoe_jax.data.bpe import Bpe
from automoe_jax.errors import UserError
from automoe_jax.inference.engine.shortlist import load_shortlist
from automoe_jax.runtime.files import read_json
from automoe_jax.stages import prepare
from automoe_jax.workdir import Workdir
from tests.stages import tiny, tiny_classes

WORDS = [a + b + c for a in "bdfgklm" for b in "aeiou" for c in ("ln", "rt", "st", "nk")]
SENTENCES = [
    f"the {word} {other}" for word, other in zip(WORDS, [*WORDS[31:], *WORDS[:31]], strict=True)
]
TRANSLATIONS = [f"das {word} da" for word in WORDS]


def config_of(
    path: pathlib.Path, lines: list[str], module=tiny, held_out: int = 20, **settings: object
) -> Config:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    config = from_config_dict(module.get_config())
    data: dict[str, object] = {
        "source": "text",
        "path": str(path),
        "pairs": 0,
        "validation_pairs": held_out,
        "test_pairs": held_out,
        "vocab_size": 600,
        **settings,
    }
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data))


def pairs_of(sources: list[str], targets: list[str]) -> list[str]:
    return ["\t".join(row) for row in zip(sources, targets, strict=True)]


def prepared(config: Config, folder: pathlib.Path) -> dict:
    workdir = Workdir(epath.Path(folder / "run"))
    prepare.run(config, workdir)
    return read_json(workdir.statistics_path)


def test_all_text_used_is_said_without_a_warning(tmp_path, capsys):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS))
    found = prepared(config, tmp_path)
    said = capsys.readouterr()
    assert "train: 100 of 100 pairs used\n" in said.out
    assert "warning" not in said.err
    assert found["use"]["test"] == {
        "pairs": 20,
        "unknown_class": 0,
        "too_long": 0,
        "used": 20,
    }


def test_what_cleaning_leaves_out_is_said_and_stored_with_examples(tmp_path, capsys):
    rows = pairs_of([*SENTENCES, "OK"], [*TRANSLATIONS, "ok"])
    path = tmp_path / "a.tsv"
    cleaning = CleaningConfig(drop_identical=True)
    config = config_of(path, [*rows, rows[0]], cleaning=cleaning)
    found = prepared(config, tmp_path)
    assert found["preparation"]["pairs of identical sides removed"] == 1
    identical, duplicates, near = read_json(tmp_path / "run/data/cleaning.json")
    assert identical["setting"] == "config.data.cleaning.drop_identical"
    place = f"{path}, line {len(rows)}"
    assert identical["examples"] == [{"place": place, "source": "OK", "target": "ok", "near": ""}]
    assert (duplicates["count"], near["count"]) == (1, 0)
    said = capsys.readouterr().out
    assert f"pairs of identical sides removed: 1 ({identical['setting']})\n" in said
    assert f"    {place}: OK | ok\n" in said


def test_pairs_beyond_the_last_bucket_are_said_with_a_warning(tmp_path, capsys):
    long = [f"{line} " * 40 if i % 4 else line for i, line in enumerate(SENTENCES)]
    config = config_of(tmp_path / "a.tsv", pairs_of(long, TRANSLATIONS))
    found = prepared(config, tmp_path)
    said = capsys.readouterr()
    lost = found["use"]["train"]["too_long"]
    assert lost == found["pairs beyond 72 tokens"]["train"] > 60
    assert found["use"]["train"]["used"] == 100 - lost
    assert f"train: {100 - lost} of 100 pairs used; {lost} longer than 72 tokens, left out\n" in (
        said.out
    )
    # The test text is translated whole.
    assert found["use"]["test"]["used"] == 20
    assert "test: 20 of 20 pairs used; " in said.out
    assert "test pairs" not in said.err
    assert f"warning: {lost} of 100 train pairs ({lost}%) are left out, longer than" in said.err
    assert "add a longer bucket to config.data.buckets=(72,)" in said.err


def test_pairs_lost_as_near_duplicates_are_said_with_a_warning(tmp_path, capsys):
    targets = [line if i % 3 else f"ja {i % 4}!" for i, line in enumerate(TRANSLATIONS)]
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, targets))
    found = prepared(config, tmp_path)
    lost = found["preparation"]["near-duplicates of held-out lines removed"]
    assert lost > 20
    assert f"{lost} of 100 training pairs ({lost}%) are left out, near-duplicates" in (
        capsys.readouterr().err
    )


def test_a_smaller_vocabulary_is_said_and_divisible(tmp_path, capsys):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS), vocab_size=6000)
    for model in (1, 3):
        meshed = dataclasses.replace(config, mesh=MeshConfig(model=model))
        found = prepared(meshed, tmp_path)
        pieces = found["vocabulary"]
        assert 263 < pieces < 6000
        assert pieces % (8 * model) == 0
        tokenizer = Workdir(epath.Path(tmp_path / "run")).tokenizer()
        assert tokenizer.vocab_size == pieces
        assert found["vocabulary asked for"] == 6000
        assert 0 < tokenizer.unused < 8 * model, "rounded up, no piece of the text is left out"
        assert (
            f"vocabulary: {pieces} pieces of config.data.vocab_size=6000: the text has no more;"
            f" {tokenizer.unused} of them only round up their number\n"
        ) in capsys.readouterr().out


def test_a_text_prepared_again_on_another_mesh_has_the_vocabulary_of_the_weights(tmp_path):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS), vocab_size=6000)
    found = prepared(config, tmp_path)
    workdir = Workdir(epath.Path(tmp_path / "run"))
    pieces = workdir.tokenizer_path.read_bytes()
    meshed = dataclasses.replace(config, mesh=MeshConfig(model=5))
    assert found["vocabulary"] % 5, "this mesh would ask for another vocabulary"
    workdir.mark_done("supernet", 1.0)
    assert prepared(meshed, tmp_path)["vocabulary"] == found["vocabulary"]
    assert workdir.tokenizer_path.read_bytes() == pieces


def test_a_vocabulary_that_the_mesh_does_not_divide_is_refused_before_anything():
    settings = tiny.get_config()
    settings.mesh.model, settings.data.vocab_size = 2, 321
    with pytest.raises(
        UserError, match=r"config.mesh.model=2 must divide config.data.vocab_size=321"
    ):
        from_config_dict(settings)


def test_a_vocabulary_of_characters_only_is_accepted(tmp_path):
    letters = [f"{a} {b}" for a in "abcdefghijkl" for b in "mnopqrstuvwx"]
    config = config_of(tmp_path / "a.tsv", pairs_of(letters, letters), held_out=2, vocab_size=6000)
    assert prepared(config, tmp_path)["vocabulary"] > 263


def test_a_bucket_that_is_too_short_is_named_with_the_shortest_length(tmp_path):
    config = config_of(
        tmp_path / "a.tsv", pairs_of([line * 60 for line in SENTENCES], TRANSLATIONS)
    )
    with pytest.raises(
        UserError,
        match=r"no train sentence fits into config.data.buckets=\(72,\): the shortest of its 100"
        r" pairs has \d+ tokens; add a longer bucket",
    ):
        prepared(config, tmp_path)


def test_a_class_without_training_text_is_named(tmp_path):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, WORDS), tiny_classes, vocab_size=600)
    with pytest.raises(
        UserError, match=r"none of the 20 validation texts has a class .* \(theirs are '\w+', "
    ):
        prepared(config, tmp_path)


def test_a_validation_text_of_near_duplicates_is_named(tmp_path):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, ["ja"] * len(SENTENCES)))
    with pytest.raises(UserError, match=r"has no validation text: all 20 .*near-duplicates"):
        prepared(config, tmp_path)


def test_some_classes_without_training_text_are_counted(tmp_path, capsys):
    names = [f"rare {i}" if i % 10 == 0 else "ab"[i % 2] for i in range(len(SENTENCES))]
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, names), tiny_classes)
    found = prepared(config, tmp_path)
    said = capsys.readouterr()
    for split in ("validation", "test"):
        lost = found["use"][split]["unknown_class"]
        if lost:
            assert (
                f"{split}: {20 - lost} of 20 pairs used; {lost} of unknown classes, left"
                in said.out
            )
            assert f"{lost} of 20 {split} pairs" in said.err
    assert sum(found["use"][split]["unknown_class"] for split in ("validation", "test"))


def test_long_documents_of_classes_are_learnt_from_and_cut(tmp_path, capsys):
    texts = [
        f"{line} " * 300 + f"{other} " * 20
        for line, other in zip(SENTENCES, [*SENTENCES[9:], *SENTENCES[:9]], strict=True)
    ]
    assert min(len(text.encode()) for text in texts) > 4192
    names = ["ab"[i % 2] for i in range(len(texts))]
    config = config_of(tmp_path / "a.tsv", pairs_of(texts, names), tiny_classes, vocab_size=400)
    found = prepared(config, tmp_path)
    assert found["vocabulary"] == 400
    assert found["use"]["train"]["used"] == 100
    assert "train: 100 of 100 pairs used; 100 longer than 48 tokens, cut" in capsys.readouterr().out


def test_a_source_that_gives_blank_lines_is_named(tmp_path, monkeypatch):
    pairs = corpus.Pairs((*SENTENCES[:9], " "), tuple(TRANSLATIONS[:10]))
    given = corpus.finished("mine", pairs, pairs, pairs, {})
    monkeypatch.setattr(prepare, "load_corpus", lambda *_: given)
    config = config_of(tmp_path / "a.tsv", [])
    with pytest.raises(UserError, match=r"gave a blank line in pair 10 of the train text"):
        prepared(config, tmp_path)


def test_a_single_class_is_refused(tmp_path):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, ["x"] * 140), tiny_classes)
    with pytest.raises(UserError, match="the training text has one class only, 'x'"):
        prepared(config, tmp_path)


def test_a_line_of_megabytes_does_not_decide_the_vocabulary(tmp_path):
    sources = [*SENTENCES[:-1], "a b " * 500_000]
    config = config_of(tmp_path / "a.tsv", pairs_of(sources, TRANSLATIONS), vocab_size=340)
    assert prepared(config, tmp_path)["vocabulary"] == 340


def test_the_shortlist_translates_the_training_text(tmp_path):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS))
    prepared(config, tmp_path)
    workdir = Workdir(epath.Path(tmp_path / "run"))
    shortlist = load_shortlist(workdir.shortlist_path.read_bytes(), "shortlist")
    tokenizer = workdir.tokenizer()
    assert shortlist.translations.shape == (tokenizer.vocab_size, MOST_TRANSLATIONS)
    (the, *_), (das, *_) = tokenizer.encode(["the", "das"])
    assert das in shortlist.translations[the, :3]
    assert das in shortlist.frequent
    assert {0, 1, 2, 3} < set(shortlist.always.tolist())
    assert len(shortlist.always) == 4 + 256


def test_separate_vocabularies_have_a_tokenizer_each(tmp_path, capsys):
    separate = {"vocab_size": 330, "joint_vocabulary": False, "target_vocab_size": 300}
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS), **separate)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, shared_embeddings="none")
    )
    found = prepared(config, tmp_path)
    sizes = found["source vocabulary"], found["target vocabulary"]
    assert found["target vocabulary asked for"] == 300
    assert "vocabulary" not in found
    assert f"source vocabulary: {sizes[0]} pieces" in capsys.readouterr().out
    workdir = Workdir(epath.Path(tmp_path / "run"))
    tokenizer = workdir.tokenizer()
    assert (tokenizer.vocab_size, tokenizer.target_vocab_size) == sizes
    shortlist = load_shortlist(workdir.shortlist_path.read_bytes(), "shortlist")
    assert shortlist.translations.shape == (sizes[0], MOST_TRANSLATIONS)
    assert shortlist.translations.max() < sizes[1]
    (the, *_), (das, *_) = tokenizer.encode(["the"])[0], tokenizer.encode_target(["das"])[0]
    assert das in shortlist.translations[the, :3]
    assert shortlist.copies is not None
    copied = np.flatnonzero(shortlist.copies >= 0)
    assert 256 < len(copied) < sizes[0]
    assert list(map(tokenizer.piece, copied)) == list(
        map(tokenizer.target.piece, shortlist.copies[copied])
    )
    spec = workdir.spec(config)
    assert (spec.vocab_size, spec.output_size) == sizes
    text = read_json(workdir.text_path("validation"))
    source, target = workdir.tokens("validation")[0]
    assert tokenizer.source.decode(source) == text["source"][0]
    assert tokenizer.decode(target) == text["target"][0]
    workdir.target_tokenizer_path.unlink()
    with pytest.raises(
        UserError, match=r"target_tokenizer\.model is missing; run the same command"
    ):
        workdir.spec(config)


def test_a_joint_vocabulary_replaces_separate_ones(tmp_path):
    joint = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS), vocab_size=330)
    separate = dataclasses.replace(
        joint, data=dataclasses.replace(joint.data, joint_vocabulary=False)
    )
    prepared(separate, tmp_path)
    assert Workdir(epath.Path(tmp_path / "run")).target_tokenizer_path.exists()
    prepared(joint, tmp_path)
    workdir = Workdir(epath.Path(tmp_path / "run"))
    assert not workdir.target_tokenizer_path.exists()
    assert workdir.spec(joint).target_vocab_size == 0


def test_a_small_target_vocabulary_is_named_by_its_setting(tmp_path):
    separate = {"joint_vocabulary": False, "target_vocab_size": 20}
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS), **separate)
    with pytest.raises(UserError, match=r"config\.data\.target_vocab_size=20 must be at least"):
        prepared(config, tmp_path)


def test_a_given_tokenizer_is_used_as_it_is(tmp_path, capsys):
    config = config_of(tmp_path / "a.tsv", pairs_of(SENTENCES, TRANSLATIONS))
    given = Bpe(("the", "das", "da", *WORDS), codes=None).to_bytes()
    (tmp_path / "given").write_bytes(given)
    data = dataclasses.replace(config.data, tokenizer=str(tmp_path / "given"))
    found = prepared(dataclasses.replace(config, data=data), tmp_path)
    assert found["vocabulary"] == len(WORDS) + 7
    assert f"vocabulary: {len(WORDS) + 7} pieces of {tmp_path}/given" in capsys.readouterr().out
    workdir = Workdir(epath.Path(tmp_path / "run"))
    assert workdir.tokenizer_path.read_bytes() == given
    assert workdir.tokens("train").lengths().max() == 4  # words are pieces
    (tmp_path / "given").write_text("{}")
    with pytest.raises(UserError, match=r"config\.data\.tokenizer=.*given is not a tokenizer"):
        prepared(dataclasses.replace(config, data=data), tmp_path)
