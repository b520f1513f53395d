"""Every metric of a run as arrays, read on from where the last reading ended.

A run of 100,000 steps is read whole once; a look at it half a second later reads its new steps.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.history.store import Store
from engine.history.tables import METRICS

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Floats = numpy.typing.NDArray[numpy.float64]

__all__ = ["MOST_METRICS", "Curves"]

PIECE = 25_000
"""Steps that one reading takes at most, 0.1 to 0.4 s: a look at a long run shows what is there."""
MOST_METRICS = 200
"""Of a run; a journal that names more is not one of metrics."""
COLUMNS = ("t", *METRICS)


class Curves:
    """The metrics of one run. Not safe across threads; what it hands out is never changed."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.more = False
        """The last reading stopped at :data:`PIECE` steps: read on."""
        self._attempt: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._last = -1
        self._metrics: dict[str, _Points] = {}
        self._line = -1
        self._readings: dict[str, _Points] = {}

    def read(self, store: Store, attempt: int | None) -> "dict[str, tuple[Floats, Floats]]":
        """Name -> (steps, values), float64, steps ascending: the columns of the table ``metrics``
        (``t`` too), and whatever else the journal's lines hold as numbers.

        ``attempt``: the run's latest; a resumed run repeats steps, so all is read anew. A step
        without a value is left out, a value that is no finite number is NaN or an infinity. Of
        devices ``used_bytes``, ``total_bytes`` and ``utilisation`` by device ("utilisation
        cuda:0"), at the steps when they were read.
        """
        if attempt != self._attempt or self._shrunk(store):
            self._forget()
            self._attempt = attempt
        self._read_metrics(store)
        self._read_devices(store)
        found = {name: points.arrays() for name, points in self._metrics.items()}
        return found | {name: points.arrays() for name, points in self._readings.items()}

    def _shrunk(self, store: Store) -> bool:
        """The index was built anew and is not as far yet."""
        [(last,)] = store.query("SELECT max(step) FROM metrics WHERE run = ?", (self.run,))
        return (-1 if last is None else last) < self._last

    def _read_metrics(self, store: Store) -> None:
        import numpy

        sql = (
            f"SELECT step, {', '.join(COLUMNS)}, extra FROM metrics "
            "WHERE run = ? AND step > ? ORDER BY step LIMIT ?"
        )
        rows = store.query(sql, (self.run, self._last, PIECE))
        self.more = len(rows) == PIECE
        if not rows:
            return
        steps, *columns, extras = zip(*rows, strict=True)
        self._last = steps[-1]
        at = numpy.array(steps, numpy.float64)
        for name, values in zip(COLUMNS, columns, strict=True):
            self._add(name, at, values)
        if any(extras):
            self._add_extras(at, extras)

    def _add(self, name: str, at: "Floats", values: Sequence[Any]) -> None:
        import numpy

        if None in values:
            there = numpy.array([value is not None for value in values])
            at, values = at[there], [value for value in values if value is not None]
        if not len(values):
            return
        if name not in self._metrics:
            if len(self._metrics) >= MOST_METRICS:
                return
            self._metrics[name] = _Points()
        try:
            found = numpy.array(values, numpy.float64)  # knows "NaN" and "Infinity" too
        except (TypeError, ValueError):
            found = numpy.array([_number(value) for value in values], numpy.float64)
        self._metrics[name].extend(at, found)

    def _add_extras(self, at: "Floats", extras: Sequence[str | None]) -> None:
        """What no column is for: numbers, and texts that name one that is not finite."""
        import numpy

        found: dict[str, tuple[list[float], list[float]]] = {}
        for step, text in zip(at.tolist(), extras, strict=True):
            for name, value in json.loads(text).items() if text else ():
                if isinstance(value, bool) or (isinstance(value, str) and value not in NAMED):
                    continue
                if isinstance(value, int | float | str):
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(float(value))
        for name, (steps, values) in found.items():
            if name not in COLUMNS:
                self._add(name, numpy.array(steps), values)

    def _read_devices(self, store: Store) -> None:
        """Readings carry no step: they stand at the step that was done by then."""
        import numpy

        times = self._metrics.get("t")
        if times is None:
            return
        steps, t = times.arrays()
        sql = (
            "SELECT line, t, device, used_bytes, total_bytes, utilisation FROM memory "
            "WHERE run = ? AND line > ? AND t <= ? ORDER BY line"
        )
        rows = store.query(sql, (self.run, self._line, float(t[-1])))
        if not rows:
            return
        self._line = rows[-1][0]
        t = numpy.maximum.accumulate(numpy.nan_to_num(t))
        columns: dict[str, tuple[list[float], list[Any]]] = {}
        for _, when, device, *values in rows:
            for name, value in zip(
                ("used_bytes", "total_bytes", "utilisation"), values, strict=True
            ):
                if isinstance(value, int | float) and isinstance(when, int | float):
                    of_device = columns.setdefault(f"{name} {device}", ([], []))
                    of_device[0].append(when)
                    of_device[1].append(value)
        for name, (whens, found) in columns.items():
            if name not in self._readings and len(self._readings) >= MOST_METRICS:
                continue
            places = numpy.interp(numpy.maximum.accumulate(whens), t, steps)
            self._readings.setdefault(name, _Points()).extend(places, numpy.array(found, float))


NAMED = ("NaN", "Infinity", "-Infinity")
"""How the journal writes what is not finite."""


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


class _Points:
    """Steps and values that grow at their end. Arrays handed out stay as they are: a buffer that is
    full is left to them, and another one begun."""

    def __init__(self) -> None:
        import numpy

        self._buffer = numpy.empty((2, 64))
        self._size = 0

    def extend(self, steps: "Floats", values: "Floats") -> None:
        import numpy

        size = self._size + len(steps)
        if size > self._buffer.shape[1]:
            grown = numpy.empty((2, max(size, 2 * self._buffer.shape[1])))
            grown[:, : self._size] = self._buffer[:, : self._size]
            self._buffer = grown
        self._buffer[0, self._size : size] = steps
        self._buffer[1, self._size : size] = values
        self._size = size

    def arrays(self) -> "tuple[Floats, Floats]":
        return self._buffer[0, : self._size], self._buffer[1, : self._size]
