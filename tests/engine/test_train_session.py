"""A whole run of a tiny model: what its journal says, what it leaves on the disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.home import open_home
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.recipe import Recipe, TrainSection
from tests.engine.training import Attempt, events, losses

Make = Callable[..., Recipe]


def of(folder: RunFolder, type: str) -> list[dict[str, Any]]:
    return [event for event in read_all(folder.journal) if event["type"] == type]


def test_states_come_in_order_and_phases_are_named(tuned_run: RunFolder) -> None:
    states = of(tuned_run, "state")
    assert [s["state"] for s in states if s["state"] != "starting"] == [
        *("queued", "running", "running", "running", "finished")
    ]
    phases = [s["phase"] for s in states if s["state"] == "starting"]
    begun = list(dict.fromkeys(phase.split(":")[0] for phase in phases))
    assert begun == [
        *("starting", "preparing data", "importing torch", "importing transformers"),
        *("loading the model", "tokenising", "test loss before training"),
    ]
    seconds = {s["phase"] for s in states if "seconds" in s}
    assert seconds == set(begun) - {"starting"}
    # A viewer hears of torch before it is imported: that takes seconds.
    times = {s["phase"]: s["t"] for s in reversed(states) if s["state"] == "starting"}
    assert times["importing transformers"] < times["loading the model"]


def test_every_step_has_one_line_with_its_own_figures(tuned_run: RunFolder) -> None:
    metrics = of(tuned_run, "metrics")
    assert [m["step"] for m in metrics] == list(range(1, 17))
    for line in metrics:
        assert 0 < line["loss"] < 10 and line["grad_norm"] > 0
        assert line["tokens"] > 8 * 20 and line["step_seconds"] > 0
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["step_seconds"])
        assert line["peak_memory_bytes"] >= 0.5 * line["memory_bytes"] > 50e6
        assert 0 <= line["mean_token_accuracy"] <= 1
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert metrics[0]["learning_rate"] == 0.01
    assert metrics[8]["learning_rate"] == pytest.approx(0.005)


def test_running_names_sizes_and_versions(tuned_run: RunFolder) -> None:
    running = next(s for s in of(tuned_run, "state") if s["state"] == "running")
    # 2 layers of q, k, v, o, gate, up and down with rank 16: 16 * (in + out) each.
    sides = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    assert running["trainable_parameters"] == 2 * sum(16 * (a + b) for a, b in sides)
    assert running["max_steps"] == 16 and running["resume_step"] == 0
    assert running["backend"] == "transformers" and running["device"] == "cpu"
    assert running["dtype"] == "float32" and running["optim"] == "adamw_torch"
    assert running["gpu"] is None
    assert running["versions"].keys() >= {"torch", "transformers", "trl", "peft"}
    assert running["train_rows"] > 300 and running["test_rows"] > 5
    assert 200 << 20 < running["estimated_peak_bytes"] < 4 << 30


def test_evaluations_on_both_splits(tuned_run: RunFolder) -> None:
    found = [(e["which"], e["split"], e["step"]) for e in of(tuned_run, "evaluation")]
    during = [("during", "validation", step) for step in (4, 8, 12, 16)]
    assert found == [("before", "test", 0), *during, ("after", "test", 16)]
    before, after = (e for e in of(tuned_run, "evaluation") if e["split"] == "test")
    assert after["loss"] < before["loss"] - 0.3
    assert after["tokens"] == before["tokens"] > 0


def test_end_and_its_figures(tuned_run: RunFolder) -> None:
    end = of(tuned_run, "state")[-1]
    evaluations = [e for e in of(tuned_run, "evaluation") if e["which"] == "during"]
    best = min(evaluations, key=lambda e: e["loss"])
    assert end["steps"] == 16 and end["reason"] == "all steps done"
    assert end["eval_loss"] == best["loss"]
    assert end["best_checkpoint"] == f"checkpoints/step-{best['step']}"
    own = [m["loss"] for m in of(tuned_run, "metrics")]
    assert end["train_loss"] == pytest.approx(sum(own) / len(own))
    assert of(tuned_run, "exit")[-1]["exit_code"] == 0


def test_checkpoints_are_whole_and_rotated(tuned_run: RunFolder) -> None:
    lines = of(tuned_run, "checkpoint")
    assert [line["step"] for line in lines] == [4, 8, 12, 16]
    kept = checkpoints.whole(tuned_run, content=True)
    assert [checkpoints.step_of(path) for path in kept] == [12, 16]
    assert not list(tuned_run.checkpoints.glob(".*"))
    names = {path.name for path in kept[-1].iterdir()}
    assert names == {
        *("adapter_config.json", "adapter_model.safetensors", "manifest.json", "optimizer.pt"),
        *("rng_state.pth", "scheduler.pt", "trainer_state.json"),
    }


def test_the_adapter_is_the_best_checkpoint(tuned_run: RunFolder) -> None:
    from safetensors.torch import load_file

    best = tuned_run.path / of(tuned_run, "state")[-1]["best_checkpoint"]
    ours = load_file(tuned_run.adapter / "adapter_model.safetensors")
    theirs = load_file(best / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    config = json.loads((tuned_run.adapter / "adapter_config.json").read_text())
    assert config["r"] == 16 and config["lora_alpha"] == 32
    assert (tuned_run.adapter / "tokenizer.json").is_file()
    assert (tuned_run.adapter / "chat_template.jinja").is_file()


def test_libraries_print_neither_bars_nor_banners(tuned_run: RunFolder) -> None:
    log = tuned_run.log.read_text()
    assert "it/s" not in log and "Traceback" not in log
    assert len(log.splitlines()) < 10, log


def test_a_best_checkpoint_that_is_gone_is_warned_of(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.train.trainer import RunTrainer

    load = RunTrainer._load_best_model

    def gone(trainer: RunTrainer) -> None:
        trainer.state.best_global_step = 1  # no checkpoint was ever made there
        load(trainer)

    monkeypatch.setattr(RunTrainer, "_load_best_model", gone)
    attempt = Attempt(open_home(tmp_path), tiny_recipe("train.max_steps=4"), "gone")
    result = attempt.run()
    assert result["best_checkpoint"] is None
    (warning,) = of(attempt.folder, "warning")
    assert "step 1, the best one, is gone" in warning["message"]
    assert "last step, 4" in warning["message"]


def test_a_best_checkpoint_that_is_damaged_is_not_loaded(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.train.trainer import RunTrainer

    load = RunTrainer._load_best_model

    def damage(trainer: RunTrainer) -> None:
        best = trainer.best_checkpoint()
        assert best is not None and best.name == "step-4"
        weights = best / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8] + b"damaged!")  # of the same size
        load(trainer)

    monkeypatch.setattr(RunTrainer, "_load_best_model", damage)
    settings = ["train.max_steps=8", "train.learning_rate=0"]  # the first validation is the best
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*settings), "damaged")
    assert attempt.run()["best_checkpoint"] is None
    (warning,) = of(attempt.folder, "warning")
    assert "step 4, the best one, is gone or damaged" in warning["message"]


def test_same_seed_same_run_other_seed_other_run(tmp_path: Path, tiny_recipe: Make) -> None:
    home = open_home(tmp_path)
    settings = ["train.max_steps=4", "lora.lora_dropout=0.1", "evaluate.before=false"]
    first, again, other = (
        Attempt(home, tiny_recipe(*settings, f"train.seed={seed}"), name)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    for attempt in (first, again, other):
        attempt.run()
    assert losses(first.folder) == losses(again.folder)
    assert losses(first.folder)[1] != losses(other.folder)[1]


def test_a_run_that_diverges_fails_and_keeps_no_broken_weights(
    tmp_path: Path, tiny_recipe: Make
) -> None:
    settings = ["train.max_steps=8", "train.eval_steps=2", "train.save_steps=2"]
    recipe = tiny_recipe(*settings, "train.learning_rate=1e30", "evaluate.before=false")
    attempt = Attempt(open_home(tmp_path), recipe, "diverged")
    with pytest.raises(UserError, match=r"train\.learning_rate: .* at step 2: .* less than 1e\+30"):
        attempt.run()
    assert checkpoints.whole(attempt.folder) == [] and not attempt.folder.adapter.exists()


def test_full_fine_tuning_saves_a_whole_model(tmp_path: Path, tiny_recipe: Make) -> None:
    from transformers import AutoModelForCausalLM

    settings = ["lora.enabled=false", "train.max_steps=4", "train.learning_rate=1e-3"]
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*settings), "full")
    attempt.run()
    running = next(s for s in of(attempt.folder, "state") if s["state"] == "running")
    assert running["trainable_parameters"] == running["total_parameters"] > 100_000
    model = AutoModelForCausalLM.from_pretrained(attempt.folder.adapter)
    assert model.config.hidden_size == 64


def test_gradient_accumulation_is_one_step(tmp_path: Path, tiny_recipe: Make) -> None:
    """Two batches of 4 give the step that one of 8 gives: the loss is over all their tokens."""
    home = open_home(tmp_path)
    settings = ["train.max_steps=3", "evaluate.before=false"]
    one = Attempt(home, tiny_recipe(*settings), "one")
    two = Attempt(
        home,
        tiny_recipe(
            *settings,
            "train.per_device_train_batch_size=4",
            "train.gradient_accumulation_steps=2",
        ),
        "two",
    )
    one.run(), two.run()
    assert losses(one.folder) == pytest.approx(losses(two.folder), abs=1e-4)
    assert [m["tokens"] for m in of(one.folder, "metrics")] == [
        m["tokens"] for m in of(two.folder, "metrics")
    ]


def test_rows_with_nothing_to_train_on_are_left_out(tmp_path: Path, tiny_recipe: Make) -> None:
    settings = ["train.max_length=48", "train.max_steps=4"]
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*settings), "short")
    attempt.run()
    running = next(s for s in of(attempt.folder, "state") if s["state"] == "running")
    warnings = [w["message"] for w in of(attempt.folder, "warning")]
    assert any(
        "of train are left out" in words and "max_length = 48" in words for words in warnings
    )
    assert 0 < running["train_rows"] < 200


def test_an_empty_split_is_called_empty(tmp_path: Path, tiny_recipe: Make) -> None:
    attempt = Attempt(open_home(tmp_path), tiny_recipe("split.test=0.0000001"), "empty")
    with pytest.raises(UserError, match=r"split\.test: no row of \S+ fell to test"):
        attempt.run()


def test_asked_from_outside(tmp_path: Path, tiny_recipe: Make) -> None:
    """A save and an evaluation asked for at step 6 happen, and change nothing else."""
    home = open_home(tmp_path)
    plain = Attempt(home, tiny_recipe("lora.lora_dropout=0.1"), "plain")
    plain.run()
    asked = Attempt(home, tiny_recipe("lora.lora_dropout=0.1"), "asked")
    asked.requests = {6: ["save", "evaluate"]}
    asked.run()
    assert 6 in [line["step"] for line in of(asked.folder, "checkpoint")]
    assert (6, "asked") in [(e["step"], e["which"]) for e in of(asked.folder, "evaluation")]
    ends = [of(run.folder, "state")[-1] for run in (plain, asked)]
    assert ends[0]["eval_loss"] == ends[1]["eval_loss"]
    assert losses(asked.folder) == losses(plain.folder)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["model.device=cuda"], "model.device"),
        (["model.backend=unsloth"], "model.backend"),
        (["model.dtype=float16"], "model.dtype"),
        (["train.max_length=40"], "train.max_length"),
        (['lora.target_modules=["no_such_proj"]'], "lora.target_modules"),
    ],
)
def test_what_cannot_be_is_said_with_its_key(
    tmp_path: Path, tiny_recipe: Make, settings: list[str], key: str
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a machine without GPU is meant")
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*settings), "wrong")
    with pytest.raises(UserError) as caught:
        attempt.run()
    assert str(caught.value).startswith(f"{key}:") and "\n" not in str(caught.value)


BROKEN = """
from engine.errors import UserError
from engine.recipe import load_recipe
from engine.train.transformers_backend import TransformersBackend

backend = TransformersBackend()
backend.import_libraries()
recipe = load_recipe("demo", ["model.device=cpu"])
assert backend.load(recipe).device == "cpu"
try:
    backend.load(recipe.with_settings(["model.load_in_4bit=true"]))
except UserError as error:
    print(error)
"""


def test_a_broken_bitsandbytes_stops_4bit_only(tmp_path: Path) -> None:
    package = tmp_path / "bitsandbytes"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('no libcudart here\\nand more')")
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", BROKEN],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model.load_in_4bit: bitsandbytes cannot")
    assert "(no libcudart here); install" in done.stdout and done.stdout.count("\n") == 1


def test_damaged_weights_are_named(tmp_path: Path, tiny_recipe: Make) -> None:
    recipe = tiny_recipe()
    base = Path(recipe.model.model_name_or_path)
    copy = tmp_path / "damaged"
    shutil.copytree(base, copy)
    next(copy.glob("*.safetensors")).write_bytes(b"junk")
    damaged = recipe.with_settings([f"model.model_name_or_path={copy}"])
    attempt = Attempt(open_home(tmp_path / "home"), damaged, "damaged")
    with pytest.raises(UserError, match=r"^model\.model_name_or_path: \S+ cannot be loaded: "):
        attempt.run()


def test_4bit_without_bitsandbytes(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes.functional

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("libbitsandbytes.so: cannot open shared object file")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", broken)
    attempt = Attempt(open_home(tmp_path), tiny_recipe("model.load_in_4bit=true"), "quantised")
    with pytest.raises(UserError, match=r"^model\.load_in_4bit: .*cannot open shared object"):
        attempt.run()
    assert not events(attempt.folder, "metrics")


def test_every_optimiser_and_schedule_of_a_recipe_is_one_that_transformers_knows() -> None:
    from typing import get_args

    from transformers import SchedulerType
    from transformers.training_args import OptimizerNames

    fields = TrainSection.model_fields
    known = {name.value for name in OptimizerNames}
    assert set(get_args(fields["optim"].annotation)) - {"auto"} <= known
    known = {name.value for name in SchedulerType}
    assert set(get_args(fields["lr_scheduler_type"].annotation)) <= known
