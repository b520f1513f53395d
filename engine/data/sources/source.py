"""A source that is being read: chunks for the workers, and what paging has to remember."""

import bisect
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.data.sources.encodings import as_utf8
from engine.data.sources.files import Chunk, Cut, FileNotes, SourceFile
from engine.data.sources.layout import Layout
from engine.data.sources.parser import Parser
from engine.data.sources.unpack import unpacked

__all__ = ["INDEX_VERSION", "Source", "cuts_of", "text_pieces", "where"]

INDEX_VERSION = 2


def text_pieces(file: SourceFile, notes: FileNotes) -> Iterator[bytes]:
    """The unpacked bytes of a text file, in UTF-8."""
    pieces = unpacked(Path(file.path), file.compression, notes)
    if file.encoding == "utf-8" and file.newline == "\n":
        return pieces
    return as_utf8(pieces, file.encoding, file.newline, file.path, notes)


def cuts_of(
    file: SourceFile, columns: tuple[str, ...] | None, notes: FileNotes, number: int = 1
) -> Iterator[Cut]:
    """The chunks of one file from its beginning; ``columns`` counts for Parquet and Arrow only."""
    if file.format in ("parquet", "arrow"):
        from engine.data.sources.columnar import cut_batches

        return cut_batches(file, columns, notes, number)
    pieces = text_pieces(file, notes)
    if file.format == "csv":
        from engine.data.sources.delimited import cut_records

        return cut_records(pieces, file.path, file.delimiter, notes, number)
    if file.format == "json":
        from engine.data.sources.arrays import cut_elements

        return cut_elements(pieces, file.path, notes, number - 1, number)
    from engine.data.sources.lines import cut_lines

    return cut_lines(pieces, file.path, notes, number)


class Source:
    """Iterates over the chunks of a source, once; the next one is read meanwhile."""

    def __init__(self, files: tuple[SourceFile, ...], layout: Layout) -> None:
        self.files = files
        self.layout = layout
        self.bytes_total = sum(file.bytes for file in files)
        self._notes = FileNotes()
        self._blocks: list[tuple[int, int, int, int, Any]] = []
        self._starts: list[int] = []
        self._rows = 0

    @property
    def file_repairs(self) -> Counter[str]:
        """What was wrong with whole files -> how often; see :class:`FileNotes`."""
        return self._notes.repairs

    @property
    def warnings(self) -> list[str]:
        return self._notes.warnings

    @property
    def bytes_read(self) -> int:
        """Bytes of the files, as they lie on disk, taken in so far."""
        return min(self._notes.bytes_read, self.bytes_total)

    @property
    def rows(self) -> int:
        """Rows in the chunks given so far."""
        return self._rows

    @property
    def index(self) -> dict[str, Any]:
        """What paging needs, JSON-able; whole when all chunks have been read."""
        return {
            "version": INDEX_VERSION,
            "files": [file.as_json() for file in self.files],
            "starts": self._starts,
            "blocks": self._blocks,
        }

    def parser(self) -> Parser:
        return Parser(
            self.layout, [file.format for file in self.files], [f.columns for f in self.files]
        )

    def where(self, line: int) -> tuple[Path, int]:
        """The file of a line, and its number in there."""
        return where(self.index, line)

    def chunks(self) -> Generator[Chunk, None, None]:
        cuts = self._cuts()
        thread = ThreadPoolExecutor(1, thread_name_prefix="read")
        try:
            ahead: Future[tuple[int, Cut] | None] = thread.submit(next, cuts, None)
            while found := ahead.result():
                ahead = thread.submit(next, cuts, None)
                file, (number, lines, rows, offset, state, data) = found
                self._blocks.append((self._rows, number, offset, file, state))
                self._rows += rows
                yield Chunk(number, lines, offset, file, data)
        finally:
            # Nothing may be submitted here: a source that is given up half-read ends in the
            # garbage collector, together with its executor.
            thread.shutdown(wait=True, cancel_futures=True)
            cuts.close()

    def _cuts(self) -> Generator[tuple[int, Cut], None, None]:
        number = 1
        for index, file in enumerate(self.files):
            self._starts.append(number)
            for cut in cuts_of(file, self.layout.needed, self._notes, number):
                number = cut.number + cut.lines
                yield index, cut


def where(index: dict[str, Any], line: int) -> tuple[Path, int]:
    """The file of a line of a source, by its index, and the line's number in the file."""
    starts = index["starts"]
    # Files without lines begin where the next one does.
    file = max(0, bisect.bisect_right(starts, line) - 1)
    return Path(index["files"][file]["path"]), line - starts[file] + 1
