"""The test loss of a model before any training, kept for the next run that would measure the same.

It follows from the weights, how they are loaded, the rows and the libraries; on an H200 30,000 rows
took 48 s, more than all the rest of a start. What is kept counts only where all of that is equal.
"""

import hashlib
import json
import os
import time
from pathlib import Path

from engine.home import Home
from engine.model_files import find_file
from engine.recipe import Recipe
from engine.train.facts import gpu_name, versions
from engine.train.loss import SplitLoss

__all__ = ["Untrained"]

WEIGHTS = (".safetensors", ".bin", ".json")


class Untrained:
    """Where one run's measurement is kept: ``rows`` is the key of its tokenised test rows."""

    def __init__(
        self, home: Home, recipe: Recipe, rows: str, *, dtype: str, device: str, notes: list[str]
    ) -> None:
        self._file: Path | None = None
        weights = _weights(recipe)
        # New embeddings, and adapters that are not zero at first, are other weights each time.
        if weights is None or recipe.model.add_tokens:
            return
        if recipe.lora.init_lora_weights == "orthogonal":
            return
        what = {
            "weights": weights,
            "model": recipe.model.model_dump(mode="json"),
            "use_dora": recipe.lora.enabled and recipe.lora.use_dora,
            "rows": rows,
            "batch": recipe.train.per_device_eval_batch_size,
            "loaded": [dtype, device.partition(":")[0], gpu_name(device), notes],
            "versions": versions(),
        }
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        self._file = home.path / "cache" / "untrained" / f"{key}.json"

    def known(self) -> tuple[SplitLoss, str] | None:
        """What was measured, and the run that did; None: measure it."""
        try:
            kept = json.loads(self._file.read_bytes()) if self._file else None
            if kept is None:
                return None
            accuracy = kept["mean_token_accuracy"]
            loss = SplitLoss(
                float(kept["loss"]),
                int(kept["tokens"]),
                None if accuracy is None else float(accuracy),
            )
            return loss, str(kept["run"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, measured: SplitLoss, run: str) -> None:
        """For the next run. Only a cache: where it cannot be written, the next run measures."""
        if self._file is None:
            return
        kept = {
            "loss": measured.mean,
            "tokens": measured.tokens,
            "mean_token_accuracy": measured.mean_token_accuracy,
            "run": run,
            "t": time.time(),
        }
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(json.dumps(kept))
            temporary.replace(self._file)
        except OSError:
            temporary.unlink(missing_ok=True)


def _weights(recipe: Recipe) -> list[tuple[str, int, int]] | None:
    """Name, size and time of each file of the model; None: it is not on this machine."""
    config = find_file(recipe.model.model_name_or_path, "config.json", recipe.model.revision)
    if config is None:
        return None
    try:
        files = sorted(file for file in config.parent.iterdir() if file.suffix in WEIGHTS)
        states = [(file.resolve(), file.stat()) for file in files]
    except OSError:
        return None
    return [(str(file), state.st_size, state.st_mtime_ns) for file, state in states]
