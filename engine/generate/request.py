"""What an OpenAI-compatible server is sent for a prompt, and how it is put when it is refused.

Servers differ: some want ``max_completion_tokens``, some know no ``stream_options``, base models
have no chat. What was learnt of a server is kept for its next prompts.
"""

import re
from typing import Any

from engine.errors import UserError
from engine.generate.address import Endpoint
from engine.generate.refusals import Refused
from engine.generate.wire import Messages
from engine.recipe import GenerateSection

__all__ = ["Request"]

EXTRAS = ("top_k", "min_p", "repetition_penalty")
"""What OpenAI's own API does not have; sent only where they are not left at their defaults."""

OPTIONAL = {
    "stream_options": "counts no tokens",
    "logprobs": "gives no token probabilities",
    "seed": "knows no seed: the same prompt may be answered otherwise",
}
"""What can be done without, and what is then to be said."""

CHAT, PLAIN = "chat/completions", "completions"


class Request:
    """How one server is asked."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.without: set[str] = set()
        self.room = "max_tokens"
        self.path = CHAT
        """For prompts that are a text; conversations are chats."""

    def made(
        self, prompt: str | Messages, sampling: GenerateSection, index: int, probabilities: bool
    ) -> tuple[str, dict[str, Any]]:
        """(path behind the server's address, body) for one prompt."""
        path = self.path if isinstance(prompt, str) else CHAT
        body: dict[str, Any] = {"model": self.endpoint.model, "stream": True}
        if path == PLAIN:
            body["prompt"] = prompt
        else:
            body["messages"] = _messages(prompt)
        body[self.room if path == CHAT else "max_tokens"] = sampling.max_new_tokens
        body["temperature"] = sampling.temperature if sampling.do_sample else 0.0
        if sampling.do_sample:
            body["top_p"] = sampling.top_p
        body["seed"] = (sampling.seed + index) % 2**32
        if sampling.stop_strings:
            body["stop"] = sampling.stop_strings[:4]  # OpenAI takes no more; we know the others
        defaults = GenerateSection()
        for name in EXTRAS:
            counts = sampling.do_sample or name == "repetition_penalty"
            if counts and getattr(sampling, name) != getattr(defaults, name):
                body[name] = getattr(sampling, name)
        body["stream_options"] = {"include_usage": True}
        if probabilities:
            body["logprobs"] = True if path == CHAT else 1
        return path, {name: value for name, value in body.items() if name not in self.without}

    def put_otherwise(
        self, refused: Refused, path: str, body: dict[str, Any], prompt: str | Messages
    ) -> str:
        """What is asked in another way from now on, in words; "" where nothing is to be changed."""
        if refused.status not in (400, 404, 405, 422, 501):
            return ""
        host, words = self.endpoint.host, refused.words
        if "max_tokens" in body and path == CHAT and _names(words, "max_completion_tokens"):
            self.room = "max_completion_tokens"
            return f"{host} wants max_completion_tokens"
        for name, said in OPTIONAL.items():
            if name in body and _names(words, name):
                self.without.add(name)
                return f"{host} {said}"
        no_chat = "template" in words.lower() or (
            refused.status in (404, 405, 501) and "model" not in words.lower()
        )
        if path == CHAT and self.path == CHAT and isinstance(prompt, str) and no_chat:
            self.path = PLAIN
            return f"{host} has no chat: the bare prompt is sent to /{PLAIN}"
        return ""

    def explained(self, refused: Refused, body: dict[str, Any]) -> UserError:
        """The same refusal, with the setting that it is about."""
        if self.path == PLAIN and refused.status == 404:
            self.path = CHAT  # there was nothing at all
        if refused.status in (400, 422):
            for name in EXTRAS:
                if name in body and _names(refused.words, name):
                    default = getattr(GenerateSection(), name)
                    return UserError(
                        f"{self.endpoint.host}: does not know {name}: set it to {default:g} for "
                        f"this column ({refused.words})"
                    )
        return refused


def _messages(prompt: str | Messages) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": turn["role"], "content": turn["content"]} for turn in prompt]


def _names(words: str, setting: str) -> bool:
    return re.search(rf"(?<![a-z_]){setting}(?![a-z_])", words) is not None
