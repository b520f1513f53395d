"""A run's end and what goes on from it; what is asked of a run while it lives; its samples."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.app import App, ComposeResult

from engine.home import Home
from engine.jobs import checkpoints, launch
from engine.jobs.create import create_run
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.recipe import load_recipe
from tests.tui.conftest import (
    GPU_READING,
    HOSTILE,
    NOW,
    OUT_OF_MEMORY,
    READING,
    SAMPLES,
    SIZES,
    FrozenFeed,
    detail,
    failed,
    on_gpus,
    out_of_memory,
    running,
    settle,
    snapshot_of,
)
from tests.tui.test_hostile import check
from tui import acts
from tui.app import WorkbenchApp
from tui.curvebook import RunCurves
from tui.feed import RunDetail, StoreFeed
from tui.frame import Line
from tui.machine import machine_bars
from tui.metrics import LOSS, drawing
from tui.screens.ask import AskScreen
from tui.screens.confirm import ConfirmScreen
from tui.widgets.chart import Chart
from tui.widgets.gauge import Gauge
from tui.widgets.runstate import state_lines
from tui.widgets.samples import SamplesView

MakeApp = Callable[..., WorkbenchApp]


def notices(app: WorkbenchApp) -> list[str]:
    return [notice.message for notice in app._notifications]


def screen_text(app: WorkbenchApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def with_samples() -> RunDetail:
    return replace(running(), samples=SAMPLES)


# --- how it looks


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("shown", ["out-of-memory", "8-gpus", "samples"])
def test_layout(shown: str, size: tuple[int, int], frozen_app: MakeApp, snap_compare: Any) -> None:
    make = {"out-of-memory": out_of_memory, "8-gpus": lambda: on_gpus(8), "samples": with_samples}
    app = frozen_app(make[shown]())

    async def show(pilot: Any) -> None:
        await settle(pilot)
        if shown == "samples":
            await pilot.press("right_square_bracket", "right_square_bracket")
            await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize("width", [60, 78, 118])
def test_an_end_without_memory_says_what_was_tried_missing_and_next(width: int) -> None:
    lines = state_lines(out_of_memory(), width, NOW)
    shown = " ".join(" ".join(line.plain for line in lines).split())
    assert "training, batch 64 x 512 tokens, at step 42" in shown
    assert "9.0 GiB: 12.0 GiB more asked for, 3.0 GiB free of 80.0 GiB" in shown
    assert "halve the batch and double accumulation: 32 x 2" in shown
    assert "A as suggested" in shown and "step-40" in shown
    assert all(line.cell_len <= width for line in lines), "nothing wraps"


async def test_nasty_text_in_an_end_and_in_samples(frozen_app: MakeApp) -> None:
    from engine.commands.endings import what_happened

    event = {**OUT_OF_MEMORY, "tried": HOSTILE, "suggestion": {"words": HOSTILE, "settings": {}}}
    run = replace(out_of_memory().row, reason=HOSTILE, error=json.dumps(event))
    samples = [{"step": n, "prompt": HOSTILE, "text": f"{n} {HOSTILE}", "reference": HOSTILE}
               for n in (1, 2)]  # fmt: skip
    shown = detail(run, 42, ending=what_happened(run), suggested=True, samples=samples)
    app = frozen_app(shown)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert check(app).count("EVIL") >= 3
        await pilot.press("right_square_bracket", "right_square_bracket")
        await settle(pilot)
        assert "EVIL" in check(app)


# --- going on


@pytest.fixture
def ended(home: Home) -> RunFolder:
    """A run on disk that ended for want of memory, with a checkpoint."""
    folder = create_run(home, load_recipe("demo"))
    journal = Journal(folder.journal, 1)
    journal.append("state", state="running", max_steps=120)
    folder.checkpoints.mkdir()
    temporary = folder.checkpoints / ".tmp-40"
    temporary.mkdir()
    (temporary / "state.json").write_text("{}")
    size = checkpoints.publish(temporary, folder.checkpoints / "step-40", step=40)
    journal.append("checkpoint", step=40, path="checkpoints/step-40", bytes=size, seconds=0.0)
    settings = {"train.gradient_accumulation_steps": 2, "train.per_device_train_batch_size": 16}
    suggestion = {"words": "halve the batch", "settings": settings}
    error = {key: value for key, value in OUT_OF_MEMORY.items() if key != "type"}
    journal.append("error", **{**error, "suggestion": suggestion})
    last = "checkpoints/step-40"
    journal.append("state", state="failed", reason="out of memory", checkpoint=last)
    journal.append("exit", exit_code=1, signal=None)
    journal.close()
    return folder


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """Runs that would have been started."""
    found: list[RunFolder] = []
    monkeypatch.setattr(launch, "launch", lambda folder, **more: found.append(folder))
    return found


def real_app(home: Home) -> WorkbenchApp:
    """Over what is on disk."""
    return WorkbenchApp(home, feed=StoreFeed(home), home_words="~/bench", start="train")


async def shown(pilot: Any) -> None:
    from tests.tui.wares import until

    app = pilot.app
    await until(pilot, lambda: app.snapshot.details)
    await settle(pilot)
    await until(pilot, lambda: app.screen.form.recipe is not None)
    await settle(pilot)


async def test_one_key_goes_on_as_the_end_suggests(
    home: Home, ended: RunFolder, launched: list[RunFolder]
) -> None:
    app = real_app(home)
    async with app.run_test(size=(100, 30)) as pilot:
        await shown(pilot)
        assert "halve the batch" in screen_text(app)
        await pilot.press("A")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        asked = screen_text(app)
        assert "train.per_device_train_batch_size: 32 → 16" in asked and "step-40" in asked
        assert "a step still has" in asked
        await pilot.press("escape")
        await settle(pilot)
        assert not launched
        await pilot.press("A")
        await settle(pilot)
        await pilot.press("y", "enter")
        await settle(pilot)
        [child] = launched
        assert child.read_recipe().train.per_device_train_batch_size == 16
        assert child.read_identity()["parent"] == ended.id
        assert (child.checkpoints / "step-40").is_dir()


async def test_without_a_checkpoint_the_suggestion_starts_anew(
    home: Home, ended: RunFolder, launched: list[RunFolder]
) -> None:
    import shutil

    text = ended.journal.read_text()
    kept = [line for line in text.splitlines() if "checkpoints/" not in line]
    end = '{"v": 1, "t": 1.0, "type": "state", "attempt": 1, "state": "failed", "reason": "x"}'
    ended.journal.write_text("\n".join([*kept, end]) + "\n")
    shutil.rmtree(ended.checkpoints)
    app = real_app(home)
    async with app.run_test(size=(100, 30)) as pilot:
        await shown(pilot)
        await pilot.press("A")
        await settle(pilot)
        assert "begins with the first step" in screen_text(app)
        await pilot.press("y", "enter")
        await settle(pilot)
        [new] = launched
        assert new.read_identity()["parent"] is None
        assert new.read_recipe().train.gradient_accumulation_steps == 2


async def test_the_form_s_recipe_goes_on_after_a_question_or_says_why_not(
    home: Home, ended: RunFolder, launched: list[RunFolder]
) -> None:
    app = real_app(home)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await pilot.press("u")  # the run's own recipe
        await settle(pilot)
        form = app.screen.form  # type: ignore[attr-defined]
        assert form.field("recipe").value == "run demo"
        await pilot.press("c")
        await settle(pilot)
        assert any("changes nothing" in message for message in notices(app))
        form.sheet.put("lora.r", "4")
        await pilot.press("c")
        await settle(pilot)
        assert any("lora.r: 16 cannot become 4" in message for message in notices(app))
        form.sheet.put("lora.r", form.sheet.own("lora.r"))
        form.sheet.put("train.learning_rate", "0.001")
        await pilot.press("c")
        await settle(pilot)
        assert "train.learning_rate: 0.003 → 0.001" in screen_text(app)
        await pilot.press("y", "enter")
        await settle(pilot)
        assert launched[0].read_recipe().train.learning_rate == 0.001


async def test_a_recipe_of_a_file_goes_on_as_a_run_would_keep_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths and the day of a chat template are no changes."""
    tmp_path.joinpath("rows.jsonl").write_text('{"title": "a", "content": "b"}\n')
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("demo", ["data.source=rows.jsonl"])
    folder = create_run(home, recipe)
    assert folder.read_recipe().data.source == str(tmp_path / "rows.jsonl")
    kept, changes = acts.recipe_going_on(home, folder.id, recipe)
    assert not changes and kept.format.date == folder.read_recipe().format.date


# --- asking a living run


@pytest.mark.parametrize(
    ("key", "action", "taken"),
    [("E", "evaluate", "evaluates now"), ("W", "save", "saves a checkpoint"),
     ("y", "sample", "answers its prompts")],
)  # fmt: skip
async def test_what_is_asked_is_said_and_then_what_became_of_it(
    key: str, action: str, taken: str, frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(home: Home, id: str, action: str) -> int:
        asked.append(action)
        return len(asked)

    monkeypatch.setattr(acts, "ask_run", ask)
    feed = FrozenFeed(snapshot_of(running()))
    app = frozen_app(feed=feed)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        assert asked == [action] and "asked to" in screen_text(app)
        feed.say(snapshot_of(replace(running(), controls=[{"number": 7, "taken": True}])))
        await settle(pilot)
        assert not notices(app), "another request's event is not ours"
        feed.say(snapshot_of(replace(running(), controls=[{"number": 1, "taken": True}])))
        await settle(pilot)
        assert any(taken in message and "step 57" in message for message in notices(app))
        assert "asked to" not in screen_text(app)
        await pilot.press(key)
        await settle(pilot)
        feed.say(snapshot_of(replace(running(), controls=[{"number": 2, "taken": False}])))
        await settle(pilot)
        assert any("too late" in message for message in notices(app))


async def test_a_run_that_ended_meanwhile_came_too_late_and_is_asked_nothing_more(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(acts, "ask_run", lambda home, id, action: asked.append(action) or 1)
    feed = FrozenFeed(snapshot_of(running()))
    app = frozen_app(feed=feed)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("E")
        await settle(pilot)
        over = replace(running(), row=replace(running().row, state="killed", ended=NOW))
        feed.say(snapshot_of(over))
        await settle(pilot)
        assert any("too late to evaluate" in message for message in notices(app))
        await pilot.press("E", "W", "y")
        await settle(pilot)
        assert asked == ["evaluate"]


async def test_a_request_reaches_the_run_s_folder(
    home: Home, ended: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.jobs import control

    monkeypatch.setattr("engine.commands.following.is_alive", lambda folder: True)
    monkeypatch.setattr("engine.commands.following.has_supervisor", lambda folder: True)
    assert acts.ask_run(home, ended.id, "sample") == 1
    assert control.read(ended, 1)[0] == "sample"


async def test_a_note_is_kept_with_the_run(home: Home, frozen_app: MakeApp) -> None:
    app = frozen_app(failed())  # ended or not
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("t")
        await settle(pilot)
        assert isinstance(app.screen, AskScreen)
        await pilot.press(*"hot", "enter")
        await settle(pilot)
        [event] = [json.loads(line) for line in home.journal.read_text().splitlines()]
        assert (event["type"], event["text"], event["run"]) == ("note", "hot", failed().row.id)
        await pilot.press("t", "escape")
        await settle(pilot)
        assert len(home.journal.read_text().splitlines()) == 1


# --- samples, devices, warnings


async def test_the_samples_of_a_prompt_over_the_steps(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(with_samples(), failed()))
    app = frozen_app(feed=feed)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket", "right_square_bracket")
        await settle(pilot)
        view = app.screen.query_one(SamplesView)
        text = "\n".join(view.text_lines)
        assert view.display and "This oak bench seats two people." in text
        assert text.index("step 60") < text.index("step 40") < text.index("step 20")
        assert "{+solid·+}" in text, "what is new is marked"
        await pilot.press("n")
        await settle(pilot)
        text = "\n".join(view.text_lines)
        assert "Copper kettle" in text and "the same as at step 20" in text
        assert app.screen._detail.row.name == "demo-2"  # type: ignore[attr-defined]
        new = {**SAMPLES[0], "prompt": "Copper kettle", "step": 80, "text": "A fine kettle."}
        feed.say(snapshot_of(replace(with_samples(), samples=[*SAMPLES, new]), failed()))
        await settle(pilot)
        assert "step 80" in "\n".join(view.text_lines)
        await pilot.press("left_square_bracket", "left_square_bracket")
        await settle(pilot)
        assert not view.display and app.screen.query_one("#live").display
        await pilot.press("n")
        await settle(pilot)
        assert app.screen._detail.row.name == "big"  # type: ignore[attr-defined]


def test_every_device_of_the_run_has_a_bar() -> None:
    title, bars = machine_bars(GPU_READING, on_gpus(8))
    assert title == "8 GPUs of the run" and [bar.label for bar in bars] == list("01234567")
    assert bars[1].share == pytest.approx(35 / 140) and "91 %" in bars[1].words
    title, bars = machine_bars(GPU_READING, on_gpus(1))
    assert "NVIDIA H200" in title and [bar.label for bar in bars] == [
        *("memory", "busy"),
        *("run", "peak"),
    ]


def test_the_run_its_peak_and_the_estimate_are_told_from_the_others() -> None:
    gib = 1 << 30
    shown = running()
    fields = {"memory_bytes": 20 * gib, "peak_memory_bytes": 22 * gib}
    row = replace(shown.row, device="cuda:0", estimated_peak_bytes=24 * gib, **fields)
    _, bars = machine_bars(GPU_READING, replace(shown, row=row))
    memory, _, now, peak = bars
    assert [sign for sign, _ in memory.parts] == ["━", "╍", "─"]
    assert [round(share * 139) for _, share in memory.parts] == [20, 9, 110]
    assert [(sign, round(place * 139)) for sign, place in memory.marks] == [("P", 22), ("E", 24)]
    assert (now.words, now.sign) == ("20.0 GiB", "━")
    assert (peak.words, peak.sign, peak.marked) == (
        *("22.0 GiB, est. 24.0", "P"),
        "22.0 GiB, est. E 24.0",
    )
    _, bars = machine_bars(GPU_READING, replace(shown, row=replace(row, state="finished")))
    assert not bars[0].parts and not bars[-1].sign, "what it held is free again"
    assert bars[-1].label == "peak" and bars[-1].words == "22.0 GiB, est. 24.0"
    _, bars = machine_bars(READING, replace(shown, row=replace(row, memory_bytes=None)))
    assert not bars[0].parts, "nothing is known of it yet"


def loss_lines(shown: RunDetail) -> list[Line]:
    runs = [RunCurves(shown)]
    return drawing(LOSS, runs, "step", 0.6, looks={}, names={}).lines


async def test_a_lowered_rate_is_marked_on_the_loss(frozen_app: MakeApp) -> None:
    warning = {
        "type": "warning",
        "text": "the loss is nan: the learning rate is multiplied by 0.5 from step 31 on",
        "event": {"step": 30},
    }
    noted = replace(running(), notices=[warning, {"type": "warning", "text": "x", "event": {}}])
    [marks] = [line for line in loss_lines(noted) if line.name == "warnings"]
    assert list(marks.x) == [30.0] and marks.y[0] == pytest.approx(noted.series["loss"][1][29])
    assert not any(line.name == "warnings" for line in loss_lines(running()))
    app = frozen_app(noted)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert app.screen.query_one("#loss", Chart).frames
        assert "warnings" in screen_text(app)


class OfOneGauge(App[None]):
    """Nothing but a gauge."""

    CSS = "Gauge { border: none; padding: 0; width: 100%; height: 100%; }"

    def compose(self) -> ComposeResult:
        yield Gauge()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (
            (34, 7),
            [
                "memory ━━━PE╍─────────────────────",
                "       29.0/139.0 GiB",
                "busy   ━━━━━━━━━━━━━━━━━━━━── 93 %",
                "━ run  20.0 GiB",
                "P peak 22.0 GiB, est. E 24.0",
            ],
        ),
        (
            (28, 4),
            [
                "memory ━╍──── 29.0/139.0 GiB",
                "busy   ━━━━━━━━━━━━━━━─ 93 %",
                "run    20.0 GiB",
                "peak   22.0 GiB, est. 24.0",
            ],
        ),
    ],
)
async def test_a_bar_has_marks_where_it_has_a_line_of_its_own(
    size: tuple[int, int], expected: list[str]
) -> None:
    gib = 1 << 30
    shown = running()
    row = replace(
        shown.row,
        device="cuda:0",
        memory_bytes=20 * gib,
        peak_memory_bytes=22 * gib,
        estimated_peak_bytes=24 * gib,
    )
    app = OfOneGauge()
    async with app.run_test(size=size) as pilot:
        gauge = app.query_one(Gauge)
        gauge.show(*machine_bars(GPU_READING, replace(shown, row=row)))
        await pilot.pause()
        text = gauge.render()
        assert isinstance(text, Text) and text.plain.split("\n") == expected
