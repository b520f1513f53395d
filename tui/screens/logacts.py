"""What keys do with a log, on every screen that shows one."""

from tui.screens.base import WorkbenchScreen
from tui.widgets.logpage import LogPage

__all__ = ["LogActions"]


class LogActions(WorkbenchScreen):
    """A screen with a :class:`LogPage`; it says itself when that is shown."""

    @property
    def log_page(self) -> LogPage:
        return self.query_one(LogPage)

    def action_next_match(self) -> None:
        self.log_page.again(1)

    def action_previous_match(self) -> None:
        self.log_page.again(-1)

    def action_level(self) -> None:
        self.log_page.next_level()

    def action_wrap(self) -> None:
        self.log_page.view.wrap()

    def on_log_page_changed(self, message: LogPage.Changed) -> None:
        self.refresh_bars()
