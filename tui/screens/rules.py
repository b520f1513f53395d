"""Rules: switched, ordered and set on the first rows of a source, with what they do at once."""

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from engine.errors import UserError
from engine.recipe import Recipe
from engine.text import clip
from tui import keymap
from tui.rulesheet import RuleSheet
from tui.ruletrial import Tryout, try_rules
from tui.screens.base import WorkbenchScreen
from tui.screens.cleaning import CleanForm
from tui.screens.confirm import ConfirmScreen
from tui.widgets.field import Field
from tui.widgets.lines import BOLD, PLAIN, QUIET
from tui.widgets.namedlines import NamedLines
from tui.widgets.rulelist import RuleList
from tui.widgets.ruleoptions import RuleOptions
from tui.widgets.touched import TouchedRows

if TYPE_CHECKING:
    from engine.data.trial import Trial

__all__ = ["RulesScreen"]

SLOW = 0.3
"""Seconds that a trial runs before it is said that it does."""


class RulesScreen(WorkbenchScreen):
    """Dismisses with the recipe whose source shall be cleaned whole, or with None on esc."""

    SCREEN = "rules"
    BINDINGS = keymap.bindings("rules")
    AUTO_FOCUS = "#rules"
    DEFAULT_CSS = """
    RulesScreen #rules { width: 30; height: 1fr; }
    RulesScreen.-wide #rules { width: 38; }
    RulesScreen #side { width: 1fr; }
    RulesScreen #touched { height: 1fr; }
    RulesScreen.-tall #below { display: block; }
    RulesScreen #file { display: none; height: auto; padding: 0 1; }
    RulesScreen #file.-asking { display: block; }
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self._recipe = recipe
        self.sheet = RuleSheet(recipe.clean)
        self.seen: Tryout | None = None
        self._trial: Trial | None = None
        self._wanted: Recipe | None = None
        self._trying = False

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            rules = RuleList(id="rules", classes="pane")
            rules.border_title = "Rules"
            yield rules
            with Vertical(id="side"):
                yield RuleOptions(self.sheet, id="options", classes="pane")
                yield TouchedRows(id="touched", classes="pane")
        with Vertical(id="file"):
            yield Field("file", "write the recipe to", 19, placeholder="a file, FILE.toml")

    def on_mount(self) -> None:
        rules = self.query_one(RuleList)
        rules.show_rules(self.sheet, None)
        self.call_after_refresh(rules.choose, self.sheet.stages[0][1][0])
        self.action_reload()

    # --- the first rows, and trials on them

    def action_reload(self) -> None:
        self._trial = self.seen = None
        source = clip(self._recipe.data.source, 300)
        words = f"Reading the first rows of {source} …\n\n"
        self.query_one(TouchedRows).say([(words, PLAIN), ("esc goes back", QUIET)])
        self.run_worker(self._read, group="read", exclusive=True)

    async def _read(self) -> None:
        try:
            self._trial = await asyncio.to_thread(self._read_trial)
        except Exception as error:  # whatever a source is made of, the screen stays
            self.query_one(TouchedRows).fail(error)
            return
        self._retry()

    def _read_trial(self) -> "Trial":
        from engine.data.trial import Trial

        return Trial.read(self.workbench.home, self._recipe.data)

    def recipe(self) -> Recipe | None:
        """The recipe as edited; None while something in it is wrong."""
        clean, _ = self.sheet.checked()
        return None if clean is None else self._recipe.model_copy(update={"clean": clean})

    def _retry(self) -> None:
        """Try the rules as they are now, unless something is wrong with them."""
        clean, wrong = self.sheet.checked()
        self.query_one(RuleOptions).show_wrong(wrong)
        rules = self.query_one(RuleList)
        rules.show_rules(self.sheet, self.seen)
        if clean is None:
            rule, _ = next(iter(wrong))
            rules.border_subtitle = f"✗ {rule}: not tried" if rule else "✗ not tried"
            if rule != rules.chosen:
                self.workbench.say(f"{rule}: {next(iter(wrong.values()))}", "warning")
            self._show_touched()
        elif self._trial is not None:
            self._wanted = self._recipe.model_copy(update={"clean": clean})
            if not self._trying:
                self._trying = True
                self.run_worker(self._try, group="trial")
        self.refresh_bars()

    async def _try(self) -> None:
        """One trial at a time; of those asked for meanwhile only the last one is made."""
        rules = self.query_one(RuleList)
        try:
            while (recipe := self._wanted) is not None and (trial := self._trial) is not None:
                self._wanted = None
                slow = self.set_timer(SLOW, lambda: setattr(rules, "border_subtitle", "trying …"))
                try:
                    self.seen = await asyncio.to_thread(try_rules, trial, recipe)
                except Exception as error:  # a user's own function may do anything
                    rules.border_subtitle = "✗ this cannot be tried"
                    self.query_one(TouchedRows).fail(error)
                    continue
                finally:
                    slow.stop()
                rows = len(self.seen.tried.rows)
                rules.border_subtitle = f"{rows:,} rows in {self.seen.tried.seconds:.2f} s"
                rules.show_rules(self.sheet, self.seen)
                self._show_touched()
                self.refresh_bars()
        finally:
            self._trying = False

    def _show_touched(self) -> None:
        rule, touched = self.query_one(RuleList).chosen, self.query_one(TouchedRows)
        if self.seen is None or not rule:
            return
        _, wrong = self.sheet.checked()
        if any(of == rule for of, _ in wrong):
            told = "It is tried as soon as its options are right: enter goes to them."
            touched.say([(f"{rule} cannot be tried yet.\n\n", BOLD), (told, QUIET)])
            return
        touched.show_touch(rule, self.seen.touch(rule), on=rule in self.sheet.on)

    async def on_named_lines_reached(self, event: NamedLines.Reached) -> None:
        self.query_one(TouchedRows).back()
        self._show_touched()
        await self.query_one(RuleOptions).show_rule(event.name)
        self.refresh_bars()

    def on_rule_options_edited(self, event: RuleOptions.Edited) -> None:
        self._retry()

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return False
        if action in ("toggle", "earlier", "later"):
            return self.focused is self.query_one(RuleList)
        if action in ("compare", "next_row", "previous_row"):
            return bool(self.query_one(TouchedRows).rows)
        return action not in ("next_view", "previous_view")

    def action_toggle(self) -> None:
        self.sheet.toggle(self.query_one(RuleList).chosen)
        self._retry()
        self._show_touched()

    def _move(self, by: int) -> None:
        rule = self.query_one(RuleList).chosen
        if self.sheet.move(rule, by):
            self._retry()
        else:
            self.workbench.say(f"{rule} cannot run {'later' if by > 0 else 'earlier'}")

    def action_earlier(self) -> None:
        self._move(-1)

    def action_later(self) -> None:
        self._move(1)

    def action_open(self) -> None:
        """From a rule to its options, or to its rows where it has none; from a row to its texts."""
        touched, options = self.query_one(TouchedRows), self.query_one(RuleOptions)
        if self.focused is self.query_one(RuleList):
            box: Any = options.first_box
            self.set_focus(box or touched.query_one("#touched-rows"))
        elif self.focused is not None and touched in self.focused.ancestors:
            touched.compare_row()
        else:
            self.focus_next()

    def action_compare(self) -> None:
        self.query_one(TouchedRows).compare_row()

    def action_next_row(self) -> None:
        self.query_one(TouchedRows).step(1)

    def action_previous_row(self) -> None:
        self.query_one(TouchedRows).step(-1)

    def action_back(self) -> None:
        rules, asking = self.query_one(RuleList), self.query_one("#file")
        if self.maximized is not None:
            self.minimize()
        elif asking.has_class("-asking"):
            asking.remove_class("-asking")
            self.set_focus(rules)
        elif self.query_one(TouchedRows).back():
            self.refresh_bars()
        elif self.focused is not rules:
            self.set_focus(rules)
        else:
            self.dismiss(None)

    # --- the whole source, and the recipe's file

    def action_prepare(self) -> None:
        recipe = self.recipe()
        if recipe is None:
            self.workbench.say("something is wrong with an option; see the rules", "warning")
            return

        def answered(answer: tuple[str, Recipe] | None) -> None:
            if answer is not None:
                self.dismiss(answer[1])  # type: ignore[arg-type]

        self.workbench.push_screen(CleanForm(recipe, with_rules=False), answered)

    def action_save(self) -> None:
        if self.recipe() is None:
            self.workbench.say("something is wrong with an option; see the rules", "warning")
            return
        asking = self.query_one("#file")
        asking.add_class("-asking")
        field = self._file_field
        field.wrong("")
        if not field.value:
            field.put(f"{self._recipe.name}-rules.toml")
        self.set_focus(field.box)

    @property
    def _file_field(self) -> Field:
        return self.query_one("#file", Vertical).query_one(Field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        recipe, name = self.recipe(), event.value.strip()
        if recipe is None or event.input is not self._file_field.box:
            return
        path = Path(name).expanduser()
        if not name:
            self._file_field.wrong("name a file")
        elif path.exists():
            lines = [f"{path} is there already.", "Its text is replaced by this recipe."]

            def answered(yes: bool | None) -> None:
                if yes:
                    self._write(path, recipe, replace=True)

            self.workbench.push_screen(ConfirmScreen("Replace the file", lines), answered)
        else:
            self._write(path, recipe)

    def _write(self, path: Path, recipe: Recipe, *, replace: bool = False) -> None:
        self.run_worker(partial(self._written, path, recipe, replace), group="write")

    async def _written(self, path: Path, recipe: Recipe, replace: bool) -> None:
        def write() -> None:
            # Made meanwhile by somebody else: not replaced without a word either.
            with path.open("w" if replace else "x", encoding="utf-8") as file:
                file.write(recipe.to_toml())

        try:
            await asyncio.to_thread(write)
        except (OSError, UserError) as error:
            told = getattr(error, "strerror", None) or str(error)
            self._file_field.wrong(f"{path}: {told}")
            return
        self.query_one("#file").remove_class("-asking")
        self.set_focus(self.query_one(RuleList))
        self.workbench.say(f"written: {path}; tunebench clean SOURCE --recipe {path} uses it")
