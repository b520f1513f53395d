"""How answers are sampled: the settings of ``[generate]`` under their usual names."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.text import clip
from tui.widgets.field import Choice, Field

if TYPE_CHECKING:
    from engine.recipe import GenerateSection

__all__ = ["PRESETS", "Sampled", "SamplingScreen"]

PRESETS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "greedy": {"do_sample": False, "repetition_penalty": 1.0},
    "careful": {"do_sample": True, "temperature": 0.3, "top_p": 0.9, "top_k": 50},
    "balanced": {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50},
    "free": {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.05},
}
LABEL = 20
EVERYBODY, ITSELF = "all columns", "this column"

Sampled = tuple[str, "GenerateSection"]
"""(for whom: EVERYBODY or ITSELF, the settings)."""


class SamplingScreen(ModalScreen[Sampled | None], inherit_bindings=False):
    """Dismisses with the settings on enter, with None on esc. What is wrong is said at its key."""

    BINDINGS = [  # noqa: RUF012
        ("escape,ctrl+c", "cancel", "cancel"),
        ("enter,ctrl+j", "take", "take them"),
        ("tab,down", "next", "next"),
        ("shift+tab,up", "previous", "before"),
    ]
    DEFAULT_CSS = """
    SamplingScreen .dialog { width: 70; height: auto; max-height: 95%; }
    SamplingScreen VerticalScroll { height: auto; max-height: 16; }
    SamplingScreen Field PlainInput { margin: 0; }
    """

    def __init__(self, settings: "GenerateSection", column: str, *, own: bool) -> None:
        super().__init__()
        self._settings, self._column, self._own = settings, column, own

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog review") as box:
            box.border_title = "Sampling"
            box.border_subtitle = "enter takes it · tab goes on · esc leaves it as it was"
            yield Field("for", "for", LABEL, choices=(EVERYBODY, ITSELF))
            yield Field("preset", "preset", LABEL, choices=tuple(PRESETS))
            with VerticalScroll(can_focus=False):
                for name, info in type(self._settings).model_fields.items():
                    yield Field(name, name, LABEL, toggle=info.annotation is bool)
            yield Static("", id="told", markup=False)

    def on_mount(self) -> None:
        self._field("for").put(ITSELF if self._own else EVERYBODY)
        self._put(self._settings.model_dump())
        self._tell()
        self.set_focus(self._field("preset").box)

    def _field(self, key: str) -> Field:
        return next(field for field in self.query(Field) if field.key == key)

    def _put(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if any(field.key == name for field in self.query(Field)):
                self._field(name).put(json.dumps(value) if not isinstance(value, str) else value)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self._put(PRESETS.get(event.value, {}))
        self._tell()

    def _tell(self) -> None:
        whom = self._field("for").value
        words = f"{ITSELF}: {self._column}" if whom == ITSELF else EVERYBODY
        self.query_one("#told", Static).update(
            Text(clip(f"For {words}. The same seed gives the same answer.", 66), "#9e9e9e")
        )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_take()

    def action_take(self) -> None:
        from pydantic import ValidationError

        values: dict[str, Any] = {}
        for name in type(self._settings).model_fields:
            text = self._field(name).value.strip()
            try:
                values[name] = json.loads(text)
            except ValueError:
                values[name] = text
        for field in self.query(Field):
            field.wrong("")
        try:
            made = type(self._settings).model_validate(values)
        except ValidationError as error:
            for one in error.errors():
                key = str(one["loc"][0]) if one["loc"] else ""
                if key in values:
                    self._field(key).wrong(clip(str(one["msg"]), 120))
            return
        self.dismiss((self._field("for").value, made))

    def action_next(self) -> None:
        self.focus_next()

    def action_previous(self) -> None:
        self.focus_previous()

    def action_cancel(self) -> None:
        self.dismiss(None)
