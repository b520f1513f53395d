"""Where the Play screen's prompts come from: test rows, saved sets, what was asked before."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.jobs.folder import RunFolder
from engine.text import safe_line

if TYPE_CHECKING:
    from engine.home import Home
    from engine.recipe import Recipe

__all__ = [
    "HeldOutRow",
    "asked_before",
    "in_a_line",
    "keep_in_set",
    "recipe_of",
    "remember",
    "set_names",
    "set_row",
    "test_row",
    "train_rows",
]


@dataclass(frozen=True)
class HeldOutRow:
    """One prompt of a list, with what it should be answered."""

    number: int
    count: int
    prompt: Any
    """A text, or messages."""
    reference: str
    source: str = ""
    """The list's name: DATASET:test, or a saved set's."""
    changed: bool = False
    """The dataset of this name was made anew since: the run may have trained on this row."""


def recipe_of(home: "Home", run_id: str) -> "Recipe":
    """The recipe as resolved when the run was made. Raises :class:`UserError`."""
    folder = RunFolder(home.runs / run_id)
    try:
        return folder.read_recipe()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.recipe_file}: cannot be read: {error}") from None


def train_rows(home: "Home", run_id: str) -> Any:
    """The dataset that the run was trained on, as it is now. Raises :class:`UserError`."""
    from engine.data.dataset import open_dataset
    from engine.data.sources import dataset_name

    return open_dataset(home, dataset_name(recipe_of(home, run_id).data))


def test_row(home: "Home", run_id: str, number: int) -> HeldOutRow:
    """Row ``number`` (counted from 0, going round) of the test split of the run's dataset.

    The run kept it aside unless the row says ``changed``.
    """
    dataset = train_rows(home, run_id)
    trained = RunFolder(home.runs / run_id).fingerprint()
    count = dataset.count("test")
    if not count:
        raise UserError(f"dataset {dataset.name}: its test split is empty")
    number %= count
    row = dataset.page("test", number, 1)[0]
    changed = trained is not None and trained != dataset.fingerprint
    source = f"{dataset.name}:test"
    return HeldOutRow(number, count, row["prompt"], row["completion"], source, changed)


# --- saved sets and the history, in the engine's store


def set_row(home: "Home", name: str, number: int) -> HeldOutRow:
    """Prompt ``number`` (counted from 0, going round) of a saved set."""
    from engine.history.prompts import prompt_set
    from tui.looking import looking

    with looking(home) as store:
        rows = prompt_set(store, name)
    number %= len(rows)
    row = rows[number]
    return HeldOutRow(number, len(rows), row["prompt"], row.get("reference") or "", name)


def set_names(home: "Home") -> list[tuple[str, int]]:
    """(name, prompts in it) of every saved set."""
    from engine.history.prompts import prompt_sets
    from tui.looking import looking

    with looking(home) as store:
        return [(one.name, one.count) for one in prompt_sets(store)]


def keep_in_set(home: "Home", name: str, prompt: Any, reference: str) -> int:
    """Add a prompt to a saved set, a new one where there is none; returns how many it has."""
    from engine.history.prompts import prompt_set, prompt_sets, save_prompt_set
    from tui.looking import looking

    with looking(home) as store:
        there = any(one.name == name for one in prompt_sets(store))
        rows = prompt_set(store, name) if there else []
    rows = [*rows, {"prompt": prompt, "reference": reference or None}]
    save_prompt_set(home, name, rows)
    return len(rows)


def remember(home: "Home", prompt: Any, source: str) -> None:
    from engine.history.prompts import add_prompt

    add_prompt(home, prompt, source=source)


def asked_before(home: "Home", words: str = "") -> list[Any]:
    """Prompts that were asked, the newest first, each once, with all ``words`` in it."""
    from engine.history.prompts import find_prompts
    from tui.looking import looking

    with looking(home) as store:
        return [row.prompt for row in find_prompts(store, words)]


def in_a_line(prompt: Any) -> str:
    """A prompt as one safe line: of several turns the last."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return safe_line(str(text))
