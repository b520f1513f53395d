"""Small OpenAI-compatible servers on loopback that answer, or fail, as a test wants."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Asked", "Server", "event", "serving", "told"]


@dataclass
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str
    ) -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)

    async def begin(self) -> None:
        """A stream; ended by closing the connection, or cut by doing so in a chunk."""
        await self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def say(self, *words: str, finish: str = "stop", usage: int | None = None) -> None:
        """A good answer."""
        await self.begin()
        for word in words:
            await self.chunk(event(word))
        await self.chunk(event(None, finish))
        if usage is not None:
            last = {"choices": [], "usage": {"completion_tokens": usage}}
            await self.chunk(b"data: " + json.dumps(last).encode() + b"\n\n")
        await self.chunk(b"data: [DONE]\n\n")
        await self.end()


Handler = Callable[[Asked], Awaitable[None]]


@dataclass
class Server:
    url: str
    asked: list[Asked] = field(default_factory=list)
    open: int = 0
    """Connections that are there now."""


def event(text: str | None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


def told(message: str) -> bytes:
    """An error's body as OpenAI writes it."""
    return json.dumps({"error": {"message": message, "type": "x"}}).encode()


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    """A server whose every request goes to ``handler``."""
    found = Server("")
    tasks: set[Any] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.open += 1
        tasks.add(asyncio.current_task())
        try:
            if (first := await reader.readexactly(1)) == b"\x16":  # TLS
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            asked = Asked(head[0].split()[1], headers, json.loads(body or b"{}"), writer)
            found.asked.append(asked)
            await handler(asked)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            found.open -= 1
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
