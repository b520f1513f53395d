"""A run goes on under a changed recipe, as a child with its parent's checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import UserError
from engine.home import Home, open_home
from engine.jobs import checkpoints
from engine.jobs.branch import branch, changes, suggested_settings
from engine.jobs.context import Stopped
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.launch import launch, note_queued, wait_until_dead
from engine.jobs.trash import delete_run
from engine.recipe import Recipe
from tests.engine.training import Attempt, evaluations, events, losses

Make = Callable[..., Recipe]
QUIET = ["evaluate.before=false", "evaluate.sample_rows=0"]


@pytest.fixture(scope="module")
def parent_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("parents"))


@pytest.fixture(scope="module")
def parent(parent_home: Home, tiny_recipe: Make) -> Attempt:
    """A run of 16 steps that was stopped after its seventh."""
    attempt = Attempt(parent_home, tiny_recipe(*QUIET), "parent")
    attempt.stop_at = ("metrics", 6)
    with pytest.raises(Stopped):
        attempt.run()
    return attempt


def go_on(parent: Attempt, *settings: str) -> Attempt:
    """The child run of ``parent``, trained to its end."""
    recipe = parent.folder.read_recipe().with_settings(settings)
    child = Attempt.__new__(Attempt)
    child.home, child.recipe, child.number = parent.home, recipe, 0
    child.requests, child.stop_at = {}, None
    child.folder = branch(parent.home, parent.folder, recipe)
    child.run()
    return child


def test_half_the_batch_twice_trains_on_the_same(
    parent: Attempt, tiny_recipe: Make, tmp_path: Path
) -> None:
    whole = Attempt(open_home(tmp_path), tiny_recipe(*QUIET), "whole")
    whole.run()
    child = go_on(
        parent,
        "train.per_device_train_batch_size=4",
        "train.gradient_accumulation_steps=2",
        "train.gradient_checkpointing=true",
    )
    made, wanted = losses(child.folder), losses(whole.folder)
    assert made == pytest.approx({s: wanted[s] for s in range(8, 17)}, abs=1e-5)
    assert child.folder.read_identity()["parent"] == parent.folder.id


def test_a_new_rate_counts_from_the_next_step_on(parent: Attempt) -> None:
    child = go_on(parent, "train.learning_rate=2e-3", "train.weight_decay=0.1")
    rates = {e["step"]: e["learning_rate"] for e in events(child.folder, "metrics")}
    assert rates == pytest.approx({s: 2e-3 * (17 - s) / 16 for s in range(8, 17)})


def test_another_schedule_and_more_steps(parent: Attempt) -> None:
    child = go_on(parent, "train.lr_scheduler_type=constant", "train.max_steps=20")
    rates = {e["step"]: e["learning_rate"] for e in events(child.folder, "metrics")}
    assert rates == pytest.approx(dict.fromkeys(range(8, 21), 1e-2))


def test_a_finished_run_trains_on_after_its_parent_is_deleted(
    tmp_path: Path, tiny_recipe: Make
) -> None:
    parent = Attempt(open_home(tmp_path), tiny_recipe(*QUIET, "train.max_steps=8"), "short")
    parent.run()
    recipe = parent.recipe.with_settings(["train.max_steps=12"])
    folder = branch(parent.home, parent.folder, recipe, "longer")
    delete_run(parent.home, parent.folder)
    launch(folder)  # by supervisor and worker, as a user would
    assert wait_until_dead(folder, 120)
    assert sorted(losses(folder)) == [9, 10, 11, 12]
    assert events(folder, "state")[-1]["state"] == "finished"


def test_what_cannot_go_on_names_key_and_reason(parent: Attempt) -> None:
    recipe = parent.folder.read_recipe()
    for setting, why in (
        ("lora.r=4", "lora.r: 16 cannot become 4 .* would not fit the checkpoint"),
        ("split.seed=9", "split.seed: .* middle of an epoch over other rows"),
        ("train.optim=sgd", "train.optim: .* another optimiser's state"),
    ):
        with pytest.raises(UserError, match=why):
            branch(parent.home, parent.folder, recipe.with_settings([setting]))
    assert len(list(parent.home.runs.glob("[!.]*"))) == len(
        list(parent.home.runs.glob("*/run.json"))
    )


def test_nothing_left_to_train(parent: Attempt) -> None:
    recipe = parent.folder.read_recipe()
    with pytest.raises(UserError, match=r"train\.max_steps: .* has made 7 steps of 5 already"):
        branch(parent.home, parent.folder, recipe.with_settings(["train.max_steps=5"]))
    done = _copied(parent.folder, "done")
    journal = Journal(done.journal, 1)
    journal.append("state", state="finished")
    journal.close()
    with pytest.raises(UserError, match="made 7 steps of 7 already"):
        branch(parent.home, done, recipe.with_settings(["train.max_steps=7"]))
    # Its test loss may be what it failed at.
    branch(parent.home, parent.folder, recipe.with_settings(["train.max_steps=7"]))


def test_a_sharded_optimiser_stays_sharded(tiny_recipe: Make) -> None:
    shards = tiny_recipe("lora.enabled=false", "train.num_processes=2")
    with pytest.raises(UserError, match=r"train\.num_processes: .* were sharded"):
        changes(shards, shards.with_settings(["train.num_processes=1"]))
    with pytest.raises(UserError, match=r"train\.fsdp: .* were sharded"):
        changes(shards, shards.with_settings(["train.fsdp=false"]))
    assert changes(shards, shards.with_settings(["train.num_processes=4"]))


def test_every_change_is_told(parent: Attempt) -> None:
    recipe = parent.folder.read_recipe()
    found = changes(
        recipe,
        recipe.with_settings(["train.per_device_train_batch_size=2", "train.max_length=64"]),
    )
    assert [(c.key, c.before, c.after) for c in found] == [
        ("train.max_length", 128, 64),
        ("train.per_device_train_batch_size", 8, 2),
    ]
    assert "2 rows instead of 8" in found[1].words


def test_nothing_saved_begins_anew_with_any_change(tmp_path: Path, tiny_recipe: Make) -> None:
    bare = Attempt(open_home(tmp_path), tiny_recipe(), "bare")
    recipe = bare.recipe.with_settings(["lora.r=4", "train.max_length=64"])
    child = branch(bare.home, bare.folder, recipe)
    assert child.read_identity()["parent"] == bare.folder.id and not child.checkpoints.exists()
    found = changes(bare.recipe, recipe, from_beginning=True)
    assert [change.key for change in found] == ["lora.r", "train.max_length"]


def test_the_suggestion_is_taken_by_one_word(
    parent: Attempt, capsys: pytest.CaptureFixture[str]
) -> None:
    home, copy = parent.home, _copied(parent.folder, "suggested")
    with pytest.raises(UserError, match="suggests no other recipe"):
        suggested_settings(copy)
    journal = Journal(copy.journal, 1)
    settings = {"train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 2}
    suggestion = {"words": "half the batch", "settings": settings}
    journal.append("error", kind="out_of_memory", message="no", suggestion=suggestion)
    journal.append("state", state="failed")
    journal.close()
    arguments = ["resume", copy.id, "--suggested", "--home", str(home.path), "--json"]
    assert main(arguments) == 1
    assert "add --yes" in capsys.readouterr().err
    assert main([*arguments, "--yes", "--name", "smaller"]) == 0
    told = capsys.readouterr()
    assert "train.per_device_train_batch_size: 8 -> 4 (a step still has 8 rows" in told.err
    document = json.loads(told.out)
    assert (document["state"], document["steps"], document["name"]) == ("finished", 16, "smaller")


def _copied(folder: RunFolder, name: str) -> RunFolder:
    """The run once more, under another id and name."""
    copy = RunFolder(folder.path.with_name(f"{folder.id}-{name}"))
    shutil.copytree(folder.path, copy.path)
    copy.identity.write_text(json.dumps({**folder.read_identity(), "id": copy.id, "name": name}))
    return copy


def test_the_best_checkpoint_comes_along(tmp_path: Path, tiny_recipe: Make) -> None:
    settings = ["train.save_steps=2", "train.eval_steps=2", "train.save_total_limit=1"]
    parent = Attempt(open_home(tmp_path), tiny_recipe(*QUIET, *settings), "best")
    parent.stop_at = ("metrics", 7)
    with pytest.raises(Stopped):
        parent.run()
    best = json.loads((parent.latest() / "trainer_state.json").read_text())["best_global_step"]
    child = branch(
        parent.home,
        parent.folder,
        parent.folder.read_recipe().with_settings(["train.learning_rate=1e30"]),
    )
    kept = {path.name for path in checkpoints.whole(child, content=True)}
    assert kept == {f"step-{best}", "step-8"}
    weights = Path("step-8", "adapter_model.safetensors")
    assert (child.checkpoints / weights).samefile(parent.folder.checkpoints / weights)
    state = json.loads((child.checkpoints / "step-8" / "trainer_state.json").read_text())
    assert state["best_global_step"] == best


def test_losses_of_other_rows_are_not_compared_with_the_parents(parent: Attempt) -> None:
    before = parent.folder.read_recipe()
    recipe = before.with_settings(["evaluate.validation_rows=3"])
    [change] = changes(before, recipe)
    assert "the best validation loss so far does not count any more" in change.words
    child = branch(parent.home, parent.folder, recipe)
    [last] = checkpoints.whole(child, content=True)
    state = json.loads((last / "trainer_state.json").read_text())
    assert state["best_metric"] is None and state["best_global_step"] is None
    assert checkpoints.is_whole(parent.latest() or Path())


@pytest.mark.slow
def test_a_child_that_was_killed_at_once_is_not_done(tmp_path: Path, tiny_recipe: Make) -> None:
    parent = Attempt(open_home(tmp_path), tiny_recipe(*QUIET, "train.max_steps=4"), "done")
    parent.run()
    settings = ["train.max_steps=9", "train.eval_steps=3", "train.save_steps=9"]
    recipe = parent.folder.read_recipe().with_settings(settings)
    folder = branch(parent.home, parent.folder, recipe)
    note_queued(folder, 2)  # as after an attempt that saved nothing of its own
    launch(folder, 2)
    assert wait_until_dead(folder, 120)
    assert sorted(losses(folder)) == [5, 6, 7, 8, 9]
    assert {step for which, step in evaluations(folder) if which == "during"} == {6, 9}
