"""A step's numbers are read when the next step is under way: nothing else changes, none is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Diverged
from engine.home import open_home
from engine.jobs.context import Stopped
from engine.jobs.journal import read_all
from engine.recipe import Recipe
from tests.engine.training import Attempt, losses

Make = Callable[..., Recipe]
ORDERED = ("metrics", "evaluation", "checkpoint", "sample")
SHORT = ["train.max_steps=8", "evaluate.before=false", "evaluate.sample_rows=1"]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    pytest.importorskip("torch")
    import engine.train.trainer as trainer

    def choose(is_late: bool) -> None:
        monkeypatch.setattr(trainer, "reads_late", lambda *_, **__: is_late)

    return choose


def lines(attempt: Attempt) -> list[Any]:
    """What was journaled of the course of a run, in order, without times."""
    kept = ("type", "step", "loss", "tokens", "grad_norm", "learning_rate", "epoch", "text")
    return [
        {key: event.get(key) for key in kept}
        for event in read_all(attempt.folder.journal)
        if event["type"] in ORDERED
    ]


def test_the_journal_is_the_same(
    tmp_path: Path, tiny_recipe: Make, late: Callable[[bool], None]
) -> None:
    found = []
    for is_late in (False, True):
        late(is_late)
        attempt = Attempt(open_home(tmp_path), tiny_recipe(*SHORT), f"late-{is_late}")
        attempt.run()
        found.append(lines(attempt))
    assert found[1] == found[0]
    assert [line["step"] for line in found[1] if line["type"] == "metrics"] == list(range(1, 9))


def test_a_stop_and_a_resume_lose_no_step(
    tmp_path: Path, tiny_recipe: Make, late: Callable[[bool], None]
) -> None:
    late(True)
    recipe = tiny_recipe(*SHORT)
    whole, broken = (Attempt(open_home(tmp_path), recipe, name) for name in ("whole", "broken"))
    whole.run()
    broken.stop_at = ("metrics", 5)
    with pytest.raises(Stopped):
        broken.run()
    made = [
        event["step"] for event in read_all(broken.folder.journal) if event["type"] == "metrics"
    ]
    saved = [
        event["step"] for event in read_all(broken.folder.journal) if event["type"] == "checkpoint"
    ]
    assert made == list(range(1, saved[-1] + 1))
    broken.stop_at = None
    broken.run()
    assert losses(broken.folder) == losses(whole.folder)


def test_the_step_before_an_error_is_journaled(
    tmp_path: Path, tiny_recipe: Make, late: Callable[[bool], None], monkeypatch: Any
) -> None:
    from engine.train.trainer import RunTrainer

    late(True)
    usual, steps = RunTrainer.training_step, []

    def breaks(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == 4:
            raise RuntimeError("the card is gone")
        return usual(self, *args, **kwargs)

    monkeypatch.setattr(RunTrainer, "training_step", breaks)
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*SHORT), "broken")
    with pytest.raises(RuntimeError, match="the card is gone"):
        attempt.run()
    assert list(losses(attempt.folder)) == [1, 2, 3]


def test_no_number_is_saved_of_a_loss_that_is_none(
    tmp_path: Path, tiny_recipe: Make, late: Callable[[bool], None], monkeypatch: Any
) -> None:
    """The watchdog sees a step before anything of it is written."""
    from engine.train.trainer import RunTrainer

    late(True)
    usual = RunTrainer.training_step

    def breaks(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = usual(self, *args, **kwargs)
        if self.state.global_step == 3:  # the fourth step, after which a checkpoint is due
            self._step_loss = self._step_loss * float("nan")
        return loss

    monkeypatch.setattr(RunTrainer, "training_step", breaks)
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*SHORT), "diverged")
    with pytest.raises(Diverged, match="at step 4"):
        attempt.run()
    assert not [
        event for event in read_all(attempt.folder.journal) if event["type"] == "checkpoint"
    ]
