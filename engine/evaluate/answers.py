"""The answers of each column to all prompts, kept in files of their own.

A file a column: the base's is shared by all runs of it that are prompted and sampled alike, one
more column costs its own answers only, an interrupted evaluation goes on, a second one is instant.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from engine.errors import UserError
from engine.generate.answer_file import AnswerFile
from engine.generate.answer_prompts import Tally, answer_into
from engine.generate.columns import Column
from engine.home import Home
from engine.recipe import GenerateSection

__all__ = ["Answers", "answer_all", "digest_of"]


@dataclass(frozen=True)
class Answers:
    """What one column answered."""

    column: Column
    path: Path
    texts: list[str]
    failed: dict[int, str]
    """Number of a prompt that could not be answered -> why, in words; its text is empty."""
    stop_reasons: dict[str, int]
    """Why answers ended -> how many."""
    tokens: int
    digest: str
    """Of the file."""


def answer_all(
    home: Home,
    columns: Sequence[Column],
    prompts: Sequence[str],
    sampling: GenerateSection,
    on_status: Callable[[str], None],
) -> tuple[list[Answers], Tally]:
    """Every column's answers, those that were there already too; blocking.

    Raises :class:`UserError`. What was answered before an interruption is kept.
    """
    files: dict[str, AnswerFile] = {}
    for column in columns:
        digest = AnswerFile(Path(), prompts, [column], sampling).digests[column.id]
        path = _folder(home, column) / f"answers-{digest_of([digest, *prompts])}.jsonl"
        files[column.id] = AnswerFile(path, prompts, [column], sampling)
    together = _Together(files, prompts)
    try:
        with contextlib.ExitStack() as stack:
            for file in files.values():
                file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(file)
            tally = answer_into(cast(AnswerFile, together), home, columns, sampling, on_status)
            for file in files.values():
                file.put_in_order()
    except UserError as error:  # the file was not named by the user
        raise UserError(str(error).removeprefix("--out ")) from None
    return [_read(column, files[column.id].path) for column in columns], tally


class _Together:
    """Several files of one column each, as :func:`answer_into` uses one of several columns."""

    def __init__(self, files: dict[str, AnswerFile], prompts: Sequence[str]) -> None:
        self.files, self.prompts = files, prompts
        self.system = ""

    def missing(self, column: str) -> list[int]:
        return self.files[column].missing(column)

    def add(self, index: int, column: str, *answer: Any, **more: Any) -> None:
        self.files[column].add(index, column, *answer, **more)


def _folder(home: Home, column: Column) -> Path:
    """With the run where the column is one, so that they go with it."""
    run = home.runs / column.id.partition("@")[0]
    own = run.is_dir() and run.parent == home.runs
    return run / "evaluations" if own else home.path / "cache" / "answers"


def _read(column: Column, path: Path) -> Answers:
    data = path.read_bytes()
    lines = [json.loads(line) for line in data.splitlines()]
    return Answers(
        column,
        path,
        [line["text"] for line in lines],
        {line["index"]: str(line["error"]) for line in lines if line.get("error")},
        dict(Counter(line["stop_reason"] for line in lines)),
        sum(line["tokens"] for line in lines),
        hashlib.blake2b(data, digest_size=8).hexdigest(),
    )


def digest_of(parts: Sequence[str]) -> str:
    """A short name for a sequence of texts."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()
