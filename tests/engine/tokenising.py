"""A process of its own that tokenises a split; what several tests of the token cache share.

``python -m tests.engine.tokenising HOME DATASET RECIPE.toml WORKERS KILL_AT`` prints how many
pieces it made, and is killed by itself when ``KILL_AT`` rows are done (0: never).
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from engine.data.dataset import Dataset, open_dataset
from engine.data.tokenised import Tokenised, split, tokenise
from engine.data.tokenised.key import rows_key
from engine.data.tokens import Example, Formatter
from engine.home import Home
from engine.recipe import Recipe, read_recipe

SHARD, PIECE = 40, 20
"""Rows: small enough for several files of a few hundred rows."""


def small_shards(monkeypatch: pytest.MonkeyPatch, workers: int = 0) -> None:
    """Files of :data:`SHARD` rows, made by so many processes besides this one."""
    for name, value in _settings(workers).items():
        monkeypatch.setattr(split, name, value)


def made(home: Home, dataset: Dataset, recipe: Recipe, name: str = "train", **more) -> Tokenised:
    """A split as a run of the recipe has it."""
    rows = dataset.count(name)
    only = recipe.train.completion_only_loss
    options = {"rows": rows, "completion_only_loss": only} | more
    return tokenise(home, dataset, name, Formatter.of(recipe), **options)


def key(dataset: Dataset, recipe: Recipe, name: str = "train", count: int = 200) -> str:
    only = recipe.train.completion_only_loss
    found = rows_key(dataset, name, count, Formatter.of(recipe), only)
    assert found
    return found


def files(found: Tokenised) -> dict[str, int]:
    """Name -> inode of the files that are mapped: a file made again has another one."""
    return {path.name: path.stat().st_ino for _, _, path in found.parts if path}


def examples(dataset: Dataset, recipe: Recipe, name: str = "train") -> list[Example]:
    """Every row looked at whole and alone."""
    formatter, table = Formatter.of(recipe), dataset.split(name)
    return [
        next(formatter.examples(table.slice(number, 1), shape=dataset.shape))
        for number in range(len(table))
    ]


def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no text becomes tokens, in this process or in another."""
    monkeypatch.setattr(Formatter, "examples", None)
    monkeypatch.setattr(split, "in_order", None)


def _settings(workers: int) -> dict[str, object]:
    return {
        "_SHARD_ROWS": SHARD,
        "_PIECE_ROWS": PIECE,
        "SMALL_TOKENS": 1,
        "cores": lambda: workers or 1,
    }


def main() -> None:
    home, name, recipe, workers, kill_at = sys.argv[1:]
    for setting, value in _settings(int(workers)).items():
        setattr(split, setting, value)
    pieces = 0
    in_order = split.in_order

    def counting(*args):
        nonlocal pieces
        for item, piece in in_order(*args):
            pieces += 1
            yield item, piece

    split.in_order = counting

    def tell(done: int, rows: int) -> None:
        if 0 < int(kill_at) <= done:
            os.kill(os.getpid(), signal.SIGKILL)

    place = Home(Path(home))
    made(place, open_dataset(place, name), read_recipe(Path(recipe)), progress=tell)
    print(pieces)


if __name__ == "__main__":
    main()
