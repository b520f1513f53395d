"""Prompts under way in a session: the tasks that get their answers, and what comes of them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from engine.generate.wire import Chunk, Messages
from engine.recipe import GenerateSection

if TYPE_CHECKING:
    from engine.generate.session import Session

__all__ = ["Asking"]

LAST_WORD_SECONDS = 2.0
AT_ONCE = 4
"""Prompts that one server is asked at the same time."""


class Asking:
    """Prompts, and the tasks that get their answers."""

    def __init__(
        self,
        session: "Session",
        prompts: dict[int, str | Messages],
        sampling: dict[str, GenerateSection],
        probabilities: bool,
        stream: bool,
    ) -> None:
        self.session, self.prompts, self.sampling = session, prompts, sampling
        self.probabilities, self.stream = probabilities, stream
        self.open = {(name, index) for name in sampling for index in prompts}
        """(column, prompt) of the answers that have not ended."""
        self._chunks: asyncio.Queue[Chunk] = asyncio.Queue()
        self._sent = False
        """The worker has the prompts: it says itself that they were cancelled."""
        columns = session.columns
        self._names = [name for name in sampling if columns[name].endpoint is None]
        self._local: asyncio.Task[None] | None = None
        if self._names and prompts:
            self._local = self._task(self._ask_worker(), self._names, list(prompts))
        self._servers: list[asyncio.Task[None]] = []
        for name in sampling:
            if columns[name].endpoint is not None:
                turn = asyncio.Semaphore(AT_ONCE)
                self._servers += [
                    self._task(self._ask_server(name, index, turn), [name], [index])
                    for index in prompts
                ]

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        while self.open:
            chunk = await self._chunks.get()
            key = (chunk.column, chunk.prompt)
            if key not in self.open:
                continue  # said after its end
            if chunk.done:
                self.open.discard(key)
            yield chunk
        if self._local is not None:  # the worker has its last word: how it answered
            await asyncio.wait({self._local}, timeout=LAST_WORD_SECONDS)

    async def cancel(self) -> None:
        for task in self._servers:
            task.cancel()
        if self._local is None:
            return
        client = self.session.client
        if self._sent and client is not None and not client.gone:
            await client.cancel()
        else:
            self._local.cancel()

    async def end(self) -> None:
        """Leave no task behind."""
        tasks = [task for task in (self._local, *self._servers) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task(
        self, asking: AsyncGenerator[Chunk, None], names: list[str], indices: list[int]
    ) -> "asyncio.Task[None]":
        """Hands on what comes; every one of these answers gets an end, whatever happens."""
        left = dict.fromkeys((name, index) for index in indices for name in names)

        def end(chunk: Chunk) -> None:
            left.pop((chunk.column, chunk.prompt), None)
            self._chunks.put_nowait(chunk)

        async def hand_on() -> None:
            try:
                async with contextlib.aclosing(asking) as chunks:
                    async for chunk in chunks:
                        if chunk.done:
                            end(chunk)
                        else:
                            self._chunks.put_nowait(chunk)
            except Exception as error:
                for name, index in list(left):
                    end(Chunk.failed(name, index, error))

        def cancelled(task: "asyncio.Task[None]") -> None:
            for name, index in list(left):  # also where it was cancelled before it began
                end(Chunk(name, index, "", True, "cancelled", None, None))

        task = asyncio.create_task(hand_on())
        task.add_done_callback(cancelled)
        return task

    async def _ask_worker(self) -> AsyncGenerator[Chunk, None]:
        client = await self.session.local()
        answers = client.generate(
            list(self.prompts.values()),
            self.sampling,
            self._names,
            indices=list(self.prompts),
            stream=self.stream,
            probabilities=self.probabilities,
            partial=True,
        )
        self._sent = True
        async with contextlib.aclosing(answers) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _ask_server(
        self, name: str, index: int, turn: asyncio.Semaphore
    ) -> AsyncGenerator[Chunk, None]:
        async with turn:
            answers = self.session.servers[name].ask(
                self.prompts[index],
                self.sampling[name],
                index=index,
                probabilities=self.probabilities,
            )
            async with contextlib.aclosing(answers) as chunks:
                async for chunk in chunks:
                    yield chunk
