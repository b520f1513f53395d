"""The estimate that a run records beside its measured peak."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.preflight.memory import Setup, estimate
from engine.preflight.shape import read_shape
from engine.recipe import Recipe, builtin_recipes, read_recipe
from engine.train import estimated
from engine.train.backend import Loaded
from engine.train.estimated import estimated_peak_bytes

SPLITS: Any = {
    name: SimpleNamespace(dataset=np.array(lengths))
    for name, lengths in {"train": [12, 90, 64], "validation": [70, 8], "test": [96]}.items()
}
CPU = Loaded(None, None, "cpu", "float32", None, "chunked_nll")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(estimated, "row_lengths", lambda dataset: dataset)
    return read_recipe(builtin_recipes()["demo"])


def test_it_is_the_preflights_of_the_longest_rows(recipe: Recipe) -> None:
    setup = Setup(backend="transformers", device="cpu", dtype="float32", padding=True)
    expected = estimate(recipe, read_shape(recipe), setup, 90, 96).peak
    assert estimated_peak_bytes(recipe, "transformers", CPU, SPLITS) == expected > 600 << 20


def test_it_knows_how_the_model_was_loaded(recipe: Recipe) -> None:
    loaded = Loaded(None, None, "cuda:0", "bfloat16", None, "nll", flat=True, unpacked=True)
    setup = Setup("transformers", "cuda", "bfloat16", padding=True, fused=True, unpacked=True)
    expected = estimate(recipe, read_shape(recipe), setup, 90, 96).peak
    assert estimated_peak_bytes(recipe, "transformers", loaded, SPLITS) == expected


def test_what_cannot_be_estimated_is_no_reason_to_fail(recipe: Recipe) -> None:
    assert estimated_peak_bytes(recipe, "transformers", CPU, {}) is None
    lost = recipe.with_settings(["model.model_name_or_path=/nowhere"])
    assert estimated_peak_bytes(lost, "transformers", CPU, SPLITS) is None
    settings = ["train.num_processes=2", "lora.enabled=false", "train.fsdp=true"]
    sharded = recipe.with_settings(settings)
    assert estimated_peak_bytes(sharded, "transformers", CPU, SPLITS) is None
