"""Play: one prompt, the base and the tuned model side by side."""

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static
from textual.worker import Worker

from engine.errors import UserError
from engine.history.row import ENDS
from engine.text import clip, safe_line
from tui import answers, keymap
from tui.answertext import Answer, in_words
from tui.feed import Snapshot
from tui.screens.base import WorkbenchScreen
from tui.screens.choose import ChooseScreen
from tui.widgets.field import PlainInput
from tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from engine.history.queries import RunRow

__all__ = ["PlayScreen"]

REPAINT_SECONDS = 0.1
SLOW_REPAINT_SECONDS = 2.0
"""Over a slow link."""
"""Streamed text is drawn at most ten times a second."""

MOST_CHOICES = 200
"""Of this many runs, the newest, is looked whether they can answer."""

SIDES = ("base", "tuned")


class PlayScreen(WorkbenchScreen):
    SCREEN = "play"
    BINDINGS = keymap.bindings("play")
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    PlayScreen #nothing { display: none; }
    PlayScreen.-nothing #nothing { display: block; }
    PlayScreen.-nothing #play { display: none; }
    PlayScreen #asking { height: 3; }
    PlayScreen #asking PlainInput { padding: 0; }
    PlayScreen #answers { height: 1fr; }
    PlayScreen #reference { height: 6; display: none; }
    PlayScreen.-tall #reference { height: 10; }
    PlayScreen.-with-reference #reference { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: RunRow | None = None
        """The run whose adapter answers."""
        self._choices: list[RunRow] = []
        """The runs that can answer, newest first."""
        self._known: tuple[str, ...] = ()
        self._answers = {side: Answer() for side in SIDES}
        self._columns: dict[str, str] = {}
        """Column id -> side."""
        self._session: Worker[None] | None = None
        self._client: answers.Client | None = None
        self._prompts: asyncio.Queue[str] = asyncio.Queue()
        self._busy = False
        self._loading_since = 0.0
        self._loading = ""
        self._row = -1
        self._dirty: set[str] = set()

    # --- layout

    def compose_body(self) -> ComposeResult:
        yield Static(
            "Nothing to play with yet.\n\n"
            "Train a model first (2, then s): base and tuned\nanswer here side by side.",
            id="nothing",
            classes="empty",
            markup=False,
        )
        with Vertical(id="play"):
            with Vertical(id="asking", classes="pane") as asking:
                asking.border_title = "Prompt"
                yield PlainInput(
                    placeholder="i: write a prompt   n: take a test row",
                    id="prompt",
                    select_on_focus=False,
                )
            with Horizontal(id="answers"):
                for side in SIDES:
                    pane = LinesView(id=side, classes="pane")
                    pane.border_title = side
                    yield pane
            reference = LinesView(id="reference", classes="pane")
            reference.border_title = "Reference: what the test row really says"
            yield reference

    def on_mount(self) -> None:
        self.set_class(True, "-nothing")
        self._painter = self.set_interval(REPAINT_SECONDS, self._paint_on, pause=True)
        self._clock = self.set_interval(1.0, self._tell_loading, pause=True)
        for side in SIDES:
            self._touch(side)
        self._paint()

    def on_unmount(self) -> None:
        if self._session is not None:
            self._session.cancel()

    # --- which run answers

    def show_snapshot(self, snapshot: Snapshot) -> None:
        ended = [row for row in snapshot.rows if row.state in ENDS][:MOST_CHOICES]
        known = tuple(row.id for row in ended)
        if known != self._known:
            self._known = known
            self.run_worker(partial(self._find_runs, ended), group="choices", exclusive=True)

    async def _find_runs(self, ended: "list[RunRow]") -> None:
        home = self.workbench.home

        def look() -> "list[RunRow]":
            return [row for row in ended if answers.can_answer(home, row.id)]

        self._choices = await asyncio.to_thread(look)
        if self._run is None and self._choices:
            self._take_run(self._choices[0])
        self.set_class(not self._choices, "-nothing")
        if self._choices and self.focused is None:
            self.set_focus(self.query_one("#tuned"))
        self.refresh_bars()

    def _take_run(self, run: "RunRow") -> None:
        if self._session is not None:
            self._session.cancel()
            self._session = None
        self._run, self._row, self._client, self._busy = run, -1, None, False
        self._answers = {
            "base": Answer(f"base: {run.model or 'the model before training'}"),
            "tuned": Answer(f"tuned: {run.name}"),
        }
        self.remove_class("-with-reference")
        for side in SIDES:
            self._touch(side)
        self._paint()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("send", "write", "next_row", "choose"):
            return bool(self._choices)
        if action == "halt":
            return self._busy
        return True

    def action_choose(self) -> None:
        options = [(run.id, f"{run.name}  {_about(run)}") for run in self._choices]

        def chosen(id: str | None) -> None:
            run = next((run for run in self._choices if run.id == id), None)
            if run is not None and (self._run is None or run.id != self._run.id):
                self._take_run(run)

        self.workbench.push_screen(ChooseScreen("Which run answers", options), chosen)

    # --- asking

    def action_write(self) -> None:
        self.set_focus(self.query_one("#prompt"))

    def action_send(self) -> None:
        self._send(self.query_one("#prompt", Input).value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._send(event.value)

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._row >= 0 and self.query_one("#prompt", Input).has_focus:
            self._forget_row()

    def _forget_row(self) -> None:
        """The prompt is no longer that of the test row."""
        self._row_shown(None)

    def _row_shown(self, row: answers.HeldOutRow | None) -> None:
        self.set_class(row is not None, "-with-reference")
        asking = self.query_one("#asking")
        subtitle = f"test row {row.number + 1:,} of {row.count:,}" if row else ""
        if row and row.changed:
            subtitle += " · its dataset changed since: perhaps trained on"
        asking.border_subtitle = subtitle

    def action_next_row(self) -> None:
        if self._busy:
            self.workbench.say("still answering; ctrl+x stops the answers", "warning")
        elif self._run is not None:
            self.run_worker(self._next_row, group="row", exclusive=True)

    async def _next_row(self) -> None:
        assert self._run is not None
        try:
            row = await asyncio.to_thread(
                answers.test_row, self.workbench.home, self._run.id, self._row + 1
            )
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        self._row = row.number
        self.query_one("#prompt", Input).value = safe_line(row.prompt)
        self.query_one("#reference", LinesView).show(row.reference)
        self._row_shown(row)
        self._send(row.prompt)

    def _send(self, prompt: str) -> None:
        if self._busy or self._run is None:
            return
        if not prompt.strip():
            self.workbench.say("the prompt is empty: i writes one, n takes a test row", "warning")
            return
        self._busy = True
        for side in SIDES:
            self._answers[side] = Answer(self._answers[side].label, done=False)
            self._touch(side)
        self._prompts.put_nowait(prompt)
        if self._session is None or self._session.is_finished:
            self._prompts = asyncio.Queue()
            self._prompts.put_nowait(prompt)
            self._session = self.run_worker(
                self._answer_prompts(self._run.id), group="session", exclusive=True
            )
        self._painter.resume()
        self.set_focus(self.query_one("#tuned"))
        self.refresh_bars()

    async def _answer_prompts(self, run_id: str) -> None:
        """One worker process for all prompts to this run; it ends with this task."""
        home = self.workbench.home
        self._say_loading("starting")
        try:
            columns = await asyncio.to_thread(answers.columns_of, home, run_id)
            recipe = await asyncio.to_thread(answers.recipe_of, home, run_id)
            for column, side in zip(columns, SIDES, strict=True):
                self._answers[side].label = f"{side}: {column.label}"
                self._touch(side)
            self._columns = dict(zip((column.id for column in columns), SIDES, strict=True))
            async with answers.open_client(home, columns, self._say_loading) as client:
                self._client = client
                while True:
                    prompt = await self._prompts.get()
                    await self._one_answer(client, prompt, recipe.generate)
        except Exception as error:
            self._failed(error)
        finally:
            self._client = None
            self._ended()

    async def _one_answer(self, client: answers.Client, prompt: str, sampling: Any) -> None:
        try:
            async for chunk in client.generate(prompt, sampling, list(self._columns)):
                self._loaded()
                side = self._columns[chunk.column]
                begins = not any(answer.text for answer in self._answers.values())
                self._answers[side].take(chunk)
                self._touch(side)
                if begins:  # the first word at once, what follows at the painter's turns
                    self._paint()
                    self._painter.reset()
        except UserError as error:  # this prompt failed; the worker lives on
            self._failed(error)
        self._ended()

    def action_halt(self) -> None:
        if not self._busy:
            return
        if self._client is not None and not self._loading:
            self.run_worker(self._client.cancel(), group="halt", exit_on_error=False)
        elif self._session is not None:
            self._session.cancel()
            for side in SIDES:
                self._answers[side].words = "stopped by you"
                self._touch(side)

    # --- what the columns say

    def _say_loading(self, words: str) -> None:
        self._loading = safe_line(words)
        self._loading_since = self._loading_since or time.monotonic()
        self._clock.resume()
        self._tell_loading()

    def _tell_loading(self) -> None:
        seconds = int(time.monotonic() - self._loading_since)
        for side in SIDES:
            answer = self._answers[side]
            if not answer.done and not answer.text:
                answer.words = f"{clip(self._loading, 40)} … {seconds} s"
                self._touch(side)

    def _loaded(self) -> None:
        if self._loading:
            self._loading, self._loading_since = "", 0.0
            self._clock.pause()

    def _failed(self, error: Exception) -> None:
        for side in SIDES:
            answer = self._answers[side]
            if not answer.done:
                answer.error, answer.words = in_words(error), "failed"
                self._touch(side)

    def _ended(self) -> None:
        self._loaded()
        self._busy = False
        for answer in self._answers.values():
            answer.done = True
        if self.query("#tuned"):  # else the workbench is being left
            self._paint()
            self._painter.pause()
            self.refresh_bars()

    def _touch(self, side: str) -> None:
        self._dirty.add(side)

    def _paint_on(self) -> None:
        if self.workbench.link.due("answers", SLOW_REPAINT_SECONDS):
            self._paint()

    def _paint(self) -> None:
        for side in sorted(self._dirty):
            answer = self._answers[side]
            pane = self.query_one(f"#{side}", LinesView)
            pane.border_title = Text(clip(answer.label or side, 60))
            pane.border_subtitle = Text(clip(answer.words, 60))
            pane.show(answer.runs(), follow=not answer.done)
        self._dirty.clear()


def _about(row: "RunRow") -> str:
    loss = f", validation loss {row.best_eval_loss:.3f}" if row.best_eval_loss else ""
    return f"{row.state}, step {row.step or 0}{loss}"
