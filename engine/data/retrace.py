"""One row of a dataset from its source again: as it was read, and as the rules leave it.

What compares rows (duplicates) is not asked again: the audit knows.
"""

import json
from typing import TYPE_CHECKING, Any

from engine.data.clean import Cleaner, Job
from engine.data.rows import RawRow
from engine.data.sources import look
from engine.data.sources.files import Chunk, FileNotes, SourceFile
from engine.data.sources.parser import Parser
from engine.data.sources.raw import RawRecords
from engine.data.trial import TriedRow
from engine.errors import UserError
from engine.home import Home
from engine.sections.data import CleanSection, DataSection

if TYPE_CHECKING:
    from engine.data.dataset import Dataset

__all__ = ["Retrace"]


class Retrace:
    """Reads rows of a dataset's source again. For one thread at a time.

    Raises :class:`UserError` when the source is gone or has changed, or was cleaned by another
    version.
    """

    def __init__(self, home: Home, dataset: "Dataset", model_name_or_path: str) -> None:
        manifest = dataset.manifest
        index = json.loads(dataset.file("raw_index").read_text(encoding="utf-8"))
        self._records = RawRecords(index)
        self._files = {values["path"]: SourceFile.from_json(values) for values in index["files"]}
        try:
            clean = CleanSection.model_validate(manifest["clean"])
            data = DataSection.model_validate(manifest["data"])
        except (ValueError, KeyError):
            raise UserError(
                f"{dataset.name}: was cleaned by another version; clean it again"
            ) from None
        # Where it was found then: standard input and the hub are not asked again.
        data = data.model_copy(update={"source": manifest["source"]["path"]})
        self._layout = look(home, data).layout
        self._cleaner = Cleaner(Job(clean, dataset.shape, model_name_or_path))
        self._order = self._cleaner.changing

    def row(self, number: int) -> TriedRow:
        """Row ``number`` (from 0) of the raw rows."""
        found = self._records.records(number, 1)
        if not found:
            raise UserError(f"the source has no row {number + 1:,}")
        line, raw = found[0]
        file = self._files[str(self._records.where(line)[0])]
        read = _parse(self._layout, file, line, raw)
        reason, row, evidence, by_rules = self._cleaner.decide(read)
        changed = tuple(name for name in self._order if name in by_rules)
        return TriedRow(line, raw, read.row, row, reason, evidence, changed)


def _parse(layout: Any, file: SourceFile, line: int, raw: bytes) -> RawRow:
    """The row of one raw record: its own bytes, or JSON where the format has no lines."""
    data: Any = [(line, raw)]
    kind = "json"
    if file.format == "csv":
        from engine.data.sources.delimited import cut_records

        kind = "csv"
        pieces = iter([raw.rstrip(b"\r\n") + b"\n"])
        # Not from offset 0: there the first record would be the header.
        cuts = cut_records(pieces, file.path, file.delimiter, FileNotes(), line, 1)
        data = [record for cut in cuts for record in cut.data][:1]
    parser = Parser(layout, [kind], [file.columns])
    rows = list(parser.rows(Chunk(line, 1, 0, 0, data)))
    return rows[0] if rows else RawRow(line, None, "malformed", None, raw)
