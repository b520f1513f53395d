"""Two processes on the CPU (gloo) train as one with their batches together does.

Through supervisor, lead, accelerate's launcher and ranks, all of them real.
"""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.history.follow import state_of
from engine.home import Home, open_home
from engine.jobs import checkpoints, control, launch
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe
from engine.train.ranks import Ranks
from engine.train.shares import Shared, forget_repeats
from tests.engine.fakes import rank_processes, runs
from tests.engine.training import Attempt, evaluations, events, losses

Make = Callable[..., Recipe]
SECONDS = 240.0

TOLERANCE = 1e-5
"""Sums of float32 in another order: 5e-7 was seen over 16 steps. A row too many, or a loss averaged
over processes instead of tokens, would show at 1e-2."""

BATCH = 12
"""A process's. The 353 rows are 14 batches of two processes and 17 rows: in the last step of the
epoch, the 15th, one has 12 of them and the other 5."""

SHARDED = ("lora.enabled=false", "train.learning_rate=1e-3")
SMOOTHED = "train.label_smoothing_factor=0.1"
"""Transformers knows by the model's class how: sharding changes that."""
DROPOUT = ("lora.lora_dropout=0.1",)
LONG = ("train.eval_steps=2000", "train.save_steps=2000")
slow = pytest.mark.slow


def two(make: Make, *settings: str) -> Recipe:
    size = f"train.per_device_train_batch_size={BATCH}"
    return make("train.num_processes=2", size, *settings)


def begin(home: Home, recipe: Recipe, name: str) -> RunFolder:
    folder = launch.create_run(home, recipe, name)
    launch.launch(folder)
    return folder


def finish(folder: RunFolder) -> None:
    rank_processes.ended(folder, SECONDS)
    assert state_of(folder).state == "finished", folder.log_tail()


def reached(folder: RunFolder, step: int) -> None:
    runs.wait(
        lambda: len(losses(folder)) >= step or not launch.is_alive(folder), f"{step}", SECONDS
    )
    assert len(losses(folder)) >= step, folder.log_tail()


def differ(one: RunFolder, other: RunFolder) -> float:
    mine, theirs = losses(one), losses(other)
    assert mine.keys() == theirs.keys() and len(mine) == 16
    return max(abs(mine[step] - theirs[step]) for step in mine)


def check_equal(one: RunFolder, other: RunFolder) -> None:
    worst = differ(one, other)
    print(f"steps differ by up to {worst:.1e}")
    assert worst <= TOLERANCE
    assert evaluations(one) == pytest.approx(evaluations(other), abs=TOLERANCE)
    for key in ("tokens", "rows"):
        assert [e[key] for e in last_of_each(one)] == [e[key] for e in last_of_each(other)]
    ends = [events(folder, "state")[-1] for folder in (one, other)]
    assert ends[0]["best_checkpoint"] == ends[1]["best_checkpoint"]
    assert ends[0]["eval_loss"] == pytest.approx(ends[1]["eval_loss"], abs=TOLERANCE)


def last_of_each(folder: RunFolder) -> list[dict[str, Any]]:
    found = {(e["which"], e["step"]): e for e in events(folder, "evaluation")}
    return [found[key] for key in sorted(found)]


def tokens(folder: RunFolder) -> dict[int, int]:
    return {e["step"]: e["tokens"] for e in events(folder, "metrics")}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), marks=slow, id="lora"),
        pytest.param(("model.kernels=fused",), id="fused"),
        pytest.param((*SHARDED, SMOOTHED), marks=slow, id="sharded"),
    ],
)
def test_two_processes_equal_one_and_go_on_after_one_was_killed(
    tmp_path: Path, tiny_recipe: Make, settings: tuple[str, ...]
) -> None:
    home = open_home(tmp_path)
    whole = tiny_recipe(f"train.per_device_train_batch_size={2 * BATCH}", *settings)
    one = Attempt(home, whole, "one")
    one.run()
    folder = begin(home, two(tiny_recipe, *settings), "two")
    reached(folder, random.Random().randint(1, 12))
    assert rank_processes.open_to_the_network(rank_processes.of_run(folder)) == []
    os.kill(rank_processes.pid_of(folder, "rank 1"), signal.SIGKILL)
    rank_processes.ended(folder, SECONDS)
    row = state_of(folder)
    assert row.state == "failed"
    assert (row.reason or "").startswith("process 2 of 2 (rank 1) was killed by SIGKILL")
    launch.resume(home, folder)
    finish(folder)
    check_equal(folder, one.folder)
    assert tokens(folder) == tokens(one.folder)
    (*_, running) = (e for e in events(folder, "state") if "max_steps" in e)
    assert running["num_processes"] == 2
    log = [line for line in folder.log_tail(100) if line.strip()]
    assert len(log) <= 4, "at most a line a cause and attempt"
    assert (folder.adapter / "manifest.json").is_file()


@slow
@pytest.mark.parametrize("settings", [DROPOUT, SHARDED], ids=["dropout", "sharded"])
def test_whatever_is_killed_the_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, tiny_recipe: Make, settings: tuple[str, ...]
) -> None:
    home, recipe = open_home(tmp_path), two(tiny_recipe, *settings)
    whole = begin(home, recipe, "whole")
    finish(whole)
    for which in ("rank 0", "rank 1", "launcher", "lead", "supervisor"):
        folder = begin(home, recipe, which.replace(" ", "-"))
        step = random.Random().randint(1, 13)
        reached(folder, step)
        os.kill(rank_processes.pid_of(folder, which), signal.SIGKILL)
        if which == "supervisor":
            runs.wait(lambda: launch.reap() or launch.adopt(folder), "a new supervisor")  # noqa: B023
        else:
            rank_processes.ended(folder, SECONDS)
            assert state_of(folder).state == ("killed" if which == "lead" else "failed")
            launch.resume(home, folder)
        finish(folder)
        print(f"{which} killed after step {step}: {differ(folder, whole):.1e}")
        check_equal(folder, whole)


@slow
def test_stop_save_and_evaluate_are_done_by_all(tmp_path: Path, tiny_recipe: Make) -> None:
    home = open_home(tmp_path)
    recipe = two(
        tiny_recipe, "train.max_steps=4000", "train.eval_steps=2000", "train.save_steps=2000"
    )
    folder = begin(home, recipe, "asked")
    reached(folder, 3)
    for action in ("save", "evaluate"):
        control.request(folder, action)
    runs.wait(lambda: events(folder, "checkpoint"), "the checkpoint", SECONDS)
    runs.wait(
        lambda: [e for e in events(folder, "evaluation") if e["which"] == "asked"],
        "the evaluation",
        SECONDS,
    )
    control.request(folder, "stop")
    rank_processes.ended(folder, SECONDS)
    assert state_of(folder).state == "stopped"
    (found, last) = checkpoints.whole(folder)
    for checkpoint in (found, last):
        names = {path.name for path in checkpoint.iterdir()}
        assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt"} <= names
    assert checkpoints.step_of(last) == max(losses(folder))


# ---- shares -------------------------------------------------------------------------------------


def ranks(index: int, count: int) -> Ranks:
    found = Ranks()
    found.index, found.count = index, count
    return found


@pytest.mark.parametrize(("rows", "size", "count"), [(29, 4, 2), (8, 4, 2), (3, 4, 3), (25, 4, 3)])
def test_every_row_is_evaluated_once(rows: int, size: int, count: int) -> None:
    import torch

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"labels": torch.tensor([[row["number"], row["number"]] for row in rows])}

    dataset = [{"number": number} for number in range(rows)]
    seen: list[int] = []
    lengths = set()
    for index in range(count):
        share = Shared(dataset, size, collate, ranks(index, count), lambda batch: batch)
        batches = list(share)
        lengths |= {len(batches), len(share)}
        seen += [int(row[0]) for batch in batches for row in batch["labels"] if row[0] >= 0]
    assert sorted(seen) == list(range(rows))
    assert len(lengths) == 1, "processes with sharded weights must run in step"


@pytest.mark.parametrize(("rows", "expected"), [(1, (1, 0)), (4, (4, 0)), (5, (4, 1)), (8, (4, 4))])
def test_what_an_epochs_last_batch_repeats_counts_not(rows: int, expected: tuple[int, int]) -> None:
    import torch

    for index in range(2):
        batch = {
            "labels": torch.ones(4, 3, dtype=torch.long),
            "attention_mask": torch.ones(4, 3, dtype=torch.long),
        }
        forget_repeats(batch, rows, index, 2)
        trained = int((batch["labels"] == 1).all(1).sum())
        counted = batch.get("row_tokens", batch["attention_mask"].sum(1))
        assert (trained, int(counted.sum())) == (expected[index], 3 * expected[index])


@pytest.mark.parametrize(("rows", "expected"), [(1, (1, 0)), (2, (2, 0)), (3, (2, 1)), (4, (2, 2))])
def test_nor_does_it_where_rows_are_one_line(rows: int, expected: tuple[int, int]) -> None:
    import torch

    from engine.train.fused.flat import FlatCollator
    from engine.train.rows import IGNORED

    examples = [
        {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]},
        {"input_ids": [4, 5, 6, 7, 8], "labels": [4, 5, 6, 7, 8], "seq_lengths": [2, 3]},
    ]
    for index in range(2):
        batch = FlatCollator(9)(examples)
        forget_repeats(batch, rows, index, 2)
        own = expected[index]
        assert batch["row_tokens"].tolist() == [3, 5][:own]
        assert batch["loss_targets"].tolist() == [2, 3, 5, 7, 8][: (0, 2, 5)[own]]
        assert batch["loss_positions"].tolist() == [0, 1, 3, 5, 6][: (0, 2, 5)[own]]
        assert torch.equal(batch["labels"][batch["labels"] != IGNORED], batch["loss_targets"])
