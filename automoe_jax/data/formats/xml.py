"""Elements of XML files one after another, in bounded memory; entities of the file itself, which
can be a bomb, are refused (defusedxml).
"""

from collections.abc import Collection, Iterator
from xml.etree.ElementTree import Element, ParseError

from automoe_jax.data.formats.files import RULE, TextFile, optional
from automoe_jax.errors import UserError

LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Inline elements that hold codes of the original file, not text (TMX 1.4, XLIFF 1.2).
_CODES = frozenset({"bpt", "ept", "ph", "it", "ut"})


def elements(
    file: TextFile, root: str, wanted: Collection[str]
) -> Iterator[tuple[Element, tuple[Element, ...]]]:
    """(element, its ancestors from the root) of every complete element whose name, without a
    namespace, is wanted; it is emptied after use.

    Raises `UserError` for a file that is not well-formed, has another root or declares entities.
    """
    library = optional("defusedxml.ElementTree", "an XML file", "defusedxml")
    common = optional("defusedxml.common", "an XML file", "defusedxml")
    ancestors: list[Element] = []
    if not file.head().strip():
        raise UserError(f"{file.path} is empty; {RULE}")
    with file.opened() as stream:
        try:
            for event, element in library.iterparse(stream, events=("start", "end")):
                if event == "start":
                    if not ancestors:
                        _check_root(element, root, file)
                    ancestors.append(element)
                    continue
                ancestors.pop()
                if local_name(element) in wanted:
                    yield element, tuple(ancestors)
                    if ancestors:
                        ancestors[-1].remove(element)
        except ParseError as error:
            line, column = error.position
            reason = str(error).partition(":")[0]
            raise UserError(
                f"{file.path}, line {line} is not well-formed XML ({reason}, column {column + 1});"
                " correct or download the file again"
            ) from None
        except common.DefusedXmlException as error:
            raise UserError(
                f"{file.path} declares entities or refers to other files"
                f" ({type(error).__name__}), which are not read; write their text instead"
            ) from None
        except (LookupError, ValueError) as error:  # of the declared encoding
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{file.path} cannot be read as XML ({error}); convert it to UTF-8, and its XML"
                " declaration too"
            ) from None


def local_name(element: Element) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    """The children of an element that are called `name`, in any namespace."""
    return [child for child in element if local_name(child) == name]


def text(element: Element) -> str:
    """The text of an element: that of inline elements too, without inline codes."""
    parts = [element.text or ""]
    for child in element:
        if local_name(child) not in _CODES:
            parts.append(text(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _check_root(element: Element, root: str, file: TextFile) -> None:
    if local_name(element) != root:
        raise UserError(
            f"{file.path} has the root element <{local_name(element)}> and not <{root}>; name a"
            " file of this format, or its format in config.data.format"
        )
