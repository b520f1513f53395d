"""``runs import``: history that began before tunebench becomes runs of a home."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.imports.runs.finding import pasts_at
from engine.imports.runs.past import Past
from engine.imports.runs.places import utf8
from engine.imports.runs.values import number
from engine.imports.runs.writing import write_run
from engine.jobs.find import identities
from engine.jobs.folder import RunFolder

__all__ = ["Taken", "import_runs"]


@dataclass(frozen=True)
class Taken:
    """One run that was imported, now or before."""

    run: str
    name: str
    past: Past
    already: bool = False
    """It was here: nothing was written."""
    changed: bool = False
    """It was, and the source says more now than then."""


def import_runs(
    home: Home,
    path: str,
    source: str = "",
    name: str | None = None,
    recipe: Path | None = None,
    again: bool = False,
) -> Iterator[Taken]:
    """Import what lies at ``path``, run by run; see :func:`engine.imports.runs.finding.pasts_at`.

    What was imported before is not written a second time, unless ``again``. Raises
    :class:`UserError` naming the file and what is wrong; runs handed out before it stay.
    """
    pasts = pasts_at(path, source, recipe)
    if name is not None and len(pasts) > 1:
        raise UserError(f"{path}: holds {len(pasts)} runs, which cannot all be named {name!r}")
    known = sorted(_imported(home), key=lambda one: number(one[1].get("t")) or 0)
    runs: dict[str, str] = {}
    for past in pasts:
        before = None if again else _same(known, past)
        if before is not None:
            folder, was = before
            changed = was.get("fingerprint") != past.fingerprint
            taken = Taken(folder.id, folder.name, past, already=True, changed=changed)
        else:
            parent = runs.get(past.parent_key) or _parent(known, past)
            folder = write_run(home, past, name, parent)
            taken = Taken(folder.id, folder.name, past)
        if past.key:
            runs[past.key] = taken.run
        yield taken


def _imported(home: Home) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    for folder, identity in identities(home):
        if isinstance(found := identity.get("imported"), dict):
            yield folder, found


def _same(
    known: list[tuple[RunFolder, dict[str, Any]]], past: Past
) -> tuple[RunFolder, dict[str, Any]] | None:
    """The latest run of the same place, else of a copy of it that has the same history."""
    place = (past.source, utf8(past.path), past.key)
    content = (past.source, past.fingerprint, past.key)
    for wanted in (place, content):
        inner = "path" if wanted is place else "fingerprint"
        for folder, was in reversed(known):
            if (was.get("from"), was.get(inner), was.get("key", "")) == wanted:
                return folder, was
    return None


def _parent(known: list[tuple[RunFolder, dict[str, Any]]], past: Past) -> str | None:
    """The run that it goes on from, where that was imported from the same file earlier."""
    if not past.parent_key:
        return None
    wanted = (past.source, utf8(past.path), past.parent_key)
    for folder, was in reversed(known):
        if (was.get("from"), was.get("path"), was.get("key", "")) == wanted:
            return folder.id
    return None
