"""The view of every key of the recipe: found, edited, chosen, written; nothing typed is lost."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.recipe import load_recipe, read_recipe
from tests.tui.conftest import HOSTILE, SIZES, running, settle
from tests.tui.test_hostile import check
from tui.app import WorkbenchApp
from tui.recipesheet import RecipeSheet, keys_of_recipes
from tui.screens.ask import AskScreen
from tui.screens.choose import ChooseScreen
from tui.screens.confirm import ConfirmScreen
from tui.widgets.keylist import KeysView

MakeApp = Callable[..., WorkbenchApp]


def sheet() -> RecipeSheet:
    return RecipeSheet(load_recipe("demo"))


# --- the sheet


def leaves(tree: dict[str, Any], above: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in tree.items():
        # A dict that is a section: train.lr_scheduler_kwargs is a value.
        if isinstance(value, dict) and name != "lr_scheduler_kwargs":
            found |= leaves(value, f"{above}{name}.")
        else:
            found.add(f"{above}{name}")
    return found


def test_every_key_of_a_recipe_is_there_once_with_its_description() -> None:
    keys = keys_of_recipes()
    names = [key.name for key in keys]
    assert len(names) == len(set(names))
    assert set(names) == leaves(load_recipe("demo").model_dump()) - {"version", "name"}
    assert all(key.description for key in keys)


def test_every_text_makes_the_value_it_was_made_of() -> None:
    base = load_recipe("demo").with_settings(
        [
            'format.system="two\\nlines"',
            'train.optim_args="a=1"',
            "train.lr_scheduler_kwargs={min_lr_rate = 0.1}",
            'evaluate.sample_prompts=["a, b", "[c"]',
            "train.learning_rate=0.00012345678",
            'format.instruction="\\"quoted\\""',
            'clean.python.file="12"',
        ]
    )
    made = RecipeSheet(base)
    for name in made.keys:  # each typed anew, over a recipe that has other values
        other = RecipeSheet(load_recipe("demo"))
        other.put(name, made.text(name))
        assert other.recipe is not None, (name, other.wrong)
        for part in (base, other.recipe):
            assert name.partition(".")[0] in part.model_dump()
        assert at(other.recipe.model_dump(), name) == at(base.model_dump(), name), name


def at(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("train.learning_rate", "abc", "valid number"),
        ("train.report_to", "wandb", "valid list"),
        ("train.fsdp", "maybe", "one of auto, true, false"),
        ("lora.r", "0", "greater than or equal to 1"),
        ("clean.rules", '["nope"]', "no rule 'nope'"),
    ],
)
def test_what_is_wrong_is_said_and_the_text_stays(key: str, text: str, words: str) -> None:
    made = sheet()
    made.put(key, text)
    assert made.recipe is None and words in made.wrong[key] and made.text(key) == text
    made.put(key, made.own(key))
    assert made.recipe == made.base and not made.wrong and not made.changes()


def test_two_values_that_only_fit_together_are_fine_together() -> None:
    made = sheet()
    made.put("train.eval_steps", "30")
    assert made.recipe is None and "multiple of eval_steps" in made.crosswise
    made.put("train.save_steps", "60")
    assert made.recipe is not None and not made.crosswise
    assert made.recipe.train.eval_steps == 30


# --- the view


async def open_keys(pilot: Any, *keys: str) -> KeysView:
    await settle(pilot)
    await pilot.press("a")
    await settle(pilot)
    for key in keys:
        await pilot.press(key)
        await settle(pilot)
    view: KeysView = pilot.app.screen.query_one(KeysView)
    return view


def text(view: KeysView) -> str:
    return "\n".join(view.keys.text_lines)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_layout(size: tuple[int, int], frozen_app: MakeApp, snap_compare: Any) -> None:
    async def edit(pilot: Any) -> None:
        await open_keys(pilot, "slash", *"rate", "enter", "enter", "x")

    assert snap_compare(frozen_app(running()), terminal_size=size, run_before=edit)


async def test_a_key_is_found_and_edited_in_place(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_keys(pilot, "slash", *"noise", "enter")
        assert view.key is not None and view.key.name == "train.neftune_noise_alpha"
        await pilot.press("enter", "backspace", "5")
        await settle(pilot)
        recipe = app.screen.form.recipe  # type: ignore[attr-defined]
        assert recipe is not None and recipe.train.neftune_noise_alpha == 5
        assert "*" in text(view)
        await pilot.press("x")
        await settle(pilot)
        assert "✗" in text(view) and app.screen.form.recipe is None  # type: ignore[attr-defined]
        await pilot.press("enter")
        await settle(pilot)
        assert app.focused is view.keys and "5x" in text(view), "a wrong text stays"
        await pilot.press("backspace")  # the recipe's own value again
        await settle(pilot)
        assert "✗" not in text(view) and app.screen.form.recipe is not None  # type: ignore[attr-defined]
        await pilot.press("escape", "escape")
        await settle(pilot)
        assert not view.display


async def test_esc_in_the_editor_takes_back_what_was_typed(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_keys(pilot, "slash", *"warmup", "enter", "enter", "9")
        assert view.sheet is not None and view.sheet.is_changed("train.warmup_steps")
        await pilot.press("escape")
        await settle(pilot)
        assert not view.sheet.changes() and app.focused is view.keys


async def test_choices_turn_and_are_listed_and_switches_toggle(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_keys(pilot, "slash", *"lr_scheduler_type", "enter", "right")
        made = view.sheet
        assert made is not None and made.text("train.lr_scheduler_type") == "cosine"
        await pilot.press("left", "left")
        await settle(pilot)
        assert made.text("train.lr_scheduler_type") == "reduce_lr_on_plateau"
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(app.screen, ChooseScreen)
        await pilot.press(*"inverse", "enter")
        await settle(pilot)
        assert made.text("train.lr_scheduler_type") == "inverse_sqrt"
        await open_keys(pilot, "escape")
        await open_keys(pilot, "slash", *"packing", "enter", "space")
        assert made.text("train.packing") == "true"


async def test_the_short_form_shows_what_was_changed_among_all(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await open_keys(pilot, "slash", *"learning_rate", "enter", "enter", "1", "enter")
        await pilot.press("escape", "escape")
        await settle(pilot)
        form = app.screen.form  # type: ignore[attr-defined]
        assert form.display and form.field("train.learning_rate").value == "0.0031"
        form.sheet.put("train.neftune_noise_alpha", "-1")
        form.show_sheet()
        await settle(pilot)
        assert "neftune_noise_alpha" in str(form.query_one("#crosswise").render())


async def test_the_recipe_is_written_and_an_old_file_only_after_a_question(
    frozen_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for expected in (AskScreen, ConfirmScreen):
            await pilot.press("w")
            await settle(pilot)
            assert isinstance(app.screen, AskScreen)
            await pilot.press("enter")
            await settle(pilot)
            if expected is ConfirmScreen:
                assert isinstance(app.screen, ConfirmScreen)
                tmp_path.joinpath("demo.toml").write_text("mine")
                await pilot.press("escape")
                await settle(pilot)
                assert tmp_path.joinpath("demo.toml").read_text() == "mine"
            else:
                written = read_recipe(tmp_path / "demo.toml")
                assert written == app.screen.form.recipe  # type: ignore[attr-defined]
                assert tomllib.loads((tmp_path / "demo.toml").read_text())["version"] == 2


async def test_nasty_text_in_a_value(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await open_keys(pilot)
        assert view.sheet is not None
        view.sheet.put("format.instruction", HOSTILE)
        view.sheet.put("train.optim_args", HOSTILE[:200])
        view.sheet.put("lora.target_modules", HOSTILE[:300])
        view.find()
        for words in ("instruction", "optim_args", "target_modules"):
            view._wanted.value = words
            await settle(pilot)
            assert "EVIL" in check(app)
        await pilot.press("enter", "enter")  # in the editor too
        await settle(pilot)
        assert "EVIL" in check(app)
