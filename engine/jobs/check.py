"""What can be known of a recipe's model before anything is started, without torch."""

import importlib.util
import json
from pathlib import Path

from engine.builtin import UNKNOWN, model_path
from engine.errors import UserError
from engine.home import writable_name
from engine.jobs.ranks import check_processes
from engine.recipe import Recipe

__all__ = ["NO_HALF_ON_CPU", "check_model", "check_packages", "check_processes", "unsloth_lacks"]

KEY = "model.model_name_or_path"
NO_HALF_ON_CPU = "model.dtype: float16 cannot be trained on a CPU; use float32 or auto"


def check_model(recipe: Recipe) -> None:
    """Raise UserError when the model's folder lacks what training needs, or 4-bit cannot work.

    A hub id is not looked up: that is the worker's, who may use the network.
    """
    name = writable_name(recipe.model.model_name_or_path)
    if name == UNKNOWN:
        raise UserError(f"{KEY}: the run was imported without it; set it to the model to train")
    if recipe.model.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "model.load_in_4bit: bitsandbytes is not installed; install it, or set "
            "model.load_in_4bit=false"
        )
    folder = Path(model_path(name)).expanduser()
    try:
        there = folder.exists()
    except OSError as error:  # a name longer than a file can have, a folder that is not ours
        raise UserError(f"{KEY}: {folder}: cannot be looked at ({error.strerror})") from None
    if not there:
        if name.startswith(("/", "./", "../", "~", "builtin:")) or name.count("/") > 1:
            raise UserError(f"{KEY}: {folder}: no such folder")
        return
    if not folder.is_dir():
        raise UserError(f"{KEY}: {folder}: is a file; name the folder that holds the model")
    if not (folder / "config.json").is_file():
        hint = "has no config.json"
        if (folder / "adapter_config.json").is_file():
            hint = "holds an adapter, not a model (no config.json)"
        raise UserError(f"{KEY}: {folder}: {hint}; name a model's folder or a hub id")
    _check_weights(folder)


OPTIMISERS = {
    "adamw_torch_8bit": "torchao",
    "adamw_torch_4bit": "torchao",
    "schedule_free_radam": "schedulefree",
    "schedule_free_adamw": "schedulefree",
    "schedule_free_sgd": "schedulefree",
    "stable_adamw": "optimi",
}
"""Optimisers that Transformers takes from packages of their own, by the package's module."""
PIP_NAMES = {"optimi": "torch-optimi"}


def check_packages(recipe: Recipe) -> None:
    """Raise UserError for an optimiser or a tracker whose package is not installed."""
    train = recipe.train
    module = OPTIMISERS.get(train.optim, "")
    if not module and any(word in train.optim for word in ("8bit", "bnb", "paged", "lion")):
        module = "bitsandbytes"
    wanted: list[tuple[str, str, str]] = []
    if module:
        wanted.append(("train.optim", train.optim, module))
    wanted += [("train.report_to", tracker, tracker) for tracker in train.report_to]
    for key, name, module in wanted:
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"{key}: {name} needs a package that is not installed: "
                f"pip install {PIP_NAMES.get(module, module)}"
            )


def _check_weights(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = " (pickled .bin weights are not loaded)" if pickled else ""
        raise UserError(
            f"{KEY}: {folder}: has no weights (*.safetensors){why}; download the model again"
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise UserError(f"{index}: cannot be read; download the model again") from None
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise UserError(
                f"{KEY}: {folder}: {len(missing)} of {len(shards)} weight files are missing "
                f"({missing[0]}, ...); download the model again"
            )


def unsloth_lacks(recipe: Recipe) -> str:
    """The key of the recipe that unsloth cannot do, and why; "" when it can do everything."""
    model, lora, train = recipe.model, recipe.lora, recipe.train
    if train.num_processes > 1:
        return f"train.num_processes: unsloth trains in one process, not {train.num_processes}"
    if train.packing:
        return "train.packing: rows are packed with the transformers backend only"
    if model.add_tokens:
        return "model.add_tokens: unsloth cannot train single rows of the embeddings"
    if lora.enabled and lora.use_dora:
        return "lora.use_dora: unsloth has no DoRA kernels"
    if model.attn_implementation != "auto":
        return "model.attn_implementation: unsloth chooses its own kernels"
    if others := set(lora.modules_to_save) - {"embed_tokens", "lm_head"} if lora.enabled else set():
        return f"lora.modules_to_save: unsloth trains embed_tokens and lm_head only, not {others}"
    if model.load_in_4bit and model.bnb_4bit_quant_type != "nf4":
        return "model.bnb_4bit_quant_type: unsloth holds 4-bit weights as nf4 only"
    if model.load_in_4bit and not model.bnb_4bit_use_double_quant:
        return "model.bnb_4bit_use_double_quant: unsloth always quantises the constants too"
    return ""
