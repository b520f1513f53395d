"""The short form of the fault table: the scripted worker, hurt once in every way."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs import checkpoints, launch
from engine.recipe import load_recipe
from tests.engine.fakes import runs
from tests.engine.faults import FAULTS, Fault, Scene, disk, hurt, lock_database, losses

SHORT = tuple(
    dataclasses.replace(fault, act=lock_database(1.0)) if "locked" in fault.name else fault
    for fault in FAULTS
)


@pytest.fixture(autouse=True)
def scripted_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_a_run_survives(tmp_path: Path, fault: Fault) -> None:
    gate = tmp_path / "gate"
    with disk(tmp_path / "disk", 16) as mounted:
        if fault.needs_disk and mounted is None:
            pytest.skip("may not mount a file system")
        home = runs.make_home(
            (tmp_path / "disk" if fault.needs_disk else tmp_path) / "home",
            gate_at=12,
            gate=str(gate),
            steps=400,
        )
        os.sync()  # the test's own files; the run has to look after its own
        folder = launch.create_run(home, load_recipe("demo"))
        scene = Scene(home, folder, mounted if fault.needs_disk else None, runs.WORKER)
        line = hurt(fault, scene, lambda folder: len(losses(folder)) == 11, gate.touch)
        assert losses(folder) == {step: 4.0 / step for step in range(1, 401)}
        assert line["at step"] == 11
        if "half-written" in fault.name:
            assert line["last whole"] == "step-5"
        assert checkpoints.step_of(checkpoints.whole(folder)[-1]) == 400
