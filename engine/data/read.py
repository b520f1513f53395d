"""From lines to rows: parses JSON Lines tolerantly and repairs what can be repaired.

orjson reads the good lines; the standard library's slower and more lenient parser reads what
orjson refuses. Nothing a line holds stops the reading: every line that is not blank is a row.
"""

import codecs
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from engine.data.lines import BOM, Block, LineReader
from engine.errors import UserError
from engine.recipe import DataSection

__all__ = ["RawRow", "Reader", "read_rows"]

COLUMNS_LOOK = 1000
"""Objects in which a column must turn up at least once."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = re.compile(rb"[0-9]{19}")
_STRIDE = 6
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)
_MOST_DIGITS = 4000


class RawRow(NamedTuple):
    """One line that is not blank, read but not yet cleaned."""

    line: int
    """1-based line number in the file."""
    prompt: str | None
    completion: str | None
    drop: str | None
    """malformed, missing_field or not_text; the texts are then None."""
    repair: str | None
    """One of :data:`engine.data.rules.REPAIRS`, or None."""
    raw: bytes


def read_rows(path: str | Path, data_section: DataSection) -> Iterator[RawRow]:
    """Every row of a JSON Lines file (plain or gzip), in order."""
    return iter(Reader(Path(path), data_section))


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("tunebench.latin1", _as_latin1)


class _Findings:
    """What the lenient parser met on its way through one line."""

    __slots__ = ("columns", "duplicate", "nan", "overflow", "surrogate", "top")

    def __init__(self, columns: tuple[str, str]) -> None:
        self.columns = columns
        self.nan = self.overflow = self.surrogate = self.duplicate = False
        self.top: list[tuple[str, Any]] | None = None

    def constant(self, name: str) -> float:
        self.nan = True
        return float(name.replace("Infinity", "inf"))

    def integer(self, digits: str) -> int | float:
        if len(digits) < _MOST_DIGITS:
            number = int(digits)
            if not _SMALLEST <= number <= _LARGEST:
                self.overflow = True
            return number
        self.overflow = True
        return math.inf

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.top = pairs  # the outermost object ends last
        return dict(pairs)

    def finish(self, value: Any, text: str) -> None:
        if isinstance(value, dict) and self.top is not None and len(self.top) > len(value):
            keys = [key for key, _ in self.top]
            self.duplicate = any(keys.count(column) > 1 for column in self.columns)
        if "\\u" in text or _SURROGATE.search(text):
            self.surrogate = _has_surrogate(value)

    @property
    def repair(self) -> str | None:
        if self.surrogate:
            return "lone_surrogate"
        if self.nan:
            return "nan"
        if self.overflow:
            return "number_overflow"
        return "duplicate_key" if self.duplicate else None


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_has_surrogate(key) or _has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_surrogate(item) for item in value)


def _suspects(block: Block) -> set[int]:
    """Indices of lines with 19 digits in a row: numbers that may not fit 64 bits.

    orjson turns those into floats without a word. Looking at every sixth byte finds each such run
    (it covers three of them) at a fiftieth of the cost of searching every line.
    """
    import numpy as np

    sample = np.frombuffer(block.data, dtype=np.uint8)[::_STRIDE]
    digits = (sample - np.uint8(48)) < 10
    runs = np.flatnonzero(digits[:-2] & digits[1:-1] & digits[2:])
    found = set()
    line, counted = 0, 0
    for place in runs.tolist():
        at = place * _STRIDE
        if _DIGITS.search(block.data, max(0, at - 19), at + 40):
            line += block.data.count(b"\n", counted, at)
            counted = at
            found.add(line)
    return found


class Reader:
    """Iterates over the rows of one file, once. What befell the file is in ``lines``."""

    def __init__(self, path: Path, data: DataSection) -> None:
        self.path = path
        self.lines = LineReader(path)
        self.columns = (data.prompt_column, data.completion_column)
        self.index: list[tuple[int, int, int]] = []
        """(rows before, line number, byte offset unpacked) at the beginning of each block."""
        self.rows = 0
        self._objects = 0
        self._seen: dict[str, None] = {}

    def __iter__(self) -> Iterator[RawRow]:
        prompt_column, completion_column = self.columns
        prompt_key, completion_key = (orjson.dumps(column) for column in self.columns)
        loads = orjson.loads
        try:
            for block in self.lines:
                self.index.append((self.rows, block.number, block.offset))
                suspects = _suspects(block)
                number = block.number - 1
                for line in block.lines:
                    number += 1
                    if not line or line.isspace():
                        continue
                    self.rows += 1
                    try:
                        value = loads(line)
                        plain = (
                            type(value) is dict
                            and line.count(prompt_key) == 1
                            and line.count(completion_key) == 1
                            and not (suspects and number - block.number in suspects)
                        )
                    except orjson.JSONDecodeError:
                        plain = False
                    if not plain:
                        yield self._lenient(number, line)
                        continue
                    if self._objects < COLUMNS_LOOK:
                        self._look(value)
                    prompt = value.get(prompt_column)
                    completion = value.get(completion_column)
                    if type(prompt) is str and type(completion) is str:
                        yield RawRow(number, prompt, completion, None, None, line)
                    else:
                        yield _texts(number, prompt, completion, None, line)
            if self._objects < COLUMNS_LOOK:
                self._check_columns()
        finally:
            self.lines.close()

    def _look(self, value: dict[str, Any]) -> None:
        self._objects += 1
        self._seen.update(dict.fromkeys(value))
        if self._objects == COLUMNS_LOOK:
            self._check_columns()

    def _check_columns(self) -> None:
        missing = [column for column in self.columns if column not in self._seen]
        if missing and self._objects:
            names = list(self._seen)
            there = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise UserError(
                f"{self.path}: no column {' and no column '.join(map(repr, missing))} in the first "
                f"{self._objects:,} rows; there are: {there or 'none'}; name the columns with "
                "--set data.prompt_column=... --set data.completion_column=..."
            )

    def _lenient(self, number: int, line: bytes) -> RawRow:
        repair = None
        if line.startswith(BOM):  # files with a BOM, one behind the other
            self.lines.file_repairs["bom"] += 1
            line = line[len(BOM) :]
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("cp1252", "tunebench.latin1")
            repair = "invalid_utf8"
        findings = _Findings(self.columns)
        try:
            value = json.loads(
                text,
                parse_constant=findings.constant,
                parse_int=findings.integer,
                object_pairs_hook=findings.pairs,
            )
        except (ValueError, RecursionError):
            return RawRow(number, None, None, "malformed", None, line)
        if not isinstance(value, dict):
            return RawRow(number, None, None, "malformed", None, line)
        findings.finish(value, text)
        if self._objects < COLUMNS_LOOK:
            self._look(value)
        prompt, completion = (value.get(column) for column in self.columns)
        return _texts(number, prompt, completion, repair or findings.repair, line)


def _texts(number: int, prompt: Any, completion: Any, repair: str | None, line: bytes) -> RawRow:
    """The row of two values as they were in the JSON object: texts and numbers pass."""
    values = [
        None if isinstance(value, float) and not math.isfinite(value) else value
        for value in (prompt, completion)
    ]
    if not repair and any(map(_is_number, values)):
        repair = "number_as_text"
    if None in values:
        return RawRow(number, None, None, "missing_field", repair, line)
    if not all(isinstance(value, str) or _is_number(value) for value in values):
        return RawRow(number, None, None, "not_text", repair, line)
    first, second = (_SURROGATE.sub("\ufffd", str(value)) for value in values)
    return RawRow(number, first, second, None, repair, line)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
