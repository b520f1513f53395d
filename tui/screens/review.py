"""What will run, before it runs: the preflight, filled in as it becomes known."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.text import clip
from tui import lookahead
from tui.reviewlines import review_lines
from tui.screens.page import MOVES
from tui.widgets.lines import LinesView
from tui.words import duration

if TYPE_CHECKING:
    from engine.preflight.look import Preflight
    from engine.recipe import Recipe
    from tui.app import WorkbenchApp

__all__ = ["Decision", "ReviewScreen"]

TICK_SECONDS = 0.5
NOT_CLEANED = (
    "Tokens, memory and time are known once the data is cleaned: p does that now, enter as the "
    "run's first phase."
)


@dataclass(frozen=True)
class Decision:
    """What to do with the recipe, which a search for the batch size may have changed."""

    what: Literal["start", "queue", ""]
    recipe: "Recipe"
    settings: dict[str, int]
    """The keys that were changed by the search."""


@dataclass
class Job:
    """A measurement in a thread."""

    search: bool
    began: float
    words: str = "starting"
    cancelled: bool = False


@dataclass
class Seen(Message):
    """The preflight is there, or why not. ``job``: by which measurement, None: without."""

    seen: "Preflight | None"
    note: str
    job: Job | None


class ReviewScreen(ModalScreen[Decision], inherit_bindings=False):
    """Dismisses with a :class:`Decision`. ``probe``: measure at once when there is a GPU."""

    BINDINGS = [  # noqa: RUF012
        ("enter", "start", "start"),
        ("Q", "queue", "put it in the queue"),
        ("p", "measure(False)", "measure"),
        ("b", "measure(True)", "find the batch size"),
        ("escape,ctrl+c,q", "cancel", "cancel"),
        *MOVES,
    ]
    DEFAULT_CSS = """
    ReviewScreen #busy, ReviewScreen #keys {
        height: 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    ReviewScreen #busy { color: $accent; }
    """

    def __init__(
        self, title: str, recipe: "Recipe", basics: list[tuple[str, str]], *, probe: bool = False
    ) -> None:
        super().__init__()
        self._title, self.recipe, self.basics = title, recipe, basics
        self._probe = probe
        self.settings: dict[str, int] = {}
        self.seen: Preflight | None = None
        self.note = ""
        self.job: Job | None = None
        self._looking = True
        self._then: Literal["start", "queue", ""] | None = None

    @property
    def workbench(self) -> "WorkbenchApp":
        return cast("WorkbenchApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog review") as box:
            box.border_title = Text(clip(self._title, 60))
            yield LinesView(id="what")
            yield Static("", id="busy", markup=False)
            yield Static("", id="keys", markup=False)

    def on_mount(self) -> None:
        self.set_interval(TICK_SECONDS, self._say)
        self._show()
        self._look()

    def on_unmount(self) -> None:
        if self.job is not None:
            self.job.cancelled = True  # its process ends with this screen

    # --- what is shown

    def _show(self) -> None:
        basics, seen, note = self.basics, self.seen, self.note
        failed = note != NOT_CLEANED
        view = self.query_one("#what", LinesView)
        cells = min(100, int(self.app.size.width * 0.96)) - 5
        lines = review_lines(basics, seen, note, failed, cells)
        # As high as its lines, as far as there is room: five more lines are the dialog's own.
        view.styles.height = max(3, min(len(lines), int(self.app.size.height * 0.96) - 4))
        view.show_layout(lambda width: review_lines(basics, seen, note, failed, width))
        self._say()

    def on_resize(self) -> None:
        self._show()

    def _say(self) -> None:
        """The line of what is being done, and the keys."""
        busy, job = "", self.job
        if job is not None:
            spent = duration(self.workbench.clock() - job.began)
            doing = "cancelling" if job.cancelled else clip(job.words, 60)
            busy = f"◍ {doing}  ·  {spent}" + ("" if job.cancelled else "  ·  esc cancels")
        elif self._looking:
            busy = "◍ looking at data, model and device"
        self._put("#busy", Text(busy))
        keys = Text()
        told = [("enter", "start"), ("Q", "queue"), ("p", "measure"), ("b", "batch size")]
        for key, words in [*told, ("esc", "cancel" if job else "back"), ("j k", "scroll")]:
            keys.append(key, "bold #5fafff")
            keys.append(f" {words}  ")
        self._put("#keys", keys)

    def _put(self, id: str, words: Text) -> None:
        static = self.query_one(id, Static)
        if getattr(static, "_said", None) != words:
            static._said = words  # type: ignore[attr-defined]
            static.update(words)

    # --- looking and measuring

    @work(thread=True, group="look", exit_on_error=False)
    def _look(self) -> None:
        self.post_message(self._answer(None))

    @work(thread=True, group="measure", exit_on_error=False)
    def _measure(self, job: Job) -> None:
        self.post_message(self._answer(job))

    def _answer(self, job: Job | None) -> Seen:
        """In a thread: the preflight with or without measuring, or words why there is none."""
        from engine.data.progress import Cancelled
        from engine.errors import UserError

        home = self.workbench.home

        def say(words: str) -> None:
            assert job is not None
            job.words = words  # shown at the next tick

        try:
            if job is None:
                return Seen(lookahead.glance(home, self.recipe), "", None)
            seen = lookahead.measured(home, self.recipe, job.search, say, lambda: job.cancelled)
            return Seen(seen, "", job)
        except Cancelled:
            return Seen(None, "", job)
        except UserError as error:
            return Seen(None, str(error), job)
        except Exception as error:
            return Seen(None, f"{type(error).__name__}: {error}", job)

    def on_seen(self, message: Seen) -> None:
        if message.job is None:
            self._looking = False
            if self.job is not None:
                return  # a measurement was asked for meanwhile: it tells more
            self.note = message.note or ("" if message.seen else NOT_CLEANED)
            self.seen = message.seen
            if self._probe and not message.note:
                self._begin(search=False)
        else:
            self.job = None
            self.note = message.note
            if message.seen is not None:
                self.seen = message.seen
                self._take_found()
        self._show()
        if self._then is not None and self.job is None:
            self._dismiss(self._then)

    def _take_found(self) -> None:
        """The batch that a search found is in the recipe from now on."""
        settings = (self.seen.finder or {}).get("settings") if self.seen else None
        if settings:
            before = self.recipe.flat()
            self.recipe = self.recipe.with_settings([f"{k}={v}" for k, v in settings.items()])
            for key, value in settings.items():
                if before[key] != value:
                    self.settings[key] = value
                    self.basics.append(("changed", f"{key}: {before[key]} → {value}"))

    def _begin(self, search: bool) -> None:
        self.job = Job(search, self.workbench.clock())
        self._measure(self.job)
        self._say()

    # --- actions

    def action_measure(self, search: bool) -> None:
        if self.job is None:
            self._begin(search)

    def action_scroll(self, how: str) -> None:
        getattr(self.query_one("#what"), f"action_{how}")()

    def action_start(self) -> None:
        self._end("start")

    def action_queue(self) -> None:
        self._end("queue")

    def action_cancel(self) -> None:
        if self.job is not None:
            self.job.cancelled = True
            self._say()
        else:
            self._dismiss("")

    def _end(self, what: Literal["start", "queue"]) -> None:
        """Once the measurement is over: it holds memory that the run wants."""
        if self.job is None:
            self._dismiss(what)
            return
        self._then, self.job.cancelled = what, True
        self._say()

    def _dismiss(self, what: Literal["start", "queue", ""]) -> None:
        self.dismiss(Decision(what, self.recipe, self.settings))
