"""Votes: journaled whole, counted whichever side a column stood on, never a crash of the ingest."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.history.ingest import ingest_all, reindex
from engine.history.store import Store, open_store
from engine.history.votes import (
    VERDICTS,
    Side,
    add_vote,
    get_vote,
    set_vote_note,
    votes,
    wilson,
    win_rates,
    withdraw_vote,
)
from engine.home import Home, open_home
from tests.engine.fakes import runs

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b[31mred\x1b[0m [bold]\u202eevil\x00 \ud800\r\n'; DROP TABLE votes;--"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path)


def read(home: Home) -> Store:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return store


def side(column: str, text: str = "an answer", **more: Any) -> Side:
    return Side(column, column.title(), text, {"seed": 3, "temperature": 0.5}, "eos", 12, **more)


def vote(home: Home, left: str, right: str, verdict: str, **more: Any) -> str:
    values: dict[str, Any] = {"prompt": "Blue kettle", "prompt_set": "", **more}
    return add_vote(home, left=side(left), right=side(right), verdict=verdict, **values)


def test_a_vote_comes_back_whole_and_survives_a_lost_database(home: Home) -> None:
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi 🙂"}]
    left = Side("run-1@200", "tuned", "líne\n<|eot_id|>", {"seed": 7, "top_p": 0.9}, "length", 99)
    right = Side("builtin:base", "base", "", {"seed": 7}, None, None)
    id = add_vote(
        home,
        prompt=prompt,
        prompt_set="kettles",
        left=left,
        right=right,
        verdict="both bad",
        note="neither",
        blind=False,
        reference="A kettle.",
        index=41,
    )
    store = read(home)
    [found] = votes(store)
    assert (found.id, found.prompt, found.prompt_set) == (id, prompt, "kettles")
    assert (found.left, found.right, found.verdict) == (left, right, "both bad")
    assert (found.note, found.blind, found.reference) == ("neither", False, "A kettle.")
    assert (found.index, found.winner) == (41, None)
    assert abs(found.t - time.time()) < 60
    store.close()
    home.database.unlink()
    store = read(home)
    assert votes(store) == [found]
    reindex(home, store)
    assert votes(store) == [found]


def test_votes_count_whichever_side_a_column_stood_on(home: Home) -> None:
    vote(home, "alpha", "beta", "left")
    vote(home, "beta", "alpha", "right")
    vote(home, "beta", "alpha", "left", prompt_set="kettles")
    vote(home, "alpha", "beta", "tie", prompt_set="kettles")
    vote(home, "beta", "alpha", "both bad")
    vote(home, "gamma", "beta", "left")
    store = read(home)
    first, second = win_rates(store)
    assert (first.a, first.b, first.a_label, first.b_label) == ("alpha", "beta", "Alpha", "Beta")
    assert (first.a_wins, first.b_wins, first.ties, first.both_bad) == (2, 1, 1, 1)
    assert (first.votes, first.decided, first.rate) == (5, 3, 1 / 3)
    assert (second.a, second.b, second.b_wins, second.rate) == ("beta", "gamma", 1, 1.0)
    [kettles] = win_rates(store, prompt_set="kettles")
    assert (kettles.b_wins, kettles.a_wins, kettles.ties) == (1, 0, 1)
    assert kettles.prompt_set == "kettles"
    by_set = {(r.a, r.prompt_set): r.votes for r in win_rates(store, by_set=True)}
    assert by_set == {("alpha", ""): 3, ("alpha", "kettles"): 2, ("beta", ""): 1}
    assert len(votes(store, prompt_set="kettles")) == 2
    assert len(votes(store, columns=["beta"])) == 6
    assert len(votes(store, columns=["alpha", "gamma", "beta"])) == 6
    assert len(votes(store, columns=["alpha", "beta"])) == 5
    assert votes(store, columns=[]) == []
    assert [found.verdict for found in votes(store, limit=1)] == ["left"]


def test_the_rate_is_the_runs_where_the_other_is_a_base(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=1)
    base = "zz/base"  # sorts behind the run
    for verdict in ("left", "left", "right"):
        vote(home, f"{folder.id}@1", base, verdict)
    [rate] = win_rates(read(home))
    assert (rate.a, rate.b) == (base, f"{folder.id}@1")
    assert rate.rate == 2 / 3


def test_random_votes_add_up(home: Home) -> None:
    rng, want = random.Random(1), {name: 0 for name in ("a", "b", "tie", "both bad")}
    for _ in range(60):
        one, other = rng.sample(["a", "b"], 2)
        verdict = rng.choice(VERDICTS)
        vote(home, one, other, verdict)
        want[{"left": one, "right": other}.get(verdict, verdict)] += 1
    [rate] = win_rates(read(home))
    assert (rate.a_wins, rate.b_wins, rate.ties, rate.both_bad) == tuple(want.values())


@pytest.mark.parametrize(
    ("wins", "decided", "low", "high"),
    # By statsmodels' proportion_confint(method="wilson").
    [(0, 10, 0.0, 0.277533), (7, 10, 0.396778, 0.892209), (14, 20, 0.481027, 0.854523)],
)
def test_wilsons_interval(wins: int, decided: int, low: float, high: float) -> None:
    assert wilson(wins, decided) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_no_decided_vote_has_no_rate(home: Home) -> None:
    vote(home, "a", "b", "tie")
    [rate] = win_rates(read(home))
    assert (rate.rate, rate.low, rate.high) == (None, None, None)
    assert wilson(3, 3)[1] == 1.0


def test_a_vote_is_taken_back_and_its_note_changed(home: Home) -> None:
    first, second = vote(home, "a", "b", "left"), vote(home, "a", "b", "right", note="hm")
    store = read(home)
    set_vote_note(home, second, "for its length")
    withdraw_vote(home, first)
    withdraw_vote(home, "unknown")
    ingest_all(home, store, live=False)
    [found] = votes(store)
    assert (found.id, found.note) == (second, "for its length")
    assert get_vote(store, second[:6]) == found
    with pytest.raises(UserError, match="is no vote"):
        get_vote(store, first)
    with pytest.raises(UserError):
        get_vote(store, "")
    reindex(home, store)
    assert votes(store) == [found]


def test_what_is_no_vote_is_refused(home: Home) -> None:
    with pytest.raises(ValueError, match="verdict"):
        vote(home, "a", "b", "better")
    with pytest.raises(ValueError, match="prompt"):
        vote(home, "a", "b", "left", prompt=[])
    with pytest.raises(UserError, match="of one column"):
        vote(home, "a", "a", "left")
    with pytest.raises(UserError, match="at most 16 MiB"):
        vote(home, "a", "b", "left", prompt="é" * (9 << 20))
    vote(home, "a", "b", "left")
    assert len(votes(read(home))) == 1


WRITER = """
import sys
from pathlib import Path
from engine.history.votes import Side, add_vote
from engine.home import Home

home, name = Home(Path(sys.argv[1])), sys.argv[2]
for n in range(50):
    sides = {"left": Side(name, name, "x"), "right": Side("other", "other", "y")}
    add_vote(home, prompt="p", prompt_set="", verdict="left", note=f"{name} {n}", **sides)
"""


def test_two_writers_at_once_lose_nothing(home: Home) -> None:
    # (Not by multiprocessing: it leaves a process behind, which other tests would find.)
    command = [sys.executable, "-c", WRITER, str(home.path)]
    writers = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = votes(read(home))
    assert {each.note for each in found} == {f"{n} {i}" for n in ("one", "two") for i in range(50)}
    assert len({each.id for each in found}) == 100


def test_a_torn_last_line_costs_only_itself(home: Home) -> None:
    vote(home, "a", "b", "left")
    line = home.journal.read_bytes()
    with home.journal.open("ab") as file:
        file.write(line[: len(line) // 2])
    store = read(home)
    assert len(votes(store)) == 1
    vote(home, "a", "b", "right")
    ingest_all(home, store, live=False)
    assert [found.verdict for found in votes(store)] == ["right", "left"]


def test_events_of_another_time_are_taken_as_far_as_they_go(home: Home) -> None:
    sides = {"left": {"column": "a"}, "right": {"column": "b"}}
    whole = {"type": "vote", "id": "v1", "prompt": "p", "verdict": "left", **sides}
    deep = "as deep as the line's reader takes, which is deeper than a writer does"
    odd = [
        {**whole, "v": 2, "stars": 5, "left": {"column": "a", "text": 3, "sampling": [], "x": {}}},
        {**whole, "id": "v12", "more": deep, "right": {"column": "b", "sampling": {"x": deep}}},
        {"type": "bench", "document": {"id": "x", "deep": deep}},
        {"type": "prompt", "id": "p", "prompt": [{"role": deep, "content": ""}]},
        {**whole, "id": "v2", "verdict": "much better"},
        {**whole, "id": "v3", "verdict": ["left"]},
        {**whole, "id": "v4", "left": None},
        {**whole, "id": "v5", "right": {"label": "b"}},
        {**whole, "id": "v6", "right": {"column": "a"}},
        {**whole, "id": ["v7"]},
        {**whole, "id": "v8", "prompt": 7},
        {**whole, "id": "v9", "prompt": [{"role": "user"}]},
        {**whole, "id": "v10", "t": "soon", "note": {}, "blind": "no", "prompt_set": 3},
        {**whole, "id": "v11", "t": 10**30, "index": "x", "reference": []},
        {k: v for k, v in whole.items() if k != "prompt"},
        {"type": "vote"},
        {"type": "vote_note", "vote": "v1"},
        {"type": "vote_note", "vote": ["v1"], "text": "x"},
        {"type": "unvote"},
        {"type": "unvote", "vote": {"id": "v1"}},
        {"type": "vote_of_the_future", "id": "v1"},
        {"type": "note", "run": ["x"], "id": "n", "text": "t"},
        {"type": "tag", "run": {}, "tag": "t"},
        {"type": "bench", "document": {"id": {}}},
        {"type": "vote", "id": "v1", "prompt": "another", "verdict": "right", **sides},
    ]
    lines = "".join(json.dumps(event) + "\n" for event in odd)
    home.journal.write_text(lines.replace(json.dumps(deep), "[" * 1000 + "]" * 1000))
    vote(home, "a", "b", "left")
    store = read(home)
    known = {found.id: found for found in votes(store)}
    assert known.keys() >= {"v1", "v10", "v11", "v12"} and len(known) == 5
    assert known["v1"].verdict == "left" and known["v1"].left == Side("a", "a", "")
    assert known["v10"].t == 0.0 and known["v10"].note == ""
    [rate] = win_rates(store)
    assert rate.a_wins == 5
    sql = "SELECT unreadable FROM journals WHERE run = ''"
    assert store.query(sql)[0][0] > 10


def test_hostile_text_comes_back_as_it_was(home: Home) -> None:
    left = Side(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: float("nan")}, HOSTILE, 2**80)
    right = side("b")
    add_vote(
        home,
        prompt=HOSTILE,
        prompt_set=HOSTILE,
        left=left,
        right=right,
        verdict="left",
        note=HOSTILE,
    )
    store = read(home)
    [found] = votes(store)
    want = HOSTILE.replace("\ud800", "?")
    assert found.prompt == found.note == found.prompt_set == found.left.column == want
    assert found.left.sampling == {want: "NaN"} and found.left.tokens is None
    [rate] = win_rates(store, prompt_set=want)
    assert rate.votes == 1 and want in (rate.a, rate.b)


@pytest.mark.slow
def test_a_hundred_thousand_votes_are_counted_in_a_moment(home: Home) -> None:
    rng = random.Random(2)
    with home.journal.open("w") as file:
        for number in range(100_000):
            one, other = rng.sample([f"run-{n}" for n in range(8)], 2)
            sides = {
                name: {"column": column, "label": column, "text": "word " * 120, "sampling": {}}
                for name, column in (("left", one), ("right", other))
            }
            event = {"v": 1, "t": 1e9 + number, "type": "vote", "id": f"{number:016x}"}
            event |= {"prompt": "Blue kettle", "prompt_set": f"set {number % 20}", **sides}
            file.write(json.dumps({**event, "verdict": rng.choice(VERDICTS)}) + "\n")
    began = time.perf_counter()
    store = read(home)
    took = time.perf_counter() - began
    assert took < 30, took
    for by_set in (False, True):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            rates = win_rates(store, by_set=by_set)
            times.append(time.perf_counter() - began)
        assert sum(rate.votes for rate in rates) == 100_000
        print(f"ingest {took:.1f} s, by_set={by_set}: {min(times) * 1e3:.0f} ms")
        assert min(times) < 0.1, times
