"""Why a run without an end has none, as far as a viewer can see."""

import os

from engine.history.row import VANISHED
from engine.jobs.folder import RunFolder

__all__ = ["why_lost"]


def why_lost(folder: RunFolder) -> str:
    """One line about a run that nobody holds and whose journal tells no end."""
    if not folder.path.is_dir():
        return "the run's folder was removed"
    if not folder.journal.exists():
        return "its journal (events.jsonl) was removed: how it went and ended is not known any more"
    try:
        if os.statvfs(folder.path).f_flag & os.ST_RDONLY:
            return "the file system is read-only now: the end could not be written"
    except OSError:
        pass
    return VANISHED
