"""The workbench: five screens on keys 1-5, one feed, one table of actions."""

import gc
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import App, SystemCommand
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from engine.data.frugal import allocate_frugally
from engine.home import Home, open_home, private_umask
from engine.text import safe_line
from engine.words import percent
from tui import acts, keymap
from tui.acts import Reading
from tui.bandwidth import SLOW_SECONDS, Link, TimedDriver
from tui.feed import Changed, Feed, Snapshot, StoreFeed
from tui.filters import UnsafeText
from tui.garbage import IdleCollector, collect_rarely
from tui.hangup import can_come_back, end_politely, end_with_terminal
from tui.history import History
from tui.lazyscreens import import_screens, lazy_screen
from tui.light import LightColours
from tui.notices import Notices
from tui.ring import ring
from tui.screens.base import WorkbenchScreen, available
from tui.theme import PLAIN

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from engine.recipe import Recipe

__all__ = ["WorkbenchApp", "run_app"]

LEAVE_SECONDS = 2.0
"""A second ctrl+c within this time leaves."""
COLLECT_SECONDS = 3.0
SAMPLE_SECONDS = 5.0
"""How often the machine is read where no screen does."""
SHORTLY = 0.01
NOTICE_STAYS = 15.0
NOTICE_SECONDS = 5.0
"""How often it is asked whether a run that writes no line has stalled."""


class WorkbenchApp(App[int], inherit_bindings=False):
    """The terminal workbench over one home.

    ``feed``, ``clock`` (seconds since the epoch) and ``read_system`` are injected by tests;
    ``start`` is the id of the first screen, ``notify_by`` what :func:`tui.ring.ways` found;
    ``light``: dark on a light ground.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tunebench"
    BINDINGS = keymap.bindings("", app=True)
    ENABLE_COMMAND_PALETTE = False
    MODES = {  # noqa: RUF012
        "data": lazy_screen("data", "DataScreen"),
        "train": lazy_screen("train", "TrainScreen"),
        "runs": lazy_screen("runs", "RunsScreen"),
        "play": lazy_screen("play", "PlayScreen"),
        "system": lazy_screen("system", "SystemScreen"),
    }
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-w"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-h"), (20, "-short"), (32, "-tall")]  # noqa: RUF012

    def __init__(
        self,
        home: Home,
        *,
        feed: Feed | None = None,
        clock: Callable[[], float] = time.time,
        home_words: str | None = None,
        read_system: Callable[[], Reading] | None = None,
        start: str = "train",
        link: Link | None = None,
        light: bool = False,
        notify_by: frozenset[str] = frozenset(),
    ) -> None:
        self.DEFAULT_MODE = start  # type: ignore[misc]  # read by App.__init__
        super().__init__()
        self.home = home
        self.home_words = _short(home) if home_words is None else home_words
        self.link = link or Link()
        self.feed: Feed = feed or StoreFeed(home, self.link)
        self.clock = clock
        self._read_system = read_system or partial(acts.read_system, home)
        self.history = History()
        self.snapshot = Snapshot()
        self.pinned: str | None = None
        """Id of the run that charts show beside every other."""
        self.notify_by = notify_by
        self._notices = Notices(clock())
        self.presented = False
        """The first screen has got what it shows; painting it is next."""
        self._painted = False
        self._idle = IdleCollector()
        self._waiting: list[Callable[[], Any]] = []
        self._unsafe = UnsafeText()
        self._light = LightColours(light)
        self._interrupted = float("-inf")
        self.register_theme(PLAIN)
        self.theme = "plain"

    async def on_event(self, event: events.Event) -> None:
        """A slow link delivers several keys at once, all handed out before the first one has opened
        an input: what was typed after it belongs there and is no command. An input stops the
        printable keys it gets, so one that comes back here beside a focused input never was in it.
        """
        if isinstance(event, events.InputEvent):
            self._idle.typed()
        if isinstance(event, events.Key) and event.is_forwarded and event.is_printable:
            focused = self.focused
            if isinstance(focused, Input | TextArea):
                focused.post_message(events.Key(event.key, event.character))
                return
        await super().on_event(event)

    def get_line_filters(self) -> Sequence[LineFilter]:
        light = [self._light] if self._light.enabled else []
        return [*super().get_line_filters(), *light, self._unsafe]

    def get_driver_class(self) -> type[Driver]:
        usual = super().get_driver_class()
        return TimedDriver if usual is LinuxDriver else usual

    def get_system_commands(self, screen: Screen) -> list[SystemCommand]:
        return []

    def on_mount(self) -> None:
        self.link.changed = lambda: self.call_later(self._link_changed)
        self.set_interval(COLLECT_SECONDS, self._idle.look)
        self.set_interval(NOTICE_SECONDS, self.tell_notices)
        if not self.is_headless:
            end_politely(self)
        self.when_painted(lambda: self.feed.start(self.post_message))
        self.when_painted(lambda: threading.Thread(target=import_screens, daemon=True).start())
        self.set_interval(SAMPLE_SECONDS, self._sample)

    # --- what waits until something is to be seen

    def when_painted(self, callback: Callable[[], Any]) -> None:
        """Call back once the first screen is on the terminal: imports in threads (sqlite, numpy,
        pydantic) would hold the interpreter's lock while it is drawn."""
        if self._painted:
            self.call_later(callback)
        else:
            self._waiting.append(callback)

    def post_display_hook(self) -> None:
        if self.presented and not self._painted:
            self._painted = True
            for callback in self._waiting:
                self.call_later(callback)
            self._waiting.clear()
        if isinstance(self._driver, TimedDriver):
            self._driver.ask()

    def on_unmount(self) -> None:
        self.feed.stop()

    # --- the machine

    def read_system(self) -> Reading:
        """GPUs and host, now; blocks for some milliseconds. The history keeps it."""
        reading = self._read_system()
        if reading.whole is not None:
            self.history.add(self.clock(), *reading.whole, reading.events)
        return reading

    def _sample(self) -> None:
        """A history without holes, whichever screen is looked at."""
        ago = self.clock() - self.history.last  # negative after the clock was set back
        if self._painted and not 0 <= ago < 0.9 * SAMPLE_SECONDS:
            self.run_worker(self.read_system, thread=True, group="sample", exit_on_error=False)

    # --- the feed

    def on_changed(self, message: Changed) -> None:
        for words in message.snapshot.warnings:
            if words not in self.snapshot.warnings:
                self.say(words, "warning", NOTICE_STAYS)
        self.snapshot = message.snapshot
        # While the workbench is left there is no screen any more, but maybe a last message.
        if self.screen_stack and isinstance(self.screen, WorkbenchScreen):
            self.screen.receive(message.snapshot)
        self.tell_notices()

    def tell_notices(self) -> None:
        """Say what happened to the runs, on whatever screen is shown, and where asked outside."""
        found = self._notices.look(self.snapshot, self.clock())
        for notice in found:
            self.say(notice.words, notice.severity, NOTICE_STAYS)
        rung = ring(self.notify_by, [notice.words for notice in found])
        if rung and self._driver is not None and not self.is_headless:
            self._driver.write(rung)
            self._driver.flush()

    def live_words(self) -> tuple[str, str] | None:
        """(state, words) of the newest run that runs, or else waits, for the header."""
        live = self.snapshot.live
        if not live:
            return None
        row = next((row for row in live if row.state != "queued"), live[0])
        words = f"{row.name} {row.state}"
        if row.state == "running" and row.max_steps:
            words += f" {percent(row.step or 0, row.max_steps)}"
        return row.state, words + (f" +{len(live) - 1}" if len(live) > 1 else "")

    # --- the link to the terminal

    def _link_changed(self) -> None:
        """It turned itself on or off, as the link showed."""
        if self.screen_stack:
            self._say_link("slow link: " if self.link.low else "the link is fast again: ")

    def _say_link(self, why: str = "") -> None:
        low = f"low bandwidth, charts and logs every {SLOW_SECONDS:.0f} s"
        self.say(why + (low if self.link.low else "charts and logs as they come"))
        if isinstance(self.screen, WorkbenchScreen):
            self.screen.refresh_bars()

    def action_low_bandwidth(self) -> None:
        self.link.choose(not self.link.low)
        self._say_link()

    def delay_update(self, delay: float = 0.05) -> None:
        """Textual holds a screen back for 50 ms when it comes; these are ready in 10."""
        super().delay_update(min(delay, SHORTLY))

    # --- words to the user

    def say(self, words: str, severity: Any = "information", seconds: float = 6.0) -> None:
        """A short notice; outside text is made safe, nothing is markup."""
        self.notify(safe_line(words[:400]), severity=severity, markup=False, timeout=seconds)

    async def _check_bindings(self, key: str, priority: bool = False) -> bool:
        """The last that is asked about a key: one that does nothing says why."""
        screen = self.screen
        done = await super()._check_bindings(key, priority)
        if isinstance(screen, WorkbenchScreen):
            if done:
                screen.forget_told()
            elif not priority and screen is self.screen:
                screen.tell_impossible(key)
        return done

    # --- actions that work everywhere

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "suspend_process":
            return can_come_back()
        return isinstance(self.screen, WorkbenchScreen) or action in ("interrupt", "jump_pane")

    def _go(self, mode: str) -> None:
        if self.current_mode != mode:
            self.switch_mode(mode)
        elif len(self.screen_stack) > 1:
            self.screen.dismiss(None)  # one that lies over this mode's screen

    def repeat(self, row: "RunRow", recipe: "Recipe", untold: frozenset[str]) -> None:
        """Edit a run's recipe on the Train screen: started, it is a run of its own.

        ``untold``: the keys that its import did not tell.
        """
        self._go("train")
        self.call_later(self._edit_again, row, recipe, untold)

    def _edit_again(self, row: "RunRow", recipe: "Recipe", untold: frozenset[str]) -> None:
        from tui.screens.train import TrainScreen

        if isinstance(self.screen, TrainScreen):
            self.screen.edit_again(row, recipe, untold)

    def action_go_data(self) -> None:
        self._go("data")

    def action_go_train(self) -> None:
        self._go("train")

    def action_go_runs(self) -> None:
        self._go("runs")

    def action_go_play(self) -> None:
        self._go("play")

    def action_go_system(self) -> None:
        self._go("system")

    def action_help(self) -> None:
        if isinstance(self.screen, WorkbenchScreen):
            from tui.screens.help import HelpScreen

            possible = {action.id for action in available(self.screen)}
            self.push_screen(HelpScreen(self.screen.SCREEN, possible))

    def action_palette(self) -> None:
        if isinstance(self.screen, WorkbenchScreen):
            from tui.screens.help import PaletteScreen

            self.push_screen(PaletteScreen(available(self.screen)), self._run_chosen)

    async def _run_chosen(self, id: str | None) -> None:
        if id is None:
            return
        for owner in (self.screen, self):
            if hasattr(owner, f"action_{id}"):
                await owner.run_action(id)
                return

    def action_colours(self) -> None:
        self._light.enabled = not self._light.enabled
        for widget in self.screen.walk_children():
            widget.refresh()
        self.screen.refresh()

    def action_jump_pane(self) -> None:
        from tui.screens.jump import JumpScreen, places

        screen = self.screen

        def go(widget: Widget | None) -> None:
            if widget is not None and widget.is_attached:
                screen.set_focus(widget)

        if found := places(screen):
            self.push_screen(JumpScreen(found), go)
        else:
            self.say("there is no pane or field to go to")

    def action_leave(self) -> None:
        self.exit(0)

    def action_interrupt(self) -> None:
        if selected := self.screen.get_selected_text():
            self.copy_to_clipboard(selected)
            self.say("sent to the terminal's clipboard")
            return
        now = time.monotonic()
        if now - self._interrupted < LEAVE_SECONDS:
            self.exit(0)
            return
        self._interrupted = now
        self.say(f"{keymap.key_of('leave')} leaves (or ctrl+c again); training goes on")


def _short(home: Home) -> str:
    """The home's path as people write it: below their own home folder with a tilde."""
    path, own = str(home.path), os.path.expanduser("~")
    return "~" + path[len(own) :] if path == own or path.startswith(own + os.sep) else path


def run_app(
    home: str | None,
    mouse: bool = True,
    light: bool = False,
    notify_by: frozenset[str] = frozenset(),
    low_bandwidth: bool | None = None,
) -> int:
    """Open the workbench on the home at ``home``; returns the exit status.

    ``low_bandwidth``: what lives by itself is drawn rarely; None: when the link turns out slow.
    """
    private_umask()
    opened = open_home(home)
    for name in ("COLUMNS", "LINES"):  # exported ones would hide the terminal's real size
        os.environ.pop(name, None)
    allocate_frugally()
    gc.freeze()
    collect_rarely()
    end_with_terminal()
    app = WorkbenchApp(opened, light=light, link=Link(low_bandwidth), notify_by=notify_by)
    app.run(mouse=mouse)
    return app.return_code or 0  # 1 after a crash, when run() itself returns None
