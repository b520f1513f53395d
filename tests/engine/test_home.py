"""The home and the folder for sockets are ours alone."""

import os
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import UserError
from engine.history.notes import add_note
from engine.home import open_home, runtime_folder


def test_the_home_journal_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        home = open_home(tmp_path / "home")
        add_note(home, "run", "text")
    finally:
        os.umask(before)
    assert home.journal.stat().st_mode & 0o777 == 0o600
    for folder in (home.path, home.runs, home.datasets, home.queue):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_runtime_folder_is_no_link_and_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = runtime_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)
    with pytest.raises(UserError, match="open to others"):
        runtime_folder()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="remove it"):
        runtime_folder()
    folder.unlink()
    folder.write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        runtime_folder()


READERS = (
    "runs", "runs list", "runs list is:live", "runs tree", "runs show R", "runs show R --card",
    "runs compare R", "runs diff R S", "runs why R S", "runs trash", "runs restore R",
    "runs prune --keep best", "runs backup FILE", "runs export --to FILE.csv", "runs note R words",
    "runs tag R keep", "runs rename R S", "runs star R", "runs archive R", "runs rm R --yes",
    "runs repeat R", "reindex", "stop R", "resume R", "tail R", "queue", "queue list",
    "queue move R first", "queue rm R", "queue pause", "queue resume", "queue run", "preview D",
    "export R --to adapter --out FILE", "evaluate R", "prompts", "prompts list", "prompts show P",
    "prompts rm P --yes", "prompts history", "votes", "votes list", "votes export FILE.csv",
    "votes note V words", "votes rm V",
)  # fmt: skip


@pytest.mark.parametrize("words", READERS)
def test_a_mistyped_home_is_not_made_by_a_command_that_only_reads_or_changes(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEBENCH_HOME", raising=False)
    assert main([*words.split(), "--home", "mistyped"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert f"{tmp_path / 'mistyped'}: no such folder" in err and "--home DIR" in err
    assert "TUNEBENCH_HOME" not in err

    monkeypatch.setenv("TUNEBENCH_HOME", "elsewhere")
    assert main(words.split()) == 1
    assert f"$TUNEBENCH_HOME: {tmp_path / 'elsewhere'}: no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_begins_something_makes_its_home(tmp_path: Path) -> None:
    begun = {
        "clean": ["clean", "builtin:catalogue", "--dry-run"],
        "prompts": ["prompts", "add", "mine", str(tmp_path / "prompts.txt")],
        "restore": ["runs", "backup", str(tmp_path / "copy.tar.gz"), "--restore"],
        "import": ["runs", "import", str(tmp_path / "nothing-here")],
    }
    (tmp_path / "prompts.txt").write_text("Write.\n")
    (tmp_path / "copied").mkdir()
    copy = ["runs", "backup", str(tmp_path / "copy.tar.gz"), "--with-journals"]
    assert main([*copy, "--home", str(tmp_path / "copied")]) == 0
    for name, words in begun.items():
        main([*words, "--home", str(tmp_path / name)])
        assert (tmp_path / name / "runs").is_dir(), name
    for words in (
        ["prompts", "add", "mine", str(tmp_path / "none.txt")],
        ["runs", "backup", str(tmp_path / "none.tar.gz"), "--restore"],
        ["queue", "add", "nobody"],
    ):
        assert main([*words, "--home", str(tmp_path / "nowhere")]) == 1, words
        assert not (tmp_path / "nowhere").exists(), words
    (tmp_path / "bare").mkdir()
    assert main(["runs", "list", "--home", str(tmp_path / "bare")]) == 0
