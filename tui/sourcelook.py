"""What a source is, looked at before it is used: in words for the clean form. Called in threads."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.builtin import BUILTIN_CATALOGUE
from engine.errors import UserError
from engine.home import Home
from engine.recipe import DataSection
from engine.text import clip, safe_line
from tui.widgets.lines import BOLD, PLAIN, QUIET, WARM, Run
from tui.words import bytes_words

if TYPE_CHECKING:
    from engine.data.sources import Look

__all__ = ["field_of", "look_at", "look_runs"]

FEW_ROWS = 500
"""Rows of the built-in catalogue that a look makes: the layout is the same in all of them."""


def look_at(home: Home, data: DataSection) -> "list[Run]":
    """The source in words. Raises :class:`UserError` when it cannot be used."""
    from engine.data.sources import dataset_name, look
    from engine.data.sources.hub import is_hub_id

    if data.source == "-":
        raise UserError(
            "-: standard input is the keyboard here; from a shell: tunebench clean - < FILE"
        )
    name = dataset_name(data)
    there = (home.datasets / name / "dataset.json").exists()
    told: list[Run] = [(f"dataset {clip(name, 40)}", BOLD)]
    if there:
        told.append((" is there: it is replaced when the new one is whole", WARM))
    if is_hub_id(data.source, Path(data.source).expanduser().absolute()):
        words = "a dataset of the hub: it is fetched, and looked at, when the cleaning starts"
        return [(f"{words}\n", PLAIN), *told]
    if data.source == BUILTIN_CATALOGUE and data.catalogue_rows > FEW_ROWS:
        data = data.model_copy(update={"catalogue_rows": FEW_ROWS})
    return [*look_runs(look(home, data)), *told]


def look_runs(seen: "Look") -> list[Run]:
    """Files, layout, columns and a sample row."""
    first = seen.files[0]
    kind = [first.format, first.compression, first.encoding if first.format in TEXTS else ""]
    if first.format == "csv":
        kind.append(f"delimiter {first.delimiter!r}")
    size = sum(file.bytes for file in seen.files)
    several = f"{len(seen.files)} files, " if len(seen.files) > 1 else ""
    runs: list[Run] = [
        (safe_line(f"{several}{', '.join(filter(None, kind))}, {bytes_words(size)}\n"[:-1]), PLAIN),
        ("\nlayout ", QUIET),
        (f"{seen.layout.name}", BOLD),
        (f"  {clip(seen.mapping, 160)}", PLAIN),
        ("\ncolumns ", QUIET),
        (clip(", ".join(seen.columns) or "none", 200), PLAIN),
    ]
    runs += [(f"\n! {clip(note, 160)}", WARM) for note in seen.notes[:3]]
    row: Any = next((raw.row for raw in seen.sample if raw.row is not None), None)
    if row is not None:
        given = row.instruction or row.prompt
        if given:
            runs += [("\nfirst row ", QUIET), (clip(given, 120), PLAIN)]
        runs += [("\n        → ", QUIET), (clip(row.completion, 120), PLAIN)]
    else:
        runs.append(("\nnone of the first rows can be used", WARM))
    return [*runs, ("\n", PLAIN)]


TEXTS = ("jsonl", "json", "csv")


def field_of(message: str) -> str:
    """The field of the form that an error is about."""
    for key in ("delimiter", "encoding", "layout", "name"):
        if f"data.{key}" in message and "data.prompt_column" not in message:
            return {"delimiter": "source", "encoding": "source"}.get(key, key)
    if "data.completion_column as well" in message:
        return "completion_column"
    if "column" in message and "there are:" in message:
        return "prompt_column"
    return "source"
