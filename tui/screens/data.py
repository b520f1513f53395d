"""Data: from the raw file to what the model sees."""

import asyncio
from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engine.data import background
from engine.errors import UserError
from engine.recipe import Recipe, load_recipe
from engine.text import clip, steady
from tui import keymap
from tui.datasets import datasets_of, recipe_of, sources_of
from tui.rowviews import Rows
from tui.screens.base import WorkbenchScreen
from tui.screens.cleaning import CleanForm
from tui.screens.confirm import ConfirmScreen
from tui.widgets.cleaningjob import CleaningJob
from tui.widgets.compare import compare_examples
from tui.widgets.datasetlist import DatasetList
from tui.widgets.funnel import WARNINGS, FunnelView
from tui.widgets.lengthspane import LengthsPane
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, WARM
from tui.widgets.rowbrowser import RowBrowser

__all__ = ["DataScreen"]

SHOWN_BY = {
    "rows_read": "raw",
    "rows_kept": "cleaned",
    "train": "train",
    "validation": "validation",
    "test": "test",
}
"""Lines of the funnel that count the rows of a whole view."""


class DataScreen(WorkbenchScreen):
    """Datasets, cleaning and funnel on the left; the rows of one dataset on the right."""

    SCREEN = "data"
    BINDINGS = keymap.bindings("data")
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    DataScreen #left { width: 24; }
    DataScreen.-wide #left { width: 34; }
    DataScreen #funnel { height: 1fr; min-height: 5; }
    DataScreen.-tall #detail { display: block; }
    DataScreen #rows { width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._opening = ""
        """The dataset that was last asked for."""
        self.datasets = DatasetList(id="things", classes="pane")
        self.datasets.border_title = "Datasets"
        self.job = CleaningJob(id="job", classes="pane")
        self.browser = RowBrowser(id="rows", classes="pane")

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="left"):
                yield self.datasets
                yield self.job
                funnel = FunnelView(id="funnel", classes="pane")
                funnel.border_title = "Funnel"
                yield funnel
            yield self.browser

    def on_mount(self) -> None:
        self.query_one("#funnel", FunnelView).show_funnel([])
        self.browser.say([("looking for datasets …", QUIET)])

    def on_screen_resume(self) -> None:
        self.job.watch_over(True)
        self.action_reload()

    def on_screen_suspend(self) -> None:
        self.job.watch_over(False)
        if self.browser.rows is not None:
            self.run_worker(asyncio.to_thread(self.browser.rows.rest), group="rest")

    # --- the list on the left

    def action_reload(self) -> None:
        self.run_worker(self._load_list, group="list", exclusive=True)

    async def _load_list(self) -> None:
        home = self.workbench.home
        try:
            found = await asyncio.to_thread(datasets_of, home)
            sources = await asyncio.to_thread(sources_of)
            self.job.adopt(await asyncio.to_thread(background.jobs, home))
        except (UserError, OSError) as error:
            self.browser.fail(error)
            return
        self.datasets.show(found, sources)
        if not found:
            self._welcome()
        elif self.browser.rows is None:
            await self._open(found[0].name)
        if self.focused is None:
            if found:
                self.browser.focus_view()
            else:
                self.set_focus(self.datasets)
        self.refresh_bars()

    def _welcome(self) -> None:
        self.browser.rows = None
        self.browser.show_titles()
        self.browser.say(
            [
                ("No dataset yet.\n\n", ACCENT),
                (
                    "Choose a source on the left and press enter: it is cleaned, split and "
                    "counted, and its rows are shown here, raw, cleaned and dropped with the "
                    "reason, up to the tokens that the model sees.\n\n",
                    PLAIN,
                ),
                ("The same from a shell: tunebench clean FILE", QUIET),
            ]
        )

    def on_dataset_list_reached(self, event: DatasetList.Reached) -> None:
        rows = self.browser.rows
        there = rows.name if rows is not None else self._opening
        if event.name != there:
            self.run_worker(partial(self._open, event.name), group="open", exclusive=True)

    def on_dataset_list_dataset_chosen(self) -> None:
        self.browser.focus_view()

    def on_dataset_list_source_chosen(self, event: DatasetList.SourceChosen) -> None:
        self._ask_for_cleaning(event.name)

    async def _open(self, name: str) -> None:
        self._opening = name
        try:
            rows = await asyncio.to_thread(Rows.open, self.workbench.home, name)
        except (UserError, OSError) as error:
            self.browser.rows = None
            self.browser.fail(error)
            return
        from engine.data.report import funnel

        view = self.query_one("#funnel", FunnelView)
        report = rows.dataset.report
        view.show_funnel(funnel(report), len(report.warnings))
        view.border_title = Text(f"Funnel: {clip(name, 22)}")
        self.browser.show(rows)

    # --- the rows on the right

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        browser = self.browser
        there = browser.rows is not None
        if action in ("find", "jump", "filter"):
            return there and not browser.one_row
        if action in ("next_row", "previous_row"):
            return there and (browser.one_row or bool(browser.search.text))
        if action in ("next_view", "previous_view", "compare", "lengths"):
            return there
        if action == "open":
            if browser.whole == "lengths":
                return browser.query_one("#lengths", LengthsPane).is_estimate
            return not browser.one_row or self.focused is self.query_one("#funnel")
        if action == "rules":
            return there or bool(self.datasets.source())
        if action == "cancel":
            return self.job.folder is not None
        return True

    def on_row_browser_changed(self) -> None:
        self.refresh_bars()

    def action_next_view(self) -> None:
        self.browser.turn(1)

    def action_previous_view(self) -> None:
        self.browser.turn(-1)

    def action_open(self) -> None:
        funnel = self.query_one("#funnel", FunnelView)
        if self.focused is funnel:
            funnel.ask()
        else:
            self.browser.open_row()

    def on_funnel_view_asked(self, event: FunnelView.Asked) -> None:
        """What a line of the funnel counts: rows of a view, examples, or words."""
        rows, (kind, _, what) = self.browser.rows, event.name.partition(".")
        if rows is None:
            return
        report = rows.dataset.report
        if kind == "dropped":
            self.browser.show_view("dropped", what)
        elif kind in SHOWN_BY:
            self.browser.show_view(SHOWN_BY[kind])
        elif kind == WARNINGS:
            told = [(f"! {steady(warning)}\n\n", WARM) for warning in report.warnings]
            self.browser.show_instead([("Warnings of the cleaning\n\n", BOLD), *told])
        elif examples := [each for each in report.examples if each["rule"] == what]:
            title = f"the first rows that {what} changed"
            pairs = [(each["line"], each["before"], each["after"]) for each in examples]
            self.browser.show_instead(compare_examples(title, pairs))
        else:
            self.workbench.say(f"no examples of {what.replace('_', ' ') or kind} were kept")
            return
        self.browser.focus_view()
        self.browser.show_titles()
        self.refresh_bars()

    def action_compare(self) -> None:
        self.browser.compare_row()

    def action_lengths(self) -> None:
        self.browser.show_lengths()

    def action_filter(self) -> None:
        self.browser.ask_filter()

    def action_next_row(self) -> None:
        self.browser.step(1)

    def action_previous_row(self) -> None:
        self.browser.step(-1)

    def action_find(self) -> None:
        self.browser.search.ask_text()

    def action_jump(self) -> None:
        self.browser.search.ask_line()

    def action_back(self) -> None:
        if not self.browser.back():
            super().action_back()

    # --- cleaning

    def action_prepare(self) -> None:
        """A source of the list, or again that of the dataset which is shown."""
        rows = self.browser.rows
        recipe: Recipe | str = self.datasets.source()
        if not self.datasets.on_source and rows is not None:
            try:
                recipe = recipe_of(rows.dataset.manifest, rows.recipe)
            except UserError as error:
                self.workbench.say(str(error), "warning")
        self._ask_for_cleaning(recipe)

    def _ask_for_cleaning(self, recipe: Recipe | str) -> None:
        if self._may_clean():
            self.workbench.push_screen(CleanForm(recipe), self._form_answered)

    def _may_clean(self) -> bool:
        if self.job.folder is not None:
            self.workbench.say("a cleaning runs already; X cancels it", "warning")
            return False
        return True

    def _form_answered(self, answer: "tuple[str, Recipe] | None") -> None:
        if answer is not None and answer[0] == "rules":
            self._try_rules(answer[1])
        elif answer is not None:
            self._start_cleaning(answer[1])

    def _start_cleaning(self, recipe: Recipe | None) -> None:
        if recipe is not None and self._may_clean():
            self.job.start(self.workbench.home, recipe)

    def action_rules(self) -> None:
        """The rules of the dataset that is shown, or of the source under the list's cursor."""
        rows, source = self.browser.rows, self.datasets.source()
        try:
            if source and (self.focused is self.datasets or rows is None):
                self._try_rules(load_recipe(source))
            elif rows is not None:
                self._try_rules(recipe_of(rows.dataset.manifest, rows.recipe))
        except UserError as error:
            self.workbench.say(str(error), "error")

    def _try_rules(self, recipe: Recipe) -> None:
        from tui.screens.rules import RulesScreen

        self.workbench.push_screen(RulesScreen(recipe), self._start_cleaning)

    def on_cleaning_job_changed(self) -> None:
        self.refresh_bars()

    def on_cleaning_job_failed(self, event: CleaningJob.Failed) -> None:
        self.browser.fail(event.error)

    def on_cleaning_job_ended(self, event: CleaningJob.Ended) -> None:
        state = event.state
        self.refresh_bars()
        if state.state == "done":
            self.workbench.say(f"dataset {state.dataset} is clean and split")
            self.browser.rows = None
            self.datasets.forget_place()
            self.action_reload()
        elif state.state == "cancelled":
            self.workbench.say(f"the cleaning of {state.name} was cancelled; nothing was written")
        else:
            self.browser.fail(UserError(state.error))

    def action_cancel(self) -> None:
        if self.job.folder is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.job.cancel()

        lines = ["The cleaning that runs is given up.", "What it has written so far is removed."]
        self.workbench.push_screen(ConfirmScreen("Cancel the cleaning", lines), answered)
