"""The arithmetic of memory against models that are really built, and what torch really keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.preflight.memory import Setup, estimate, layer_bytes, optimizer_bytes
from engine.preflight.shape import ModelShape, _by_config, _json, read_shape
from engine.recipe import Recipe
from engine.train.optim import resolve_optim
from tests import tiny

Make = Callable[..., Recipe]
ROWS, WIDE = 4, 32


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of models with 2 and 4 layers: what differs is what two layers take."""
    folder = tmp_path_factory.mktemp("models")
    return {n: tiny.build_model(folder / str(n), layers=n) for n in (2, 4)}


def load(recipe: Recipe) -> Any:
    from engine.train.transformers_backend import TransformersBackend

    backend = TransformersBackend()
    backend.import_libraries()
    return backend.load(recipe).model


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["lora.r=4", "lora.target_modules=['q_proj', 'down_proj']"],
        ["lora.target_modules='all-linear'"],
        ["lora.layers_to_transform=[1]"],
        ["lora.use_dora=true"],
        ["lora.modules_to_save=['embed_tokens']"],
        ["model.add_tokens=['<|new|>', '<|other|>']"],
        ["lora.enabled=false"],
        ["model.load_in_4bit=true"],
    ],
    ids=lambda settings: " ".join(settings) or "lora",
)
def test_parameters_are_those_of_the_model_that_is_built(
    tiny_recipe: Make, settings: list[str]
) -> None:
    from engine.train.facts import count_parameters

    recipe = tiny_recipe(*settings)
    shape = read_shape(recipe)
    total, trainable = count_parameters(load(recipe))
    assert shape.trainable(recipe) == trainable
    if not any("=['embed" in s or "add_tokens" in s for s in settings):
        extra = trainable if recipe.lora.enabled else 0
        assert shape.parameters + extra == total


def test_the_configuration_alone_tells_the_same_shapes(tiny_recipe: Make, tiny_model: Path) -> None:
    """For a hub id of which only config.json is here."""
    shape = read_shape(tiny_recipe())
    guessed = _by_config(shape, _json(tiny_model / "config.json"))
    assert guessed == shape.matrices


def test_llama_3_2_has_its_published_sizes(tiny_recipe: Make) -> None:
    recipe = tiny_recipe("lora.r=8")
    shape = llama("3b")
    assert shape.parameters == 3_212_749_824
    assert shape.trainable(recipe) == 12_156_928


def test_a_model_without_sizes_or_files(tiny_recipe: Make, tmp_path: Path) -> None:
    recipe = tiny_recipe(f"model.model_name_or_path={tmp_path}")
    with pytest.raises(UserError, match="not on this machine"):
        read_shape(recipe)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UserError, match="does not tell the sizes"):
        read_shape(recipe)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_shape(recipe)


def kept_bytes(recipe: Recipe, padding: bool) -> int:
    """Bytes of all storages that the forward pass saves for the backward pass, weights left out."""
    import torch

    model = load(recipe)
    model.train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    seen: dict[int, Any] = {}

    def note(tensor: Any) -> Any:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            seen[place] = tensor  # held, so that no other takes its place
        return tensor

    ids = torch.randint(10, 400, (ROWS, WIDE))
    mask = torch.ones_like(ids)
    if padding:
        mask[-1, -5:] = 0
    decoder = (model.get_base_model() if recipe.lora.enabled else model).model
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=recipe.model.dtype == "bfloat16")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast:
        decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


@pytest.mark.parametrize("padding", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize(
    "settings",
    [
        ["model.dtype=bfloat16"],
        ["model.dtype=bfloat16", "model.load_in_4bit=true"],
        ["model.dtype=bfloat16", "lora.enabled=false"],
        ["model.dtype=bfloat16", "lora.target_modules=['q_proj', 'v_proj']"],
        ["model.dtype=float32"],
    ],
    ids=["lora", "4-bit", "full", "two-targets", "float32"],
)
def test_a_layer_keeps_exactly_these_bytes(
    tiny_recipe: Make,
    models: dict[int, Path],
    settings: list[str],
    padding: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    # PEFT asks whether autocast is on without naming the device, which means CUDA.
    real = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: not device or real(*device))
    recipes = {
        n: tiny_recipe(f"model.model_name_or_path={path}", *settings, "lora.lora_dropout=0")
        for n, path in models.items()
    }
    kept = {n: kept_bytes(recipe, padding) for n, recipe in recipes.items()}
    recipe = recipes[2]
    shape = read_shape(recipe)
    setup = Setup("transformers", "cpu", recipe.model.dtype, padding)
    copies = 0
    if recipe.model.dtype == "bfloat16":  # autocast's, of every matrix that is trained
        trained = shape.adapters(recipe) if recipe.lora.enabled else {}
        matrices = sum(trained.values()) or sum(a * b for a, b in shape.linears().values())
        copies = 2 * matrices
    assert kept[4] - kept[2] == 2 * layer_bytes(recipe, shape, setup, ROWS, WIDE) + copies


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "rmsprop", "adafactor"])
def test_the_optimiser_holds_about_these_bytes(tiny_recipe: Make, optim: str) -> None:
    import torch
    from transformers.optimization import Adafactor

    from engine.train.saving import trained_bytes

    recipe = tiny_recipe("lora.enabled=false", f"train.optim={optim}")
    model = load(recipe)
    made: Any = {
        "adamw_torch": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
        "adafactor": Adafactor,
    }[optim](model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    held = trained_bytes(model, made) - trained_bytes(model, None)
    guessed = optimizer_bytes(recipe, read_shape(recipe), Setup("transformers", "cpu", "float32"))
    assert guessed == pytest.approx(held, rel=0.05, abs=4096)


@pytest.mark.parametrize(
    ("settings", "device", "expected", "bytes_each"),
    [
        ([], "cuda", "adamw_torch_fused", 8),
        ([], "cpu", "adamw_torch", 8),
        (["lora.enabled=false"], "cuda", "adamw_8bit", 2 * (1 + 4 / 256)),
        (["lora.enabled=false"], "cpu", "adamw_torch", 8),
        (["lora.enabled=false", "train.num_processes=2"], "cuda", "adamw_torch", 8),
        (["train.optim=sgd"], "cuda", "sgd", 0),
    ],
)
def test_what_is_estimated_is_the_optimiser_that_runs(
    tiny_recipe: Make, settings: list[str], device: str, expected: str, bytes_each: float
) -> None:
    recipe = tiny_recipe(*settings)
    assert resolve_optim(recipe, device) == expected
    shape = read_shape(recipe)
    guessed = optimizer_bytes(recipe, shape, Setup("transformers", device, "float32"))
    assert guessed == int(shape.trainable(recipe) * bytes_each)


def llama(size: str) -> ModelShape:
    """The shapes of Llama 3.2."""
    shape = {
        "3b": ModelShape(3072, 8192, 28, 24, 8, 128, 128_256, tied=True),
        "1b": ModelShape(2048, 8192, 16, 32, 8, 64, 128_256, tied=True),
    }[size]
    shape.matrices = _by_config(shape, {})
    return shape


MEASURED = json.loads((Path(__file__).parent / "fixtures" / "measured_memory.json").read_text())


@pytest.mark.parametrize(
    "point",
    MEASURED["points"],
    ids=lambda p: (
        "-".join(str(p[key]) for key in ("shape", "backend", "batch", "max_length"))
        + ("-fused" if p.get("fused") else "")
    ),
)
def test_the_estimate_is_near_what_a_gpu_measured(tiny_recipe: Make, point: dict[str, Any]) -> None:
    """``tests/gpu/measure_memory.py`` on an H200; where the run itself failed, its probe."""
    recipe = tiny_recipe(
        "lora.r=8",
        f"lora.lora_dropout={point['dropout']}",
        f"model.load_in_4bit={str(point['load_in_4bit']).lower()}",
        f"train.max_length={point['max_length']}",
        f"train.per_device_train_batch_size={point['batch']}",
        f"train.per_device_eval_batch_size={point['batch']}",
        f"train.gradient_checkpointing={str(point['checkpointing']).lower()}",
    )
    fused, unpacked = point.get("fused", False), point.get("unpacked", False)
    setup = Setup(point["backend"], "cuda", "bfloat16", fused=fused, unpacked=unpacked)
    length = point["max_length"]
    guessed = estimate(recipe, llama(point["shape"]), setup, length, length).peak
    assert guessed == pytest.approx(point["true_bytes"] or point["probe_bytes"], rel=0.12)


def test_what_takes_less_memory_is_estimated_to(tiny_recipe: Make) -> None:
    setup = Setup("transformers", "cuda", "bfloat16")
    unsloth = Setup("unsloth", "cuda", "bfloat16")

    def peak(where: Setup, *settings: str, tokens: int = 128) -> int:
        recipe = tiny_recipe("train.per_device_train_batch_size=32", "lora.r=8", *settings)
        return estimate(recipe, llama("3b"), where, tokens, tokens).peak

    usual = peak(setup)
    assert peak(setup, "train.per_device_train_batch_size=16") < usual
    assert peak(setup, tokens=64) < usual
    assert peak(setup, "model.load_in_4bit=true") < usual
    assert peak(setup, "train.gradient_checkpointing=true") < usual / 2
    assert peak(unsloth) < usual
    assert peak(setup, "lora.enabled=false") > usual + 30e9  # weights, gradients, AdamW in 32 bits
    # Evaluation can be what takes the most.
    checkpointed = "train.gradient_checkpointing=true"
    assert peak(setup, checkpointed, "train.per_device_eval_batch_size=2048") > 2 * peak(
        setup, checkpointed
    )


@pytest.mark.parametrize(("version", "whole"), [("2.11.0+cu130", True), ("2.13.0", False)])
def test_sharded_weights_take_all_logits_with_an_older_torch(
    tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch, version: str, whole: bool
) -> None:
    """There the chunked loss ends in a crash at the first batch after a checkpoint."""
    from engine.train import all_logits

    monkeypatch.setattr(all_logits.metadata, "version", lambda name: version)
    sharded = tiny_recipe("lora.enabled=false", "train.num_processes=2")
    assert all_logits.takes_all_logits(sharded) is whole
    assert not all_logits.takes_all_logits(tiny_recipe("train.num_processes=2"))
    assert not all_logits.takes_all_logits(tiny_recipe("lora.enabled=false"))
