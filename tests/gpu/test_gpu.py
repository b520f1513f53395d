"""A short run of the tiny model on a GPU with each backend, by the real supervisor and worker."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.jobs.launch import create_run, launch, wait_until_dead
from engine.recipe import Recipe, load_recipe
from tests import tiny

pytestmark = pytest.mark.gpu

BACKENDS = [
    "transformers",
    pytest.param(
        "unsloth",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("unsloth") is None, reason="unsloth is not installed"
        ),
    ),
]


@pytest.fixture(scope="module")
def cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(scope="module")
def home(cuda: None, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("gpu") / "home")


@pytest.fixture(scope="module")
def recipe(home: Home) -> Callable[..., Recipe]:
    # Unsloth's kernels want heads of at least 32 and sides that are multiples of 64.
    model = tiny.build_model(home.path / "model", hidden=256)
    rows = tiny.write_rows(home.path / "rows.jsonl")

    def make(*settings: str) -> Recipe:
        return load_recipe(
            "demo",
            [
                f"data.source={rows}",
                f"model.model_name_or_path={model}",
                *("model.device=cuda", "train.max_steps=12", "train.learning_rate=1e-2"),
                *("train.eval_steps=4", "train.save_steps=4"),
                *settings,
            ],
        )

    return make


def finish(home: Home, recipe: Recipe, name: str) -> RunFolder:
    folder = create_run(home, recipe, name)
    launch(folder)
    assert wait_until_dead(folder, 400), "still running"
    return folder


def events(folder: RunFolder, type: str) -> list[dict[str, Any]]:
    return [event for event in read_all(folder.journal) if event["type"] == type]


@pytest.mark.parametrize("four_bit", ["true", "false"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run(home: Home, recipe: Callable[..., Recipe], backend: str, four_bit: str) -> None:
    settings = [f"model.backend={backend}", f"model.load_in_4bit={four_bit}"]
    folder = finish(home, recipe(*settings), f"{backend}-{four_bit}")
    end = events(folder, "state")[-1]
    assert end["state"] == "finished", folder.log_tail(60)
    metrics = events(folder, "metrics")
    assert [m["step"] for m in metrics] == list(range(1, 13))
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert all(m["peak_memory_bytes"] >= m["memory_bytes"] > 0 for m in metrics)
    running = next(s for s in events(folder, "state") if s["state"] == "running")
    assert running["backend"] == backend and running["device"] == "cuda:0"
    assert running["gpu"] and running["optim"] == "adamw_torch_fused"
    before, after = (e["loss"] for e in events(folder, "evaluation") if e["split"] == "test")
    assert after < before
    assert (folder.adapter / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("backend", BACKENDS)
def test_base_and_tuned_side_by_side(
    home: Home, recipe: Callable[..., Recipe], backend: str, tmp_path: Path
) -> None:
    from engine.generate.answer_all import generate_all
    from engine.generate.columns import base_column, run_column

    folder = finish(home, recipe(f"model.backend={backend}"), f"{backend}-answers")
    tuned = run_column(folder)
    answers = generate_all(home, [base_column(tuned), tuned], ["red oak kettle"])
    assert [answer["column"] for answer in answers] == ["base", folder.id]
    assert answers[0]["text"] != answers[1]["text"]


def test_the_bench_measures_everybody(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Three to four minutes: random weights of the 1b shape, four contestants, few steps."""
    names = ["tunebench", "unsloth", "trl-4bit", "bare"]
    if importlib.util.find_spec("unsloth") is None:
        names.remove("unsloth")
    words = ["bench", "--shape", "1b", "--steps", "10", "--batch", "8", "--rows", "corpus"]
    status = cli.main([*words, "--only", ",".join(names), "--home", str(home.path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert status == 0 and document["gpu"] and document["card"]["flops_per_second"] > 1e12
    results = {one["contestant"]: one for one in document["results"]}
    assert set(results) == set(names)
    for name, one in results.items():
        assert one["state"] == "finished" and one["counted_steps"] == 6, (name, one["reason"])
        assert 0 < one["to_limit"] < 1 and one["peak_memory_bytes"] > 1e9
    if "unsloth" in results:
        assert "padding_free" in results["unsloth"]["facts"], "its own choice is told"
