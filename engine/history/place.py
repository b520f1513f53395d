"""Where the index lies: ``runs.db`` in the home, or on this machine's own disk.

WAL keeps a part of the database in memory that all its users share. On a file system that other
machines see too there is no such memory, and two of them that write at once destroy the file; the
rollback journal instead leans on byte-range locks, which such file systems grant slowly, by halves
(``nolock``, ``nobrl``) or not at all, without saying so. So the index of a home on one of them is
kept in the user's cache folder, in WAL, a copy for every machine: it is an index only, brought up
to date from the journals by whoever looks, and those are appended to and read, which every file
system can do.

``TUNEBENCH_INDEX`` overrides: ``home`` (there in any case; on a network without WAL), ``cache``
(in the cache folder in any case), or an absolute folder.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.home import Home, private_folder
from engine.system.mounts import file_system, is_network

__all__ = ["Place", "place_of"]

VARIABLE = "TUNEBENCH_INDEX"
SPARE = Path("/var/tmp")
"""For people whose own folders all lie on the network; it outlives a restart, unlike /tmp."""


@dataclass(frozen=True)
class Place:
    """Where to open the index, and how."""

    path: Path
    wal: bool = True
    """False: with a rollback journal, for want of memory that all its users share."""
    words: str = ""
    """Why it is not ``runs.db`` in the home, in WAL; empty where it is."""


def place_of(home: Home) -> Place:
    """Where the home's index is; makes the cache folder where that is the place.

    Raises UserError: the variable names no folder that can be used.
    """
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "home", "cache"):
        return _wished(home, wish)
    kind = file_system(home.path)
    network = is_network(kind)
    if wish == "home" or (not wish and not network):
        return _at_home(home, kind if network else "")
    if wish == "cache":
        why = f"{VARIABLE}=cache"
    else:
        why = f"the home lies on a network file system ({kind})"
    bases = list(_bases())
    for base in bases:
        if not is_network(file_system(base)) and (folder := _folder(base, home)):
            return Place(folder / "runs.db", True, f"{why}: its index is kept in {folder}")
    # No disk of this machine's own. Each machine has a file for itself, so that at least no two
    # of them write to one.
    for base in bases:
        if folder := _folder(base, home, os.uname().nodename):
            words = f"{why}, and so does {base}: its index is kept in {folder}, without WAL"
            return Place(folder / "runs.db", False, words)
    return _at_home(home, kind if network else "")


def _at_home(home: Home, network: str) -> Place:
    if not network:
        return Place(home.database)
    words = (
        f"the home lies on a network file system ({network}): its index is kept there without "
        "WAL; open it from one machine at a time"
    )
    return Place(home.database, False, words)


def _wished(home: Home, wish: str) -> Place:
    base = Path(wish).expanduser()
    if not base.is_absolute():
        raise UserError(f"{VARIABLE}={wish}: write home, cache or an absolute folder")
    folder = private_folder(base / _name(home), f"set {VARIABLE} to a folder of yours")
    kind = file_system(folder)
    words = f"{VARIABLE}: the index is kept in {folder}"
    if is_network(kind):
        words += f", without WAL: that is on a network file system too ({kind})"
    return Place(folder / "runs.db", not is_network(kind), words)


def _bases() -> Iterator[Path]:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache):
        yield Path(cache) / "tunebench"
    else:
        yield Path("~/.cache/tunebench").expanduser()
    yield SPARE / f"tunebench-{os.getuid()}"


def _folder(base: Path, home: Home, machine: str = "") -> Path | None:
    """The home's folder under ``base``, made private; None where that cannot be."""
    try:
        private_folder(base, "")
        return private_folder(base / "index" / _name(home, machine), "")
    except (UserError, RuntimeError):  # RuntimeError: "~" of nobody
        return None


def _name(home: Home, machine: str = "") -> str:
    """Recognisable to people, and no other home's."""
    digest = hashlib.blake2b(os.fsencode(home.path), digest_size=6).hexdigest()
    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in home.path.name)[:24]
    return "-".join(part for part in (name or "home", digest, machine) if part)
