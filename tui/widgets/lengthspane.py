"""Counts the tokens of a split's rows, of the first ones at once, of all on request."""

import threading
from functools import partial
from typing import Any

from textual.message import Message
from textual.worker import get_current_worker

from tui.rowviews import SPLITS, Rows
from tui.widgets.lengths import LengthsView
from tui.widgets.lines import BAD, PLAIN, QUIET

__all__ = ["SAMPLE_ROWS", "LengthsPane"]

SAMPLE_ROWS = 2_000


class LengthsPane(LengthsView):
    """The figures of one split; nothing is counted before :meth:`look_at`."""

    class Progress(Message):
        """How far the counting is; "": it is over."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LengthsPane.Progress)

    class _Counted(Message):
        def __init__(self, key: tuple[str, int], found: "dict[str, Any] | Exception") -> None:
            super().__init__()
            self.key, self.found = key, found

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.split = "train"
        self._rows: Rows | None = None
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        """(split, rows looked at; 0: all) -> figures."""
        self._stop: threading.Event | None = None
        """Set to give up the counting that runs."""

    @property
    def counting(self) -> bool:
        return self._stop is not None

    @property
    def is_estimate(self) -> bool:
        """Whether only the first rows were counted."""
        seen = self._known.get((self.split, 0)) or self._known.get((self.split, SAMPLE_ROWS))
        return bool(seen) and seen["rows"] < seen.get("rows_in_split", seen["rows"])

    def look_at(self, rows: Rows, split: str) -> None:
        """Show a split's figures, counted before or now."""
        if rows is not self._rows:
            self._known.clear()
        self.stop()
        self._rows, self.split = rows, split
        if not rows.count(split):
            self.show([(f"The {split} split is empty.", QUIET)])
            return
        for sample in (0, SAMPLE_ROWS):
            if (split, sample) in self._known:
                self.show_lengths(self._known[split, sample], rows.seen_by)
                return
        self.show([(f"counting the tokens of the first rows of {split} …", QUIET)])
        self._count(SAMPLE_ROWS)

    def next_split(self, by: int) -> None:
        if self._rows is not None:
            at = SPLITS.index(self.split) + by
            self.look_at(self._rows, SPLITS[at % len(SPLITS)])

    def count_all(self) -> None:
        """Count the whole split; :meth:`stop` gives up."""
        if self.is_estimate and not self.counting:
            self._count(0)

    def stop(self) -> bool:
        """Give up what is being counted; False: nothing is."""
        if self._stop is None:
            return False
        self._stop.set()
        self._stop = None
        self.post_message(self.Progress(""))
        return True

    def _count(self, sample: int) -> None:
        assert self._rows is not None
        self._stop = threading.Event()
        work = partial(self._count_in_thread, self._rows, self.split, sample, self._stop)
        # The last one may still be finishing its thousand rows; nobody waits for it.
        self.run_worker(work, thread=True, group="lengths", exit_on_error=False)

    def _count_in_thread(self, rows: Rows, split: str, sample: int, stop: threading.Event) -> None:
        from engine.data.progress import Cancelled

        worker = get_current_worker()

        def given_up() -> bool:
            return stop.is_set() or worker.is_cancelled

        def tell(done: int, of: int) -> None:
            if not given_up():
                told = f"{split}: {done:,} of {of:,} rows counted · esc stops"
                self.post_message(self.Progress(told))

        try:
            found: dict[str, Any] | Exception = rows.lengths(split, sample, tell, given_up)
        except Cancelled:
            return
        except Exception as error:
            found = error
        if not given_up():
            self.post_message(self._Counted((split, sample), found))

    def on_lengths_pane__counted(self, message: _Counted) -> None:
        message.stop()
        self._stop = None
        self.post_message(self.Progress(""))
        if isinstance(message.found, Exception):
            from engine.text import steady

            words = str(message.found) or type(message.found).__name__
            self.show([("✗ ", BAD), (steady(words), PLAIN)])
            return
        self._known[message.key] = message.found
        if message.key[0] == self.split and self._rows is not None:
            self.show_lengths(message.found, self._rows.seen_by)
