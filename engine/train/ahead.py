"""What needs no torch, done while torch and its friends are imported: token ids, reading ahead.

Importing takes 5 to 20 s of one core; 150,000 rows are tokenised in 11 s by the others.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from engine.builtin import model_path
from engine.data.dataset import Dataset
from engine.data.progress import Cancelled
from engine.data.tokenised import Tokenised, tokenise
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import Home
from engine.jobs.context import Stopped
from engine.recipe import Recipe
from engine.train.rows import Encoded, as_dataset

__all__ = ["Ahead", "read_ahead"]

LOOK_SECONDS = 0.2


class Ahead:
    """The splits of a run's dataset, tokenised by a thread between ``with`` and :meth:`splits`.

    The thread imports nothing of torch's family: two threads must not import the same at a time.
    """

    def __init__(
        self, home: Home, recipe: Recipe, dataset: Dataset, stopped: Callable[[], bool]
    ) -> None:
        self.home = home
        self.recipe = recipe
        self.dataset = dataset
        self.stopped = stopped
        self.seconds = 0.0
        """How long the thread took."""
        self.formatter: Formatter
        self._given_up = threading.Event()
        self._made: dict[str, Tokenised] = {}
        self._error: BaseException | None = None
        self._words = ""
        self._thread = threading.Thread(target=self._work, name="tokenising", daemon=True)

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._given_up.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what the thread has run into already."""
        if self._error and not self._thread.is_alive():
            raise self._error

    def splits(self, tell: Callable[[str], None]) -> dict[str, Encoded]:
        """Wait for the rest; ``tell`` gets words for how far it is.

        Raises :class:`Stopped`, and :class:`UserError` for rows that nothing can be trained on.
        """
        while self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)
            if self._words:
                tell(self._words)
        self.check()
        recipe = self.recipe
        try:
            found = {
                name: as_dataset(
                    made,
                    self.formatter.max_length,
                    longest_first=name != "train",
                    # A loss is measured row by row, packed or not: it is the same.
                    packing=recipe.train.packing and name == "train",
                    cancelled=self.stopped,
                )
                for name, made in self._made.items()
            }
        except Cancelled:
            raise Stopped from None
        for name, encoded in found.items():
            if not encoded.rows:
                raise UserError(
                    f"train.max_length: the prompts alone fill {recipe.train.max_length} tokens in "
                    f"every row of {name}, so there is nothing to train on; make it larger"
                )
        return found

    def _work(self) -> None:
        began = time.monotonic()
        try:
            self.formatter = Formatter.of(self.recipe)
            self._tokenise()
        except Cancelled:
            self._error = Stopped()
        except BaseException as error:  # raised by who asks for the result
            self._error = error
        self.seconds = time.monotonic() - began

    def _tokenise(self) -> None:
        evaluate = self.recipe.evaluate
        limits = {
            "train": 0,
            "validation": evaluate.validation_rows,
            "test": evaluate.test_rows,
        }
        for name, limit in limits.items():
            there = self.dataset.split(name).num_rows
            if not there:
                raise UserError(
                    f"split.{name}: no row of {self.dataset.name} fell to {name}: "
                    f"{self.dataset.report.rows_kept:,} clean rows are too few for this share"
                )

            def progress(done: int, rows: int, name: str = name) -> None:
                self._words = f"tokenising {name}: {done:,} of {rows:,} rows"

            self._made[name] = tokenise(
                *(self.home, self.dataset, name, self.formatter),
                rows=min(limit or there, there),
                completion_only_loss=self.recipe.train.completion_only_loss,
                progress=progress,
                cancelled=lambda: self._given_up.is_set() or self.stopped(),
            )


def read_ahead(recipe: Recipe) -> None:
    """Have the kernel read a local model's weights from the disk, where it takes such hints."""
    folder = Path(model_path(recipe.model.model_name_or_path))
    if not hasattr(os, "posix_fadvise") or not folder.is_dir():
        return
    for file in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)
