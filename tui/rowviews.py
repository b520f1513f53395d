"""The rows of one open dataset: every view of them, what the model sees of one, how one became.

Everything here may read the disk and is called in threads. pyarrow comes with the first dataset
that is opened, never with the workbench.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.home import Home
from tui.datasets import recipe_for
from tui.rowwords import why
from tui.widgets.cursortable import Column
from tui.widgets.table import Row, one_line

if TYPE_CHECKING:
    from engine.data.dataset import Dataset
    from engine.data.trial import TriedRow

__all__ = ["SPLITS", "TABLES", "VIEWS", "Rows", "columns_of"]

TABLES = ("raw", "cleaned", "dropped", "train", "validation", "test")
VIEWS = (*TABLES, "formatted", "tokens")
"""The sub-views of a dataset, in the order of a row's way; the last two show one row each."""
SPLITS = ("train", "validation", "test")

LINE = Column("line", 7, right=True, quiet=True)
_RAW = (LINE, Column("raw"))
_DROPPED = (LINE, Column("why", 20), Column("raw"))
_PAIR = (LINE, Column("prompt", share=2), Column("completion", share=3))
_SHAPES = {
    "text": (LINE, Column("text")),
    "instruction": (LINE, Column("instruction", share=2), Column("completion", share=3)),
    "conversation": (
        LINE,
        Column("turns", 5, right=True, quiet=True),
        Column("last question", share=2),
        Column("answer", share=3),
    ),
}


def columns_of(view: str, shape: str) -> Sequence[Column]:
    """The columns of a view's table, for a dataset of this shape."""
    if view == "raw":
        return _RAW
    return _DROPPED if view == "dropped" else _SHAPES.get(shape, _PAIR)


class Rows:
    """One open dataset. Its readers remember where they are, so one thread reads at a time."""

    def __init__(self, home: Home, dataset: "Dataset") -> None:
        self.dataset = dataset
        self.name: str = dataset.name
        self.shape: str = dataset.shape
        self._lock = threading.Lock()
        self._formatter: Any = None
        self._retrace: Any = None
        self._home = home
        self.recipe, self.seen_by = recipe_for(home, dataset.name)

    @classmethod
    def open(cls, home: Home, name: str) -> "Rows":
        from engine.data.dataset import open_dataset
        from engine.data.frugal import read_frugally

        dataset = open_dataset(home, name)
        read_frugally()
        return cls(home, dataset)

    def rest(self) -> None:
        """Nobody looks for now: give back what only the next page needs."""
        from engine.data.frugal import give_back

        with self._lock:
            self.dataset.rest()
        give_back()

    def count(self, view: str) -> int:
        return self.dataset.count(view)

    def page(self, view: str, start: int, count: int) -> list[dict[str, Any]]:
        """Whole rows, as the engine gives them."""
        with self._lock:
            return self.dataset.page(view, start, count)

    def cells(self, view: str, row: dict[str, Any]) -> Row:
        """The table's cells of one row."""
        line = str(row["line"])
        if view == "raw":
            return line, one_line(row["raw"])
        if view == "dropped":
            return line, one_line(why(row["rule"])), one_line(row["raw"])
        if self.shape == "text":
            return line, one_line(row["completion"])
        if self.shape == "conversation":
            turns = str(len(row["messages"]))
            return line, turns, one_line(row["prompt"]), one_line(row["completion"])
        prompt = row["prompt"]
        if self.shape == "instruction":
            prompt = f"{row['instruction']} {prompt}".strip()
        return line, one_line(prompt), one_line(row["completion"])

    def one(self, view: str, index: int) -> dict[str, Any]:
        """One whole row; raises :class:`UserError` when it is not there."""
        rows = self.page(view, index, 1)
        if not rows:
            raise UserError(f"{self.name}: {view} has no row {index + 1:,}")
        return rows[0]

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

    def has_line(self, view: str, line: int) -> int | None:
        """The row that came from this line of the source, or None."""
        if not self.count(view):
            return None
        place = self.at_line(view, line)
        return place if self.one(view, place)["line"] == line else None

    def why_not(self, view: str, line: int) -> str:
        """Why a view does not have a line, for people; "" when nothing is known."""
        if view == "dropped":
            return "was kept"
        if (place := self.has_line("dropped", line)) is not None:
            return f"was dropped, {why(self.one('dropped', place)['rule'])}"
        if view in SPLITS:
            for split in SPLITS:
                if split != view and self.has_line(split, line) is not None:
                    return f"is in {split}"
            return "is in no split"
        return ""

    # --- what the model sees

    def formatter(self) -> Any:
        """The one of the recipe whose model the previews use; read at first use."""
        from engine.data.tokens import Formatter

        with self._lock:
            if self._formatter is None:
                self._formatter = Formatter.of(self.recipe)
            return self._formatter

    def preview(self, split: str, index: int) -> dict[str, Any]:
        """What the model sees of one row: text, tokens, loss mask, where it is cut."""
        from engine.data.preview import preview_row

        formatter = self.formatter()
        with self._lock:
            return preview_row(
                self.dataset,
                formatter,
                split,
                index,
                completion_only=self.recipe.train.completion_only_loss,
            )

    def lengths(
        self,
        split: str,
        sample: int,
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> dict[str, Any]:
        """Token lengths of a split, or of its first ``sample`` rows (0: all).

        Raises :class:`engine.data.progress.Cancelled`. Paging goes on meanwhile.
        """
        from engine.data.preview import preview_stats

        formatter = self.formatter()
        with self._lock:
            self.dataset.split(split)  # opened once; reading from the map needs no lock
        return preview_stats(
            self.dataset,
            formatter,
            split,
            completion_only=self.recipe.train.completion_only_loss,
            sample=sample,
            progress=progress,
            cancelled=cancelled,
        )

    # --- how a row became what it is

    def retrace(self, line: int) -> "TriedRow":
        """The row of a source line before and after the rules, and why it was dropped."""
        from dataclasses import replace

        from engine.data.retrace import Retrace

        place = self.has_line("raw", line)
        if place is None:
            raise UserError(f"{self.name}: line {line:,} of the source is blank or not there")
        with self._lock:
            if self._retrace is None:
                model = self.recipe.model.model_name_or_path
                self._retrace = Retrace(self._home, self.dataset, model)
            tried: TriedRow = self._retrace.row(place)
        if tried.reason is None and (found := self.has_line("dropped", line)) is not None:
            # It repeats another row: that is decided over all of them.
            row = self.one("dropped", found)
            tried = replace(tried, reason=row["rule"], evidence=row["evidence"] or "")
        return tried
