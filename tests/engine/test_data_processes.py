"""Cleaning in several processes: rules of the user's own that do what no rule should."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.data import build
from engine.data.clean import EXAMPLES, Cleaner, Job
from engine.data.prepare import Cancelled, prepare
from engine.data.sources import Chunk, look, open_source
from engine.home import Home, open_home
from engine.recipe import Recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def recipe(folder: Path, code: str, rows: int = 300) -> Recipe:
    """Rows and a rule that looks at them."""
    source, rule = folder / "rows.jsonl", folder / "rule.py"
    with source.open("w") as file:
        for n in range(rows):
            file.write(json.dumps({"title": f"Item {n}", "content": f"Text {n}"}) + "\n")
    rule.write_text(code)
    settings = [f"data.source={source}", f"clean.python.file={rule}"]
    return Recipe(name="test").with_settings([*settings, 'clean.rules=["empty", "python"]'])


def workers(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(build, "worker_count", lambda size: count)


@pytest.mark.parametrize("count", [0, 2])
def test_cancelling_does_not_wait_for_a_slow_rule(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    workers(monkeypatch, count)
    called = tmp_path / "called"
    seconds = 3600 if count else 0.2  # what is done by this very process ends between rows
    code = f"import time\ndef rule(p, c):\n    open({str(called)!r}, 'a').write('.')\n"
    slow = recipe(tmp_path, code + f"    time.sleep({seconds})\n")
    with pytest.raises(Cancelled):
        prepare(home, slow, cancelled=called.exists)
    assert len(called.read_text()) < 10
    assert not list(home.datasets.glob(".*.tmp"))


def test_a_rule_that_reads_standard_input_finds_nothing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(monkeypatch, 2)
    code = "import sys\ndef rule(p, c):\n    return sys.stdin.read(4) or None\n"
    assert prepare(home, recipe(tmp_path, code)).report.rows_kept == 300


ASKS = """
import sys
from pathlib import Path
from engine.data import build
from engine.data.clean import EXAMPLES, Cleaner, Job
from engine.data.prepare import prepare
from engine.data.sources import Chunk, look, open_source
from engine.home import open_home
from engine.recipe import read_recipe
build.worker_count = lambda size: 1
prepare(open_home(sys.argv[1]), read_recipe(Path(sys.argv[2])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends with its input")
def test_a_rule_that_does_not_end_is_killed_with_who_asked(home: Home, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, pathlib\ndef rule(p, c):\n    path = pathlib.Path({str(told)!r})\n"
    code += "    path.with_suffix('.new').write_text(str(os.getpid()))\n"
    code += "    path.with_suffix('.new').rename(path)\n    while True:\n        pass\n"
    (tmp_path / "recipe.toml").write_text(recipe(tmp_path, code).to_toml())
    command = [sys.executable, "-c", ASKS, str(home.path), str(tmp_path / "recipe.toml")]
    asking = subprocess.Popen(command, cwd=ROOT)
    until(told.exists)
    asking.send_signal(signal.SIGKILL)
    asking.wait(60)
    until(lambda: not runs(int(told.read_text())))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_later_chunk_takes_no_examples_from_an_earlier_one(home: Home, tmp_path: Path) -> None:
    """Which process is first to take a chunk is up to the threads."""
    described = recipe(tmp_path, "def rule(p, c):\n    return p, c + '!'\n", rows=10)
    parser = open_source(home, described.data, look(home, described.data)).parser()
    lines = (tmp_path / "rows.jsonl").read_bytes().rstrip()
    cleaner = Cleaner(Job(described.clean, "pair", ""))
    for number in (11, 1):
        cleaned = cleaner.chunk(parser, Chunk(number, 10, 0, 0, lines))
        assert [change.line - number for change in cleaned.changes] == list(range(EXAMPLES))
