"""The workbench in a real terminal: tmux starts it, types, resizes, kills it, and looks."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.history.ingest import ingest_all
from engine.history.queries import list_runs
from engine.history.store import open_store
from engine.home import Home, open_home
from tests.tui.terminal import ROOT, PtyApp, Tmux, no_tmux

pytestmark = [pytest.mark.terminal, no_tmux, pytest.mark.xdist_group("terminal")]

TINY = """\
version = 1
name = "tiny"
[data]
source = "builtin:catalogue"
name = "tiny"
catalogue_rows = 1500
[format]
template = "chat"
[model]
model_name_or_path = "builtin:base"
backend = "transformers"
device = "cpu"
[train]
max_length = 64
per_device_train_batch_size = 4
max_steps = 6
eval_steps = 3
save_steps = 3
[evaluate]
before = false
validation_rows = 16
test_rows = 16
[generate]
max_new_tokens = 8
"""


@pytest.fixture
def ended(home: Home) -> Iterator[Callable[[], list[str]]]:
    """The states of the home's runs; whatever still runs at the end is killed."""

    def states() -> list[str]:
        store = open_store(home)
        ingest_all(home, store)
        return [row.state for row in list_runs(store)]

    yield states
    from engine.jobs.control import request
    from engine.jobs.launch import run_folders, wait_until_dead
    from engine.jobs.lock import is_alive

    for folder in run_folders(home):
        if is_alive(folder):
            request(folder, "kill")
            wait_until_dead(folder, 20)


def test_a_run_outlives_the_workbench_that_started_it(
    tmux: Tmux, home: Home, tmp_path: Path, ended: Callable[[], list[str]]
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY)
    tmux.start(home)
    tmux.wait("holds no run yet")
    tmux.wait("learning_rate")
    tmux.keys("e", "BTab")
    tmux.wait("leave the field")
    tmux.keys("C-u")
    tmux.type(str(recipe))
    tmux.keys("Enter")
    tmux.wait(r"max_steps +6 ")
    tmux.keys("Escape")
    tmux.wait("s start")
    tmux.keys("s")
    tmux.wait("Start tiny")
    tmux.keys("Enter")
    tmux.wait(r"tiny (starting|running)")

    os.kill(tmux.pid(), signal.SIGKILL)
    tmux.fresh()
    tmux.start(home)
    tmux.wait(r"(starting|running|finished) +tiny")
    shown = tmux.wait(r"finished +tiny", 300)
    assert "6/6" in shown and "100 %" in shown
    assert ended() == ["finished"]
    tmux.keys("3")
    tmux.wait(r"✓ finished .* 6/6 ")
    tmux.keys("Enter")
    tmux.wait(r"\[curves\]")


def test_resize_and_leaving_restore_what_was_there(tmux: Tmux, home: Home) -> None:
    tmux.run("new-session", "-d", "-s", "w", "-x", "120", "-y", "40", "sh")
    tmux.type("PS1='ready> '; echo before")
    tmux.keys("Enter")
    tmux.wait("before\n")
    tmux.type(f"PYTHONPATH={ROOT} {sys.executable} -m tui --home {home.path}; echo left with $?")
    tmux.keys("Enter")
    tmux.wait("holds no run yet")
    for columns, lines in ((80, 24), (60, 20), (200, 50), (120, 40)):
        tmux.run("resize-window", "-t", "w", "-x", str(columns), "-y", str(lines))
        shown = tmux.wait(r"\[2 Train\]")
        deadline = time.monotonic() + 20
        while (
            len(shown.rstrip("\n").split("\n")) != lines
            or "? help" not in shown.split("\n")[lines - 1]
        ):
            assert time.monotonic() < deadline, shown
            shown = tmux.screen()
    tmux.run("resize-window", "-t", "w", "-x", "50", "-y", "15")
    tmux.wait("terminal too small")
    tmux.run("resize-window", "-t", "w", "-x", "120", "-y", "40")
    tmux.wait("holds no run yet")
    tmux.keys("q")
    shown = tmux.wait("left with 0")
    assert "before" in shown and "Train" not in shown.replace("train", "")
    tmux.type("echo typed")
    tmux.keys("Enter")
    tmux.wait("\ntyped\n")


SGR = re.compile(r"\x1b\[([\d;]*)m")


def hues(text: str) -> set[str]:
    """The colours of a screen that are no grey."""
    found = set()
    for codes in SGR.findall(text):
        for kind, number in re.findall(r"\b([34]8;5);(\d+)", codes):
            grey = int(number) >= 232 or int(number) in (0, 7, 8, 15, 16, 59, 102, 145, 188, 231)
            found |= set() if grey else {f"{kind};{number}"}
        for number in re.sub(r"\b[34]8;[25];[\d;]+", "", codes).split(";"):
            if number and int(number) in {*range(31, 37), *range(41, 47), *range(91, 97)}:
                found.add(number)
    return found


@pytest.mark.parametrize("term", ["screen", "xterm", "linux", "xterm-256color"])
@pytest.mark.parametrize("colour", ["", "NO_COLOR=1"])
def test_other_terminals(term: str, colour: str, tmux: Tmux, home: Home) -> None:
    command = (
        f"{colour} TERM={term} PYTHONPATH={ROOT} exec {sys.executable} -m tui --home {home.path}"
    )
    tmux.run("new-session", "-d", "-s", "w", "-x", "80", "-y", "24", command)
    tmux.wait("holds no run yet")
    for key, title in zip("13452", ("Data", "Runs", "Play", "System", "Train"), strict=True):
        tmux.keys(key)
        shown = tmux.wait(rf"\[{key} {title}\]")
        assert "? help" in tmux.wait(r"\? help"), shown
    tmux.keys("f")
    tmux.wait(r"\[a\].*|a letter goes there|no pane or field")
    tmux.keys("Escape")
    tmux.wait(r"\? help")
    coloured = hues(tmux.run("capture-pane", "-e", "-p", "-t", "w"))
    assert bool(coloured) is not bool(colour), coloured


def test_it_ends_with_a_terminal_that_does_not_control_it(tmp_path: Path) -> None:
    """No SIGHUP comes there; the workbench waited for ever to write, at 60 % of a core."""
    with PtyApp(open_home(tmp_path / "home").path) as app:
        app.wait_for(rb"Recipe")
        assert app.hang_up(30) == 128 + signal.SIGHUP
