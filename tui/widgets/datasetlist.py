"""The datasets of a home, and below them the sources that more of them can be made of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.text import clip

if TYPE_CHECKING:
    from engine.data.dataset import DatasetInfo
    from tui.rowviews import Source

__all__ = ["DatasetList"]

QUIET = "#9e9e9e"


class DatasetList(OptionList):
    """Says by messages which dataset is looked at, and what was chosen with enter."""

    DEFAULT_CSS = """
    DatasetList { height: auto; min-height: 4; max-height: 45%; scrollbar-size-vertical: 1; }
    DatasetList > .option-list--option-disabled { color: $quiet; }
    """

    class Named(Message):
        """Something about the line ``name``: a dataset's name or a source's recipe."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class Reached(Named):
        """The cursor is on this dataset."""

    class DatasetChosen(Named):
        """Enter on this dataset."""

    class SourceChosen(Named):
        """Enter on the source of this recipe; "" for any file."""

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes, markup=False)
        self._datasets: Sequence[DatasetInfo] = ()
        self._sources: Sequence[Source] = ()
        self._room = 0
        """Cells of a line as it was filled last; 0: never."""

    def show(self, datasets: "Sequence[DatasetInfo]", sources: "Sequence[Source]") -> None:
        self._datasets, self._sources = datasets, sources
        self._fill()

    def forget_place(self) -> None:
        """The next list begins with its first dataset under the cursor."""
        self._room = 0

    def source(self) -> str:
        """The recipe whose source the cursor is on, or ""."""
        if self.highlighted is None:
            return ""
        kind, _, name = str(self.get_option_at_index(self.highlighted).id or "").partition(":")
        return name if kind == "source" else ""

    @property
    def on_source(self) -> bool:
        """Whether the cursor is on a source, or on the line for any file."""
        if self.highlighted is None:
            return False
        return str(self.get_option_at_index(self.highlighted).id or "").startswith("source:")

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        if self._room and self._room != self._line_cells:
            self._fill()

    @property
    def _line_cells(self) -> int:
        return 28 if self.screen.has_class("-wide") else 18

    def _fill(self) -> None:
        room, kept = self._line_cells, self.highlighted if self._room else None
        options = [
            Option(_label(info.name, f"{info.rows_kept:,}", room), id=f"dataset:{info.name}")
            for info in self._datasets
        ] or [Option(Text("none yet", QUIET), disabled=True)]
        options.append(Option(Text("─ sources of", QUIET), disabled=True))
        options += [
            Option(_label(source.recipe, source.source, room), id=f"source:{source.recipe}")
            for source in self._sources
        ]
        options.append(Option(Text("any file …"), id="source:"))
        self.clear_options()
        self.add_options(options)
        first = 0 if self._datasets else 2
        self.highlighted = first if kept is None else min(kept, len(options) - 1)
        self._room = room

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        kind, _, name = str(event.option.id or "").partition(":")
        if kind == "dataset":
            self.post_message(self.Reached(name))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        kind, _, name = str(event.option.id or "").partition(":")
        chosen = self.DatasetChosen if kind == "dataset" else self.SourceChosen
        self.post_message(chosen(name))


def _label(name: str, note: str, cells: int) -> Text:
    """A name with a note at the right edge; the note is cut before the name is."""
    label = Text(clip(name, cells), no_wrap=True, end="")
    room = cells - label.cell_len - 1
    if room >= 4:
        told = Text(clip(note, room), QUIET)
        label.append(" " * (cells - label.cell_len - told.cell_len))
        label.append_text(told)
    return label
