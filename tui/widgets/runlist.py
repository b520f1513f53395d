"""The history as a table of runs and groups: the question, the order, the columns, what is open."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from engine.errors import UsageError
from engine.text import clip
from tui.feed import Snapshot
from tui.runcolumns import Look, RunColumn, column_named, told_keys, turn, usual
from tui.runquestion import Asked
from tui.runtable import GROUPS, Group, cells, in_order, key_of, lines, titles
from tui.widgets.field import PlainInput
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["RunList"]

ORDERS = ("created", "name", "best_eval_loss", "state")
"""What ``o`` cycles through before the other columns in sight; the first one is newest first."""
EXAMPLE = "words, or a question: best<2.3 and model~llama and tag:keep"


class _WaysOn(Suggester):
    """What a half-written question may be, behind the cursor."""

    def __init__(self, list: "RunList") -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._list = list

    async def get_suggestion(self, value: str) -> str | None:
        ways = await asyncio.to_thread(self._list.ways_on, value)
        self._list.tell_ways(value, ways)
        return next((text for text, _, _ in ways if text.startswith(value)), None)


class QuestionInput(PlainInput):
    """Tab takes the suggestion where there is one, as in a shell."""

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "tab" and self._suggestion and self._suggestion != self.value:
            event.stop()
            event.prevent_default()
            self.value = self._suggestion
            self.cursor_position = len(self.value)
            return
        await super()._on_key(event)


class RunList(Vertical):
    """Shows a snapshot's runs; the screen's keys call the rest and show again."""

    DEFAULT_CSS = """
    RunList #ways { height: 1; padding: 0 1; color: $quiet; display: none;
                    text-wrap: nowrap; text-overflow: ellipsis; }
    RunList #ways.-wrong { color: $error; }
    """

    class Answered(Message):
        """The searches of a question are done."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.asked = Asked()
        self.chosen_columns: list[str] | None = None
        """Names; None: the usual ones for the screen's width."""
        self.by = GROUPS[0]
        self._order, self._turned = ORDERS[0], False
        self._columns: tuple[RunColumn, ...] = ()
        self._lines: list[RunRow | Group] = []
        self._made_of: tuple[object, ...] = ()
        self._differing: tuple[tuple[object, ...], tuple[str, ...]] = ((), ())
        self._snapshot = Snapshot()
        self._goal: tuple[str, str] | None = None
        """Of the line that the cursor goes to when the runs are shown the next time."""
        self._table = Rows(id="table", classes="pane")
        self._unfolded: set[str] = set()
        self.marked: list[str] = []
        """Ids of the runs that are to be compared, in the order of their marking."""
        self._titles = ("", "")
        self._ways = ""
        self._said = (False, "")

    def compose(self) -> ComposeResult:
        with Horizontal(id="filter"):
            yield Static("filter ", markup=False)
            yield QuestionInput(id="wanted", placeholder=EXAMPLE, suggester=_WaysOn(self))
        yield Static("", id="ways", markup=False)
        yield self._table

    @property
    def table(self) -> Rows:
        return self._table

    @property
    def line(self) -> "RunRow | Group | None":
        """What the cursor is on: of keys that come together, the second one finds it moved."""
        at = self._table.cursor
        return self._lines[at] if at < len(self._lines) else None

    @property
    def filter(self) -> str:
        return self.asked.text

    @property
    def filtering(self) -> bool:
        """The filter is being written."""
        focused = self.screen.focused
        return focused is not None and focused.id == "wanted"

    # --- what is shown

    def show(self, snapshot: Snapshot, width: int, now: float, pinned: str | None = None) -> None:
        """``width``: of the screen, which decides on the columns; ``pinned``: the baseline."""
        self._snapshot = snapshot
        here = self.line
        goal, self._goal = self._goal or (key_of(here) if here else None), None
        if snapshot.settings is not None and self.asked.error:
            self.asked.write(self.asked.text, snapshot)  # it may name a key that is known only now
        self.marked = [id for id in self.marked if id in snapshot.by_id]
        signs = dict.fromkeys(self.marked, "▪") | ({pinned: "★"} if pinned else {})
        self._columns = self._columns_for(width, bool(signs), snapshot)
        look = self._make_lines(snapshot, now)
        table = self.table
        at = next((i for i, line in enumerate(self._lines) if key_of(line) == goal), None)
        if at is None:
            at = min(table.cursor, max(0, len(self._lines) - 1))
        columns = self._columns
        table.show(
            titles(columns, bool(signs)),
            len(self._lines),
            lambda index: cells(self._lines[index], columns, look, signs),
            cursor=at,
            empty="no run matches" if self.asked.looked_up else "searching …",
        )
        self._show_titles(snapshot)
        self.query_one("#filter").display = bool(self.filter) or self.filtering
        self._show_ways()

    def _columns_for(self, width: int, signs: bool, snapshot: Snapshot) -> tuple[RunColumn, ...]:
        """Those that were chosen, as far as there is room for them; what takes the rest is last."""
        if self.chosen_columns is None:
            return usual(width)
        keys = snapshot.facts.settings.keys
        chosen = []
        for name in self.chosen_columns:
            with contextlib.suppress(UsageError):  # a key that no recipe here has
                chosen.append(column_named(name, keys))
        room, kept = width - 6 - 2 * signs, set()
        for one in sorted(chosen, key=lambda one: turn(one, width)):
            if 0 < one.column.width < room:
                room -= one.column.width + 1
                kept.add(one.name)
        made = [one for one in chosen if one.name in kept]
        rest = [one for one in chosen if not one.column.width and room > 4]
        return tuple(made + rest[-1:]) or usual(width)

    def _make_lines(self, snapshot: Snapshot, now: float) -> Look:
        """Made anew only when something of it is another one: the cursor moves without."""
        asked = self.asked
        column = self._sorted_by()
        made_of = (
            snapshot.rows, snapshot.tags, snapshot.archived, snapshot.settings, asked.question,
            asked.looked_up, self._order, self._turned, self.by, frozenset(self._unfolded),
        )  # fmt: skip
        same = len(self._made_of) == len(made_of) and all(
            a is b or (isinstance(a, str | bool | frozenset) and a == b)
            for a, b in zip(self._made_of, made_of, strict=True)
        )
        if not same:
            rows = asked.select(snapshot)
            self._find_differing(snapshot, rows)
            sorting = Look(now, snapshot.facts)
            rows = in_order(rows, column, sorting, self._turned)
            words = asked.text if not asked.error else ""
            self._lines = lines(snapshot, rows, self.by, self._unfolded, words, self._order)
            self._made_of = made_of
        return Look(now, snapshot.facts, self._differing[1])

    def _find_differing(self, snapshot: Snapshot, rows: "list[RunRow]") -> None:
        what = (snapshot.settings, len(rows), rows[0].id if rows else "", self.asked.question)
        if len(self._differing[0]) != 4 or any(
            a is not b and a != b for a, b in zip(self._differing[0], what, strict=True)
        ):
            found = snapshot.facts.settings.differing(row.id for row in rows)
            self._differing = (what, told_keys(found))

    @property
    def columns(self) -> tuple[RunColumn, ...]:
        """Those in sight."""
        return self._columns

    @property
    def differing(self) -> tuple[str, ...]:
        """The recipe's keys in which the runs of the table differ."""
        return self._differing[1]

    def _sorted_by(self) -> RunColumn | None:
        if self._order == ORDERS[0]:
            return None
        try:
            return column_named(self._order, self._snapshot.facts.settings.keys)
        except UsageError:  # its recipes are gone
            self._order, self._turned = ORDERS[0], False
            return None

    def _show_titles(self, snapshot: Snapshot) -> None:
        total = len(snapshot.rows)
        shown = str(total)
        if self.filter or snapshot.archived:
            heads = [line for line in self._lines if isinstance(line, Group) or not line.sweep]
            count = len({
                row.id
                for line in heads
                for row in (line.shown if isinstance(line, Group) else (line,))
            })  # fmt: skip
            shown = f"{count} of {total}" if count < total else shown
        away = len(snapshot.archived & snapshot.by_id.keys())
        if away and not self.asked.question.wants_archived:
            shown += f", {away} put away (is:archived)"
        column = self._sorted_by()
        order = column.order if column else "newest first"
        if self._turned:
            order = "oldest first" if column is None else f"{order}, turned round"
        if self.by != "sweep":
            order += f", by {self.by}" if self.by else ", no groups"
        if (shown, order) != self._titles:  # setting a title repaints the whole table
            self._titles = (shown, order)
            self.table.border_title = Text(f"Runs  {shown}")
            self.table.border_subtitle = Text(order)

    # --- the question

    def ways_on(self, text: str) -> list[tuple[str, str, str]]:
        """How a question may go on; in a thread: of 10,000 runs it takes 20 ms."""
        return Asked(text).ways_on(self._snapshot)

    def tell_ways(self, text: str, ways: list[tuple[str, str, str]]) -> None:
        """Say below the question how it may go on."""
        if text == self.asked.text:
            self._ways = "  ".join(f"{word} ({help})" if help else word for _, word, help in ways)
            self._show_ways()

    def _show_ways(self) -> None:
        line = self.query_one("#ways", Static)
        wrong = self.asked.error if self.filter else ""
        told = self._ways if self.filtering and self.filter else ""
        said = (bool(wrong) and not told, clip(told or wrong, 300))
        line.display = bool(said[1])
        if said != self._said:
            self._said = said
            line.set_class(said[0], "-wrong")
            line.update(Text(said[1]))

    def find(self) -> None:
        self.query_one("#filter").display = True
        self.screen.set_focus(self.query_one("#wanted", Input))

    def clear(self) -> None:
        self.query_one("#wanted", Input).value = ""

    def on_input_changed(self, event: Input.Changed) -> None:
        self._ways = ""
        self.asked.write(event.value, self._snapshot)
        if not self.asked.looked_up:
            self.run_worker(self._look_up, group="look up", exclusive=True)

    async def _look_up(self) -> None:
        from tui.app import WorkbenchApp

        app = self.app
        assert isinstance(app, WorkbenchApp)
        question = self.asked.question
        await asyncio.to_thread(app.feed.look_up, question)
        if question is self.asked.question:
            self.asked.looked_up = True
            self.post_message(self.Answered())

    # --- the cursor, marks

    def mark(self) -> None:
        """Mark the run under the cursor, or no longer; the next line gets the cursor."""
        line = self.line
        if line is None or isinstance(line, Group):
            return
        if line.id in self.marked:
            self.marked.remove(line.id)
        else:
            self.marked.append(line.id)
        behind = self._lines[self._table.cursor + 1 :][:1]
        self._goal = key_of(*behind) if behind else None

    # --- groups

    @property
    def group(self) -> tuple[str, str] | None:
        """Kind and name of the group that the cursor is on or in."""
        line = self.line
        if isinstance(line, Group):
            return line.kind, line.sweep.id
        if self.by == "sweep" or line is None:
            return ("sweep", line.sweep) if line is not None and line.sweep else None
        above = reversed(self._lines[: self.table.cursor])
        head = next((one for one in above if isinstance(one, Group)), None)
        return key_of(head) if head is not None else None

    def fold(self, opened: bool | None = None) -> None:
        """Open or close that group; None: the other way round. The cursor stays on it."""
        line, found = self.line, self.group
        if found is None:
            return
        if opened is None:
            opened = isinstance(line, Group) and not line.opened
        if not opened:
            self._unfolded.discard(found[1])
            self._goal = found
        elif isinstance(line, Group):
            self._unfolded.add(found[1])

    def next_group(self) -> None:
        """Group the runs by the next of :data:`GROUPS`."""
        self.by = GROUPS[(GROUPS.index(self.by) + 1) % len(GROUPS)]
        self._unfolded.clear()

    # --- the order

    def next_order(self) -> None:
        """Sort by the next column in sight."""
        names = [one.name for one in self._columns if one.rank is not None]
        orders = [*ORDERS, *(name for name in names if name not in ORDERS)]
        at = orders.index(self._order) if self._order in orders else -1
        self._order, self._turned = orders[(at + 1) % len(orders)], False

    def turn_order(self) -> None:
        """The other way round."""
        self._turned = not self._turned
