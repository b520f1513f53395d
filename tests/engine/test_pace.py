"""The time left, against the true rest of simulated journals; and how long a run may be silent."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from engine.history.pace import RECENT_STEPS, Told, rhythm_of, seconds_left, silence_limit
from engine.history.row import RunRow, fold

Event = dict[str, Any]


@dataclass(frozen=True)
class Simulated:
    """What a run's parts take, in seconds; by default as measured on an H200."""

    steps: int = 4688
    step: float = 0.119
    noise: float = 0.03
    every: int = 250
    saves: int = 250
    first_steps: Sequence[float] = (2.5, 1.2, 0.6)
    """Kernels are compiled in them."""
    every_fourth: float = 1.0
    """So many times a step's time."""
    evaluation: float = 4.7
    answers: Sequence[float] = (4.1, 1.0)
    """The first time, and every other time."""
    checkpoint: float = 0.7
    before: float | None = 48.9
    """None: another run measured it."""
    after: float = 47.0
    epochs: float = 1.0
    train_rows: int = 150_000
    validation_rows: int = 3000
    test_rows: int = 30_000

    @property
    def recipe(self) -> str:
        return f"[train]\neval_steps = {self.every}\nsave_steps = {self.saves}\n"

    def journal(self) -> list[Event]:
        luck, at, events = random.Random(7), 1_000.0, []

        def tell(type: str, after: float, **fields: Any) -> None:
            nonlocal at
            at += after
            events.append({"t": at, "type": type, "attempt": 1, **fields})

        tell("state", 0.0, state="starting", phase="loading the model")
        cached = {"seconds": 0.0, "measured_by": "an-earlier-run"}
        told = cached if self.before is None else {"seconds": self.before}
        test = {"split": "test", "rows": self.test_rows, "loss": 9.0}
        tell("evaluation", self.before or 0.0, step=0, which="before", **test, **told)
        rows = {f"{name}_rows": getattr(self, f"{name}_rows")
                for name in ("train", "validation", "test")}  # fmt: skip
        tell("state", 0.0, state="running", max_steps=self.steps, resume_step=0, **rows)
        answers = list(self.answers)
        for step in range(1, self.steps + 1):
            usual = self.step * luck.uniform(1 - self.noise, 1 + self.noise)
            if step % 4 == 0:
                usual *= self.every_fourth
            seconds = self.first_steps[step - 1] if step <= len(self.first_steps) else usual
            epoch = self.epochs * step / self.steps
            tell("metrics", seconds, step=step, epoch=epoch, loss=2.0, step_seconds=seconds)
            last = step == self.steps
            if step % self.every == 0 or last:
                more = {"loss": 3.0 - step / 1e5, "rows": self.validation_rows}
                tell("evaluation", self.evaluation, step=step, split="validation", which="during",
                     seconds=self.evaluation, **more)  # fmt: skip
                tell("sample", answers.pop(0) if len(answers) > 1 else answers[0], step=step,
                     prompt="p", text="t")  # fmt: skip
            if step % self.saves == 0 or last:
                tell("checkpoint", self.checkpoint, step=step, path=f"step-{step}",
                     seconds=self.checkpoint)  # fmt: skip
        tell("state", 0.0, state="running", phase="test loss after training")
        tell("evaluation", self.after, step=self.steps, which="after", seconds=self.after, **test)
        tell("state", 0.0, state="running", phase="saving the adapter")
        tell("state", self.checkpoint / 3, state="finished", steps=self.steps)
        return events


def known_at(events: Sequence[Event], moment: float) -> tuple[RunRow, Told]:
    """What a viewer knows of a run at a moment."""
    row = RunRow("run")
    kinds: dict[str, list[Event]] = {"metrics": [], "evaluation": [], "checkpoint": [],
                                     "sample": []}  # fmt: skip
    for event in events:
        if event["t"] > moment:
            break
        fold(row, event)
        kinds.get(event["type"], []).append(event)
    recent = [event["step_seconds"] for event in kinds["metrics"][-RECENT_STEPS:]]
    return row, Told(recent, kinds["evaluation"], kinds["checkpoint"], kinds["sample"])


RUNS = {
    "an epoch on an H200": Simulated(),
    "the untrained model was measured by another run": Simulated(before=None),
    "slow evaluations, often": Simulated(steps=400, step=1.1, every=20, saves=40, evaluation=30.0),
    "checkpoints of 40 s": Simulated(steps=900, step=2.0, every=90, saves=45, checkpoint=40.0),
    "every fourth step three times as slow": Simulated(steps=2000, every_fourth=3.0),
    "an odd number of steps": Simulated(steps=1017, every=100, saves=200, evaluation=20.0),
}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("name", RUNS)
def test_the_time_left_is_right_within_5_percent(name: str, share: float) -> None:
    run = RUNS[name]
    events = run.journal()
    began = next(event["t"] for event in events if event["type"] == "metrics")
    ended = events[-1]["t"]
    moment = began + share * (ended - began)
    row, told = known_at(events, moment)
    left = seconds_left(row, told, rhythm_of(run.recipe), moment)
    assert left == pytest.approx(ended - moment, rel=0.05)


def test_before_the_first_evaluation_its_time_is_guessed_by_the_training_steps() -> None:
    """Within a tenth of the rest, where evaluating a row takes the share of an H200's."""
    run = Simulated(before=None)
    events = run.journal()
    moment = next(event["t"] for event in events if event.get("step") == 200)
    left = seconds_left(*known_at(events, moment), rhythm_of(run.recipe), moment)
    assert left == pytest.approx(events[-1]["t"] - moment, rel=0.1)


def test_it_goes_down_while_an_evaluation_says_nothing_and_never_below_zero() -> None:
    run = Simulated(steps=400, step=1.1, every=100, saves=100, evaluation=60.0)
    events = run.journal()
    rhythm = rhythm_of(run.recipe)
    looks = [event for event in events if event["type"] == "evaluation" and event["step"] == 200]
    began = looks[0]["t"] - 60.0
    row, told = known_at(events, began)
    rest = events[-1]["t"] - began
    for passed in (0.0, 20.0, 59.0):
        left = seconds_left(row, told, rhythm, began + passed)
        assert left == pytest.approx(rest - passed, rel=0.05)
    hung = seconds_left(row, told, rhythm, began + 10_000.0)
    assert hung == pytest.approx(rest - 60.0, rel=0.05), "one that hangs has its work before it"
    row, told = known_at(events, events[-1]["t"] - 0.1)
    assert seconds_left(row, told, rhythm, events[-1]["t"] + 500.0) == 0.0


def test_after_the_last_step_the_test_is_left() -> None:
    run = Simulated(steps=500)
    events = run.journal()
    began = next(e["t"] for e in events if e.get("phase") == "test loss after training")
    for passed in (0.0, 30.0):
        row, told = known_at(events, began + passed)
        left = seconds_left(row, told, rhythm_of(run.recipe), began + passed)
        assert left == pytest.approx(events[-1]["t"] - began - passed, abs=2.5)


def test_a_resumed_run_counts_the_attempt_that_runs() -> None:
    """Perhaps on another machine, five times as quick."""
    run = Simulated(steps=1000, evaluation=50.0, before=None)
    slow = [event for event in run.journal() if event.get("step", 0) <= 500][:-1]
    quick = Simulated(steps=1000, evaluation=10.0).journal()
    later = [{**event, "t": event["t"] + 9_000.0, "attempt": 2} for event in quick
             if event["type"] == "state" or event.get("step", 0) > 500]  # fmt: skip
    moment = next(event["t"] for event in later if event.get("step") == 800)
    row, told = known_at([*slow, *later], moment)
    left = seconds_left(row, told, rhythm_of(run.recipe), moment)
    # 200 steps, a look at 1000 (the one at 750 was the attempt's first), the test by its rows.
    assert left == pytest.approx(200 * 0.119 + 10.0 + 1.0 + 0.7 + 10.0 * 10 + 0.7, rel=0.06)


@pytest.mark.parametrize(
    "recipe", ["", "[train", "[train]\neval_steps = 0\nsave_steps = 5", "train = 3", "[train]"]
)
def test_a_recipe_that_says_nothing_has_no_rhythm(recipe: str) -> None:
    assert rhythm_of(recipe) is None


def test_nothing_is_known_before_the_first_step() -> None:
    assert seconds_left(RunRow("run"), Told()) is None
    assert seconds_left(RunRow("run", step=0, max_steps=10), Told([1.0])) is None
    assert seconds_left(RunRow("run", step=5, max_steps=10), Told()) is None


def test_how_long_a_run_may_be_silent_fits_its_pace() -> None:
    row = RunRow("run", state="running", step=50, max_steps=100, step_seconds=0.1)
    assert silence_limit(row) == 60.0
    assert silence_limit(replace(row, step_seconds=40.0)) == 200.0
    looks = [{"split": "validation", "which": "during", "step": 40, "seconds": 90.0, "t": 0.0}]
    assert silence_limit(row, Told([0.1], looks)) == 450.0
    starting = RunRow("run", state="starting", phase="loading the model")
    assert silence_limit(starting) == 300.0
    assert silence_limit(replace(row, epoch=0.5, train_rows=1000, validation_rows=3000)) == 60.0
    slow = replace(row, epoch=0.5, train_rows=1000, validation_rows=40_000, step_seconds=1.0)
    assert silence_limit(slow) == pytest.approx(5 * 0.4 * 40_000 * 0.1), "guessed, none made yet"
