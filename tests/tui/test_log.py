"""The page of a whole log: follow, scroll, search, levels, progress bars, nasty bytes."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.home import Home
from tests.tui.conftest import (
    HOSTILE,
    SIZES,
    failed,
    finished,
    settle,
    write_log,
)
from tests.tui.test_hostile import check
from tests.tui.test_runs import texts
from tests.variants import slow_but
from tui.app import WorkbenchApp
from tui.screens.base import hints
from tui.screens.log import LogScreen
from tui.widgets import logreader
from tui.widgets.logpage import LogPage
from tui.widgets.logview import LogView

MakeApp = Callable[..., WorkbenchApp]

BAR = b"\r".join(b"epoch: %3d%%|%s| %d/100" % (n, b"#" * (n // 10), n) for n in range(101))
TRACEBACK = b"""\
Traceback (most recent call last):
  File "/opt/engine/train/session.py", line 214, in run
    trainer.train()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 12.00 GiB.
"""


def lines(count: int, start: int = 0) -> bytes:
    return b"".join(b"{'loss': 2.5, 'step': %d}\n" % n for n in range(start, start + count))


WARNING = b"\x1b[33mWARNING\x1b[0m:root:row 7 is longer than 4096 tokens and loses its end\n"
LOG = lines(500) + WARNING + BAR + b"\n" + lines(200, 500) + b"x" * 1_000_000 + b"\n" + TRACEBACK


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logreader, "LOOK_SECONDS", 0.1)


@pytest.fixture
def log(home: Home) -> Iterator[Path]:
    """The log of the run that is opened."""
    path = write_log(home, failed().row.id, [])
    yield path


def on_log(make: MakeApp, log: Path, data: bytes, mode: str = "runs") -> WorkbenchApp:
    app = make(failed(), finished(), mode=mode)
    log.write_bytes(data)
    return app


async def open_log(pilot: Any) -> LogView:
    await settle(pilot)
    await pilot.press("enter", "left_square_bracket")
    await settle(pilot)
    view = pilot.app.screen.query_one(LogView)
    assert view.has_focus
    return view


async def until(pilot: Any, ready: Callable[[], bool]) -> None:
    """A look at the file comes with a timer, so nobody is idle until then."""
    for _ in range(100):
        await settle(pilot)
        if ready():
            return
        await asyncio.sleep(0.03)
    raise AssertionError(texts(pilot.app))


def shown(app: WorkbenchApp) -> str:
    return texts(app)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("keys", ["", "k k", "F", "F F", "w", "slash l o n g e r enter"], ids=str)
def test_layout(
    keys: str, size: tuple[int, int], log: Path, frozen_app: MakeApp, snap_compare: Any
) -> None:
    async def press(pilot: Any) -> None:
        await open_log(pilot)
        for key in keys.split():
            await pilot.press(key)
            await settle(pilot)

    app = on_log(frozen_app, log, LOG)
    assert snap_compare(app, terminal_size=size, run_before=press)


def test_layout_over_train(log: Path, frozen_app: MakeApp, snap_compare: Any) -> None:
    async def press(pilot: Any) -> None:
        await settle(pilot)
        pilot.app.screen.query_one("#log").focus()
        await pilot.press("z")
        await settle(pilot)
        assert isinstance(pilot.app.screen, LogScreen)

    app = on_log(frozen_app, log, LOG, "train")
    assert snap_compare(app, terminal_size=(80, 24), run_before=press)


async def test_it_follows_until_one_scrolls_up_and_says_what_was_missed(
    log: Path, frozen_app: MakeApp
) -> None:
    app = on_log(frozen_app, log, lines(300) + b"epoch:  1%|#\repoch:  2%|##")
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        assert "following" in shown(app) and "epoch:  2%|##" in shown(app)
        with log.open("ab") as file:
            file.write(b"\repoch:  3%|###")
            file.flush()
            await until(pilot, lambda: "epoch:  3%|###" in shown(app))
            assert "epoch:  2%" not in shown(app), "a bar is drawn in its place"
            file.write(b"\nafter it\n")
            file.flush()
            await until(pilot, lambda: "after it" in shown(app))
            await pilot.press("k", "k")
            await until(pilot, lambda: "paused" in shown(app))
            top = view.rows.first
            file.write(b"one more\n" * 120)
            file.flush()
            await until(pilot, lambda: "paused, 120 new lines" in shown(app))
            assert view.rows.first == top and "one more" not in shown(app)
            await pilot.press("G")
            await until(pilot, lambda: "following" in shown(app))
            assert "one more" in shown(app)
            await pilot.press("k")
            await settle(pilot)
            assert not view.following
            await pilot.press("j")
            await settle(pilot)
            assert view.following, "scrolling to the end follows again"
            file.write(b"the last\n")
            file.flush()
            await until(pilot, lambda: "the last" in shown(app))


async def test_a_log_that_began_anew_is_read_anew(log: Path, frozen_app: MakeApp) -> None:
    app = on_log(frozen_app, log, lines(300))
    async with app.run_test(size=(80, 24)) as pilot:
        await open_log(pilot)
        await pilot.press("pageup")
        log.write_bytes(b"another attempt\n")
        await until(pilot, lambda: "another attempt" in shown(app))
        assert "the log began anew" in shown(app) and "'step': 299" not in shown(app)
        log.unlink()
        await until(pilot, lambda: "nothing written yet" in shown(app))


async def test_every_line_is_reached_by_paging_both_ways(
    log: Path, frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logreader, "KEPT", 1_000)
    count = logreader.KEPT + 200
    app = on_log(frozen_app, log, lines(count))
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        for key, way in (("pageup", -1), ("pagedown", 1)):
            seen: set[int] = set()
            for _ in range(count // (view.size.height - 1) + 3):
                seen |= {view.rows.lines[index].start for index, _ in view.rows.seen()}
                await pilot.press(key)
                if view.scan is not None:
                    await settle(pilot)
            assert len(seen) == count
            assert view.following is (way > 0)
            assert len(view.rows.lines) <= logreader.KEPT
        await pilot.press("g")
        await settle(pilot)
        assert f"line 1 of {count:,}" in shown(app) and "'step': 0}" in shown(app)


async def test_keys_that_come_faster_than_lines_are_made_up_for(
    log: Path, frozen_app: MakeApp
) -> None:
    app = on_log(frozen_app, log, lines(20_000))
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        last = 20_000 - view.size.height
        for _ in range(100):
            view.action_page_up()
        await settle(pilot)
        await settle(pilot)
        first = view.rows.first
        assert first is not None
        gone = 100 * (view.size.height - 1)
        assert first.text == f"{{'loss': 2.5, 'step': {last - gone}}}"


async def test_search_marks_counts_and_goes_round_the_end(log: Path, frozen_app: MakeApp) -> None:
    found = b"needle here\n"
    app = on_log(frozen_app, log, found + lines(2_000) + found + lines(2_000) + found + lines(99))
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        await pilot.press("slash", *"needle")
        await until(pilot, lambda: "“needle” in 3 lines" in shown(app))
        await pilot.press("enter")
        await settle(pilot)
        assert "› needle here" in shown(app), "the nearest one before the end"
        numbers = [await _number(pilot, view)]
        for key in ("N", "N", "N", "n", "n"):
            await pilot.press(key)
            await until(pilot, lambda: view.scan is None)
            numbers.append(await _number(pilot, view))
        assert numbers == [4002, 2001, 0, 4002, 0, 2001]
        assert ("n", "next") in hints(app.screen)
        await pilot.press("slash", "ctrl+u", *"nowhere", "enter")
        await settle(pilot)
        assert "nothing in the log reads nowhere" in [*app._notifications][-1].message


async def _number(pilot: Any, view: LogView) -> int:
    """How many lines are before the one that was found."""
    await settle(pilot)
    assert view.file is not None
    number = view.file.number(view.rows.hit)
    assert number is not None
    assert view.rows.hit in {view.rows.lines[index].start for index, _ in view.rows.seen()}
    return number


async def test_letters_are_text_in_the_field_and_esc_goes_step_by_step(
    log: Path, frozen_app: MakeApp
) -> None:
    app = on_log(frozen_app, log, lines(300))
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        await pilot.press("slash", *"FwnNqG")
        await settle(pilot)
        assert app.focused is not None and app.focused.value == "FwnNqG"  # type: ignore[attr-defined]
        assert view.level == 0 and not view.rows.wrapped
        await pilot.press("escape")
        await settle(pilot)
        assert view.has_focus and not app.screen.query_one("LogPage Input").display
        await pilot.press("escape")
        await settle(pilot)
        assert not app.screen.query_one(LogPage).display or not view.size


async def test_a_match_far_to_the_right_is_brought_in_sight(log: Path, frozen_app: MakeApp) -> None:
    app = on_log(frozen_app, log, b"y" * 900 + b" needle " + b"y" * 900 + b"\n")
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        await pilot.press("slash", *"needle", "enter")
        await settle(pilot)
        assert "needle " in shown(app).split("┏")[1]
        await pilot.press(*"h" * 40)
        await settle(pilot)
        assert view.rows.left == 0


async def test_levels_and_the_lines_of_a_traceback(log: Path, frozen_app: MakeApp) -> None:
    app = on_log(frozen_app, log, LOG + b"going on\n")
    async with app.run_test(size=(120, 40)) as pilot:
        view = await open_log(pilot)
        assert "E Traceback" in shown(app) and "│ torch.OutOfMemoryError" in shown(app)
        assert "996,000 more bytes" in shown(app)
        await pilot.press("F")
        await settle(pilot)
        assert "· warnings and errors" in shown(app)
        assert [line.text[:9] for line in view.rows.lines][:2] == ["WARNING:r", "Traceback"]
        assert "'loss'" not in shown(app) and "going on" not in shown(app)
        await pilot.press("F")
        await settle(pilot)
        assert len(view.rows.lines) == 4 and "· errors" in shown(app)
        with log.open("ab") as file:
            file.write(b"fine\nERROR:root:once more\nfine\n")
        await until(pilot, lambda: "E ERROR:root:once more" in shown(app))
        assert len(view.rows.lines) == 5 and "fine" not in shown(app)
        await pilot.press("F")
        await settle(pilot)
        assert "going on" in shown(app) and "following" in shown(app)


async def test_a_filter_that_nothing_passes_says_so(log: Path, frozen_app: MakeApp) -> None:
    app = on_log(frozen_app, log, lines(50))
    async with app.run_test(size=(80, 24)) as pilot:
        await open_log(pilot)
        await pilot.press("F", "F")
        await settle(pilot)
        assert "no errors in this log" in shown(app)
        await pilot.press("F")
        await settle(pilot)
        assert "'step': 49" in shown(app)


async def test_wrapped_lines_lose_nothing(log: Path, frozen_app: MakeApp) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    app = on_log(frozen_app, log, lines(60) + words.encode() + b"\n")
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_log(pilot)
        assert "word59" not in shown(app)
        await pilot.press("w")
        await settle(pilot)
        assert "word59" in shown(app) and "word0 " in shown(app) and view.following
        await pilot.press("w", *"l" * 12)
        await settle(pilot)
        assert "word59" in shown(app) and "word0 " not in shown(app)


@pytest.mark.parametrize("size", slow_but([(60, 20), *SIZES], (80, 24)), ids=str)
async def test_nasty_bytes(size: tuple[int, int], log: Path, frozen_app: MakeApp) -> None:
    nasty = HOSTILE.encode("utf-8", "replace") + b"\xff\xfe\x9b31m\x00\n"
    app = on_log(frozen_app, log, (nasty + b"WARNING:root:" + nasty) * 20)
    async with app.run_test(size=size) as pilot:
        await open_log(pilot)
        for key in ("w", "w", "F", "slash", *"EVIL", "enter", "n", "l", "h", "g", "F", "F", "z"):
            await pilot.press(key)
            await settle(pilot)
            seen = check(app)
            assert key in "wl" or "EVIL" in seen, key
        await pilot.press("slash", "ctrl+u", *"[/red]", "enter")
        await settle(pilot)
        check(app)


async def test_z_opens_the_log_over_train_and_esc_returns(log: Path, frozen_app: MakeApp) -> None:
    app = on_log(frozen_app, log, lines(300), "train")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.screen.query_one("#log").focus()
        await settle(pilot)
        assert "z opens the whole log" in shown(app)
        await pilot.press("z")
        await settle(pilot)
        assert "[2 Train: Log]" in shown(app) and "worker.log of big" in shown(app)
        await pilot.press("g", "slash", *"299", "enter")
        await settle(pilot)
        assert "› {'loss': 2.5, 'step': 299}" in shown(app)
        for key in ("escape", "z", "z"):
            await pilot.press(key)
            await settle(pilot)
        assert app.screen.SCREEN == "train"


async def test_leaving_ends_a_search_that_reads_on(
    log: Path, frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of a worker cannot be cancelled: without a word it would hold up the exit."""
    app = on_log(frozen_app, log, lines(40_000))
    heard: list[bool] = []

    def endless(log: Any, needle: Any, offset: int, *, told: Any, **options: Any) -> None:
        import time

        until = time.monotonic() + 20
        while told(offset) and time.monotonic() < until:
            time.sleep(0.01)
        heard.append(time.monotonic() < until)

    monkeypatch.setattr("engine.jobs.logsearch.find", endless)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_log(pilot)
        await pilot.press("slash", *"none", "enter")
        await pilot.pause(0.5)
        assert "searching" in shown(app) and "esc stops" in shown(app)
        await pilot.press("q")
    await asyncio.sleep(0.1)
    assert heard == [True]
