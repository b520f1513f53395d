"""One answer while it comes: its text so far, how fast, and how it ended, as runs for a pane."""

from dataclasses import dataclass
from typing import Any

from engine.errors import UserError
from engine.text import clip, steady
from tui.widgets.lines import BAD, PLAIN, QUIET, Run

__all__ = ["Answer", "in_words"]

STOPS = {
    "eos": "ended by itself",
    "length": "length limit",
    "cancelled": "stopped by you",
}


@dataclass
class Answer:
    """One column: what has come so far, and how it ended."""

    label: str = ""
    text: str = ""
    words: str = ""
    """Under the answer: loading, tokens and speed, how it ended."""
    error: str = ""
    done: bool = True

    def take(self, chunk: Any) -> None:
        self.text += chunk.text_delta or ""
        if not chunk.done:
            self.words = f"writing, {len(self.text):,} characters"
            return
        self.done = True
        tokens, seconds = chunk.tokens or 0, chunk.seconds or 0.0
        told = [f"{tokens} token{'s' * (tokens != 1)}"]
        if tokens and seconds > 0:
            told.append(f"{tokens / seconds:.0f}/s")
        if chunk.stop_reason:
            told.append(STOPS.get(str(chunk.stop_reason), clip(str(chunk.stop_reason), 40)))
        self.words = " · ".join(told)

    def runs(self) -> list[Run]:
        if self.error:
            before = [(steady(self.text) + "\n\n", PLAIN)] if self.text else []
            return [*before, ("✗\u00a0", BAD), (steady(self.error), PLAIN)]
        return [(steady(self.text), PLAIN)] if self.text else [(self._waiting(), QUIET)]

    def _waiting(self) -> str:
        if self.done:
            return "The answer comes here."
        if self.words:  # loading says what it does at the foot of the pane
            return "The models are loaded once; the next prompt is answered at once."
        return "…"


def in_words(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
