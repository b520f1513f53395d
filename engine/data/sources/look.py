"""A first look at a source: what it is made of and how its rows will be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.rows import RawRow
from engine.data.sources.columns import OBJECTS_LOOK, Seen, layout_of
from engine.data.sources.files import BLOCK_BYTES, Chunk, FileNotes, SourceFile
from engine.data.sources.identity import data_files, locate_source
from engine.data.sources.layout import Layout
from engine.data.sources.parser import Parser
from engine.data.sources.recognise import OneObject, recognise
from engine.data.sources.source import Source, cuts_of
from engine.errors import UserError
from engine.home import Home

if TYPE_CHECKING:
    from engine.sections.data import DataSection

__all__ = ["Look", "look", "open_source"]

SAMPLE_ROWS = 20
_WHOLE_LOOKS = 16
"""Files that are looked at for a megabyte each; of further ones a sixteenth of that is read."""
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "eval", "test", "testing")


@dataclass(frozen=True)
class Look:
    """What a source is: shown before it is used, and needed to open it."""

    files: tuple[SourceFile, ...]
    layout: Layout
    columns: tuple[str, ...]
    """The names that were seen, in their order."""
    sample: tuple[RawRow, ...]
    """The first rows, at most 20."""
    notes: tuple[str, ...]
    """One line each: what was left out, what was assumed."""

    @property
    def shape(self) -> str:
        """One of :data:`engine.data.rows.SHAPES`."""
        return self.layout.shape

    @property
    def mapping(self) -> str:
        """Which column is taken for what, in words."""
        return self.layout.words


def look(home: Home, data: "DataSection") -> Look:
    """Looks at the first megabyte of each file. Raises :class:`UserError` in one clear line.

    Makes the built-in catalogue, spools standard input and fetches a hub dataset when they are not
    there yet.
    """
    place = locate_source(home, data)
    paths, notes = data_files(place)
    several = place.is_dir()
    files: list[SourceFile] = []
    for path in paths:
        try:
            file = recognise(path, data.encoding, data.delimiter, _look_bytes(len(files)))
        except OneObject as error:
            if not several:
                raise
            notes.append(f"left out: {error}")
            continue
        if not file.bytes:
            notes.append(f"{path}: is empty")
            continue
        files.append(file)
    if not files:
        raise UserError(f"{place}: no file with rows in it")
    notes += _split_note(place, files) if several else []
    return _seen_through(tuple(files), data, str(place), notes)


def open_source(home: Home, data: "DataSection", found: Look | None = None) -> Source:
    """The source of a recipe, ready to be read once."""
    found = found or look(home, data)
    return Source(found.files, found.layout)


def _look_bytes(before: int) -> int:
    return BLOCK_BYTES if before < _WHOLE_LOOKS else BLOCK_BYTES // 16


def _seen_through(
    files: tuple[SourceFile, ...], data: "DataSection", place: str, notes: list[str]
) -> Look:
    plain = Layout("columns", "pair")
    parser = Parser(plain, [file.format for file in files], [file.columns for file in files])
    seen = Seen(files[0].columns)
    others: list[tuple[SourceFile, Seen]] = []
    for index, file in enumerate(files):
        its = Seen(file.columns)
        for value in _objects(file, index, parser):
            its.add(value)
            if seen.count < OBJECTS_LOOK:
                seen.add(value)
        others.append((file, its))
    layout = layout_of(seen, data, files[0].path if len(files) == 1 else place)
    for file, its in others:
        missing = [name for name in layout.required if name not in its]
        if missing and (its.count or its.types):
            raise UserError(
                f"{file.path}: no column {missing[0]!r}, unlike the files before it; there are: "
                f"{its.words}; all files of a folder must have one layout"
            )
    reader = Parser(layout, [file.format for file in files], [file.columns for file in files])
    first = _first_chunk(files[0], 0, layout.needed)
    sample = tuple(islice(reader.rows(first), SAMPLE_ROWS)) if first else ()
    for file in files:
        if file.encoding != "utf-8":
            notes.append(f"{file.path}: is read as {file.encoding}")
    return Look(files, layout, tuple(seen.types), sample, tuple(notes))


def _first_chunk(file: SourceFile, index: int, columns: tuple[str, ...] | None) -> Chunk | None:
    cut = next(iter(cuts_of(file, columns, FileNotes())), None)
    return Chunk(cut.number, cut.lines, cut.offset, index, cut.data) if cut else None


def _objects(file: SourceFile, index: int, parser: Parser) -> Iterator[dict[str, object]]:
    """At most 1,000 objects of the first chunks, about a megabyte."""
    looked, left = 0, OBJECTS_LOOK
    for cut in cuts_of(file, None, FileNotes()):
        chunk = Chunk(cut.number, cut.lines, cut.offset, index, cut.data)
        for value in islice(parser.objects(chunk), left):
            left -= 1
            yield value
        looked += len(cut.data) if isinstance(cut.data, bytes) else BLOCK_BYTES
        if left <= 0 or looked >= BLOCK_BYTES // 2:
            return


def _split_note(place: Path, files: list[SourceFile]) -> list[str]:
    found = []
    for file in files:
        relative = Path(file.path).relative_to(place)
        words = {part.split("-")[0].split(".")[0].lower() for part in relative.parts}
        found += [split for split in _SPLITS if split in words]
    names = list(dict.fromkeys(found))
    if len(names) < 2:
        return []
    return [f"the files are named after splits ({', '.join(names)}): all are read as one pile"]
