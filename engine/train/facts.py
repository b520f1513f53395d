"""What a run is recorded with: sizes, versions, the card, the commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["count_parameters", "git_commit", "gpu_name", "versions"]

PACKAGES = [
    *("tunebench", "torch", "transformers", "trl", "peft", "accelerate"),
    *("datasets", "tokenizers", "bitsandbytes", "unsloth"),
]


def count_parameters(model: Any) -> tuple[int, int]:
    """(all, trainable) parameters; a weight in 4 bits counts as the weights packed into it."""
    total = trainable = 0
    for parameter in model.parameters():
        number = parameter.numel()
        if type(parameter).__name__ == "Params4bit":
            number *= 2 * parameter.quant_storage.itemsize
        total += number
        trainable += number if parameter.requires_grad else 0
    return total, trainable


def versions() -> dict[str, str]:
    """Installed versions of what decides a run's numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpu_name(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)


def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, if it is one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
