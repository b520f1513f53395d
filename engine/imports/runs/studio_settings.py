"""The settings of a run of Unsloth Studio: its ``config_json`` is what its page sent to train."""

import json
from pathlib import Path
from typing import Any

from engine.builtin import UNKNOWN
from engine.errors import UserError
from engine.imports.importing import recipe_of
from engine.imports.runs.settings import arguments, checked
from engine.imports.runs.values import number
from engine.imports.written import line

__all__ = ["read_config"]

SECTIONS = {
    "data": {"hf_dataset": "dataset", "local_datasets": "local_dataset",
             "format_type": "format_type", "subset": "subset", "train_split": "train_split"},
    "lora": {"lora_r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout",
             "target_modules": "target_modules", "use_rslora": "use_rslora",
             "use_dora": "use_dora"},
    "training": {name: name for name in (
        "training_type", "load_in_4bit", "max_seq_length", "num_epochs", "learning_rate",
        "batch_size", "gradient_accumulation_steps", "warmup_steps", "warmup_ratio", "max_steps",
        "save_steps", "eval_steps", "weight_decay", "random_seed", "packing", "optim",
        "lr_scheduler_type", "gradient_checkpointing", "train_on_completions",
        "save_total_limit")},
}  # fmt: skip
"""Section of the recipe file -> key of the request -> key of the section. Tokens are in none."""
NUMBERS = ("learning_rate", "weight_decay", "warmup_ratio", "lora_dropout", "eval_steps")


def read_config(path: Path, row: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """(values of a recipe, remarks on them, notes) of a row of ``training_runs``."""
    try:
        config = json.loads(row.get("config_json") or "{}")
    except (TypeError, ValueError, RecursionError):
        config = None
    notes = []
    if not isinstance(config, dict):
        config, notes = {}, ["config_json cannot be read: only model and dataset are known"]
    values, remarks = _values(path, {**config, "model_name": row.get("model_name")}, notes)
    name = str(row.get("dataset_name") or "")
    if name and values.get("data.source", UNKNOWN) == UNKNOWN:
        values["data.source"] = name
    made, more = checked(values)
    return made, [*remarks, *more], notes


def _values(
    path: Path, config: dict[str, Any], notes: list[str]
) -> tuple[dict[str, Any], list[str]]:
    tree: dict[str, Any] = {"model": config.get("model_name")}
    for section, keys in SECTIONS.items():
        tree[section] = {
            inner: _plain(key, config[key])
            for key, inner in keys.items()
            if config.get(key) not in (None, "", [])
        }
    try:
        made = recipe_of(tree, path, "studio", "imported", [])
    except UserError as first:
        try:
            made = recipe_of(tree, path, "studio", "imported", [f"data.source={UNKNOWN}"])
        except UserError:
            notes.append(f"its settings are read in part only ({first})")
            return arguments(config), []
    flat = made.recipe.flat()
    values = {key: flat[key] for key in made.said if key in flat}
    return values, [line(key, to, why) for key, to, why in made.changed]


def _plain(key: str, value: Any) -> Any:
    if key in NUMBERS and isinstance(value, str):
        return number(value)
    return value
