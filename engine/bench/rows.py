"""The rows that every contestant trains on: a source for tunebench's own run, its tokens in a file.

Two sets: ``corpus`` has the lengths of the recipe's data (by default of the built-in catalogue)
after truncation; of ``full`` every row fills ``max_length``, so that padded are real tokens.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.builtin import BUILTIN_CATALOGUE
from engine.data.prepare import prepare
from engine.data.progress import Progress
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import Home
from engine.recipe import CleanSection, DataSection, Recipe, SplitSection

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["IGNORED", "ROW_SETS", "RowSet", "Rows", "make_rows", "read_rows"]

ROW_SETS = ("corpus", "full")
IGNORED = -100
"""Label of a token that is not trained on."""
BATCH_ROWS = 1024
LEAST = 200
"""Rows at least: each of the splits must get some."""
CHARACTERS = (8, 16, 64)
"""Characters a token that are tried, one after the other, to fill a row."""


@dataclass(frozen=True)
class RowSet:
    """Rows of one kind, ready for all contestants."""

    name: str
    words: str
    recipe: Recipe
    """The bench's recipe with these rows as its data."""
    file: Path
    """What :func:`read_rows` reads."""
    rows: int
    tokens: float
    """Mean tokens a row, without padding."""
    trained: float
    """Mean tokens a row that the loss counts."""


@dataclass(frozen=True)
class Rows:
    """Tokenised rows: int32 arrays of equal lengths in pairs."""

    input_ids: list[np.ndarray]
    labels: list[np.ndarray]
    """:data:`IGNORED` where a token is not trained."""


def make_rows(
    name: str,
    home: Home,
    scratch: Home,
    recipe: Recipe,
    count: int,
    *,
    own: bool,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> RowSet:
    """Make about ``count`` rows: as a dataset in ``scratch``, and as a file of tokens.

    ``own``: the corpus is the recipe's, cleaned in ``home``; else the catalogue. Raises
    :class:`UserError`, and :class:`engine.data.progress.Cancelled`.
    """
    count = max(count, LEAST)

    def prepared(home: Home, recipe: Recipe) -> Any:
        return prepare(home, recipe, progress=progress, cancelled=cancelled)

    if name == "corpus" and own:
        dataset = prepared(home, recipe)
    else:
        dataset = prepared(scratch, _of_catalogue(recipe, count))
    table = dataset.split("train").slice(0, count)
    source = scratch.path / f"rows-{name}.jsonl"
    if name == "full":
        return _full(scratch, recipe, table, source, prepared)
    made = prepared(scratch, _of_source(recipe, source, _lines(table, dataset.shape)))
    where = "of the recipe's data" if own else "of the built-in catalogue"
    return _written(name, where, scratch, _of_source(recipe, source), made)


def read_rows(file: Path) -> Rows:
    """What :func:`make_rows` wrote."""
    with np.load(file) as found:
        ends = found["ends"][:-1]
        return Rows(np.split(found["input_ids"], ends), np.split(found["labels"], ends))


def _full(
    scratch: Home,
    recipe: Recipe,
    table: "pa.Table",
    source: Path,
    prepared: Callable[[Home, Recipe], Any],
) -> RowSet:
    length = recipe.train.max_length
    for characters in CHARACTERS:
        lines = _filled(table, characters * length)
        made = prepared(scratch, _of_source(recipe, source, lines))
        found = _written("full", "that all fill it", scratch, _of_source(recipe, source), made)
        if found.tokens == length:
            return found
    raise UserError(f"train.max_length: no rows of {length} tokens could be made")


def _filled(table: "pa.Table", characters: int) -> Iterable[dict[str, Any]]:
    """Each row's completion followed by those of the next rows, until it is long enough."""
    completions = table["completion"].to_pylist()
    for place, prompt in enumerate(table["prompt"].to_pylist()):
        text, after = completions[place], place
        while len(text) < characters:
            after = (after + 1) % len(completions)
            text += f" {completions[after]}"
        yield {"prompt": prompt, "completion": text}


def _lines(table: "pa.Table", shape: str) -> Iterable[dict[str, Any]]:
    """The rows of a dataset as a source of the same shape has them."""
    for row in table.to_pylist():
        if shape == "conversation":
            yield {"messages": row["messages"]}
        elif shape == "text":
            yield {"text": row["completion"]}
        elif shape == "instruction":
            yield {
                "instruction": row["instruction"],
                "input": row["prompt"],
                "output": row["completion"],
                "system": row["system"],
            }
        else:
            yield {"prompt": row["prompt"], "completion": row["completion"]}


def _of_catalogue(recipe: Recipe, count: int) -> Recipe:
    # Somewhat more than half of its lines are left when it is clean.
    data = DataSection(source=BUILTIN_CATALOGUE, name="catalogue", catalogue_rows=2 * count + 500)
    update = {"data": data, "clean": CleanSection(), "split": SplitSection()}
    return recipe.model_copy(update=update)


def _of_source(
    recipe: Recipe, source: Path, lines: Iterable[dict[str, Any]] | None = None
) -> Recipe:
    """The recipe with ``source`` as its data, written first when there are ``lines``."""
    if lines is not None:
        with source.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    # These rows are one split's: by the same seed they would all fall to it again.
    seed = recipe.split.seed + 1
    update = {
        "data": DataSection(source=str(source), name=source.stem),
        "clean": CleanSection(rules=["empty"]),
        "split": SplitSection(train=0.9, validation=0.05, test=0.05, seed=seed),
    }
    return recipe.model_copy(update=update)


def _written(name: str, where: str, scratch: Home, recipe: Recipe, dataset: Any) -> RowSet:
    """Tokenise the train split as the trainer does, into a file."""
    formatter = Formatter.of(recipe)
    only = recipe.train.completion_only_loss
    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in dataset.split("train").to_batches(max_chunksize=BATCH_ROWS):
        for example in formatter.examples(batch, shape=dataset.shape, whole=False):
            trained = example.trained(only)
            if any(trained):
                row = np.asarray(example.input_ids, dtype=np.int32)
                ids.append(row)
                labels.append(np.where(trained, row, np.int32(IGNORED)))
    if not ids:
        raise UserError(
            f"train.max_length: the prompts alone fill {recipe.train.max_length} tokens in every "
            "row, so there is nothing to train on; make it larger"
        )
    file = scratch.path / f"rows-{name}.npz"
    together = np.concatenate(labels)
    ends = np.cumsum([len(row) for row in ids])
    np.savez(file, input_ids=np.concatenate(ids), labels=together, ends=ends)
    trained_tokens = int((together != IGNORED).sum())
    length = recipe.train.max_length
    mean = len(together) / len(ids)
    words = f"rows {where}: {mean:.0f} of {length} tokens"
    if name == "full":
        words = f"rows that all have {length} tokens"
    return RowSet(name, words, recipe, file, len(ids), mean, trained_tokens / len(ids))
