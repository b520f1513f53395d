"""What the five screens share: frame, bindings from the table, the feed, moving about."""

import gc
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from tui import keymap, keyneeds
from tui.feed import Snapshot
from tui.widgets.bars import FooterBar, HeaderBar
from tui.widgets.field import Choice, Press, Toggle

if TYPE_CHECKING:
    from tui.app import WorkbenchApp

__all__ = ["TooSmall", "WorkbenchScreen", "available", "block", "hints"]


class TooSmall(Static):
    """All there is to see below 60x20."""

    DEFAULT_CSS = """
    TooSmall { display: none; width: 1fr; height: 1fr; content-align: center middle; }
    """

    def __init__(self) -> None:
        super().__init__("terminal too small\n(60x20 at least)", markup=False)


class WorkbenchScreen(Screen[None], inherit_bindings=False):
    """A screen of the workbench.

    A subclass sets ``SCREEN`` (its id in ``keymap``), ``BINDINGS = keymap.bindings(SCREEN)``, and
    writes ``compose_body``; ``show_snapshot`` is called with the whole state whenever something
    changed while the screen is visible, and once when it becomes visible. ``check_action`` says
    what is possible now: footer and palette show only that.
    """

    SCREEN: ClassVar[str]
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """Textual paints the whole screen anew with it, 19 kB a tab; widgets repaint by themselves."""
    _presented = False
    _styled: object = None
    BINDINGS = keymap.bindings("")

    @property
    def workbench(self) -> "WorkbenchApp":
        return cast("WorkbenchApp", self.app)

    def compose(self) -> ComposeResult:
        yield HeaderBar()
        yield from self.compose_body()
        yield FooterBar()
        yield TooSmall()

    def compose_body(self) -> ComposeResult:
        """The widgets between header and footer."""
        raise NotImplementedError

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Bring the widgets up to date; called only while the screen is visible."""

    def hint(self, action: keymap.Action) -> str:
        """What the footer says of an action; a screen may do it with one thing or another."""
        return action.show

    def watched_runs(self) -> frozenset[str]:
        """Ids of the runs whose details this screen shows."""
        return frozenset()

    # --- what the app calls

    def receive(self, snapshot: Snapshot) -> None:
        """Hand on a snapshot and bring header and footer up to date."""
        if not self.is_attached:  # the workbench is being left
            return
        self.show_snapshot(snapshot)
        self.workbench.feed.watch(self.watched_runs())
        self.refresh_bars()

    def refresh_bars(self) -> None:
        """Header and footer say what is true and possible now; call it after changing either."""
        if not self.is_mounted or not self.query(FooterBar):  # not yet, or it is being left
            return
        self.minimise_hidden()
        app = self.workbench
        header = self.query_one(HeaderBar)
        header.show(self.SCREEN, app.home_words, app.live_words(), app.link.low)
        self.query_one(FooterBar).show(hints(self))

    def minimise_hidden(self) -> None:
        """A pane on the whole screen whose view was left, or that got no room, would hide all."""
        widget = self.maximized
        if widget is not None and not all(w.display for w in widget.ancestors_with_self):
            self.minimize()

    def on_resize(self) -> None:
        self.call_after_refresh(self.minimise_hidden)

    async def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Textual styles all widgets of a screen again that comes back, 35 ms: it need not where
        nothing has changed that is not told to every screen."""
        app = self.app
        styled = (app.size, app.theme, app.app_focus, app._css_update_count)
        event.refresh_styles = event.refresh_styles and styled != self._styled
        self._styled = styled
        self.call_after_refresh(self._present)

    def _present(self) -> None:
        self.receive(self.workbench.snapshot)
        if not self._presented and self.SCREEN in keymap.SCREENS:
            # It lives as long as the workbench does: the garbage collector, whose passes stop the
            # screen, need not look at it again.
            self._presented = True
            gc.freeze()
        self.workbench.presented = True

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.refresh_bars()

    def tell_impossible(self, key: str) -> None:
        """No binding took the key: where its action is only not possible now, say what it wants."""
        if isinstance(self.focused, Input | TextArea):
            return  # there it is a letter
        for action in [*keymap.of_screen(self.SCREEN), *keymap.of_screen("")]:
            if key in action.keys and not action.app and not self.check_action(action.id, ()):
                told = keyneeds.needs(self.SCREEN, action.id)
                words = f"{f'wants {told}' if told else 'not possible now'}  ·  {action.words}"
                if self.maximized is None:
                    self.query_one(FooterBar).tell(keymap.shown(key), words)
                else:  # a pane on the whole screen lies over the footer
                    self.workbench.say(f"{keymap.shown(key)} {words}")
                return

    def forget_told(self) -> None:
        """Another key did something: the footer says what keys do again."""
        for footer in self.query(FooterBar):
            footer.forget()

    # --- moving about: the same keys in every list, table, log and form

    def _forward(self, *names: str) -> None:
        widget = self.focused
        while widget is not None and widget is not self:
            for name in names:
                if (method := getattr(widget, f"action_{name}", None)) is not None:
                    method()
                    return
            widget = cast("Widget | None", widget.parent)

    @property
    def _in_form(self) -> bool:
        return isinstance(self.focused, Input | Toggle | Choice | Press)

    def action_down(self) -> None:
        if self._in_form:
            self.focus_next()
        else:
            self._forward("cursor_down", "scroll_down")

    def action_up(self) -> None:
        if self._in_form:
            self.focus_previous()
        else:
            self._forward("cursor_up", "scroll_up")

    def action_left(self) -> None:
        self._forward("cursor_left", "scroll_left")

    def action_right(self) -> None:
        self._forward("cursor_right", "scroll_right")

    def action_first(self) -> None:
        self._forward("scroll_top", "first", "scroll_home")

    def action_last(self) -> None:
        self._forward("scroll_bottom", "last", "scroll_end")

    def action_page_up(self) -> None:
        self._forward("page_up", "scroll_page_up")

    def action_page_down(self) -> None:
        self._forward("page_down", "scroll_page_down")

    def action_next_pane(self) -> None:
        self.focus_next()

    def action_previous_pane(self) -> None:
        self.focus_previous()

    def action_maximise(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused)

    def action_back(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif isinstance(self.focused, Input | TextArea):
            self.set_focus(None)


def block(words: str) -> Text:
    """Lines that are centred together, not each for itself."""
    lines = words.split("\n")
    width = max(cell_len(line) for line in lines)
    return Text("\n".join(line + " " * (width - cell_len(line)) for line in lines))


def available(screen: Screen) -> list[keymap.Action]:
    """The actions that are possible now on this screen: its own first."""
    name = getattr(screen, "SCREEN", None)
    if name is None:
        return []
    found = []
    for action in [*keymap.of_screen(name), *keymap.of_screen("")]:
        for owner in (screen, screen.app):
            if hasattr(owner, f"action_{action.id}"):
                if owner.check_action(action.id, ()):
                    found.append(action)
                break
    return found


def hints(screen: Screen) -> list[tuple[str, str]]:
    """The footer's hints: four of the screen at most, help and commands always.

    Inside an input letters are text, so there only keys that type nothing are shown.
    """
    typing = isinstance(screen.focused, Input | TextArea)
    own: list[tuple[str, str]] = []
    common: list[tuple[str, str]] = []
    for action in available(screen):
        words = screen.hint(action) if isinstance(screen, WorkbenchScreen) else action.show
        if not words:
            continue
        key = action.keys[0]
        if typing and not action.priority:
            if "ctrl+o" not in action.keys:
                continue
            key = "ctrl+o"
        (common if not action.screen else own).append((keymap.shown(key), words))
    if typing:
        own = [("esc", "leave the field"), ("tab", "next field"), *own]
    return own[:4] + common
