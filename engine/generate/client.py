"""The torch-free side of the playground: starts or finds the worker, and streams its answers."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from engine.errors import NeedsConsent, UserError
from engine.generate.columns import Column
from engine.generate.connection import connect, gone
from engine.generate.wire import (
    Chunk,
    Messages,
    decode,
    encode,
)
from engine.home import Home
from engine.recipe import GenerateSection

__all__ = ["Chunk", "GenerationClient"]


class GenerationClient:
    """A connection to this home's generation worker, with some columns loaded.

    ``async with GenerationClient.start(home, columns) as client`` returns as soon as the worker
    listens; ``client.phase`` and ``on_status`` say how far loading is. One ``generate`` at a time.
    """

    def __init__(
        self,
        home: Home,
        columns: Sequence[Column],
        on_status: Callable[[str], None] | None,
        warm_up: bool = False,
        allow_beside_training: bool = False,
        idle_seconds: float | None = None,
    ) -> None:
        self.home = home
        self.columns = list(columns)
        self.on_status = on_status
        self.warm_up = warm_up
        self.allow_beside_training = allow_beside_training
        """Load models also where that may harm a training run; may be set at any time."""
        self.idle_seconds = idle_seconds
        self.failed: dict[str, UserError] = {}
        """Columns that could not be loaded, and why; asking them tries again."""
        self.phase = "starting"
        self.notes: list[str] = []
        """What there is to say about how the last prompts were answered, in words."""
        self._number = 0
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._loaded: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    def start(
        cls,
        home: Home,
        columns: Sequence[Column],
        on_status: Callable[[str], None] | None = None,
        *,
        warm_up: bool = False,
        allow_beside_training: bool = False,
        idle_seconds: float | None = None,
    ) -> "GenerationClient":
        """To be entered with ``async with``; finds the home's worker or starts one.

        ``warm_up``: single prompts to all the columns follow, and each first token shall come at
        once; loading takes a second longer on a GPU. ``allow_beside_training``: also on a GPU that
        a run of this home trains on. ``idle_seconds``: how long without a request until the worker
        gives the memory back (default: 10 minutes).
        """
        return cls(home, columns, on_status, warm_up, allow_beside_training, idle_seconds)

    @property
    def gone(self) -> bool:
        """Whether the worker has ended, or was never reached."""
        return self._writer is None or self._writer.is_closing()

    async def __aenter__(self) -> "GenerationClient":
        self._status("starting")
        reader, self._writer = await connect(self.home)
        self._reader = asyncio.create_task(self._read(reader))
        self._loaded = self._load(self.columns)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._reader:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def add(self, columns: Sequence[Column]) -> None:
        """Load more columns; those whose base is loaded cost their adapter only.

        Raises :class:`UserError` where one cannot be loaded; the others are.
        """
        self.columns += columns
        await self._load(columns)
        for column in columns:
            if column.id in self.failed:
                raise self.failed[column.id]

    def want(self, columns: Sequence[Column]) -> None:
        """As :meth:`add`, without waiting: who asks these columns waits."""
        self.columns += columns
        self._loaded = self._load(columns)

    async def ready(self) -> None:
        """Wait until the columns are loaded. Raises :class:`UserError` where one cannot be."""
        await self.settled()
        for error in self.failed.values():
            raise error

    async def settled(self) -> None:
        """Wait until each column is loaded or has :attr:`failed`."""
        assert self._loaded is not None, "not entered"
        await asyncio.shield(self._loaded)

    async def generate(
        self,
        prompt: str | Sequence[str | Messages],
        sampling: "GenerateSection | Mapping[str, Any] | None" = None,
        columns: Sequence[str] | None = None,
        *,
        indices: Sequence[int] | None = None,
        stream: bool = True,
        probabilities: bool = False,
        partial: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """Answer a prompt (or several) in all columns (or those with these ids), as it comes.

        A prompt is a text or a conversation (a list of messages); one conversation is given as a
        list that holds it. ``sampling`` are settings of ``[generate]``, or a ``GenerateSection``
        for each column id; missing settings are the first column's. ``indices`` number the prompts
        (0, 1, ... when None): prompt *n* is sampled with the seed ``seed + n``. ``stream=False``:
        one chunk an answer, when it is done, which is faster for many. ``probabilities``: chunks
        have their pieces. Raises :class:`UserError` when the worker cannot, or a column; with
        ``partial`` that column's answer ends with the error. Leaving the iteration early cancels.
        """
        if not partial:
            await self.ready()
        number, answers = self._request()
        names = list(columns) if columns is not None else [c.id for c in self.columns]
        self._send(
            type="generate",
            id=number,
            prompts=[prompt] if isinstance(prompt, str) else list(prompt),
            columns=names,
            sampling=self._sampling(sampling, names),
            indices=list(indices) if indices is not None else None,
            stream=stream,
            probabilities=probabilities,
            allow=self.allow_beside_training,
        )
        finished = False
        try:
            while True:
                message = await answers.get()
                if message["type"] == "chunk":
                    chunk = _chunk(message)
                    if chunk.error is not None and not partial:
                        raise UserError(chunk.error)
                    yield chunk
                    continue
                finished = True
                if message["type"] == "error":
                    raise UserError(message["message"])
                self.notes = message.get("notes", [])
                return
        finally:
            self._answers.pop(number, None)
            if not finished:
                with contextlib.suppress(UserError):
                    self._send(type="cancel")

    async def cancel(self) -> None:
        """End the generation under way; its iteration then ends with reason "cancelled"."""
        self._send(type="cancel")

    async def free(self) -> None:
        """Let the worker give the memory of its models back; the next prompt loads them again."""
        number, answers = self._request()
        self._send(type="free", id=number)
        message = await answers.get()
        self._answers.pop(number, None)
        if message["type"] == "error":
            raise UserError(message["message"])

    def stay(self, seconds: float) -> None:
        """The worker stays so long after its last viewer has left; 0: it ends with it."""
        self._send(type="stay", seconds=seconds)

    # ---- the connection ---------------------------------------------------------------------

    def _sampling(
        self, sampling: "GenerateSection | Mapping[str, Any] | None", names: Sequence[str]
    ) -> dict[str, Any]:
        """Settings for each of these columns."""
        if isinstance(sampling, GenerateSection):
            return dict.fromkeys(names, sampling.model_dump())
        given = dict(sampling or {})
        if any(isinstance(value, GenerateSection) for value in given.values()):
            return {name: given[name].model_dump() for name in names}
        if not self.columns:
            return {}
        whole = {**self.columns[0].recipe.generate.model_dump(), **given}
        return dict.fromkeys(names, whole)

    def _status(self, phase: str) -> None:
        self.phase = phase
        if self.on_status:
            self.on_status(phase)

    def _request(self) -> tuple[int, asyncio.Queue[dict[str, Any]]]:
        self._number += 1
        self._answers[self._number] = asyncio.Queue()
        return self._number, self._answers[self._number]

    def _load(self, columns: Sequence[Column]) -> "asyncio.Future[None]":
        number, answers = self._request()
        self._send(
            type="load",
            id=number,
            columns=[column.to_json() for column in columns],
            warm_up=self.warm_up,
            allow=self.allow_beside_training,
            idle_seconds=self.idle_seconds,
        )

        async def wait() -> None:
            message = await answers.get()
            self._answers.pop(number, None)
            if message["type"] == "error":
                raise UserError(message["message"])
            for column in columns:
                self.failed.pop(column.id, None)
            for name, failure in message["failed"].items():
                kind = NeedsConsent if failure["consent"] else UserError
                self.failed[name] = kind(failure["message"])

        task = asyncio.ensure_future(wait())
        # Somebody who leaves before asking for an answer shall not see "exception never retrieved".
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _send(self, **message: Any) -> None:
        if self._writer is None or self._writer.is_closing():
            raise UserError(self._gone())
        self._writer.write(encode(message))

    def _gone(self) -> str:
        return gone(self.home)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                message = decode(line)
                if message["type"] == "status":
                    self._status(message["phase"])
                elif (queue := self._answers.get(message.get("id") or 0)) is not None:
                    queue.put_nowait(message)
        except (OSError, ValueError):
            pass
        for queue in self._answers.values():
            queue.put_nowait({"type": "error", "message": self._gone()})
        if self._writer:
            self._writer.close()


def _chunk(message: dict[str, Any]) -> Chunk:
    pieces = message.get("pieces")
    return Chunk(
        column=message["column"],
        prompt=message["prompt"],
        text_delta=message["text"],
        done=message["done"],
        stop_reason=message.get("stop_reason"),
        tokens=message.get("tokens"),
        seconds=message.get("seconds"),
        first_seconds=message.get("first_seconds"),
        error=message.get("error"),
        needs_consent=bool(message.get("needs_consent")),
        pieces=None if pieces is None else [(text, odds) for text, odds in pieces],
    )
