"""Which prompts a run is evaluated on, and what should be answered to them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.dataset import Dataset, open_dataset
from engine.data.prepare import Progress, prepare
from engine.data.sources import dataset_name
from engine.errors import UsageError, UserError
from engine.evaluate.pair_files import ANSWERS, PROMPTS, read_pairs
from engine.generate.prompt_files import SAVED, read_prompt_rows
from engine.home import Home
from engine.jobs.folder import RunFolder

__all__ = ["ROWS", "EvaluationRows", "rows_for", "trained_dataset"]

ROWS = 1000
"""As many are answered unless told otherwise: intervals are narrow then, and minutes enough."""
SPLITS = ("test", "validation", "train")
_SEED = 0


@dataclass(frozen=True)
class EvaluationRows:
    """Prompts with their references."""

    prompts: list[str]
    references: list[str]
    source: str
    """test, validation, FILE, set:NAME, or DATASET:SPLIT: as it was asked for."""
    of: int
    """Rows that there are."""
    notes: tuple[str, ...] = ()
    why_none: str = ""
    """Why there are no prompts, where the rows have none."""


def rows_for(
    home: Home,
    folder: RunFolder,
    source: str = "test",
    count: int = ROWS,
    *,
    prompt: str | None = None,
    reference: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> EvaluationRows:
    """At most ``count`` rows (0: all) of a split of the run, a file, a set, or DATASET:SPLIT.

    They are drawn at random but always the same ones, so that runs can be compared on them. Raises
    :class:`UserError`.
    """
    dataset, _, split = source.rpartition(":")
    if source in SPLITS:
        found = _of_split(trained_dataset(home, folder, progress), source, source)
    elif split in SPLITS and dataset and not Path(source).expanduser().exists():
        found = _of_split(open_dataset(home, dataset), split, source)
    elif source.startswith(SAVED) and not Path(source).expanduser().exists():
        found = _of_set(home, source)
    else:
        if not Path(source).expanduser().exists():
            raise UsageError(
                f"--on {source}: no such file; name test, validation, a file of prompts and "
                "references, DATASET:SPLIT, or set:NAME"
            )
        pairs = read_pairs(source, prompt, reference, option="--on", sides=(PROMPTS, ANSWERS))
        rows = len(pairs.predictions)
        path = str(Path(source).expanduser().absolute())
        found = EvaluationRows(pairs.predictions, pairs.references, path, rows, pairs.notes)
    return _drawn(found, count)


def trained_dataset(
    home: Home, folder: RunFolder, progress: Callable[[Progress], None] | None = None
) -> Dataset:
    """The dataset that the run was trained on. Raises :class:`UserError` when it has changed."""
    recipe, trained = folder.read_recipe(), folder.fingerprint()
    try:
        dataset = open_dataset(home, dataset_name(recipe.data))
    except UserError:
        dataset = None
    if dataset is None or dataset.fingerprint != trained:
        dataset = prepare(home, recipe, progress=progress)
    if trained and trained != dataset.fingerprint:
        raise UserError(
            f"data.source: {recipe.data.source} has other rows than run {folder.id} was trained "
            f"with (dataset {trained}, now {dataset.fingerprint}), so its test rows may have been "
            "trained on; bring the rows back, or name others with --on"
        )
    return dataset


def _of_split(dataset: Dataset, split: str, source: str) -> EvaluationRows:
    if dataset.shape != "pair":
        return EvaluationRows(
            [], [], source, dataset.count(split), why_none=_no_prompts(dataset.shape)
        )
    table: Any = dataset.split(split)
    if not table.num_rows:
        raise UserError(f"--on {source}: this split of {dataset.name} has no rows")
    return EvaluationRows(
        table.column("prompt").to_pylist(),
        table.column("completion").to_pylist(),
        source,
        table.num_rows,
    )


def _of_set(home: Home, source: str) -> EvaluationRows:
    """The prompts of a saved set, each of which needs a reference."""
    rows = read_prompt_rows(home, source, label=f"--on {source}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row["prompt"], str):
            raise UserError(f"--on {source}: prompt {number:,} is a conversation, no text")
        if row["reference"] is None:
            raise UserError(
                f"--on {source}: prompt {number:,} has no reference to compare answers with"
            )
    if not rows:
        raise UserError(f"--on {source}: has no prompts")
    prompts = [row["prompt"] for row in rows]
    return EvaluationRows(prompts, [row["reference"] for row in rows], source, len(rows))


def _no_prompts(shape: str) -> str:
    if shape == "text":
        return "its rows are texts without a prompt: there is nothing to answer"
    return (
        f"its rows are of the shape {shape!r}, whose prompts are more than one text: only the loss "
        "is measured"
    )


def _drawn(rows: EvaluationRows, count: int) -> EvaluationRows:
    import numpy as np

    if not 0 < count < len(rows.prompts):
        return rows
    places = np.sort(np.random.default_rng(_SEED).permutation(len(rows.prompts))[:count]).tolist()
    return EvaluationRows(
        [rows.prompts[place] for place in places],
        [rows.references[place] for place in places],
        rows.source,
        rows.of,
        rows.notes,
    )
