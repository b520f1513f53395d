"""Over a slow link little is drawn: by choice, or as the link shows; never back and forth."""

import os
import select
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.home import Home
from tests.tui.conftest import running, settle, snapshot_of
from tests.tui.terminal import PtyApp
from tui import bandwidth
from tui.app import WorkbenchApp
from tui.bandwidth import FRAME, GOOD_ANSWERS, PROBE, SLOW_SECONDS, Link
from tui.feed import Snapshot, StoreFeed
from tui.widgets.bars import HeaderBar

MakeApp = Callable[..., WorkbenchApp]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """Reads a frame as slowly as one says, and answers."""

    def __init__(self, low: bool | None = None) -> None:
        self.clock = Clock()
        self.link = Link(low, self.clock)
        self.turned: list[bool] = []
        self.link.changed = lambda: self.turned.append(self.link.low)

    def reads(self, *lags: float, size: int = FRAME) -> bool:
        for lag in lags:
            self.link.wrote(size)
            if self.link.ask():
                self.clock.now += lag
                self.link.answered()
        return self.link.low


def test_slow_answers_in_a_row_turn_it_on() -> None:
    link = Terminal()
    assert not link.reads(0.9, 0.9, 0.1, 0.9, 0.9), "one hiccup after the other"
    assert link.reads(0.9) and link.turned == [True]
    assert not Terminal().reads(4.0), "a lid that was closed for a while"
    assert Terminal().reads(4.0, 5.0)
    assert not Terminal().reads(*[0.5] * 50), "far away, but not slow"


def test_it_turns_off_after_a_good_minute_and_each_time_later() -> None:
    link = Terminal()
    wanted = GOOD_ANSWERS
    for _ in range(3):
        assert link.reads(2.0, 2.0, 2.0)
        assert link.reads(*[0.1] * (wanted - 1))
        assert link.reads(0.4), "not good enough: from the beginning"
        assert link.reads(*[0.1] * (wanted - 1))
        assert not link.reads(0.1)
        wanted *= 2
    assert link.turned == [True, False] * 3


def test_little_that_is_drawn_says_nothing() -> None:
    link = Terminal()
    link.reads(0.0)
    assert not link.link.ask(), "nothing was drawn since"
    link.link.wrote(FRAME - 1)
    assert not link.link.ask()
    link.link.wrote(1)
    assert link.link.ask() and not link.link.ask(), "one question at a time"


@pytest.mark.parametrize("low", [True, False])
def test_what_was_chosen_holds(low: bool) -> None:
    link = Terminal(low)
    assert link.reads(*[9.0] * 9) is low
    link.link.blocked(9.0)
    assert link.reads(*[0.0] * 99) is low
    link.link.choose(not low)
    assert link.reads(*[9.0] * 9, *[0.0] * 99) is not low and link.turned == []


def test_where_nobody_answers_writing_that_takes_long_tells() -> None:
    link = Terminal()
    link.link.wrote(FRAME)
    assert link.link.ask()
    for _ in range(3):
        link.link.blocked(1.0)
    assert link.link.low and link.turned == [True]
    answering = Terminal()
    answering.reads(0.1)
    for _ in range(9):
        answering.link.blocked(1.0)
    assert not answering.link.low, "its answers tell more"


def test_panes_are_due_when_drawn_long_ago() -> None:
    link = Terminal().link
    assert link.due("a") and link.due("a"), "a fast link: always"
    link.choose(True)
    assert not link.due("a") and link.due("b") and link.due("a", 0.0)
    link._clock.now += SLOW_SECONDS  # type: ignore[attr-defined]
    assert link.due("a") and link.due("b") and not link.due("b")


def test_over_a_slow_link_the_feed_tells_at_once_only_what_happened(home: Home) -> None:
    link = Terminal(True).link
    feed = StoreFeed(home, link)
    detail = running()
    told = snapshot_of(detail)
    assert feed._may_tell(told, Snapshot())
    step = snapshot_of(replace(detail, row=replace(detail.row, step=58), log=["more"]))
    assert not feed._may_tell(step, told), "one more step"
    link._clock.now += SLOW_SECONDS  # type: ignore[attr-defined]
    assert feed._may_tell(step, told) and not feed._may_tell(step, told)
    for happened in (
        snapshot_of(replace(detail, row=replace(detail.row, state="finished"))),
        snapshot_of(replace(detail, controls=[{"number": 1}])),
        Snapshot(step.rows, {}, loaded=True),
        replace(step, error="locked"),
    ):
        assert feed._may_tell(happened, step)
    link.choose(False)
    assert feed._may_tell(step, step)


def test_leaving_waits_for_an_answer_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "LEAVE_SECONDS", 0.05)
    terminal = Terminal()
    began = time.monotonic()
    assert terminal.link.ask()
    terminal.link.settle()
    assert time.monotonic() - began < 0.04, "it never answered: no use to wait"
    terminal.link.answered()
    terminal.link.settle()
    assert time.monotonic() - began < 0.04
    terminal.link.wrote(FRAME)
    assert terminal.link.ask()
    terminal.link.settle()
    assert time.monotonic() - began >= 0.05


async def test_a_key_and_the_header_say_that_it_is_on(frozen_app: MakeApp) -> None:
    app = frozen_app(running(), mode="train")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        header = app.screen.query_one(HeaderBar)
        assert "low bandwidth" not in str(header.render())
        await pilot.press("M")
        await settle(pilot)
        assert app.link.low and "low bandwidth" in str(header.render())
        await pilot.press("3")
        await settle(pilot)
        assert "low bandwidth" in str(app.screen.query_one(HeaderBar).render())
        await pilot.press("M")
        await settle(pilot)
        assert not app.link.low and app.link.chosen
        assert "low bandwidth" not in str(app.screen.query_one(HeaderBar).render())


class Wire(PtyApp):
    """A terminal behind a link of so many bytes a second; it answers as terminals do."""

    rate = 0

    def pump(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                return
            data = os.read(self._fd, self.rate // 20 or 1 << 16)
            if self.rate:
                time.sleep(len(data) / self.rate)  # the link itself
            self.written += data
            if PROBE.encode() in self.written[-len(data) - len(PROBE) :]:
                self.answers += 1
                os.write(self._fd, b"\x1b[7;9R")

    answers = 0

    def until(self, pattern: bytes, since: int, seconds: float = 40.0) -> None:
        deadline = time.monotonic() + seconds
        while pattern not in self.written[since:]:
            assert time.monotonic() < deadline, self.written[since:][-2000:]
            self.pump(0.2)


SCREENS = (("3", b"[3 Runs]"), ("5", b"[5 System]"), ("2", b"[2 Train]"))


@pytest.mark.terminal
def test_a_slow_link_turns_it_on_by_itself(home: Home) -> None:
    with Wire(home.path, 120, 40) as wire:
        wire.rate = 6_000
        wire.until(b"[2 Train]", 0)
        for turn in range(12):
            since, answers = len(wire.written), wire.answers
            key, title = SCREENS[turn % 3]
            wire.press(key)
            wire.until(title, since)
            # Not every screen is drawn with so much that it is asked about.
            until = time.monotonic() + 3
            while wire.answers == answers and time.monotonic() < until:
                wire.pump(0.2)
            if b"low bandwidth" in wire.written:
                break
        assert b"slow link: low bandwidth" in wire.written
        wire.rate = 0
        wire.press("q")
        assert wire.ended() == 0


@pytest.mark.terminal
@pytest.mark.parametrize("words", [(), ("--no-low-bandwidth",)])
def test_a_fast_link_does_not(home: Home, words: tuple[str, ...]) -> None:
    with Wire(home.path, 120, 40, *words) as wire:
        wire.until(b"[2 Train]", 0)
        for turn in range(9):
            since = len(wire.written)
            key, title = SCREENS[turn % 3]
            wire.press(key)
            wire.until(title, since)
            wire.pump(0.2)
        assert b"low bandwidth" not in wire.written
        assert (wire.answers > 3) is not bool(words), "it asks only to find out"
        wire.press("q")
        assert wire.ended() == 0


@pytest.mark.terminal
def test_it_is_on_from_the_beginning_when_asked_for(home: Home) -> None:
    with Wire(home.path, 80, 24, "--low-bandwidth") as wire:
        wire.until(b"low bandwidth", 0)
        assert PROBE.encode() not in wire.written
