"""The Play screen over a session that says what a test wants, when it wants."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from engine.data.prepare import prepare
from engine.errors import UserError
from engine.home import open_home
from engine.jobs.journal import Journal
from engine.jobs.launch import create_run
from engine.recipe import Recipe
from tests.tui.answering import BASE, TUNED, FakeSession, install, piece
from tests.tui.test_hostile import check
from tui import promptrows
from tui.answertext import Answer
from tui.lineup import Lineup, fitting
from tui.screens.confirm import ConfirmScreen
from tui.screens.page import PageScreen
from tui.screens.play import REPAINT_SECONDS, PlayScreen
from tui.screens.playcolumns import ColumnsScreen
from tui.screens.sampling import SamplingScreen
from tui.widgets.lines import PLAIN, LinesView

SIZES = [(80, 24), (120, 40)]
HOSTILE = (
    "\x1b]52;c;cHduZWQ=\x07\x1b[2J\x9b5n\x00\u202egnp.exe\u2066 [@click=app.quit]go[/] [/red] [bold"
    " \r\n\t﷽ 👨‍👩‍👧 漢字 \ud800 " + "A" * 100_000
)
PANES = {"base": "column-1", "tuned": "column-2"}
BASE_TEXT = "oak oak oak the the item of the item. Ships in a box."
TUNED_TEXT = "This oak bench seats two. A sturdy bench for hall or garden, 120 cm wide."


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    return install(monkeypatch)


async def settle(pilot: Any) -> None:
    """An answer under way is nobody's worker: wait for events, not for workers."""
    for _ in range(5):
        await pilot.pause()


async def until(pilot: Any, true: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await pilot.pause(0.01)


def pane(app: Any, side: str) -> LinesView:
    return app.screen.query_one(f"#{PANES.get(side, side)}", LinesView)


def shown(app: Any, side: str) -> str:
    return "\n".join(line.rstrip() for line in pane(app, side).text_lines)


def foot(app: Any, side: str) -> str:
    return str(pane(app, side).border_subtitle)


def title(app: Any, side: str) -> str:
    return str(pane(app, side).border_title)


def told(app: Any) -> str:
    return " ".join(notice.message for notice in app._notifications)


async def ready(pilot: Any) -> PlayScreen:
    screen = pilot.app.screen
    assert isinstance(screen, PlayScreen)
    await until(pilot, lambda: not screen.has_class("-nothing"))
    return screen


async def answered(pilot: Any, session: FakeSession) -> None:
    """A test row, answered whole by both."""
    await ready(pilot)
    await pilot.press("n")
    session.ready.set()
    session.write(BASE, BASE_TEXT)
    session.write(TUNED, TUNED_TEXT, first_seconds=0.2)
    session.end(BASE, "length", 128)
    session.end(TUNED)
    session.over()
    await until(pilot, lambda: "ended by itself" in foot(pilot.app, "tuned"))
    await pilot.app.workers.wait_for_complete()  # a close look comes after the answer
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


async def look_empty(pilot: Any, session: FakeSession) -> None:
    await settle(pilot)


async def look_ready(pilot: Any, session: FakeSession) -> None:
    await ready(pilot)
    await settle(pilot)


async def look_loading(pilot: Any, session: FakeSession) -> None:
    screen = await ready(pilot)
    await pilot.press("n")
    await until(pilot, lambda: session.opened)
    screen._clock.stop()
    screen.asker._since = time.monotonic()  # a slow machine does not change the picture
    session.say(None, "importing torch")
    await settle(pilot)
    screen.panes.paint()
    await settle(pilot)


async def look_middle(pilot: Any, session: FakeSession) -> None:
    await ready(pilot)
    await pilot.press("n")
    session.ready.set()
    session.write(BASE, BASE_TEXT[:20])
    session.write(TUNED, TUNED_TEXT[:30])
    await until(pilot, lambda: TUNED_TEXT[:10] in shown(pilot.app, "tuned").replace("\n", " "))
    await settle(pilot)


async def look_failed(pilot: Any, session: FakeSession) -> None:
    session.start_error = UserError(
        "/models/llama: no weights in this folder (model.safetensors or its parts)"
    )
    await ready(pilot)
    await pilot.press("n")
    await until(pilot, lambda: "failed" in foot(pilot.app, "tuned"))
    await settle(pilot)


async def look_blind(pilot: Any, session: FakeSession) -> None:
    screen = await ready(pilot)
    screen.lineup._shuffle = list.reverse
    await pilot.press("b")
    await answered_blind(pilot, session)
    await pilot.app.workers.wait_for_complete()
    await settle(pilot)


async def look_differences(pilot: Any, session: FakeSession) -> None:
    await answered(pilot, session)
    await pilot.press("m")
    await settle(pilot)


async def look_columns(pilot: Any, session: FakeSession) -> None:
    await ready(pilot)
    await pilot.press("c")
    await settle(pilot)


async def look_sampling(pilot: Any, session: FakeSession) -> None:
    await ready(pilot)
    await pilot.press("s")
    await until(pilot, lambda: isinstance(pilot.app.screen, SamplingScreen))
    await settle(pilot)


async def answered_blind(pilot: Any, session: FakeSession, left: str = TUNED) -> None:
    right = BASE if left == TUNED else TUNED
    await pilot.press("n")
    session.ready.set()
    for column, text in ((left, TUNED_TEXT), (right, BASE_TEXT)):
        session.write(column, text)
        session.end(column)
    session.over()
    await until(pilot, lambda: pilot.app.screen.to_judge is not None)


LOOKS = {
    "empty": look_empty,
    "ready": look_ready,
    "loading": look_loading,
    "middle": look_middle,
    "finished": answered,
    "failed": look_failed,
    "blind": look_blind,
    "differences": look_differences,
    "columns": look_columns,
    "sampling": look_sampling,
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", LOOKS)
def test_look(
    state: str,
    size: tuple[int, int],
    session: FakeSession,
    finished: Any,
    frozen_app: Any,
    snap_compare: Any,
) -> None:
    app = frozen_app(*([] if state == "empty" else [finished]), mode="play")

    async def before(pilot: Any) -> None:
        await LOOKS[state](pilot, session)
        pilot.app.clear_notifications()
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


# --- asking


async def test_a_written_prompt_is_sent_and_letters_are_text(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("i", *"q1n: x")
        assert screen.query_one(Input).value == "q1n: x"
        await pilot.press("enter")
        await until(pilot, lambda: session.prompts == ["q1n: x"])
        assert not screen.query_one(Input).has_focus, "keys work again without esc"
        session.ready.set()
        session.write(BASE, "one ")
        session.write(BASE, "two")
        await until(pilot, lambda: shown(app, "base") == "one two")
        session.end(BASE)
        session.end(TUNED, tokens=1)
        session.over()
        await until(pilot, lambda: foot(app, "base") == "24 tokens · 48/s · ended by itself")
        assert foot(app, "tuned").startswith("1 token ·")
        # The same session answers the next prompt.
        await pilot.press("i", *"!", "ctrl+j")
        await until(pilot, lambda: session.prompts == ["q1n: x", "q1n: x!"])
        assert session.opened == 1


async def test_rows_come_with_their_reference(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, session)
        assert session.prompts == ["Oak bench, 120 cm"]
        assert "oiled by hand" in shown(app, "reference")
        assert app.screen.query_one("#reference").display
        await pilot.press("n")
        await until(pilot, lambda: len(session.prompts) == 2)
        assert app.screen.query_one(Input).value == "Copper kettle [/red]"
        assert "row 2 of 2" in str(app.screen.query_one("#asking").border_subtitle)
        session.end(BASE)
        session.end(TUNED)
        session.over()
        await until(pilot, lambda: "24 tokens" in foot(app, "tuned"))
        await pilot.press("i", "x")
        await settle(pilot)
        assert not app.screen.query_one("#reference").display, "another prompt, no reference"


async def test_rows_by_chance_are_the_same_again(
    session: FakeSession,
    finished: Any,
    frozen_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers: list[int] = []

    def row(home: Any, run: str, number: int) -> promptrows.HeldOutRow:
        numbers.append(number)
        return promptrows.HeldOutRow(number % 1000, 1000, f"p{number}", "", "wares:test")

    monkeypatch.setattr(promptrows, "test_row", row)
    session.script = lambda prompt, column: [piece(column, "x", done=True, stop_reason="eos")]
    for _ in range(2):
        app = frozen_app(finished, mode="play")
        async with app.run_test(size=(80, 24)) as pilot:
            await ready(pilot)
            for _ in range(3):
                count = len(session.asked)
                await pilot.press("N")
                await until(pilot, lambda count=count: len(session.asked) > count)
                await until(pilot, lambda screen=app.screen: not screen.asker.busy)
    assert numbers[:3] == numbers[3:] and len(set(numbers)) == 3


async def test_a_prompt_of_several_lines_is_asked_again_as_it_is(
    session: FakeSession, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = "Oak bench\n\twith  two lines"
    row = promptrows.HeldOutRow(0, 1, prompt, "", "wares:test")
    monkeypatch.setattr(promptrows, "test_row", lambda home, run, number: row)
    session.script = lambda prompt, column: [piece(column, "x", done=True, stop_reason="eos")]
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("n")
        await until(pilot, lambda: len(session.asked) == 1 and not screen.asker.busy)
        assert screen.query_one(Input).value == "Oak bench␤    with  two lines"
        await pilot.press("ctrl+j")
        await until(pilot, lambda: len(session.asked) == 2)
        assert session.prompts == [prompt, prompt]


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
    assert not promptrows.test_row(home, folder.id, 0).changed
    prepare(home, recipe.with_settings(["split.seed=99"]))
    assert promptrows.test_row(home, folder.id, 0).changed


async def test_an_empty_prompt_is_not_sent(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("i", "space", "enter")
        await settle(pilot)
        assert session.prompts == [] and session.opened == 0
        assert "the prompt is empty" in told(app)


async def test_a_conversation_goes_on_with_each_columns_own_answers(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    session.script = lambda prompt, column: [
        piece(column, f"{column[-4:]} {len(prompt)}", done=True, stop_reason="eos")
    ]
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("S", *"Be brief", "enter", "C")
        for prompt in ("one", "two"):
            await pilot.press("i", "ctrl+u", *prompt, "enter")
            count = 2 if prompt == "one" else 4
            await until(pilot, lambda count=count: len(screen.lineup.seats[0].turns) == count)
        first, second = screen.lineup.seats
        system = {"role": "system", "content": "Be brief"}
        user = [{"role": "user", "content": text} for text in ("one", "two")]
        says = {"role": "assistant", "content": "base 2"}
        assert session.prompts[0] == [system, user[0]], "the same for both: asked once"
        assert session.prompts[1] == [system, user[0], says, user[1]]
        assert first.turns[1] == says and second.turns[1]["content"] == "demo 2"
        assert "you: one" in shown(app, "base") and "base 4" in shown(app, "base")
        await pilot.press("C")
        assert not first.turns, "every prompt stands for itself again"


async def test_settings_of_one_column_and_of_all(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    session.script = lambda prompt, column: [piece(column, "x", done=True, stop_reason="eos")]
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)

        async def change(*keys: str) -> None:
            await pilot.press("s")
            await until(pilot, lambda: isinstance(app.screen, SamplingScreen))
            await pilot.press(*keys)
            await settle(pilot)

        await change("l", "l", "l", "enter")  # the preset "balanced", for all
        assert app.screen is screen
        await pilot.press("tab")  # to the second column
        await change("shift+tab", "space", "tab", *["tab"] * 3, "ctrl+u", *"1.5", "enter")
        assert app.screen is screen
        await pilot.press("n")
        await until(pilot, lambda: session.asked)
        sampling = session.asked[0][1]
        assert (sampling[BASE].temperature, sampling[TUNED].temperature) == (0.7, 1.5)
        assert sampling[BASE].do_sample and sampling[TUNED].do_sample
        assert "own sampling" in title(app, "tuned") and "own" not in title(app, "base")
        await change("tab", "tab", "tab", "ctrl+u", *"hot", "enter")
        assert isinstance(app.screen, SamplingScreen), "what is wrong is said at its key"
        texts = " ".join(str(one.render()) for one in app.screen.query(".wrong"))
        assert "number" in texts


# --- ends and errors


async def test_halting_in_the_middle(session: FakeSession, finished: Any, frozen_app: Any) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await look_middle(pilot, session)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "stopped by you" in foot(app, "tuned"))
        assert session.cancelled == 1 and session.closed == 0
        assert shown(app, "tuned").startswith("This oak bench"), "what came stays"
        await pilot.press("n")
        await until(pilot, lambda: len(session.prompts) == 2)


async def test_halting_while_loading_leaves_the_session(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await look_loading(pilot, session)
        assert foot(app, "base").startswith("importing torch … ")
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "stopped by you" in foot(app, "base"))
        assert session.cancelled == 1 and session.closed == 0, "models go on loading"
        await pilot.press("n")
        await until(pilot, lambda: len(session.asked) == 2)
        assert session.opened == 1


async def test_halting_a_conversation_asks_no_further_column(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("C")
        for seat, word in zip(screen.lineup.seats, "ab", strict=True):
            seat.turns = [{"role": "user", "content": word}]  # so each is asked for itself
        await pilot.press("i", "ctrl+u", *"go", "enter")
        await until(pilot, lambda: len(session.asked) == 1)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: not screen.asker.busy)
        await settle(pilot)
        assert len(session.asked) == 1
        assert [seat.answer.stop_reason for seat in screen.lineup.seats] == ["cancelled"] * 2


async def test_halting_before_there_is_a_session(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    session.starts.clear()
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("n")
        await until(pilot, lambda: session.opened)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "stopped by you" in foot(app, "base"))
        await until(pilot, lambda: session.closed == 1)
        session.starts.set()
        await pilot.press("n")
        await until(pilot, lambda: len(session.asked) == 1 and session.opened == 2)


async def test_a_column_that_fails_leaves_the_others(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        session.ready.set()
        await pilot.press("n")
        session.end(BASE, "error", 0, error="the prompt is longer than the model's context")
        session.write(TUNED, "an answer")
        session.end(TUNED)
        session.over()
        await until(pilot, lambda: "longer than the" in shown(app, "base"))
        await until(pilot, lambda: shown(app, "tuned") == "an answer")
        assert session.closed == 0 and "failed" in foot(app, "base")
        await pilot.press("n")
        await until(pilot, lambda: len(session.prompts) == 2)
        await until(pilot, lambda: "longer than" not in shown(app, "base"))


async def test_a_column_that_is_not_there_leaves_the_others(
    session: FakeSession, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tui import answers

    def column(home: Any, ref: str) -> Any:
        if ref == BASE:
            raise UserError("no such model here")
        return SimpleNamespace(id=ref, label=ref)

    monkeypatch.setattr(answers, "column", column)
    session.script = lambda prompt, column: [piece(column, "yes", done=True, stop_reason="eos")]
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("n")
        await until(pilot, lambda: shown(app, "tuned") == "yes")
        assert "no such model here" in shown(app, "base")
        assert list(session.asked[0][1]) == [TUNED]


async def test_one_model_by_two_names_answers_in_both_columns(
    session: FakeSession, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tui.answering import FakeColumn
    from tui import answers

    monkeypatch.setattr(answers, "column", lambda home, ref: FakeColumn("same", ref))
    session.script = lambda prompt, column: [piece(column, column, done=True, stop_reason="eos")]
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("n")
        await until(pilot, lambda: shown(app, "tuned") == "same'")
        assert shown(app, "base") == "same"


async def test_loading_beside_a_training_is_asked_about(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        session.ready.set()
        await pilot.press("n")
        for column in (BASE, TUNED):
            session.end(column, "error", error="run demo trains on it", needs_consent=True)
        session.over()
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert session.allow_beside_training is False
        await pilot.press("y", "enter")
        await until(pilot, lambda: len(session.asked) == 2)
        assert session.allow_beside_training is True and session.opened == 1


async def test_leaving_ends_the_session(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, session)
        await pilot.press("q")
    assert (session.opened, session.closed) == (1, 1)


async def test_memory_is_given_back_by_a_key(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, session)
        await pilot.press("F")
        await settle(pilot)
        assert session.freed == 1
        await pilot.press("W")
        await settle(pilot)
        assert session.stays == 600 and "10 minutes after you leave" in told(app)
        await pilot.press("W")
        await settle(pilot)
        assert session.stays == 0


# --- columns


async def test_columns_are_added_and_removed_by_name(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    other = dataclasses.replace(finished, row=dataclasses.replace(finished.row, id="b", name="b-2"))
    app = frozen_app(finished, other, mode="play")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await ready(pilot)
        await answered(pilot, session)
        await pilot.press("c")
        assert isinstance(app.screen, ColumnsScreen)
        await pilot.press(*"b-2", "enter", "ctrl+u")
        await pilot.press(*"http://127.0.0.1:9/v1#m", "enter", "escape")
        await settle(pilot)
        assert [seat.ref for seat in screen.lineup.seats] == [
            BASE, TUNED, "b", "http://127.0.0.1:9/v1#m",
        ]  # fmt: skip
        assert TUNED_TEXT[:9] in shown(app, "tuned"), "what was answered stays"
        assert title(app, "column-4") == "4 m at 127.0.0.1:9"
        assert [pane(app, f"column-{n}").display for n in (1, 2, 3, 4)] == [True] * 4
        await pilot.press("n")
        await until(pilot, lambda: len(session.asked) == 2)
        assert list(session.asked[1][1]) == [seat.ref for seat in screen.lineup.seats]
        assert session.opened == 1 and len(session.columns) == 4, "the session is told of them"
        for seat in screen.lineup.seats:
            session.end(seat.ref)
        session.over()
        await until(pilot, lambda: not screen.asker.busy)
        await pilot.press("c", "enter", "escape")  # the first one goes
        await settle(pilot)
        assert screen.lineup.seats[0].ref == TUNED


async def test_more_columns_than_fit_are_on_pages(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        screen.lineup.add("third", "third")
        screen.rearrange()
        await settle(pilot)
        assert "[ ] page 1 of 2" in str(screen.query_one("#asking").border_subtitle)
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert "third" in title(app, "column-1") and not pane(app, "column-2").display
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert "base" in title(app, "column-1")


def test_how_many_columns_fit() -> None:
    assert [fitting(width) for width in (20, 60, 80, 120, 200)] == [1, 2, 2, 4, 4]


# --- what is marked


async def test_marks_differences_probabilities_copies(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await ready(pilot)
        await answered(pilot, session)
        await pilot.press("m")
        assert "{+" in shown(app, "tuned") and "{+" not in shown(app, "base")
        await pilot.press("m")
        assert "from the next prompt on" in told(app)
        await pilot.press("n")
        await until(pilot, lambda: len(session.asked) == 2)
        assert session.asked[1][2] is True
        session.write(TUNED, "An oak", pieces=[("An", 0.9), (" oak", 0.07)])
        session.end(TUNED)
        session.end(BASE)
        session.over()
        await until(pilot, lambda: "An ‹oak 7%›" in shown(app, "tuned"))
        await pilot.press("m")
        screen.lineup.seats[1].answer.copied = [(0, 2)]
        screen.panes.touch_all()
        screen.panes.paint()
        assert "«An» oak" in shown(app, "tuned") and "33% copied" in foot(app, "tuned")


async def test_repetition_is_said_below_the_answer(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        session.ready.set()
        await pilot.press("n")
        session.write(BASE, "a good item for the home. " * 20)
        session.write(TUNED, TUNED_TEXT)
        session.end(BASE)
        session.end(TUNED)
        session.over()
        await until(pilot, lambda: "!" in foot(app, "base"))
        assert "!" not in foot(app, "tuned")


async def test_what_a_model_is_given_is_one_key_away(
    session: FakeSession, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from tui import answers

    asked: list[Any] = []

    def formatted(column: Any, prompt: Any) -> Any:
        asked.append((column.id, prompt))
        return SimpleNamespace(text="<s>Oak", tokens=[(1, "<s>"), (7, "Oak[/red]")], context=512)

    monkeypatch.setattr(answers, "formatted", formatted)
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, session)
        await pilot.press("tab", "p")
        await until(pilot, lambda: isinstance(app.screen, PageScreen))
        await settle(pilot)
        assert asked == [(TUNED, "Oak bench, 120 cm")]
        text = "\n".join(app.screen.query_one(LinesView).text_lines)
        assert "Oak[/red]│" in text and "2 tokens" in text
        await pilot.press("escape")
        assert isinstance(app.screen, PlayScreen)


# --- blind rounds


async def test_a_blind_round_hides_names_and_keeps_the_vote(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        screen.lineup._shuffle = list.reverse
        await pilot.press("b")
        await answered_blind(pilot, session)
        titles = title(app, "column-1"), title(app, "column-2")
        assert titles == ("left", "right")
        assert "/s" not in foot(app, "column-1"), "speed would give it away"
        assert "demo" not in "".join(str(one.border_title) for one in screen.query(LinesView))
        assert shown(app, "column-1").replace("\n", " ").startswith("This oak bench")
        await pilot.press("comma")
        await until(pilot, lambda: session.votes)  # type: ignore[attr-defined]
        (prompt, source, pair, verdict), more = session.votes[0]  # type: ignore[attr-defined]
        assert (prompt, source, verdict) == ("Oak bench, 120 cm", "wares:test", "left")
        assert [seat.ref for seat in pair] == [TUNED, BASE]
        assert more["blind"] is True and "oiled" in more["reference"]
        assert "tuned: demo is better" in told(app)
        await until(pilot, lambda: len(session.asked) == 2)  # the next prompt at once
        assert title(app, "column-1") == "left"


@pytest.mark.parametrize(
    ("key", "verdict"),
    [("comma", "left"), ("full_stop", "right"), ("equals_sign", "tie"), ("0", "both bad")],
)
async def test_a_key_for_every_verdict(
    key: str, verdict: str, session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        screen.lineup._shuffle = lambda seats: None
        await pilot.press(key)  # nothing to judge yet
        await pilot.press("b")
        await answered_blind(pilot, session, left=BASE)
        await pilot.press(key)
        await until(pilot, lambda: session.votes)  # type: ignore[attr-defined]
        assert session.votes[0][0][3] == verdict  # type: ignore[attr-defined]


async def test_an_answer_that_failed_is_not_judged(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("b", "n")
        session.ready.set()
        session.end(BASE, "error", 0, error="no memory")
        session.end(TUNED)
        session.over()
        await until(pilot, lambda: session.asked and not screen.asker.busy)
        await settle(pilot)
        assert screen.to_judge is None
        await pilot.press("comma")
        await settle(pilot)
        assert session.votes == []  # type: ignore[attr-defined]


def test_the_hidden_pair_is_by_chance() -> None:
    lineup = Lineup()
    for name in "abc":
        lineup.add(name, name)
    pairs = set()
    for _ in range(300):
        lineup.hide()
        pairs.add(tuple(seat.ref for seat in lineup.pair))
    assert len(pairs) == 6, "every two of them, in both orders"


# --- what comes from outside


async def test_hostile_answers_are_plain_text(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        session.ready.set()
        await pilot.press("n")
        session.write(BASE, HOSTILE)
        session.write(TUNED, "fine")
        await until(pilot, lambda: shown(app, "tuned") == "fine")
        # A text of this length is wrapped in a thread.
        plain = "[@click=app.quit]go[/]"
        await until(pilot, lambda: plain in shown(app, "base").replace("\n", ""))
        for one in app.screen.query(LinesView):
            for y in range(one.size.height):
                strip = one.render_line(y)
                assert strip.text.isprintable() and cell_len(strip.text) == strip.cell_length
        session.end(BASE, "\x1b[31m[/]", error=None)
        session.end(TUNED)
        session.over()
        await until(pilot, lambda: "24 tokens" in foot(app, "base"))
        for key in ("m", "m", "m", "b", "c"):
            await pilot.press(key)
            await settle(pilot)
            check(app)


@pytest.mark.parametrize("marks", ["", "differences", "probabilities", "copies"])
def test_no_mark_lets_anything_through(marks: str) -> None:
    evil = HOSTILE[:200]
    answer = Answer("x", evil, pieces=[(evil, 0.01), ("\x1b[2J", 0.9)], copied=[(3, 60)])
    runs = answer.runs(marks, Answer("y", "other"))
    assert all("\x1b" not in text and "\x9b" not in text for text, _ in runs)


# --- painting


async def test_at_most_ten_repaints_a_second(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        session.ready.set()
        await pilot.press("n")
        await until(pilot, lambda: session.prompts)
        tuned = pane(app, "tuned")
        drawn: list[float] = []
        show, clock = tuned.show, asyncio.get_running_loop().time

        def counted(*args: Any, **options: Any) -> None:
            drawn.append(clock())
            show(*args, **options)

        tuned.show = counted  # type: ignore[method-assign]
        began = clock()
        for number in range(300):
            session.write(TUNED, f"{number} ")
            await pilot.pause(0.001)
        took = clock() - began
        assert 1 <= len(drawn) <= took / REPAINT_SECONDS + 2


async def test_the_first_word_waits_for_no_frame(
    session: FakeSession, finished: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.play.REPAINT_SECONDS", 3600.0)
    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        await pilot.press("n")
        session.ready.set()
        session.write(TUNED, "First")
        await until(pilot, lambda: "First" in shown(pilot.app, "tuned"))
        session.write(TUNED, " second")
        await until(pilot, lambda: screen.lineup.seats[1].answer.text == "First second")
        assert "second" not in shown(pilot.app, "tuned"), "what follows has its frames"


async def test_a_long_answer_is_followed_until_somebody_moves(
    session: FakeSession, finished: Any, frozen_app: Any
) -> None:
    def rows(app: Any) -> list[str]:
        view = pane(app, "base")
        return [view.render_line(y).text.strip() for y in range(view.size.height)]

    app = frozen_app(finished, mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await ready(pilot)
        session.ready.set()
        await pilot.press("n")
        await until(pilot, lambda: session.prompts)
        for number in range(60):
            session.write(BASE, f"line {number}\n")
            await until(pilot, lambda: session.chunks.empty())
            screen.panes.paint()
            assert f"line {number}" in rows(app), "the newest line is in sight"
        view = pane(app, "base")
        assert rows(app)[-1] == "", "by half a pane at once: there is room for more"
        await pilot.press("g")
        session.write(BASE, "and one more\n")
        await until(pilot, lambda: session.chunks.empty())
        screen.panes.paint()
        assert rows(app)[0].startswith("line 0"), "who looks is left alone"
        await pilot.press("G")
        session.write(BASE, "the last\n")
        await until(pilot, lambda: session.chunks.empty())
        screen.panes.paint()
        assert any("the last" in row for row in rows(app))
        session.end(BASE)
        session.end(TUNED)
        session.over()
        await until(pilot, lambda: "ended" in foot(app, "base"))
        assert view.top == len(view.text_lines) - view.size.height, "filled up at the end"


@pytest.mark.parametrize("width", [7, 30, 79])
async def test_a_text_that_grows_is_laid_out_as_the_whole_of_it(
    width: int, frozen_app: Any
) -> None:
    import random

    from textual.app import App, ComposeResult

    class One(App[None]):
        def compose(self) -> ComposeResult:
            yield LinesView(id="one")

    chance = random.Random(width)
    pieces = [
        "oak ",
        "bench",
        "\n",
        "\n\n",
        "漢字",
        " ",
        "  ",
        "👨‍👩‍👧",
        "a" * 40,
        "\x1b[2J",
        "é",
        "-",
        "\t",
    ]
    app = One()
    async with app.run_test(size=(width + 1, 12)) as pilot:
        view, whole = app.query_one(LinesView), ""
        for _ in range(300):
            whole += chance.choice(pieces)
            answer = Answer("x", whole, done=False)
            view.show(answer.runs(), follow=True)
            grown = view.text_lines
            view._grown = "", PLAIN
            view.show(answer.runs(), follow=True)
            assert view.text_lines == grown
        await pilot.pause()
