"""Where a recipe's rows come from, and what identifies them."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.builtin import BUILTIN_CATALOGUE, UNKNOWN
from engine.data.sources.hub import hub_name, is_hub_id
from engine.data.sources.recognise import DATA_ENDINGS, PACKED_ENDINGS, plain_name
from engine.data.sources.unpack import open_file
from engine.errors import UserError
from engine.home import Home, writable_name
from engine.jobs.lock import locked

if TYPE_CHECKING:
    from engine.recipe import Recipe
    from engine.sections.data import DataSection

__all__ = [
    "check_source",
    "comes_from_hub",
    "data_files",
    "dataset_name",
    "locate_source",
    "source_sha256",
]

STANDARD_INPUT = "-"
_MADE_UP = re.compile(r"[^\w.-]+")
_MOST_NAMED = 5


def check_source(recipe: "Recipe") -> None:
    """Cheap checks before anything is started: the source exists and is not empty.

    Raises :class:`UserError` in one clear line. Asks no hub and reads no standard input.
    """
    data = recipe.data
    dataset_name(data)
    if data.source == BUILTIN_CATALOGUE:
        return
    if data.source == UNKNOWN:
        raise UserError("data.source: the run was imported without it; set it to the data's file")
    if data.source.startswith("builtin:"):
        raise UserError(f"data.source: no built-in {data.source!r}; there is {BUILTIN_CATALOGUE}")
    if data.source == STANDARD_INPUT:
        from engine.data.sources.stdin import check_standard_input

        check_standard_input()
        return
    path = _source_path(data)
    if is_hub_id(data.source, path):
        return
    if path.is_dir():
        data_files(path)
        return
    from engine.data.sources.recognise import recognise

    with open_file(path) as file:
        if not file.read(1):
            raise UserError(f"{path}: is empty")
    recognise(path, data.encoding, data.delimiter)


def comes_from_hub(data: "DataSection") -> bool:
    """Whether the rows have to be asked of the hub (or its cache)."""
    builtin = data.source == STANDARD_INPUT or data.source.startswith("builtin:")
    return not builtin and is_hub_id(data.source, _source_path(data))


def dataset_name(data: "DataSection") -> str:
    """The cleaned dataset's name: the recipe's, else the source file's without its endings."""
    if data.name:
        name = data.name
    elif data.source == BUILTIN_CATALOGUE:
        name = "catalogue"
    elif data.source == STANDARD_INPUT:
        name = "stdin"
    else:
        name = Path(hub_name(data.source) or data.source).name
        name = plain_name(_MADE_UP.sub("-", name)).strip(".-") or "dataset"
    if name.startswith("."):
        raise UserError(f"data.name: {name!r} begins with a dot; choose another name")
    return name


def locate_source(
    home: Home, data: "DataSection", progress: Callable[[int], None] | None = None
) -> Path:
    """The file or folder to read.

    The built-in catalogue is written first when it is not there yet (``progress`` hears how many of
    its rows are), standard input is spooled to a file, a hub dataset is fetched.
    """
    if data.source == STANDARD_INPUT:
        from engine.data.sources.stdin import spool

        return spool(home)
    if data.source != BUILTIN_CATALOGUE:
        path = _source_path(data)
        if is_hub_id(data.source, path):
            from engine.data.sources.hub import fetch

            return fetch(home, data)
        if not path.exists() and "/" in data.source and not path.parent.exists():
            raise UserError(
                f"{path}: no such file or folder; a hub dataset is written org/name or hub:name"
            )
        return path
    from engine.demo.catalogue import write_catalogue

    folder = home.datasets / ".sources"
    path = folder / f"catalogue-{data.catalogue_rows}-{data.catalogue_seed}.json.gz"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_catalogue(path, data.catalogue_rows, data.catalogue_seed, progress=progress)
    return path


def data_files(place: Path) -> tuple[list[Path], list[str]]:
    """The data files of a source in their order, and notes on what else lies there.

    In a folder: by their endings, in the order of their names, folders within too, hidden ones not.
    """
    if not place.is_dir():
        return [place], []
    found: list[Path] = []
    unknown: list[Path] = []
    try:
        for folder, folders, names in os.walk(place, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                if name.startswith("."):
                    continue
                path = Path(writable_name(os.path.join(folder, name)))
                plain = name.lower()
                for ending in PACKED_ENDINGS:
                    plain = plain.removesuffix(ending)
                (found if plain.endswith(DATA_ENDINGS) else unknown).append(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not found:
        raise UserError(
            f"{place}: has no data file in it; looked for {', '.join(DATA_ENDINGS)}, packed or not"
        )
    notes = []
    if unknown:
        names = [str(path.relative_to(place)) for path in sorted(unknown)]
        more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
        notes.append(f"left out: {', '.join(names[:_MOST_NAMED])}{more} (not data files)")
    return sorted(found, key=lambda path: path.relative_to(place).parts), notes


def _raise(error: OSError) -> None:
    raise error


def _source_path(data: "DataSection") -> Path:
    return Path(writable_name(str(Path(data.source).expanduser().absolute())))


def source_sha256(home: Home, path: Path, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a source, remembered by path, size and time of change (1 s for 840 MB).

    Of a folder: of its files' names and hashes. ``check`` is called between blocks and may raise to
    give up.
    """
    files = data_files(path)[0]
    hashes = _sha256_of(home, files, check)
    if not path.is_dir():
        return hashes[0]
    digest = hashlib.sha256()
    for file, found in zip(files, hashes, strict=True):
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\n{found}\n".encode())
    return digest.hexdigest()


def _sha256_of(home: Home, files: list[Path], check: Callable[[], None]) -> list[str]:
    """Of each file; what was not known is remembered when all are done, in one go."""
    memory = home.datasets / ".sources" / "hashes.json"
    known = _read_memory(memory)
    new: dict[str, list[Any]] = {}
    hashes: list[str] = []
    for path in files:
        info = path.stat()
        key = [info.st_size, info.st_mtime_ns]
        entry = known.get(str(path))
        if not (isinstance(entry, list) and entry[:2] == key and len(entry) == 3):
            entry = new[str(path)] = [*key, _digest(path, check)]
        hashes.append(str(entry[2]))
    if new:
        memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(memory.with_name("hashes.lock")):
            temporary = memory.with_name(f".hashes.{os.getpid()}.part")
            temporary.write_text(json.dumps(_read_memory(memory) | new, indent=1), encoding="utf-8")
            temporary.replace(memory)
    return hashes


def _digest(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(4 << 20):
            digest.update(block)
            check()
    return digest.hexdigest()


def _read_memory(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
