"""DER, as far as certificates and PKCS#7 signatures need it: tag, length, value.

Belongs here: taking elements apart. Not here: what they mean in a signature or a certificate.
Only single-byte tags and definite lengths, which is all that X.509 and CMS use in DER.
"""

from __future__ import annotations

from kernward.core.nouns import dataclass

INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31
# [0], [1], … with something inside, and [0] as a bare value.
CONTEXT_0 = 0xA0
CONTEXT_3 = 0xA3
CONTEXT_0_PRIMITIVE = 0x80

_LONG_FORM = 0x80
_LONGEST_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Element:
    """One element. ``encoding`` is all of it, ``content`` what is behind the tag and the length."""

    tag: int
    content: bytes
    encoding: bytes

    @property
    def children(self) -> tuple[Element, ...]:
        """The elements inside. Raises ValueError where the content is not made of elements."""
        return elements(self.content)


def elements(data: bytes) -> tuple[Element, ...]:
    """All elements that ``data`` consists of. Raises ValueError naming the offset of a bad one."""
    found = []
    offset = 0
    while offset < len(data):
        element = _element(data, offset)
        found.append(element)
        offset += len(element.encoding)
    return tuple(found)


def first_element(data: bytes) -> Element:
    """The element at the start; what follows it is ignored. Raises ValueError."""
    return _element(data, 0)


def _element(data: bytes, start: int) -> Element:
    if len(data) < start + 2:
        raise ValueError(f"DER ends early at offset {start}")
    length = data[start + 1]
    body = start + 2
    if length & _LONG_FORM:
        count = length & ~_LONG_FORM
        if not 0 < count <= _LONGEST_LENGTH_BYTES:
            raise ValueError(f"DER length at offset {start + 1} cannot be")
        body += count
        length = int.from_bytes(data[body - count : body], "big")
    if body + length > len(data):
        raise ValueError(f"DER element at offset {start} goes beyond the end")
    return Element(data[start], data[body : body + length], data[start : body + length])
