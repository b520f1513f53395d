"""What the Runs screen does to its history: star, rename, put away, bring back, repeat, arrange."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import work

from engine.errors import UserError
from tui import acts, historyacts
from tui.runcolumns import columns_file, load_columns, offered, save_columns
from tui.screens.ask import AskScreen
from tui.screens.choose import ChooseScreen
from tui.screens.comparing import SWEEP, TABLE, Comparing
from tui.words import bytes_words, when

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["Tidying"]

ON_ROWS = ("star", "archive")
ON_TABLE = ("columns", "group_by", "turn_order", "sort")


class Tidying(Comparing):
    """A screen with the table of runs, and one run or sweep chosen."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ON_ROWS:
            return bool(self._them)
        if action == "rename":
            return self.chosen() is not None
        if action == "repeat":
            return self._one is not None
        if action in ON_TABLE:
            return self._page == TABLE and bool(self.workbench.snapshot.rows)
        if action == "descent":
            return bool(self.workbench.snapshot.rows)
        return super().check_action(action, parameters)

    def read_columns(self) -> None:
        """The columns that were chosen in another session, once."""
        try:
            self.list.chosen_columns = load_columns(columns_file())
        except UserError as error:
            self.workbench.say(str(error), "warning")

    # --- marks

    def action_star(self) -> None:
        self._mark("star", self.workbench.snapshot.starred)

    def action_archive(self) -> None:
        self._mark("archive", self.workbench.snapshot.archived)

    def _mark(self, what: str, there: frozenset[str]) -> None:
        """Of several, all get what not all of them have."""
        ids = [row.id for row in self._them]
        on = not there.issuperset(ids)
        self.do(partial(historyacts.mark, self.workbench.home, what, ids, on))

    def action_rename(self) -> None:
        row = self.chosen()
        if row is None:
            return
        id, home = row.id, self.workbench.home

        def written(name: str | None) -> None:
            if name and name != row.name:
                self.do(partial(historyacts.rename, home, id, name))

        words = "Letters, digits, '.', '_' and '-'. Its id stays; every command knows both."
        self.app.push_screen(AskScreen(f"Another name for {row.name}", words, row.name), written)

    # --- the trash

    @work(thread=True, group="act", exit_on_error=False)
    def action_undelete(self) -> None:
        """What is in the trash is read in a thread, with its sizes."""
        found = historyacts.in_trash(self.workbench.home)
        if not found:
            self.app.call_from_thread(self.workbench.say, "nothing is in the trash")
            return
        self.app.call_from_thread(self._choose_deleted, found)

    def _choose_deleted(self, found: Sequence[historyacts.Deleted]) -> None:
        """Each run, and above the last deleted one of a sweep all that are there of it."""
        now, home = self.workbench.clock(), self.workbench.home
        offers: list[tuple[str, Callable[[], str]]] = []
        for sweep, runs in _of_sweeps(found):
            if sweep is not None and len(runs) > 1:
                size = bytes_words(sum(run.bytes for run in runs))
                told = f"deleted {when(runs[0].t, now)}  all {len(runs)} runs of the sweep"
                line = f"{sweep:<24} {size:>9}  {told}"
                offers.append((line, partial(historyacts.restore_sweep, home, sweep)))
            for run in runs:
                told = f"deleted {when(run.t, now)}  {run.id}"
                line = f"{run.name:<24} {bytes_words(run.bytes):>9}  {told}"
                offers.append((line, partial(historyacts.restore, home, run.id)))

        def chosen(place: str | None) -> None:
            if place is not None:
                self.do(offers[int(place)][1])

        lines = [(str(place), line) for place, (line, _) in enumerate(offers)]
        self.app.push_screen(ChooseScreen("Bring back from the trash", lines), chosen)

    @work(thread=True, group="act", exit_on_error=False)
    def action_empty_trash(self) -> None:
        home = self.workbench.home
        found = historyacts.in_trash(home)
        if not found:
            self.app.call_from_thread(self.workbench.say, "nothing is in the trash")
            return
        names = ", ".join(run.name for run in found[:6])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        size = bytes_words(sum(run.bytes for run in found))
        self.app.call_from_thread(
            self.confirm,
            f"Delete what is in the trash for good ({size})?",
            [f"{names}{more}.", "This cannot be taken back; notes, tags and votes stay."],
            partial(historyacts.empty_trash, home, [run.id for run in found]),
        )

    # --- how the table is arranged

    def action_columns(self) -> None:
        from tui.screens.runcolumns import RunColumnsScreen

        table = self.list
        names = table.chosen_columns or [one.name for one in table.columns]

        def chosen(names: Sequence[str] | None) -> None:
            if names is None:
                return
            table.chosen_columns = [*names] or None
            self.do(partial(_kept, partial(save_columns, columns_file(), names or None)))
            self.receive(self.workbench.snapshot)

        offers = offered(self.workbench.snapshot.facts, table.differing)
        self.app.push_screen(RunColumnsScreen(names, offers), chosen)

    def action_group_by(self) -> None:
        self.list.next_group()
        self.show_snapshot(self.workbench.snapshot)

    def action_sort(self) -> None:
        self.list.next_order()
        self.show_snapshot(self.workbench.snapshot)

    def action_turn_order(self) -> None:
        self.list.turn_order()
        self.show_snapshot(self.workbench.snapshot)

    # --- repeating

    def action_repeat(self) -> None:
        """Its recipe into the form of the Train screen, where s says what differs."""
        if row := self._one:
            self._read_recipe(row)

    @property
    def _one(self) -> "RunRow | None":
        """The run that is chosen, on the page of a sweep too."""
        if self._page == SWEEP and self.is_mounted:
            return self.sweep_page.row
        return self.chosen()

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def _read_recipe(self, row: "RunRow") -> None:
        try:
            found = acts.recipe_again(self.workbench.home, row.id)
        except UserError as error:
            self.app.call_from_thread(self.workbench.say, str(error), "error")
            return
        self.app.call_from_thread(self.workbench.repeat, row, *found)

    def action_descent(self) -> None:
        from tui.screens.descent import DescentScreen

        def opened(run: str | None) -> None:
            if run is not None and run in self.workbench.snapshot.by_id:
                self._sweep = None
                self._show_whole(run)
                self.receive(self.workbench.snapshot)

        row = self.chosen()
        self.app.push_screen(DescentScreen(row.id if row else None), opened)


def _of_sweeps(
    found: Sequence[historyacts.Deleted],
) -> list[tuple[str | None, list[historyacts.Deleted]]]:
    """The runs of a sweep together, at the place of the first of them; others alone."""
    groups: dict[str, tuple[str | None, list[historyacts.Deleted]]] = {}
    for run in found:
        key = f"sweep {run.sweep}" if run.sweep else f"run {run.id}"
        groups.setdefault(key, (run.sweep, []))[1].append(run)
    return list(groups.values())


def _kept(save: Callable[[], None]) -> str:
    save()
    return ""
