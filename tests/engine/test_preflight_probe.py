"""The probe on a CPU: the very trainer, two steps on the longest rows, nothing left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.data.prepare import prepare
from engine.home import Home, open_home
from engine.preflight.look import look, measure, run_probe
from engine.preflight.report import document, lines
from engine.preflight.resolve import Resolved, resolve
from engine.recipe import Recipe

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("probe") / "home")


@pytest.fixture(scope="module")
def resolved(home: Home, tiny_recipe: Make) -> Resolved:
    recipe = tiny_recipe("train.gradient_accumulation_steps=4")
    return resolve(home, recipe, prepare(home, recipe))


@pytest.fixture(scope="module")
def probed(home: Home, resolved: Resolved) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    return run_probe(home, resolved, told.append), told


def test_a_probe_measures_every_phase(
    home: Home, resolved: Resolved, probed: tuple[dict[str, Any], list[str]]
) -> None:
    found, told = probed
    assert told[:3] == ["importing torch", "importing transformers", "loading the model"]
    assert found["backend"] == "transformers" and found["device"] == "cpu"
    (attempt,) = found["attempts"]
    assert set(attempt["phases"]) == {"evaluation", "training", "speed", "generation"}
    assert attempt["peak_bytes"] > 100e6  # of a process with torch in it
    assert len(attempt["longest_step_seconds"]) == 2 and attempt["steps"] == 11
    assert attempt["per_device_train_batch_size"] == 8
    assert attempt["gradient_accumulation_steps"] == 4
    # A step of the run is four batches; the probe made steps of two.
    assert attempt["step_seconds"] > 0 and attempt["tokens_per_second"] > 0
    assert attempt["ends_masked"] == 0
    # Weights and AdamW's two moments of what is trained.
    assert attempt["trained_bytes"] == 4 * found["trainable_parameters"]
    assert attempt["checkpoint_bytes"] == pytest.approx(3 * attempt["trained_bytes"], rel=0.01)
    assert not list(home.runs.iterdir())


def test_what_was_measured_takes_the_place_of_what_was_estimated(
    home: Home, resolved: Resolved, probed: tuple[dict[str, Any], list[str]]
) -> None:
    found, _ = probed
    seen = measure(home, look(home, resolved), found, search=False)
    (attempt,) = found["attempts"]
    told = document(seen)
    assert told["memory"]["measured_bytes"] == attempt["peak_bytes"]
    assert told["disk"]["checkpoint_bytes"] == attempt["checkpoint_bytes"]
    assert told["pace"]["source"] == "probe"
    training = attempt["step_seconds"] * resolved.steps
    assert told["pace"]["training_seconds"] == pytest.approx(training)
    assert told["hours"] * 3600 > training
    assert any("measured now" in line for line in lines(seen))
    assert all(len(line) <= 80 for line in lines(seen))


@pytest.mark.slow
def test_the_finder_keeps_the_effective_batch_and_heeds_the_limit(
    home: Home, tiny_recipe: Make
) -> None:
    recipe = tiny_recipe(
        "train.per_device_train_batch_size=2", "train.gradient_accumulation_steps=6"
    )
    resolved = resolve(home, recipe, prepare(home, recipe))
    found = run_probe(home, resolved, search=True, limit_bytes=1 << 50)
    sizes = [attempt["per_device_train_batch_size"] for attempt in found["attempts"]]
    assert sizes == [2, 4, 6, 12]  # about doubling, all divisors of 12
    for attempt in found["attempts"]:
        product = attempt["per_device_train_batch_size"] * attempt["gradient_accumulation_steps"]
        assert product == 12
        assert attempt["steps"] == 11
    seen = measure(home, look(home, resolved), found, search=True)
    assert seen.finder and seen.finder["settings"] == {
        "train.per_device_train_batch_size": 12,
        "train.gradient_accumulation_steps": 1,
    }
    fastest = max(found["attempts"], key=lambda one: one["tokens_per_second"])
    assert seen.finder["fastest"] == fastest
    assert any("largest that fits" in line for line in lines(seen))

    # The same attempts under a limit that only the first one keeps.
    peaks = [attempt["peak_bytes"] for attempt in found["attempts"]]
    tight = found | {"limit_bytes": int(peaks[0] / 0.92) + 1}
    seen = measure(home, look(home, resolved), tight, search=True)
    assert seen.finder and seen.finder["best"]["peak_bytes"] <= peaks[0]
    # And under one that none keeps: an error, and no settings.
    seen = measure(home, look(home, resolved), found | {"limit_bytes": 1000}, search=True)
    assert seen.finder and seen.finder["best"] is None and not seen.finder["settings"]
    assert seen.warnings[-1].key == "no_batch_fits"


def test_where_nothing_fits_nothing_is_started(
    tmp_path: Path,
    tiny_recipe: Make,
    probed: tuple[dict[str, Any], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command, on what was measured, as if the device were smaller."""
    small = probed[0] | {"limit_bytes": 1 << 20}
    monkeypatch.setattr("engine.preflight.look.run_probe", lambda *args, **kwargs: small)
    file = tmp_path / "r.toml"
    file.write_text(tiny_recipe().to_toml())
    words = ["train", str(file), "--find-batch-size", "--home", str(tmp_path / "home"), "--json"]
    assert main(words) == 1
    assert "no batch fits" in capsys.readouterr().err
    assert not list((tmp_path / "home" / "runs").iterdir())


def test_dry_run_with_a_probe_is_one_document(
    tmp_path: Path, tiny_recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packed, in 4 bits, with checkpointing: the ways that change what a batch is."""
    file = tmp_path / "r.toml"
    settings = [
        "train.packing=true",
        "train.max_length=200",
        "model.load_in_4bit=true",
        "train.gradient_checkpointing=true",
        "train.per_device_train_batch_size=4",
    ]
    file.write_text(tiny_recipe(*settings).to_toml())
    words = ["train", str(file), "--dry-run", "--probe", "--json"]
    assert main([*words, "--home", str(tmp_path / "home")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["probe"]["attempts"][0]["steps"] == 11
    assert found["data"]["train"]["sequences"] < found["data"]["train"]["rows"] / 2
    assert found["hours"] > 0 and found["memory"]["measured_bytes"] > 0
    assert found["model"]["trainable"] == found["probe"]["trainable_parameters"]
