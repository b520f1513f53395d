"""The names of the sub-views in one line, the current one in brackets."""

from engine.text import clip
from tui.rowviews import VIEWS

__all__ = ["tab_words"]

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
