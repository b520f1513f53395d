"""How near predictions are to their references in meaning, by an encoder that the user names."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.evaluate.metrics import RowMetric
from engine.generate.errand import run_errand
from engine.home import Home

__all__ = ["similarity"]


def similarity(home: Home, model: str, on_status: Callable[[str], None] | None = None) -> RowMetric:
    """The metric ``similarity`` by a folder or hub id of a Transformers encoder.

    Embedding happens in a process of its own. Raises :class:`UserError` there when the model cannot
    be loaded.
    """
    folder = Path(model).expanduser()
    name = str(folder.absolute()) if folder.is_dir() else model

    def rates(
        prompts: Sequence[str], predictions: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        scratch = home.path / "cache"
        scratch.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=scratch, suffix=".json") as file:
            pairs = {"predictions": list(predictions), "references": list(references)}
            json.dump(pairs, file)
            file.flush()
            arguments = [str(home.path), name, file.name]
            found = run_errand("engine.evaluate.embed", arguments, on_status)
        values: list[float] = found["similarity"]
        return values

    words = (
        f"cosine of mean-pooled embeddings (last hidden state) of prediction and reference by "
        f"{name}, mean of the rows, -1..1; a text without tokens has 0"
    )
    return RowMetric("similarity", "similarity", words, "higher", rates)
