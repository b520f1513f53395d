"""Goes on with a run under a changed recipe: a child run, from its parent's last checkpoint.

The child gets the checkpoint as hard links, so it costs no space and outlives its parent.
"""

from dataclasses import dataclass
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.handover import Forget, best_of, hand_over
from engine.jobs.journal import read_all
from engine.jobs.launch import create_run, refuse_alive, refuse_imported
from engine.jobs.ranks import is_sharded
from engine.recipe import Recipe

__all__ = ["Change", "branch", "changes", "suggested_settings"]

OTHER_WEIGHTS = "its weights would not fit the checkpoint"
OTHER_ROWS = "the checkpoint lies in the middle of an epoch over other rows"
OTHER_OPTIMISER = "the checkpoint holds another optimiser's state"

REFUSED = {
    "model.model_name_or_path": OTHER_WEIGHTS,
    "model.revision": OTHER_WEIGHTS,
    "model.add_tokens": OTHER_WEIGHTS,
    "lora.enabled": OTHER_WEIGHTS,
    "lora.r": OTHER_WEIGHTS,
    "lora.lora_alpha": "what its adapters have learned would count otherwise",
    "lora.use_rslora": "what its adapters have learned would count otherwise",
    "lora.use_dora": OTHER_WEIGHTS,
    "lora.target_modules": OTHER_WEIGHTS,
    "lora.modules_to_save": OTHER_WEIGHTS,
    "lora.layers_to_transform": OTHER_WEIGHTS,
    "lora.bias": OTHER_WEIGHTS,
    "train.optim": OTHER_OPTIMISER,
    "train.packing": OTHER_ROWS,
}
"""Key -> why a run cannot go on with another value of it."""

ORDER = "the rows of this epoch come in another order: some again, some not at all"
ANEW = "the best validation loss so far does not count any more"
SEEN = f"from here on the model sees other texts; {ANEW}"
WORDS = {
    "train.seed": ORDER,
    "train.train_sampling_strategy": ORDER,
    "train.max_length": f"from here on rows are cut at another length; {ANEW}",
    "train.completion_only_loss": f"from here on the loss counts other tokens; {ANEW}",
    "evaluate.validation_rows": f"from here on other rows are measured; {ANEW}",
    "train.learning_rate": "counts from here on, at this place of the schedule",
    "train.lr_scheduler_type": "counts from here on, at this place of the schedule",
    "model.load_in_4bit": "the adapters go on upon weights that are rounded otherwise",
    "model.dtype": "losses differ by rounding",
    "model.backend": "losses differ by rounding",
    "train.gradient_checkpointing": "less memory, slower steps; the losses stay the same",
}
BATCH = frozenset(
    {
        "train.per_device_train_batch_size",
        "train.gradient_accumulation_steps",
        "train.num_processes",
    }
)


@dataclass(frozen=True)
class Change:
    """One key that the child has another value of, and what that means for going on."""

    key: str
    before: Any
    after: Any
    words: str


def _words_of(key: str) -> str:
    return SEEN if key.startswith("format.") else WORDS.get(key, "")


def _rows_a_step(recipe: Recipe) -> int:
    train = recipe.train
    return (
        train.per_device_train_batch_size * train.gradient_accumulation_steps * train.num_processes
    )


def changes(before: Recipe, after: Recipe, *, from_beginning: bool = False) -> list[Change]:
    """What differs, in the recipe's order, and what that means for going on.

    Raises UserError naming the first key with which the run cannot go on; ``from_beginning``:
    there is no checkpoint, so that everything may change and nothing has gone before.
    """
    if not from_beginning and is_sharded(before) != is_sharded(after):
        key = "fsdp" if before.train.fsdp != after.train.fsdp else "num_processes"
        raise UserError(
            f"train.{key}: the optimiser's state was written with weights that were "
            f"{'' if is_sharded(before) else 'not '}sharded over processes, and can only be read "
            "so; keep train.fsdp and train.num_processes, or train a new run"
        )
    old, new = before.flat(), after.flat()
    rows, now = _rows_a_step(before), _rows_a_step(after)
    found = []
    for key in new:
        if old[key] == new[key] or key in ("name", "description"):
            continue
        if from_beginning:
            found.append(Change(key, old[key], new[key], ""))
            continue
        section = key.partition(".")[0]
        why = REFUSED.get(key) or (OTHER_ROWS if section in ("data", "clean", "split") else "")
        if why:
            raise UserError(
                f"{key}: {old[key]!r} cannot become {new[key]!r} when a run goes on: {why}; "
                "train a new run instead"
            )
        words = _words_of(key)
        if key in BATCH and rows == now:
            words = f"a step still has {rows} rows; losses differ by rounding"
        elif key in BATCH:
            words = (
                f"a step has {now} rows instead of {rows}; the steps so far count as if of {now}"
            )
        found.append(Change(key, old[key], new[key], words))
    return found


def suggested_settings(folder: RunFolder) -> list[str]:
    """The settings that the run's last error suggests, as of ``--set``.

    Empty: the same recipe once more, after what the suggestion's words say is done. Raises
    UserError when it suggests nothing.
    """
    suggestion: dict[str, Any] = {}
    for event in read_all(folder.journal):
        if event["type"] == "error":
            found = event.get("suggestion")
            suggestion = found if isinstance(found, dict) else {}
        elif event.get("state") == "finished":  # a later attempt came through
            suggestion = {}
    settings = suggestion.get("settings")
    if not isinstance(settings, dict):
        raise UserError(f"run {folder.name}: its end suggests no other recipe; give one with --set")
    return [f"{key}={_toml(value)}" for key, value in settings.items()]


def _toml(value: Any) -> str:
    import tomlkit

    return str(tomlkit.item(value).as_string())


def _refuse_nothing_left(parent: RunFolder, step: int, steps: int) -> None:
    """A run that was not finished may still have its test loss to measure, and its result to save.

    Where the epochs decide, the number of steps is not known yet.
    """
    states = [event.get("state") for event in read_all(parent.journal) if event["type"] == "state"]
    if 0 < steps < step or (step == steps and states[-1:] == ["finished"]):
        raise UserError(
            f"train.max_steps: {parent.name} has made {step} steps of {steps} already, so nothing "
            f"would be left to train; ask for more: --set train.max_steps={2 * step}"
        )


def branch(home: Home, parent: RunFolder, recipe: Recipe, name: str | None = None) -> RunFolder:
    """Make (not start) the run that goes on from ``parent``'s last whole checkpoint.

    From its beginning when the parent has none: it ran out of memory in its first step, say. Raises
    UserError when the parent is alive, or ``recipe`` does not fit its checkpoint.
    """
    refuse_alive(parent)
    refuse_imported(parent)
    last = checkpoints.latest_whole(parent)
    if last is None:
        return create_run(home, recipe, name, parent=parent.id)
    _refuse_nothing_left(parent, checkpoints.step_of(last), recipe.train.max_steps)
    found = {change.key for change in changes(parent.read_recipe(), recipe)}
    forget = Forget(
        losses=any(ANEW in _words_of(key) for key in found),
        lowered_rate="train.learning_rate" in found,
    )
    best = None if forget.losses else best_of(parent, last)

    def take_over(child: RunFolder) -> None:
        hand_over(child, last, best, forget)

    return create_run(home, recipe, name, parent=parent.id, prepare=take_over)
