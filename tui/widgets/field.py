"""What forms are made of. Nothing blinks: that is traffic on a slow link and noise in snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult, RenderResult
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.text import clip

__all__ = ["Choice", "Field", "PlainInput", "Press", "Toggle"]

QUIET, WARM = "#9e9e9e", "#ffaf5f"


class PlainInput(Input):
    """A one-line input without blinking, in which keys count in the order they were typed.

    Textual inserts letters at once but runs editing keys through the app: of a burst (a slow link
    delivers several keys together) ctrl+u then deleted letters that were typed after it.
    """

    def __init__(self, value: str = "", **options: Any) -> None:
        super().__init__(value, **options)
        self.cursor_blink = False

    async def _on_key(self, event: events.Key) -> None:
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            if binding.action.startswith(("cursor_", "delete_", "home", "end")):
                event.stop()
                event.prevent_default()
                await self.run_action(binding.action)
                return
        await super()._on_key(event)


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


class Choice(Widget, can_focus=True):
    """One of a few values; space and the arrows change it."""

    BINDINGS = [  # noqa: RUF012
        ("space,right,l", "turn(1)", "next value"),
        ("left,h", "turn(-1)", "value before"),
    ]
    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; padding: 0 1; background: $panel; }
    Choice:focus { background: #303030; text-style: underline; }
    """

    @dataclass
    class Changed(Message):
        choice: "Choice"
        value: str

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__()
        self.values = tuple(values)
        self._at = 0

    @property
    def value(self) -> str:
        return self.values[self._at]

    @value.setter
    def value(self, value: str) -> None:
        at = self.values.index(value) if value in self.values else 0
        if at != self._at:
            self._at = at
            self.refresh()
            self.post_message(self.Changed(self, self.value))

    def render(self) -> RenderResult:
        """The value in force in brackets, those behind it as far as there is room."""
        line = Text(no_wrap=True, overflow="ellipsis")
        for value in (*self.values[self._at :], *self.values[: self._at]):
            if value == self.value:
                line.append(f"[{value}]", "bold")
            else:
                line.append(f" {value}", QUIET)
        return line

    def action_turn(self, by: int) -> None:
        self.value = self.values[(self._at + by) % len(self.values)]


class Press(Widget, can_focus=True):
    """Words that do something on enter or space."""

    BINDINGS = [("enter,space", "press", "do it")]  # noqa: RUF012
    DEFAULT_CSS = """
    Press { height: 1; width: auto; padding: 0 1; margin: 0 2 0 0; background: $panel; }
    Press:focus { background: #005f87; color: #ffffff; text-style: bold underline; }
    """

    @dataclass
    class Pressed(Message):
        press: "Press"

        @property
        def control(self) -> "Press":
            return self.press

    def __init__(self, words: str, *, id: str) -> None:
        super().__init__(id=id)
        self._words = words

    def render(self) -> RenderResult:
        return Text(f"{'›' if self.has_focus else ' '} {self._words} ", no_wrap=True)

    def action_press(self) -> None:
        self.post_message(self.Pressed(self))

    def on_click(self, event: events.Click) -> None:
        self.action_press()


class Field(Widget):
    """A label (the recipe's own name of the value), its input, and below it what is wrong.

    It draws the label itself and makes the line below only when there is something to say: forms
    have twenty fields, and every widget of one takes half a millisecond before it is seen.
    """

    DEFAULT_CSS = """
    Field { height: auto; width: 1fr; layout: vertical; overflow: hidden hidden; }
    Field > .wrong { display: none; color: $error; height: auto; padding: 0 0 0 2; }
    Field.-wrong > .wrong { display: block; }
    """

    def __init__(
        self,
        key: str,
        label: str,
        label_width: int,
        *,
        toggle: bool = False,
        choices: Sequence[str] = (),
        placeholder: str = "",
    ) -> None:
        super().__init__()
        self.key, self._label = key, f"{label:<{label_width}} "
        self.box: Toggle | Choice | PlainInput
        if choices:
            self.box = Choice(choices)
        elif toggle:
            self.box = Toggle()
        else:
            self.box = PlainInput(select_on_focus=False, placeholder=placeholder)
        self.box.styles.margin = (0, 0, 0, len(self._label))
        self._said = ""
        self._doubted = False

    def compose(self) -> ComposeResult:
        yield self.box

    def render(self) -> RenderResult:
        label = Text(self._label, QUIET, no_wrap=True)
        if self._doubted:
            label.right_crop(1)
            label.append("?", WARM)
        return label

    @property
    def value(self) -> str:
        return self.box.value

    def put(self, value: str) -> None:
        """Set the value without the message that a change by hand sends."""
        with self.prevent(Input.Changed, Toggle.Changed, Choice.Changed):
            self.box.value = value

    def doubt(self, doubted: bool) -> None:
        """Mark the value as one that nobody told, or no longer."""
        if doubted != self._doubted:
            self._doubted = doubted
            self.refresh()

    def wrong(self, message: str) -> None:
        """Say what is wrong with the value; empty: nothing."""
        if message == self._said:  # said at every key typed, and a layout is 5 ms
            return
        self._said = message
        told = Text(clip(f"✗ {message}", 400) if message else "")
        if (line := next(iter(self.query(".wrong").results(Static)), None)) is not None:
            line.update(told)
        elif told:
            self.mount(Static(told, classes="wrong"))
        self.set_class(bool(told), "-wrong")
