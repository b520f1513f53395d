"""What the Train screen shows: recipe, run or samples, or every key of the recipe over both."""

from tui.feed import RunDetail
from tui.screens.starting import Starting
from tui.widgets.chartgrid import ChartGrid
from tui.widgets.keylist import KeysView
from tui.widgets.samples import SamplesView

__all__ = ["TrainViews"]

WIDE = 100
"""Cells from which on the recipe stands beside the run; as in ``app.HORIZONTAL_BREAKPOINTS``."""
VIEWS = ("recipe", "run", "charts", "samples")
"""What ``]`` goes through; on a wide terminal the recipe stands beside run and samples."""


class TrainViews(Starting):
    """A screen with panes ``#all``, ``#form``, ``#live``, ``#charts``, ``#samples``, ``#none``."""

    def __init__(self) -> None:
        super().__init__()
        self._view = "run"
        self._in_keys = False
        self._detail: RunDetail | None = None
        """Of the run that is shown."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("all_keys", "find_key"):
            return self.form.sheet is not None
        return super().check_action(action, parameters)

    def _arrange(self) -> None:
        """Which panes are seen: by style, as a class would restyle 100 widgets, 40 ms."""
        keys = self._in_keys
        runs = bool(self.workbench.snapshot.rows)
        view = self._view
        beside = not keys and (self._is_wide or view != "recipe")
        charts = view == "charts" and runs
        shown = {
            "#all": keys,
            "#form": not keys and not charts and (self._is_wide or view == "recipe"),
            "#live": beside and runs and view not in ("samples", "charts"),
            "#charts": beside and charts,
            "#samples": beside and view == "samples",
            "#none": beside and not runs and view != "samples",
        }
        for id, seen in shown.items():
            widget = self.query_one(id)
            if widget.display != seen:
                widget.display = seen

    @property
    def _is_wide(self) -> bool:
        """The recipe stands beside the run."""
        return self.app.size.width >= WIDE

    def on_resize(self) -> None:
        self._arrange()
        super().on_resize()

    def _show_view(self, view: str) -> None:
        """One of :data:`VIEWS`."""
        self._view, self._in_keys = view, False
        self._arrange()
        if view == "charts" and self._detail is not None:
            self.receive(self.workbench.snapshot)
            self.query_one(ChartGrid).focus_lead()
        elif view == "samples":
            samples = self.query_one(SamplesView)
            samples.show_detail(self._detail)
            self.set_focus(samples)
        elif self.focused is not None and not self.focused.display:
            self.set_focus(None)

    def _turn_view(self, by: int) -> None:
        views = VIEWS[1:] if self._is_wide else VIEWS
        now = "run" if self._is_wide and self._view == "recipe" else self._view
        self._show_view(views[(views.index(now) + by) % len(views)])
        self.refresh_bars()

    def action_next_view(self) -> None:
        self._turn_view(1)

    def action_previous_view(self) -> None:
        self._turn_view(-1)

    # --- all keys

    def action_all_keys(self) -> None:
        if self._in_keys or self.form.sheet is None:
            self._close_keys()
            return
        self._in_keys = True
        self._arrange()
        self.query_one(KeysView).show_sheet(self.form.sheet)
        self.refresh_bars()

    def action_find_key(self) -> None:
        if not self._in_keys:
            self.action_all_keys()
        self.query_one(KeysView).find()

    def _close_keys(self) -> None:
        self._in_keys = False
        self._arrange()
        self.set_focus(None)
        self.refresh_bars()

    def on_keys_view_edited(self, message: KeysView.Edited) -> None:
        self.form.show_sheet()
