"""What a user wants to be told of whatever screen they look at: a run ended, says nothing, loses
its loss, or has hardly any memory left. Each once, and only what happens while somebody looks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.history.row import ENDS
from engine.text import clip
from tui import words
from tui.feed import Snapshot

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from engine.history.vitals import Vitals

__all__ = ["Notice", "Notices", "notices"]

MOST = 3
"""More at a time (a sweep that was stopped) are counted."""

Severity = Literal["information", "warning", "error"]


@dataclass(frozen=True)
class Notice:
    """One event of one run; ``words`` hold outside text that is not yet safe."""

    key: tuple[object, ...]
    """Equal for what is told once."""
    words: str
    severity: Severity


def notices(old: Snapshot, new: Snapshot, now: float, since: float) -> list[Notice]:
    """What happened to the runs between two snapshots, or by ``now``.

    Nothing that happened before ``since``: a history that is only just read tells of old ends.
    """
    if not old.loaded:
        return []
    found: list[Notice] = []
    for row in new.rows:
        before = old.by_id.get(row.id)
        if row.state in ENDS:
            if _has_ended(before, row, since):
                found.append(_end(row))
        elif row.state != "queued":
            found += _troubles(old, new, row, since)
            if silent := _silence(row, new.vitals.get(row.id), now, since):
                found.append(silent)
    return found


def _has_ended(before: "RunRow | None", row: "RunRow", since: float) -> bool:
    if before is not None and before.state in ENDS and before.attempt == row.attempt:
        return False
    if row.state == "lost":  # it ended with its last line, long before that was seen
        return before is not None and before.last_event == row.last_event
    return row.ended is not None and row.ended >= since


def _end(row: "RunRow") -> Notice:
    reason = row.reason or ""
    said = f"{_name(row)} {row.state}"
    severity: Severity = "error"
    if row.state in ("finished", "stopped"):
        severity = "information"
        steps = f"{row.step}/{row.max_steps} steps" if row.max_steps else ""
        losses = []
        if row.best_eval_loss is not None:
            losses.append(f"validation {words.loss(row.best_eval_loss)}")
        if row.test_loss is not None:
            losses.append(f"test {words.loss(row.test_loss)}")
        reason = ", ".join(part for part in (reason or steps, *losses) if part)
    return Notice((row.id, row.attempt, "ended"), f"{said}: {reason}" if reason else said, severity)


def _troubles(old: Snapshot, new: Snapshot, row: "RunRow", since: float) -> list[Notice]:
    """What is wrong now and was not in the old snapshot."""
    now, then = new.vitals.get(row.id), old.vitals.get(row.id)
    if now is None:
        return []
    found = []
    t, why = now.divergence
    if why and t >= since and not (then and then.divergence[1] and _same_attempt(old, row)):
        found.append(Notice((row.id, row.attempt, "diverges"), f"{_name(row)}: {why}", "error"))
    for device, reading in now.memory.items():
        earlier = then.memory.get(device) if then and _same_attempt(old, row) else None
        if not reading.is_near_limit or reading.t < since or (earlier and earlier.is_near_limit):
            continue
        mine = not reading.used or reading.peak_is_near
        figures = words.of_bytes(reading.peak if mine else reading.used, reading.total)
        said = f"{'its peak takes' if mine else 'hardly any memory is left,'} {figures} of {device}"
        key = (row.id, row.attempt, "memory", device)
        found.append(Notice(key, f"{_name(row)}: {said}", "warning"))
    return found


def _same_attempt(old: Snapshot, row: "RunRow") -> bool:
    before = old.by_id.get(row.id)
    return before is not None and before.attempt == row.attempt


def _silence(row: "RunRow", vitals: "Vitals | None", now: float, since: float) -> Notice | None:
    if vitals is None or not row.last_event:
        return None
    if not since <= row.last_event + vitals.silence_limit < now:
        return None
    said = f"{_name(row)} says nothing for {words.duration(now - row.last_event)}"
    where = f" at step {row.step}" if row.step else f" while {row.phase}" if row.phase else ""
    return Notice((row.id, row.attempt, "silent", row.last_event), said + where, "warning")


def _name(row: "RunRow") -> str:
    return clip(row.name, 40)


class Notices:
    """The notices of one sitting, each once."""

    def __init__(self, since: float) -> None:
        self._since = since
        self._last = Snapshot()
        self._told: set[tuple[object, ...]] = set()

    def look(self, snapshot: Snapshot, now: float) -> list[Notice]:
        """What is new; of more than :data:`MOST` the rest as a number."""
        found = notices(self._last, snapshot, now, self._since)
        self._last = snapshot
        fresh = [one for one in found if one.key not in self._told]
        self._told.update(one.key for one in fresh)
        if len(fresh) <= MOST:
            return fresh
        fresh.sort(key=lambda one: ("error", "warning", "information").index(one.severity))
        more = len(fresh) - MOST + 1
        rest = Notice((), f"and {more} more notices; screen Runs shows all runs", "information")
        return [*fresh[: MOST - 1], rest]
