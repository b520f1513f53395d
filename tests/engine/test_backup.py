"""runs backup: one file that is whole or not there, and the way back, from any file at all."""

import io
import json
import os
import resource
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine import cli
from engine.errors import UserError
from engine.history import backup, queries, restoring
from engine.history.agreement import disagreements, read_anew
from engine.history.backup import back_up_index, back_up_journals
from engine.history.ingest import ingest_all
from engine.history.marks import rename_run, star
from engine.history.notes import add_note, add_tag, remove_tag
from engine.history.restoring import restore_backup
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.jobs.trash import move_to_trash
from tests.engine.fakes import runs


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = open_home(tmp_path / "home")
    for number in range(3):
        folder = runs.write_run(home, f"run-{number}", steps=20)
        (folder.checkpoints / "step-20").mkdir(parents=True)
        (folder.checkpoints / "step-20" / "weights").write_bytes(os.urandom(1 << 20))
    add_note(home, folder.id, "a note")
    add_tag(home, folder.id, "good")
    star(home, folder.id)
    rename_run(home, folder.id, "renamed")
    return home


def opened(home: Home) -> Store:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return store


def same(one: Store, other: Store) -> bool:
    """But for how far which file was read."""
    for store in (one, other):
        with store.transaction() as connection:
            connection.execute("UPDATE journals SET inode = 0, device = 0")
    return disagreements(one.connection, other.connection) == []


def test_a_copy_of_the_index_holds_what_the_index_holds(home: Home, tmp_path: Path) -> None:
    store = opened(home)
    target = tmp_path / "copy.db"
    size = back_up_index(store, target)
    assert size == target.stat().st_size and target.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".copy*"))
    with sqlite3.connect(f"file:{target}?mode=ro", uri=True) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert disagreements(store.connection, copy) == []
        assert copy.execute("SELECT count(*) FROM metrics").fetchone() == (60,)


def test_nothing_is_written_over_unless_one_insists(home: Home, tmp_path: Path) -> None:
    store = opened(home)
    target = tmp_path / "copy"
    target.write_text("mine")
    for write in (back_up_index, back_up_journals):
        with pytest.raises(UserError, match="is there already; name another file, or add --force"):
            write(store, target)
    assert target.read_text() == "mine"
    back_up_index(store, target, force=True)
    assert target.read_bytes().startswith(b"SQLite format 3")
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is there already"):
        back_up_index(store, dangling)
    back_up_index(store, dangling, force=True)
    assert not dangling.is_symlink() and not (tmp_path / "elsewhere").exists()
    with pytest.raises(UserError, match="is a folder"):
        back_up_index(store, tmp_path, force=True)
    with pytest.raises(UserError, match="cannot be written"):
        back_up_index(store, tmp_path / "not" / "there")


@pytest.mark.parametrize(
    "name", ["runs.db", "runs.db-wal", "journal.jsonl", "runs/copy", "queue/x.json", "trash/y"]
)
def test_the_homes_own_files_are_never_written_over(home: Home, name: str) -> None:
    store = opened(home)
    before = home.journal.read_bytes()
    for write in (back_up_index, back_up_journals):
        with pytest.raises(UserError, match="place of the home's own"):
            write(store, home.path / name, force=True)
    link = home.path / "other-name"
    os.link(home.journal, link)
    with pytest.raises(UserError, match="place of the home's own"):
        back_up_index(store, link, force=True)
    assert home.journal.read_bytes() == before and len(queries.list_runs(store)) == 3
    assert not list(home.path.rglob("*.part"))


def test_one_that_takes_the_name_meanwhile_is_not_written_over(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(home)
    target = tmp_path / "copy.db"
    real = backup.sync

    def sync(path: Path) -> None:
        real(path)
        if path.name.endswith(".part"):
            target.write_text("quicker")

    monkeypatch.setattr(backup, "sync", sync)
    with pytest.raises(UserError, match="is there by now"):
        back_up_index(store, target)
    assert target.read_text() == "quicker" and not list(tmp_path.glob("*.part"))


def test_a_disk_that_takes_no_more_leaves_nothing_behind(home: Home, tmp_path: Path) -> None:
    """By the limit on a file's size: the write in the middle fails, as on a full disk."""
    store = opened(home)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write, limit in ((back_up_index, 16384), (back_up_journals, 1024)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(UserError, match="cannot be written"):
                write(store, tmp_path / "copy")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert len(queries.list_runs(store)) == 3 and not store.in_memory


def test_journals_go_and_come_back(home: Home, tmp_path: Path) -> None:
    store = opened(home)
    file = tmp_path / "copy.tar.gz"
    size, count = back_up_journals(store, file)
    assert count == 3 and size == file.stat().st_size < 100_000, "no checkpoints"
    assert file.stat().st_mode & 0o777 == 0o600
    other = open_home(tmp_path / "other")
    found = restore_backup(other, file)
    assert len(found.runs) == 3 and found.events == 4 and not found.refused
    back = opened(other)
    assert same(store, back)
    row = queries.get_run(back, "renamed")
    assert [note["text"] for note in queries.notes(back, row.id)] == ["a note"]
    assert queries.tags(back, row.id) == ["good"] and row.id in queries.starred(back)
    for path in other.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.name.startswith("runs.db")
    again = restore_backup(other, file)
    assert not again.runs and len(again.there) == 3 and again.events == 0


def test_what_the_home_has_stays_as_it_is(home: Home, tmp_path: Path) -> None:
    """A younger home: one run went on, one is in the trash, one is gone, one's name is taken."""
    store = opened(home)
    by_name = {row.name: row.id for row in queries.list_runs(store)}
    file = tmp_path / "copy.tar.gz"
    back_up_journals(store, file)
    store.close()
    went_on = RunFolder(home.runs / by_name["run-0"])
    with went_on.journal.open("a") as journal:
        journal.write('{"v":1,"t":9e9,"type":"warning","message":"later"}\n')
    move_to_trash(home, RunFolder(home.runs / by_name["run-1"]))
    remove_tag(home, by_name["renamed"], "good")
    lines = home.journal.read_bytes().splitlines(keepends=True)
    home.journal.write_bytes(b"".join(lines[1:]))  # the note is lost, the tag is taken away later
    before = went_on.journal.read_bytes()
    found = restore_backup(home, file)
    assert not found.runs and len(found.there) == 3 and found.events == 1
    assert went_on.journal.read_bytes() == before
    store = opened(home)
    assert [note["text"] for note in queries.notes(store, by_name["renamed"])] == ["a note"]
    assert queries.tags(store, by_name["renamed"]) == [], "an older event does not come last"
    assert len(list(home.path.glob("journal.jsonl.before-*"))) == 1
    with read_anew(home) as anew:
        assert disagreements(store.connection, anew.connection) == []


def test_a_name_that_is_taken_is_said_and_not_doubled(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar.gz"
    back_up_journals(opened(home), file)
    other = open_home(tmp_path / "other")
    mine = runs.write_run(other, "run-0", steps=2)
    found = restore_backup(other, file)
    assert len(found.runs) == 2
    [words] = found.refused
    assert f"its name 'run-0' is taken by {mine.id}" in words


def test_a_journal_that_grows_is_copied_up_to_its_last_whole_line(
    home: Home, tmp_path: Path
) -> None:
    store = opened(home)
    folder = RunFolder(home.runs / queries.get_run(store, "run-0").id)
    whole = folder.journal.read_bytes()
    with folder.journal.open("ab") as file:
        file.write(b'{"type":"metrics","step":21,' + b" " * 200_000)
    target = tmp_path / "copy.tar.gz"
    back_up_journals(store, target)
    with tarfile.open(target) as tar:
        member = tar.extractfile(f"runs/{folder.id}/events.jsonl")
        assert member is not None and member.read() == whole
        assert all(not info.uname and not info.uid for info in tar)


def test_links_are_not_followed_out_of_the_home(home: Home, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = RunFolder(home.runs / queries.get_run(opened(home), "run-0").id)
    folder.recipe_file.unlink()
    folder.recipe_file.symlink_to(tmp_path / "secret")
    target = tmp_path / "copy.tar.gz"
    with pytest.raises(UserError, match=r"recipe\.toml: cannot be read"):
        back_up_journals(opened(home), target)
    assert not target.exists()


HEAD = json.dumps({"v": 1, "kind": "tunebench backup"}).encode()
IDENTITY = json.dumps({"v": 1, "id": "r1", "name": "one", "created": 1.0}).encode()
Members = Sequence[tuple[tarfile.TarInfo | str, bytes]]


def info(name: str, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = type, link
    return made


GOOD = ("runs/good/run.json", IDENTITY.replace(b"r1", b"good").replace(b"one", b"good"))


def archive(path: Path, members: Members, head: bytes | None = HEAD) -> Path:
    first = [] if head is None else [("backup.json", head)]
    with tarfile.open(path, "w:gz") as tar:
        for name, data in [*first, GOOD, *members]:
            member = info(name) if isinstance(name, str) else name
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def long_header(path: Path) -> Path:
    """A list of names that says it has 8 GiB, which some readers try to take into memory."""
    member = info("x", tarfile.XHDTYPE)
    member.size = 8 << 30
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info("backup.json"), io.BytesIO(b""))
        assert tar.fileobj is not None
        tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
    return path


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "up": lambda path: archive(path, [("runs/../../evil", b"x")]),
    "up by id": lambda path: archive(path, [("runs/../run.json", IDENTITY)]),
    "dots": lambda path: archive(path, [("runs/./run.json", IDENTITY)]),
    "absolute": lambda path: archive(path, [("/tmp/evil", b"x")]),
    "hidden": lambda path: archive(path, [("runs/.lock/run.json", IDENTITY)]),
    "other file": lambda path: archive(path, [("runs/r1/adapter/weights", b"x")]),
    "another name": lambda path: archive(path, [("runs.db", b"x")]),
    "newline": lambda path: archive(path, [("runs/r1/run.json\n", IDENTITY)]),
    "link": lambda path: archive(
        path, [(info("runs/r1/run.json", tarfile.SYMTYPE, "/etc/passwd"), b"")]
    ),
    "hard link": lambda path: archive(
        path, [(info("runs/r1/run.json", tarfile.LNKTYPE, "/etc/passwd"), b"")]
    ),
    "folder": lambda path: archive(path, [(info("runs/r1/run.json", tarfile.DIRTYPE), b"")]),
    "device": lambda path: archive(path, [(info("runs/r1/run.json", tarfile.CHRTYPE), b"")]),
    "pipe": lambda path: archive(path, [(info("journal.jsonl", tarfile.FIFOTYPE), b"")]),
    "twice": lambda path: archive(path, [("journal.jsonl", b"{}\n"), ("journal.jsonl", b"{}\n")]),
    "no head": lambda path: archive(path, [("runs/r1/run.json", IDENTITY)], head=None),
    "odd head": lambda path: archive(path, [], head=b"[" * 100_000),
    "other kind": lambda path: archive(path, [], head=b'{"v":1,"kind":"wandb"}'),
    "newer": lambda path: archive(path, [], head=b'{"v":2,"kind":"tunebench backup"}'),
    "large": lambda path: archive(path, [("runs/r1/run.json", b" " * (9 << 20))]),
    "long header": long_header,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_copy_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    """Each holds a good run first, which is not restored either."""
    home = open_home(tmp_path / "home")
    before = sorted(home.path.rglob("*"))
    file = HOSTILE[kind](tmp_path / "copy.tar.gz")
    with pytest.raises(UserError, match=r"copy\.tar\.gz: "):
        restore_backup(home, file)
    left = [path for path in sorted(home.path.rglob("*")) if path not in before]
    assert left == [] and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "flipped"])
def test_a_damaged_copy_restores_nothing(damage: str, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar.gz"
    back_up_journals(opened(home), file)
    data = file.read_bytes()
    middle = len(data) // 2
    file.write_bytes(
        {
            "truncated": data[:middle],
            "text": b"no archive\n",
            "empty": b"",
            "flipped": data[:middle] + bytes(64) + data[middle + 64 :],
        }[damage]
    )
    other = open_home(tmp_path / "other")
    with pytest.raises(UserError, match="nothing was restored"):
        restore_backup(other, file)
    assert list(other.runs.iterdir()) == [] and not other.journal.exists()


@pytest.mark.parametrize(
    "identity",
    [b"{", b'{"id":"other","name":"one"}', b'{"id":"r1","name":"../one"}', b'{"id":"r1"}', b"[]"],
)
def test_a_run_that_is_none_is_left_out(identity: bytes, tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    good = IDENTITY.replace(b"r1", b"r2")
    file = archive(
        tmp_path / "copy.tar.gz", [("runs/r1/run.json", identity), ("runs/r2/run.json", good)]
    )
    found = restore_backup(home, file)
    assert found.runs == ["good", "r2"] and "r1: its run.json" in found.refused[0]
    assert sorted(p.name for p in home.runs.iterdir() if p.is_dir()) == ["good", "r2"]


def test_no_room_is_said_before_anything_is_written(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "copy.tar.gz"
    back_up_journals(opened(home), file)
    monkeypatch.setattr(restoring, "SPARE_BYTES", 1 << 60)
    other = open_home(tmp_path / "other")
    with pytest.raises(UserError, match="there is no room"):
        restore_backup(other, file)
    assert list(other.runs.iterdir()) == []


def test_the_command(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--home", str(home.path)]
    assert cli.main(["runs", "backup", str(tmp_path / "copy.db"), *at]) == 0
    assert "for reading only" in capsys.readouterr().out
    file = tmp_path / "copy.tar.gz"
    command = ["runs", "backup", str(file), "--with-journals", "--json", *at]
    assert cli.main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "file": str(file), "bytes": file.stat().st_size, "runs": 3, "journals": True,
    }  # fmt: skip
    assert cli.main(command) == 1
    assert "add --force" in capsys.readouterr().err
    other = ["--json", "--home", str(tmp_path / "other")]
    assert cli.main(["runs", "backup", str(file), "--restore", *other]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["runs"]) == 3 and told["events"] == 4
    assert cli.main(["runs", "backup", str(file), "--restore", "--force", *other]) == 2
    assert cli.main(["runs", "backup", str(tmp_path / "none"), "--restore", *other]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.tar.gz", "x.TGZ", "x.tar"])
def test_no_index_under_the_name_of_an_archive(
    name: str, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    command = ["runs", "backup", str(file), "--home", str(home.path)]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert "--with-journals" in said and ".db" in said and str(file) in said
    assert not file.exists()
    assert cli.main([*command, "--with-journals"]) == 0


def test_a_copy_of_the_index_says_that_nothing_can_be_restored_from_it(
    home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "copy.tar.gz"  # as older versions named it
    back_up_index(opened(home), file)
    other = open_home(tmp_path / "other")
    with pytest.raises(UserError, match=r"copy of the index.*for reading only.*--with-journals"):
        restore_backup(other, file)
    assert list(other.runs.iterdir()) == []


def test_a_copy_comes_back_through_a_pipe(home: Home, tmp_path: Path) -> None:
    file, pipe = tmp_path / "copy.tar.gz", tmp_path / "pipe"
    back_up_journals(opened(home), file)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    writer.start()
    assert len(restore_backup(open_home(tmp_path / "other"), pipe).runs) == 3
    writer.join()
