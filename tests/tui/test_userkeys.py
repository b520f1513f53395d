"""Keys of one's own: what may be wished for, what is refused, and that the program obeys."""

from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.home import open_home
from tests.tui.terminal import PtyApp
from tui import keymap
from tui.userkeys import keys_file, load_user_keys, with_keys


def keys(actions: tuple[keymap.Action, ...], screen: str, id: str) -> tuple[str, ...]:
    return next(a.keys for a in actions if a.screen == screen and a.id == id)


def test_actions_get_the_keys_that_are_wished_for() -> None:
    found = with_keys(
        {"everywhere": {"leave": ";"}, "train": {"stop": ["X", "ctrl+t"], "start": "S",
                                                 "smoothing": "s"}}
    )  # fmt: skip
    assert keys(found, "", "leave") == ("semicolon",)
    assert keys(found, "train", "stop") == ("X", "ctrl+t")
    assert keys(found, "train", "start") == ("S",) and keys(found, "train", "smoothing") == ("s",)
    assert keys(found, "runs", "stop") == ("X",), "another screen's"
    assert [a.id for a in found] == [a.id for a in keymap.ACTIONS]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"trian": {}}, r"\[trian\]: no such screen; did you mean train\?"),
        ({"train": {"stopp": "x"}}, r"\[train\] stopp: no such action; did you mean stop\?"),
        ({"train": {"stop": "s"}}, r"\[train\]: s is both start \(.*\) and stop \(.*\); give one"),
        ({"data": {"find": "q"}}, r"\[data\]: q is both find .* and leave"),
        ({"train": {"stop": "alt+x"}}, r"\[train\] stop: alt\+x is no key; letters"),
        ({"train": {"stop": 3}}, r"\[train\] stop: a key is wanted"),
        ({"train": {"stop": []}}, r"\[train\] stop: a key is wanted"),
        ({"train": 3}, r"train: a table is wanted"),
        ({"play": {"send": "x"}}, r"\[play\] send: x types a letter in the prompt"),
        ({"everywhere": {"leave": "ctrl+s"}}, r"leave: ctrl\+s cannot be taken: it stops"),
        ({"everywhere": {"leave": "esc"}}, r"leave: esc cannot be taken"),
        ({"train": {"stop": "\x1b]52;x"}}, r"\[train\] stop: [^\x1b]* is no key"),
    ],
)
def test_what_cannot_be_is_said(wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        with_keys(wanted)


def test_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keymap, "ACTIONS", keymap.ACTIONS)
    file = keys_file({"XDG_CONFIG_HOME": str(tmp_path)})
    assert file == tmp_path / "tunebench" / "keys.toml"
    assert keys_file({}) == Path.home() / ".config" / "tunebench" / "keys.toml"
    before = keymap.ACTIONS
    load_user_keys(file)
    assert keymap.ACTIONS is before, "there is none"
    file.parent.mkdir()
    file.write_text("[train]\nstop = x\n")
    with pytest.raises(UsageError, match=r"keys\.toml: no TOML: .*line 2"):
        load_user_keys(file)
    file.write_text('[train]\nstop = "s"\n')
    with pytest.raises(UsageError, match=r"keys\.toml: \[train\]: s is both"):
        load_user_keys(file)
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        load_user_keys(file)
    assert keymap.ACTIONS is before, "nothing is half taken"
    file.write_text('[everywhere]\ngo_data = "!"\n')
    load_user_keys(file)
    assert keymap.key_of("go_data") == "!"


def test_the_program_obeys_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config" / "tunebench" / "keys.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[everywhere]\nleave = "Q"\ngo_system = "!"\n[runs]\nqueue = "B"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = open_home(tmp_path / "home")
    with PtyApp(home.path) as app:
        app.wait_for(rb"! .{0,40}System")
        app.quiet()
        app.press("q")
        app.press("!")
        app.wait_for(rb"This machine")
        assert app.process.poll() is None
        app.press("Q")
        assert app.ended() == 0, app.written[-3000:].decode()


def test_a_wrong_file_keeps_the_terminal_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    from tui import __main__ as program

    file = tmp_path / "tunebench" / "keys.toml"
    file.parent.mkdir()
    file.write_text('[train]\nstopp = "x"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(program.sys, "__stdin__", terminal)
    monkeypatch.setattr(program.sys, "__stderr__", terminal)
    assert program.main(["--home", str(tmp_path / "home")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "stopp: no such action; did you mean stop?" in said.err
    assert str(file) in said.err
