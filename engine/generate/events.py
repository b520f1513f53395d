"""What a server streams, event by event: lines of bounded length, each JSON or refused."""

import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from engine.errors import UserError
from engine.generate.answer_text import Piece

__all__ = ["MOST_LINE", "MOST_TEXT", "Delta", "NoEvent", "delta_of", "lines", "whole_answer"]

MOST_LINE = 1 << 20
"""Longest line in bytes."""
MOST_TEXT = 4 << 20
"""Longest answer in characters."""
FIELDS = (b"event:", b"id:", b"retry:", b":")
"""Lines of server-sent events that carry nothing for us."""


class NoEvent(UserError):
    """What came is no event of an OpenAI-compatible server."""


@dataclass(frozen=True)
class Delta:
    """What one event adds to an answer."""

    text: str = ""
    thought: bool = False
    """The model thinks (reasoning that is no part of the answer)."""
    finish: str | None = None
    """OpenAI's: "stop", "length", "content_filter", ..."""
    stop_string: bool = False
    """The server says that a stop string ended it."""
    tokens: int | None = None
    """Of the whole answer, where the server counts."""
    pieces: list[Piece] = field(default_factory=list)


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream without their ends. Raises :class:`NoEvent` for one without an end."""
    buffer, looked = bytearray(), 0
    async for piece in pieces:
        buffer += piece
        while (end := buffer.find(b"\n", looked)) >= 0:
            line = bytes(buffer[:end]).rstrip(b"\r")
            del buffer[: end + 1]
            looked = 0
            yield line
        looked = len(buffer)
        if looked > MOST_LINE:
            raise NoEvent(f"sends a line of more than {MOST_LINE >> 20} MiB")
    if buffer:
        yield bytes(buffer)


def delta_of(line: bytes) -> Delta | None:
    """What a line of the stream adds; None: the stream says that it is done.

    Raises :class:`NoEvent` for anything else, and :class:`UserError` with the server's own words
    when it gives up in the middle.
    """
    if not line or line.startswith(FIELDS):
        return Delta()
    if not line.startswith(b"data:"):
        raise NoEvent(f"sends no answer but {_quoted(line)}")
    data = line.removeprefix(b"data:").strip()
    if data == b"[DONE]":
        return None
    return _delta(_json(data))


def whole_answer(body: bytes) -> Delta:
    """The answer of a server that does not stream."""
    return _delta(_json(body))


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise NoEvent(f"sends no answer but {_quoted(data)}") from None


def _delta(event: Any) -> Delta:
    if not isinstance(event, dict):
        raise NoEvent(f"sends no answer but {_quoted(json.dumps(event).encode())}")
    if event.get("error"):
        error = event["error"]
        words = error.get("message") if isinstance(error, dict) else error
        raise UserError(f"gave up: {' '.join(str(words).split())[:300]}")
    usage = event.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    tokens = tokens if isinstance(tokens, int) else None
    choices = event.get("choices")
    if not isinstance(choices, list):
        if usage is None and "id" not in event:
            raise NoEvent(f"sends no answer but {_quoted(json.dumps(event).encode())}")
        choices = []
    if not choices or not isinstance(choices[0], dict):
        return Delta(tokens=tokens)
    choice = choices[0]
    message = choice.get("delta") or choice.get("message") or {}
    message = message if isinstance(message, dict) else {}
    text = message.get("content") if message else choice.get("text")
    finish = choice.get("finish_reason")
    return Delta(
        text=text if isinstance(text, str) else "",
        thought=bool(message.get("reasoning_content") or message.get("reasoning")),
        finish=finish if isinstance(finish, str) else None,
        stop_string=isinstance(choice.get("stop_reason"), str),
        tokens=tokens,
        pieces=_pieces(choice.get("logprobs"), text if isinstance(text, str) else ""),
    )


def _pieces(logprobs: Any, text: str) -> list[Piece]:
    """Tokens and their odds; as one piece where they do not make up the text."""
    if not isinstance(logprobs, dict) or not text:
        return []
    try:
        if isinstance(logprobs.get("content"), list):  # of a chat
            found = [(str(one["token"]), float(one["logprob"])) for one in logprobs["content"]]
        else:
            pairs = zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
            found = [(str(token), float(odds)) for token, odds in pairs]
    except (KeyError, TypeError, ValueError):
        return []
    if not found:
        return []
    if "".join(token for token, _ in found) != text:
        found = [(text, sum(odds for _, odds in found))]
    return [(token, math.exp(min(0.0, odds))) for token, odds in found]


def _quoted(data: bytes) -> str:
    """The beginning of what came, as it is: outside text."""
    text = " ".join(data[:200].decode("utf-8", "replace").split())
    return repr(text[:60] + ("…" if len(text) > 60 else ""))
