"""The lines above and below the rows: which view it is, which row, what became of it."""

from engine.text import clip
from tui.rowlist import FilteredRows, RowList
from tui.rowviews import TABLES, VIEWS

__all__ = ["foot_words", "tab_words"]

SHORTER: tuple[dict[str, str], ...] = (
    {},
    {"validation": "val"},
    {"validation": "val", "cleaned": "clean", "dropped": "drop", "formatted": "text"},
    {"cleaned": "cln", "dropped": "drp", "train": "trn", "validation": "val", "test": "tst",
     "formatted": "txt", "tokens": "tok"},
)  # fmt: skip


def tab_words(view: str, cells: int) -> str:
    """All views, shorter where there is little room; where that is too little, only this one."""
    for names in SHORTER:
        shown = [f"[{each}]" if each == view else names.get(each, each) for each in VIEWS]
        line = " ".join(shown)
        if len(line) <= cells:
            return line
    return clip(f"[{view}] {VIEWS.index(view) + 1} of {len(VIEWS)}", cells)


def foot_words(
    view: str, whole: str, shown: RowList, place: int, line: int | None, note: str
) -> str:
    """What stands below the rows.

    ``view``, ``whole``: see :class:`tui.widgets.rowbrowser.RowBrowser`; ``shown``, ``place``: the
    rows and the one that is looked at; ``line``, ``note``: the line that is followed, and what
    became of it.
    """
    back = "esc: back to the rows"
    if whole == "lengths":
        return f"{back} · n: next split"
    if whole == "words":
        return back
    if whole or view not in TABLES:  # a table says itself where its cursor is
        told = f"row {place + 1:,} of {shown.count:,}"
        if view not in TABLES:
            told = f"{shown.view} {told}"
        if note:
            return f"{told} · {note}"
        told += f" · line {line:,}" if line is not None else ""
        return f"{back} · {told}" if whole else f"{told} · as {shown.rows.seen_by} sees it"
    if note:
        return note
    if isinstance(shown, FilteredRows):
        looked = "" if shown.done else f" in the first {shown.scanned:,}"
        of = f"{shown.count:,} of {shown.rows.count(view):,}"
        return f"only {shown.words}: {of}{looked} · esc: all rows"
    return "[ and ]: other views of this row"
