"""How a run ended badly, on a terminal: what was tried, what was missing, what to run next."""

import json
from typing import Any

from engine.history.row import RunRow
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.suggestions import settings_words
from engine.words import bytes_words

__all__ = ["ending_lines", "standing_checkpoints", "suggested", "what_happened"]


def ending_lines(row: RunRow, folder: RunFolder) -> list[tuple[str, str]]:
    """(label, words) of the latest attempt's error; none for a run that did not end by one.

    ``row.checkpoint`` is one that is there: see :func:`standing_checkpoints`.
    """
    lines = what_happened(row)
    if settings := suggested(row):
        options = settings_words(settings)
        lines.append(("start it", f"tunebench resume {row.name} --suggested"))
        lines.append(("that is", f"tunebench resume {row.name} {options}"))
    return lines


def what_happened(row: RunRow) -> list[tuple[str, str]]:
    """(label, words) of the latest attempt's error: what was tried, what was missing, what next."""
    event = _error(row)
    lines = []
    if tried := event.get("tried"):
        lines.append(("tried", str(tried)))
    if event.get("kind") == "out_of_memory" and (missing := _missing(event)):
        lines.append(("missing", missing))
    suggestion = event.get("suggestion")
    if isinstance(suggestion, dict):
        lines.append(("next", str(suggestion.get("words"))))
    return lines


def suggested(row: RunRow) -> dict[str, Any]:
    """Key of the recipe -> value that the latest attempt's error suggests; empty: none."""
    suggestion = _error(row).get("suggestion")
    settings = suggestion.get("settings") if isinstance(suggestion, dict) else None
    return settings if isinstance(settings, dict) else {}


def _error(row: RunRow) -> dict[str, Any]:
    try:
        event = json.loads(row.error or "null")
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _missing(event: dict[str, Any]) -> str:
    def size(name: str) -> int | None:
        value = event.get(f"{name}_bytes")
        return value if isinstance(value, int) else None

    needed, free, total = size("needed"), size("free"), size("total")
    parts = []
    if needed is not None and free is not None and needed > free:
        parts.append(f"{bytes_words(needed - free)}:")
    if needed is not None:
        parts.append(f"{bytes_words(needed)} more asked for,")
    if free is not None and total is not None:
        parts.append(f"{bytes_words(free)} free of {bytes_words(total)}")
    holders = [
        f"{who} {bytes_words(held)}"
        for who, held in (("this run", size("used")), ("others", size("others")))
        if held
    ]
    return " ".join(parts) + (f" ({', '.join(holders)})" if holders and parts else "")


def standing_checkpoints(row: RunRow, folder: RunFolder) -> None:
    """Make the row's checkpoints those that are there: folders may have been deleted by hand."""
    whole = [str(path.relative_to(folder.path)) for path in checkpoints.whole(folder)]
    if row.checkpoint not in whole:
        row.checkpoint = whole[-1] if whole else None
    if row.best_checkpoint not in whole:
        row.best_checkpoint = None
