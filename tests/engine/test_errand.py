"""Errands end when they are cancelled, tidily, and a preflight's data is made ready in one."""

import threading
from pathlib import Path

import pytest

from engine.data.progress import Cancelled
from engine.errors import UserError
from engine.generate.errand import run_errand
from engine.home import Home, open_home
from engine.preflight.look import quick_look
from engine.preflight.ready import make_ready
from engine.recipe import Recipe, load_recipe

WAITER = """\
import sys, time
from pathlib import Path
from engine.errors import UserError
from engine.generate.errand import serve_errand

def work(arguments, answers):
    folder = Path(arguments[0])
    try:
        answers.status("begun")
        if arguments[1] == "fail":
            raise UserError("no such thing")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (folder / "go").exists():
            time.sleep(0.01)
        return {"told": "x" * 200_000}
    finally:
        (folder / "tidied").touch()

sys.exit(serve_errand(work))
"""


@pytest.fixture
def waiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that waits for a file ``go``, and tidies up."""
    from engine.jobs import child

    (tmp_path / "waits_here.py").write_text(WAITER)
    known = child.environment()
    path = f"{tmp_path}:{known.get('PYTHONPATH', '')}"
    monkeypatch.setattr(child, "environment", lambda **more: {**known, "PYTHONPATH": path})
    return "waits_here"


def test_a_cancelled_errand_ends_at_once_and_tidies_up(waiter: str, tmp_path: Path) -> None:
    begun = threading.Event()
    with pytest.raises(Cancelled):
        run_errand(
            waiter, [str(tmp_path), "wait"], lambda words: begun.set(), cancelled=begun.is_set
        )
    assert (tmp_path / "tidied").exists()


def test_one_that_is_not_cancelled_brings_its_result_whole(waiter: str, tmp_path: Path) -> None:
    def go(words: str) -> None:
        (tmp_path / "go").touch()

    found = run_errand(waiter, [str(tmp_path), "wait"], go, cancelled=lambda: False)
    assert len(found["told"]) == 200_000
    with pytest.raises(UserError, match="no such thing"):
        run_errand(waiter, [str(tmp_path), "fail"], cancelled=lambda: False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("demo", ["data.catalogue_rows=300"])


def test_data_is_cleaned_and_counted_elsewhere_and_found_here(home: Home, recipe: Recipe) -> None:
    said: list[str] = []
    assert quick_look(home, recipe) is None
    make_ready(home, recipe, said.append)
    seen = quick_look(home, recipe)
    assert seen is not None and not seen.resolved.is_estimate
    assert any("counting tokens of train" in words for words in said)


def test_nothing_half_made_is_left_by_a_cancelled_one(home: Home, recipe: Recipe) -> None:
    begun = threading.Event()
    with pytest.raises(Cancelled):
        make_ready(home, recipe, lambda words: begun.set(), cancelled=begun.is_set)
    make_ready(home, recipe)
    seen = quick_look(home, recipe)
    assert seen is not None and seen.resolved.splits["train"].rows_in_split > 100
