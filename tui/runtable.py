"""The history as a table: which runs, in which order, in which columns."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.history.row import seconds
from tui import words
from tui.theme import STATES
from tui.widgets.cursortable import Column
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["COLUMNS", "ORDERS", "filtered", "in_order"]

ORDERS = ("created", "name", "best", "state")
"""What ``o`` cycles through; the first one is newest first."""


def filtered(rows: list["RunRow"], wanted: str) -> list["RunRow"]:
    """Rows in which every word of ``wanted`` occurs: in name, id, state, model or dataset."""
    parts = wanted.lower().split()
    if not parts:
        return rows
    return [
        row
        for row in rows
        if all(
            part in f"{row.name} {row.id} {row.state} {row.model} {row.dataset}".lower()
            for part in parts
        )
    ]


def in_order(rows: list["RunRow"], order: str) -> list["RunRow"]:
    """``rows`` (newest first) by one of :data:`ORDERS`; equal ones stay newest first."""
    if order == "name":
        return sorted(rows, key=lambda row: row.name.lower())
    if order == "best":
        return sorted(rows, key=lambda row: _number(row.best_eval_loss))
    if order == "state":
        states = list(STATES)
        return sorted(rows, key=lambda row: states.index(row.state) if row.state in states else 99)
    return rows


def _number(value: float | None) -> float:
    return value if value is not None and value == value else float("inf")


def _state(row: "RunRow") -> Cell:
    symbol, colour = STATES.get(row.state, ("?", ""))
    return f"{symbol} {row.state}", colour


def _step(row: "RunRow") -> str:
    if row.step is None:
        return words.NOTHING
    last = words.number(row.max_steps) if row.max_steps else "?"
    return f"{words.number(row.step)}/{last}"


def _took(row: "RunRow", now: float) -> str:
    spent = seconds(row, now)
    return words.duration(spent) if spent is not None else ""


COLUMNS: tuple[tuple[int, Column, Callable[["RunRow", float], Cell]], ...] = (
    (0, Column("state", 10), lambda row, now: _state(row)),
    (110, Column("created", 10, True), lambda row, now: words.when(row.created, now)),
    (0, Column("step", 11, True), lambda row, now: _step(row)),
    (110, Column("loss", 7, True), lambda row, now: words.loss(row.loss)),
    (0, Column("best val", 8, True), lambda row, now: words.loss(row.best_eval_loss)),
    (110, Column("test", 7, True), lambda row, now: words.loss(row.test_loss)),
    (110, Column("tok/s", 7, True), lambda row, now: words.number(row.tokens_per_second)),
    (140, Column("peak", 8, True), lambda row, now: words.bytes_words(row.peak_memory_bytes)),
    (0, Column("took", 11, True), _took),
    (0, Column("name", 18), lambda row, now: row.name),
    (0, Column("model"), lambda row, now: row.model or ""),
)
"""(from which width of the screen, column, cell of a run)."""
