"""What level a line of a log has, whoever wrote it: logging, warnings, a traceback, glog in C++."""

import re
from enum import IntEnum

__all__ = ["Level", "Marker", "suspects"]


class Level(IntEnum):
    """As in :mod:`logging`; NONE: the line says none."""

    NONE = 0
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


HEAD = 240
"""Characters of a line that are looked at: what comes later is its message."""

_NAMES = {
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "warn": Level.WARNING,
    "warning": Level.WARNING,
    "error": Level.ERROR,
    "critical": Level.CRITICAL,
    "fatal": Level.CRITICAL,
}
_LETTERS = {
    "D": Level.DEBUG,
    "I": Level.INFO,
    "W": Level.WARNING,
    "E": Level.ERROR,
    "F": Level.CRITICAL,
}
_ANY = "debug|info|warning|warn|error|critical|fatal"
# What torchrun and Ray write before each line of a process.
_PROCESS = re.compile(r"\[(?:rank|default)\d+\]: ?|\(\w+ pid=\d+[^)]{0,40}\) ?")
_GLOG = re.compile(r"\[?([DIWEF])[01]\d[0-3]\d \d\d:\d\d:\d\d")
_WORD = re.compile(
    r"(?:^|[\s\[\]|(<\":=-])(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)(?=[\s\]|:,)>\"=-]|$)"
)
_FIELD = re.compile(rf"\blevel(?:name)?[\"']?\s?[=:]\s?[\"']?({_ANY})\b", re.I)
_WARNED = re.compile(r"^(?:\S.*:\d+: )?\w*Warning: ")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|SystemExit)(?::|$)")
_SAID = re.compile(rf"^(?:[\w./-]+: )?({_ANY})(?:\[[\w-]+\])?: ", re.I)
_TRACEBACK = "Traceback (most recent call last):"
_BETWEEN = (
    "During handling of the above exception",
    "The above exception was the direct cause",
    "Fatal Python error",
)

# In small letters; one of these is in every line that has WARNING or worse by its own words.
_NEEDLES = (b"warn", b"error", b"critical", b"fatal", b"traceback", b"exception", b"interrupt")
_GLOG_BYTES = re.compile(rb"\n(?:\[(?:rank|default)\d+\]: ?)?\[?[WEF][01]\d{3} ")


def _own(text: str) -> tuple[Level | None, bool]:
    """(the level that the line itself says, whether it is how an exception is told)."""
    if found := _GLOG.match(text):
        return _LETTERS[found[1]], False
    if _TRACEBACK in text or text.startswith(_BETWEEN):
        return Level.ERROR, True
    if found := _WORD.search(text):
        return _NAMES[found[1].lower()], False
    if found := _FIELD.search(text):
        return _NAMES[found[1].lower()], False
    if _WARNED.match(text):
        return Level.WARNING, False
    if _EXCEPTION.match(text):
        return Level.ERROR, True
    if found := _SAID.match(text):
        return _NAMES[found[1].lower()], False
    return None, False


class Marker:
    """Gives lines their levels, one after the other: a traceback is one error, and an indented line
    has the level of the line that it belongs to."""

    def __init__(self) -> None:
        self._level = Level.NONE
        self._traceback = False

    def next(self, text: str) -> tuple[Level, bool]:
        """(level of the next line, whether it goes on with the one before)."""
        text = text[:HEAD]
        if text[:1] in "[(" and text:
            text = _PROCESS.sub("", text, count=1)
        if not text or text.isspace():
            self._level, self._traceback = Level.NONE, False
            return Level.NONE, False
        own, exception = _own(text)
        if text[0] in " \t" and self._level:
            self._traceback = self._traceback or _TRACEBACK in text
            return self._level, True
        if self._traceback and (own is None or exception) and _TRACEBACK not in text:
            self._traceback = False
            return self._level, True
        self._traceback = _TRACEBACK in text
        self._level = own or Level.NONE
        return self._level, False


def suspects(data: bytes) -> list[int]:
    """Where in ``data`` the lines begin that may say WARNING or worse, in order.

    Looks for a few words only: a tenth of the time that reading every line would take.
    """
    low = data.lower()
    found = set()
    for needle in _NEEDLES:
        at = low.find(needle)
        while at >= 0:
            found.add(low.rfind(b"\n", 0, at) + 1)
            end = low.find(b"\n", at)
            at = low.find(needle, end) if end >= 0 else -1
    if _GLOG_BYTES.match(b"\n" + data[:40]):
        found.add(0)
    found.update(match.start() + 1 for match in _GLOG_BYTES.finditer(data))
    return sorted(found)
