"""Asks the columns of the Play screen: one session of the engine for all prompts."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.text import clip, safe_line
from tui import answers
from tui.lineup import Seat

if TYPE_CHECKING:
    from engine.home import Home
    from engine.recipe import GenerateSection

__all__ = ["Asker"]


class Asker:
    """The session is opened by the first question and kept, with the models warm, until closed.

    ``touched`` is called for every seat whose answer changed. Nothing in here raises: what goes
    wrong stands in the answers.
    """

    def __init__(self, home: "Callable[[], Home]", touched: Callable[[Seat], None]) -> None:
        self._home, self._touched = home, touched
        self.allowed = False
        """The user said that models may be loaded beside a training run."""
        self._opened: Any = None
        self._session: answers.Session | None = None
        self._loaded: set[str] = set()
        """Ids of the columns that the session has."""
        self._seats: Sequence[Seat] = ()
        self._task: asyncio.Task[None] | None = None
        self._streaming = self._halted = False
        """The session has a question to answer; the user wants no more of them."""
        self._words: dict[str, str] = {}
        self._since = 0.0
        self.consent: str = ""
        """Why the engine wants to be told that it may load; "": it does not."""

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def ask(
        self,
        seats: Sequence[Seat],
        prompts: Sequence[Any],
        sampling: "GenerateSection",
        *,
        probabilities: bool = False,
        ended: Callable[[], None],
    ) -> None:
        """Ask each seat its prompt; returns at once. ``ended`` is called when all is over."""
        assert not self.busy
        self._seats = seats
        self._since = time.monotonic()
        self._words = {}
        self.consent, self._halted = "", False
        for seat in seats:
            seat.answer.done = False
        self._task = asyncio.ensure_future(self._ask(list(prompts), sampling, probabilities, ended))

    async def _ask(
        self,
        prompts: list[Any],
        sampling: "GenerateSection",
        probabilities: bool,
        ended: Callable[[], None],
    ) -> None:
        try:
            await self._look_up()
            able = [seat for seat in self._seats if not seat.answer.done]
            if able:
                session = await self._open(able)
                # A session is asked one thing at a time: all columns together, unless their
                # conversations differ.
                groups: dict[str, list[Seat]] = {}
                given = dict(zip(self._seats, prompts, strict=True))
                for seat in able:
                    groups.setdefault(repr(given[seat]), []).append(seat)
                for group in groups.values():
                    if not self._halted:
                        await self._stream(session, given[group[0]], group, sampling, probabilities)
        except asyncio.CancelledError:
            await self.close()
        except Exception as error:
            for seat in self._seats:
                seat.answer.fail(error)
            await self.close()
        for seat in self._seats:
            if not seat.answer.done:
                seat.answer.done, seat.answer.stop_reason = True, "cancelled"
            self._touched(seat)
        ended()

    async def _look_up(self) -> None:
        """Find the columns; a seat whose column cannot be found says why."""
        ids: set[str] = set()
        for seat in self._seats:
            if seat.column is None:
                try:
                    seat.column = await asyncio.to_thread(answers.column, self._home(), seat.ref)
                except Exception as error:
                    seat.answer.fail(error)
                    self._touched(seat)
                    continue
            while seat.column.id in ids:  # one model by two names, or with two samplings
                seat.column = replace(seat.column, id=f"{seat.column.id}'")
            ids.add(seat.column.id)

    async def _open(self, seats: Sequence[Seat]) -> "answers.Session":
        columns = [seat.column for seat in seats]
        if self._session is None:
            self._say(None, "starting")
            self._opened = answers.open_session(self._home(), columns, self._say)
            self._session = await self._opened.__aenter__()
            self._loaded = {column.id for column in columns}
        elif more := [column for column in columns if column.id not in self._loaded]:
            await self._session.add(more)
            self._loaded |= {column.id for column in more}
        self._session.allow_beside_training = self.allowed
        return self._session

    async def _stream(
        self,
        session: "answers.Session",
        prompt: Any,
        seats: Sequence[Seat],
        sampling: "GenerateSection",
        probabilities: bool,
    ) -> None:
        by_id = {seat.column.id: seat for seat in seats}
        wanted = {id: seat.settings(sampling) for id, seat in by_id.items()}
        self._streaming = True
        try:
            async for chunk in session.ask(prompt, wanted, probabilities=probabilities):
                seat = by_id[chunk.column]
                seat.answer.take(chunk)
                if chunk.needs_consent:
                    self.consent = chunk.error or ""
                self._touched(seat)
        finally:
            self._streaming = False

    # --- what is said meanwhile

    def _say(self, column: str | None, words: str) -> None:
        self._words[column or ""] = clip(safe_line(words), 40)
        self.tell()

    def tell(self) -> None:
        """Say in answers that nothing came of yet what is being done, and for how long."""
        seconds = int(time.monotonic() - self._since)
        for seat in self._seats:
            answer = seat.answer
            if answer.done or answer.text:
                continue
            id = seat.column.id if seat.column is not None else ""
            doing = self._words.get(id) or self._words.get("", "")
            if doing:
                answer.words = f"{doing} … {seconds} s"
                self._touched(seat)

    # --- ends

    async def halt(self) -> None:
        """Stop the answers; what came stays, and models that load go on loading."""
        if not self.busy:
            return
        self._halted = True
        if self._session is not None and self._streaming:
            await self._session.cancel()
        elif self._task is not None:
            self._task.cancel()

    async def free(self) -> None:
        """Give the memory back; the next question loads again."""
        if self._session is not None:
            await self._session.free()

    async def stay(self, seconds: float) -> bool:
        """The models stay loaded so long after the workbench is left; False: none are loaded."""
        if self._session is None:
            return False
        await self._session.stay(seconds)
        return True

    async def close(self) -> None:
        opened, self._opened, self._session = self._opened, None, None
        self._loaded = set()
        if opened is not None:
            await opened.__aexit__(None, None, None)

    async def leave(self) -> None:
        """The screen is left for good."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.close()
