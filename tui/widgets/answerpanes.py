"""The answers beside each other: as many panes as fit, titles and feet of the columns in them."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal

from engine.text import clip
from tui.lineup import AT_MOST, Lineup, Seat
from tui.widgets.lines import LinesView

__all__ = ["AnswerPanes"]

SIDES = ("left", "right")


class AnswerPanes(Horizontal):
    """Shows a :class:`Lineup`; :meth:`paint` brings the panes of changed seats up to date."""

    DEFAULT_CSS = """
    AnswerPanes { height: 1fr; }
    AnswerPanes .-off { display: none; }
    """

    def __init__(self, lineup: Lineup, *, id: str) -> None:
        super().__init__(id=id)
        self.lineup = lineup
        self.marks = ""
        self._panes = [LinesView(id=f"column-{n + 1}", classes="pane") for n in range(AT_MOST)]
        self._seats: list[Seat | None] = [None] * AT_MOST
        """Whose answer each pane shows."""
        self._said: list[tuple[str, str]] = [("", "")] * AT_MOST
        self._dirty: set[Seat] = set()

    def compose(self) -> ComposeResult:
        yield from self._panes

    # --- who is where

    @property
    def seats(self) -> list[Seat]:
        """Whose answers are in sight."""
        return [seat for seat in self._seats if seat is not None]

    def assign(self) -> None:
        """Give each pane its seat, after the lineup, its page or the width changed."""
        shown: list[Seat | None] = list(self.lineup.shown(self.size.width or 80))
        shown += [None] * (AT_MOST - len(shown))
        if shown != self._seats:
            self._seats = shown
            for pane, seat in zip(self._panes, shown, strict=True):
                pane.set_class(seat is None, "-off")
                pane.go(0)
        self._dirty.update(self.seats)
        self.paint()

    def on_resize(self) -> None:
        self.assign()

    def pane_of(self, seat: Seat) -> LinesView:
        return self._panes[self._seats.index(seat)]

    def seat_in_focus(self) -> Seat | None:
        """Whose pane has the keys; else the first one."""
        for pane, seat in zip(self._panes, self._seats, strict=True):
            if seat is not None and pane.has_focus:
                return seat
        return next(iter(self.seats), None)

    # --- what is in them

    def touch(self, seat: Seat) -> None:
        self._dirty.add(seat)

    def touch_all(self) -> None:
        self._dirty.update(self.seats)

    def paint(self) -> None:
        if not self.is_attached:
            return
        first = self.lineup.seats[0].answer if self.lineup.seats else None
        hidden = bool(self.lineup.pair)
        room = (self.size.width or 80) // max(1, len(self.seats)) - 6
        for number, seat in enumerate(self._seats):
            if seat is None or seat not in self._dirty:
                continue
            pane, answer = self._panes[number], seat.answer
            title = SIDES[number] if hidden else self._called(seat)
            self._head(
                number,
                clip(title, 60),
                clip(answer.foot(room, blind=hidden), 80),
            )
            marks = "" if hidden else self.marks
            pane.show(answer.runs(marks, first), follow=not answer.done)
        self._dirty.clear()

    def _called(self, seat: Seat) -> str:
        number = self.lineup.seats.index(seat) + 1
        return f"{number} {seat.label}" + (" · own sampling" if seat.sampling else "")

    def _head(self, number: int, title: str, foot: str) -> None:
        """Title and foot; a pane is painted anew with them, so only when they changed."""
        if self._said[number] != (title, foot):
            self._said[number] = title, foot
            pane = self._panes[number]
            pane.border_title, pane.border_subtitle = Text(title), Text(foot)
