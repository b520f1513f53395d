"""Model folders that cannot be trained are refused before anything is started."""

import json
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.jobs.check import check_model
from engine.model_files import find_file
from engine.recipe import Recipe, load_recipe


def recipe(model: object) -> Recipe:
    return load_recipe("demo", [f"model.model_name_or_path={json.dumps(str(model))}"])


def refused(model: object) -> str:
    with pytest.raises(UserError) as caught:
        check_model(recipe(model))
    return str(caught.value)


def test_folders_without_a_whole_model(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none")
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in refused(file)
    model = tmp_path / "model"
    model.mkdir()
    assert "config.json" in refused(model)
    (model / "adapter_config.json").touch()
    assert "an adapter, not a model" in refused(model)
    (model / "config.json").write_text("{}")
    assert "no weights" in refused(model)
    (model / "pytorch_model.bin").touch()
    assert "pickled" in refused(model)
    (model / "model-00001-of-00002.safetensors").touch()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "1 of 2 weight files are missing (model-2.safetensors" in refused(model)
    (model / "model-2.safetensors").touch()
    check_model(recipe(model))


def test_a_hub_id_is_left_to_the_worker() -> None:
    check_model(recipe("unsloth/Llama-3.2-3B"))


def test_a_name_that_no_file_can_have_is_refused_in_words() -> None:
    assert "File name too long" in refused("x" * 300)
    assert find_file("x" * 300, "config.json") is None
