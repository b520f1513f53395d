"""Frozen sweeps, kin, and a run that ran out of memory, for the Runs screen's tests."""

import json
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from tests.tui.conftest import NOW, detail, loss_at, row
from tui.feed import RunDetail, Snapshot

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
RANKS = (8, 16)


def point(number: int, rank: int, rate: float, state: str, sweep: str = "grid") -> RunDetail:
    """The run of one combination; better with a higher rate, up to 1e-3."""
    steps = {"finished": 120, "failed": 50, "running": 57, "stopping": 57}.get(state, 0)
    shift = 0.08 * abs(np.log(rate / 1e-3)) - 0.004 * rank
    ended = {"ended": NOW - 60 * number} if state in ("finished", "failed") else {}
    fields: dict[str, Any] = {
        "id": f"20251122-08{number:02d}-grid",
        "created": NOW - 5000 + number,
        "started": NOW - 4000 + 100 * number if steps else None,
        "sweep": sweep,
        "sweep_values": json.dumps({"lora.r": rank, "train.learning_rate": rate}),
        "max_steps": 120 if steps else None,
        "step": steps or None,
        "device": "cpu" if steps else None,
        **ended,
    }
    if steps:
        fields |= {"loss": loss_at(steps) + shift}
    if steps >= 40:
        best = loss_at(steps // 40 * 40) + 0.1 + shift
        fields |= {"best_eval_loss": best, "best_step": steps // 40 * 40}
    name = f"{sweep}-r{rank}-lr{rate:g}".replace("-0", "-")
    made = detail(row(name, state, **fields), steps)
    if not steps:
        return replace(made, series={}, evaluations=[], samples=[], checkpoints=[], log=[])
    x, y = made.series["loss"]
    evaluations = [{**one, "loss": one["loss"] + shift} for one in made.evaluations]
    return replace(made, series={**made.series, "loss": (x, y + shift)}, evaluations=evaluations)


def grid(sweep: str = "grid") -> list[RunDetail]:
    """Eight runs, newest first: three finished, one failed, one running, three waiting."""
    states = ("finished", "finished", "failed", "finished", "running", *["queued"] * 3)
    points = zip(product(RANKS, RATES), states, strict=True)
    made = [point(n, rank, rate, state, sweep) for n, ((rank, rate), state) in enumerate(points)]
    return made[::-1]


def many(count: int) -> Snapshot:
    """A sweep of ``count`` finished runs."""
    made = [point(n, 8 + n, 1e-4 * (1 + n), "finished") for n in range(count)]
    return Snapshot([one.row for one in made], {one.row.id: one for one in made}, True)


def out_of_memory() -> RunDetail:
    """Ended in step 12, with what was missing and what to do."""
    reason = "out of memory while training: 1.9 GiB more asked for, 0.6 GiB free of 15.8 GiB"
    suggestion = {
        "words": "halve the batch and double accumulation: 16 x 2 rows a step instead of 32 x 1",
        "settings": {"train.per_device_train_batch_size": 16},
    }
    error = {"kind": "out_of_memory", "message": reason, "suggestion": suggestion}
    run = row(
        "tight", "failed", step=12, max_steps=120, loss=loss_at(12), ended=NOW - 60, exit_code=1,
        reason=reason, error_kind="out_of_memory", error=json.dumps(error),
        checkpoint="checkpoints/step-10",
    )  # fmt: skip
    ending = [
        ("tried", "training a batch of 32 rows of up to 512 tokens"),
        (
            "missing",
            "1.3 GiB: 1.9 GiB more asked for, 0.6 GiB free of 15.8 GiB (this run 15.1)",
        ),
        ("next", suggestion["words"]),
    ]
    return detail(run, 12, ending=ending, suggested=True, events=events(reason))


def events(reason: str) -> list[dict[str, Any]]:
    found = [
        (600, "state", "starting: importing torch"),
        (580, "state", "running"),
        (300, "warning", "3 rows are cut: their answers lose the end"),
        (60, "error", reason),
        (59, "state", "failed"),
        (59, "exit", "ended with exit status 1"),
    ]
    return [{"t": NOW - ago, "attempt": 1, "type": kind, "text": text} for ago, kind, text in found]


def child(parent: RunDetail) -> RunDetail:
    """A run that goes on from another one, with two changes, a note and tags."""
    run = replace(
        parent.row, id="20251122-0900-child", name="tight-2", parent=parent.row.id,
        state="running", ended=None, reason=None, error=None, error_kind=None, exit_code=None,
        created=NOW - 30, started=NOW - 30,
    )  # fmt: skip
    return detail(
        run,
        12,
        changes=[
            ("train.per_device_train_batch_size", 32, 16),
            ("train.gradient_accumulation_steps", 1, 2),
        ],
        notes=[{"id": "n", "t": NOW - 20, "text": "half the batch, as it said"}],
        tags=["keep", "t4"],
        events=events("")[:2],
    )
