"""The test loss of a run's base and tuned model, outside of training: an errand.

``python -m engine.train.measure --answers FD RUN_DIR``
"""

import sys
from pathlib import Path
from typing import Any

from engine.generate.columns import base_column, run_column
from engine.generate.errand import Answers, serve_errand
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.train.environment import set_environment

__all__ = ["mean_loss"]


def measure(arguments: list[str], answers: Answers) -> dict[str, Any]:
    """Token-weighted loss on the run's test split: ``before``, ``after``, ``rows``, ``tokens``."""
    folder = RunFolder(Path(arguments[0]))
    home = Home(folder.path.parent.parent)
    recipe = folder.read_recipe()
    set_environment(home, recipe.model.model_name_or_path)
    answers.status("preparing data")
    from engine.data.prepare import prepare

    dataset = prepare(home, recipe)
    answers.status("importing torch")
    from engine.generate.models import Models
    from engine.train.rows import encode

    models = Models(answers.status)
    tuned = run_column(folder)
    result: dict[str, Any] = {}
    for which, column in (("before", base_column(tuned)), ("after", tuned)):
        voice = models.voice(column)
        table = dataset.split("test")
        if recipe.evaluate.test_rows:
            table = table.slice(0, recipe.evaluate.test_rows)
        encoded = encode(
            table,
            voice.formatter,
            completion_only_loss=recipe.train.completion_only_loss,
            longest_first=True,
        )
        answers.status(f"test loss of {column.label}")
        with voice.base.only(voice.adapter) as model:
            loss, tokens = mean_loss(
                model,
                encoded.dataset,
                recipe.train.per_device_eval_batch_size,
                voice.formatter.pad_id,
                voice.base.device,
            )
        result |= {which: loss, "rows": encoded.rows, "tokens": tokens}
    return result


def mean_loss(model: Any, dataset: Any, batch: int, pad: int, device: str) -> tuple[float, int]:
    """(mean negative log-likelihood of the trained tokens in nats, their number)."""
    import torch
    import torch.nn.functional as functional

    total, tokens = 0.0, 0
    for start in range(0, len(dataset), batch):
        rows = dataset[start : start + batch]
        longest = max(map(len, rows["input_ids"]))
        ids = torch.full((len(rows["input_ids"]), longest), pad, dtype=torch.long)
        labels = torch.full_like(ids, -100)
        mask = torch.zeros_like(ids)
        for number, (row, label) in enumerate(zip(rows["input_ids"], rows["labels"], strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            labels[number, : len(row)] = torch.tensor(label)
            mask[number, : len(row)] = 1
        with torch.inference_mode():
            logits = model(
                input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
            ).logits[:, :-1]
            wanted = labels[:, 1:].to(device)
            total += float(
                functional.cross_entropy(
                    logits.float().flatten(0, 1), wanted.flatten(), reduction="sum"
                )
            )
            tokens += int((wanted != -100).sum())
    return total / max(tokens, 1), tokens


if __name__ == "__main__":
    sys.exit(serve_errand(measure))
