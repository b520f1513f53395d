"""What is known of a run's settings, as values of a recipe; nothing else is claimed.

Names are those of Transformers, TRL and PEFT, as ``training_args`` and trackers hold them.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from engine.builtin import UNKNOWN
from engine.imports.convert import attention, epochs_or_steps, optimizer
from engine.imports.convert import targets as target_names
from engine.imports.runs.values import number, step_of
from engine.recipe import Recipe
from engine.text import safe

__all__ = ["adapter", "arguments", "checked"]

Settings = dict[str, Any]

TRAIN = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
    "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs",
    "warmup_steps", "weight_decay", "optim", "optim_args", "adam_beta1", "adam_beta2",
    "adam_epsilon", "max_grad_norm", "completion_only_loss", "packing", "label_smoothing_factor",
    "neftune_noise_alpha", "gradient_checkpointing", "seed", "full_determinism", "eval_steps",
    "save_steps", "save_total_limit", "load_best_model_at_end", "max_length",
)  # fmt: skip
"""Keys of ``train`` that have the same name there."""
ELSEWHERE = {
    "max_seq_length": "train.max_length",
    "cutoff_len": "train.max_length",
    "sequence_len": "train.max_length",
    "num_epochs": "train.num_train_epochs",
    "batch_size": "train.per_device_train_batch_size",
    "micro_batch_size": "train.per_device_train_batch_size",
    "random_seed": "train.seed",
    "lr_scheduler": "train.lr_scheduler_type",
    "optimizer": "train.optim",
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "lora_alpha": "lora.lora_alpha",
    "lora_dropout": "lora.lora_dropout",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
    "load_in_4bit": "model.load_in_4bit",
    "model_name_or_path": "model.model_name_or_path",
    "model_name": "model.model_name_or_path",
    "base_model": "model.model_name_or_path",
    "_name_or_path": "model.model_name_or_path",
    "dataset_name": "data.source",
}
"""Other tools' keys. Where several are there the first one counts."""
_WORD = re.compile(r"^(?:\w+\.)?(\w+)$")


def arguments(tree: Mapping[str, Any]) -> Settings:
    """Values of a flat mapping of arguments; keys that have no counterpart here are left out."""
    found: Settings = {}
    for key, to in (*((name, f"train.{name}") for name in TRAIN), *ELSEWHERE.items()):
        value = tree.get(key)
        if value is None or value == "" or to in found:
            continue
        if (value := _value(to, value)) is not None:
            found[to] = value
    if "train.warmup_steps" not in found or not found["train.warmup_steps"]:
        share = number(tree.get("warmup_ratio"))
        if share is not None and 0 < share < 1:
            found["train.warmup_steps"] = share
    if tree.get("bf16") is True:
        found["model.dtype"] = "bfloat16"
    elif tree.get("fp16") is True:
        found["model.dtype"] = "float16"
    if isinstance(name := tree.get("attn_implementation"), str):
        found["model.attn_implementation"] = attention(name)
    return found


def _value(to: str, value: Any) -> Any:
    name = to.partition(".")[2]
    if name in ("lr_scheduler_type", "optim"):  # "SchedulerType.LINEAR", as args are printed
        match = _WORD.match(str(value))
        word = match.group(1).lower() if match else str(value)
        return optimizer(word) if name == "optim" else word
    if name == "optim_args":
        return value
    if name == "neftune_noise_alpha" or (to.startswith("train.") and isinstance(value, str)):
        return number(value)
    if name == "max_steps":
        return epochs_or_steps(value)
    if name in ("eval_steps", "save_steps"):  # a share of all steps is no number of steps
        steps = step_of(value)
        return steps if steps else None
    return value


def adapter(config: Mapping[str, Any]) -> Settings:
    """Values of PEFT's ``adapter_config.json``; empty where there is none, and for adapters that
    are none of LoRA's."""
    if not config or str(config.get("peft_type", "LORA")).upper() != "LORA":
        return {}
    found: Settings = {"lora.enabled": True}
    for key in ("r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "use_dora",
                "modules_to_save", "layers_to_transform", "init_lora_weights"):  # fmt: skip
        if config.get(key) is not None:
            found[f"lora.{key}"] = config[key]
    modules = config.get("target_modules")
    try:
        if isinstance(modules, str | list):
            targets = target_names(modules)
            found["lora.target_modules"] = targets if isinstance(targets, str) else sorted(targets)
    except ValueError:
        pass
    if isinstance(name := config.get("base_model_name_or_path"), str) and name:
        found["model.model_name_or_path"] = name
    if isinstance(revision := config.get("revision"), str) and revision != "main":
        found["model.revision"] = revision
    return found


def checked(values: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The values that a recipe can hold, and what is said of the others.

    What decides which model and data a run had is always there: :data:`UNKNOWN` where it is not
    known.
    """
    found = {key: _shown(value) for key, value in values.items() if value is not None}
    found = {"model.model_name_or_path": UNKNOWN, "data.source": UNKNOWN, **found}
    remarks: list[str] = []
    for _ in range(len(found) + 3):
        tree: dict[str, Any] = {"name": "imported"}
        for key, value in found.items():
            section, _, name = key.partition(".")
            tree.setdefault(section, {})[name] = value
        try:
            made = Recipe.model_validate(tree).flat()
            return {key: made[key] for key in found}, remarks
        except ValidationError as failure:
            error = failure.errors()[0]
            key = ".".join(str(part) for part in error["loc"][:2])
            if key in found:
                remarks.append(f"{key} = {found.pop(key)!r} is left out: {error['msg']}")
            elif not _reconciled(found):
                break
    words = "the settings contradict each other, so that only model and data are kept"
    return {key: str(found.get(key, UNKNOWN)) for key in ALWAYS}, [*remarks, words]


def _shown(value: Any) -> Any:
    """Without what a terminal would obey: who reads the recipe with ``cat`` sees it whole."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, dict):
        return {safe(str(key)): _shown(inner) for key, inner in value.items()}
    return value


ALWAYS = ("model.model_name_or_path", "data.source")


def _reconciled(found: Settings) -> bool:
    """Make values agree that do so elsewhere but not here. False: there was nothing to do."""
    before = dict(found)
    if found.get("train.load_best_model_at_end") is not False:
        found["train.load_best_model_at_end"] = False
        found.pop("train.early_stopping_patience", None)
    elif found.get("lora.enabled") is False:
        found.pop("model.load_in_4bit", None)
    return found != before
