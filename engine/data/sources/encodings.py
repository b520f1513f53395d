"""Which encoding a text file has, and its bytes as UTF-8."""

import codecs
import threading
from collections.abc import Iterator

from engine.data.sources.files import FileNotes
from engine.errors import UserError

__all__ = ["BOM", "as_utf8", "checked_codec", "encoding_of"]

BOM = codecs.BOM_UTF8
_LOOK = 4096
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_found = threading.local()


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


def _counted(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    _found.count = getattr(_found, "count", 0) + 1
    return "\ufffd", error.end


codecs.register_error("tunebench.latin1", _as_latin1)
codecs.register_error("tunebench.counted", _counted)


def checked_codec(name: str) -> str:
    """The canonical name of a text codec of Python; raises :class:`UserError` for another one."""
    try:
        info = codecs.lookup(name)
        "\n".encode(info.name)
    except (LookupError, ValueError):
        raise UserError(
            f"data.encoding: no encoding {name!r}; auto, utf-8, utf-16, windows-1252, gb18030, "
            "shift_jis and others that Python knows"
        ) from None
    return "utf-8" if info.name == "utf-8-sig" else info.name


def encoding_of(head: bytes, wanted: str = "auto") -> str:
    """The codec of a text file by its first bytes, or as ``wanted``: ``utf-8`` where none tells.

    UTF-16 and UTF-32 are known by a byte-order mark, UTF-16 also by NULs in every other place.
    """
    codec = "" if wanted in ("auto", "") else checked_codec(wanted)
    if codec and codec not in ("utf-16", "utf-32"):
        return codec
    for mark, name in _BOMS:
        if head.startswith(mark) and (not codec or name.startswith(codec)):
            return name
    if codec:
        return f"{codec}-le"
    look = head[:_LOOK]
    even, odd = look[::2].count(0), look[1::2].count(0)
    enough = len(look) / 20  # of text in any script that holds JSON or CSV
    if look[1:2] == b"\0" and look[:1] != b"\0" and odd > enough and even * 10 <= odd:
        return "utf-16-le"
    if look[:1] == b"\0" and look[1:2] != b"\0" and even > enough and odd * 10 <= even:
        return "utf-16-be"
    return "utf-8"


def as_utf8(
    pieces: Iterator[bytes], codec: str, newline: str, path: str, notes: FileNotes
) -> Iterator[bytes]:
    r"""The pieces in UTF-8 with lines that end in ``\n``.

    What the codec cannot read becomes U+FFFD, and is counted as ``undecodable``.
    """
    if codec == "utf-8":
        for piece in pieces:
            yield piece.replace(b"\r", b"\n") if newline == "\r" else piece
        return
    handler = "tunebench.latin1" if codec == "cp1252" else "tunebench.counted"
    decoder = codecs.getincrementaldecoder(codec)(handler)
    _found.count = 0
    undecodable = 0
    ended = False
    while not ended:
        piece = next(pieces, b"")
        ended = not piece
        _found.count = 0
        try:
            text = decoder.decode(piece, ended)
        except (UnicodeError, ValueError) as error:
            raise UserError(
                f"{path}: cannot be read as {codec} ({error}); set data.encoding"
            ) from None
        undecodable += _found.count
        if newline == "\r":
            text = text.replace("\r", "\n")
        if text:
            yield text.encode("utf-8", "replace")
    if undecodable:
        notes.repairs["undecodable"] += undecodable
        notes.warnings.append(
            f"{path}: {undecodable:,} places are not {codec} and were read as U+FFFD; "
            "set data.encoding"
        )
