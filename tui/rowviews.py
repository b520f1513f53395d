"""What the Data screen needs of the engine: datasets, sources, rows of every view, previews.

Everything here may read the disk and is called in threads. pyarrow comes with the first dataset
that is opened, never with the workbench.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.home import Home
from engine.recipe import Recipe, builtin_recipes, load_recipe
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, Run
from tui.widgets.table import Column, Row, one_line

if TYPE_CHECKING:
    from engine.data.dataset import Dataset, DatasetInfo

__all__ = ["SPLITS", "VIEWS", "Rows", "Source", "datasets_of", "sources_of"]

VIEWS = ("raw", "cleaned", "dropped", "train", "validation", "test", "example", "tokens")
"""The sub-views of a dataset, in the order of a row's way."""
SPLITS = ("train", "validation", "test")

RUNS_LOOKED_AT = 50

LINE = Column("line", 7, right=True, quiet=True)
_PAIR = (LINE, Column("prompt", share=2), Column("completion", share=3))
COLUMNS: dict[str, tuple[Column, ...]] = {
    "raw": (LINE, Column("raw")),
    "dropped": (LINE, Column("why", 20), Column("raw")),
    "cleaned": _PAIR,
    "train": _PAIR,
    "validation": _PAIR,
    "test": _PAIR,
}

WHY = {
    "malformed": "not one JSON object",
    "missing_field": "column missing",
    "not_text": "column is not text",
    "empty_prompt": "empty prompt",
    "empty_completion": "empty completion",
    "duplicate_completion": "completion again",
    "duplicate_prompt": "prompt again",
    "duplicate_both": "both again",
}
"""Dropping rules in words short enough for a column; the rule's own name stands in the row."""


@dataclass(frozen=True)
class Source:
    """A place rows may come from: the source of a recipe."""

    recipe: str
    source: str
    path: Path | None
    """None for what is built in."""


def datasets_of(home: Home) -> "list[DatasetInfo]":
    """The cleaned datasets, newest first."""
    from engine.data.dataset import list_datasets

    return list_datasets(home)


def sources_of() -> list[Source]:
    """The sources of the built-in recipes, those that are there first."""
    found = []
    for name in builtin_recipes():
        data = load_recipe(name).data
        builtin = data.source.startswith("builtin:")
        found.append(Source(name, data.source, None if builtin else Path(data.source)))
    return sorted(found, key=lambda each: each.path is not None and not each.path.exists())


def recipe_for(home: Home, name: str) -> tuple[Recipe, str]:
    """The recipe whose model and format the previews use, and whose it is ("run demo-2").

    That of the newest run on this dataset, else a built-in one that names it, else the demo's: its
    model is always there.
    """
    from engine.data.sources import dataset_name
    from engine.jobs.folder import RunFolder

    for file in sorted(home.runs.glob("*/recipe.toml"), reverse=True)[:RUNS_LOOKED_AT]:
        try:
            folder = RunFolder(file.parent)
            recipe = folder.read_recipe()
            if dataset_name(recipe.data) == name:
                return recipe, f"run {folder.read_identity().get('name', folder.id)}"
        except (OSError, ValueError, UserError):
            continue
    for builtin in builtin_recipes():
        recipe = load_recipe(builtin)
        if recipe.data.name == name:
            return recipe, f"recipe {builtin}"
    return load_recipe("demo"), "recipe demo"


class Rows:
    """One open dataset. Its readers remember where they are, so one thread reads at a time."""

    def __init__(self, home: Home, dataset: "Dataset") -> None:
        self.dataset = dataset
        self.name: str = dataset.name
        self._lock = threading.Lock()
        self._formatter: Any = None
        self.recipe, self.seen_by = recipe_for(home, dataset.name)

    @classmethod
    def open(cls, home: Home, name: str) -> "Rows":
        from engine.data.dataset import open_dataset
        from engine.data.frugal import read_frugally

        dataset = open_dataset(home, name)
        read_frugally()
        return cls(home, dataset)

    def count(self, view: str) -> int:
        return self.dataset.count(view)

    def page(self, view: str, start: int, count: int) -> list[dict[str, Any]]:
        """Whole rows, as the engine gives them."""
        with self._lock:
            return self.dataset.page(view, start, count)

    def cells(self, view: str, start: int, count: int) -> Sequence[Row]:
        """The table's cells of up to ``count`` rows."""
        rows = self.page(view, start, count)
        if view == "raw":
            return [(str(row["line"]), one_line(row["raw"])) for row in rows]
        if view == "dropped":
            return [
                (str(row["line"]), one_line(why(row["rule"])), one_line(row["raw"])) for row in rows
            ]
        return [
            (str(row["line"]), one_line(row["prompt"]), one_line(row["completion"])) for row in rows
        ]

    def one(self, view: str, index: int) -> dict[str, Any]:
        """One whole row; raises :class:`UserError` when it is not there."""
        rows = self.page(view, index, 1)
        if not rows:
            raise UserError(f"{self.name}: {view} has no row {index + 1:,}")
        return rows[0]

    def preview(self, split: str, index: int) -> dict[str, Any]:
        """What the model sees of one row: text, tokens, loss mask, where it is cut."""
        from engine.data.preview import preview_row
        from engine.data.tokens import Formatter

        recipe = self.recipe
        with self._lock:
            if self._formatter is None:
                self._formatter = Formatter.load(
                    recipe.model.model_name_or_path,
                    recipe.format,
                    recipe.train.max_length,
                    revision=recipe.model.revision,
                )
            return preview_row(
                self.dataset,
                self._formatter,
                split,
                index,
                completion_only=recipe.train.completion_only_loss,
            )

    def find(self, view: str, needle: str, start: int, stop: int) -> int | None:
        """The first row in ``start`` to ``stop`` that contains ``needle``, in any case."""
        wanted = needle.casefold()
        for place, row in enumerate(self.page(view, start, stop - start), start):
            if any(wanted in value.casefold() for value in row.values() if isinstance(value, str)):
                return place
        return None

    def find_last(self, view: str, needle: str, start: int, stop: int) -> int | None:
        """The last row in ``start`` to ``stop`` that contains ``needle``."""
        wanted = needle.casefold()
        found = None
        for place, row in enumerate(self.page(view, start, stop - start), start):
            if any(wanted in value.casefold() for value in row.values() if isinstance(value, str)):
                found = place
        return found

    def at_line(self, view: str, line: int) -> int:
        """The row of a source line, or the first one after it; rows are in the source's order."""
        count = self.count(view)
        if view == "raw":  # only blank lines are missing: the row is at most line - 1
            place = max(0, min(line, count) - 1)
            while place and (over := self.one(view, place)["line"] - line) > 0:
                place = max(0, place - over)
            return place
        low, high = 0, max(0, count - 1)
        while low < high:
            middle = (low + high) // 2
            if self.one(view, middle)["line"] < line:
                low = middle + 1
            else:
                high = middle
        return low


def why(rule: str) -> str:
    return WHY.get(rule, rule.replace("_", " "))


def row_runs(view: str, row: dict[str, Any]) -> list[Run]:
    """One row whole, as runs for a text pane. Outside text is made safe here."""
    from engine.text import safe_line, steady

    runs: list[Run] = [(f"line {row['line']:,} of the source", QUIET)]
    if view == "dropped":
        evidence = f": {safe_line(row['evidence'])}" if row.get("evidence") else ""
        runs += [
            ("\n\ndropped  ", QUIET),
            (f"{why(row['rule'])}{evidence}", BOLD),
            (f"  (rule {safe_line(row['rule'])})", QUIET),
        ]
    if "raw" in row:
        runs += [("\n\nas it is in the file\n", ACCENT), (steady(_short(row["raw"])), PLAIN)]
    else:
        runs += [("\n\nprompt\n", ACCENT), (steady(_short(row["prompt"])), PLAIN)]
        runs += [("\n\ncompletion\n", ACCENT), (steady(_short(row["completion"])), PLAIN)]
    return runs


def _short(text: str, limit: int = 400_000) -> str:
    """Wrapping more than this would hold up the screen."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} more characters are not shown"
