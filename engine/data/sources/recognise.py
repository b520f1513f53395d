"""What a file is, by its first megabyte: format, compression, encoding, delimiter."""

import re
from dataclasses import replace
from pathlib import Path

import orjson

from engine.data.sources.encodings import BOM, as_utf8, encoding_of
from engine.data.sources.files import BLOCK_BYTES, FileNotes, SourceFile
from engine.data.sources.unpack import compression_of, open_file, unpacked
from engine.errors import UserError

__all__ = ["DATA_ENDINGS", "OneObject", "plain_name", "recognise"]

PACKED_ENDINGS = (".gz", ".zst", ".zstd", ".xz", ".bz2")
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_CSV_ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_ARROW_ENDINGS = (".arrow", ".feather", ".ipc")
DATA_ENDINGS = (*_JSON_ENDINGS, *_CSV_ENDINGS, ".parquet", *_ARROW_ENDINGS)
_OTHERS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\x04\x22\x4d\x18": "an LZ4 file",
}
_LINES = 20
_NAME = re.compile(r'"((?:[^"\\]|\\.){1,80})"\s*:\s*\[\s*\{')


class OneObject(UserError):
    """A JSON file that is one object."""


def plain_name(name: str) -> str:
    """A file's name without what says how it is packed and what it is."""
    for endings in (PACKED_ENDINGS, DATA_ENDINGS):
        name = next((name.removesuffix(end) for end in endings if name.endswith(end)), name)
    return name


def _ending(name: str) -> str:
    name = next((name.removesuffix(end) for end in PACKED_ENDINGS if name.endswith(end)), name)
    return Path(name).suffix.lower()


def recognise(
    path: Path, encoding: str = "auto", delimiter: str = "auto", look: int = BLOCK_BYTES
) -> SourceFile:
    """What a file is. Raises :class:`UserError` in one line when it cannot be read."""
    with open_file(path) as opened:
        info = path.stat()
        try:
            magic = opened.read(64)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    compression = compression_of(magic)
    head = _head(path, compression, look)
    whole = len(head) < look
    for what, kind in _OTHERS.items():
        if head.startswith(what):
            raise UserError(
                f"{path}: is {kind}; JSON Lines, JSON, CSV, Parquet and Arrow can be read"
            )
    columnar = _columnar(path, compression, head)
    if columnar:
        from engine.data.sources.columnar import schema_of

        columns, variant = schema_of(path, columnar)
        return SourceFile(
            str(path), info.st_size, info.st_mtime_ns, columnar, columns=columns, variant=variant
        )
    codec = encoding_of(head, encoding)
    text = b"".join(as_utf8(iter([head]), codec, "\n", str(path), FileNotes()))
    newline = "\n"
    if b"\n" not in text and b"\r" in text.rstrip():
        newline, text = "\r", text.replace(b"\r", b"\n")
    text = text.removeprefix(BOM)
    file = SourceFile(
        str(path),
        info.st_size,
        info.st_mtime_ns,
        _text_format(path, text, whole, delimiter),
        compression,
        codec,
        newline=newline,
    )
    if file.format != "csv":
        return file
    from engine.data.sources.delimited import header_of, recognise_delimiter

    if delimiter == "auto":
        delimiter, _ = recognise_delimiter(text, _CSV_ENDINGS.get(_ending(path.name), ","))
    elif len(delimiter) != 1 or delimiter in '"\n\r':
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, "")
        if not delimiter:
            raise UserError("data.delimiter: give one character, e.g. ',' ';' '|' or tab")
    columns = header_of(text, delimiter)
    return replace(file, delimiter=delimiter, columns=columns)


def _head(path: Path, compression: str, look: int) -> bytes:
    parts, size = [], 0
    for piece in unpacked(path, compression, FileNotes()):
        parts.append(piece[: look - size])
        size += len(parts[-1])
        if size >= look:
            break
    return b"".join(parts)


def _columnar(path: Path, compression: str, head: bytes) -> str:
    from engine.data.sources.columnar import is_stream

    if head.startswith(b"PAR1"):
        found = "parquet"
    elif head.startswith(b"ARROW1") or is_stream(head):
        found = "arrow"
    else:
        return ""
    if compression:
        raise UserError(f"{path}: is a {found} file packed with {compression}; unpack it first")
    return found


def _text_format(path: Path, text: bytes, whole: bool, delimiter: str) -> str:
    ending = _ending(path.name)
    lines = [line for line in text.split(b"\n") if line and not line.isspace()][:_LINES]
    first = lines[0].lstrip()[:1] if lines else b""
    objects = [_is_object(line) for line in lines]
    if ending in _CSV_ENDINGS and not any(objects[:1]):
        return "csv"
    if first == b"[" and not (len(lines) > 1 and objects[1] and _is_json(lines[0])):
        return "json"
    if first == b"{" and not any(
        known and line[:1] == b"{" for known, line in zip(objects, lines, strict=True)
    ):
        return _objects(path, text, whole)
    if first == b"{" or any(objects) or ending in _JSON_ENDINGS:
        return "jsonl"
    from engine.data.sources.delimited import recognise_delimiter

    if delimiter != "auto" or recognise_delimiter(text)[1] > 1:
        return "csv"
    return "jsonl"


def _objects(path: Path, text: bytes, whole: bool) -> str:
    """A text that begins with a brace and has no line that is an object."""
    from engine.data.sources.arrays import first_element

    found = first_element(text)
    if found is None:
        broken = text.lstrip()[:2] in (b"{\n", b"{\r") and not whole
        if broken and text.count(b"\n{") == 0:
            raise OneObject(_one_object(path, text))
        return "jsonl"
    start, end = found
    if b"\n" not in text[start:end] or not _is_object(text[start:end]):
        return "jsonl"
    if whole and not text[end:].strip():
        raise OneObject(_one_object(path, text))
    return "json"


def _one_object(path: Path, text: bytes) -> str:
    message = f"{path}: is one JSON object, not rows"
    try:
        value = orjson.loads(text)
        lists = [
            key
            for key, items in value.items()
            if isinstance(items, list) and items and all(isinstance(i, dict) for i in items)
        ]
    except orjson.JSONDecodeError:
        match = _NAME.search(text.decode("utf-8", "replace"))
        lists = [match[1]] if match else []
    if len(lists) == 1:
        return f"{message}; its rows seem to be the list {lists[0]!r}: save that as a file"
    return f"{message}; a JSON array of objects, or JSON Lines, is expected"


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_object(line: bytes) -> bool:
    try:
        return type(orjson.loads(line)) is dict
    except orjson.JSONDecodeError:
        return False
