"""Twenty runs of the demo in short form, each hurt once: by ten faults, early and late.

Real training on the CPU. Every time: nothing that had been journaled is lost, the history says the
true end, ``resume`` finishes the run where it did not go on by itself, and the loss of every step
equals the undisturbed run's within 1e-5. Prints the table (``-s``).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.home import open_home
from engine.jobs import launch
from engine.recipe import load_recipe
from tests.engine.fakes import runs
from tests.engine.faults import FAULTS, Fault, Scene, disk, hurt, losses

pytestmark = pytest.mark.slow

STEPS = 32
SETTINGS = [
    *("data.catalogue_rows=3000", f"train.max_steps={STEPS}", "train.eval_steps=8"),
    *("train.save_steps=8", "evaluate.validation_rows=32", "evaluate.test_rows=32"),
    *("lora.lora_dropout=0.1", "evaluate.sample_rows=0", "train.per_device_train_batch_size=8"),
]
MOMENTS = {"early": 3, "late": 19}
"""Before the first checkpoint, and some steps after the second."""
TOLERANCE = 1e-5
SECONDS = 300.0
DISK_MIB = 192


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run that nobody hurt."""
    home = open_home(tmp_path_factory.mktemp("home"))
    folder = launch.create_run(home, load_recipe("demo", SETTINGS))
    launch.launch(folder)
    assert launch.wait_until_dead(folder, SECONDS), folder.log_tail()
    found = losses(folder)
    assert list(found) == list(range(1, STEPS + 1)), folder.log_tail()
    return found


@pytest.fixture(scope="module")
def table() -> Iterator[list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    yield lines
    if lines:
        print()
        print("| " + " | ".join(lines[0]) + " |")
        print("|" + " --- |" * len(lines[0]))
        for line in lines:
            print("| " + " | ".join(str(value) for value in line.values()) + " |")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_run_survives(
    tmp_path: Path,
    fault: Fault,
    moment: str,
    undisturbed: dict[int, float],
    table: list[dict[str, Any]],
) -> None:
    with disk(tmp_path / "disk", DISK_MIB) as mounted:
        if fault.needs_disk and mounted is None:
            pytest.skip("may not mount a file system")
        home = open_home((tmp_path / "disk" if fault.needs_disk else tmp_path) / "home")
        folder = launch.create_run(home, load_recipe("demo", SETTINGS))
        scene = Scene(home, folder, mounted if fault.needs_disk else None)
        line = hurt(fault, scene, lambda run: len(losses(run)) >= MOMENTS[moment], seconds=SECONDS)
        found = losses(folder)
        assert found.keys() == undisturbed.keys()
        worst = max(abs(found[step] - undisturbed[step]) for step in found)
        states = [event["state"] for event in runs.events(folder, "state")]
    table.append({**line, "largest difference": f"{worst:.1e}"})
    assert worst <= TOLERANCE
    assert states[-1] == "finished"
