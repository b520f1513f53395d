"""A file of answers as JSON Lines: appended one by one, gone on with after an interruption.

Every line says which prompt it answers (its number and its text), which column, and a digest of
everything that the answer depends on; so the file alone tells what is left to do, and answers of
other settings are never mixed in. A prompt that could not be answered has a line that says why, and
is asked again the next time. Once all are there, the lines are put in order.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.builtin import model_path
from engine.errors import UserError
from engine.generate.columns import Column
from engine.recipe import GenerateSection
from engine.whole import sync

__all__ = ["AnswerFile"]

SYNC_SECONDS = 1.0
LATER = {"min_p", "stop_strings"}


class AnswerFile:
    """Answers of ``prompts`` by ``columns`` in ``path``; to be entered with ``with``.

    ``system``: the system message before every prompt.

    Entering reads what is there and cuts off a torn last line. Raises :class:`UserError` for a file
    that holds anything else, or that another process is writing.
    """

    def __init__(
        self,
        path: Path,
        prompts: Sequence[str],
        columns: Sequence[Column],
        sampling: GenerateSection,
        system: str = "",
    ) -> None:
        self.path, self.prompts, self.system = path, prompts, system
        self.columns = {column.id: column for column in columns}
        self.digests = {column.id: _digest(column, sampling, system) for column in columns}
        self.done: set[tuple[int, str]] = set()
        """(the prompt's number from 0, the column's id) of what is answered."""
        self.failed: dict[tuple[int, str], str] = {}
        """Likewise of what could not be answered now, and why."""
        self._fd = -1
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise UserError(f"--out {self.path}: cannot be written ({error.strerror})") from None
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"--out {self.path}: another tunebench is writing it") from None
            self._read()
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.fsync(self._fd)
        os.close(self._fd)

    def missing(self, column: str) -> list[int]:
        """Numbers of the prompts that this column has not answered."""
        return [n for n in range(len(self.prompts)) if (n, column) not in self.done]

    def add(
        self,
        index: int,
        column: str,
        text: str,
        tokens: int,
        stop_reason: str,
        error: str | None = None,
    ) -> None:
        """One answer, whole; on the disk within a second. Raises :class:`UserError` when full.

        ``error``: why it is none, with the stop reason "error".
        """
        line: dict[str, Any] = {
            "index": index,
            "column": column,
            "label": self.columns[column].label,
            "prompt": self.prompts[index],
            "text": text,
            "tokens": tokens,
            "stop_reason": stop_reason,
            "settings": self.digests[column],
        }
        if error is not None:
            line["error"] = error
        rest = memoryview(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        try:
            while rest:  # a torn line is cut off when the file is gone on with
                rest = rest[os.write(self._fd, rest) :]
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._fd)
                self._synced = time.monotonic()
        except OSError as error:
            raise UserError(f"--out {self.path}: cannot be written ({error.strerror})") from None
        if error is None:
            self.done.add((index, column))
        else:
            self.failed[index, column] = error

    def put_in_order(self) -> None:
        """Sort the lines by prompt and column, all at once or not at all.

        Of what was asked several times the last line stays.
        """
        order = {column: number for number, column in enumerate(self.columns)}
        found: dict[tuple[int, int], bytes] = {}
        keys = []
        for line in self.path.read_bytes().splitlines(True):
            value = json.loads(line)
            keys.append((value["index"], order[value["column"]]))
            found[keys[-1]] = line
        if keys == sorted(found):
            return
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                for _, line in sorted(found.items()):
                    file.write(line)
            sync(temporary)
            os.replace(temporary, self.path)
            sync(self.path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"--out {self.path}: cannot be written ({error.strerror})") from None

    def _read(self) -> None:
        held = self.path.read_bytes()
        whole = held.rfind(b"\n") + 1
        lines = held[:whole].split(b"\n")[:-1]
        for number, line in enumerate(lines, 1):
            if (key := self._checked(number, line)) is not None:
                self.done.add(key)
        if whole < len(held):
            if not lines and not held.startswith(b'{"index": '):
                raise self._foreign(1)
            os.ftruncate(self._fd, whole)

    def _checked(self, number: int, line: bytes) -> tuple[int, str] | None:
        """(prompt, column) that a line answers; None where it only says why it does not."""
        try:
            value = json.loads(line)
            index, column = value["index"], value["column"]
            prompt, settings = value["prompt"], value["settings"]
        except (ValueError, KeyError, TypeError):
            raise self._foreign(number) from None
        if column not in self.columns:
            what = f"is by {value.get('label', column)!r}"
        elif not isinstance(index, int) or not 0 <= index < len(self.prompts):
            what = "answers a prompt that is not among these"
        elif prompt != _written(self.prompts[index]):
            what = "answers another prompt"
        elif settings != self.digests[column]:
            what = "was answered with other settings or another state of the model"
        else:
            return None if value.get("stop_reason") == "error" else (index, column)
        raise UserError(
            f"--out {self.path}: line {number:,} {what}; name another file, or remove this one"
        )

    def _foreign(self, number: int) -> UserError:
        return UserError(
            f"--out {self.path}: line {number:,} is no answer of tunebench generate; "
            "name another file"
        )


def _written(text: str) -> str:
    """A text as the file has it: lone surrogates cannot be written."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _digest(column: Column, sampling: GenerateSection, system: str) -> str:
    """A short name for everything that an answer depends on, but the prompt."""
    said: dict[str, Any] = {"sampling": _said(sampling)}
    if column.endpoint is not None:
        said |= {"url": column.endpoint.url, "model": column.endpoint.model}
    else:
        recipe = column.recipe
        said |= {
            "model": recipe.model.model_dump(),
            "format": recipe.format.model_dump(),
            "weights": [_stamps(column.model_name_or_path), _stamps(column.adapter)],
        }
    if system:
        said["system"] = system
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _said(sampling: GenerateSection) -> dict[str, Any]:
    """The settings; those that came later only where they are used: older files go on."""
    said = sampling.model_dump()
    return {name: value for name, value in said.items() if value or name not in LATER}


def _stamps(folder: str | None) -> list[Any]:
    """Name, size and time of change of the weights in a folder; of a hub id its name only."""
    if folder is None:
        return []
    path = Path(model_path(folder))
    files = [path] if path.is_file() else []
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
    return [folder, *((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)]
