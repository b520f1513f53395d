"""The review of a run: the preflight as it becomes known, measured, searched, queued, started."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.home import Home
from engine.preflight.look import Disk, Preflight, measure, quick_look
from engine.preflight.warnings import PreflightWarning
from engine.recipe import Recipe
from tests.tui.conftest import GPU_READING, HOSTILE, SIZES, running, settle
from tests.tui.test_hostile import check
from tests.tui.wares import recipe as wares_recipe
from tests.tui.wares import until
from tui import acts, lookahead
from tui.app import WorkbenchApp
from tui.draft import Repeated
from tui.screens.review import ReviewScreen

MakeApp = Callable[..., WorkbenchApp]

BASICS = [
    ("run", "demo (a number is added when that is taken)"),
    ("data", "wares.jsonl"),
    ("model", "builtin:base"),
    ("trains", "LoRA r=8 on 7 modules"),
    ("steps", "2 epoch(s)"),
    ("learning rate", "0.0003, linear"),
    ("where", "this machine's CPU; files in /bench/runs/"),
]


def probed(**more: Any) -> dict[str, Any]:
    """A probe's result, with one attempt a batch size: 8 and 16 fit, 32 does not."""

    def attempt(batch: int, steps: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": steps,
            "peak_bytes": batch << 30,
        }
        if batch > 16:
            return {**found, "out_of_memory": {"during": "training", "message": "no"}}
        return {
            **found,
            "checkpoint_bytes": 3 << 20,
            "trained_bytes": 1 << 20,
            "ends_masked": 0,
            "step_seconds": 0.5,
            "tokens_per_second": 100.0 * batch,
            "evaluation_row_seconds": 0.01,
            "generation_seconds": 0.1,
        }

    attempts = [attempt(32, 1), attempt(16, 2), attempt(8, 4)]
    facts = {"limit_bytes": 20 << 30, "device_total_bytes": 24 << 30}
    return {**facts, "attempts": attempts, **more}


def steady(seen: Preflight) -> Preflight:
    """With what depends on the machine as it never is."""
    seen.place = replace(seen.place, total_bytes=2 << 30, free_bytes=2 << 30)
    seen.disk = Disk(3 << 20, 4, 13 << 20, 90 << 30)
    return seen


@pytest.fixture
def recipe(source: Path) -> Recipe:
    return wares_recipe(source).with_settings(["train.num_train_epochs=2"])


@pytest.fixture
def seen(filled: Home, recipe: Recipe) -> Preflight:
    found = quick_look(filled, recipe)
    assert found is not None
    return steady(found)


async def review(pilot: Any, recipe: Recipe, **more: Any) -> ReviewScreen:
    await settle(pilot)
    screen = ReviewScreen("Start demo?", recipe, list(BASICS), **more)
    pilot.app.push_screen(screen)
    await settle(pilot)
    return screen


def words(screen: ReviewScreen) -> str:
    return "\n".join(screen.query_one("#what").text_lines)  # type: ignore[attr-defined]


# --- what is shown


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_layout(
    size: tuple[int, int],
    frozen_app: MakeApp,
    snap_compare: Any,
    recipe: Recipe,
    seen: Preflight,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookahead, "glance", lambda home, recipe: seen)

    async def show(pilot: Any) -> None:
        await review(pilot, recipe)

    assert snap_compare(frozen_app(), terminal_size=size, run_before=show)


async def test_the_preflight_fills_the_review_worst_first(
    frozen_app: MakeApp, recipe: Recipe, seen: Preflight, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen.warnings = [
        PreflightWarning("b", "a small thing", "note"),
        PreflightWarning("c", "results suffer", "warning"),
        PreflightWarning("d", "it will fail", "error"),
    ]
    monkeypatch.setattr(lookahead, "glance", lambda home, recipe: seen)
    app = frozen_app()
    async with app.run_test(size=(120, 40)) as pilot:
        shown = words(await review(pilot, recipe))
        order = [shown.index(w) for w in ("it will fail", "results suffer", "a small thing")]
        assert order == sorted(order)
        assert f"{seen.resolved.steps:,} of" in shown and "2 epochs" in shown
        assert "weights" in shown and "━" in shown and "estimated" in shown
        assert "not known: no run like this one yet; p measures it" in shown


async def test_what_is_not_cleaned_is_said_and_nothing_is_invented(
    frozen_app: MakeApp, recipe: Recipe
) -> None:
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await review(pilot, recipe)
        shown = " ".join(words(screen).split())
        assert "Tokens, memory and time are known once the data is cleaned" in shown
        assert "MiB" not in shown and "2 epoch(s)" in shown


async def test_why_it_cannot_be_known_is_said_and_nasty_text_stays_text(
    frozen_app: MakeApp, recipe: Recipe, seen: Preflight, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(home: Home, recipe: Recipe) -> Preflight:
        raise UserError(HOSTILE)

    monkeypatch.setattr(lookahead, "glance", fails)
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await review(pilot, recipe)
        assert "EVIL" in check(app)
        await pilot.press("escape")
        seen.warnings = [PreflightWarning("x", HOSTILE, "error")]
        monkeypatch.setattr(lookahead, "glance", lambda home, recipe: seen)
        await review(pilot, recipe)
        assert "EVIL" in check(app)


# --- measuring


class Gate:
    """A measurement that goes on when the test says so."""

    def __init__(self, home: Home, result: Preflight | Exception) -> None:
        self.result, self.open, self.asked = result, threading.Event(), list[bool]()
        self.cancelled = False

    def __call__(
        self, home: Home, recipe: Recipe, search: bool, say: Any, cancelled: Any
    ) -> Preflight:
        from engine.data.progress import Cancelled

        self.asked.append(search)
        say("batch 32: training on the longest rows")
        while not self.open.wait(0.01):
            if cancelled():
                self.cancelled = True
                raise Cancelled("cancelled")
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def gate(filled: Home, seen: Preflight, monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate(filled, seen)
    monkeypatch.setattr(lookahead, "measured", made)
    return made


async def test_p_measures_and_says_what_it_is_doing(
    frozen_app: MakeApp, recipe: Recipe, filled: Home, seen: Preflight, gate: Gate
) -> None:
    measured = measure(filled, steady(seen), probed(attempts=probed()["attempts"][1:2]), False)
    gate.result = measured
    app = frozen_app()
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await review(pilot, recipe)
        await pilot.press("p")
        await until(pilot, lambda: "longest rows" in str(screen.query_one("#busy").render()))
        assert "esc cancels" in str(screen.query_one("#busy").render())
        gate.open.set()
        await until(pilot, lambda: screen.job is None)
        await settle(pilot)
        shown = words(screen)
        assert "16.0 GiB measured" in shown and "measured now: 0.5 s a step" in shown
        assert gate.asked == [False]


async def test_esc_cancels_the_measurement_first_and_then_leaves(
    frozen_app: MakeApp, recipe: Recipe, gate: Gate
) -> None:
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await review(pilot, recipe)
        await pilot.press("p")
        await until(pilot, lambda: gate.asked)
        await pilot.press("escape")
        await until(pilot, lambda: screen.job is None)
        assert gate.cancelled and app.screen is screen
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is not screen


async def test_why_a_measurement_failed_is_said(
    frozen_app: MakeApp, recipe: Recipe, gate: Gate
) -> None:
    gate.result = UserError("the GPU is gone [/red]")
    gate.open.set()
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await review(pilot, recipe)
        await pilot.press("p")
        await until(pilot, lambda: screen.note)
        await settle(pilot)
        assert "the GPU is gone [/red]" in words(screen)


# --- on the Train screen


async def ready(pilot: Any, recipe: Recipe) -> None:
    await settle(pilot)
    pilot.app.screen.form.take(Repeated("wares-id", "wares", "wares-2"), recipe)
    await settle(pilot)


async def test_a_measurement_is_over_before_the_run_starts(
    frozen_app: MakeApp, recipe: Recipe, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []

    def start(home: Home, recipe: Recipe, name: str | None, repeats: str | None) -> str:
        started.append(gate.cancelled)
        return "new"

    monkeypatch.setattr(acts, "start_run", start)
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, recipe)
        await pilot.press("s")
        await settle(pilot)
        await pilot.press("p")
        await until(pilot, lambda: gate.asked)
        await pilot.press("enter")
        await until(pilot, lambda: started)
        assert started == [True], "it would have held memory that the run wants"


async def test_the_largest_batch_is_taken_and_shown_in_the_form(
    frozen_app: MakeApp,
    recipe: Recipe,
    filled: Home,
    seen: Preflight,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Recipe] = []
    monkeypatch.setattr(
        acts, "start_run", lambda home, recipe, name, repeats: started.append(recipe) or "x"
    )
    gate.result = measure(filled, seen, probed(), True)
    gate.open.set()
    app = frozen_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, recipe)
        await pilot.press("s")
        await settle(pilot)
        screen = app.screen
        assert isinstance(screen, ReviewScreen)
        await pilot.press("b")
        await until(pilot, lambda: screen.settings)
        await settle(pilot)
        shown = words(screen)
        assert gate.asked == [True] and "out of memory" in shown and "1,600 tok/s" in shown
        assert "train.per_device_train_batch_size: 32 → 16" in shown
        assert "train.gradient_accumulation_steps = 2" in shown
        await pilot.press("enter")
        await until(pilot, lambda: started)
        assert started[0].train.per_device_train_batch_size == 16
        assert started[0].train.gradient_accumulation_steps == 2
        form = app.screen.form  # type: ignore[attr-defined]
        assert form.field("train.per_device_train_batch_size").value == "16"


async def test_q_puts_it_in_the_queue(
    frozen_app: MakeApp, recipe: Recipe, filled: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.jobs import queue

    dispatched: list[Home] = []
    monkeypatch.setattr("engine.jobs.dispatch.dispatch", dispatched.append)
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, recipe)
        await pilot.press("s")
        await settle(pilot)
        await pilot.press("Q")
        await until(pilot, lambda: dispatched)
        await settle(pilot)
        [place] = queue.listing(filled).places
        assert place.entry.name == "demo"


@pytest.mark.parametrize(("busy", "measures"), [(False, True), (True, False)])
async def test_on_a_gpu_it_measures_by_itself_unless_a_run_has_it(
    busy: bool, measures: bool, frozen_app: MakeApp, recipe: Recipe, gate: Gate
) -> None:
    app = frozen_app(*([running()] if busy else []), reading=GPU_READING)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, recipe)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
        screen = app.screen
        assert isinstance(screen, ReviewScreen)
        await until(pilot, lambda: not screen._looking)
        assert (screen.job is not None) is measures
        gate.open.set()
        await until(pilot, lambda: screen.job is None)
