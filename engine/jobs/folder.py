"""The folder of one run: which file is where."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.builtin import UNKNOWN
from engine.jobs.journal import read_all, whole

if TYPE_CHECKING:  # pydantic: 20 MB that a supervisor has no use for
    from engine.recipe import Recipe

__all__ = ["RunFolder", "log_tail"]

LOG_TAIL_BYTES = 64 << 10


@dataclass(frozen=True)
class RunFolder:
    """``runs/<id>/``. The properties are paths; nothing is created by naming them."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        """What the user calls the run; its id when that cannot be read."""
        try:
            return str(self.read_identity()["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.id

    @property
    def identity(self) -> Path:
        """``run.json``: id, name, parent, created; written once, before the first attempt."""
        return self.path / "run.json"

    @property
    def recipe_file(self) -> Path:
        """``recipe.toml``: every value, as resolved when the run was made."""
        return self.path / "recipe.toml"

    @property
    def journal(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """``worker.log``: whatever supervisor and worker print."""
        return self.path / "worker.log"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def supervisor_lock(self) -> Path:
        return self.path / "supervisor.lock"

    @property
    def reserve(self) -> Path:
        """A few KiB set aside: given up when the disk is full, so that the end can be written."""
        return self.path / "reserve"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def queue_entry(self) -> Path:
        """``queue/<id>.json`` in the home: there as long as the run waits for its devices."""
        return self.path.parent.parent / "queue" / f"{self.path.name}.json"

    @property
    def checkpoints(self) -> Path:
        """``checkpoints/step-<n>/``, each with a ``manifest.json`` that makes it whole."""
        return self.path / "checkpoints"

    @property
    def ranks(self) -> Path:
        """What the processes of a run in several tell each other; of the last attempt only."""
        return self.path / "ranks"

    @property
    def adapter(self) -> Path:
        """The result: PEFT adapter (or the whole model), tokenizer and chat template."""
        return self.path / "adapter"

    def log_tail(self, count: int = 20) -> list[str]:
        """The last lines of the log: outside text, to be made safe before it is shown."""
        return log_tail(self.log, count)

    def fingerprint(self) -> str | None:
        """Of the dataset that the run trains on, once its training began: never another one's."""
        for event in read_all(self.journal):
            if event["type"] == "state" and event.get("fingerprint"):
                return str(event["fingerprint"])
        return None

    def read_identity(self) -> dict[str, Any]:
        return whole(self.identity.read_bytes())

    def imported(self) -> dict[str, Any] | None:
        """Where a run comes from that another program made: from, tool, path, weights, ...

        Outside text. None for tunebench's own.
        """
        try:
            found = self.read_identity().get("imported")
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, dict) else None

    def read_recipe(self) -> "Recipe":
        """The recipe as resolved. Raises UserError: gone, damaged, or of another version."""
        from engine.recipe import read_recipe

        return read_recipe(self.recipe_file)

    def settings(self) -> dict[str, Any]:
        """The recipe's values by ``section.key``; of an imported run only those that are known.

        Raises as :meth:`read_recipe` does.
        """
        import tomllib  # as pydantic: a supervisor has no use for it

        flat = self.read_recipe().flat()
        if self.imported() is None:
            return flat
        tree = tomllib.loads(self.recipe_file.read_text(encoding="utf-8"))
        known = {f"{name}.{key}" for name, section in tree.items() if isinstance(section, dict)
                 for key in section}  # fmt: skip
        return {key: value for key, value in flat.items() if key in known}

    def untold(self) -> frozenset[str]:
        """The recipe's keys (``section.key``) that an import did not tell.

        None of tunebench's own runs. Raises as :meth:`read_recipe` does.
        """
        if self.imported() is None:
            return frozenset()
        keys = {key for key in self.read_recipe().flat() if "." in key}
        told = {key for key, value in self.settings().items() if value != UNKNOWN}
        return frozenset(keys - told)


def log_tail(path: Path, lines: int) -> list[str]:
    """The last ``lines`` lines; of what was overwritten by carriage returns only the last stays.

    Outside text, to be made safe before it is shown. A missing file has no lines.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - LOG_TAIL_BYTES))
            data = file.read(LOG_TAIL_BYTES)
    except OSError:
        return []
    if size > LOG_TAIL_BYTES:
        data = data[data.find(b"\n") + 1 :]
    found = []
    for line in data.decode("utf-8", "replace").split("\n"):
        *_, last = [part for part in line.split("\r") if part] or [""]
        found.append(last)
    while found and not found[-1]:
        found.pop()
    return found[-lines:]
