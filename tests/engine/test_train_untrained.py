"""The untrained model's test loss is measured once, and again when anything differs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.home import Home, open_home
from engine.recipe import Recipe
from tests.engine.training import Attempt, events

Make = Callable[..., Recipe]
SHORT = ["train.max_steps=1", "train.eval_steps=1", "train.save_steps=1", "evaluate.sample_rows=0"]


def before(home: Home, recipe: Recipe, name: str) -> dict[str, object]:
    attempt = Attempt(home, recipe, name)
    attempt.run()
    [found] = [e for e in events(attempt.folder, "evaluation") if e["which"] == "before"]
    return found | {"run": attempt.folder.id}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_the_next_run_takes_what_was_measured(
    tmp_path: Path, tiny_recipe: Make, model: Path
) -> None:
    pytest.importorskip("torch")
    home = open_home(tmp_path / "home")
    same = [*SHORT, f"model.model_name_or_path={model}"]
    first = before(home, tiny_recipe(*same), "first")
    assert "measured_by" not in first
    again = before(home, tiny_recipe(*same, "train.learning_rate=1e-4", "lora.r=4"), "again")
    assert again["measured_by"] == first["run"]
    for key in ("loss", "rows", "tokens", "mean_token_accuracy", "split", "step"):
        assert again[key] == first[key]

    others = {
        "rows": ["split.seed=7"],
        "length": ["train.max_length=64"],
        "template": ["format.template=plain"],
        "dtype": ["model.dtype=bfloat16"],
        "kernels": ["model.kernels=fused"],
        "tokens": ['model.add_tokens=["<|new|>"]', "format.template=chat"],
    }
    for name, settings in others.items():
        assert "measured_by" not in before(home, tiny_recipe(*same, *settings), name), name

    for file in (home.path / "cache" / "untrained").iterdir():
        file.write_text("{}")  # no measurement
    assert "measured_by" not in before(home, tiny_recipe(*same), "torn")
    (model / "config.json").touch()  # another model, for all we know
    assert "measured_by" not in before(home, tiny_recipe(*same), "touched")
