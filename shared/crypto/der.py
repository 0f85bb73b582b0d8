"""Just enough DER (X.690) to look at a private key before the library does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER: Final = 0x02
OBJECT_IDENTIFIER: Final = 0x06
OCTET_STRING: Final = 0x04
SEQUENCE: Final = 0x30

_LONG_FORM: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4


class NotDer(Exception):
    """The bytes are not the DER that was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element: tag byte and content. The repr hides the content, which may be a key's."""

    tag: int
    content: bytes

    def __repr__(self) -> str:
        """Only the tag."""
        return f"Element(0x{self.tag:02x})"

    def integer(self) -> int:
        """The value of an INTEGER."""
        return int.from_bytes(expect(self, INTEGER).content, "big", signed=True)

    def children(self) -> tuple[Element, ...]:
        """The elements of a SEQUENCE."""
        return tuple(_elements(expect(self, SEQUENCE).content))


def parse(der: bytes) -> Element:
    """The one element that ``der`` consists of.

    Raises:
        NotDer: it is not exactly one element.
    """
    elements = tuple(_elements(der))
    if len(elements) != 1:
        raise NotDer
    return elements[0]


def expect(element: Element, tag: int) -> Element:
    """The element itself, if it has this tag.

    Raises:
        NotDer: it has another.
    """
    if element.tag != tag:
        raise NotDer
    return element


def _elements(data: bytes) -> Iterator[Element]:
    position = 0
    while position < len(data):
        start, length = _header(data, position)
        if start + length > len(data):
            raise NotDer
        yield Element(tag=data[position], content=data[start : start + length])
        position = start + length


def _header(data: bytes, position: int) -> tuple[int, int]:
    """Where the content starts, and its length in bytes."""
    if position + 2 > len(data):
        raise NotDer
    first = data[position + 1]
    if first < _LONG_FORM:
        return position + 2, first
    count = first - _LONG_FORM
    start = position + 2 + count
    if not 1 <= count <= _MAX_LENGTH_BYTES or start > len(data):
        raise NotDer
    return start, int.from_bytes(data[position + 2 : start], "big")
