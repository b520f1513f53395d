"""One answer while it comes: its text so far, how fast, how it ended, and what is marked in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.style import Style

from engine.errors import UserError
from engine.text import clip, safe_line, steady
from tui.widgets.lines import BAD, PLAIN, QUIET, WARM, Run
from tui.worddiff import marked

__all__ = ["MARKS", "Answer", "in_words"]

STOPS = {
    "eos": "ended by itself",
    "length": "length limit",
    "stop": "stop string",
    "cancelled": "stopped by you",
    "error": "failed",
}
MARKS = {
    "": "nothing is marked",
    "differences": "{+words+} that the first column does not say",
    "probabilities": "‹words 9 %› that the model held for unlikely",
    "copies": "«words» that stand so in the training rows",
}
UNLIKELY = 0.25
"""A token that was less probable than this is marked."""
UNSURE = Style(color="#ffaf5f", underline=True)
COPIED = Style(color="#87d7d7", underline=True)


@dataclass
class Answer:
    """One column: what has come so far, and how it ended."""

    label: str = ""
    text: str = ""
    words: str = ""
    """What is being done while nothing has come."""
    error: str = ""
    done: bool = True
    stop_reason: str = ""
    tokens: int = 0
    seconds: float = 0.0
    first_seconds: float | None = None
    """From the question to the first token."""
    pieces: list[tuple[str, float]] = field(default_factory=list)
    """Text and probability of each token, where they were asked for."""
    before: list[tuple[str, str]] = field(default_factory=list)
    """(who, what) of the conversation up to this answer; empty: there is none."""
    repeats: str = ""
    """What there is to say about repetition; "": nothing."""
    copied: list[tuple[int, int]] | None = None
    """Stretches (characters) that stand in the training rows; None: not looked."""

    def take(self, chunk: Any) -> None:
        self.text += chunk.text_delta or ""
        self.pieces += chunk.pieces or ()
        if chunk.first_seconds is not None:
            self.first_seconds = chunk.first_seconds
        if not chunk.done:
            return
        self.done = True
        self.stop_reason = str(chunk.stop_reason or "")
        self.tokens, self.seconds = chunk.tokens or 0, chunk.seconds or 0.0
        self.error = chunk.error or ""

    def fail(self, error: Exception) -> None:
        if not self.done:
            self.error, self.stop_reason, self.done = in_words(error), "error", True

    def foot(self, width: int = 80, *, blind: bool = False) -> str:
        """One line: length, speed, how it ended; in a narrow pane less of it.

        ``blind``: nothing that gives it away.
        """
        if not self.done:
            return "writing" if self.text else self.words
        if not self.stop_reason:
            return self.words
        told = {"tokens": f"{self.tokens} token{'s' * (self.tokens != 1)}"}
        if self.stop_reason == "error" and not self.text:
            told = {}
        if not blind:
            if self.tokens and self.seconds > 0:
                told["speed"] = f"{self.tokens / self.seconds:.0f}/s"
            if self.first_seconds is not None:
                told["first"] = f"first {self.first_seconds:.1f} s"
        told["end"] = STOPS.get(self.stop_reason, clip(self.stop_reason, 40))
        if self.repeats:
            told["repeats"] = f"! {self.repeats}"
        if self.copied:
            told["copied"] = f"{self._copied_share:.0%} copied"
        for least in ("first", "speed", "tokens"):
            if len(" · ".join(told.values())) > width:
                told.pop(least, None)
        return " · ".join(told.values())

    @property
    def _copied_share(self) -> float:
        return sum(end - start for start, end in self.copied or ()) / max(1, len(self.text))

    def runs(self, marks: str = "", first: "Answer | None" = None) -> list[Run]:
        """The text for a pane; ``first``: the answer that differences are told against."""
        said: list[Run] = []
        for who, what in self.before:
            said += [(f"{who}: ", QUIET), (f"{steady(what)}\n\n", QUIET)]
        return said + self._runs(marks, first)

    def _runs(self, marks: str, first: "Answer | None") -> list[Run]:
        if self.error:
            before = [(steady(self.text) + "\n\n", PLAIN)] if self.text else []
            return [*before, ("✗\u00a0", BAD), (steady(self.error), PLAIN)]
        if not self.text:
            return [(self._waiting(), QUIET)]
        if marks == "probabilities" and self.pieces:
            return _unlikely(self.pieces)
        if self.done and marks == "copies" and self.copied:
            return _copied(self.text, self.copied)
        if self.done and marks == "differences" and first is not None and first is not self:
            return marked(first.text, self.text).after
        return [(steady(self.text), PLAIN)]

    def _waiting(self) -> str:
        if self.done:
            return "(nothing)" if self.stop_reason else "The answer comes here."
        if self.words:  # loading says what it does at the foot of the pane
            return "The models are loaded once; the next prompt is answered at once."
        return "…"


def _unlikely(pieces: Sequence[tuple[str, float]]) -> list[Run]:
    runs: list[Run] = []
    for text, probability in pieces:
        if probability >= UNLIKELY or not text.strip():
            runs.append((steady(text), PLAIN))
            continue
        bare = text.strip()
        before, _, after = text.partition(bare)
        runs += [
            (steady(before), PLAIN),
            (f"‹{steady(bare)} {probability:.0%}›", UNSURE),
            (steady(after), PLAIN),
        ]
    return runs


def _copied(text: str, spans: Sequence[tuple[int, int]]) -> list[Run]:
    runs: list[Run] = []
    at = 0
    for start, end in spans:
        runs += [
            (steady(text[at:start]), PLAIN),
            ("«", WARM),
            (steady(text[start:end]), COPIED),
            ("»", WARM),
        ]
        at = end
    return [*runs, (steady(text[at:]), PLAIN)]


def in_words(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    words = safe_line(str(error)[:300])
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
