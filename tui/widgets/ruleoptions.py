"""The options of one rule, edited in place; what is wrong stands below the field."""

from rich.text import Text
from textual import events
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import Input, Static

from engine.text import clip
from tui.rulesheet import WORDS, RuleSheet
from tui.widgets.field import Choice, Field

__all__ = ["RuleOptions"]

LABEL = 15


class RuleOptions(VerticalScroll, can_focus=False):
    """Edits a :class:`RuleSheet`; says when something in it is another value."""

    DEFAULT_CSS = """
    RuleOptions { height: auto; max-height: 50%; scrollbar-size-vertical: 1; }
    RuleOptions .words { height: auto; color: $quiet; }
    """

    class Edited(Message):
        """An option has another value."""

    def __init__(self, sheet: RuleSheet, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self._sheet = sheet
        self.rule = ""
        self._wrong: dict[tuple[str, str], str] = {}

    async def show_rule(self, rule: str) -> None:
        """The options of another rule."""
        if rule == self.rule:
            return
        self.rule = rule
        self.border_title = clip(rule, 30)
        choices = self._sheet.choices
        keys = list(self._sheet.options(rule))
        async with self.batch():
            await self.remove_children()
            await self.mount(Static(Text(WORDS.get(rule, "")), classes="words", id="words"))
            await self.mount_all(Field(key, key, LABEL, choices=choices(rule, key)) for key in keys)
        for field in self.query(Field):
            field.put(self._sheet.value(rule, field.key))
        self._show_wrong()

    @property
    def first_box(self) -> object | None:
        """Where editing begins; None when there is nothing to edit."""
        fields = self.query(Field)
        return fields.first().box if fields else None

    def show_wrong(self, wrong: dict[tuple[str, str], str]) -> None:
        """Say beside the fields what is wrong with them."""
        self._wrong = wrong
        self._show_wrong()

    def _show_wrong(self) -> None:
        fields = list(self.query(Field))
        keys = {field.key for field in fields}
        for field in fields:
            field.wrong(self._wrong.get((self.rule, field.key), ""))
        # What is wrong with several options together stands below the last one.
        for (rule, key), words in self._wrong.items():
            if rule == self.rule and key not in keys and fields:
                fields[-1].wrong(words)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        for field in self.query(Field):
            if field.box is event.widget:
                self._say(self._sheet.hint(self.rule, field.key))

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        self._say(WORDS.get(self.rule, ""))

    def _say(self, words: str) -> None:
        for line in self.query("#words").results(Static):
            line.update(Text(words))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._take(event.input, event.value)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self._take(event.choice, event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.screen.focus_next()

    def _take(self, box: object, value: str) -> None:
        for field in self.query(Field):
            if field.box is box and self._sheet.put(self.rule, field.key, value):
                self.post_message(self.Edited())
