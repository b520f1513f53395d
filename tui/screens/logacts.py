"""What keys do with a log, on every screen that shows one."""

from tui import keymap
from tui.screens.base import WorkbenchScreen
from tui.widgets.logpage import LogPage

__all__ = ["LogActions"]


class LogActions(WorkbenchScreen):
    """A screen with a :class:`LogPage`."""

    @property
    def log_page(self) -> LogPage:
        return self.query_one(LogPage)

    @property
    def on_log(self) -> bool:
        """The log is what is shown now."""
        return self.is_mounted

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("level", "wrap"):
            return self.on_log
        if action in ("next_match", "previous_match"):
            return self.on_log and self.log_page.searched
        return super().check_action(action, parameters)

    def hint(self, action: keymap.Action) -> str:
        return "search" if action.id == "find" and self.on_log else super().hint(action)

    def action_find(self) -> None:
        self.log_page.find()

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
