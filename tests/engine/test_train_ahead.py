"""What is done while torch is imported, and what of compiling is kept for the next start."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.prepare import prepare
from engine.errors import UserError
from engine.home import Home, open_home
from engine.jobs.context import Stopped
from engine.recipe import Recipe
from engine.train.ahead import Ahead
from tests.engine.training import Attempt, events

Make = Callable[..., Recipe]
ROOT = Path(__file__).resolve().parents[2]

WITHOUT_TORCH = """
import sys
from pathlib import Path
from engine.data.prepare import prepare
from engine.home import open_home
from engine.recipe import load_recipe
from engine.train.ahead import Ahead
home, recipe = open_home(Path(sys.argv[1])), load_recipe("demo", ["data.catalogue_rows=600"])
with Ahead(home, recipe, prepare(home, recipe), lambda: False) as ahead:
    ahead._thread.join()
    ahead.check()
print({"torch", "transformers", "datasets", "trl"} & sys.modules.keys(), len(ahead._made))
"""


def python(code: str, *arguments: object, **environment: str) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    found = subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def begun(home: Home, recipe: Recipe, stopped: Callable[[], bool] = lambda: False) -> Ahead:
    return Ahead(home, recipe, prepare(home, recipe), stopped)


def test_the_thread_imports_nothing_of_torchs_family(tmp_path: Path) -> None:
    """Two threads that import the same see modules half made."""
    assert python(WITHOUT_TORCH, tmp_path) == "set() 3"


def test_what_went_wrong_is_raised_as_soon_as_somebody_asks(
    tmp_path: Path, tiny_recipe: Make
) -> None:
    recipe = tiny_recipe("split.train=0.9999", "split.validation=0.00005", "split.test=0.00005")
    with begun(open_home(tmp_path), recipe) as ahead:
        ahead._thread.join()
        for ask in (ahead.check, lambda: ahead.splits(lambda words: None)):
            with pytest.raises(UserError, match=r"no row .* fell to"):
                ask()


def test_a_stop_ends_it(tmp_path: Path, tiny_recipe: Make) -> None:
    ahead = begun(open_home(tmp_path), tiny_recipe(), lambda: True)
    with ahead, pytest.raises(Stopped):
        ahead.splits(lambda words: None)


def test_who_leaves_early_does_not_wait_for_all_rows(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import engine.train.ahead as module

    asked = []

    def slow(*args: Any, cancelled: Callable[[], bool], **kwargs: Any) -> None:
        while not cancelled():
            asked.append(time.monotonic())
            time.sleep(0.01)
        raise module.Cancelled

    monkeypatch.setattr(module, "tokenise", slow)
    with pytest.raises(KeyError), begun(open_home(tmp_path), tiny_recipe()) as ahead:
        while not asked:
            time.sleep(0.01)
        raise KeyError
    assert not ahead._thread.is_alive()


def test_both_durations_are_journaled(tmp_path: Path, tiny_recipe: Make) -> None:
    attempt = Attempt(open_home(tmp_path), tiny_recipe("train.max_steps=1"), "short")
    attempt.run()
    (done,) = (
        event
        for event in events(attempt.folder, "state")
        if event.get("phase") == "tokenising" and "seconds" in event
    )
    assert done["meanwhile_seconds"] > 0
    assert done["seconds"] >= 0


# ---- compiled Python ----------------------------------------------------------------------------

IMPORTS = """
import sys
from pathlib import Path
from engine.home import open_home
from engine.train.environment import set_environment
set_environment(open_home(Path(sys.argv[1])), "")
import torch
print(Path(torch.__cached__).is_file(), torch.__cached__)
"""


@pytest.mark.parametrize("compiled", [False, True])
def test_compiled_files_are_kept_in_the_home_where_nobody_else_keeps_them(
    tmp_path: Path, compiled: bool
) -> None:
    libraries, home = tmp_path / "libraries", tmp_path / "home"
    for name in ("torch", "transformers", "trl"):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").write_text("value = 1\n")
    path = os.pathsep.join([str(libraries), str(ROOT)])
    if compiled:
        subprocess.run([sys.executable, "-m", "compileall", "-q", libraries], check=True)
    there, where = python(IMPORTS, home, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1").split()
    assert there == "True"
    assert Path(where).is_relative_to(libraries if compiled else home / "cache" / "python")
