"""Makes a recipe's dataset ready for a preflight: cleaned, every row counted. An errand, no torch.

``python -m engine.preflight.ready --answers FD HOME RECIPE.json``

Counts are kept in the home, so that who asked finds them there: a screen stays free of the work.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.prepare import prepare
from engine.data.progress import Progress
from engine.generate.errand import Answers, run_errand, serve_errand
from engine.home import Home
from engine.preflight.resolve import resolve
from engine.recipe import Recipe

__all__ = ["make_ready"]


def make_ready(
    home: Home,
    recipe: Recipe,
    on_status: Callable[[str], None] | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Clean and count in a process of its own, and wait for it; quick where both was done before.

    Raises :class:`UserError`, and :class:`engine.data.progress.Cancelled` when ``cancelled()``.
    """
    with tempfile.TemporaryDirectory(prefix="tunebench-ready-") as folder:
        file = Path(folder) / "recipe.json"
        file.write_text(json.dumps(recipe.model_dump()), encoding="utf-8")
        run_errand(
            "engine.preflight.ready", [str(home.path), str(file)], on_status, cancelled=cancelled
        )


def _work(arguments: list[str], answers: Answers) -> dict[str, Any]:
    home = Home(Path(arguments[0]))
    recipe = Recipe.model_validate_json(Path(arguments[1]).read_text(encoding="utf-8"))

    def cleaning(progress: Progress) -> None:
        answers.status(f"{progress.phase}: {progress.rows:,} rows, {100 * progress.fraction:.0f} %")

    def counting(split: str, done: int, rows: int) -> None:
        answers.status(f"counting tokens of {split}: {done:,} of {rows:,} rows")

    dataset = prepare(home, recipe, progress=cleaning)
    resolve(home, recipe, dataset, progress=counting)
    return {"dataset": dataset.name}


if __name__ == "__main__":
    sys.exit(serve_errand(_work))
