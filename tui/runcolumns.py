"""The columns of the history's table: which there are, which the user chose, how each is sorted."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.history.fields import FIELDS, Facts, Field, field_named
from engine.history.row import seconds
from engine.text import safe_line
from tui import words
from tui.sweepwords import short_keys, value_words, values_words
from tui.theme import STATES
from tui.userkeys import keys_file
from tui.widgets.cursortable import Column
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = [
    "DIFFERS",
    "Look",
    "RunColumn",
    "column_named",
    "columns_file",
    "load_columns",
    "offered",
    "save_columns",
    "turn",
    "usual",
]

MEMBER = "└ "
DIFFERS = "differs"
LEADING = (
    "train.learning_rate", "lora.r", "lora.lora_alpha", "train.per_device_train_batch_size",
    "train.num_train_epochs", "train.max_steps", "train.max_length", "model.model_name_or_path",
    "data.name", "data.source",
)  # fmt: skip
"""Keys of which the difference is told first."""
UNTOLD = frozenset({"name", "description", "version", "format.date"})


@dataclass(frozen=True)
class Look:
    """What a cell is made with."""

    now: float
    facts: Facts
    differing: tuple[str, ...] = ()
    """The recipe's keys in which the runs of the table differ."""


@dataclass(frozen=True)
class RunColumn:
    """One column of the table."""

    name: str
    """As :mod:`engine.history.fields` calls it, and ``columns.toml``."""
    column: Column
    cell: Callable[["RunRow", Look], Cell]
    rank: Callable[["RunRow", Look], Any] | None = None
    """What runs are sorted by; None: they cannot be. A value of None comes last."""
    order: str = ""
    """Of the usual way round, in words."""
    down: bool = False
    """The usual way round is the highest first."""


def _state(row: "RunRow", look: Look) -> Cell:
    symbol, colour = STATES.get(row.state, ("?", ""))
    return f"{symbol} {row.state}", colour


def _step(row: "RunRow", look: Look) -> Cell:
    if row.step is None:
        return words.NOTHING
    last = words.number(row.max_steps) if row.max_steps else "?"
    return f"{words.number(row.step)}/{last}"


def _took(row: "RunRow", look: Look) -> Cell:
    spent = seconds(row, look.now)
    return words.duration(spent) if spent is not None else ""


def _name(row: "RunRow", look: Look) -> Cell:
    name = f"* {row.name}" if row.id in look.facts.starred else row.name
    return f"{MEMBER}{values_words(row)}  {name}" if row.sweep else name


def _differs(row: "RunRow", look: Look) -> Cell:
    """What its recipe has otherwise than others; the model where all have the same recipe."""
    if not look.differing:
        return row.model or ""
    short = short_keys(look.differing)
    get = look.facts.settings.get
    found = [(short[key], get(row.id, key)) for key in look.differing]
    return " ".join(f"{name}={value_words(value)}" for name, value in found if value is not None)


_PLACES = {state: place for place, state in enumerate(STATES)}


def _number(value: Any) -> Any:
    return None if value is None or value != value else value


def _of(name: str) -> Callable[["RunRow", Look], Any]:
    return lambda row, look: _number(getattr(row, name))


USUAL: tuple[tuple[int, RunColumn], ...] = (
    (0, RunColumn("state", Column("state", 10), _state,
                  lambda row, look: _PLACES.get(row.state, 99), "by state")),
    (110, RunColumn("created", Column("created", 10, True),
                    lambda row, look: words.when(row.created, look.now),
                    _of("created"), "newest first", down=True)),
    (0, RunColumn("step", Column("step", 11, True), _step, _of("step"), "most steps first",
                  down=True)),
    (130, RunColumn("loss", Column("loss", 7, True), lambda row, look: words.loss(row.loss),
                    _of("loss"), "lowest loss first")),
    (0, RunColumn("best_eval_loss", Column("best val", 8, True),
                  lambda row, look: words.loss(row.best_eval_loss), _of("best_eval_loss"),
                  "best validation first")),
    (110, RunColumn("test_loss", Column("test", 7, True),
                    lambda row, look: words.loss(row.test_loss), _of("test_loss"),
                    "best test first")),
    (110, RunColumn("tokens_per_second", Column("tok/s", 7, True),
                    lambda row, look: words.number(row.tokens_per_second),
                    _of("tokens_per_second"), "fastest first", down=True)),
    (140, RunColumn("peak", Column("peak", 8, True),
                    lambda row, look: words.bytes_words(row.peak_memory_bytes),
                    _of("peak_memory_bytes"), "least memory first")),
    (0, RunColumn("took", Column("took", 11, True), _took,
                  lambda row, look: seconds(row, look.now), "longest first", down=True)),
    (150, RunColumn("dataset", Column("dataset", 14), lambda row, look: row.dataset or "",
                    lambda row, look: (row.dataset or "").lower() or None, "by dataset")),
    (180, RunColumn("model", Column("model", 18), lambda row, look: value_words(row.model or ""),
                    lambda row, look: (row.model or "").lower() or None, "by model")),
    (160, RunColumn("tag", Column("tags", 12),
                    lambda row, look: " ".join(look.facts.tags.get(row.id, ())),
                    lambda row, look: " ".join(look.facts.tags.get(row.id, ())).lower() or None,
                    "by tags")),
    (0, RunColumn("name", Column("name", 18), _name, lambda row, look: row.name.lower(),
                  "by name")),
    (0, RunColumn(DIFFERS, Column(DIFFERS), _differs)),
)  # fmt: skip
"""(from which width of the screen, the column) as long as the user chose none."""
_NAMED = {one.name: one for _, one in USUAL}


def usual(width: int) -> tuple[RunColumn, ...]:
    """The columns of a screen of ``width`` cells where the user chose none."""
    return tuple(one for least, one in USUAL if width >= least)


def turn(one: RunColumn, width: int) -> int:
    """Who of the chosen columns gets room first: the name, and last those that a screen of so few
    cells has not otherwise."""
    least = next((least for least, usual in USUAL if usual.name == one.name), 0)
    return 0 if one.name == "name" else 1 + (least > width)


def column_named(name: str, keys: Sequence[str] | set[str]) -> RunColumn:
    """The column of a field, or of a recipe's key. Raises UsageError: there is no such one."""
    if found := _NAMED.get(name):
        return found
    return _made(field_named(name, keys, of_runs=True))


def _made(one: Field) -> RunColumn:
    title = one.name.rsplit(".", 1)[-1]

    def cell(row: "RunRow", look: Look) -> Cell:
        return _cell(one, one.value(row, look.facts), look.now)

    def rank(row: "RunRow", look: Look) -> Any:
        value = one.value(row, look.facts)
        if isinstance(value, str | list | tuple):
            return str(value).lower() or None
        return _number(value)

    right = one.kind in ("number", "bytes", "seconds")
    width = {"word": 14, "words": 14, "any": 8}.get(one.kind, 10)
    column = Column(title, max(width, min(16, len(title))), right)
    return RunColumn(one.name, column, cell, rank, f"by {title}")


def _cell(one: Field, value: Any, now: float) -> str:
    if value is None or value == ():
        return words.NOTHING
    if one.kind == "bytes":
        return words.bytes_words(value)
    if one.kind == "seconds":
        return words.duration(value)
    if one.kind == "time":
        return words.when(value, now)
    if one.kind == "words":
        return " ".join(value)
    if one.kind == "number":
        return words.loss(value) if "loss" in one.name else words.number(value)
    return value_words(value)


def offered(facts: Facts, differing: Sequence[str]) -> list[tuple[str, str]]:
    """(name, what it is) of all columns: the usual ones, keys that differ, fields, other keys."""
    about = {one.name: one.words for one in FIELDS}
    found = {one.name: about.get(one.name, "") for _, one in USUAL}
    found[DIFFERS] = "the keys in which the recipes of the table differ, in short"
    found |= {key: "differs among the runs" for key in differing if key not in UNTOLD}
    found |= {one.name: one.words for one in FIELDS if one.name not in found}
    found |= {key: "a key of recipes" for key in sorted(facts.settings.keys) if key not in found}
    return list(found.items())


def told_keys(differing: Sequence[str]) -> tuple[str, ...]:
    """The keys worth telling, what matters most first."""
    known = {key: place for place, key in enumerate(LEADING)}
    kept = [key for key in differing if key not in UNTOLD]
    if "data.name" in kept and "data.source" in kept:
        kept.remove("data.source")
    return tuple(sorted(kept, key=lambda key: known.get(key, len(known))))


# --- what the user chose


def columns_file() -> Path:
    """``$XDG_CONFIG_HOME/tunebench/columns.toml``."""
    return keys_file().with_name("columns.toml")


def load_columns(file: Path) -> list[str] | None:
    """The names of the columns that were chosen; None: none were.

    Raises :class:`UserError` naming the file.
    """
    try:
        found = tomllib.loads(file.read_text("utf-8")).get("columns")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError(f'{file}: a list is wanted: columns = ["state", "name"]')
    return [safe_line(name[:100]) for name in found]


def save_columns(file: Path, names: Sequence[str] | None) -> None:
    """Keep what was chosen; None: forget it. Raises :class:`UserError`."""
    import tomlkit

    try:
        if names is None:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.new")
        new.write_text(tomlkit.dumps({"columns": list(names)}), "utf-8")
        new.rename(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
