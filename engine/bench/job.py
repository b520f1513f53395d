"""What a rival is asked to do: recipe, model, rows, steps."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.bench.rows import IGNORED, Rows, read_rows
from engine.recipe import Recipe

__all__ = ["Job", "completion_dataset"]


@dataclass
class Job:
    """What one rival shall do."""

    kind: str
    recipe: dict[str, Any]
    model: str
    """Folder of the model and its tokenizer."""
    rows: str
    steps: int
    planned_steps: int
    """Of the experiment itself, for libraries that choose by it."""
    device: str
    """cuda or cpu."""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def read_recipe(self) -> Recipe:
        return Recipe.model_validate(self.recipe)

    def read_rows(self) -> Rows:
        return read_rows(Path(self.rows))

    @classmethod
    def read(cls, path: Path) -> "Job":
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def completion_dataset(rows: Rows) -> Any:
    """A ``datasets.Dataset`` as TRL takes tokenised rows: ``input_ids`` and ``completion_mask``."""
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "input_ids": [row.tolist() for row in rows.input_ids],
            "completion_mask": [(row != IGNORED).astype(int).tolist() for row in rows.labels],
        }
    )
