"""Finds runs and sweeps by id, name, or the unique beginning of either; without ``runs.db``."""

import os
from collections.abc import Iterator
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs.folder import RunFolder

__all__ = ["find_run", "find_runs", "identities", "run_folders", "sweep_of"]


def run_folders(home: Home) -> list[RunFolder]:
    """Every run of the home, oldest first."""
    try:
        with os.scandir(home.runs) as there:
            names = sorted(e.name for e in there if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError:
        return []
    return [RunFolder(home.runs / name) for name in names]


def identities(home: Home) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    """Every run with its ``run.json``; those that cannot be read are left out."""
    for folder in run_folders(home):
        try:
            identity = folder.read_identity()
            identity["name"] = str(identity["name"])
            yield folder, identity
        except (OSError, ValueError, KeyError, TypeError):
            continue


def sweep_of(identity: dict[str, Any]) -> str | None:
    """The name of the sweep that the run belongs to."""
    sweep = identity.get("sweep")
    return str(sweep["id"]) if isinstance(sweep, dict) and sweep.get("id") else None


def find_run(home: Home, ref: str) -> RunFolder:
    """The run with this id or name, or the only one whose id or name begins with ``ref``.

    Raises UserError when there is none, or several.
    """
    names = {identity["name"]: folder for folder, identity in identities(home)}
    if ref in names:
        return names[ref]
    folders = {folder.id: folder for folder in run_folders(home)}
    if ref in folders:
        return folders[ref]
    if not ref:  # every name begins with it: an unset variable of a script is no run
        raise UserError("'' names no run; 'tunebench runs' lists them")
    found = {f.id: f for key, f in (*folders.items(), *names.items()) if key.startswith(ref)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f"{ref!r} could be any of {', '.join(sorted(found)[:5])}; write more of it")
    raise UserError(f"no run {ref!r} in {home.runs}; 'tunebench runs' lists them")


def find_runs(home: Home, ref: str) -> tuple[str | None, list[RunFolder]]:
    """A sweep's name with its runs, oldest first, or None with the one run of :func:`find_run`."""
    sweeps: dict[str, list[RunFolder]] = {}
    for folder, identity in identities(home):
        if sweep := sweep_of(identity):
            sweeps.setdefault(sweep, []).append(folder)
    if ref in sweeps:
        return ref, sorted(sweeps[ref], key=lambda folder: folder.read_identity()["created"])
    return None, [find_run(home, ref)]
