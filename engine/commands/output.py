"""Where a command's words go: results to stdout, progress and errors to stderr."""

import contextlib
import io
import json
import math
import os
import sys
from typing import Any

from engine.errors import UserError
from engine.text import safe, safe_json, safe_line

__all__ = ["Output"]


class Output:
    """``--json``: one document on stdout and nothing else there. Else lines for people."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        if sys.stderr is None:  # closed: print() would take stdout instead
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        self.interactive = sys.stderr.isatty()
        for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 must not end a command
            with contextlib.suppress(AttributeError, io.UnsupportedOperation):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def line(self, text: str = "") -> None:
        """One line for people; not printed with ``--json``. Outside text is made safe here."""
        if not self.as_json:
            print(safe(text), flush=True)

    def document(self, value: Any) -> None:
        """The one JSON document; not printed without ``--json``."""
        if self.as_json:
            try:
                text = json.dumps(_finite(value), ensure_ascii=False, indent=2, default=str)
            except RecursionError:  # from a journal that somebody wrote by hand
                raise UserError("what is to be printed is nested too deep for JSON") from None
            print(safe_json(text), flush=True)

    def progress(self, text: str) -> None:
        """A line that replaces the one before, on stderr and only on a terminal."""
        if self.interactive:
            print(f"\r\x1b[K{safe(text)}", end="", file=sys.stderr, flush=True)

    def progress_done(self) -> None:
        """Take the progress line away."""
        if self.interactive:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """What went wrong, in one line on stderr whatever file names it quotes."""
        self.note(f"tunebench: {safe_line(text)}")

    def ask(self, question: str) -> bool:
        """A yes or no from the terminal; asked on stderr, where no document is."""
        self.progress_done()
        print(safe_line(question), end=" [y/N] ", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def note(self, text: str) -> None:
        """A line on stderr, also with ``--json``: warnings, and what is going on."""
        self.progress_done()
        print(safe(text), file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    """With "NaN" and "Infinity" as texts, as in the journal: JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value
