"""The loss of a run's base and tuned model on a split, outside of training: an errand.

``python -m engine.train.measure --answers FD RUN_DIR [SPLIT]``
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.generate.columns import base_column, run_column
from engine.generate.errand import Answers, serve_errand
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe
from engine.train.environment import set_environment
from engine.train.rows import IGNORED, encode_split
from engine.train.transformers_backend import compute_dtype

__all__ = ["measure"]


def measure(arguments: list[str], answers: Answers) -> dict[str, Any]:
    """Token-weighted loss on a split (test): ``before``, ``after``, ``rows``, ``tokens``."""
    folder, split = RunFolder(Path(arguments[0])), "".join(arguments[1:]) or "test"
    home = Home(folder.path.parent.parent)
    recipe = folder.read_recipe()
    set_environment(home, recipe.model.model_name_or_path)
    answers.status("preparing data")
    from engine.data.prepare import prepare

    dataset = prepare(home, recipe)
    trained = folder.fingerprint()
    if trained and trained != dataset.fingerprint:
        raise UserError(
            f"data.source: {recipe.data.source} has other rows than run {folder.id} was trained "
            f"with (dataset {trained}, now {dataset.fingerprint}), so its test rows may have been "
            "trained on; bring the rows back, or train a new run"
        )
    answers.status("importing torch")
    from engine.generate.models import Models
    from engine.train.loss import split_loss

    models = Models(answers.status)
    tuned = run_column(folder)
    result: dict[str, Any] = {}
    for which, column in (("before", base_column(tuned)), ("after", tuned)):
        voice = models.voice(column)
        encoded = encode_split(
            *(home, dataset, split, voice.formatter),
            rows=recipe.evaluate.test_rows,
            completion_only_loss=recipe.train.completion_only_loss,
            longest_first=True,
        )
        answers.status(f"{split} loss of {column.label}")
        with voice.base.only(voice.adapter) as model:
            device, size = voice.base.device, recipe.train.per_device_eval_batch_size
            batches = _batches(encoded.dataset, size, voice.formatter.pad_id, device)
            loss = split_loss(model, batches, _autocast(recipe, device))
        result |= {which: loss.mean, "rows": encoded.rows, "tokens": loss.tokens}
    return result


def _batches(dataset: Any, size: int, pad: int, device: str) -> Iterator[dict[str, Any]]:
    """Rows of ``input_ids`` and ``labels``, ``size`` at a time, padded to the longest of them."""
    import torch

    for start in range(0, len(dataset), size):
        rows = dataset[start : start + size]
        longest = max(map(len, rows["input_ids"]))
        ids = torch.full((len(rows["input_ids"]), longest), pad, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for number, (row, label) in enumerate(zip(rows["input_ids"], rows["labels"], strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            labels[number, : len(row)] = torch.tensor(label)
            mask[number, : len(row)] = 1
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def _autocast(recipe: Recipe, device: str) -> Any:
    """As the trainer measures: multiplied in the recipe's compute type."""
    import torch

    dtype = compute_dtype(recipe, device)
    return lambda: torch.autocast(device, getattr(torch, dtype), enabled=dtype != "float32")


if __name__ == "__main__":
    sys.exit(serve_errand(measure))
