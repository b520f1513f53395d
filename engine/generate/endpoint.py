"""Answers of an OpenAI-compatible server, streamed: ``POST {URL}/chat/completions``.

Nothing is sent but what somebody asks, and no key but that of the variable which the user named;
nothing is followed elsewhere. Whatever goes wrong is the end of the answer, in words.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.generate.address import Endpoint
from engine.generate.answer_text import GrowingText, Piece
from engine.generate.columns import Column
from engine.generate.events import (
    MOST_TEXT,
    Delta,
    NoEvent,
    delta_of,
    lines,
    whole_answer,
)
from engine.generate.refusals import Refused, refusal
from engine.generate.request import Request
from engine.generate.wire import Chunk, Messages
from engine.recipe import GenerateSection
from engine.words import duration

if TYPE_CHECKING:
    import httpx

__all__ = ["EndpointClient"]

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 120.0
"""A server that loads its model first says nothing for a minute or two."""
PATIENT_SECONDS = 20.0
"""Asked to come back within this time, it is asked once more."""
MOST_ERROR = 64 << 10

REASONS = {"length": "length", "max_tokens": "length"}


class EndpointClient:
    """One column's server; :meth:`close` at the end. Several answers at once are fine."""

    def __init__(
        self,
        column: Column,
        on_status: Callable[[str], None] = lambda words: None,
        *,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        assert column.endpoint is not None
        self.column, self.on_status = column, on_status
        self.endpoint: Endpoint = column.endpoint
        self.silent_seconds = silent_seconds
        self.request = Request(self.endpoint)
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def ask(
        self,
        prompt: str | Messages,
        sampling: GenerateSection,
        *,
        index: int = 0,
        probabilities: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """One answer; its last chunk is done, with whatever came of it. Never raises UserError."""
        answer = _Answer(self.column.id, index, sampling, probabilities)
        try:
            async with aclosing(self._deltas(prompt, sampling, index, probabilities)) as deltas:
                async for delta in deltas:
                    if chunk := answer.take(delta):
                        yield chunk
                    if answer.text.stopped:
                        break  # by a stop string that the server does not know
            yield answer.end()
        except UserError as error:
            yield answer.end(error)

    async def _deltas(
        self, prompt: str | Messages, sampling: GenerateSection, index: int, probabilities: bool
    ) -> AsyncGenerator[Delta, None]:
        """The answer's pieces; a request that the server does not take is put in another way."""
        waited = False
        while True:
            path, body = self.request.made(prompt, sampling, index, probabilities)
            try:
                async with aclosing(self._stream(path, body)) as stream:
                    async for delta in stream:
                        yield delta
                return
            except Refused as refused:
                wait = refused.wait if refused.status == 429 else None
                if wait is not None and wait <= PATIENT_SECONDS and not waited:
                    waited = True
                    self.on_status(f"{self.endpoint.host} asks to wait {duration(wait)}")
                    await asyncio.sleep(wait)
                elif not (note := self.request.put_otherwise(refused, path, body, prompt)):
                    raise self.request.explained(refused, body) from None
                else:
                    self.on_status(note)

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Delta, None]:
        import httpx

        host = self.endpoint.host
        key = self._key()
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.on_status(f"waiting for {host}")
        came = False
        try:
            client = await self._opened()
            url = f"{self.endpoint.url}/{path}"
            async with client.stream("POST", url, json=body, headers=headers) as response:
                if response.status_code != 200:
                    said = await _some(response, MOST_ERROR)
                    raise refusal(self.endpoint, response.status_code, response.headers, said, key)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise NoEvent("compresses its answer although it was asked not to")
                self.on_status("")
                if response.headers.get("content-type", "").startswith("application/json"):
                    yield whole_answer(await _some(response, MOST_TEXT))
                    return
                finished = False
                async for line in lines(response.aiter_raw()):
                    delta = delta_of(line)
                    if delta is None:
                        return
                    came = True
                    finished = finished or delta.finish is not None
                    yield delta
                if not finished:
                    raise UserError(f"{host}: cut the answer off before its end")
        except httpx.TimeoutException as error:
            raise UserError(f"{host}: {self._slow(error, came)}") from None
        except httpx.HTTPError as error:
            raise UserError(f"{host}: {_failure(error, came)}") from None
        except NoEvent as error:
            raise UserError(
                f"{host}: {error}; is {self.endpoint.url} an OpenAI-compatible server?"
            ) from None
        except Refused:
            raise
        except UserError as error:
            words = str(error)
            words = words if words.startswith(host) else f"{host}: {words}"
            raise UserError(words.replace(key, "…") if key else words) from None
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise UserError(
                f"{self.endpoint.url}: cannot be asked ({type(error).__name__})"
            ) from None

    def _slow(self, error: "httpx.TimeoutException", came: bool) -> str:
        import httpx

        if isinstance(error, httpx.ConnectTimeout):
            return f"does not answer within {duration(CONNECT_SECONDS)}"
        said = "has said nothing more" if came else "has said nothing"
        return f"{said} for {duration(self.silent_seconds)}; given up"

    def _key(self) -> str:
        name = self.endpoint.key
        if not name:
            return ""
        key = os.environ.get(name, "").strip()
        if not key:
            raise UserError(
                f"{self.endpoint.host}: the environment variable {name}, which is to hold the key, "
                "is not set here"
            )
        if not key.isascii() or not key.isprintable():
            raise UserError(f"{self.endpoint.host}: what ${name} holds cannot be a key")
        return key

    async def _opened(self) -> "httpx.AsyncClient":
        async with self._opening:
            if self._client is None:
                import httpx

                times = httpx.Timeout(self.silent_seconds, connect=CONNECT_SECONDS)
                # In a thread: certificates are read. No redirects; no password of a .netrc.
                self._client = await asyncio.to_thread(
                    lambda: httpx.AsyncClient(timeout=times, follow_redirects=False, auth=None)
                )
            return self._client


async def _some(response: "httpx.Response", most: int) -> bytes:
    """The body, or its beginning."""
    found = bytearray()
    async for piece in response.aiter_raw():
        found += piece
        if len(found) >= most:
            break
    return bytes(found[:most])


def _failure(error: "httpx.HTTPError", came: bool) -> str:
    """Why a connection did not come about, or ended."""
    import httpx

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return "there is no host of that name"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there (connection refused); is the server running?"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "does not speak TLS; is it http:// instead of https://?"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy does not let it through ({error})"
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached"
    if came:
        return "cut the answer off before its end"
    return "ended the connection without an answer"


class _Answer:
    """One answer as it grows, as chunks."""

    def __init__(
        self, column: str, index: int, sampling: GenerateSection, probabilities: bool
    ) -> None:
        self.column, self.index = column, index
        self.stops = bool(sampling.stop_strings)
        self.probabilities = probabilities
        self.text = GrowingText(sampling.stop_strings, with_odds=probabilities)
        self.began = time.perf_counter()
        self.first: float | None = None
        self.counted = 0
        """Events with text: what most servers send for each token."""
        self.tokens: int | None = None
        self.length = 0
        self.finish: str | None = None
        self.stop_string = False
        self.knows_odds = False

    def take(self, delta: Delta) -> Chunk | None:
        if delta.tokens is not None:
            self.tokens = delta.tokens
        if delta.finish is not None:
            self.finish = delta.finish
            self.stop_string = delta.stop_string
        if not delta.text and not delta.thought:
            return None
        self.counted += 1
        if self.first is None:
            self.first = time.perf_counter() - self.began
        self.length += len(delta.text)
        if self.length > MOST_TEXT:
            raise UserError(f"sends an answer of more than {MOST_TEXT >> 20} Mi characters")
        self.knows_odds = self.knows_odds or bool(delta.pieces)
        said, pieces = "", list[Piece]()
        for text, odds in delta.pieces or [(delta.text, 0.0)]:
            more = self.text.add(text, odds)
            said, pieces = said + more[0], pieces + more[1]
            if self.text.stopped:
                break
        return self._chunk(said, pieces) if said else None

    def end(self, error: UserError | None = None) -> Chunk:
        said, pieces = self.text.end()
        reason = "eos"
        if error is not None:
            reason = "error"
        elif self.text.stopped or (self.finish == "stop" and (self.stop_string or self.stops)):
            reason = "stop"
        elif self.finish == "content_filter":
            reason, error = "error", UserError("the server's content filter ended the answer")
        elif self.finish is not None:
            reason = REASONS.get(self.finish, "eos")
        chunk = self._chunk(said, pieces)
        return Chunk(
            chunk.column,
            chunk.prompt,
            said,
            True,
            reason,
            self.counted if self.tokens is None else self.tokens,
            time.perf_counter() - self.began,
            self.first,
            None if error is None else str(error),
            pieces=chunk.pieces,
        )

    def _chunk(self, said: str, pieces: list[Piece]) -> Chunk:
        shown = pieces if self.probabilities and self.knows_odds else None
        return Chunk(self.column, self.index, said, False, None, None, None, pieces=shown)
