"""The feed over a real store: what changed is said once, and only when something did."""

import json
import queue
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.home import Home
from tui.feed import Changed, Snapshot, StoreFeed


def add_run(home: Home, name: str, steps: int) -> str:
    folder = home.runs / f"20251122-0816-{name}"
    folder.mkdir()
    folder.joinpath("run.json").write_text(json.dumps({"name": name, "created": time.time()}))
    folder.joinpath("recipe.toml").write_text('name = "x"\n')
    folder.joinpath("worker.log").write_text("hello\n")
    write(home, folder.name, {"type": "state", "state": "running", "max_steps": 100})
    for step in range(1, steps + 1):
        write(home, folder.name, {"type": "metrics", "step": step, "loss": 3.0 - step / 100})
    write(home, folder.name, {"type": "state", "state": "finished", "steps": steps})
    return folder.name


def write(home: Home, id: str, event: dict[str, Any]) -> None:
    with (home.runs / id / "events.jsonl").open("a") as file:
        file.write(json.dumps({"v": 1, "t": time.time(), "attempt": 1, **event}) + "\n")


class Listener:
    def __init__(self, home: Home) -> None:
        self.messages: queue.Queue[Changed] = queue.Queue()
        self.feed = StoreFeed(home)
        self.feed.start(self.messages.put)

    def until(self, wanted: Any, seconds: float = 20.0) -> Snapshot:
        deadline = time.monotonic() + seconds
        while True:
            snapshot = self.messages.get(timeout=max(0.01, deadline - time.monotonic())).snapshot
            if wanted(snapshot):
                return snapshot


@pytest.fixture
def listener(home: Home) -> Iterator[Listener]:
    made = Listener(home)
    yield made
    made.feed.stop()


def test_an_empty_home_is_said_to_be_empty(listener: Listener) -> None:
    snapshot = listener.until(lambda found: found.loaded)
    assert snapshot.rows == [] and not snapshot.error


def test_new_runs_details_and_deletions_arrive(listener: Listener, home: Home) -> None:
    listener.until(lambda found: found.loaded)
    id = add_run(home, "one", 5)
    snapshot = listener.until(lambda found: found.rows)
    assert [row.name for row in snapshot.rows] == ["one"] and not snapshot.details
    listener.feed.watch(frozenset({id}))
    detail = listener.until(lambda found: found.details).details[id]
    assert detail.series["loss"][0].tolist() == [1, 2, 3, 4, 5]
    assert detail.log == ["hello"] and detail.recipe == 'name = "x"\n'
    (home.runs / id / "worker.log").write_text("hello\nmore\n")
    snapshot = listener.until(lambda found: found.details[id].log[-1] == "more")
    (home.runs / id).rename(home.runs / f".gone-{id}")
    assert listener.until(lambda found: not found.rows).details == {}


def test_kin_ends_notes_tags_and_events_arrive(home: Home) -> None:
    from engine.history.notes import add_note, add_tag
    from engine.recipe import load_recipe

    parent, child = add_run(home, "one", 2), add_run(home, "two", 2)
    for id, settings in ((parent, []), (child, ["train.max_steps=7"])):
        recipe = load_recipe("demo", settings).to_toml()
        (home.runs / id / "recipe.toml").write_text(recipe)
    (home.runs / child / "run.json").write_text(
        json.dumps({"name": "two", "created": time.time(), "parent": parent})
    )
    error = {"type": "error", "kind": "out_of_memory", "message": "none left", "tried": "a lot"}
    suggestion = {"words": "less", "settings": {"train.max_length": 64}}
    write(home, child, {**error, "attempt": 2, "suggestion": suggestion})
    write(home, child, {"type": "state", "state": "failed", "attempt": 2})
    made = Listener(home)
    try:
        made.feed.watch(frozenset({parent, child}))
        found = made.until(lambda found: len(found.details) == 2).details[child]
        assert found.changes == [("train.max_steps", 120, 7)]
        assert found.ending == [("tried", "a lot"), ("next", "less")] and found.suggested
        assert [one["type"] for one in found.events][-2:] == ["error", "state"]
        add_note(home, child, "hot")
        add_tag(home, parent, "keep")
        found_all = made.until(lambda found: found.tags and found.details[child].notes)
        assert found_all.tags == {parent: ("keep",)}
        assert found_all.details[parent].tags == ["keep"]
        assert [one["text"] for one in found_all.details[child].notes] == ["hot"]
    finally:
        made.feed.stop()


def test_nothing_is_said_when_nothing_changed(listener: Listener, home: Home) -> None:
    add_run(home, "one", 2)
    listener.until(lambda found: found.rows)
    with pytest.raises(queue.Empty):
        while True:  # what was under way may still arrive; then there must be silence
            listener.messages.get(timeout=1.5)


def test_a_store_that_cannot_be_read_is_said_and_tried_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.history import ingest

    def locked(*_: object) -> set[str]:
        raise sqlite3.OperationalError("database is locked")

    reads = ingest.ingest
    monkeypatch.setattr(ingest, "ingest", locked)
    made = Listener(home)
    try:
        assert made.until(lambda found: found.error).error == "database is locked"
        monkeypatch.setattr(ingest, "ingest", reads)
        assert made.until(lambda found: found.loaded and not found.error).rows == []
    finally:
        made.feed.stop()


def test_what_another_viewer_read_is_news_here_too(listener: Listener, home: Home) -> None:
    """Two workbenches: the one that comes second to the journals shows what the first one read."""
    from engine.history.ingest import ingest_all
    from engine.history.store import open_store

    id = add_run(home, "one", 3)
    listener.until(lambda found: [row.id for row in found.rows] == [id])
    other = open_store(home)
    for step in range(4, 9):
        write(home, id, {"type": "metrics", "step": step, "loss": 1.0})
        ingest_all(home, other, live=False)
        listener.until(lambda found, step=step: found.rows and found.rows[0].step == step)
    other.close()


def test_a_locked_store_is_said_once(
    listener: Listener, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.history import store

    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.0)
    id = add_run(home, "one", 3)
    listener.until(lambda found: found.rows)
    listener.feed._reader.store.connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[union-attr]
    with sqlite3.connect(home.database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        write(home, id, {"type": "metrics", "step": 4, "loss": 1.0})
        found = listener.until(lambda found: found.warnings)
        assert "locked by another program" in found.warnings[0]
        assert found.rows[0].step == 4 or listener.until(lambda found: found.rows[0].step == 4)
        other.execute("ROLLBACK")
    other.close()
