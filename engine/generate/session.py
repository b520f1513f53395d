"""What a playground holds: columns of ours by the worker, servers by HTTP, all asked together.

Torch-free. A column that fails says so at the end of its answer; the others go on.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from engine.errors import UserError
from engine.generate.asking import Asking
from engine.generate.client import GenerationClient
from engine.generate.columns import Column
from engine.generate.endpoint import EndpointClient
from engine.generate.wire import Chunk, Messages
from engine.home import Home
from engine.recipe import GenerateSection

__all__ = ["OnStatus", "Session"]

OnStatus = Callable[[str | None, str], None]
"""(column's id, or None for all the local ones; what it is doing, in words; "" once it answers)."""


class Session:
    """Columns that answer prompts; to be entered with ``async with Session.open(...)``.

    Entering loads nothing yet that takes long: the worker loads in the background, and a prompt
    waits for it. One :meth:`ask` at a time.
    """

    def __init__(
        self,
        home: Home,
        columns: Sequence[Column],
        on_status: OnStatus,
        warm_up: bool,
        allow_beside_training: bool,
        idle_seconds: float | None,
    ) -> None:
        self.home, self.on_status, self.warm_up = home, on_status, warm_up
        self.idle_seconds = idle_seconds
        self.columns: dict[str, Column] = {}
        """By id, in the order in which they came."""
        self._allow = allow_beside_training
        self._wanted = list(columns)
        self.client: GenerationClient | None = None
        self._connecting = asyncio.Lock()
        self.servers: dict[str, EndpointClient] = {}
        self._stay: float | None = None
        self._asking: Asking | None = None

    @classmethod
    def open(
        cls,
        home: Home,
        columns: Sequence[Column],
        on_status: OnStatus = lambda column, words: None,
        *,
        warm_up: bool = True,
        allow_beside_training: bool = False,
        idle_seconds: float | None = None,
    ) -> "Session":
        """A session, to be entered.

        ``warm_up``: a local first token shall come at once. ``allow_beside_training``: load models
        also on a GPU that a run of this home trains on, see :attr:`allow_beside_training`.
        ``idle_seconds``: how long without a prompt until the worker gives the memory back (default:
        10 minutes).
        """
        return cls(home, columns, on_status, warm_up, allow_beside_training, idle_seconds)

    async def __aenter__(self) -> Self:
        await self.add(self._wanted)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._asking is not None:
            await self._asking.end()
        for server in self.servers.values():
            await server.close()
        if self.client is not None:
            await self.client.__aexit__(None, None, None)
            self.client = None

    @property
    def allow_beside_training(self) -> bool:
        """Whether models are loaded where a training run may need the memory.

        While this is false, such a column's answer ends with an error that has ``needs_consent``
        set: ask the user, set this, ask the column again.
        """
        return self._allow

    @allow_beside_training.setter
    def allow_beside_training(self, allow: bool) -> None:
        self._allow = allow
        if self.client is not None:
            self.client.allow_beside_training = allow

    @property
    def notes(self) -> list[str]:
        """What there is to say about how the last prompt was answered here, in words."""
        return list(self.client.notes) if self.client is not None else []

    async def add(self, columns: Sequence[Column]) -> None:
        """More columns; those that are here already stay as they are."""
        new = list({c.id: c for c in columns if c.id not in self.columns}.values())
        self.columns |= {column.id: column for column in new}
        local = [column for column in new if column.endpoint is None]
        for column in new:
            if column.endpoint is not None:
                self.servers[column.id] = EndpointClient(column, self._saying(column.id))
        if not local:
            return
        if self.client is not None and not self.client.gone:
            self.client.want(local)
            return
        with contextlib.suppress(UserError):  # asking says it
            await self.local()

    async def ready(self) -> None:
        """Wait for the local columns.

        Raises :class:`UserError` where one cannot be loaded (:class:`NeedsConsent`: unless the user
        allows it).
        """
        if self._local_columns():
            await (await self.local()).ready()

    async def ask(
        self,
        prompt: str | Messages,
        sampling: Mapping[str, GenerateSection],
        *,
        index: int = 0,
        probabilities: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """One answer for each column id in ``sampling``, all streaming at once.

        A prompt is a text, or a conversation that ends with what the user says. It is sampled with
        the seed ``seed + index`` of each column's settings. A column that fails ends with the stop
        reason "error" and words in ``error``; leaving the iteration cancels. Raises
        :class:`UserError` for a column that is not here.
        """
        many = self.ask_many([prompt], sampling, indices=[index], probabilities=probabilities)
        async with contextlib.aclosing(many) as chunks:
            async for chunk in chunks:
                yield chunk

    async def ask_many(
        self,
        prompts: Sequence[str | Messages],
        sampling: Mapping[str, GenerateSection],
        *,
        indices: Sequence[int] | None = None,
        probabilities: bool = False,
        stream: bool = True,
    ) -> AsyncGenerator[Chunk, None]:
        """As :meth:`ask`, of several prompts; chunks say by ``prompt`` which one they answer.

        ``indices`` number the prompts (0, 1, ... when None): prompt *n* is sampled with the seed
        ``seed + n``. ``stream=False``: local answers come whole, which is faster for many.
        """
        if missing := [name for name in sampling if name not in self.columns]:
            raise UserError(f"column {missing[0]!r} is not in this session")
        numbers = list(range(len(prompts))) if indices is None else list(indices)
        numbered = dict(zip(numbers, prompts, strict=True))
        asking = Asking(self, numbered, dict(sampling), probabilities, stream)
        self._asking = asking
        try:
            async for chunk in asking.chunks():
                yield chunk
        finally:
            await asking.end()
            if self._asking is asking:
                self._asking = None

    async def cancel(self) -> None:
        """End the answers under way: their iteration then ends, with reason "cancelled"."""
        if self._asking is not None:
            await self._asking.cancel()

    async def free(self) -> None:
        """Give the memory of the local models back now; the next prompt loads them again."""
        await self.cancel()
        if self.client is not None and not self.client.gone:
            await self.client.free()

    async def stay(self, seconds: float) -> None:
        """The worker outlives this session by so long, its models loaded; 0: it does not."""
        self._stay = seconds
        if self.client is not None and not self.client.gone:
            self.client.stay(seconds)

    # ---- the worker ----------------------------------------------------------------------------

    def _local_columns(self) -> list[Column]:
        return [column for column in self.columns.values() if column.endpoint is None]

    def _saying(self, name: str | None) -> Callable[[str], None]:
        return lambda words: self.on_status(name, words)

    async def local(self) -> GenerationClient:
        """The worker's client: a new one after the worker has died."""
        async with self._connecting:
            if self.client is not None and not self.client.gone:
                return self.client
            if self.client is not None:
                await self.client.__aexit__(None, None, None)
                self.client = None
            client = GenerationClient.start(
                self.home,
                self._local_columns(),
                self._saying(None),
                warm_up=self.warm_up,
                allow_beside_training=self._allow,
                idle_seconds=self.idle_seconds,
            )
            await client.__aenter__()
            if self._stay is not None:
                client.stay(self._stay)
            self.client = client
            return client
