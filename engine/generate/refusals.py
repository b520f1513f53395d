"""What servers answer when they do not answer, in words: by status, body and kind of failure."""

import json
from collections.abc import Mapping
from typing import Any

from engine.errors import UserError
from engine.generate.address import Endpoint

__all__ = ["Refused", "refusal", "said"]

MOST_WORDS = 300


class Refused(UserError):
    """A server's answer that is an error.

    ``status`` is HTTP's, ``words`` the server's own (outside text), ``wait`` the seconds after
    which it wants to be asked again, where it says so.
    """

    def __init__(self, message: str, status: int, words: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.status, self.words, self.wait = status, words, wait


def said(body: bytes) -> str:
    """The server's own words in an error's body, in one line."""
    text = body.decode("utf-8", "replace")
    try:
        found = _message(json.loads(text))
    except (ValueError, RecursionError):
        found = "" if text.lstrip().startswith("<") else text  # a page for a browser says nothing
    return " ".join(found.split())[:MOST_WORDS]


def _message(value: Any) -> str:
    """OpenAI: {"error": {"message": ...}}; others: {"error": ...}, {"detail": ...}, ..."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return _message(value[0])
    if isinstance(value, dict):
        for name in ("error", "message", "detail", "msg"):
            if value.get(name):
                return _message(value[name])
    return ""


def refusal(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes, key: str
) -> Refused:
    """The error of an answer that is none. The key is nowhere in it, whatever the server says."""
    words = said(body)
    if key:
        words = words.replace(key, "…")
    wait = _seconds(headers.get("retry-after", ""))
    message = f"{endpoint.host}: {_about(endpoint, status, headers, words, wait)}"
    return Refused(message, status, words, wait)


def _about(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], words: str, wait: float | None
) -> str:
    its = f" ({words})" if words else ""
    if 300 <= status < 400:
        where = headers.get("location", "")
        to = f" to {where[:100]}" if where else ""
        return f"sends on{to}; it is not followed: name that address itself if you trust it"
    if status == 401:
        if not endpoint.key:
            return f"wants a key (401): name the variable that holds it, URL#MODEL key=NAME{its}"
        return f"does not take the key in ${endpoint.key} (401){its}"
    if status == 403:
        return f"forbids it (403): the key or the account may not use {endpoint.model}{its}"
    if status == 404:
        return (
            f"has no model {endpoint.model}, or no OpenAI-compatible API at {endpoint.url} (404); "
            f"often the path ends with /v1{its}"
        )
    if status == 429:
        later = f"in {wait:.0f} s" if wait is not None else "later"
        return f"has enough for now (429); ask again {later}{its}"
    if status >= 500:
        return f"failed ({status}); its log will say why{its}"
    return f"refuses the request ({status}){its}"


def _seconds(value: str) -> float | None:
    """Of a Retry-After header; a date in it is not understood."""
    try:
        return max(0.0, float(value))
    except ValueError:
        return None
