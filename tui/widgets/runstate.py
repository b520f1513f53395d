"""What a run is doing, or how it ended and what to do then, in a few lines."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import RenderResult
from textual.geometry import Size
from textual.widget import Widget

from engine.history.pace import RECENT_STEPS, Told, rhythm_of, seconds_left, silence_limit
from engine.history.row import ENDS, seconds
from engine.text import clip, safe_line
from tui import words
from tui.feed import RunDetail
from tui.theme import STATES
from tui.widgets.gauge import bar_text

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from tui.app import WorkbenchApp

__all__ = ["RunState", "eta", "state_lines"]

ENDING_LINES = 2
"""Lines that each of what was tried, what was missing and what is next may take."""
CLOCK_SECONDS = 1.0


def _told(detail: RunDetail) -> Told:
    series = detail.series.get("step_seconds")
    recent = series[1][-RECENT_STEPS:] if series is not None else ()
    return Told(recent, detail.evaluations, detail.checkpoints, detail.samples)


def eta(detail: RunDetail, now: float | None = None) -> float | None:
    """Seconds until the run ends; None: not known."""
    return seconds_left(detail.row, _told(detail), rhythm_of(detail.recipe), now)


def _last_line(detail: RunDetail, now: float) -> str:
    """How long ago the journal's last line was written; of a run that writes none for longer than
    it ever should, that it is silent."""
    row = detail.row
    if not row.last_event or row.state == "queued":
        return ""
    ago = now - row.last_event
    if ago > silence_limit(row, _told(detail)):
        return f"silent for {words.duration(ago // 10 * 10)}"
    return f"line {words.lately(row.last_event, now)}"


def _pair(line: Text, label: str, value: str, strong: bool = True) -> None:
    line.append(f"{label} ", "#9e9e9e")
    line.append(value, "bold" if strong else "")
    line.append("   ")


@dataclass(frozen=True)
class _Head:
    row: "RunRow"
    now: float
    last_line: str

    def line(self, width: int) -> Text:
        row = self.row
        symbol, colour = STATES.get(row.state, ("?", ""))
        line = Text(no_wrap=True, end="")
        line.append(f"{symbol} {row.state}", f"bold {colour}")
        line.append("  ")
        line.append(clip(row.name, max(8, width // 3)), "bold")
        rest = []
        if (row.attempt or 1) > 1:
            rest.append(f"attempt {row.attempt}")
        if row.state in ("starting", "running") and row.phase:
            rest.append(row.phase)
        elif row.state == "queued":
            rest.append("waits to be started")
        elif row.state == "stopping":
            rest.append("finishing its step, saving")
        spent = seconds(row, self.now)
        if spent is not None:
            rest.append(words.duration(spent))
        if row.state in ENDS and row.ended:
            rest.append(words.when(row.ended, self.now))
        elif self.last_line:
            rest.append(self.last_line)
        if row.model and row.device:
            rest.append(f"{row.model.rsplit('/', 1)[-1]} on {row.device}")
        if rest:
            line.append(
                clip("  ·  " + "  ·  ".join(rest), max(0, width - line.cell_len)), "#9e9e9e"
            )
        return line


def state_lines(detail: RunDetail, width: int, now: float) -> list[Text]:
    """State, progress, speed, evaluation, and for an ended run how and why."""
    row = detail.row
    lines = [_Head(row, now, _last_line(detail, now)).line(width)]
    lines.append(_progress(detail, width, now))
    speed = Text(no_wrap=True, overflow="ellipsis", end="")
    _pair(speed, "loss", words.loss(row.loss))
    _pair(speed, "lr", words.rate(row.learning_rate))
    _pair(speed, "tok/s", words.number(row.tokens_per_second))
    _pair(speed, "s/step", words.number(row.step_seconds))
    if width >= 76:
        _pair(speed, "grad norm", words.number(row.grad_norm))
    lines.append(speed)
    best = Text(no_wrap=True, overflow="ellipsis", end="")
    _pair(best, "validation", words.loss(row.eval_loss))
    _pair(best, "best", words.loss(row.best_eval_loss) + _when_best(detail, now))
    tests = {
        found.get("which"): found for found in detail.evaluations if found.get("split") == "test"
    }
    if {"before", "after"} <= tests.keys():
        change = (
            f"{words.loss(tests['before'].get('loss'))} → {words.loss(tests['after'].get('loss'))}"
        )
        _pair(best, "test", change)
    elif row.checkpoint and row.state not in ENDS:
        _pair(best, "checkpoint", clip(_checkpoint(row.checkpoint), 24), False)
    lines.append(best)
    lines += _end_lines(detail, width)
    for line in lines:  # joined they would wrap
        line.truncate(width, overflow="ellipsis")
    return lines


def _when_best(detail: RunDetail, now: float) -> str:
    """At which step the best evaluation was, and of a live run how long ago."""
    row = detail.row
    if row.best_step is None:
        return ""
    where = f" at step {row.best_step}"
    if row.state in ENDS:
        return where
    times = (
        one["t"]
        for one in reversed(detail.evaluations)
        if one.get("which") == "during" and one.get("step") == row.best_step and one.get("t")
    )
    at = next(times, None)
    return where if at is None else f"{where}, {words.lately(at, now)}"


def _checkpoint(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _progress(detail: RunDetail, width: int, now: float) -> Text:
    row = detail.row
    step, last = row.step or 0, row.max_steps or 0
    _, colour = STATES.get(row.state, ("?", "#87d787"))
    tail = Text(end="")
    if last:
        tail.append(f" {step}/{last}", "bold")
        tail.append(f"  {words.percent(step, last)}")
    else:
        tail.append(" no step yet")
    if row.epoch is not None and width >= 56:
        tail.append(f"  epoch {row.epoch:.2f}", "#9e9e9e")
    left = eta(detail, now) if row.state == "running" else None
    if left is not None:
        tail.append("  ETA ", "#9e9e9e")
        tail.append(words.duration(left), "bold")
    room = max(4, width - tail.cell_len)
    line = bar_text(step / last if last else 0.0, room, colour)
    line.no_wrap, line.end = True, ""
    return line.append_text(tail)


def _end_lines(detail: RunDetail, width: int) -> list[Text]:
    """How it ended: exit code, signal, the last whole checkpoint, the reason, what to do."""
    row = detail.row
    lines: list[Text] = []
    if row.state in ENDS:
        end = Text(no_wrap=True, overflow="ellipsis", end="")
        if row.state != "finished" or row.exit_code:
            code = words.NOTHING if row.exit_code is None else str(row.exit_code)
            # What is said below tells more than a number.
            if not detail.ending and (row.exit_code is not None or row.signal is None):
                _pair(end, "exit code", code)
            if row.signal is not None:
                _pair(end, "signal", _signal(row.signal))
        elif row.reason:
            _pair(end, "ended by", clip(row.reason, 30))
        if row.checkpoint:
            _pair(end, "checkpoint", clip(_checkpoint(row.checkpoint), 30))
        elif row.state != "finished":
            _pair(end, "checkpoint", "none whole")
        if row.state != "finished":
            end.append("R ", "bold #5fafff")
            end.append("goes on   ")
            if detail.suggested:
                end.append("A ", "bold #5fafff")
                end.append("as suggested")
        lines.append(end)
        if row.state != "finished" and row.reason:
            lines.append(Text(clip(row.reason, width), "#ff8787", no_wrap=True, end=""))
        for label, told in detail.ending:
            lines += _labelled(label, told, width)
    elif detail.notices:
        notice = detail.notices[-1]
        mark, colour = ("✗", "#ff8787") if notice.get("type") == "error" else ("!", "#ffaf5f")
        message = str(notice.get("text") or "")
        lines.append(Text(clip(f"{mark} {message}", width), colour, no_wrap=True, end=""))
    return lines


def _labelled(label: str, told: str, width: int) -> list[Text]:
    """Words under a label, wrapped; what is too long for :data:`ENDING_LINES` is cut."""
    head = f"{clip(label, 10):<8}"
    room = max(20, width - len(head))
    parts = textwrap.wrap(safe_line(told[:1000]), room) or [""]
    if len(parts) > ENDING_LINES:
        parts = [*parts[: ENDING_LINES - 1], " ".join(parts[ENDING_LINES - 1 :])]
    return [
        Text.assemble((" " * len(head) if place else head, "#9e9e9e"), clip(part, room), end="")
        for place, part in enumerate(parts)
    ]


def _signal(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


class RunState(Widget):
    """The lines of :func:`state_lines`; repaints only when they read differently."""

    DEFAULT_CSS = "RunState { height: auto; min-height: 4; padding: 0 1; }"

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._detail: RunDetail | None = None
        self._lines: list[Text] = []
        self._now = 0.0
        self._asked = ""

    def on_mount(self) -> None:
        self.set_interval(CLOCK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Times go on without a journal line; repaints only if a word changed."""
        detail = self._detail
        if detail is not None and detail.row.state not in ENDS and self.screen.is_current:
            self.show(detail, cast("WorkbenchApp", self.app).clock(), self._asked)

    def show(self, detail: RunDetail | None, now: float, asked: str = "") -> None:
        """``now``: seconds since the epoch, for "silent for" and "ago"; ``asked``: what was asked
        of the run and not taken yet."""
        self._detail, self._now, self._asked = detail, now, asked
        lines = self._make(self.content_size.width or 80)
        if [line.markup for line in lines] != [line.markup for line in self._lines]:
            self.refresh(layout=len(lines) != len(self._lines))
            self._lines = lines

    def _make(self, width: int) -> list[Text]:
        lines = state_lines(self._detail, width, self._now) if self._detail else []
        if self._asked and lines:
            lines.append(Text(clip(f"… {self._asked}", width), "#ffd75f", no_wrap=True, end=""))
        return lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        # A grid asks with the width of one column, though it spans them all.
        return max(4, len(self._make(max(width, container.width - 2))))

    def render(self) -> RenderResult:
        return Text("\n").join(self._make(self.content_size.width))
