"""Rule ``python``: a function of the user's own, from a file that the user names."""

import hashlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from engine.data.rows import Row, texts, with_texts
from engine.data.rules.row import Verdict
from engine.errors import UserError
from engine.sections.data import PythonRule

__all__ = ["Python", "file_digest"]

_EXPECTED = "None or True to keep the row, False or a reason to drop it, or two texts"


class Python:
    """Calls ``function(prompt, completion)`` for each row.

    The file is run once, when the rule is made, and nothing is written beside it. What it prints
    goes to standard error: standard output may be one JSON document.

    Raises:
        UserError: the file cannot be read or run, or has no such function; at a row: the function
            raised an exception, or returned what it must not.
    """

    name = "python"
    reasons = ("python",)

    def __init__(self, rule: PythonRule, shape: str = "pair") -> None:
        self._file = str(Path(rule.file).expanduser())
        self._name = rule.function
        self._called = f"{self._file}: {rule.function}()"
        self._has_prompt = shape != "text"
        self._function = _load(self._file, rule.function)

    def __call__(self, row: Row) -> Row | Verdict:
        try:
            answer = self._function(row.prompt, row.completion)
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self._file}{_line(error.__traceback__, self._file)}: {self._name}() raised "
                f"{_said(error)} at {_shown(row)}"
            ) from error
        if answer is None or answer is True:
            return row
        if answer is False:
            return Verdict("python", "")
        if isinstance(answer, str):
            return Verdict("python", answer)
        if (
            isinstance(answer, tuple | list)
            and len(answer) == 2
            and all(isinstance(text, str) for text in answer)
        ):
            return self._replaced(row, *answer)
        if type(answer).__name__ in ("bool", "bool_"):  # numpy's
            return row if answer else Verdict("python", "")
        what = f"{type(answer).__name__} {answer!r:.60}"
        raise UserError(f"{self._called} returned {what} at {_shown(row)}; it must be {_EXPECTED}")

    def _replaced(self, row: Row, prompt: str, completion: str) -> Row:
        for text in (prompt, completion):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"{self._called} returned half of a surrogate pair at {_shown(row)}"
                ) from None
        if not row.messages and self._has_prompt:
            return row._replace(prompt=prompt, completion=completion)
        if prompt != row.prompt and len(row.messages) < 2:
            raise UserError(
                f"{self._called} returned a prompt at {_shown(row)}, which has none: "
                "return '' there"
            )
        if not row.messages:
            return row._replace(completion=completion)
        *before, _ = texts(row)
        if before:
            before[-1] = prompt
        return with_texts(row, (*before, completion))


def file_digest(rule: PythonRule) -> str:
    """SHA-256 of the user's file.

    Raises:
        UserError: it cannot be read.
    """
    return hashlib.sha256(_read(str(Path(rule.file).expanduser()))).hexdigest()


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error} (clean.python.file)") from None


def _load(file: str, name: str) -> Callable[[str, str], Any]:
    module = ModuleType("tunebench_user_rule")
    module.__file__ = file
    module.__dict__["print"] = _print
    try:
        # Not by way of the import system: that would write and believe __pycache__.
        exec(compile(_read(file), file, "exec"), module.__dict__)
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno or 1}: {error.msg} (clean.python.file)") from None
    except (Exception, SystemExit) as error:
        line = _line(error.__traceback__, file)
        raise UserError(f"{file}{line}: cannot be run: {_said(error)}") from error
    function = module.__dict__.get(name)
    if not callable(function):
        there = [
            key for key, value in module.__dict__.items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]  # fmt: skip
        hint = f"; there are: {', '.join(there)}" if there else ""
        raise UserError(f"{file}: no function {name!r} (clean.python.function){hint}")
    return function


def _print(*values: Any, **options: Any) -> None:
    if options.get("file") is None:
        options["file"] = sys.stderr
    print(*values, **options)


def _line(trace: TracebackType | None, file: str) -> str:
    """ ":12" for the last line of the user's file that was running."""
    lines = [frame.lineno for frame in traceback.extract_tb(trace) if frame.filename == file]
    return f":{lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _shown(row: Row) -> str:
    return f"the row whose prompt is {row.prompt[:40]!r}"
