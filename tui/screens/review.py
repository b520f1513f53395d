"""What will run, before it runs: enter starts it."""

from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.text import clip

if TYPE_CHECKING:
    from engine.home import Home
    from engine.recipe import Recipe
    from tui.acts import Reading

__all__ = ["ReviewScreen", "review_rows"]


class ReviewScreen(ModalScreen[bool], inherit_bindings=False):
    """Dismisses with True on enter."""

    BINDINGS = [  # noqa: RUF012
        ("enter", "start", "start"),
        ("escape,ctrl+c,q", "cancel", "cancel"),
    ]

    def __init__(self, title: str, rows: list[tuple[str, str]]) -> None:
        super().__init__()
        self._title, self._rows = title, rows

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog review") as box:
            box.border_title = Text(clip(self._title, 60))
            width = max((len(label) for label, _ in self._rows), default=0)
            text = Text()
            for label, value in self._rows:
                text.append(f"{label:<{width}}  ", "#9e9e9e")
                text.append(clip(value, 200) + "\n")
            text.right_crop(1)
            yield Static(text, markup=False)
            yield Static(
                Text.assemble(
                    ("enter", "bold #5fafff"),
                    " starts it   ",
                    ("esc", "bold #5fafff"),
                    " goes back",
                ),
                markup=False,
                classes="ask",
            )

    def action_start(self) -> None:
        self.dismiss(True)

    def action_cancel(self) -> None:
        self.dismiss(False)


def review_rows(
    home: "Home",
    recipe: "Recipe",
    name: str | None,
    changes: list[tuple[str, str, str]],
    machine: "Reading",
) -> list[tuple[str, str]]:
    """(label, words) of what would run: data, model, steps, where. Checks that the source is there.

    Blocks for some milliseconds; raises UserError when the run could not even begin.
    """
    train, lora = recipe.train, recipe.lora
    _check_source(recipe)
    split = recipe.split
    sizes = f"{split.train:g} / {split.validation:g} / {split.test:g}"
    model = recipe.model.model_name_or_path + (", in 4 bits" if recipe.model.load_in_4bit else "")
    batch = f"{train.per_device_train_batch_size}"
    if train.gradient_accumulation_steps > 1:
        batch += f" x {train.gradient_accumulation_steps} accumulated"
    length = f"{train.max_steps} steps" if train.max_steps > 0 else ""
    length = length or f"{train.num_train_epochs:g} epoch(s) over the train split"
    rows = [
        ("run", name or f"{recipe.name} (a number is added when that is taken)"),
        (
            "data",
            f"{recipe.data.source}  ({recipe.data.prompt_column} → "
            f"{recipe.data.completion_column})",
        ),
        ("split", f"{sizes}  train / validation / test"),
        ("model", model),
        (
            "trains",
            f"LoRA r={lora.r} on {len(lora.target_modules)} modules"
            if lora.enabled
            else "every weight",
        ),
        ("steps", f"{length}, batch {batch}, at most {train.max_length} tokens a row"),
        ("learning rate", f"{train.learning_rate:g}, {train.lr_scheduler_type}"),
        ("evaluates", f"every {train.eval_steps} steps, saves every {train.save_steps}"),
        ("where", f"{_device(recipe, machine)}; files in {home.runs}/"),
    ]
    for key, before, now in changes:
        rows.append(("changed", f"{key}: {before} → {now}"))
    return rows


def _check_source(recipe: "Recipe") -> None:
    try:
        from engine.data.prepare import check_source
    except ModuleNotFoundError:
        return
    check_source(recipe)


def _device(recipe: "Recipe", machine: "Reading") -> str:
    wanted = recipe.model.device
    if wanted == "cpu" or (wanted == "auto" and not machine.gpus):
        return "this machine's CPU"
    if not machine.gpus:
        return f"CUDA, but {machine.reason or 'no GPU is there'}"
    return machine.gpus[0][1]
