"""A bench as one document, which ``--json`` prints and the home's journal keeps."""

import os
import secrets
import time
from typing import Any

from engine.bench.device import BenchDevice
from engine.bench.measured import LIMIT_FACTOR, warm_up
from engine.bench.models import BenchModel
from engine.recipe import Recipe
from engine.train.facts import git_commit, versions

__all__ = ["describe"]


def describe(
    device: BenchDevice, card: dict[str, Any], recipe: Recipe, model: BenchModel, steps: int
) -> dict[str, Any]:
    """Everything but what is measured of the contestants.

    ``card``: as :mod:`engine.bench.card` tells it. ``state`` is running, finished or interrupted;
    ``rows`` has the sets of rows by name; ``left_out`` a dict each of ``contestant`` (None: all),
    ``rows`` (None: on no rows) and ``why``; ``results`` those of
    :func:`engine.bench.measured.result`. Times are Unix seconds, sizes bytes.
    """
    lora, train = recipe.lora, recipe.train
    parameters = model.parameters()
    factor = LIMIT_FACTOR["lora" if lora.enabled else "full"]
    return {
        "id": secrets.token_hex(8),
        "t": time.time(),
        "state": "running",
        "seconds": 0.0,
        "host": os.uname().nodename,
        "device": card["device"],
        "device_name": device.name,
        "gpu": device.gpu,
        "driver": device.driver,
        "card": card,
        "recipe": recipe.name,
        "model": model.words,
        "shape": model.shape,
        "random_weights": model.shape is not None,
        "parameters": parameters,
        "lora_r": lora.r if lora.enabled else None,
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "max_length": train.max_length,
        "steps": steps,
        "warm_up_steps": warm_up(steps),
        "limit_factor": factor,
        "limit_tokens_per_second": card["flops_per_second"] / (factor * parameters)
        if parameters
        else None,
        "versions": versions(),
        "git_commit": git_commit(),
        "rows": {},
        "results": [],
        "left_out": [],
        "notes": [],
    }
