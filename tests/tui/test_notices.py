"""What is told of runs, once each: by snapshots as they follow each other, and to the terminal."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.widgets._toast import Toast

from engine.errors import UsageError
from engine.history.ingest import ingest_all
from engine.history.queries import list_runs
from engine.history.row import RunRow
from engine.history.store import open_store
from engine.history.vitals import Reading, Vitals, vitals
from engine.home import Home
from engine.jobs.journal import Journal
from tests.engine.fakes import runs
from tests.tui.conftest import HOSTILE, NOW, FrozenFeed, row, settle, snapshot_of
from tui.app import WorkbenchApp
from tui.feed import RunDetail, Snapshot
from tui.notices import MOST, Notices, notices
from tui.ring import ring, ways

MakeApp = Callable[..., WorkbenchApp]
SINCE = NOW - 100


def of(*found: RunRow, **signs: Vitals) -> Snapshot:
    """Runs as the feed tells of them; ``signs`` by the runs' names."""
    known = {one.id: signs[one.name] for one in found if one.name in signs}
    return Snapshot(list(found), loaded=True, vitals=known)


def losses(*values: float, first: int = 1) -> tuple[tuple[float, int, float], ...]:
    return tuple((NOW - 1, first + place, value) for place, value in enumerate(values))


LIVE = row("a", step=57, max_steps=120)
WELL = Vitals(losses(*[2.3, 2.2, 2.4] * 6))
ENDS = {
    "finished": (
        {"reason": "all steps done", "best_eval_loss": 2.412, "test_loss": 2.5},
        "a finished: all steps done, validation 2.412, test 2.500",
        "information",
    ),
    "stopped": ({}, "a stopped: 57/120 steps", "information"),
    "failed": ({"reason": "no space left"}, "a failed: no space left", "error"),
    "killed": ({"reason": "killed on request"}, "a killed: killed on request", "error"),
    "lost": ({"reason": "the machine restarted"}, "a lost: the machine restarted", "error"),
}


@pytest.mark.parametrize("state", ENDS)
def test_an_end_is_told_in_words(state: str) -> None:
    fields, words, severity = ENDS[state]
    ended = replace(LIVE, state=state, ended=NOW - 1, **fields)
    (told,) = notices(of(LIVE), of(ended), NOW, SINCE)
    assert (told.words, told.severity) == (words, severity)
    assert notices(of(ended), of(ended), NOW, SINCE) == []


@pytest.mark.parametrize("state", ENDS)
def test_what_ended_before_anybody_looked_is_not_told(state: str) -> None:
    """Whether it is there from the first look on, or its journal is read only later."""
    ended = replace(LIVE, state=state, ended=SINCE - 1, last_event=SINCE - 1)
    assert notices(Snapshot(), of(ended), NOW, SINCE) == []
    assert notices(of(), of(ended), NOW, SINCE) == []
    half_read = replace(LIVE, last_event=SINCE - 900)
    assert notices(of(half_read), of(ended), NOW, SINCE) == []


def test_a_run_that_died_in_a_long_silence_is_told_as_lost_though_its_last_line_is_old() -> None:
    silent = replace(LIVE, last_event=SINCE - 50)
    lost = replace(silent, state="lost", ended=SINCE - 50, reason="gone")
    assert [one.words for one in notices(of(silent), of(lost), NOW, SINCE)] == ["a lost: gone"]


def test_a_run_that_came_and_went_between_two_looks_is_told() -> None:
    ended = replace(LIVE, state="failed", ended=NOW - 1, reason="no model")
    assert len(notices(of(), of(ended), NOW, SINCE)) == 1
    again = replace(ended, attempt=2)
    assert len(notices(of(ended), of(again), NOW, SINCE)) == 1, "resumed, and failed again"


def test_silence_is_told_when_it_is_longer_than_the_run_ever_needs() -> None:
    slow = replace(WELL, silence_limit=300.0)
    quiet = replace(LIVE, last_event=NOW)
    for vital, limit in ((WELL, 60), (slow, 300)):
        world = of(quiet, a=vital)
        assert notices(world, world, NOW + limit, SINCE) == []
        (told,) = notices(world, world, NOW + limit + 5, SINCE)
        assert told.severity == "warning"
    assert told.words == "a says nothing for 5 min 05 s at step 57"
    world = of(replace(quiet, last_event=SINCE - 61), a=WELL)
    assert notices(world, world, NOW, SINCE) == [], "it was silent before anybody looked"
    world = of(replace(quiet, state="queued"), a=WELL)
    assert notices(world, world, NOW + 900, SINCE) == []


DIVERGED = {
    "not a number": (
        Vitals(losses(*[2.3] * 20, math.nan)),
        "a: the loss is no number at step 21",
    ),
    "infinite": (Vitals(losses(math.inf)), "a: the loss is no number at step 1"),
    "exploding": (
        Vitals(losses(*[2.3] * 20, 8.0, 11.0, 25.0)),
        "a: the loss explodes: 25 at step 23, 2.3 before",
    ),
    "watchdog": (
        Vitals(WELL.losses, warning=(NOW - 1, "the loss is 9, above 3 times the median of 2")),
        "a: the loss is 9, above 3 times the median of 2",
    ),
}


@pytest.mark.parametrize("how", DIVERGED)
def test_divergence_is_told(how: str) -> None:
    now, words = DIVERGED[how]
    (told,) = notices(of(LIVE, a=WELL), of(LIVE, a=now), NOW, SINCE)
    assert (told.words, told.severity) == (words, "error")
    assert notices(of(LIVE, a=now), of(LIVE, a=now), NOW, SINCE) == [], "it was so already"
    assert notices(of(LIVE, a=WELL), of(LIVE, a=now), NOW, NOW) == [], "that was long ago"


@pytest.mark.parametrize(
    "values",
    [
        [2.3] * 20 + [25.0],
        [2.3] * 20 + [25.0, 2.2, 25.0],
        [0.01] * 20 + [0.04] * 3,
        [9.0, 2.0, 2.0, 30.0, 30.0, 30.0],
        [9.0, 6.0, 4.0, 3.0, 2.5] * 4,
    ],
    ids=["one spike", "two spikes", "near zero", "too few to say", "falling"],
)
def test_an_ordinary_course_is_no_divergence(values: list[float]) -> None:
    assert Vitals(losses(*values)).divergence == (0.0, "")


MEMORY = [
    (Reading(NOW, 134 << 30, 140 << 30, 60 << 30), "a: hardly any memory is left, 134.0/140.0 GiB "
     "of cuda:0"),
    (Reading(NOW, 90 << 30, 140 << 30, 137 << 30), "a: its peak takes 137.0/140.0 GiB of cuda:0"),
    (Reading(NOW, None, 140 << 30, 137 << 30), "a: its peak takes 137.0/140.0 GiB of cuda:0"),
    (Reading(NOW, 132 << 30, 140 << 30, 130 << 30), ""),
    (Reading(NOW, None, 140 << 30, None), ""),
]  # fmt: skip


@pytest.mark.parametrize(("reading", "words"), MEMORY)
def test_memory_near_its_limit_is_told(reading: Reading, words: str) -> None:
    calm = replace(WELL, memory={"cuda:0": Reading(NOW - 9, 1 << 30, 140 << 30, 1 << 30)})
    full = replace(WELL, memory={"cuda:0": reading})
    told = notices(of(LIVE, a=calm), of(LIVE, a=full), NOW, SINCE)
    assert [one.words for one in told] == ([words] if words else [])
    assert notices(of(LIVE, a=full), of(LIVE, a=full), NOW, SINCE) == []


def test_each_is_told_once_though_it_comes_and_goes() -> None:
    calm = replace(WELL, memory={"cuda:0": Reading(NOW, 1, 100, 1)})
    full = replace(WELL, memory={"cuda:0": Reading(NOW, 96, 100, 1)})
    bad = replace(full, losses=losses(math.nan))
    sitting = Notices(SINCE)
    course = [calm, full, calm, full, bad, full, bad]
    told = [len(sitting.look(of(LIVE, a=one), NOW)) for one in course]
    assert told == [0, 1, 0, 0, 1, 0, 0]
    quiet = of(LIVE, a=full)
    assert [len(sitting.look(quiet, NOW + wait)) for wait in (50, 70, 80, 900)] == [0, 1, 0, 0]
    spoke = of(replace(LIVE, last_event=NOW + 1000), a=full)
    assert [len(sitting.look(spoke, NOW + wait)) for wait in (1001, 1070)] == [0, 1]


def test_many_at_once_are_counted_the_worst_first() -> None:
    live = [replace(LIVE, id=f"r{n}", name=f"r{n}") for n in range(9)]
    ended = [replace(one, state="finished", ended=NOW) for one in live]
    ended[7] = replace(ended[7], state="failed", reason="no space left")
    sitting = Notices(SINCE)
    sitting.look(of(*live), NOW)
    told = sitting.look(of(*ended), NOW)
    assert len(told) == MOST and told[0].words == "r7 failed: no space left"
    assert told[-1].words == "and 7 more notices; screen Runs shows all runs"
    assert sitting.look(of(*ended), NOW) == []


# --- from the journal


def test_the_signs_of_a_live_run_come_from_its_journal(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=12, end=None)
    journal = Journal(folder.journal)
    for step, loss in ((13, 2.0), (14, math.nan)):
        journal.append("metrics", step=step, loss=loss, step_seconds=40.0)
    journal.append("warning", message="rows are left out")
    for used in (5, 99):
        journal.append("memory", device="cuda:0", used_bytes=used, total_bytes=100, peak_bytes=7)
    journal.append("memory", device="cuda:1", used_bytes=5, total_bytes=0, peak_bytes=None)
    store = open_store(home)
    ingest_all(home, store, live=False)
    found = vitals(store, list_runs(store)[0])
    assert [step for _, step, _ in found.losses] == list(range(1, 15))
    assert found.divergence[1] == "the loss is no number at step 14"
    assert found.memory.keys() == {"cuda:0"} and found.memory["cuda:0"].is_near_limit
    assert found.silence_limit == 200.0
    journal.append("warning", message="the loss is 9: the learning rate is multiplied by 0.5 from")
    journal.close()
    ingest_all(home, store, live=False)
    assert vitals(store, list_runs(store)[0]).divergence[1].startswith("the loss is 9")


# --- on the screen, and to the terminal


def live_and_ended() -> tuple[Snapshot, Snapshot]:
    run = row("live", step=57, max_steps=120)
    ended = replace(run, state="failed", reason="no space left", ended=NOW)
    return snapshot_of(RunDetail(run)), snapshot_of(RunDetail(ended))


def toasts(app: WorkbenchApp) -> list[str]:
    return [str(toast.render()) for toast in app.screen.query(Toast)]


@pytest.mark.parametrize("keys", ["1", "2", "3", "4", "5", "3Q", "2?", "2:", "2X"])
async def test_it_is_seen_on_whatever_screen_is_shown(keys: str, frozen_app: MakeApp) -> None:
    before, after = live_and_ended()
    feed = FrozenFeed(before)
    app = frozen_app(feed=feed)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settle(pilot)
        for key in keys:
            await pilot.press({"?": "question_mark", ":": "colon"}.get(key, key))
            await settle(pilot)
        feed.say(after)
        await settle(pilot)
        assert toasts(app) == ["live failed: no space left"]
        feed.say(after)
        await settle(pilot)
        assert len(toasts(app)) == 1


async def test_the_clock_alone_finds_a_stall_and_paints_nothing_otherwise(
    frozen_app: MakeApp,
) -> None:
    run = row("live", step=57, max_steps=120)
    world = replace(snapshot_of(RunDetail(run)), vitals={run.id: Vitals()})
    app = frozen_app(feed=FrozenFeed(world), mode="system")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settle(pilot)
        app.tell_notices()
        await settle(pilot)
        assert toasts(app) == []
        app.clock = lambda: NOW + 100
        app.tell_notices()
        await settle(pilot)
        assert toasts(app) == ["live says nothing for 1 min 41 s at step 57"]


async def test_the_terminal_is_told_only_where_asked(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    before, after = live_and_ended()
    for asked, rung in ((frozenset(), []), (frozenset({"bell"}), ["\x07"])):
        feed = FrozenFeed(before)
        app = frozen_app(feed=feed)
        app.notify_by = asked
        written: list[str] = []
        async with app.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            monkeypatch.setattr(type(app), "is_headless", False)
            monkeypatch.setattr(app._driver, "write", written.append)
            feed.say(after)
            await settle(pilot)
            monkeypatch.setattr(type(app), "is_headless", True)
        assert [text for text in written if "\x07" in text] == rung


def test_what_is_written_for_each_way() -> None:
    plain: dict[str, str] = {}
    words = ["big failed; no space", "one more"]
    assert ring(frozenset(), words, plain) == ""
    assert ring(frozenset({"bell"}), words, plain) == "\x07"
    assert ring(frozenset({"bell", "osc9"}), [], plain) == ""
    assert ring(frozenset({"osc9"}), words[:1], plain) == (
        "\x1b]9;tunebench: big failed; no space\x07"
    )
    assert ring(frozenset({"osc777", "bell"}), words[:1], plain) == (
        "\x1b]777;notify;tunebench;big failed, no space\x07\x07"
    )
    wrapped = ring(frozenset({"osc9", "bell"}), words[:1], {"TMUX": "/tmp/tmux,1,0"})
    assert wrapped == "\x1bPtmux;\x1b\x1b]9;tunebench: big failed; no space\x07\x1b\\\x07"


def test_hostile_words_stay_inside_their_sequence() -> None:
    written = ring(frozenset({"osc9", "osc777"}), [HOSTILE], {})
    assert written.count("\x1b") == 2 and written.count("\x07") == 2
    for text in written.replace("\x1b]", "").split("\x07"):
        assert text.isprintable() and len(text) < 140
    assert "EVIL" in written


def test_the_flag_goes_before_the_environment_and_unknown_words_are_refused() -> None:
    given = {"TUNEBENCH_NOTIFY": "bell, osc9"}
    assert ways(None, given) == {"bell", "osc9"}
    assert ways("osc777", given) == {"osc777"}
    assert ways("", given) == ways(None, {}) == frozenset()
    with pytest.raises(UsageError, match=r"--notify: 'sound' is none of bell, osc9, osc777"):
        ways("bell,sound", {})
    with pytest.raises(UsageError, match=r"TUNEBENCH_NOTIFY: 'x.y' is none of"):
        ways(None, {"TUNEBENCH_NOTIFY": "x\x1by"})


def test_an_unknown_word_ends_with_status_2(tmp_path: Any, capsys: Any, monkeypatch: Any) -> None:
    from tui.__main__ import main

    for stream in ("__stdin__", "__stderr__"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    assert main(["--home", str(tmp_path), "--notify", "horn"]) == 2
    assert "--notify: 'horn' is none of" in capsys.readouterr().err
