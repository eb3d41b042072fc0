"""Parquet (pyarrow): a table with a column for each side, also inside of a struct as in Hugging
Face's data sets; read batch by batch.
"""

from collections.abc import Iterator
from typing import Any

from automoe_jax.data.formats import fields, json_lines
from automoe_jax.data.formats.files import TextFile, optional
from automoe_jax.data.formats.table import Unit, Wanted
from automoe_jax.errors import UserError


def pairs(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The rows; a side that is null is blank."""
    pyarrow = optional("pyarrow", "a Parquet file", "pyarrow")
    parquet = optional("pyarrow.parquet", "a Parquet file", "pyarrow")
    with file.opened() as stream:
        try:
            table = parquet.ParquetFile(stream)
            sides = fields.chosen(_names(table.schema_arrow), wanted, file.path)
            number = 0
            for batch in table.iter_batches(columns=list(sides)):
                for record in batch.to_pylist():
                    number += 1
                    place = f"{file.path}, row {number}"
                    source, target = (_value(record, side) for side in sides)
                    yield Unit(
                        number,
                        json_lines.text(source, sides[0], place),
                        json_lines.text(target, sides[1], place, wanted),
                    )
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{file.path} is not a complete Parquet file ({reason}); download or write it again"
            ) from None


def _names(schema: Any, prefix: str = "") -> list[str]:
    """The names of columns, those in a struct after its own name and a dot."""
    found: list[str] = []
    for field in schema:
        inner = getattr(field.type, "fields", None)
        name = f"{prefix}{field.name}"
        found += _names(inner, f"{name}.") if inner else [name]
    return found


def _value(record: dict[str, Any], name: str) -> Any:
    """The value of a column; null in a struct that is null."""
    if name in record:
        return record[name]
    inner: Any = record
    for part in name.split("."):
        inner = inner.get(part) if isinstance(inner, dict) else None
    return inner
