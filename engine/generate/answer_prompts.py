"""Many prompts answered into a file, as fast as the worker can."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from engine.generate.answer_file import AnswerFile
from engine.generate.client import GenerationClient
from engine.generate.columns import Column
from engine.home import Home
from engine.recipe import GenerateSection
from engine.words import duration

__all__ = ["Tally", "answer_into"]

MOST_AT_ONCE = 4096
"""Prompts of one request: the worker sorts so many by length."""

MOST_CHARACTERS = 8_000_000
"""Of one request, which is one line on a socket."""

PROGRESS_SECONDS = 0.25


@dataclass
class Tally:
    """How far it is."""

    total: int
    done: int
    """With those that were there before."""
    new: int = 0
    tokens: int = 0
    """Of the new answers."""
    seconds: float = 0.0
    """Since the models are loaded."""
    notes: list[str] = field(default_factory=list)
    """What there is to say about how they were answered."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        words = f"answered {self.done:,} of {self.total:,}"
        if self.new and self.seconds:
            left = (self.total - self.done) * self.seconds / self.new
            words += f" · {self.tokens_per_second:,.0f} tok/s · {duration(left)} left"
        return words


def answer_into(
    file: AnswerFile,
    home: Home,
    columns: Sequence[Column],
    sampling: GenerateSection,
    on_status: Callable[[str], None],
) -> Tally:
    """Answer what is missing in an entered file; blocking. Raises :class:`UserError`.

    An interruption loses the answers under way only: the file has every other.
    """
    missing = {column.id: file.missing(column.id) for column in columns}
    left = sum(map(len, missing.values()))
    total = len(file.prompts) * len(columns)
    tally = Tally(total=total, done=total - left)
    if left:
        asyncio.run(_answer(file, home, columns, sampling, on_status, missing, tally))
    return tally


async def _answer(
    file: AnswerFile,
    home: Home,
    columns: Sequence[Column],
    sampling: GenerateSection,
    on_status: Callable[[str], None],
    missing: dict[str, list[int]],
    tally: Tally,
) -> None:
    async with GenerationClient.start(home, columns, on_status) as client:
        await client.ready()
        began, told = time.monotonic(), 0.0
        for names, indices in _requests(file.prompts, missing):
            prompts = [file.prompts[index] for index in indices]
            async for chunk in client.generate(
                prompts, sampling, names, indices=indices, stream=False
            ):
                if not chunk.done or chunk.stop_reason == "cancelled":
                    continue
                file.add(
                    chunk.prompt,
                    chunk.column,
                    chunk.text_delta,
                    chunk.tokens or 0,
                    chunk.stop_reason or "",
                )
                tally.done, tally.new = tally.done + 1, tally.new + 1
                tally.tokens += chunk.tokens or 0
                now = time.monotonic()
                tally.seconds = now - began
                if now - told >= PROGRESS_SECONDS:
                    told = now
                    on_status(str(tally))
            tally.notes = client.notes


def _requests(
    prompts: Sequence[str], missing: dict[str, list[int]]
) -> Iterator[tuple[list[str], list[int]]]:
    """(columns, numbers of prompts) of each request: prompts that the same columns miss."""
    lacking: dict[int, list[str]] = {}
    for column, indices in missing.items():
        for index in indices:
            lacking.setdefault(index, []).append(column)
    alike: dict[tuple[str, ...], list[int]] = {}
    for index in sorted(lacking):
        alike.setdefault(tuple(lacking[index]), []).append(index)
    for columns, indices in alike.items():
        part: list[int] = []
        characters = 0
        for index in indices:
            if part and (len(part) >= MOST_AT_ONCE or characters >= MOST_CHARACTERS):
                yield list(columns), part
                part, characters = [], 0
            part.append(index)
            characters += len(prompts[index])
        yield list(columns), part
