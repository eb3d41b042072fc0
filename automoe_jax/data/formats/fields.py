"""The columns or fields that hold the two sides, by their names or numbers."""

from collections.abc import Mapping, Sequence

from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Wanted
from automoe_jax.errors import UserError, suggestion

# Names of the two sides in data sets, after the languages themselves.
_SIDES = (("source", "target"), ("src", "tgt"), ("src", "trg"))
_TEXTS, _LABELS = ("text", "sentence", "source", "src"), ("label", "class", "category", "target")
_TRANSLATION = "translation."  # Hugging Face's data sets: {"translation": {"en": …, "de": …}}


def is_language(tag: str, language: str) -> bool:
    """Whether a tag such as "en-GB" or "EN_us" names `language` or a variety of it."""
    tag, language = (one.casefold().replace("_", "-") for one in (tag, language))
    return tag == language or tag.startswith(f"{language}-")


def best_language(tags: Sequence[str], language: str) -> str | None:
    """The tag that names `language` itself, or else the first of a variety of it."""
    able = [tag for tag in tags if is_language(tag, language)]
    return min(able, key=len, default=None)


def found(names: Sequence[str], wanted: Wanted) -> tuple[str, str] | None:
    """The fields of both sides among `names`, recognised by language or by a usual name; None if
    there are none.
    """
    if wanted.labelled:
        text = _first(names, (*_TEXTS, wanted.languages[0]))
        label = _first(names, (*_LABELS, wanted.languages[1]))
        return (text, label) if text and label and text != label else None
    for prefix in (_TRANSLATION, ""):
        inner = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        source, target = (best_language(inner, one) for one in wanted.languages)
        if source is not None and target is not None and source != target:
            return prefix + source, prefix + target
    return next(
        (
            (source, target)
            for one, other in _SIDES
            if (source := _first(names, (one,))) and (target := _first(names, (other,)))
        ),
        None,
    )


def chosen(names: Sequence[str], wanted: Wanted, place: str) -> tuple[str, str]:
    """The fields that the settings name, or that `found` recognises.

    Raises `UserError` with `place`, the file and line that has `names`.
    """
    recognised = found(names, wanted)
    both = []
    for side, name in enumerate(wanted.columns):
        setting = ("config.data.source_column", "config.data.target_column")[side]
        if name and name not in names:
            raise UserError(
                f"{setting}={name!r} is not in {place}, which has {listed(names)}"
                f"{suggestion(name, names)}"
            )
        if not name and recognised is None:
            what = "the text" if wanted.labelled and not side else "the class"
            what = what if wanted.labelled else f"the {wanted.languages[side]!r} text"
            raise UserError(
                f"{place} has {listed(names)}, none of which is known as {what}; name the one that"
                f" holds it in {setting}"
            )
        both.append(name or (recognised or ("", ""))[side])
    check_two(both, place)
    return both[0], both[1]


def check_two(sides: Sequence[str | int], place: str) -> None:
    """Raises `UserError` if the source is the target too."""
    if sides[0] == sides[1]:
        raise UserError(
            f"the source and the target are both {sides[0]!r} in {place}; name two of them in"
            " config.data.source_column and config.data.target_column"
        )


def listed(names: Sequence[str]) -> str:
    """The first names in words."""
    few = ", ".join(map(repr, names[:6]))
    return (few + (" …" if len(names) > 6 else "")) or "no names"


def _first(names: Sequence[str], able: Sequence[str]) -> str | None:
    return next((name for one in able for name in names if name.casefold() == one), None)


class Languages:
    """The two wanted languages among those of the units of a file."""

    def __init__(self, file: TextFile, wanted: Wanted):
        if len({language.casefold() for language in wanted.languages}) == 1:
            raise UserError(
                f"config.data.source_language and config.data.target_language are both"
                f" {wanted.languages[0]!r}; name two of the languages in {file.path}"
            )
        self._file, self._wanted = file, wanted
        self._seen: set[str] = set()
        self._found = False

    def sides(self, texts: Mapping[str, str]) -> tuple[str, str]:
        """The texts of a unit in the wanted languages; blank without one of them."""
        self._seen |= {language for language, text in texts.items() if text.strip()}
        names = [best_language(list(texts), language) for language in self._wanted.languages]
        source, target = (texts[name].strip() if name is not None else "" for name in names)
        self._found = self._found or bool(source and target)
        return source, target

    def check(self) -> None:
        """Raises `UserError` if no unit had text in both."""
        if not self._found:
            source, target = self._wanted.languages
            seen = sorted(self._seen - {""})
            has = f"its languages are {listed(seen)}" if seen else "it names no language of a text"
            raise UserError(
                f"{self._file.path} has no unit with text in {source!r} and in {target!r}; {has}:"
                " set config.data.source_language and config.data.target_language"
            )
