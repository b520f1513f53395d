"""A home on a network file system: its index lies on this machine's disk, and nothing is lost."""

import errno
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.errors import UserError
from engine.history import place, queries
from engine.history.ingest import ingest_all, reindex
from engine.history.notes import add_note
from engine.history.place import place_of
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs import lock
from engine.system import mounts, surroundings
from engine.system.mounts import file_system, is_network
from tests.engine.fakes import runs

ROOT = Path(__file__).parents[2]


class Table:
    """A made-up table of mounts: what lies under a path, on the devices that are really there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = ["27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"]
        self._write()

    def mount(self, folder: Path, kind: str, device: str = "") -> None:
        number = folder.stat().st_dev
        device = device or f"{os.major(number)}:{os.minor(number)}"
        name = str(folder).replace(" ", "\\040")
        self.lines.append(f"42 27 {device} / {name} rw,nosuid shared:1 - {kind} there:/x rw")
        self._write()

    def _write(self) -> None:
        self.path.write_text("\n".join(self.lines) + "\n")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """The mounts as this process is told they are; the cache folder is one of the test's own."""
    made = Table(tmp_path / "mountinfo")
    monkeypatch.setattr(mounts, "MOUNTS", made.path)
    monkeypatch.setattr(place, "SPARE", tmp_path / "spare")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNEBENCH_INDEX", raising=False)
    (tmp_path / "spare").mkdir()
    return made


@pytest.fixture
def remote(table: Table, tmp_path: Path) -> Home:
    """A home that lies on NFS, as far as the mounts tell."""
    home = open_home(tmp_path / "far away" / "home")
    table.mount(tmp_path / "far away", "nfs4")
    return home


def mode(store: Store) -> str:
    return store.query("PRAGMA journal_mode")[0][0]


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *(("nfs", True), ("nfs4", True), ("cifs", True), ("smb3", True), ("9p", True)),
        *(("lustre", True), ("ceph", True), ("fuse.sshfs", True), ("virtiofs", True)),
        *(("fuse.something-new", True), ("fuse", True), ("fuse.mergerfs", False)),
        *(("ext4", False), ("xfs", False), ("btrfs", False), ("tmpfs", False), ("", False)),
        *(("overlay", False), ("zfs", False), ("fuseblk", False)),
    ],
)
def test_which_kinds_other_machines_see(kind: str, network: bool) -> None:
    assert is_network(kind) is network


def test_the_mount_is_found_in_the_kernels_table(table: Table, tmp_path: Path) -> None:
    inner = tmp_path / "a b" / "c"
    inner.mkdir(parents=True)
    assert file_system(inner) == "ext4"
    table.mount(tmp_path / "a b", "nfs4")
    assert file_system(inner) == file_system(inner / "not" / "there") == "nfs4"
    (tmp_path / "link").symlink_to(inner)
    assert file_system(tmp_path / "link") == "nfs4"
    table.mount(inner, "xfs", device="9:9")  # hidden: the folder is not on that device
    assert file_system(inner) == "nfs4"
    table.mount(inner, "tmpfs")
    assert file_system(inner) == "tmpfs" and file_system(tmp_path / "a b") == "nfs4"
    table.mount(inner, "cifs")  # on top of it: the last one counts
    assert file_system(inner) == "cifs"
    table.path.unlink()
    assert file_system("/proc") == "proc", "asked of psutil where there is no table"


def test_a_local_home_keeps_its_index(table: Table, tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    store = open_store(home)
    assert store.path == home.database and mode(store) == "wal" and not store.warnings
    assert not (tmp_path / "cache").exists()


def test_the_index_of_a_remote_home_lies_in_the_cache(remote: Home, tmp_path: Path) -> None:
    folder = runs.write_run(remote, "one", steps=5)
    add_note(remote, folder.id, "kept")
    store = open_store(remote)
    ingest_all(remote, store)
    assert mode(store) == "wal"
    assert store.path.is_relative_to(tmp_path / "cache" / "tunebench")
    assert "home lies on a network file system (nfs4)" in store.warnings[0]
    assert not list(remote.path.glob("runs.db*")), "nothing of SQLite's on the network"
    for path in (store.path.parent, store.path.parent.parent.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    again = open_store(remote)
    assert queries.get_run(again, "one").step == 5
    assert [note["text"] for note in queries.notes(again, folder.id)] == ["kept"]
    assert not again.warnings, "said once, when the index was made"


def test_two_homes_of_one_name_have_an_index_each(
    table: Table, remote: Home, tmp_path: Path
) -> None:
    other = open_home(tmp_path / "far away" / "b" / "home")
    assert place_of(remote).path != place_of(other).path


def test_a_cache_that_lies_on_the_network_too_is_passed_over(
    table: Table, remote: Home, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    table.mount(tmp_path / "cache", "nfs4")
    found = place_of(remote)
    assert found.wal and found.path.is_relative_to(tmp_path / "spare")
    table.mount(tmp_path / "spare", "nfs4")
    found = place_of(remote)
    assert not found.wal and "without WAL" in found.words
    assert found.path.is_relative_to(tmp_path / "cache") and os.uname().nodename in str(found.path)
    runs.write_run(remote, "one", steps=5)
    store = open_store(remote)
    ingest_all(remote, store)
    assert mode(store) == "delete" and queries.get_run(store, "one").step == 5


def test_a_cache_folder_of_somebody_else_is_not_used(remote: Home, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache" / "tunebench").symlink_to(tmp_path / "elsewhere")
    assert place_of(remote).path.is_relative_to(tmp_path / "spare")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_old_index_in_wal_is_taken_out_of_it_where_one_insists(
    remote: Home, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, table.lines = table.lines, table.lines[:1]
    table._write()
    folder = runs.write_run(remote, "one", steps=5)  # when it still was a local disk
    store = open_store(remote)
    ingest_all(remote, store)
    assert mode(store) == "wal"
    store.close()
    table.lines = lines
    table._write()
    monkeypatch.setenv("TUNEBENCH_INDEX", "home")
    store = open_store(remote)
    assert mode(store) == "delete" and store.path == remote.database
    assert queries.get_run(store, "one").step == 5
    assert not list(remote.path.glob("runs.db-*")), "no memory shared through the network"
    add_note(remote, folder.id, "note")
    other = open_store(remote)
    assert ingest_all(remote, other) == {""} and mode(other) == "delete"
    assert [note["text"] for note in queries.notes(store, folder.id)] == ["note"]
    assert reindex(remote, store) == 1
    store.close()
    other.close()
    monkeypatch.delenv("TUNEBENCH_INDEX")
    table.lines = lines[:1]
    table._write()
    assert mode(open_store(remote)) == "wal", "back on a local disk"


def test_the_place_can_be_chosen(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(tmp_path / "home")
    monkeypatch.setenv("TUNEBENCH_INDEX", "cache")
    assert place_of(home).path.is_relative_to(tmp_path / "cache")
    monkeypatch.setenv("TUNEBENCH_INDEX", str(tmp_path / "mine"))
    assert place_of(home).path.is_relative_to(tmp_path / "mine") and place_of(home).wal
    monkeypatch.setenv("TUNEBENCH_INDEX", "mine")
    with pytest.raises(UserError, match="TUNEBENCH_INDEX=mine: write home, cache or"):
        open_store(home)


def test_a_journal_on_the_network_seen_from_two_machines(
    remote: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each has its own cache folder; each sees what the other noted."""
    folder = runs.write_run(remote, "one", steps=5)
    here = open_store(remote)
    ingest_all(remote, here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other machine"))
    there = open_store(remote)
    assert there.path != here.path
    ingest_all(remote, there)
    for number, text in enumerate(("from here", "from there")):
        add_note(remote, folder.id, text)
        for store in (here, there):
            assert "" in ingest_all(remote, store)
            assert len(queries.notes(store, folder.id)) == number + 1


def no_flock(fd: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_home_without_file_locks_can_be_looked_at_and_not_written(
    remote: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.write_run(remote, "one", steps=5, end=None)
    folder.lock.touch()
    done = runs.write_run(remote, "two", steps=5)
    add_note(remote, done.id, "before")
    real = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        fd = file if isinstance(file, int) else file.fileno()
        if Path(os.readlink(f"/proc/self/fd/{fd}")).is_relative_to(remote.path):
            no_flock(fd, operation)
        real(fd, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    ok, words, advice = surroundings.file_locks(remote)
    assert not ok and "No locks available" in words and "--home" in advice
    store = open_store(remote)
    ingest_all(remote, store)
    assert queries.get_run(store, "one").state == "running", "nobody can tell that it is lost"
    assert [note["text"] for note in queries.notes(store, done.id)] == ["before"]
    assert any("file locks do not work" in words for words in store.warnings)
    before = remote.journal.read_bytes()
    with pytest.raises(UserError, match="file locks do not work here"):
        add_note(remote, done.id, "after")
    assert remote.journal.read_bytes() == before
    from engine.jobs.launch import take_locks

    with pytest.raises(UserError, match="file locks do not work here"):
        take_locks(folder)


def test_locks_that_are_granted_to_two_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(tmp_path)
    assert surroundings.file_locks(home) == (True, "file locks are granted and kept", "")
    monkeypatch.setattr(surroundings.fcntl, "flock", lambda fd, operation: None)
    ok, words, _ = surroundings.file_locks(home)
    assert not ok and "granted to two at once" in words
    assert not list(home.path.glob(".lock-*"))


def test_an_index_that_cannot_be_locked_is_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(tmp_path)
    runs.write_run(home, "one", steps=5)
    monkeypatch.setattr(lock.fcntl, "flock", no_flock)
    store = open_store(home)
    ingest_all(home, store)
    assert queries.get_run(store, "one").step == 5
    assert store.in_memory and "read into memory" in store.warnings[0]


def test_doctor_tells_where_the_index_is(
    remote: Home, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs.write_run(remote, "one", steps=5)
    assert cli.main(["runs", "list", "--home", str(remote.path)]) == 0
    captured = capsys.readouterr()
    assert "one" in captured.out and "network file system (nfs4)" in captured.err
    cli.main(["doctor", "--json", "--home", str(remote.path)])
    told = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert told["file system"]["advice"]
    assert str(tmp_path / "cache" / "tunebench") in told["index"]["words"]


def test_the_place_costs_next_to_nothing_to_find(tmp_path: Path) -> None:
    """No psutil, no subprocess: every start asks."""
    script = (
        "import sys, time; from engine.home import open_home; "
        "from engine.history.place import place_of; home = open_home(sys.argv[1]); "
        "place_of(home); began = time.perf_counter(); place_of(home); "
        "print(time.perf_counter() - began, 'psutil' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    seconds, psutil = subprocess.check_output(command, cwd=ROOT, text=True).split()
    assert psutil == "False" and float(seconds) < 0.02


def test_sqlite_itself_can_read_the_index_without_wal(
    remote: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Datasette and the like are given where one insists on the home."""
    monkeypatch.setenv("TUNEBENCH_INDEX", "home")
    runs.write_run(remote, "one", steps=5)
    store = open_store(remote)
    ingest_all(remote, store)
    with sqlite3.connect(f"file:{remote.database}?mode=ro", uri=True) as other:
        assert other.execute("SELECT count(*) FROM metrics").fetchone() == (5,)
