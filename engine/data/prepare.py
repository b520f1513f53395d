"""From a recipe to a dataset on disk: the one that is there, or a new one, published whole.

Everything is written to a hidden folder beside and renamed when it is whole, under one lock per
dataset name. Whatever interrupts it leaves nothing that looks like a dataset.
"""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.build import Build
from engine.data.dataset import Dataset, open_dataset
from engine.data.fingerprint import fingerprint
from engine.data.moved import follow_source
from engine.data.progress import Cancelled, Progress, Watch
from engine.data.sources import (
    Look,
    check_source,
    data_files,
    dataset_name,
    locate_source,
    look,
    open_source,
    source_sha256,
)
from engine.errors import UserError
from engine.home import Home
from engine.jobs.lock import locked
from engine.recipe import Recipe
from engine.whole import put_in_place

__all__ = ["Cancelled", "Progress", "check_source", "prepare"]


def prepare(
    home: Home,
    recipe: Recipe,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Dataset:
    """The dataset that a recipe describes: the one that is there, or a new one.

    A dataset of the same name with the same fingerprint is opened at once; one with another
    fingerprint is replaced when the new one is whole. Raises :class:`UserError` when the source
    cannot be used and :class:`Cancelled` when ``cancelled()`` turns true.
    """
    watch = Watch(progress, cancelled)
    check_source(recipe)
    name = dataset_name(recipe.data)
    folder = home.datasets / name
    try:
        locks = home.datasets / ".locks"
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(locks / name, waiting=lambda: watch.tell("waiting for another run")):
            rows = recipe.data.catalogue_rows
            place = locate_source(
                home,
                recipe.data,
                lambda done: watch.tell("making the catalogue", done, done / rows),
            )
            data = recipe.data.model_copy(update={"source": str(place)})
            found = look(home, data)
            before = _states(place)
            sha256 = source_sha256(home, place, lambda: watch.tell("fingerprinting"))
            wanted = fingerprint(sha256, found, recipe)
            identity = {
                "path": str(place),
                "sha256": sha256,
                "bytes": sum(size for _, size, _ in before),
                "mtime_ns": max(changed for _, _, changed in before),
            }
            if _is_there(home, name, wanted, found, identity):
                return open_dataset(home, name)
            temporary = home.datasets / f".{name}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(mode=0o700)
            try:
                source = open_source(home, data, found)
                source.warnings.extend(_replaces(home, name, place))
                Build(recipe, found, source, identity, wanted, temporary, folder, watch).run()
                if before != _states(place):
                    raise UserError(f"{place}: changed while it was read; try again")
                put_in_place(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{home.datasets}: the disk is full; the unfinished dataset was removed; make room "
                "or name another folder with --home DIR"
            ) from None
        where = error.filename or folder
        raise UserError(f"{where}: cannot be used ({error.strerror or error})") from None
    return open_dataset(home, name)


def _is_there(home: Home, name: str, wanted: str, found: Look, identity: dict[str, Any]) -> bool:
    """Whether the dataset is there and whole; it knows where its source is then."""
    if not (home.datasets / name).exists():
        return False
    try:
        dataset = open_dataset(home, name)
        if dataset.fingerprint != wanted:
            return False
        follow_source(dataset, found, identity)
    except (UserError, ValueError, KeyError, TypeError):
        return False  # damaged: made again
    return True


def _replaces(home: Home, name: str, place: Path) -> list[str]:
    """A warning, when the dataset of this name is one of another source: file names are alike."""
    try:
        other = open_dataset(home, name).source
    except UserError:
        return []
    own = home.datasets / ".sources"  # made or fetched by us: another size or revision
    if other in ("", str(place)) or (Path(other).is_relative_to(own) and place.is_relative_to(own)):
        return []
    return [f"replaces the dataset {name} of {other}; --name (data.name) keeps both"]


def _states(place: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file of a source."""
    infos = [(str(path), path.stat()) for path in data_files(place)[0]]
    return [(path, info.st_size, info.st_mtime_ns) for path, info in infos]
