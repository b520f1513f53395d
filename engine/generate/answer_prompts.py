"""Many prompts answered into a file, as fast as the worker can."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.generate.answer_file import AnswerFile
from engine.generate.client import GenerationClient
from engine.generate.columns import Column
from engine.generate.prompt_files import with_system
from engine.generate.wire import Chunk
from engine.home import Home
from engine.recipe import GenerateSection
from engine.words import duration

__all__ = ["Tally", "answer_into"]

MOST_AT_ONCE = 4096
"""Prompts of one request: the worker sorts so many by length."""

MOST_CHARACTERS = 8_000_000
"""Of one request, which is one line on a socket."""

AT_ONCE = 4
"""Prompts that a server is asked at the same time."""

MOST_FAILURES = 20
"""In a row: then a server is not asked any more."""

PROGRESS_SECONDS = 0.25


@dataclass
class Tally:
    """How far it is."""

    total: int
    done: int
    """With those that were there before."""
    new: int = 0
    failed: int = 0
    """Prompts that could not be answered; the file says why."""
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
            left = (self.total - self.done - self.failed) * self.seconds / self.new
            words += f" · {self.tokens_per_second:,.0f} tok/s · {duration(left)} left"
        return words


def answer_into(
    file: AnswerFile,
    home: Home,
    columns: Sequence[Column],
    sampling: GenerateSection,
    on_status: Callable[[str], None],
    *,
    stay: float = 0.0,
    allow_beside_training: bool = False,
) -> Tally:
    """Answer what is missing in an entered file; blocking. Raises :class:`UserError`.

    An interruption loses the answers under way only: the file has every other. A prompt that a
    column cannot take is a line that says so; the others go on. ``stay``: seconds that the worker
    stays warm afterwards. ``allow_beside_training``: also on a GPU that a run of this home trains
    on.
    """
    missing = {column.id: file.missing(column.id) for column in columns}
    left = sum(map(len, missing.values()))
    total = len(file.prompts) * len(columns)
    tally = Tally(total=total, done=total - left)
    if left:
        local = [column for column in columns if column.endpoint is None]
        client = GenerationClient.start(
            home, local, on_status, allow_beside_training=allow_beside_training
        )
        asyncio.run(_answer(file, client, columns, sampling, on_status, missing, tally, stay))
    return tally


async def _answer(
    file: AnswerFile,
    worker: GenerationClient,
    columns: Sequence[Column],
    sampling: GenerateSection,
    on_status: Callable[[str], None],
    missing: dict[str, list[int]],
    tally: Tally,
    stay: float,
) -> None:
    local = worker.columns
    servers = [column for column in columns if column.endpoint is not None]
    began, told = time.monotonic(), 0.0

    def took(chunk: Chunk) -> None:
        nonlocal told
        file.add(
            chunk.prompt,
            chunk.column,
            chunk.text_delta,
            chunk.tokens or 0,
            chunk.stop_reason or "",
            chunk.error,
        )
        if chunk.error is None:
            tally.done, tally.new = tally.done + 1, tally.new + 1
        else:
            tally.failed += 1
        tally.tokens += chunk.tokens or 0
        now = time.monotonic()
        tally.seconds = now - began
        if now - told >= PROGRESS_SECONDS:
            told = now
            on_status(str(tally))

    async def ask_worker() -> None:
        nonlocal began
        async with worker as client:
            await client.ready()
            if not servers:
                began = time.monotonic()
            if stay:
                client.stay(stay)
            wanted = {column.id: missing[column.id] for column in local}
            for names, indices in _requests(file.prompts, wanted):
                prompts = [with_system(file.prompts[index], file.system) for index in indices]
                async for chunk in client.generate(
                    prompts, sampling, names, indices=indices, stream=False, partial=True
                ):
                    if chunk.done and chunk.stop_reason != "cancelled":
                        took(chunk)
                tally.notes = client.notes

    asking = [_ask_server(file, column, missing[column.id], sampling, took) for column in servers]
    if any(missing[column.id] for column in local):
        asking.append(ask_worker())
    await _together(asking)


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of it at once; the first failure ends the rest, and nothing is left running."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask_server(
    file: AnswerFile,
    column: Column,
    indices: Sequence[int],
    sampling: GenerateSection,
    took: Callable[[Chunk], None],
) -> None:
    """A few prompts at a time; the rest is left out once the server fails at every one."""
    from engine.generate.endpoint import EndpointClient

    server = EndpointClient(column)
    waiting = iter(indices)
    failures = 0

    async def answer() -> None:
        nonlocal failures
        for index in waiting:
            text = ""
            prompt = with_system(file.prompts[index], file.system)
            async for chunk in server.ask(prompt, sampling, index=index):
                text += chunk.text_delta
                if chunk.done:
                    took(replace(chunk, text_delta=text))
                    failures = failures + 1 if chunk.error else 0
            if failures >= MOST_FAILURES:
                return

    try:
        await _together([answer() for _ in range(AT_ONCE)])
    finally:
        await server.close()
    for index in waiting:  # nobody took them any more
        words = f"not asked: the last {MOST_FAILURES} prompts failed there"
        took(Chunk(column.id, index, "", True, "error", 0, None, error=words))


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
