"""The panes that rows are shown in, one at a time: a table, words, tokens, texts before and after,
lengths."""

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from engine.errors import UserError
from engine.text import steady
from tui.rowwords import example_runs
from tui.widgets.compare import Compared, CompareView
from tui.widgets.lengthspane import LengthsPane
from tui.widgets.lines import BAD, PLAIN, QUIET, LinesView, Run
from tui.widgets.rowdetail import RowDetail
from tui.widgets.table import PagedTable
from tui.widgets.tokens import TokensView

__all__ = ["RowPanes"]


class RowPanes(Vertical):
    """Shows what it is given; which row that is, a subclass decides."""

    DEFAULT_CSS = """
    RowPanes #views { height: 1fr; }
    RowPanes #detail { display: none; height: 14; border-top: solid $border; }
    RowPanes #detail:focus { border-top: heavy $primary; }
    """

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="words", id="views"):
            yield LinesView(id="words")
            with Vertical(id="browse"):
                yield PagedTable(id="table")
                yield RowDetail(id="detail")
            yield TokensView(id="tokens")
            yield CompareView(id="compare")
            yield LengthsPane(id="lengths")

    def switch(self, id: str) -> None:
        self.query_one("#views", ContentSwitcher).current = id

    @property
    def focus_inside(self) -> bool:
        focused = self.screen.focused
        return focused is not None and self in focused.ancestors

    def focus_view(self) -> None:
        current = self.query_one("#views", ContentSwitcher).current
        self.screen.set_focus(self.query_one("#table" if current == "browse" else f"#{current}"))

    def say(self, runs: list[Run]) -> None:
        """Words in place of rows."""
        self.switch("words")
        view = self.query_one("#words", LinesView)
        view.show(runs)
        view.go(0)

    def fail(self, error: Exception) -> None:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self.say([("✗\u00a0", BAD), (steady(told[:2000]), PLAIN), ("\n\nr tries again", QUIET)])

    def put_compared(self, seen: Compared) -> None:
        """Texts before and after."""
        self.query_one(CompareView).show_compared(seen)
        self.switch("compare")

    def put_preview(self, view: str, seen: dict[str, Any]) -> None:
        """What the model sees of a row, as formatted text or as tokens."""
        if view == "tokens":
            tokens = self.query_one(TokensView)
            tokens.show_tokens(seen["tokens"], seen["truncated_at"], seen.get("length"))
            self.switch("tokens")
        else:
            self.say(example_runs(seen))
