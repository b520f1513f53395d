"""What the review asks of the preflight, in threads: every function here may take its time.

Raises :class:`engine.errors.UserError`; torch lives in the probe's process only.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.home import Home

if TYPE_CHECKING:
    from engine.preflight.look import Preflight
    from engine.recipe import Recipe
    from tui.acts import Reading
    from tui.draft import Draft

__all__ = ["basics", "glance", "measured"]


def basics(home: Home, draft: "Draft", machine: "Reading") -> list[tuple[str, str]]:
    """(label, words) of what is known at once. Raises when the run could not even begin."""
    from engine.data.prepare import check_source
    from engine.jobs.check import check_model, check_packages

    recipe = draft.recipe
    check_source(recipe)
    check_model(recipe)
    check_packages(recipe)
    train, lora = recipe.train, recipe.lora
    split = recipe.split
    sizes = f"{split.train:g} / {split.validation:g} / {split.test:g}"
    model = recipe.model.model_name_or_path + (", in 4 bits" if recipe.model.load_in_4bit else "")
    batch = f"{train.per_device_train_batch_size}"
    if train.gradient_accumulation_steps > 1:
        batch += f" x {train.gradient_accumulation_steps} accumulated"
    if train.num_processes > 1:
        batch += f" x {train.num_processes} processes"
    length = f"{train.max_steps} steps" if train.max_steps > 0 else ""
    length = length or f"{train.num_train_epochs:g} epoch(s) over the train split"
    columns = (recipe.data.prompt_column, recipe.data.completion_column)
    mapping = f"  ({' → '.join(columns)})" if all(columns) else ""
    modules = lora.target_modules
    where = modules if isinstance(modules, str) else f"{len(modules)} modules"
    rows = [
        ("run", draft.run_words),
        ("data", f"{recipe.data.source}{mapping}"),
        ("split", f"{sizes}  train / validation / test"),
        ("model", model),
        ("trains", f"LoRA r={lora.r} on {where}" if lora.enabled else "every weight"),
        ("steps", f"{length}, batch {batch}, at most {train.max_length} tokens a row"),
        ("learning rate", f"{train.learning_rate:g}, {train.lr_scheduler_type}"),
        ("evaluates", f"every {train.eval_steps} steps, saves every {train.save_steps}"),
        ("where", f"{_device(recipe, machine)}; files in {home.runs}/"),
    ]
    rows += [("changed", words) for words in draft.changed_words]
    if draft.untold_words:
        rows.append(("not known", draft.untold_words))
    return rows


def _device(recipe: "Recipe", machine: "Reading") -> str:
    wanted = recipe.model.device
    if wanted == "cpu" or (wanted == "auto" and not machine.gpus):
        return "this machine's CPU"
    if not machine.gpus:
        return f"CUDA, but {machine.reason or 'no GPU is there'}"
    count = min(recipe.train.num_processes, len(machine.gpus))
    return f"{count} x {machine.gpus[0][1]}" if count > 1 else machine.gpus[0][1]


def glance(home: Home, recipe: "Recipe") -> "Preflight | None":
    """The preflight without measuring; None where the data is not cleaned yet. About a second."""
    from engine.preflight.look import quick_look

    return quick_look(home, recipe)


def measured(
    home: Home,
    recipe: "Recipe",
    search: bool,
    say: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> "Preflight":
    """Clean and count what is not yet, then measure; with ``search`` for the largest batch.

    In other processes; ``say`` gets words meanwhile. Raises
    :class:`engine.data.progress.Cancelled` soon after ``cancelled()``.
    """
    from engine.errors import UserError
    from engine.preflight.look import measure, quick_look, run_probe
    from engine.preflight.ready import make_ready

    make_ready(home, recipe, say, cancelled=cancelled)
    seen = quick_look(home, recipe)
    if seen is None:
        raise UserError(f"{recipe.data.source}: changed while it was cleaned; try again")
    found = run_probe(home, seen.resolved, say, search=search, cancelled=cancelled)
    return measure(home, seen, found, search)
