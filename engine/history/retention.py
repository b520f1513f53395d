"""Which checkpoints of which runs to keep, by a rule, and how much room the others take.

A plan first, which changes nothing. Carried out, a checkpoint is moved out of its name before
anything of it is deleted, so that whoever dies in the middle leaves none that looks whole and is
not; what then remains of it is cleared away by the next one. Results (``adapter/``) are never
touched, nor is a run that is alive or waits in the queue.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UsageError, UserError
from engine.history.follow import state_of
from engine.history.row import RunRow
from engine.home import Home
from engine.jobs import checkpoints, entries
from engine.jobs.folder import RunFolder
from engine.jobs.handover import STATE
from engine.jobs.launch import take_locks
from engine.jobs.lock import is_alive
from engine.whole import sync

__all__ = ["RULES", "Pruned", "carry_out", "freed", "plan", "rule_of"]

RULES = ("best", "last", "none")
GONE = ".gone-"
BLOCK_BYTES = 512
"""What ``st_blocks`` counts in, whatever the file system's own blocks are."""


def rule_of(text: str) -> frozenset[str]:
    """``best,last`` as a set. Raises UsageError for another word, or none beside others."""
    words = {word.strip() for word in text.split(",") if word.strip()}
    if not words or not words <= {*RULES} or ("none" in words and len(words) > 1):
        raise UsageError(f"--keep {text}: write best, last, best,last or none")
    return frozenset(words - {"none"})


@dataclass(frozen=True)
class Pruned:
    """What a rule means for the checkpoints of one run."""

    folder: RunFolder
    name: str
    kept: tuple[Path, ...] = ()
    """Oldest step first."""
    removed: tuple[Path, ...] = ()
    """Whole ones, damaged ones and what interrupted saves left, by name."""
    why: str = ""
    """Why nothing is removed, or more is kept than was asked for; may be empty."""

    @property
    def bytes(self) -> int:
        """What removing these alone would free."""
        return freed(self.removed)


def freed(folders: Iterable[Path]) -> int:
    """Bytes on the disk that are free once all ``folders`` are gone.

    By real blocks. A file with several names (a child run has its parent's checkpoint so) counts
    once, and only when none of its names is elsewhere.
    """
    seen: dict[tuple[int, int], list[int]] = {}
    for folder in folders:
        for path, _, names in os.walk(folder):
            for name in (".", *names):
                try:
                    info = os.lstat(os.path.join(path, name))
                except OSError:
                    continue  # gone meanwhile
                links = 1 if name == "." else info.st_nlink
                one = seen.setdefault((info.st_dev, info.st_ino), [0, links, info.st_blocks])
                one[0] += 1
    return sum(blocks * BLOCK_BYTES for names, links, blocks in seen.values() if names >= links)


def plan(
    home: Home, rows: Sequence[RunRow], keep: Collection[str], every: Sequence[RunRow] = ()
) -> list[Pruned]:
    """What ``keep`` ("best", "last", both or neither) means for ``rows``: those with checkpoints.

    ``every``: all runs, for those that a living or waiting run goes on from: they keep both.
    """
    needed = _needed(home, every or rows)
    found = []
    for row in rows:
        folder = RunFolder(home.runs / row.id)
        if one := _of_run(folder, row.name, keep, row.id in needed):
            found.append(one)
    return found


def _needed(home: Home, rows: Sequence[RunRow]) -> set[str]:
    """Runs from whose checkpoints others are being made, or have just been."""
    return {
        row.parent
        for row in rows
        if row.parent and _in_use(RunFolder(home.runs / row.id)) and row.parent != row.id
    }


def _in_use(folder: RunFolder) -> str:
    """Why a run's checkpoints must not be touched now; "" when they may be."""
    try:
        if folder.queue_entry.exists():
            return "waits in the queue"
        return "is running" if is_alive(folder) else ""
    except (UserError, OSError) as error:
        return f"may be running ({error})"


def _of_run(folder: RunFolder, name: str, keep: Collection[str], needed: bool) -> Pruned | None:
    there = _there(folder)
    if not there:
        return None
    if why := _in_use(folder):
        return Pruned(folder, name, tuple(checkpoints.whole(folder)), (), why)
    whole = checkpoints.whole(folder)
    kept, why = set[Path](), ""
    row = state_of(folder)
    wanted = set(keep)
    if whole and row.state != "finished" and "last" not in wanted:
        wanted, why = wanted | {"last"}, "not finished: it can be resumed from its last one"
    if needed:
        wanted, why = {"best", "last"}, "another run goes on from it"
    if whole and not wanted and not folder.adapter.is_dir():
        wanted, why = {"last"}, "nothing but its checkpoints holds what it learned"
    if "last" in wanted and whole:
        kept.add(whole[-1])
    if "best" in wanted and whole:
        best = {path for path in _best(folder, row, whole[-1]) if path in whole}
        if not best and "last" not in wanted:
            return Pruned(folder, name, tuple(whole), (), "nothing tells which one is the best")
        kept |= best
    return Pruned(
        folder,
        name,
        tuple(path for path in whole if path in kept),
        tuple(path for path in there if path not in kept),
        why,
    )


def _there(folder: RunFolder) -> list[Path]:
    """Checkpoints, whole or not, and what interrupted saves and prunings left."""
    try:
        found = [path for path in folder.checkpoints.iterdir() if not path.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    ours = (checkpoints.PREFIX, ".tmp-", GONE)
    return sorted(path for path in found if path.name.startswith(ours) and path.is_dir())


def _best(folder: RunFolder, row: RunRow, last: Path) -> set[Path]:
    """As the journal says, and as the trainer's state does: a child knows its parent's so."""
    found = set()
    if row.best_checkpoint:
        found.add(folder.checkpoints / Path(row.best_checkpoint).name)
    try:
        state = json.loads((last / STATE).read_text(encoding="utf-8"))
        found.add(folder.checkpoints / f"{checkpoints.PREFIX}{int(state['best_global_step'])}")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return found


def carry_out(
    home: Home, pruned: Pruned, telling: Callable[[str], None] = lambda words: None
) -> int:
    """Remove what was planned for one run; returns the bytes that are free now.

    What is kept is read whole first, to its last byte: if it is damaged, nothing is removed. Raises
    UserError for that, when the run is in use by now, changed, or cannot be written.
    """
    folder, name = pruned.folder, pruned.name
    for path in pruned.kept:
        telling(f"{name}: reading {path.name}, which is kept")
        if not checkpoints.is_whole(path):
            raise UserError(
                f"{path}: is to be kept, and is damaged; nothing of {name} was removed. Delete it "
                "by hand, or keep others"
            )
    size = freed(pruned.removed)
    try:
        gone = _move_away(home, pruned)
        telling(f"{name}: deleting")
        for path in gone:
            shutil.rmtree(path)
    except OSError as error:
        raise UserError(f"{folder.checkpoints}: cannot be pruned ({error.strerror})") from None
    return size


def _move_away(home: Home, pruned: Pruned) -> list[Path]:
    """Rename them all while nobody can start the run; quick, however large they are."""
    folder, gone = pruned.folder, []
    with entries.hold(home):
        if folder.queue_entry.exists():
            raise UserError(f"run {folder.id} waits in the queue now; nothing of it was removed")
        locks = take_locks(folder)
        try:
            if {*_there(folder)} != {*pruned.kept, *pruned.removed}:
                raise UserError(f"run {folder.id} has other checkpoints by now; look again")
            for path in pruned.removed:
                aside = path if path.name.startswith(".") else path.with_name(GONE + path.name)
                if aside != path:
                    if aside.exists():  # of a pruning that was cut short
                        shutil.rmtree(aside)
                    os.rename(path, aside)
                if aside not in gone:
                    gone.append(aside)
            sync(folder.checkpoints)
        finally:
            for fd in locks:
                os.close(fd)
    return [path for path in gone if path.exists()]
