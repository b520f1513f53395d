"""A state machine of all that is done to a history, by two viewers at once, and a model of it.

After every step: the index, with what is new in the journals, equals one read anew from them into a
file of its own; and both say what the folders on the disk and the model say.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.errors import UserError
from engine.history import marks
from engine.history.agreement import disagreements
from engine.history.ingest import ingest, ingest_all, reindex
from engine.history.notes import add_note, add_tag, remove_tag
from engine.history.place import Place
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs import trash
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.launch import create_run
from engine.recipe import load_recipe

RECIPE = load_recipe("demo")
NAMES = ("oak", "elm", "ash", "fir", "yew")
TAGS = ("good", "bad", "-")
WORDS = st.sampled_from(["kept", "'; DROP TABLE notes; --", "<b>&", "日本", "x" * 500, '"', "\\"])

SCHEMA: list[bytes] = []
LOG: list[int] = []
"""Steps of each machine that ran, for whoever counts."""


@dataclass
class Run:
    """What the model knows of a run."""

    name: str
    steps: int = 0
    tags: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    starred: bool = False
    archived: bool = False


class Interleaving(RuleBasedStateMachine):
    """``at``: which run, of those that there are; ``who``: which of the two viewers."""

    at, who = st.integers(0, 9), st.integers(0, 1)

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="interleaving-"))
        self.home = open_home(self.folder / "home")
        self._empty(self.home.database)
        self.stores = [open_store(self.home), open_store(self.home)]
        self.runs: dict[str, Run] = {}
        self.trash: dict[str, Run] = {}
        self.count = itertools.count()
        self.steps = 0

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for store in self.stores:
                store.close()
            shutil.rmtree(self.folder)
            LOG.append(self.steps)

    # What people do

    @rule()
    def make(self) -> None:
        if len(self.runs) + len(self.trash) < 5:
            folder = create_run(self.home, RECIPE)
            self.runs[folder.id] = Run(folder.name)

    @precondition(lambda self: self.runs)
    @rule(at=at, name=st.sampled_from(NAMES))
    def rename(self, at: int, name: str) -> None:
        id = self._id(at)
        if any(run.name == name for other, run in self.runs.items() if other != id):
            with _refused("is taken"):
                marks.rename_run(self.home, id, name)
        else:
            marks.rename_run(self.home, id, name)
            self.runs[id].name = name

    @precondition(lambda self: self.runs)
    @rule(at=at, tag=st.sampled_from(TAGS), on=st.booleans())
    def tag(self, at: int, tag: str, on: bool) -> None:
        id = self._id(at)
        (add_tag if on else remove_tag)(self.home, id, tag)
        (self.runs[id].tags.add if on else self.runs[id].tags.discard)(tag)

    @precondition(lambda self: self.runs)
    @rule(at=at, words=WORDS)
    def note(self, at: int, words: str) -> None:
        id = self._id(at)
        add_note(self.home, id, words)
        self.runs[id].notes.append(words)

    @precondition(lambda self: self.runs)
    @rule(at=at, on=st.booleans())
    def star(self, at: int, on: bool) -> None:
        id = self._id(at)
        marks.star(self.home, id, on)
        self.runs[id].starred = on

    @precondition(lambda self: self.runs)
    @rule(at=at, on=st.booleans())
    def archive(self, at: int, on: bool) -> None:
        id = self._id(at)
        marks.archive(self.home, id, on)
        self.runs[id].archived = on

    @precondition(lambda self: self.runs)
    @rule(at=at)
    def delete(self, at: int) -> None:
        id = self._id(at)
        trash.move_to_trash(self.home, RunFolder(self.home.runs / id))
        self.trash[id] = self.runs.pop(id)

    @precondition(lambda self: self.trash)
    @rule(at=at)
    def restore(self, at: int) -> None:
        id = [*self.trash][at % len(self.trash)]
        if any(run.name == self.trash[id].name for run in self.runs.values()):
            with _refused("is taken by"):
                trash.restore(self.home, id)
        else:
            trash.restore(self.home, id)
            self.runs[id] = self.trash.pop(id)

    @precondition(lambda self: self.trash)
    @rule()
    def empty(self) -> None:
        trash.empty(self.home)
        self.trash.clear()

    # What runs do

    @precondition(lambda self: self.runs)
    @rule(at=at, lines=st.integers(1, 4), end=st.booleans())
    def train(self, at: int, lines: int, end: bool) -> None:
        id = self._id(at)
        run, journal = self.runs[id], Journal(self.home.runs / id / "events.jsonl")
        journal.append("state", state="running", max_steps=run.steps + lines, resume_step=run.steps)
        for _ in range(lines):
            run.steps += 1
            journal.append("metrics", step=run.steps, loss=1.0 / run.steps, oddity=run.steps)
        if end:
            journal.append("error", kind="nan", message="words of an error")
            journal.append("state", state="failed", steps=run.steps)
        journal.close()

    # What viewers do

    @rule(who=who, limit=st.sampled_from([1, 3, 20_000]))
    def look(self, who: int, limit: int) -> None:
        ingest(self.home, self.stores[who], limit_lines=limit, live=False)

    @rule(who=who)
    def look_whole(self, who: int) -> None:
        store = self.stores[who]
        ingest_all(self.home, store, live=False)
        assert not store.warnings and not store.in_memory
        with self._anew() as anew:
            assert disagreements(store.connection, anew.connection) == []
        self._check(store)

    @rule(who=who)
    def read_all_again(self, who: int) -> None:
        assert reindex(self.home, self.stores[who]) == len(self.runs)

    @rule(who=who)
    def open_again(self, who: int) -> None:
        self.stores[who].close()
        self.stores[who] = open_store(self.home)

    @rule()
    def lose_the_index(self) -> None:
        for path in self.home.path.glob("runs.db*"):
            if path.suffix != ".lock":
                path.unlink()

    # What must hold

    @invariant()
    def equals_one_read_anew(self) -> None:
        if not hasattr(self, "stores"):
            return
        self.steps += 1
        copy = self.folder / f"copy-{next(self.count)}.db"
        if self.home.database.exists():
            with closing(open_store(self.home)) as store:
                store.connection.execute("VACUUM INTO ?", (str(copy),))
        else:
            self._empty(copy)
        with (
            closing(Store(self.home, place=Place(copy, wal=False))) as store,
            self._anew() as anew,
        ):
            store.connection.execute("PRAGMA synchronous = OFF")
            ingest_all(self.home, store, live=False)
            assert disagreements(store.connection, anew.connection) == []
            self._check(store)
        copy.unlink()
        there = {path.name for path in self.home.runs.iterdir() if path.is_dir()}
        assert there == set(self.runs)
        assert {run.id for run in trash.trashed(self.home)} == set(self.trash)
        for id, run in self.runs.items():
            assert RunFolder(self.home.runs / id).name == run.name

    def _check(self, store: Store) -> None:
        """The model's runs, and no others, with all that was said of them."""
        rows = store.query("SELECT id, name, coalesce(step, 0) FROM runs")
        assert sorted(rows) == sorted((id, run.name, run.steps) for id, run in self.runs.items())
        for id, run in (self.runs | self.trash).items():

            def ask(sql: str, id: str = id) -> list[str]:
                return sorted(text for (text,) in store.query(sql, (id,)))

            assert ask("SELECT tag FROM tags WHERE run = ?") == sorted(run.tags)
            assert ask("SELECT text FROM notes WHERE run = ?") == sorted(run.notes)
            assert bool(ask("SELECT run FROM stars WHERE run = ?")) is run.starred
            assert bool(ask("SELECT run FROM archived WHERE run = ?")) is run.archived
        steps = store.query("SELECT run, count(*) FROM metrics GROUP BY run ORDER BY run")
        told = [(id, run.steps) for id, run in self.runs.items() if run.steps]
        assert steps == sorted(told)

    def _empty(self, path: Path) -> None:
        """A database of today's schema, made once: making one takes 50 ms."""
        if not SCHEMA:
            with closing(Store(Home(self.folder / "none"), place=Place(path, wal=False))):
                pass
            SCHEMA.append(path.read_bytes())
        path.write_bytes(SCHEMA[0])

    @contextmanager
    def _anew(self) -> Iterator[Store]:
        path = self.folder / f"anew-{next(self.count)}.db"
        self._empty(path)
        with closing(Store(self.home, place=Place(path, wal=False))) as store:
            store.connection.execute("PRAGMA synchronous = OFF")
            ingest_all(self.home, store, live=False)
            yield store
        path.unlink()

    def _id(self, at: int) -> str:
        return [*self.runs][at % len(self.runs)]  # not by id: these are others at every replay


@contextmanager
def _refused(words: str) -> Iterator[None]:
    event(f"refused: {words}")
    try:
        yield
    except UserError as error:
        assert words in str(error)
    else:
        raise AssertionError(f"not refused, though {words}")
