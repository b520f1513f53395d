"""The Play screen over a client that says what a test wants, when it wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from engine.data.prepare import prepare
from engine.errors import UserError
from engine.generate.client import Chunk
from engine.home import open_home
from engine.jobs.journal import Journal
from engine.jobs.launch import create_run
from engine.recipe import Recipe
from tui import answers
from tui.answers import HeldOutRow
from tui.screens.play import REPAINT_SECONDS, PlayScreen
from tui.widgets.lines import LinesView

SIZES = [(80, 24), (120, 40)]
HOSTILE = (
    "\x1b]52;c;cHduZWQ=\x07\x1b[2J\x9b5n\x00\u202egnp.exe\u2066 [@click=app.quit]go[/] [/red] [bold"
    " \r\n\t﷽ 👨‍👩‍👧 漢字 \ud800 " + "A" * 100_000
)
TUNED = "20251122-0816-demo"


class FakeClient:
    """``engine.generate.client.GenerationClient`` without a worker."""

    def __init__(self) -> None:
        self.columns: list[Any] = []
        self.prompts: list[str] = []
        self.opened = self.closed = self.cancelled = 0
        self.chunks: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        """What the answer under way says next; None ends it."""
        self.start_error: Exception | None = None
        self.say: Callable[[str], None] = lambda words: None
        self.ready = asyncio.Event()

    def start(self, home: Any, columns: list[Any], say: Callable[[str], None]) -> "FakeClient":
        self.columns, self.say = columns, say
        return self

    async def __aenter__(self) -> "FakeClient":
        self.opened += 1
        if self.start_error:
            raise self.start_error
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1

    async def generate(self, prompt: str, sampling: Any, columns: Any) -> AsyncIterator[Chunk]:
        self.prompts.append(prompt)
        assert columns == ["base", TUNED]
        await self.ready.wait()
        while (said := await self.chunks.get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield said

    async def cancel(self) -> None:
        self.cancelled += 1
        for column in ("base", TUNED):
            self.chunks.put_nowait(Chunk(column, 0, "", True, "cancelled", 3, 0.5))
        self.chunks.put_nowait(None)

    def write(self, column: str, text: str) -> None:
        self.chunks.put_nowait(Chunk(column, 0, text, False, None, None, None))

    def end(self, column: str, reason: str = "eos", tokens: int = 24) -> None:
        self.chunks.put_nowait(Chunk(column, 0, "", True, reason, tokens, 0.5))


BASE_TEXT = "oak oak oak the the item of the item. Ships in a box."
TUNED_TEXT = "This oak bench seats two. A sturdy bench for hall or garden, 120 cm wide."
ROWS = [
    ("Oak bench, 120 cm", "This oak bench seats two people. The oak is oiled by hand."),
    ("Copper kettle [/red]", "A kettle."),
]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    columns = [
        SimpleNamespace(id="base", label="builtin:base"),
        SimpleNamespace(id=TUNED, label="demo"),
    ]
    monkeypatch.setattr(answers, "can_answer", lambda home, run: True)
    monkeypatch.setattr(answers, "columns_of", lambda home, run: columns)
    monkeypatch.setattr(answers, "recipe_of", lambda home, run: Recipe(name="demo"))
    monkeypatch.setattr(answers, "open_client", fake.start)

    def row(home: Any, run: str, number: int) -> HeldOutRow:
        number %= len(ROWS)
        return HeldOutRow(number, len(ROWS), *ROWS[number])

    monkeypatch.setattr(answers, "test_row", row)
    return fake


async def settle(pilot: Any) -> None:
    """The session's worker never ends: wait for events, not for workers."""
    for _ in range(5):
        await pilot.pause()


async def until(pilot: Any, true: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await pilot.pause(0.01)


def shown(app: Any, side: str) -> str:
    return "\n".join(line.rstrip() for line in app.screen.query_one(f"#{side}").text_lines)


def foot(app: Any, side: str) -> str:
    return str(app.screen.query_one(f"#{side}").border_subtitle)


async def ready(pilot: Any) -> PlayScreen:
    screen = pilot.app.screen
    assert isinstance(screen, PlayScreen)
    await until(pilot, lambda: not screen.has_class("-nothing"))
    return screen


async def answered(pilot: Any, client: FakeClient) -> None:
    """A test row, answered whole by both."""
    await ready(pilot)
    await pilot.press("n")
    client.ready.set()
    client.write("base", BASE_TEXT)
    client.write(TUNED, TUNED_TEXT)
    client.end("base", "length", 128)
    client.end(TUNED)
    client.chunks.put_nowait(None)
    await until(pilot, lambda: "ended by itself" in foot(pilot.app, "tuned"))
    await settle(pilot)


@pytest.fixture
def finished() -> Any:
    """One finished run, as the feed tells it."""
    from engine.history.row import RunRow
    from tui.feed import RunDetail

    run = RunRow(
        id=TUNED,
        name="demo",
        state="finished",
        step=120,
        best_eval_loss=2.41,
        created=1.0,
        model="builtin:base",
    )
    return RunDetail(run)


# --- looks


async def look_empty(pilot: Any, client: FakeClient) -> None:
    await settle(pilot)


async def look_ready(pilot: Any, client: FakeClient) -> None:
    await ready(pilot)
    await settle(pilot)


async def look_loading(pilot: Any, client: FakeClient) -> None:
    screen = await ready(pilot)
    await pilot.press("n")
    await until(pilot, lambda: client.opened)
    screen._clock.stop()
    screen._loading_since = 0.0  # begins anew: a slow machine does not change the picture
    client.say("importing torch")
    await settle(pilot)
    screen._paint()
    await settle(pilot)


async def look_middle(pilot: Any, client: FakeClient) -> None:
    await ready(pilot)
    await pilot.press("n")
    client.ready.set()
    client.write("base", BASE_TEXT[:20])
    client.write(TUNED, TUNED_TEXT[:30])
    await until(pilot, lambda: "writing, 30" in foot(pilot.app, "tuned"))
    await settle(pilot)


async def look_failed(pilot: Any, client: FakeClient) -> None:
    client.start_error = UserError(
        "/models/llama: no weights in this folder (model.safetensors or its parts)"
    )
    await ready(pilot)
    await pilot.press("n")
    await until(pilot, lambda: "failed" in foot(pilot.app, "tuned"))
    await settle(pilot)


LOOKS = {
    "empty": look_empty,
    "ready": look_ready,
    "loading": look_loading,
    "middle": look_middle,
    "finished": answered,
    "failed": look_failed,
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", LOOKS)
def test_look(
    state: str,
    size: tuple[int, int],
    client: FakeClient,
    finished: Any,
    frozen_app: Any,
    snap_compare: Any,
) -> None:
    app = frozen_app(*([] if state == "empty" else [finished]), mode="play")

    async def before(pilot: Any) -> None:
        await LOOKS[state](pilot, client)

    assert snap_compare(app, terminal_size=size, run_before=before)


# --- what it does


async def test_a_written_prompt_is_sent_and_letters_are_text(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("i", *"q1n: x")
        assert screen.query_one(Input).value == "q1n: x"
        await pilot.press("enter")
        await until(pilot, lambda: client.prompts == ["q1n: x"])
        assert not screen.query_one(Input).has_focus, "keys work again without esc"
        client.ready.set()
        client.write("base", "one ")
        client.write("base", "two")
        await until(pilot, lambda: shown(app, "base") == "one two")
        client.end("base")
        client.end(TUNED, tokens=1)
        client.chunks.put_nowait(None)
        await until(pilot, lambda: foot(app, "base") == "24 tokens · 48/s · ended by itself")
        assert foot(app, "tuned").startswith("1 token ·")
        # The same worker answers the next prompt.
        await pilot.press("i", *"!", "ctrl+j")
        await until(pilot, lambda: client.prompts == ["q1n: x", "q1n: x!"])
        assert client.opened == 1


async def test_test_rows_come_with_their_reference(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, client)
        assert client.prompts == ["Oak bench, 120 cm"]
        assert "oiled by hand" in shown(app, "reference")
        assert app.screen.query_one("#reference").display
        await pilot.press("n")
        await until(pilot, lambda: len(client.prompts) == 2)
        assert app.screen.query_one(Input).value == "Copper kettle [/red]"
        assert "row 2 of 2" in str(app.screen.query_one("#asking").border_subtitle)
        client.end("base")
        client.end(TUNED)
        client.chunks.put_nowait(None)
        await until(pilot, lambda: "24 tokens" in foot(app, "tuned"))
        await pilot.press("i", "x")
        await settle(pilot)
        assert not app.screen.query_one("#reference").display, "another prompt, no reference"


def test_a_test_row_of_a_changed_dataset_is_said_to_be_one(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    rows = tmp_path / "rows.jsonl"
    line = '{{"title": "Oak bench {0}", "text": "Bench {0} is oiled by hand."}}'
    rows.write_text("\n".join(line.format(n) for n in range(40)))
    settings = [f"data.source={rows}", "data.prompt_column=title", "data.completion_column=text"]
    recipe = Recipe(name="r").with_settings(settings)
    folder = create_run(home, recipe)
    journal = Journal(folder.journal)
    fingerprint = prepare(home, recipe).fingerprint
    journal.append("state", state="running", max_steps=4, fingerprint=fingerprint)
    journal.close()
    assert not answers.test_row(home, folder.id, 0).changed
    prepare(home, recipe.with_settings(["split.seed=99"]))
    assert answers.test_row(home, folder.id, 0).changed


async def test_an_empty_prompt_is_not_sent(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("i", "space", "enter")
        await settle(pilot)
        assert client.prompts == [] and client.opened == 0


async def test_halting_in_the_middle(client: FakeClient, finished: Any, frozen_app: Any) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await look_middle(pilot, client)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "stopped by you" in foot(app, "tuned"))
        assert client.cancelled == 1 and client.closed == 0
        assert shown(app, "tuned").startswith("This oak bench"), "what came stays"
        await pilot.press("n")
        await until(pilot, lambda: len(client.prompts) == 2)


async def test_halting_while_loading_ends_the_worker(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await look_loading(pilot, client)
        assert foot(app, "base").startswith("importing torch … ")
        await pilot.press("ctrl+x")
        await until(pilot, lambda: client.closed == 1)
        await until(pilot, lambda: foot(app, "base") == "stopped by you")
        await pilot.press("n")
        await until(pilot, lambda: client.opened == 2)


async def test_a_failed_prompt_leaves_the_worker_alive(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        client.ready.set()
        await pilot.press("n")
        client.chunks.put_nowait(UserError("the prompt is longer than the model's context"))
        await until(pilot, lambda: "longer than the" in shown(app, "base"))
        assert client.closed == 0
        await pilot.press("n")
        await until(pilot, lambda: len(client.prompts) == 2)
        await until(pilot, lambda: "longer than" not in shown(app, "base"))


async def test_leaving_ends_the_worker(client: FakeClient, finished: Any, frozen_app: Any) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, client)
        await pilot.press("q")
    assert (client.opened, client.closed) == (1, 1)


async def test_another_run_is_chosen_by_key(
    client: FakeClient, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    other = dataclasses.replace(finished, row=dataclasses.replace(finished.row, id="b", name="b-2"))
    app = frozen_app(finished, other, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, client)
        await pilot.press("c", "down", "enter")
        await until(pilot, lambda: "b-2" in str(app.screen.query_one("#tuned").border_title))
        await until(pilot, lambda: client.closed == 1)
        assert "bench" not in shown(app, "tuned"), "answers of another run do not stay"


async def test_hostile_answers_are_plain_text(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        client.ready.set()
        await pilot.press("n")
        client.write("base", HOSTILE)
        client.write(TUNED, "fine")
        await until(pilot, lambda: shown(app, "tuned") == "fine")
        # A text of this length is wrapped in a thread.
        plain = "[@click=app.quit]go[/]"
        await until(pilot, lambda: plain in shown(app, "base").replace("\n", ""))
        for pane in app.screen.query(LinesView):
            for y in range(pane.size.height):
                strip = pane.render_line(y)
                assert strip.text.isprintable() and cell_len(strip.text) == strip.cell_length
        client.end("base", "\x1b[31m[/]")
        client.end(TUNED)
        client.chunks.put_nowait(None)
        await until(pilot, lambda: "24 tokens" in foot(app, "base"))


async def test_at_most_ten_repaints_a_second(
    client: FakeClient, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        client.ready.set()
        await pilot.press("n")
        await until(pilot, lambda: client.prompts)
        pane = app.screen.query_one("#tuned", LinesView)
        drawn: list[float] = []
        show, clock = pane.show, asyncio.get_running_loop().time

        def counted(*args: Any, **options: Any) -> None:
            drawn.append(clock())
            show(*args, **options)

        pane.show = counted  # type: ignore[method-assign]
        began = clock()
        for number in range(300):
            client.write(TUNED, f"{number} ")
            await pilot.pause(0.001)
        took = clock() - began
        assert 1 <= len(drawn) <= took / REPAINT_SECONDS + 2


async def test_the_first_word_waits_for_no_frame(
    client: FakeClient, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.play.REPAINT_SECONDS", 3600.0)
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("n")
        client.ready.set()
        client.write(TUNED, "First")
        await until(pilot, lambda: "First" in shown(pilot.app, "tuned"))
        client.write(TUNED, " second")
        await until(pilot, lambda: pilot.app.screen._answers["tuned"].text == "First second")
        assert "second" not in shown(pilot.app, "tuned"), "what follows has its frames"
