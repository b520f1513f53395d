"""What the screens know about runs, read by one thread and handed over as one message a tick.

The thread owns its sqlite connection: it ingests new journal lines, queries what the visible screen
watches, and posts a :class:`Changed` only when something changed. Widgets never touch the store.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from textual.message import Message

from engine.history.row import ENDS
from engine.home import Home
from tui.bandwidth import SLOW_SECONDS, Link

if TYPE_CHECKING:
    from engine.history.fields import Facts
    from engine.history.queries import SweepRow
    from engine.history.question import Question
    from engine.history.row import RunRow
    from engine.history.settings import Settings
    from engine.history.vitals import Vitals
    from tui.rundetail import DetailReader

__all__ = ["Changed", "Feed", "RunDetail", "Snapshot", "StoreFeed"]

TICK_SECONDS = 0.5
FEW = 32
"""So many runs are read again one by one; of more, all."""


@dataclass(frozen=True)
class RunDetail:
    """Everything the Train screen and the detail view show of one run."""

    row: "RunRow"
    series: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Metric name -> (steps, values), numpy arrays of equal length."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    """The attempt's latest warnings and errors: dicts with ``type``, ``text`` and ``event``."""
    controls: list[dict[str, Any]] = field(default_factory=list)
    """The attempt's latest requests that were taken, or came too late: ``control`` events."""
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Device -> its latest reading by the attempt: ``used_bytes``, ``total_bytes``, ..."""
    ending: list[tuple[str, str]] = field(default_factory=list)
    """Of a run that ended by an error: (label, words) of what was tried, missing, and is next."""
    suggested: bool = False
    """The end suggests another recipe to go on with."""
    recipe: str = ""
    """recipe.toml as it is in the run's folder."""
    log: list[str] = field(default_factory=list)
    """Last lines of worker.log, progress bars collapsed; not yet made safe."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """The last states, warnings, ..., of all attempts: dicts with ``t``, ``type``, ``text``."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    changes: list[tuple[str, Any, Any]] = field(default_factory=list)
    """Key of the recipe, the parent's value, this run's value, where they differ."""


@dataclass(frozen=True)
class Snapshot:
    """The state of the world at one tick."""

    rows: list["RunRow"] = field(default_factory=list)
    """All runs, newest first."""
    details: dict[str, RunDetail] = field(default_factory=dict)
    """Of the watched runs."""
    loaded: bool = False
    """False before the first look at the store."""
    error: str = ""
    """Why the store cannot be read."""
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Run's id -> its tags."""
    benches: list[dict[str, Any]] = field(default_factory=list)
    """The last bench of each device of this machine, newest first."""
    vitals: "dict[str, Vitals]" = field(default_factory=dict)
    """Of every run that lives."""
    starred: frozenset[str] = frozenset()
    """Ids of runs."""
    archived: frozenset[str] = frozenset()
    noted: frozenset[str] = frozenset()
    settings: "Settings | None" = None
    """What all recipes say; None before they were read."""
    warnings: tuple[str, ...] = ()
    """What is to be said of the store, such as that another program has it locked."""

    @cached_property
    def sweeps(self) -> "dict[str, SweepRow]":
        """The groups of runs that were made together, by name."""
        from engine.history.queries import sweeps_of

        return {sweep.id: sweep for sweep in sweeps_of(self.rows)}

    @cached_property
    def by_id(self) -> "dict[str, RunRow]":
        return {row.id: row for row in self.rows}

    @cached_property
    def facts(self) -> "Facts":
        """What a question to the history can ask beside the rows."""
        from engine.history.fields import Facts
        from engine.history.settings import Settings

        settings = self.settings or Settings()
        return Facts(settings, self.tags, self.starred, self.archived, self.noted)

    @cached_property
    def live(self) -> list["RunRow"]:
        """Runs that have not ended."""
        return [row for row in self.rows if row.state not in ENDS]


@dataclass
class Changed(Message):
    """Something changed; the whole new state comes along."""

    snapshot: Snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Changed)


class Feed(Protocol):
    """Where the app gets its snapshots from (the store, or frozen data in tests)."""

    def start(self, post: Callable[[Message], Any]) -> None: ...
    def watch(self, run_ids: frozenset[str]) -> None: ...
    def look_up(self, question: "Question") -> None: ...
    def stop(self) -> None: ...


class StoreFeed:
    """The real feed: a thread over ``runs.db`` and the journals."""

    def __init__(self, home: Home, link: Link | None = None) -> None:
        self.home = home
        self._link = link or Link()
        self._watched: frozenset[str] = frozenset()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._reader: _Reader | None = None

    def start(self, post: Callable[[Message], Any]) -> None:
        self._thread = threading.Thread(target=self._run, args=(post,), name="feed", daemon=True)
        self._thread.start()

    def watch(self, run_ids: frozenset[str]) -> None:
        """These runs' details come with the snapshots from now on; the next one comes at once."""
        if run_ids != self._watched:
            self._watched = run_ids
            self._wake.set()

    def look_up(self, question: "Question") -> None:
        """Do a question's full-text searches; called in a thread, never on the event loop."""
        if self._reader is not None and (store := self._reader.store) is not None:
            question.look_up(store)

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=2)

    def _may_tell(self, now: Snapshot, told: Snapshot) -> bool:
        at_once = not self._link.low or _happened(now) != _happened(told)
        return self._link.due("feed", 0.0 if at_once else SLOW_SECONDS)

    def _run(self, post: Callable[[Message], Any]) -> None:
        try:
            from engine.history import benches, ingest, queries, settings, store, vitals
            from tui.rundetail import DetailReader
        except ImportError:
            post(Changed(Snapshot(loaded=True)))
            return
        details = DetailReader(self.home, queries)
        reader = _Reader(self.home, store, ingest, queries, benches, vitals, details)
        reader.read_settings = settings.read_settings
        self._reader = reader
        held, told = None, Snapshot()
        while not self._stopped:
            began = time.monotonic()
            self._wake.clear()
            try:
                snapshot = reader.look(self._watched)
            except Exception as error:  # a locked or broken store is shown, and tried again
                snapshot = reader.failed(error)
            held = snapshot or held
            if held is not None and not self._stopped and self._may_tell(held, told):
                held.sweeps, held.by_id  # noqa: B018  # made here, not on the event loop
                post(Changed(held))
                told, held = held, None
            if not reader.more:
                self._wake.wait(max(0.05, TICK_SECONDS - (time.monotonic() - began)))


def _happened(snapshot: Snapshot) -> tuple[Any, ...]:
    """What is told at once over a slow link too: all but more steps and more lines of a log."""
    return (
        snapshot.loaded,
        snapshot.error,
        [(row.id, row.state, row.phase, row.attempt) for row in snapshot.rows],
        {
            id: (one.controls, one.notices, one.notes, one.samples, len(one.evaluations))
            for id, one in snapshot.details.items()
        },
        snapshot.tags,
        snapshot.benches,
        snapshot.warnings,
    )


class _Reader:
    """One look at the store after the other; says None when nothing changed."""

    def __init__(
        self,
        home: Home,
        store: Any,
        ingest: Any,
        queries: Any,
        benches: Any,
        vitals: Any,
        details: "DetailReader",
    ) -> None:
        self._details, self._benches, self._vitals = details, benches, vitals.vitals
        self.read_settings: Any = None
        self.home, self._ingest, self._queries, self._open = home, ingest, queries, store.open_store
        self.store: Any = None
        self._last = Snapshot()
        self._listed: Any = None
        """The connection over which all runs were listed."""
        self._logs: dict[str, tuple[int, int]] = {}
        self._stale: set[str] = set()
        self._not_before: dict[str, float] = {}

    def look(self, watched: frozenset[str]) -> Snapshot | None:
        if self.store is None:
            self.store = self._open(self.home)
        changed = set(self._ingest.ingest(self.home, self.store))
        annotated = "" in changed  # notes and tags, of whichever run, or a bench
        logs = {id for id in watched if self._log_changed(id)}  # all of them are looked at
        self._stale |= {id for id in watched if annotated or id in changed or id in logs}
        new = {id for id in watched if id not in self._last.details}
        now = time.monotonic()
        wanted = new | {id for id in self._stale & watched if now >= self._not_before.get(id, 0)}
        warnings = tuple(self.store.warnings)
        idle = self._last.loaded and not self._last.error and self._last.settings is not None
        if idle and not changed and not wanted and warnings == self._last.warnings:
            return None
        first = not self._last.loaded
        rows, tags, benches = self._rows(changed), self._last.tags, self._last.benches
        marks = {name: getattr(self._last, name) for name in ("starred", "archived", "noted")}
        if annotated or not self._last.loaded:
            tags = self._queries.tags_of_runs(self.store)
            benches = self._benches.latest_benches(self.store, os.uname().nodename)
            marks = {
                "starred": self._queries.starred(self.store),
                "archived": self._queries.archived(self.store),
                "noted": self._queries.noted(self.store),
            }
        known = {row.id: row for row in rows}
        details = {
            id: self._timed_detail(known[id]) if id in wanted else self._last.details[id]
            for id in watched
            if id in known
        }
        self._stale -= wanted | (self._stale - watched)
        self._stale |= {id for id in details if self._details.unfinished(id)}
        vitals = {
            row.id: self._last.vitals[row.id]
            if row.id in self._last.vitals and row.id not in changed
            else self._vitals(self.store, row)
            for row in rows
            if row.state not in ENDS and row.state != "queued"
        }
        self._last = Snapshot(
            rows, details, True, "", tags, benches, vitals, **marks,
            settings=None if first else self._settings(changed), warnings=warnings,
        )  # fmt: skip
        return self._last

    def _settings(self, changed: set[str]) -> Any:
        """What all recipes say. Not in the first snapshot: of 10,000 runs they take 0.2 s."""
        before, runs = self._last.settings, changed - {""}
        if before is None:
            return self.read_settings(self.store)
        # A run's recipe is written once, before its journal: only of new ones it is to be read.
        new = {run for run in runs if run not in before or run not in self._last.by_id}
        return self.read_settings(self.store, before, new) if new else before

    def _rows(self, changed: set[str]) -> "list[RunRow]":
        """All runs. Of a history that was listed before, only those that changed are read again:
        1,000 take 20 ms."""
        listed, self._listed = self._listed, self.store.connection
        runs, before = changed - {""}, self._last.rows
        if "" in changed:  # a note, or perhaps another name
            names = self._queries.names(self.store)
            runs |= {row.id for row in before if names.get(row.id, row.name) != row.name}
        if listed is self._listed and self._last.loaded:
            if not runs:
                return before
            if len(runs) <= FEW:
                now = {row.id: row for row in self._queries.runs_of(self.store, runs)}
                rows = [now.get(row.id, row) for row in before]
                if now.keys() == runs <= {row.id for row in before}:
                    return rows
        return self._queries.list_runs(self.store)

    @property
    def more(self) -> bool:
        """There is more to ingest, or of curves to read: look again at once."""
        reading = self._last.loaded and self._last.settings is None
        reading |= any(map(self._details.unfinished, self._last.details))
        return self.store is not None and (self.store.more or reading)

    def failed(self, error: Exception) -> Snapshot | None:
        words = str(error) or type(error).__name__
        if self._last.error == words:
            return None
        self.store = None
        self._last = replace(self._last, loaded=True, error=words)
        return self._last

    def _folder(self, id: str) -> Path:
        return self.home.runs / id

    def _log_changed(self, id: str) -> bool:
        try:
            info = (self._folder(id) / "worker.log").stat()
        except OSError:
            return False
        now = (info.st_size, info.st_mtime_ns)
        before = self._logs.get(id)
        self._logs[id] = now
        return before is not None and before != now

    def _timed_detail(self, row: "RunRow") -> RunDetail:
        """A long run's curves are read less often: at most a tenth of the time goes there."""
        began = time.thread_time()  # not what others take of the machine
        found = self._details.read(self.store, row)
        spent = time.thread_time() - began
        later = 0.0 if self._details.unfinished(row.id) else 9 * spent
        self._not_before[row.id] = time.monotonic() + later
        return found
