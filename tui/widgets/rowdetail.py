"""The row under the cursor, whole, below its table."""

import asyncio

from engine.errors import UserError
from tui.rowlist import RowList
from tui.rowwords import row_runs
from tui.widgets.lines import LinesView, Run

__all__ = ["RowDetail"]


class RowDetail(LinesView):
    """Reads one row at a time: rows that the cursor has passed meanwhile are never read."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._wanted: tuple[RowList, int] | None = None
        self._following = False

    def follow(self, rows: RowList, place: int) -> None:
        """Show this row as soon as it is read."""
        self._wanted = (rows, place)
        if not self._following:
            self._following = True
            self.run_worker(self._follow, group="follow")

    async def _follow(self) -> None:
        seen: object = None
        try:
            while self._wanted is not None and self._wanted != seen:
                rows, place = seen = self._wanted
                told: list[Run] = []
                if rows.count:
                    told = row_runs(rows.view, await asyncio.to_thread(rows.one, place))
                self.show(told)
                self.go(0)
        except (UserError, OSError):
            self.show([])  # the table says so itself
        finally:
            self._following = False
