"""What several tests of the engine share: a really tiny model, rows for it, and a finished run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe, load_recipe
from tests import tiny

# One thread, here and in the workers that tests start: the tiny model has nothing to share out, and
# threads that wait for each other on a busy machine take 20 times as long.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of 2 layers x 64 with a tokenizer and a chat template."""
    return tiny.build_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON Lines file with 400 invented products (``title``, ``content``)."""
    return tiny.write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="session")
def tiny_recipe(tiny_model: Path, tiny_rows: Path) -> Callable[..., Recipe]:
    """Makes recipes for the tiny model: 16 steps of 8 rows in half a second; settings on top."""

    def make(*settings: str) -> Recipe:
        return load_recipe(
            "demo",
            [
                f"data.source={tiny_rows}",
                "data.name=tiny",
                f"model.model_name_or_path={tiny_model}",
                "model.device=cpu",
                "train.max_steps=16",
                "train.eval_steps=4",
                "train.save_steps=4",
                "train.per_device_train_batch_size=8",
                *("train.learning_rate=1e-2", "train.lr_scheduler_type=linear"),
                *("train.warmup_steps=0", "train.weight_decay=0", "train.max_length=128"),
                *("lora.r=16", "lora.lora_alpha=32", "lora.lora_dropout=0"),
                "generate.max_new_tokens=24",
                *settings,
            ],
        )

    return make


@pytest.fixture(scope="session")
def tuned_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home that ``tuned_run`` lies in; for reading only."""
    return open_home(tmp_path_factory.mktemp("tuned") / "home")


@pytest.fixture(scope="session")
def tuned_run(tuned_home: Home, tiny_recipe: Callable[..., Recipe]) -> RunFolder:
    """A finished LoRA run of the tiny model, by supervisor and worker; for reading only."""
    from engine.jobs.launch import create_run, launch, wait_until_dead

    folder = create_run(tuned_home, tiny_recipe(), "tuned")
    launch(folder)
    assert wait_until_dead(folder, 120), folder.log_tail()
    return folder
