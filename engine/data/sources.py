"""Where a recipe's rows come from, and what identifies them."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.builtin import BUILTIN_CATALOGUE
from engine.data.lines import open_source
from engine.data.rules import RULES_VERSION
from engine.errors import UserError
from engine.home import Home, writable_name
from engine.jobs.lock import locked
from engine.recipe import DataSection, Recipe

__all__ = ["check_source", "dataset_name", "fingerprint", "locate_source"]

_MADE_UP = re.compile(r"[^\w.-]+")


def check_source(recipe: Recipe) -> None:
    """Cheap checks before anything is started: the source exists, is a file and is not empty.

    Raises :class:`UserError` in one clear line.
    """
    dataset_name(recipe.data)
    if recipe.data.source == BUILTIN_CATALOGUE:
        return
    if recipe.data.source.startswith("builtin:"):
        raise UserError(
            f"data.source: no built-in {recipe.data.source!r}; there is {BUILTIN_CATALOGUE}"
        )
    path = _source_path(recipe.data)
    with open_source(path) as file:
        if not file.read(1):
            raise UserError(f"{path}: is empty")


def dataset_name(data: DataSection) -> str:
    """The cleaned dataset's name: the recipe's, else the source file's without its endings."""
    if data.name:
        name = data.name
    elif data.source == BUILTIN_CATALOGUE:
        name = "catalogue"
    else:
        name = _MADE_UP.sub("-", Path(data.source).name)
        for ending in (".gz", ".jsonl", ".ndjson", ".json"):
            name = name.removesuffix(ending)
        name = name.strip(".-") or "dataset"
    if name.startswith("."):
        raise UserError(f"data.name: {name!r} begins with a dot; choose another name")
    return name


def locate_source(
    home: Home, data: DataSection, progress: Callable[[int], None] | None = None
) -> Path:
    """The file to read. The built-in catalogue is written first when it is not there yet.

    ``progress`` hears how many of its rows are written.
    """
    if data.source != BUILTIN_CATALOGUE:
        return _source_path(data)
    from engine.demo.catalogue import write_catalogue

    folder = home.datasets / ".sources"
    path = folder / f"catalogue-{data.catalogue_rows}-{data.catalogue_seed}.json.gz"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_catalogue(path, data.catalogue_rows, data.catalogue_seed, progress=progress)
    return path


def _source_path(data: DataSection) -> Path:
    return Path(writable_name(str(Path(data.source).expanduser().absolute())))


def fingerprint(source_sha256: str, recipe: Recipe) -> str:
    """Identifies a dataset by content: source bytes, columns, rules and split; 16 hex digits.

    Neither the source's place nor the dataset's name counts.
    """
    described: dict[str, Any] = {
        "source": source_sha256,
        "prompt_column": recipe.data.prompt_column,
        "completion_column": recipe.data.completion_column,
        "clean": recipe.clean.model_dump(),
        "split": recipe.split.model_dump(),
        "rules": RULES_VERSION,
    }
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_sha256(home: Home, path: Path, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file, remembered by path, size and time of change (1 s for 840 MB).

    ``check`` is called between blocks and may raise to give up.
    """
    memory = home.datasets / ".sources" / "hashes.json"
    info = path.stat()
    key = [info.st_size, info.st_mtime_ns]
    known = _read_memory(memory)
    entry = known.get(str(path))
    if isinstance(entry, list) and entry[:2] == key and len(entry) == 3:
        return str(entry[2])
    digest = hashlib.sha256()
    with open_source(path) as file:
        while block := file.read(4 << 20):
            digest.update(block)
            check()
    found = digest.hexdigest()
    memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(memory.with_name("hashes.lock")):
        known = _read_memory(memory)
        known[str(path)] = [*key, found]
        temporary = memory.with_name(f".hashes.{os.getpid()}.part")
        temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
        temporary.replace(memory)
    return found


def _read_memory(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
