"""Reading: from a file, a folder, standard input or the hub to rows.

:func:`look` says what a source is, :func:`open_source` reads it: chunks in one process, rows out
of them in any. Importing this is cheap: pyarrow, numpy and the hub's library come when needed.
"""

from engine.data.sources.files import Chunk, SourceFile
from engine.data.sources.identity import (
    check_source,
    comes_from_hub,
    data_files,
    dataset_name,
    locate_source,
    source_sha256,
)
from engine.data.sources.look import Look, look, open_source
from engine.data.sources.parser import Parser
from engine.data.sources.raw import RawRecords
from engine.data.sources.source import Source, where

__all__ = [
    "Chunk",
    "Look",
    "Parser",
    "RawRecords",
    "Source",
    "SourceFile",
    "check_source",
    "comes_from_hub",
    "data_files",
    "dataset_name",
    "locate_source",
    "look",
    "open_source",
    "source_sha256",
    "where",
]
