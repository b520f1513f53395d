"""What forms are made of. Nothing blinks: that is traffic on a slow link and noise in snapshots."""

from dataclasses import dataclass
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult, RenderResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.text import clip

__all__ = ["Field", "PlainInput", "Toggle"]


class PlainInput(Input):
    """A one-line input without blinking."""

    def __init__(self, value: str = "", **options: Any) -> None:
        super().__init__(value, **options)
        self.cursor_blink = False


class Toggle(Widget, can_focus=True):
    """yes or no; space changes it."""

    BINDINGS = [("space", "toggle", "change")]  # noqa: RUF012
    DEFAULT_CSS = """
    Toggle { height: 1; width: 1fr; padding: 0 1; background: $panel; }
    Toggle:focus { background: #303030; text-style: underline; }
    """

    @dataclass
    class Changed(Message):
        toggle: "Toggle"
        value: str

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._on = False

    @property
    def value(self) -> str:
        """``true`` or ``false``, as TOML writes it."""
        return "true" if self._on else "false"

    @value.setter
    def value(self, value: str) -> None:
        on = value == "true"
        if on != self._on:
            self._on = on
            self.refresh()
            self.post_message(self.Changed(self, self.value))

    def render(self) -> RenderResult:
        return Text("[x] yes" if self._on else "[ ] no")

    def action_toggle(self) -> None:
        self.value = "false" if self._on else "true"

    def on_click(self, event: events.Click) -> None:
        self.action_toggle()


class Field(Vertical):
    """A label (the recipe's own name of the value), its input, and below it what is wrong."""

    DEFAULT_CSS = """
    Field { height: auto; }
    Field > Horizontal { height: 1; }
    Field .label { width: auto; color: $quiet; }
    Field .wrong { display: none; color: $error; height: auto; padding: 0 0 0 2; }
    Field.-wrong .wrong { display: block; }
    """

    def __init__(self, key: str, label: str, label_width: int, *, toggle: bool = False) -> None:
        super().__init__()
        self.key, self._label, self._label_width, self._toggle = key, label, label_width, toggle

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(Text(f"{self._label:<{self._label_width}} "), classes="label")
            yield Toggle() if self._toggle else PlainInput(select_on_focus=False)
        yield Static("", classes="wrong")

    @property
    def box(self) -> "Toggle | PlainInput":
        return self.query_one(Toggle if self._toggle else PlainInput)  # type: ignore[return-value]

    @property
    def value(self) -> str:
        return self.box.value

    def put(self, value: str) -> None:
        """Set the value without the message that a change by hand sends."""
        with self.prevent(Input.Changed, Toggle.Changed):
            self.box.value = value

    def wrong(self, message: str) -> None:
        """Say what is wrong with the value; empty: nothing."""
        self.query_one(".wrong", Static).update(Text(clip(f"✗ {message}", 400) if message else ""))
        self.set_class(bool(message), "-wrong")
