"""A run that was killed or stopped and resumed trains exactly as one that was not."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.home import Home, open_home
from engine.jobs import checkpoints
from engine.jobs.context import Stopped
from engine.recipe import Recipe
from tests.engine.training import Attempt, evaluations, events, losses
from tests.variants import slow_but

Make = Callable[..., Recipe]
ROOT = Path(__file__).parents[2]

DROPOUT = "lora.lora_dropout=0.1"
"""With dropout, random state that is not restored shows."""

MODES = {
    "lora": [DROPOUT],
    "full": ["lora.enabled=false", "train.learning_rate=1e-3"],
    "nf4": ["model.load_in_4bit=true", DROPOUT],
    "epochs": [DROPOUT, "train.max_steps=-1", "train.num_train_epochs=0.4"],
}


@pytest.mark.parametrize("mode", slow_but(MODES, "lora"))
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, tiny_recipe: Make, mode: str
) -> None:
    home = open_home(tmp_path)
    recipe = tiny_recipe(*MODES[mode])
    whole = Attempt(home, recipe, "whole")
    whole.run()
    broken = Attempt(home, recipe, "broken")
    at = random.Random().randint(1, 15)
    command = [sys.executable, "-m", "tests.engine.killed", str(broken.folder.path), str(at)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert max(losses(broken.folder)) == at
    broken.number = 1
    broken.run()
    mine, theirs = losses(broken.folder), losses(whole.folder)
    assert mine.keys() == theirs.keys()
    worst = max(abs(mine[step] - theirs[step]) for step in mine)
    assert worst <= 1e-5, f"killed after step {at}: steps differ by up to {worst}"
    assert evaluations(broken.folder) == pytest.approx(evaluations(whole.folder), abs=1e-5)
    ends = [events(run.folder, "state")[-1] for run in (whole, broken)]
    for key in ("best_checkpoint", "steps", "reason"):
        assert ends[0][key] == ends[1][key]
    assert ends[0]["train_loss"] == pytest.approx(ends[1]["train_loss"], abs=1e-5)


def test_other_rows_than_the_run_was_begun_with(
    tmp_path: Path, tiny_recipe: Make, tiny_rows: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(tiny_rows.read_bytes())
    attempt = Attempt(open_home(tmp_path), tiny_recipe(f"data.source={rows}"), "changed")
    attempt.stop_at = ("metrics", 5)
    with pytest.raises(Stopped):
        attempt.run()
    attempt.stop_at = None
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:-9]))
    with pytest.raises(UserError, match=r"^data\.source: .* has other rows"):
        attempt.run()
    rows.write_bytes(tiny_rows.read_bytes())
    assert attempt.run()["steps"] == 16


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Make) -> Attempt:
    attempt = Attempt(open_home(tmp_path_factory.mktemp("whole")), tiny_recipe(DROPOUT), "whole")
    attempt.run()
    return attempt


@pytest.mark.parametrize(("asked_after", "step"), [(5, 6), (7, 8), (8, 8), (15, 16), (16, 16)])
def test_stopped_and_resumed_equals_uninterrupted(
    tmp_path: Path, tiny_recipe: Make, uninterrupted: Attempt, asked_after: int, step: int
) -> None:
    """Between evaluations, right before one (which is then due), and at the very last step."""
    attempt = Attempt(open_home(tmp_path), tiny_recipe(DROPOUT), "stopped")
    attempt.stop_at = ("metrics", asked_after)
    with pytest.raises(Stopped):
        attempt.run()
    latest = attempt.latest()
    assert latest is not None and checkpoints.step_of(latest) == step
    assert ("during", step) not in evaluations(attempt.folder)
    assert not (attempt.folder.adapter).exists()
    attempt.stop_at = None
    attempt.run()
    assert losses(attempt.folder) == losses(uninterrupted.folder)
    assert evaluations(attempt.folder) == evaluations(uninterrupted.folder)
    before = {e[1]: loss for e, loss in evaluations(attempt.folder).items() if e[0] == "during"}
    best = min((s for s in before if s < step), key=lambda s: before[s])
    (*_, resumed) = (e for e in events(attempt.folder, "state") if "max_steps" in e)
    assert (resumed["best_step"], resumed["best_eval_loss"]) == (best, before[best])
    ends = [events(run.folder, "state")[-1] for run in (attempt, uninterrupted)]
    assert ends[0]["best_checkpoint"] == ends[1]["best_checkpoint"]
    assert ends[0]["eval_loss"] == ends[1]["eval_loss"]


def test_stop_in_the_middle_of_an_evaluation(
    tmp_path: Path, tiny_recipe: Make, uninterrupted: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.train.trainer import RunTrainer

    attempt = Attempt(open_home(tmp_path), tiny_recipe(DROPOUT), "given-up")
    real, batches = RunTrainer.get_eval_dataloader, []

    def loader(trainer: RunTrainer, dataset: object) -> object:
        """Asks for the stop while the second validation is under way."""
        found = real(trainer, dataset)
        if trainer.state.global_step != 8:
            return found

        def iterate():  # type: ignore[no-untyped-def]
            for batch in found:
                batches.append(batch)
                yield batch
                attempt.stop_at = ("metrics", 8)

        return iterate()

    monkeypatch.setattr(RunTrainer, "get_eval_dataloader", loader)
    small = ["train.per_device_eval_batch_size=4"]
    attempt.recipe = tiny_recipe(DROPOUT, *small)
    with pytest.raises(Stopped):
        attempt.run()
    assert len(batches) == 2, "the evaluation went on after the stop"
    assert ("during", 8) not in evaluations(attempt.folder)
    monkeypatch.undo()
    attempt.stop_at = None
    attempt.run()
    assert losses(attempt.folder) == losses(uninterrupted.folder)
    assert evaluations(attempt.folder) == pytest.approx(evaluations(uninterrupted.folder), abs=1e-5)


def test_stop_before_the_first_step_saves_nothing(tmp_path: Path, tiny_recipe: Make) -> None:
    attempt = Attempt(open_home(tmp_path), tiny_recipe(), "early")
    attempt.stop_at = ("evaluation", 0)
    with pytest.raises(Stopped):
        attempt.run()
    assert not losses(attempt.folder) and attempt.latest() is None


def test_a_half_written_checkpoint_is_not_resumed_from(
    tmp_path: Path, tiny_recipe: Make, uninterrupted: Attempt
) -> None:
    attempt = Attempt(open_home(tmp_path), tiny_recipe(DROPOUT), "damaged")
    attempt.stop_at = ("checkpoint", 12)
    with pytest.raises(Stopped):
        attempt.run()
    newest = attempt.latest()
    assert newest is not None
    with (newest / "optimizer.pt").open("r+b") as file:
        file.truncate(100)
    older = attempt.latest()
    assert older is not None and older != newest
    attempt.stop_at = None
    attempt.run()
    assert losses(attempt.folder) == losses(uninterrupted.folder)


class TestEarlyStopping:
    SETTINGS = ("train.learning_rate=0", "train.early_stopping_patience=2", "train.max_steps=40")
    """Nothing is learnt, so the second validation is the first without improvement."""

    @pytest.fixture(scope="class")
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Home:
        return open_home(tmp_path_factory.mktemp("early"))

    def test_ends_after_its_patience(self, home: Home, tiny_recipe: Make) -> None:
        attempt = Attempt(home, tiny_recipe(*self.SETTINGS), "whole")
        result = attempt.run()
        assert result["steps"] == 12 and result["reason"] == "early stopping"
        assert result["best_checkpoint"] == "checkpoints/step-4"

    def test_goes_on_counting_after_a_resume(self, home: Home, tiny_recipe: Make) -> None:
        attempt = Attempt(home, tiny_recipe(*self.SETTINGS), "resumed")
        attempt.stop_at = ("metrics", 9)
        with pytest.raises(Stopped):
            attempt.run()
        attempt.stop_at = None
        result = attempt.run()
        assert result["steps"] == 12 and result["reason"] == "early stopping"

    def test_a_run_that_was_done_is_not_trained_further(
        self, home: Home, tiny_recipe: Make
    ) -> None:
        """Ended after the last checkpoint, before the result was saved."""
        attempt = Attempt(home, tiny_recipe(*self.SETTINGS), "late")
        attempt.stop_at = ("checkpoint", 12)
        with pytest.raises(Stopped):
            attempt.run()
        attempt.stop_at = None
        result = attempt.run()
        assert result["steps"] == 12 and result["reason"] == "early stopping"
        assert max(losses(attempt.folder)) == 12
        assert (attempt.folder.adapter / "adapter_model.safetensors").is_file()
