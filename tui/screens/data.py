"""Data: from the raw file to what the model sees."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import Worker

from engine.data import background
from engine.data.dataset import DatasetInfo
from engine.errors import UserError
from engine.recipe import Recipe
from engine.text import clip, steady
from tui import keymap, words
from tui.rowviews import COLUMNS, SPLITS, VIEWS, Rows, Source, datasets_of, row_runs, sources_of
from tui.screens.base import WorkbenchScreen
from tui.screens.cleaning import CleanForm
from tui.screens.confirm import ConfirmScreen
from tui.widgets.field import PlainInput
from tui.widgets.funnel import FunnelView
from tui.widgets.gauge import bar_text
from tui.widgets.lines import ACCENT, BAD, PLAIN, QUIET, WARM, LinesView, Run
from tui.widgets.table import PagedTable
from tui.widgets.tokens import TokensView

__all__ = ["DataScreen", "tab_words"]

JOB_SECONDS = 0.5
FIND_ROWS = 2_000
"""Rows searched between two looks at whether the search was given up."""

SHORT = {"validation": "val", "example": "text"}


class DataScreen(WorkbenchScreen):
    SCREEN = "data"
    BINDINGS = keymap.bindings("data")
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    DataScreen #left { width: 24; }
    DataScreen.-wide #left { width: 34; }
    DataScreen #things { height: auto; min-height: 4; max-height: 45%;
        scrollbar-size-vertical: 1; }
    DataScreen #things > .option-list--option-disabled { color: $quiet; }
    DataScreen #job { height: auto; display: none; }
    DataScreen.-cleaning #job { display: block; }
    DataScreen #funnel { height: 1fr; min-height: 5; }
    DataScreen #detail { display: none; height: 14; border-top: solid $border; }
    DataScreen.-tall #detail { display: block; }
    DataScreen #detail:focus { border-top: heavy $primary; }
    DataScreen #right { width: 1fr; }
    DataScreen #views { height: 1fr; }
    DataScreen #ask { display: none; }
    DataScreen.-asking #ask { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: Rows | None = None
        self.view = "train"
        self._looking = False
        self._reading = False
        """Whether one whole row is shown instead of the table."""
        self._split = "train"
        self._cursor: dict[str, int] = {}
        self._found = ""
        self._asking = ""
        self._search: Worker[None] | None = None
        self._job: Path | None = None
        self._process: Any = None
        self._loaded = False
        self._listed: tuple[list[DatasetInfo], list[Source]] = ([], [])

    # --- layout

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="left"):
                things = OptionList(id="things", classes="pane", markup=False)
                things.border_title = "Datasets"
                yield things
                job = Static(Text(""), id="job", classes="pane", markup=False)
                job.border_title = "Cleaning"
                yield job
                funnel = FunnelView(id="funnel", classes="pane")
                funnel.border_title = "Funnel"
                yield funnel
            with Vertical(id="right", classes="pane"):
                with ContentSwitcher(initial="words", id="views"):
                    yield LinesView(id="words")
                    with Vertical(id="browse"):
                        yield PagedTable(id="table")
                        yield LinesView(id="detail")
                    yield TokensView(id="tokens")
                yield PlainInput(id="ask")

    def on_mount(self) -> None:
        self._timer = self.set_interval(JOB_SECONDS, self._look_at_job, pause=True)
        self.query_one("#funnel", FunnelView).show_funnel([])
        self._say([("looking for datasets …", QUIET)])

    def on_screen_resume(self) -> None:
        self._timer.resume()
        self.action_reload()

    def on_screen_suspend(self) -> None:
        self._timer.pause()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("find", "jump"):
            return self.rows is not None and not self._one_row
        if action in ("next_row", "previous_row"):
            return self.rows is not None and (self._one_row or bool(self._found))
        if action in ("next_view", "previous_view"):
            return self.rows is not None
        if action == "open":
            return not self._one_row
        if action == "cancel":
            return self._job is not None
        return True

    @property
    def _one_row(self) -> bool:
        """Whether one row is shown whole, not a table."""
        return self._reading or self.view not in COLUMNS

    # --- the list on the left

    def action_reload(self) -> None:
        self.run_worker(self._load_list, group="list", exclusive=True)

    async def _load_list(self) -> None:
        try:
            found = await asyncio.to_thread(datasets_of, self.workbench.home)
            sources = await asyncio.to_thread(sources_of)
            jobs = await asyncio.to_thread(background.jobs, self.workbench.home)
        except (UserError, OSError) as error:
            self._fail(error)
            return
        if self._job is None and jobs:
            self._job = jobs[-1]
        self._listed = (found, sources)
        self._fill_list()
        things = self.query_one("#things", OptionList)
        if not found:
            self._welcome()
        elif self.rows is None:
            await self._open(found[0].name)
        if self.focused is None:
            self._focus_view() if found else things.focus()
        self.refresh_bars()

    def _fill_list(self) -> None:
        found, sources = self._listed
        things = self.query_one("#things", OptionList)
        room = 28 if self.has_class("-wide") else 18
        kept = things.highlighted if self._loaded else None
        options = [
            Option(_label(info.name, f"{info.rows_kept:,}", room), id=f"dataset:{info.name}")
            for info in found
        ] or [Option(Text("none yet", "#9e9e9e"), disabled=True)]
        options.append(Option(Text("─ sources of", "#9e9e9e"), disabled=True))
        options += [
            Option(_label(source.recipe, source.source, room), id=f"source:{source.recipe}")
            for source in sources
        ]
        options.append(Option(Text("any file …"), id="source:"))
        things.clear_options()
        things.add_options(options)
        first = 0 if found else 2
        things.highlighted = first if kept is None else min(kept, len(options) - 1)
        self._loaded = True

    def _welcome(self) -> None:
        self.rows = None
        self._titles()
        self._say(
            [
                ("No dataset yet.\n\n", ACCENT),
                (
                    "Choose a source on the left and press enter: it is cleaned, split and "
                    "counted, and its rows are shown here, raw, cleaned and dropped with the "
                    "reason, up to the tokens that the model sees.\n\n",
                    PLAIN,
                ),
                ("The same from a shell: tunebench clean FILE", QUIET),
            ]
        )

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        kind, _, name = str(event.option.id or "").partition(":")
        if kind == "dataset" and (self.rows is None or self.rows.name != name):
            self.run_worker(partial(self._open, name), group="open", exclusive=True)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        kind, _, name = str(event.option.id or "").partition(":")
        if kind == "dataset":
            self._focus_view()
        elif kind == "source":
            self._ask_for_cleaning(name)

    async def _open(self, name: str) -> None:
        try:
            rows = await asyncio.to_thread(Rows.open, self.workbench.home, name)
        except (UserError, OSError) as error:
            self.rows = None
            self._fail(error)
            return
        from engine.data.report import funnel

        if self.rows is None or self.rows.name != rows.name:
            self._cursor.clear()
        self.rows = rows
        view = self.query_one("#funnel", FunnelView)
        view.show_funnel(funnel(rows.dataset.report))
        view.border_title = Text(f"Funnel: {clip(name, 22)}")
        warnings = len(rows.dataset.report.warnings)
        view.border_subtitle = f"{warnings} warning{'s' * (warnings != 1)}" if warnings else ""
        self._show_view()

    # --- the sub-views on the right

    def action_next_view(self) -> None:
        self._turn(1)

    def action_previous_view(self) -> None:
        self._turn(-1)

    def _turn(self, by: int) -> None:
        if self.rows is not None:
            self.view = VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)]
            self._show_view()

    def _show_view(self) -> None:
        rows, view = self.rows, self.view
        if rows is None:
            return
        inside = self._focus_inside
        self._reading = False
        if view in SPLITS:
            self._split = view
        if view in COLUMNS:
            self._switch("browse")
            table = self.query_one(PagedTable)
            table.show(
                COLUMNS[view],
                rows.count(view),
                lambda start, count: rows.cells(view, start, count),
                cursor=self._cursor.get(view, 0),
                empty="No row was dropped." if view == "dropped" else "No rows here.",
            )
        else:
            self.run_worker(self._preview, group="preview", exclusive=True)
        self._titles()
        if inside:
            self._focus_view()
        self.refresh_bars()

    @property
    def _focus_inside(self) -> bool:
        return self.focused is not None and self.query_one("#right") in self.focused.ancestors

    def _focus_view(self) -> None:
        current = self.query_one(ContentSwitcher).current
        self.query_one("#table" if current == "browse" else f"#{current}").focus()

    def _switch(self, id: str) -> None:
        self.query_one(ContentSwitcher).current = id
        self.minimise_hidden()

    def _titles(self) -> None:
        right = self.query_one("#right")
        rows = self.rows
        if rows is None:
            right.border_title, right.border_subtitle = "", ""
            return
        right.border_title = Text(tab_words(self.view, max(10, right.outer_size.width - 6)))
        told = "[ and ]: other views"
        if self._one_row:  # a table says itself where its cursor is
            view = self.view if self.view in COLUMNS else self._split
            told = f"row {self._cursor.get(view, 0) + 1:,} of {rows.count(view):,}"
            if view != self.view:
                told = f"{view} {told} · as {rows.seen_by} sees it"
            else:
                told = f"esc: back to the rows · {told}"
        right.border_subtitle = Text(clip(told, max(10, right.outer_size.width - 6)))

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        self._titles()
        if self._loaded:
            self._fill_list()

    def on_paged_table_moved(self, event: PagedTable.Moved) -> None:
        if not self._one_row:
            self._cursor[self.view] = event.row
            self._look_at_row()

    def on_paged_table_chosen(self, event: PagedTable.Chosen) -> None:
        self.action_open()

    def on_paged_table_failed(self, event: PagedTable.Failed) -> None:
        self._fail(event.error)

    # --- one row

    def _look_at_row(self) -> None:
        """With room for it, the row under the cursor is shown whole below the table."""
        if self.has_class("-tall") and not self._looking:
            self._looking = True
            self.run_worker(self._follow_cursor, group="follow")

    async def _follow_cursor(self) -> None:
        """Rows that the cursor has passed before their turn came are never read."""
        seen: object = None
        try:
            while (rows := self.rows) is not None and not self._one_row:
                view = self.view
                place = self._cursor.get(view, 0)
                if seen == (rows, view, place):
                    return
                seen = (rows, view, place)
                told: list[Run] = []
                if rows.count(view):
                    told = row_runs(view, await asyncio.to_thread(rows.one, view, place))
                detail = self.query_one("#detail", LinesView)
                detail.show(told)
                detail.go(0)
        except (UserError, OSError):
            return  # the table says so itself
        finally:
            self._looking = False

    def action_open(self) -> None:
        """The whole row in place of the table; esc goes back."""
        if self.rows is not None and not self._one_row:
            self.run_worker(self._read_row, group="row", exclusive=True)

    async def _read_row(self) -> None:
        rows, view = self.rows, self.view
        if rows is None or not rows.count(view):
            return
        try:
            row = await asyncio.to_thread(rows.one, view, self._cursor.get(view, 0))
        except (UserError, OSError) as error:
            self._fail(error)
            return
        if view == self.view:
            self._reading = True
            self._say(row_runs(view, row))
            self._focus_view()
            self._titles()
            self.refresh_bars()

    def action_back(self) -> None:
        if self._search is not None:
            self._search.cancel()
        elif self._asking:
            self._stop_asking()
        elif self._reading:
            self._show_view()
        else:
            super().action_back()

    def action_next_row(self) -> None:
        self._step(1)

    def action_previous_row(self) -> None:
        self._step(-1)

    def _step(self, by: int) -> None:
        rows = self.rows
        if rows is None:
            return
        if not self._one_row:
            if self._found:
                self._start_search(by)
            return
        view = self.view if self.view in COLUMNS else self._split
        self._cursor[view] = max(0, min(self._cursor.get(view, 0) + by, rows.count(view) - 1))
        if self._reading:
            self.run_worker(self._read_row, group="row", exclusive=True)
        else:
            self.run_worker(self._preview, group="preview", exclusive=True)
        self._titles()

    async def _preview(self) -> None:
        """The row as the model will see it: its text, or its tokens."""
        rows, view, split = self.rows, self.view, self._split
        if rows is None:
            return
        if not rows.count(split):
            self._say([(f"The {split} split is empty.", QUIET)])
            return
        try:
            seen = await asyncio.to_thread(rows.preview, split, self._cursor.get(split, 0))
        except Exception as error:
            self._fail(error)
            return
        if view != self.view:
            return
        if view == "tokens":
            self.query_one(TokensView).show_tokens(
                seen["tokens"], seen["truncated_at"], seen.get("length")
            )
            self._switch("tokens")
        else:
            self._say(example_runs(seen))
        if self._focus_inside or self.focused is None:
            self._focus_view()

    # --- finding and jumping

    def action_find(self) -> None:
        self._ask("find", "find in any column; n and N: next and last match", self._found)

    def action_jump(self) -> None:
        self._ask("jump", "line of the source", "")

    def _ask(self, what: str, placeholder: str, value: str) -> None:
        self._asking = what
        field = self.query_one("#ask", PlainInput)
        field.placeholder, field.value = placeholder, value
        self.add_class("-asking")
        field.focus()

    def _stop_asking(self) -> None:
        self._asking = ""
        self.remove_class("-asking")
        self._focus_view()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        what, value = self._asking, event.value.strip()
        self._stop_asking()
        if what == "find":
            self._found = value
            if value:
                self._start_search(1)
        elif what == "jump" and value:
            number = value.replace(",", "").replace("_", "")
            if number.isdecimal() and len(number) < 18:
                self.run_worker(partial(self._jump, int(number)), group="search", exclusive=True)
            else:
                self.workbench.say(f"{clip(value, 30)}: not a line number", "warning")

    async def _jump(self, line: int) -> None:
        rows, view = self.rows, self.view
        if rows is None or view not in COLUMNS or not rows.count(view):
            return
        try:
            place = await asyncio.to_thread(rows.at_line, view, line)
        except (UserError, OSError) as error:
            self._fail(error)
            return
        if view == self.view:
            self.query_one(PagedTable).go(place)

    def _start_search(self, by: int) -> None:
        self._search = self.run_worker(partial(self._find, by), group="search", exclusive=True)

    async def _find(self, by: int) -> None:
        """Forward or backward from the cursor, in pieces: esc gives up between two of them."""
        rows, view, needle = self.rows, self.view, self._found
        right = self.query_one("#right")
        try:
            if rows is None:
                return
            count, here = rows.count(view), self._cursor.get(view, 0)
            seek = rows.find if by > 0 else rows.find_last
            place = None
            for start, stop in search_order(here, count, by):
                right.border_subtitle = f"searching row {start + 1:,} of {count:,} · esc stops"
                place = await asyncio.to_thread(seek, view, needle, start, stop)
                if place is not None:
                    break
            if place is None:
                self.workbench.say(f"no other row contains {clip(needle, 30)}")
            elif view == self.view:
                self.query_one(PagedTable).go(place)
        except (UserError, OSError) as error:
            self._fail(error)
        finally:
            self._search = None
            self._titles()

    # --- cleaning

    def action_prepare(self) -> None:
        things = self.query_one("#things", OptionList)
        at = things.highlighted
        id = str(things.get_option_at_index(at).id or "") if at is not None else ""
        self._ask_for_cleaning(id.removeprefix("source:") if id.startswith("source:") else "")

    def _ask_for_cleaning(self, recipe: str) -> None:
        if self._job is not None:
            self.workbench.say("a cleaning runs already; X cancels it", "warning")
            return
        self.workbench.push_screen(CleanForm(recipe), self._start_cleaning)

    def _start_cleaning(self, recipe: Recipe | None) -> None:
        if recipe is not None:
            self.run_worker(partial(self._start, recipe), group="start", exclusive=True)

    async def _start(self, recipe: Recipe) -> None:
        try:
            self._job, self._process = await asyncio.to_thread(
                background.start, self.workbench.home, recipe
            )
        except (UserError, OSError) as error:
            self._fail(error)
            return
        self._look_at_job()

    def _look_at_job(self) -> None:
        if self._job is not None:
            self.run_worker(partial(self._follow_job, self._job), group="job", exclusive=True)

    async def _follow_job(self, job: Path) -> None:
        state = await asyncio.to_thread(background.read_state, job)
        self.set_class(not state.ended, "-cleaning")
        if not state.ended:
            self.query_one("#job", Static).update(job_text(state))
            self.refresh_bars()
            return
        self._job = None
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None
        await asyncio.to_thread(background.forget, job)
        self.refresh_bars()
        if state.state == "done":
            self.workbench.say(f"dataset {state.dataset} is clean and split")
            self.rows, self._loaded = None, False
            await self._load_list()
        elif state.state == "cancelled":
            self.workbench.say(f"the cleaning of {state.name} was cancelled; nothing was written")
        else:
            self._fail(UserError(state.error))

    def action_cancel(self) -> None:
        job = self._job
        if job is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(asyncio.to_thread(background.cancel, job), group="cancel")

        lines = ["The cleaning that runs is given up.", "What it has written so far is removed."]
        self.workbench.push_screen(ConfirmScreen("Cancel the cleaning", lines), answered)

    # --- words in place of rows

    def _say(self, runs: list[Run]) -> None:
        self._switch("words")
        view = self.query_one("#words", LinesView)
        view.show(runs)
        view.go(0)

    def _fail(self, error: Exception) -> None:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self._say([("✗\u00a0", BAD), (steady(told), PLAIN), ("\n\nr tries again", QUIET)])


def search_order(here: int, count: int, by: int) -> Iterator[tuple[int, int]]:
    """Pieces (start, stop) of all rows but ``here``, the nearest first, round the end."""
    if by > 0:
        for first, last in ((here + 1, count), (0, here)):
            for start in range(first, last, FIND_ROWS):
                yield start, min(last, start + FIND_ROWS)
    else:
        for first, last in ((0, here), (here + 1, count)):
            for stop in range(last, first, -FIND_ROWS):
                yield max(first, stop - FIND_ROWS), stop


def _label(name: str, note: str, cells: int) -> Text:
    """A name with a note at the right edge; the note is cut before the name is."""
    label = Text(clip(name, cells), no_wrap=True, end="")
    room = cells - label.cell_len - 1
    if room >= 4:
        told = Text(clip(note, room), "#9e9e9e")
        label.append(" " * (cells - label.cell_len - told.cell_len))
        label.append_text(told)
    return label


def tab_words(view: str, cells: int) -> str:
    """The sub-views, the current one in brackets; where that is narrow, only the current one."""
    for names in ({}, SHORT):
        shown = [f"[{names.get(each, each)}]" if each == view else names.get(each, each)
                 for each in VIEWS]  # fmt: skip
        line = " ".join(shown)
        if len(line) <= cells:
            return line
    return clip(f"[{view}] {VIEWS.index(view) + 1} of {len(VIEWS)}", cells)


def job_text(state: background.CleanState) -> Text:
    """Four lines about a cleaning that runs."""
    lines = [Text(clip(state.name, 28), no_wrap=True), Text(clip(state.phase, 28), no_wrap=True)]
    bar = bar_text(state.fraction, 13)
    bar.append(f" {state.fraction:>4.0%}")
    lines.append(bar)
    told = f"{words.number(state.rows)} rows"
    if state.phase == "cleaning":
        told += f"  {words.number(state.rows_per_second)}/s"
    lines.append(Text(told, "#9e9e9e"))
    return Text("\n").join(lines)


def example_runs(seen: dict[str, Any]) -> list[Run]:
    """The formatted text of one row, with what is worth knowing about its tokens above it."""
    tokens = seen["tokens"]
    trained = sum(bool(token["trained"]) for token in tokens)
    runs: list[Run] = [(f"{len(tokens)} tokens, {trained} of them trained", QUIET)]
    if seen["truncated_at"] is not None:
        runs.append((f"\n✂ cut at {seen['truncated_at']} of {seen['length']} tokens", WARM))
    if not seen["eos_trained"]:
        runs.append(("\n! the end of the text is not trained", WARM))
    if seen["bos_count"] > 1:
        runs.append((f"\n! {seen['bos_count']} beginning-of-text tokens", WARM))
    return [*runs, ("\n\n", PLAIN), (steady(seen["text"]), PLAIN)]
