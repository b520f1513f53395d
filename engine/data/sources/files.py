"""What is known of one file of a source before its rows are read."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["BLOCK_BYTES", "Chunk", "Cut", "FileNotes", "SourceFile"]

BLOCK_BYTES = 1 << 20
"""About the size of a chunk."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: what it is made of."""

    path: str
    bytes: int
    mtime_ns: int
    format: str
    """jsonl, json, csv, parquet or arrow."""
    compression: str = ""
    """gzip, zstd, xz, bz2, or none; that inside Parquet and Arrow files does not count."""
    encoding: str = "utf-8"
    """Python's name of it; ``utf-8``: lines that are not are read as Windows-1252."""
    delimiter: str = ""
    """Between the fields of a CSV file."""
    newline: str = "\n"
    columns: tuple[str, ...] = ()
    """The header of a CSV file, the schema of Parquet and Arrow, in their order."""
    variant: str = ""
    """Of Arrow: file or stream."""

    @property
    def name(self) -> str:
        return Path(self.path).name

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SourceFile":
        return cls(**{**values, "columns": tuple(values["columns"])})


class Chunk(NamedTuple):
    """About 1 MB of whole rows of one file, as a worker gets them."""

    number: int
    """1-based number over the whole source of its first line (or record)."""
    lines: int
    """How many line numbers it covers."""
    offset: int
    """Where it begins in the unpacked bytes; for Parquet and Arrow the row group or batch."""
    file: int
    """Index into :attr:`Look.files`."""
    data: Any
    """jsonl: bytes of whole lines; json: [(line, raw)]; csv: [(line, fields, raw, repair)], fields
    None when malformed; parquet and arrow: bytes of an Arrow stream. None: all of it is damaged."""


class Cut(NamedTuple):
    """What a reader of one format cuts off a file: a chunk, and what paging has to remember."""

    number: int
    lines: int
    rows: int
    """Rows in it: lines that are not blank, or records."""
    offset: int
    state: Any
    """JSON-able. json: how to go on there; parquet, arrow: rows of the group before it."""
    data: Any


@dataclass(slots=True)
class FileNotes:
    """What befell the files while they were read."""

    repairs: Counter[str] = field(default_factory=Counter)
    """bom, truncated_gzip, damaged_gzip (and so on for zstd, xz, bz2), trailing_garbage,
    line_too_long, undecodable, truncated_json, missing_comma, unclosed_quote, damaged_rows."""
    warnings: list[str] = field(default_factory=list)
    bytes_read: int = 0
    """Bytes of the files as they lie on disk."""
