"""Escaping of external text for a page."""

import html
import re
from typing import Any

# Control characters other than tab and line ends are not allowed in HTML; lone surrogates cannot be
# written as UTF-8.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean(value: Any) -> str:
    """`value` as text in which every character that cannot be written is a replacement
    character.
    """
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value))


def escape(value: Any) -> str:
    """`value` as HTML text, also valid in a quoted attribute."""
    return html.escape(clean(value), quote=True)
