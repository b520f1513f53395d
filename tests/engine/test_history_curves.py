"""Every metric of a run, read on from where the last reading ended."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.history import ingest
from engine.history.curves import Curves
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs.create import create_run
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe


def line(step: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    base = {"v": 1, "t": 1000.0 + step, "type": "metrics", "attempt": attempt, "step": step}
    return base | {"loss": 5 - step / 100, "tokens": 100, "learning_rate": 1e-3} | more


class Writer:
    """A run whose journal is written by the test."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.folder: RunFolder = create_run(home, load_recipe("demo"), "curves")
        self.store: Store = open_store(home)
        self.curves = Curves(self.folder.id)

    def write(self, *lines: dict[str, Any]) -> None:
        with self.folder.journal.open("a") as file:
            file.writelines(json.dumps(one) + "\n" for one in lines)

    def read(self, attempt: int = 1) -> dict[str, tuple[Any, Any]]:
        ingest.ingest(self.home, self.store)
        return self.curves.read(self.store, attempt)


@pytest.fixture
def run(tmp_path: Path) -> Writer:
    return Writer(open_home(tmp_path))


def test_all_there_is_and_then_only_what_is_new(run: Writer) -> None:
    run.write(*(line(step, reward=step * 2) for step in range(1, 101)))
    first = run.read()
    assert first["loss"][0].tolist() == list(range(1, 101))
    assert first["loss"][1][-1] == pytest.approx(4.0)
    assert first["reward"][1].tolist() == [step * 2 for step in range(1, 101)]
    assert {"t", "tokens", "learning_rate"} <= first.keys()
    kept = first["loss"][1].copy()
    asked: list[str] = []
    query = run.store.query
    run.store.query = lambda sql, values=(): asked.append((sql, values)) or query(sql, values)  # type: ignore
    run.write(*(line(step) for step in range(101, 104)))
    again = run.read()
    assert again["loss"][0].tolist() == list(range(1, 104))
    [(_, values)] = [one for one in asked if "loss" in one[0] and "FROM metrics" in one[0]]
    assert values[:2] == (run.folder.id, 100), "only the new steps were asked for"
    assert first["loss"][1].tolist() == kept.tolist(), "what was handed out stays as it was"


def test_gaps_and_what_is_not_finite(run: Writer) -> None:
    run.write(
        line(1),
        line(2, loss=float("nan"), grad_norm=1.0, note="text", flag=True, extra_number="NaN"),
        line(3, loss=float("inf"), extra_number=2),
    )
    found = run.read()
    assert math.isnan(found["loss"][1][1]) and found["loss"][1][2] == math.inf
    assert found["grad_norm"][0].tolist() == [2.0], "a step without a value is left out"
    assert found["extra_number"][0].tolist() == [2.0, 3.0]
    assert not {"note", "flag"} & found.keys()


def test_a_resumed_run_is_read_anew(run: Writer) -> None:
    run.write(*(line(step) for step in range(1, 9)))
    run.read()
    state = {"v": 1, "t": 2000.0, "type": "state", "state": "running", "max_steps": 20}
    run.write(state | {"attempt": 2, "resume_step": 4}, line(5, 2, loss=1.0), line(6, 2, loss=0.5))
    found = run.read(attempt=2)
    assert found["loss"][0].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["loss"][1].tolist()[4:] == [1.0, 0.5]


def test_an_index_that_was_deleted_is_read_anew(run: Writer) -> None:
    run.write(*(line(step) for step in range(1, 9)))
    run.read()
    with run.store.transaction() as connection:
        connection.execute("DELETE FROM metrics WHERE step > 3")
    assert run.curves.read(run.store, 1)["loss"][0].tolist() == [1, 2, 3]


def test_readings_of_devices_stand_at_their_steps(run: Writer) -> None:
    def reading(t: float, **more: Any) -> dict[str, Any]:
        base = {"v": 1, "t": t, "type": "memory", "attempt": 1, "device": "cuda:0"}
        return base | {"used_bytes": 5 << 30, "total_bytes": 8 << 30, "peak_bytes": 1} | more

    run.write(line(1), line(2), reading(1001.5, utilisation=80), line(3), reading(1003.0))
    found = run.read()
    assert found["used_bytes cuda:0"][0].tolist() == [1.5, 3.0]
    assert found["utilisation cuda:0"][1].tolist() == [80.0]
    run.write(line(4), reading(1004.0))
    assert run.read()["used_bytes cuda:0"][0].tolist() == [1.5, 3.0, 4.0]


def test_a_long_run_is_read_in_pieces(run: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.history.curves.PIECE", 40)
    reading = {"v": 1, "type": "memory", "attempt": 1, "device": "cuda:0", "used_bytes": 1}
    run.write(*(line(step) for step in range(1, 101)), reading | {"t": 1090.0})
    sizes = []
    for _ in range(4):
        found = run.read()
        sizes.append((len(found["loss"][0]), "used_bytes cuda:0" in found, run.curves.more))
    assert sizes == [(40, False, True), (80, False, True), (100, True, False), (100, True, False)]
    assert found["used_bytes cuda:0"][0].tolist() == [90.0], "not at the end of a piece"


def test_so_many_metrics_are_no_metrics(run: Writer) -> None:
    run.write(line(1, **{f"m{number}": number for number in range(500)}))
    assert 190 <= len(run.read()) <= 200
    assert isinstance(np.asarray(run.read()["loss"][1]), np.ndarray)
