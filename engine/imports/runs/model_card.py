"""What a model card (README.md) of Transformers, TRL, LLaMA-Factory or Axolotl says of a run."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.imports.reading import yaml_mapping
from engine.imports.rows import hub
from engine.imports.runs.settings import arguments

__all__ = ["Card", "read_card"]

_FRONT = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_HYPER = re.compile(r"^#+ *Training hyperparameters\s*$(.*?)(?=^#)", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^- ([a-z_]+): (.*)$", re.MULTILINE)
_VERSIONS = re.compile(r"^#+ *Framework versions\s*$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"^- ([A-Za-z]+):? ([\w.+!-]+)\s*$", re.MULTILINE)
_TOLD = re.compile(r" on the ([\w./-]+) dataset\.")
_YAML = re.compile(r"^axolotl version: `([^`\n]*)`\s*```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BETAS = re.compile(r"betas=\(([\d.e-]+), ?([\d.e-]+)\) and epsilon=([\d.e-]+)")
_PACKAGES = {"pytorch": "torch"}
_NAMES = {
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "lr_scheduler_warmup_steps": "warmup_steps",
    "lr_scheduler_warmup_ratio": "warmup_ratio",
    "num_epochs": "num_train_epochs",
    "training_steps": "max_steps",
}


@dataclass
class Card:
    """Empty where the card says nothing."""

    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    axolotl: dict[str, Any] = field(default_factory=dict)
    """Axolotl writes its whole settings into the card."""


def read_card(text: str, path: Path) -> Card:
    """A card's facts; ``path`` is only for messages. What cannot be read is as if not there."""
    card = Card()
    if front := _FRONT.match(text):
        _front(card, front.group(1), path)
    for match in _VERSIONS.finditer(text):
        for package, version in _VERSION.findall(match.group(1)):
            name = package.lower()
            card.versions[_PACKAGES.get(name, name)] = version
    if items := _HYPER.search(text):
        card.settings |= _hyperparameters(dict(_ITEM.findall(items.group(1))))
    if told := _TOLD.search(text):
        name = re.sub(r"[^\w.-]+", "-", told.group(1)).strip("-")
        if name and name not in ("None", "unknown", "an"):
            card.settings["data.name"] = name
    if block := _YAML.search(text):
        try:
            card.axolotl = yaml_mapping(block.group(2), path)
        except UsageError:
            card.axolotl = {}
        card.versions.setdefault("axolotl", block.group(1))
    return card


def _front(card: Card, text: str, path: Path) -> None:
    try:
        front = yaml_mapping(text, path)
    except UsageError:
        return
    tags = front.get("tags")
    card.tags = frozenset(map(str, tags)) if isinstance(tags, list) else frozenset()
    if isinstance(model := front.get("base_model"), str) and model:
        card.settings["model.model_name_or_path"] = model
    datasets = front.get("datasets")
    if isinstance(datasets, list) and datasets and isinstance(datasets[0], str):
        card.settings["data.source"] = hub(datasets[0])


def _hyperparameters(items: dict[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {_NAMES.get(key, key): value.strip() for key, value in items.items()}
    words = str(tree.pop("optimizer", ""))
    if match := re.match(r"Use (?:OptimizerNames\.)?(\w+)", words):
        tree["optim"] = match.group(1)
    if match := _BETAS.search(words):
        tree |= dict(zip(("adam_beta1", "adam_beta2", "adam_epsilon"), match.groups(), strict=True))
    if not tree.get("num_train_epochs", "").replace(".", "").isdigit():
        tree.pop("num_train_epochs", None)
    return arguments(tree)
