"""Fields of forms: keys count in the order they were typed, however fast they come."""

import asyncio

from textual import events
from textual.app import App, ComposeResult

from tui.widgets.field import PlainInput


class _One(App[None]):
    def compose(self) -> ComposeResult:
        yield PlainInput("before", select_on_focus=False)


def test_a_burst_of_editing_keys_and_letters_keeps_its_order() -> None:
    async def run() -> str:
        app = _One()
        async with app.run_test() as pilot:
            field = app.query_one(PlainInput)
            field.focus()
            await pilot.pause()
            for key in ["ctrl+u", *"abcd", "backspace", *"ef", "left", "x", "home", *"12"]:
                letter = key if len(key) == 1 else None
                app.post_message(events.Key(key, letter))
            await pilot.pause()
            return field.value

    assert asyncio.run(run()) == "12abcexf"
