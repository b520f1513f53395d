"""The lenient parser of one JSON object: reads what orjson refuses, and says what was wrong.

Nothing that a line holds stops it.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

# The error handler tunebench.latin1 is registered there.
from engine.data.sources.encodings import BOM

__all__ = ["Keys", "Parsed", "digit_runs", "parse_leniently", "parse_object"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = re.compile(rb"[0-9]{19}")
_STRIDE = 6
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)
_MOST_DIGITS = 4000


class Keys:
    """Keys that count as repaired when an object has them twice: the last one is taken."""

    def __init__(self, needed: Iterable[str], nested: Iterable[str] = ()) -> None:
        self.needed = frozenset(needed)
        self.nested = frozenset(nested)
        """Keys of the objects in the lists under ``needed``."""
        self.quoted = [(key, orjson.dumps(key)) for key in sorted(self.needed)]
        self._nested_quoted = [(key, orjson.dumps(key)) for key in sorted(self.nested)]
        # Only what a colon follows is a key: "assistant" is a usual value.
        self._as_key = {
            quoted: re.compile(re.escape(quoted) + rb"\s*:")
            for _, quoted in (*self.quoted, *self._nested_quoted)
        }
        self._escaped = _escaped_letters((*self.needed, *self.nested))

    def may_be_escaped(self, data: bytes) -> bool:
        """Whether a key may be spelled with escapes in there."""
        return self._escaped is not None and self._escaped.search(data) is not None

    def are_single_in(self, line: bytes) -> bool:
        """Whether a look at the bytes proves that the keys are there, each once."""
        return all(self._times(quoted, line, 1) == 1 for _, quoted in self.quoted) and not (
            self.may_be_escaped(line)
        )

    def among(self, data: bytes) -> "Among":
        """What a look at many lines at once says about each of them."""
        nested = [both for both in self._nested_quoted if self._as_key[both[1]].search(data)]
        return Among(self.may_be_escaped(data), nested)

    def are_single(self, line: bytes, value: dict[str, Any], among: "Among") -> bool:
        """Whether a look at the bytes proves that no key of this object is there twice."""
        if among.escaped and self.may_be_escaped(line):
            return False
        for key, quoted in self.quoted:
            if self._times(quoted, line, key in value) != (key in value):
                return False
        if not among.nested:
            return True
        lists = [items for name in self.needed if type(items := value.get(name)) is list]
        for key, quoted in among.nested:
            there = 0
            for items in lists:
                for item in items:
                    there += type(item) is dict and key in item
            if self._times(quoted, line, there) != there:
                return False
        return True

    def _times(self, quoted: bytes, line: bytes, expected: int) -> int:
        """How often a key is in a line; exactly only where it seems to be another number."""
        times = line.count(quoted)
        return times if times == expected else len(self._as_key[quoted].findall(line))


class Among(NamedTuple):
    """What one look at many lines says about the keys in them."""

    escaped: bool
    nested: list[tuple[str, bytes]]
    """Nested keys that occur at all."""


class Parsed(NamedTuple):
    """An object; None when there is none."""

    value: dict[str, Any] | None
    repair: str | None = None
    boms: int = 0
    """Byte-order marks before it: files were put one behind the other."""


class _Findings:
    """What the lenient parser met on its way through one object."""

    __slots__ = ("duplicate", "nan", "needed", "nested", "overflow", "top")

    def __init__(self, keys: Keys) -> None:
        self.needed = keys.needed
        self.nested = keys.nested
        self.nan = self.overflow = self.duplicate = False
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
        if self.top is not None:
            self.duplicate = self.duplicate or _twice(self.top, self.nested)
        self.top = pairs  # the outermost object ends last
        return dict(pairs)

    def repair(self, surrogate: bool) -> str | None:
        if surrogate:
            return "lone_surrogate"
        if self.nan:
            return "nan"
        if self.overflow:
            return "number_overflow"
        if self.duplicate or (self.top is not None and _twice(self.top, self.needed)):
            return "duplicate_key"
        return None


def _twice(pairs: list[tuple[str, Any]], names: frozenset[str]) -> bool:
    count = Counter(key for key, _ in pairs if key in names)
    return any(times > 1 for times in count.values())


def parse_leniently(line: bytes, keys: Keys) -> Parsed:
    """The object of a line. Half surrogate pairs come out as U+FFFD."""
    repair = None
    boms = 0
    while line.startswith(BOM):
        boms += 1
        line = line[len(BOM) :]
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("cp1252", "tunebench.latin1")
        repair = "invalid_utf8"
    findings = _Findings(keys)
    try:
        value = json.loads(
            text,
            parse_constant=findings.constant,
            parse_int=findings.integer,
            object_pairs_hook=findings.pairs,
        )
    except (ValueError, RecursionError):
        return Parsed(None, None, boms)
    if not isinstance(value, dict):
        return Parsed(None, None, boms)
    try:
        surrogate = "\\u" in text and _has_surrogate(value)
        found = findings.repair(surrogate)
        if surrogate:
            value = _without_surrogates(value)
    except RecursionError:  # nested by the hundred
        return Parsed(None, None, boms)
    return Parsed(value, repair or found, boms)


def parse_object(
    line: bytes, keys: Keys, suspect: bool = True, among: Among | None = None
) -> Parsed:
    """The object of a line, by orjson when that gives the same as :func:`parse_leniently`.

    ``suspect``: whether there may be a number of 19 digits in it; ``among``: what ``keys`` say
    about a block that it is in.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return parse_leniently(line, keys)
    if type(value) is not dict:
        return Parsed(None)
    if not keys.are_single(line, value, among or keys.among(line)) or (
        suspect and _DIGITS.search(line)
    ):
        return parse_leniently(line, keys)
    return Parsed(value)


def _escaped_letters(names: tuple[str, ...]) -> re.Pattern[bytes] | None:
    r"""Finds ``\u00XX`` of letters of some names: what a key spelled with escapes has in it."""
    if not names:
        return None
    if any(
        not name.isascii() or not name.isprintable() or set(name) & set('/"\\') for name in names
    ):
        return re.compile(rb"\\")
    digits = sorted({f"{ord(letter):02x}" for name in names for letter in name})
    return re.compile(rb"\\u00(?i:" + "|".join(digits).encode() + rb")")


def digit_runs(data: bytes) -> list[int]:
    """Where about in ``data`` 19 digits stand in a row: numbers that may not fit 64 bits.

    orjson turns those into floats without a word. Looking at every sixth byte finds each such run
    (it covers three of them) at a fiftieth of the cost of searching every line.
    """
    import numpy as np

    whole = np.frombuffer(data, dtype=np.uint8)
    digits = (whole[::_STRIDE] - np.uint8(48)) < 10
    places = np.flatnonzero(digits[:-2] & digits[1:-1] & digits[2:]) * _STRIDE
    for between in (3, 9, 1, 2, 4, 5, 7, 8, 10, 11):  # lists of short numbers are out at once
        if not len(places):
            return []
        places = places[(whole[places + between] - np.uint8(48)) < 10]
    return [at for at in places.tolist() if _DIGITS.search(data, max(0, at - 19), at + 40)]


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_has_surrogate(key) or _has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_surrogate(item) for item in value)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", k): _without_surrogates(v) for k, v in value.items()}
    return [_without_surrogates(item) for item in value] if isinstance(value, list) else value
