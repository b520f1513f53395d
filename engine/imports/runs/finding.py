"""What lies at a path from outside: which kind of history, and how many runs of it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from engine.errors import UsageError, UserError
from engine.imports.runs.event_files import event_files_in, is_event_file
from engine.imports.runs.past import Past
from engine.imports.runs.places import Place
from engine.imports.runs.studio_database import is_database, read_studio
from engine.imports.runs.tensorboard import read_events
from engine.imports.runs.trainer_folder import holds_one, read_folder
from engine.imports.runs.trainer_state import STATE
from engine.imports.runs.wandb_file import MAGIC
from engine.imports.runs.wandb_run import is_wandb_file, read_wandb

__all__ = ["SOURCES", "pasts_at"]

SOURCES = ("transformers", "studio", "tensorboard", "wandb")
"""Words of ``--from``."""
DATABASE = "studio.db"
MOST_RUNS = 200
"""Of one folder of folders; more are imported by naming them."""

Read = Callable[[], list[Past]]


def pasts_at(path: str, source: str = "", recipe: Path | None = None) -> list[Past]:
    """The runs that lie at ``path``, read so far that they can be written.

    ``source``: one of :data:`SOURCES`; empty: recognised. ``recipe``: the file that a Transformers
    folder was trained by. Raises :class:`UserError` naming the file and what is wrong.
    """
    at = _resolved(path)
    found = _of_file(at) if at.is_file() else _of_folder(at, recipe)
    if source:
        found = {source: found[source]} if source in found else {}
    if not found:
        raise UserError(f"{path}: {_nothing(at, source)}")
    if len(found) > 1 and "transformers" not in found:
        raise UsageError(
            f"{path}: holds several kinds of history ({', '.join(found)}): say which with --from"
        )
    kind = next(iter(found))
    if recipe is not None and kind != "transformers":
        raise UsageError("--recipe is for output folders of Transformers and what builds on it")
    return found[kind]()


def _resolved(path: str) -> Path:
    try:
        at = Path(os.path.realpath(Path(path).expanduser(), strict=True))
        mode = at.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or folder") from None
    except (ValueError, RuntimeError):  # a NUL byte; ~nobody
        raise UserError(f"{path!r}: not a file name") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"{path}: is neither a folder nor a regular file")
    return at


def _of_file(at: Path) -> dict[str, Read]:
    if at.name == STATE:
        return {"transformers": lambda: [read_folder(at.parent)]}
    if is_event_file(at.name):
        return {"tensorboard": lambda: [read_events(at)]}
    if is_database(at):
        return {"studio": lambda: read_studio(at)}
    if is_wandb_file(at.name) or _begins(at, MAGIC):
        return {"wandb": lambda: [read_wandb(at)]}
    return {}


def _begins(at: Path, magic: bytes) -> bool:
    with at.open("rb") as file:
        return file.read(len(magic)) == magic


def _of_folder(at: Path, recipe: Path | None) -> dict[str, Read]:
    """By kind; a trainer's folder often holds the trackers' files of the same run as well."""
    place = Place(at)
    names = place.names()  # or says why it cannot be read
    found: dict[str, Read] = {}
    if holds_one(place):
        found["transformers"] = lambda: [read_folder(at, recipe)]
    if (database := place.file(DATABASE)) is not None:
        found["studio"] = lambda: read_studio(database)
    if runs := [path for name in names if is_wandb_file(name) and (path := place.file(name))]:
        found["wandb"] = lambda: [read_wandb(path) for path in runs]
    if event_files_in(place):
        found["tensorboard"] = lambda: [read_events(at)]
    return found or _inside(place, names)


def _inside(place: Place, names: list[str]) -> dict[str, Read]:
    """W&B's folder of runs and TensorBoard's of runs; each folder inside is one."""
    wandb: dict[Path, None] = {}
    events: dict[Path, None] = {}
    for name in names:
        if name.startswith(".") or (inner := place.folder(name)) is None:
            continue
        for one in place.names(name):
            if is_wandb_file(one) and (path := place.file(f"{name}/{one}")) is not None:
                wandb[path] = None
            elif is_event_file(one) and place.file(f"{name}/{one}") is not None:
                events[inner] = None
    if len(wandb) > MOST_RUNS or len(events) > MOST_RUNS:
        raise UserError(f"{place.path}: holds more than {MOST_RUNS} runs; name some of them")
    found: dict[str, Read] = {}
    if wandb:
        found["wandb"] = lambda: [read_wandb(path) for path in wandb]
    if events:
        found["tensorboard"] = lambda: [read_events(path) for path in events]
    return found


def _nothing(at: Path, source: str) -> str:
    if source:
        return f"nothing of {source} is found there"
    if at.is_file():
        return "is no trainer_state.json, event file, W&B run or SQLite database"
    inside = [name for name in Place(at).names() if _has_one(at, name)][:5]
    if inside:
        some = ", ".join(str(Path(name)) for name in inside)
        return f"is no run itself, but folders in it are: name them ({some})"
    return (
        f"nothing to import is found there: no {STATE} (in it or in a checkpoint-N), no trainer_log"
        f".jsonl, no event files, no run-*.wandb, no {DATABASE}"
    )


def _has_one(at: Path, name: str) -> bool:
    inner = Place(at).folder(name)
    try:
        return inner is not None and holds_one(Place(inner))
    except UserError:
        return False
