"""A session of the engine that says what a test wants, when it wants."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from engine.generate.wire import Chunk
from engine.recipe import Recipe
from tui import answers, ballot, promptrows
from tui.promptrows import HeldOutRow

__all__ = ["BASE", "ROWS", "TUNED", "FakeSession", "install", "piece"]

TUNED = "20251122-0816-demo"
BASE = f"{TUNED}@base"
ROWS = [
    ("Oak bench, 120 cm", "This oak bench seats two people. The oak is oiled by hand."),
    ("Copper kettle [/red]", "A kettle."),
]


def piece(column: str, text: str = "", **end: Any) -> Chunk:
    """A chunk as the engine gives it."""
    made = Chunk(column, 0, text, bool(end.get("done")), None, None, None)
    return replace(made, **end)


@dataclass(frozen=True)
class FakeColumn:
    id: str
    label: str


class FakeSession:
    """``engine.generate.session.Session``; what it says waits in ``chunks`` (None: that is all)."""

    def __init__(self) -> None:
        self.columns: list[Any] = []
        self.asked: list[tuple[Any, dict[str, Any], bool]] = []
        """(prompt, sampling by column, with probabilities) of every question."""
        self.opened = self.closed = self.cancelled = self.freed = 0
        self.stays = 0.0
        self.chunks: asyncio.Queue[Any] = asyncio.Queue()
        self.start_error: Exception | None = None
        self.say: Callable[[str | None, str], None] = lambda column, words: None
        self.ready = asyncio.Event()
        self._said = asyncio.Event()
        self.starts = asyncio.Event()
        self.starts.set()
        self.allow_beside_training = False
        self.script: Callable[[Any, str], list[Any]] | None = None
        """Says at once what a column answers to a prompt."""

    @property
    def prompts(self) -> list[Any]:
        return [prompt for prompt, _, _ in self.asked]

    def open(self, home: Any, columns: list[Any], say: Any) -> "FakeSession":
        self.columns, self.say = list(columns), say
        return self

    async def __aenter__(self) -> "FakeSession":
        self.opened += 1
        if self.start_error:
            raise self.start_error
        await self.starts.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1

    async def add(self, columns: list[Any]) -> None:
        self.columns += columns

    async def free(self) -> None:
        self.freed += 1

    async def stay(self, seconds: float) -> None:
        self.stays = seconds

    async def ask(
        self, prompt: Any, sampling: Mapping[str, Any], *, probabilities: bool = False
    ) -> AsyncIterator[Any]:
        self.asked.append((prompt, dict(sampling), probabilities))
        if self.script is not None:
            for column in sampling:
                for said in self.script(prompt, column):
                    yield said
            return
        # Without a timer: the screen is at rest while a test waits.
        either = {asyncio.ensure_future(one.wait()) for one in (self.ready, self._said)}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in either:
                one.cancel()
        while (said := await self.chunks.get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield said

    async def cancel(self) -> None:
        self.cancelled += 1
        for column in list(self.asked[-1][1]):
            self.end(column, "cancelled", 3)
        self._put(None)

    def _put(self, chunk: Any) -> None:
        self._said.set()
        self.chunks.put_nowait(chunk)

    def write(self, column: str, text: str, **more: Any) -> None:
        self._put(piece(column, text, **more))

    def end(self, column: str, reason: str = "eos", tokens: int = 24, **more: Any) -> None:
        self._put(
            piece(column, stop_reason=reason, tokens=tokens, seconds=0.5, **{"done": True, **more})
        )

    def over(self) -> None:
        self._put(None)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """The Play screen asks it, and finds columns, rows and votes without the engine."""
    fake = FakeSession()
    monkeypatch.setattr(answers, "can_answer", lambda home, run: True)
    monkeypatch.setattr(answers, "column", lambda home, ref: FakeColumn(ref, ref))
    monkeypatch.setattr(answers, "open_session", fake.open)
    monkeypatch.setattr(promptrows, "recipe_of", lambda home, run: Recipe(name="demo"))
    monkeypatch.setattr(promptrows, "remember", lambda home, prompt, source: None)

    def row(home: Any, run: str, number: int) -> HeldOutRow:
        number %= len(ROWS)
        return HeldOutRow(number, len(ROWS), *ROWS[number], "wares:test")

    monkeypatch.setattr(promptrows, "test_row", row)
    fake.votes = []  # type: ignore[attr-defined]

    def vote(home: Any, *told: Any, **more: Any) -> str:
        fake.votes.append((told, more))  # type: ignore[attr-defined]
        return f"vote{len(fake.votes)}"  # type: ignore[attr-defined]

    monkeypatch.setattr(ballot, "cast_vote", vote)
    return fake
