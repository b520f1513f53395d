"""``bench``: this engine and its rivals on this machine, side by side."""

import argparse
import contextlib
import shutil
import signal
from collections.abc import Iterator
from typing import Any

from engine.bench.run import Bench
from engine.bench.table import table
from engine.bench.wish import Wish
from engine.commands.output import Output
from engine.errors import UsageError
from engine.history.benches import add_bench
from engine.home import open_home
from engine.text import clip

__all__ = ["bench"]

INTERRUPTED = 128 + signal.SIGINT


def bench(args: argparse.Namespace, out: Output) -> int:
    """Measure, print the table. Exit status 0: something was measured, and nobody interrupted."""
    for option, value in (("--steps", args.steps), ("--batch", args.batch)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: at least 1")
    settings = list(args.settings)
    if args.batch:
        settings.append(f"train.per_device_train_batch_size={args.batch}")
    if args.max_length:
        settings.append(f"train.max_length={args.max_length}")
    wish = Wish(
        recipe=args.recipe,
        shape=args.shape,
        settings=tuple(settings),
        steps=args.steps,
        quick=args.quick,
        only=args.only,
        rows=("corpus", "full") if args.rows == "both" else (args.rows,),
        device=args.device,
        anyway=args.now,
    )
    home = open_home(args.home)
    with _interrupts() as noted:
        document = Bench(
            home,
            wish,
            on_status=lambda words: out.progress(_one_line(words)),
            on_note=out.note,
            on_change=lambda document: add_bench(home, document),
            interrupted=lambda: bool(noted),
        ).run()
    out.progress_done()
    for line in table(document):
        out.line(line)
    out.document(document)
    if document["state"] == "interrupted":
        return INTERRUPTED
    return 0 if any(one["step_seconds"] for one in document["results"]) else 1


def _one_line(words: str) -> str:
    """A line as wide as the terminal would wrap, and could not be taken back."""
    return clip(words, shutil.get_terminal_size().columns - 1)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl+C, a closed terminal and SIGTERM are noted: what runs has to be ended first."""
    noted: list[int] = []
    before: dict[signal.Signals, Any] = {}
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[which] = signal.signal(which, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
