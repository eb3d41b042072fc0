"""JSON Lines: one object in each line, with a field for each side, also inside of other objects as
in Hugging Face's {"translation": {"en": "…", "de": "…"}}.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from automoe_jax.data.formats import fields
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Unit, Wanted
from automoe_jax.errors import UserError


def pairs(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The pairs of the objects; a field of null is blank."""
    sides = None
    for number, line in enumerate(file.lines(), start=1):
        place = f"{file.path}, line {number}"
        if not line.strip() and wanted.skip_blank:
            yield Unit(number, "", "")
            continue
        record = _parsed(line, place)
        if sides is None:
            sides = fields.chosen(names(record), wanted, place)
        source, target = (value(record, side, place) for side in sides)
        yield Unit(number, text(source, sides[0], place), text(target, sides[1], place, wanted))


def names(record: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names of fields, those of an inner object after its own name and a dot."""
    found: list[str] = []
    for name, inner in record.items():
        found += names(inner, f"{prefix}{name}.") if isinstance(inner, Mapping) else [prefix + name]
    return found


def value(record: Mapping[str, Any], name: str, place: str) -> Any:
    """The field called `name`; raises `UserError` if there is none."""
    inner: Any = record
    if name in record:
        return record[name]
    for part in name.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            raise UserError(
                f"{place} has no field {name!r}, only {fields.listed(names(record))}; every line"
                " must have the same fields, or name others in config.data.source_column and"
                " config.data.target_column"
            )
        inner = inner[part]
    return inner


def text(found: Any, name: str, place: str, wanted: Wanted | None = None) -> str:
    """The text of a field; of a class also a number or a truth value."""
    if found is None or isinstance(found, str):
        return found or ""
    if wanted and wanted.labelled and isinstance(found, int):
        return json.dumps(found)
    raise UserError(
        f"{place} has {json.dumps(found, default=str)[:40]} in the field {name!r}, which must hold"
        " text; name another field in config.data.source_column or config.data.target_column"
    )


def _parsed(line: str, place: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number of too many digits, or deep nesting
        where = str(error)
    else:
        if isinstance(found, Mapping):
            return found
        where = "it is no object"
    way_out = (
        "the file is one JSON list: write its entries as lines, for example with jq -c '.[]'"
        if line.lstrip().startswith("[")
        else "every line must hold one JSON object, with a field for each side"
    )
    raise UserError(f"{place} is not JSON Lines ({where}); {way_out}")
