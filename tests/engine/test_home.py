"""The home and the folder for sockets are ours alone."""

import os
from pathlib import Path

import pytest

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
