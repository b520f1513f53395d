"""A terminal's life around a live run: detached, resized, suspended, closed, two at once, crashed.

The run is a real one (supervisor, worker, lock, journal) of a worker without torch, which stands
still at a step until the test lets it go on.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.home import Home
from engine.jobs import launch
from engine.jobs.control import request
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.lock import is_alive
from tests.engine.fakes import runs
from tests.tui.terminal import ROOT, Tmux, no_tmux

pytestmark = [pytest.mark.terminal, no_tmux, pytest.mark.xdist_group("terminal")]

STEPS, GATE = 400, 101
SIZES = ((80, 24), (60, 20), (200, 50), (120, 40))
SANE = ("icanon", "echo", "isig", "iexten", "opost", "icrnl")
"""What ``stty`` says of a terminal that a shell can use."""


@dataclass
class Live:
    """A run that waits before step :data:`GATE`."""

    folder: RunFolder

    def go_on(self) -> None:
        (self.folder.path / "gate").touch()

    def tell(self, step: int) -> None:
        """One more line in its journal, as if it had made this step."""
        journal = Journal(self.folder.journal, beside=True)
        journal.append("metrics", step=step, loss=2.0, epoch=step / STEPS, step_seconds=0.1)
        journal.close()


def script(home: Home) -> None:
    text = json.dumps({"steps": STEPS, "gate_at": GATE})
    (home.path / "script.json").write_text(text)


@pytest.fixture
def live(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)
    script(home)
    folder = runs.start(home, "alive")
    yield Live(folder)
    end(folder)


def end(folder: RunFolder) -> None:
    if is_alive(folder):
        request(folder, "kill")
        launch.wait_until_dead(folder, 20)


def command(home: Home) -> str:
    return f"PYTHONPATH={ROOT} {sys.executable} -m tui --home {home.path}"


def shell(tmux: Tmux, columns: int = 120, lines: int = 40) -> None:
    """An interactive shell, which has job control."""
    tmux.run("new-session", "-d", "-s", "w", "-x", str(columns), "-y", str(lines), "sh")
    tmux.type("PS1='ready> '; echo before")
    tmux.keys("Enter")
    tmux.wait("before\n")


def asked(tmux: Tmux, format: str) -> str:
    return tmux.run("display-message", "-p", "-t", "w", format).strip()


def is_as_before(tmux: Tmux) -> None:
    """Alternate screen left, cursor seen, mouse off, lines cooked: a shell can go on."""
    modes = asked(tmux, "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{wrap_flag}")
    assert modes == "0 1 0 1"
    tmux.type("clear; stty -a; echo typed")
    tmux.keys("Enter")
    words = tmux.wait("\ntyped\n").replace(";", " ").split()
    assert all(word in words for word in SANE), words


def child_of_shell(tmux: Tmux) -> int:
    """The process id of what the shell runs."""
    found = subprocess.run(
        ["pgrep", "-P", str(tmux.pid())], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


class Client:
    """Somebody who looks at a tmux session from a terminal of their own."""

    def __init__(self, tmux: Tmux, columns: int, lines: int) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:  # this process is about to become another one: nothing of ours runs here
            os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES=str(lines))
            os.environ.pop("TMUX", None)
            os.execvp("tmux", ["tmux", "-L", tmux.name, "attach", "-t", "w"])
        self._pid, self.written = pid, b""

    def wait(self, pattern: bytes, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while pattern not in self.written:
            assert time.monotonic() < deadline, self.written[-2000:]
            if select.select([self._fd], [], [], 0.2)[0]:
                self.written += os.read(self._fd, 1 << 16)

    def hang_up(self) -> None:
        """Close its terminal, as a connection that drops does."""
        os.close(self._fd)
        os.waitpid(self._pid, 0)


def test_detached_and_attached_again_while_the_run_goes_on(
    tmux: Tmux, home: Home, live: Live
) -> None:
    tmux.start(home)
    tmux.wait(r"running +alive")
    tmux.run("set-option", "-g", "window-size", "latest")
    first = Client(tmux, 100, 30)
    first.wait(b"alive")
    first.hang_up()
    live.tell(150)
    tmux.wait("150/400")
    second = Client(tmux, 80, 24)
    second.wait(b"150/400")
    tmux.keys("3")
    second.wait(b"[3 Runs]")
    tmux.run("detach-client", "-s", "w")
    second.wait(b"[detached")
    live.go_on()
    shown = tmux.wait(r"finished")
    assert "alive" in shown
    second.hang_up()


def test_resized_while_lines_come_in(tmux: Tmux, home: Home, live: Live) -> None:
    tmux.start(home)
    tmux.wait(r"running +alive")
    step = GATE
    for columns, lines in SIZES * 2:
        tmux.run("resize-window", "-t", "w", "-x", str(columns), "-y", str(lines))
        step += 7
        live.tell(step)
        shown = tmux.wait(f"{step}/{STEPS}")
        shown = tmux.wait(r"\? help[^\n]*\n*\Z")
        assert len(shown.rstrip("\n").split("\n")) == lines
    tmux.run("resize-window", "-t", "w", "-x", "50", "-y", "15")
    tmux.wait("terminal too small")
    live.tell(step + 1)
    tmux.run("resize-window", "-t", "w", "-x", "80", "-y", "24")
    tmux.wait(f"{step + 1}/{STEPS}")


@pytest.mark.parametrize("how", ["signal", "key"])
def test_suspended_and_back(how: str, tmux: Tmux, home: Home, live: Live) -> None:
    shell(tmux)
    tmux.type(f"{command(home)}; echo left with $?")
    tmux.keys("Enter")
    tmux.wait(r"running +alive")
    for step in (160, 170):
        if how == "signal":
            os.kill(child_of_shell(tmux), signal.SIGTSTP)
        else:
            tmux.keys("C-z")
        tmux.wait("Stopped")
        is_as_before(tmux)
        live.tell(step)
        tmux.type("fg")
        tmux.keys("Enter")
        tmux.wait(rf"{step}/{STEPS}")
        tmux.keys("5")
        tmux.wait(r"\[5 System\]")
        tmux.keys("2")
        tmux.wait(r"\[2 Train\]")
    tmux.keys("q")
    tmux.wait("ready>")
    is_as_before(tmux)


def test_ctrl_z_does_nothing_where_nobody_could_bring_it_back(tmux: Tmux, home: Home) -> None:
    tmux.start(home)
    tmux.wait("holds no run yet")
    tmux.keys("C-z", "3")
    tmux.wait(r"\[3 Runs\]")
    tmux.keys("f", "Escape", ":")
    tmux.wait("what to do")
    tmux.type("fg returns")
    shown = tmux.wait("fg returns")
    assert "back to the shell" not in shown, "the palette lists what is possible"


STARTED_THERE = """
import sys
from engine.home import open_home
from engine.jobs import launch
from tests.engine.fakes import runs
launch.WORKER = runs.WORKER
runs.start(open_home(sys.argv[1]), "alive")
"""


def test_a_closed_terminal_ends_the_workbench_and_not_the_run(tmux: Tmux, home: Home) -> None:
    """The run was started from that terminal."""
    script(home)
    shell(tmux)
    (home.path / "start.py").write_text(STARTED_THERE)
    tmux.type(f"PYTHONPATH={ROOT} {sys.executable} {home.path}/start.py {home.path}")
    tmux.keys("Enter")
    tmux.type(f"exec env {command(home)}")
    tmux.keys("Enter")
    tmux.wait(rf"{GATE - 1}/{STEPS}")
    (folder,) = launch.run_folders(home)
    workbench = tmux.pid()
    tmux.fresh()  # kills the server, and so closes the terminal
    runs.wait(lambda: not is_running(workbench), "the end of the workbench")
    assert is_alive(folder)
    (folder.path / "gate").touch()
    assert runs.ended(folder).state == "finished"
    tmux.start(home)
    tmux.wait(r"finished +alive")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_two_workbenches_on_one_home(tmux: Tmux, home: Home, live: Live) -> None:
    other = Tmux()
    try:
        for one in (tmux, other):
            one.start(home)
            one.wait(rf"running +alive(.|\n)*{GATE - 1}/{STEPS}")
        live.tell(170)
        for one in (tmux, other):
            one.wait(f"170/{STEPS}")
        tmux.keys("3", "t")
        tmux.wait("enter takes it")
        tmux.type("written by the first one")
        tmux.keys("Enter")
        other.keys("3", "Enter", "]")
        other.wait("written by the first one")
        other.keys("X")
        other.wait("Type y")
        other.keys("y", "Enter")
        for one in (tmux, other):
            one.wait(r"alive stopped: ")
        tmux.keys("q")
        other.wait("stopped")
    finally:
        other.run("kill-server")


BROKEN = """
import sys
from tui.app import WorkbenchApp, run_app
def action_help(self):
    raise RuntimeError("broken on purpose")
WorkbenchApp.action_help = action_help
sys.exit(run_app(sys.argv[1]))
"""


@pytest.mark.parametrize(("how", "status"), [("?", 1), ("TERM", 128 + signal.SIGTERM)])
def test_a_crash_leaves_the_terminal_as_it_was(
    how: str, status: int, tmux: Tmux, home: Home
) -> None:
    program = home.path / "broken.py"
    program.write_text(BROKEN)
    shell(tmux)
    tmux.type(f"PYTHONPATH={ROOT} {sys.executable} {program} {home.path}; echo left with $?")
    tmux.keys("Enter")
    tmux.wait("holds no run yet")
    assert asked(tmux, "#{alternate_on} #{cursor_flag} #{mouse_any_flag}") == "1 0 1"
    if how == "TERM":
        os.kill(child_of_shell(tmux), signal.SIGTERM)
    else:
        tmux.keys(how)
    shown = tmux.wait(rf"left with {status}")
    assert ("broken on purpose" in shown) is (how == "?")
    is_as_before(tmux)
