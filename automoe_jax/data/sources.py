"""The data sources: every value of `config.data.source`, in one table.

This module is imported by the configuration, so it imports no JAX and no source before it is used:
the libraries of the other sources need not be installed.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from automoe_jax.registry import Registry, lazily

if TYPE_CHECKING:
    from automoe_jax.config import DataConfig
    from automoe_jax.data.corpus import Corpus

# what a source has for each task
_KINDS = {"translate": "translations", "classify": "classes"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of parallel text, of labelled text or of both.

    A loader is called with `config.data` and a folder for downloads, which may not exist yet. It
    returns the same corpus for the same settings and text, usually made by `corpus.split` and
    `corpus.finished`, and raises `UserError` where the text is not available.
    """

    # parallel text; None: the source has none
    load: "Callable[[DataConfig, pathlib.Path], Corpus] | None" = None
    # texts and their classes, `corpus.Labelled`; None: the source has none
    load_labelled: "Callable[[DataConfig, pathlib.Path], Corpus] | None" = None
    # settings of `config.data` that must not be empty, with what they name
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cleans: bool = False  # applies the rules of `config.data.cleaning`
    # translations of a line without a network, by the variant of their row in the results
    baselines: Mapping[str, Callable[[str], str]] = dataclasses.field(default_factory=dict)

    def loader(self, task: str) -> "Callable[[DataConfig, pathlib.Path], Corpus] | None":
        """The loader for `config.task`, if there is one."""
        return self.load_labelled if task == "classify" else self.load


def rules(data: "DataConfig", task: str) -> Iterator[tuple[str, str, bool, str]]:
    """(field, value, whether it is valid, the rule in words) of the settings that depend on the
    source.
    """
    field, name = SOURCES.setting, data.source
    yield field, name, name in SOURCES, SOURCES.rule(name)
    source = SOURCES[name]
    for need, named in source.needs.items():
        value = getattr(data, need)
        rule = f"must name {named} when data.source={name!r}"
        yield f"config.data.{need}", value, bool(value), rule
    if task not in _KINDS:
        return  # a rule of the task itself
    yield from _cleaning_rules(data, task, source)
    able = [other for other, entry in SOURCES.items() if entry.loader(task)]
    rule = f"has no {_KINDS[task]}; choose {_listed(able)}"
    yield field, name, source.loader(task) is not None, rule


def _cleaning_rules(
    data: "DataConfig", task: str, source: Source
) -> Iterator[tuple[str, str, bool, str]]:
    able = [name for name, entry in SOURCES.items() if entry.cleans]
    for field in dataclasses.fields(data.cleaning):
        name, value = f"config.data.cleaning.{field.name}", getattr(data.cleaning, field.name)
        if field.name == "max_similarity" or value == field.default:
            continue
        rule = f"has no effect with config.data.source={data.source!r}, only with {_listed(able)}"
        yield name, value, source.cleans, rule
        of_pairs = field.name in ("max_length_ratio", "drop_identical", "target_scripts")
        rule = "is for translations; leave it as it is for classes"
        yield name, value, task == "translate" or not of_pairs, rule


SOURCES: Registry[Source] = Registry(
    "config.data.source",
    {
        "toy": Source(
            load=lazily("automoe_jax.data.toy", "load"),
            baselines={"word_by_word": lazily("automoe_jax.data.toy", "word_by_word")},
        ),
        "debian": Source(
            load=lazily("automoe_jax.data.debian", "load"),
            load_labelled=lazily("automoe_jax.data.debian", "load_labelled"),
        ),
        "text": Source(
            load=lazily("automoe_jax.data.text", "load"),
            load_labelled=lazily("automoe_jax.data.text", "load_labelled"),
            needs={"path": "the source file, or a file of both sides,"},
            cleans=True,
        ),
        "folder": Source(
            load=lazily("automoe_jax.data.folder", "load"),
            needs={"path": "a folder of parallel files"},
            cleans=True,
        ),
        "tfds": Source(
            load=lazily("automoe_jax.data.tfds_source", "load"),
            load_labelled=lazily("automoe_jax.data.tfds_source", "load_labelled"),
            needs={"name": "a dataset such as 'wmt14_translate/de-en'"},
            cleans=True,
        ),
    },
)


def _listed(names: Sequence[str]) -> str:
    """As in "a, b or c"."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
