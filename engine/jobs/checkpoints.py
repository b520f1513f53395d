"""Whole-or-nothing checkpoints: written aside, listed in a manifest, synced, renamed into place.

A checkpoint without a manifest that matches its files is never resumed from.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from engine.jobs.folder import RunFolder
from engine.whole import put_in_place, sync

__all__ = [
    "MANIFEST",
    "is_whole",
    "latest_whole",
    "publish",
    "read_manifest",
    "replace_file",
    "rotate",
    "step_of",
    "whole",
    "write_manifest",
]

MANIFEST = "manifest.json"
PREFIX = "step-"


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path != folder / MANIFEST)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def write_manifest(folder: Path, **fields: Any) -> dict[str, Any]:
    """List every file of ``folder`` with bytes and BLAKE2b in its manifest; all synced to disk.

    ``fields`` (step, losses, ...) are kept in the manifest. Returns the manifest.
    """
    files = {}
    for path in _files(folder):
        sync(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "blake2b": _digest(path)}
    manifest = {"v": 1, **fields, "files": files}
    _put(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync(inner)
    return manifest


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Give a listed file of a checkpoint that is not in place yet other content.

    Files that are hard links of another checkpoint's stay as they are there.
    """
    manifest = read_manifest(folder)
    assert manifest is not None
    _put(folder / name, content)
    manifest["files"][name] = {"bytes": len(content), "blake2b": _digest(folder / name)}
    _put(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    sync(temporary)
    os.rename(temporary, path)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest, or None when there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest if isinstance(manifest.get("files"), dict) else None
    except (OSError, ValueError, AttributeError):
        return None


def is_whole(folder: Path, *, content: bool = True) -> bool:
    """True when every listed file is there with its size and, with ``content``, its digest."""
    manifest = read_manifest(folder)
    if not manifest or not manifest["files"]:
        return False
    try:
        for name, entry in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != entry["bytes"]:
                return False
            if content and _digest(path) != entry["blake2b"]:
                return False
    except (OSError, KeyError, TypeError):
        return False
    return True


def publish(temporary: Path, final: Path, **fields: Any) -> int:
    """Make the checkpoint written to ``temporary`` the one at ``final``; returns its bytes.

    Both lie in the same folder. An older ``final`` (the same step of an earlier attempt) goes: both
    change places in one go, so that whenever this process dies, one of them is there.
    """
    manifest = write_manifest(temporary, **fields)
    put_in_place(temporary, final)
    return sum(entry["bytes"] for entry in manifest["files"].values())


def step_of(folder: Path) -> int:
    """The optimiser step of ``step-<n>``; -1 for another name."""
    digits = folder.name.removeprefix(PREFIX)
    return int(digits) if folder.name.startswith(PREFIX) and digits.isdigit() else -1


def whole(run: RunFolder, *, content: bool = False) -> list[Path]:
    """The run's whole checkpoints, oldest step first."""
    try:
        found = [path for path in run.checkpoints.iterdir() if step_of(path) >= 0]
    except FileNotFoundError:
        return []
    return [path for path in sorted(found, key=step_of) if is_whole(path, content=content)]


def latest_whole(run: RunFolder) -> Path | None:
    """The checkpoint to resume from: the highest step whose files match their digests."""
    for path in reversed(whole(run)):
        if is_whole(path):
            return path
    return None


def rotate(run: RunFolder, keep: int, best: Path | None = None) -> list[Path]:
    """Remove all but the last ``keep`` whole checkpoints and ``best``; also what is not whole.

    Returns the removed ones. Leftovers of interrupted saves (names with a dot) go too.
    """
    kept = set(whole(run)[-keep:])
    if best is not None:
        kept.add(best)
    removed = []
    for path in run.checkpoints.iterdir():
        if path in kept or not path.is_dir():
            continue
        if step_of(path) >= 0:
            removed.append(path)
        # Renamed first: a checkpoint half deleted must not look like one.
        gone = path if path.name.startswith(".") else path.with_name(f".gone-{path.name}")
        if gone != path:
            os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)
    return removed
