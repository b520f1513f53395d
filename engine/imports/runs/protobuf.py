"""Protocol buffers' wire format, as far as two small schemas need it; no generated code.

A message is bytes; :func:`fields` hands out its fields one by one, and whoever asks knows which
numbers mean what.
"""

import struct
from collections.abc import Iterator

__all__ = ["Malformed", "doubles", "fields", "floats", "signed", "texts", "varints"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are no message."""


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value): an unsigned integer of a varint, else the bytes.

    Raises :class:`Malformed`.
    """
    at, size = 0, len(data)
    while at < size:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value: int | bytes
            value, at = _varint(data, at)
        else:
            if wire == BYTES:
                length, at = _varint(data, at)
            elif wire in (FIXED64, FIXED32):
                length = 8 if wire == FIXED64 else 4
            else:
                raise Malformed(f"wire type {wire}")
            if at + length > size:
                raise Malformed("a field longer than its message")
            value, at = data[at : at + length], at + length
        yield number, wire, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a broken number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def signed(value: int | bytes) -> int:
    """An int32 or int64 as it was meant: negative ones are written as huge ones."""
    if isinstance(value, bytes):
        raise Malformed("a number was expected")
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def texts(value: int | bytes) -> str:
    """Outside text; what is not UTF-8 is shown as U+FFFD."""
    if not isinstance(value, bytes):
        raise Malformed("a text was expected")
    return value.decode("utf-8", "replace")


def message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed("a message was expected")
    return value


def floats(value: int | bytes) -> list[float]:
    """float32s: one field, or packed ones."""
    data = message(value)
    if len(data) % 4:
        raise Malformed("a broken float")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def doubles(value: int | bytes) -> list[float]:
    data = message(value)
    if len(data) % 8:
        raise Malformed("a broken double")
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def varints(value: int | bytes) -> list[int]:
    """Signed integers: one field, or packed ones."""
    if isinstance(value, int):
        return [signed(value)]
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(signed(one))
    return found
