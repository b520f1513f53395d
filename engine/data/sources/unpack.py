"""From a file to its unpacked bytes, whatever the file has been through.

Plain, gzip, zstd, xz or bz2 (told apart by content, not by name), several members, cut off, damaged
or with something behind the end: what can be read is read, and what could not is said.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.data.sources.files import BLOCK_BYTES, FileNotes
from engine.errors import UserError

__all__ = ["compression_of", "open_file", "unpacked"]

_INPUT_BYTES = 256 << 10
"""Bytes that a decoder is given at once: with 1 MB the rests it hands back cost a fifth more."""
_SALVAGE_BYTES = 64
_XZ_MEMORY = 1 << 30
_ZSTD_WINDOW = 30
"""Powers of two; frames made with --long=27 and more ask for more than the default."""
_GZIP = (b"\x1f\x8b",)
_BZ2 = tuple(b"BZh%d" % level for level in range(1, 10))
_XZ = (b"\xfd7zXZ\x00",)
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60)))
_MAGIC = {"gzip": _GZIP, "zstd": _ZSTD, "xz": _XZ, "bz2": _BZ2}


def compression_of(head: bytes) -> str:
    """gzip, zstd, xz, bz2, or nothing, by the first bytes of a file."""
    return next((name for name, magic in _MAGIC.items() if head.startswith(magic)), "")


def open_file(path: Path) -> BinaryIO:
    """The file opened for reading. Raises :class:`UserError` in one clear line."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a regular file")
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({why})") from None


class _Gzip:
    """isal's decoder (a third of zlib's time) with the interface of lzma's and bz2's."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._member = isal_zlib.decompressobj(wbits=31)
        self._rest = b""

    def decompress(self, data: bytes, most: int) -> bytes:
        out: bytes = self._member.decompress(self._rest + data if self._rest else data, most)
        self._rest = self._member.unconsumed_tail
        return out

    @property
    def eof(self) -> bool:
        return bool(self._member.eof)

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        return bytes(self._member.unused_data)


def _decoder(compression: str) -> tuple[Callable[[], Any], Any]:
    """Makes decoders of one member; and what they raise."""
    if compression == "gzip":
        from isal import isal_zlib

        return _Gzip, isal_zlib.error
    if compression == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), lzma.LZMAError
    if compression == "bz2":
        import bz2

        return bz2.BZ2Decompressor, OSError
    # The module of Python 3.14: bounded output and the same interface as lzma and bz2.
    from backports import zstd

    options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW}
    return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError


def unpacked(path: Path, compression: str, notes: FileNotes) -> Iterator[bytes]:
    """The bytes of a file in pieces of at most 1 MB; damage ends it, and is noted."""
    with open_file(path) as file:
        yield from _Unpacking(path, file, compression, notes).pieces()


class _Unpacking:
    def __init__(self, path: Path, file: BinaryIO, compression: str, notes: FileNotes) -> None:
        self._path = path
        self._file = file
        self._kind = compression
        self._notes = notes
        self._read = 0

    def pieces(self) -> Iterator[bytes]:
        if self._kind:
            yield from self._members()
            return
        while data := self._take(BLOCK_BYTES):
            yield data

    def _take(self, most: int = _INPUT_BYTES) -> bytes:
        try:
            data = self._file.read(most)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read ({error.strerror})") from None
        self._read += len(data)
        self._notes.bytes_read += len(data)
        return data

    def _note(self, what: str, words: str) -> None:
        self._notes.repairs[what] += 1
        self._notes.warnings.append(f"{self._path}: {words}")

    def _members(self) -> Iterator[bytes]:
        new, broken = _decoder(self._kind)
        magic = _MAGIC[self._kind]
        data = self._take()
        while data:
            start = self._read - len(data)
            member = new()
            given = 0
            while not member.eof:
                try:
                    out = member.decompress(data, BLOCK_BYTES)
                    over = False
                    if not member.eof and member.needs_input and not (data := self._take()):
                        over = True
                        # Whatever the decoder still holds comes with the next calls.
                        while not member.eof and (more := member.decompress(b"", BLOCK_BYTES)):
                            out += more
                    elif not member.needs_input:
                        data = b""
                except (broken, EOFError, MemoryError):
                    yield from self._salvage(start, given)
                    return
                given += len(out)
                if out:
                    yield out
                if over and not member.eof:
                    self._note(
                        f"truncated_{self._kind}",
                        f"the {self._kind} file ends in the middle; what is there was read",
                    )
                    return
            data = member.unused_data
            while not data.strip(b"\0"):  # zero padding between and behind members is allowed
                if not (data := self._take()):
                    return
            data = data.lstrip(b"\0")
            if len(data) < max(map(len, magic)):
                data += self._take()
            if not data.startswith(magic):
                self._note(
                    "trailing_garbage",
                    f"something that is not {self._kind} follows the {self._kind} data from byte "
                    f"{self._read - len(data):,} on; it was not read",
                )
                return

    def _salvage(self, start: int, given: int) -> Iterator[bytes]:
        """What can be read of a damaged member behind its first ``given`` bytes.

        Starts the member again in small steps: a decoder that meets damage keeps back all that it
        unpacked in that call.
        """
        self._note(
            f"damaged_{self._kind}",
            f"the {self._kind} data is damaged near byte {self._read:,}; "
            "what comes before was read",
        )
        new, broken = _decoder(self._kind)
        member = zlib.decompressobj(wbits=31) if self._kind == "gzip" else new()
        self._file.seek(start)
        done = 0
        try:
            while not member.eof and (data := self._file.read(_SALVAGE_BYTES)):
                out = member.decompress(data)
                done += len(out)
                if done > given:
                    yield out[max(0, len(out) - (done - given)) :]
                    given = done
        except (broken, zlib.error, EOFError, MemoryError):
            return
