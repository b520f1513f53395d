"""The curves of runs as the charts hold them: series that grow with each snapshot, and clocks.

A clock says where on an x axis (:data:`tui.chartstate.AXES`) a step lies.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from engine.charts.series import Series
from tui.feed import RunDetail
from tui.frame import Marker

__all__ = ["CurveBook", "RunCurves"]

GIB = 2.0**30
IN_GIB = ("memory_bytes", "peak_memory_bytes", "used_bytes ", "total_bytes ")
"""Beginnings of names of what is drawn in GiB."""
RUNNING = "running"


class RunCurves:
    """One run's. ``version`` differs whenever there is something else to draw."""

    def __init__(self, detail: RunDetail) -> None:
        self.id = detail.row.id
        self.version = 0
        self._state: object = None
        self._series: dict[str, Series] = {}
        self._source: dict[str, Any] = {}
        self._attempt: int | None = None
        self._clocks: dict[str, Series] = {}
        self.take(detail)

    def take(self, detail: RunDetail) -> None:
        """Go on with what the snapshot has more of."""
        row = detail.row
        state = (row.attempt, row.name, row.state, len(detail.evaluations), len(detail.checkpoints))
        if row.attempt != self._attempt:
            self._series, self._source, self._clocks = {}, {}, {}
            self._attempt = row.attempt
            self.version += 1
        self.detail, self.name = detail, row.name
        grew = [self._grow(name, *found) for name, found in detail.series.items()]
        if any(grew) or state != self._state:
            self._state = state
            self.version += 1
            self._grow_clocks()

    def _grow(self, name: str, x: Any, y: Any) -> bool:
        series = self._series.get(name)
        size = 0 if series is None else len(series)
        if series is not None and size == len(x) and (not size or series.x[-1] == x[-1]):
            return False
        y = y / GIB if name.startswith(IN_GIB) else y
        if series is None or size > len(x) or (size and series.x[-1] != x[size - 1]):
            series = self._series[name] = Series()
            size = 0
        # Readings of devices are put between steps: two looks may put them a little differently.
        ascending = np.maximum.accumulate(np.asarray(x[size:], np.float64))
        if size:
            ascending = np.maximum(ascending, series.x[-1])
        series.append(ascending, y[size:])
        return True

    @property
    def names(self) -> Iterable[str]:
        return self._series.keys()

    def series(self, name: str) -> Series | None:
        """Over steps; None where the run has none of it."""
        found = self._series.get(name)
        return found if found is not None and len(found) else None

    # --- where a step lies

    def has(self, axis: str) -> bool:
        return axis == "step" or bool(len(self._clocks.get(axis, ())))

    def over(self, series: Series, axis: str) -> Series:
        """``series`` (over steps) over another axis; unchanged where the run does not tell it."""
        if axis == "step" or not self.has(axis):
            return series
        return series.over(self._clocks[axis])

    def place(self, steps: Sequence[float], axis: str) -> list[float]:
        """Where steps lie on an axis."""
        if axis == "step" or not self.has(axis) or not len(steps):
            return list(steps)
        clock = self._clocks[axis]
        return [float(at) for at in np.interp(steps, clock.x, clock.y)]

    def _grow_clocks(self) -> None:
        if epochs := self.series("epoch"):
            self._clocks["epoch"] = epochs
        if tokens := self.series("tokens"):
            clock = self._clocks.setdefault("tokens", Series())
            begin = len(clock)
            if begin < len(tokens):
                past = clock.y[-1] if begin else 0.0
                more = np.nan_to_num(tokens.y[begin:])
                clock.append(tokens.x[begin:], past + np.cumsum(more))
        if times := self.series("t"):
            clock = self._clocks.setdefault("minutes", Series())
            begin = len(clock)
            if begin < len(times):
                clock.append(times.x[begin:], self._minutes(times, begin))

    def _minutes(self, times: Series, begin: int) -> Any:
        """Time that the run trained, without what lay between its attempts."""
        starts = sorted(
            float(one["t"])
            for one in self.detail.events
            if one.get("type") == "state"
            and isinstance(event := one.get("event"), dict)
            and event.get("state") == RUNNING
            and "max_steps" in event
            and isinstance(one.get("t"), int | float)
        )
        t = times.y
        zero = starts[0] if starts and starts[0] <= t[0] else t[0]
        away = np.zeros(len(t))
        for start in starts[1:]:
            at = int(np.searchsorted(t, start))
            if 0 < at < len(t):
                away[at:] += start - t[at - 1]
        return np.maximum.accumulate((t - zero - away) / 60)[begin:]

    # --- what else is drawn

    def evaluations(self, split: str, whiches: tuple[str, ...]) -> Series | None:
        """Losses of a split over steps."""
        found = sorted(
            (float(one["step"]), float(one["loss"]))
            for one in self.detail.evaluations
            if one.get("split") == split
            and one.get("which") in whiches
            and isinstance(one.get("step"), int)
            and isinstance(one.get("loss"), int | float)
        )
        if not found:
            return None
        steps, losses = zip(*found, strict=True)
        return Series.of(np.array(steps), np.array(losses))

    def warned(self) -> Series | None:
        """The loss where the run warned, as when the watchdog lowered the rate."""
        loss = self.series("loss")
        steps = sorted(
            {
                step
                for one in self.detail.notices
                if one.get("type") == "warning"
                and isinstance(one.get("event"), dict)
                and isinstance(step := one["event"].get("step"), int)
            }
        )
        if not steps or loss is None:
            return None
        finite = np.isfinite(loss.y)
        x, y = loss.x[finite], loss.y[finite]
        if not len(x):
            return None
        places = np.clip(np.searchsorted(x, steps, side="right") - 1, 0, len(x) - 1)
        return Series.of(np.array(steps, np.float64), y[places])

    def markers(self, axis: str) -> tuple[Marker, ...]:
        """Checkpoints, evaluations, resumes and notes."""
        steps: dict[str, list[float]] = {
            "checkpoint": _steps(self.detail.checkpoints),
            "evaluation": _steps(
                one for one in self.detail.evaluations if one.get("which") in ("during", "asked")
            ),
            "resume": [
                float(step)
                for one in self.detail.events
                if isinstance(event := one.get("event"), dict)
                and event.get("type") == "state"
                and isinstance(step := event.get("resume_step"), int)
                and step > 0
                and "max_steps" in event
            ],
            "note": self._noted(),
        }
        return tuple(
            Marker(x, kind)  # type: ignore[arg-type]
            for kind, found in steps.items()
            for x in self.place(sorted(found), axis)
        )

    def _noted(self) -> list[float]:
        """Notes carry a time, no step: they stand at the step that was done by then."""
        times = self.series("t")
        if times is None:
            return []
        whens = [one["t"] for one in self.detail.notes if isinstance(one.get("t"), int | float)]
        return [float(x) for x in np.interp(whens, times.y, times.x)] if whens else []


def _steps(found: Iterable[dict[str, Any]]) -> list[float]:
    return [float(one["step"]) for one in found if isinstance(one.get("step"), int)]


class CurveBook:
    """The curves of the runs that are looked at."""

    def __init__(self) -> None:
        self._runs: dict[str, RunCurves] = {}

    def of(self, details: Iterable[RunDetail]) -> list[RunCurves]:
        """Those of ``details``, in their order; what is not among them is forgotten."""
        made = {}
        for detail in details:
            id = detail.row.id
            known = self._runs.get(id)
            if known is None:
                known = RunCurves(detail)
            elif known.detail is not detail:
                known.take(detail)
            made[id] = known
        self._runs = made
        return list(made.values())
