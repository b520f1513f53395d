"""What actions want before they are possible: said when their key is pressed too early.

A key that does nothing and says nothing looks broken.
"""

import re

from tui import keymap

__all__ = ["NEEDS", "needs"]

_CHART = {
    **dict.fromkeys(
        ("inspect", "x_axis", "zoom_in", "log_y", "smoothing", "export"), "a chart in sight"
    ),
    **dict.fromkeys(("zoom_out", "zoom_whole"), "a chart that is zoomed in"),
    "pin": "a run",
}
_LOG = {
    **dict.fromkeys(("next_match", "previous_match"), "a log that was searched with <find>"),
    **dict.fromkeys(("level", "wrap"), "a log in sight"),
}
_LIVE, _BROKEN_OFF = "a run that is alive", "a run that ended before it was finished"

NEEDS: dict[str, dict[str, str]] = {
    "data": {
        **dict.fromkeys(
            ("find", "jump", "filter", "previous_view", "next_view", "compare", "lengths"),
            "a dataset in sight",
        ),
        **dict.fromkeys(("next_row", "previous_row"), "a search, or one row opened with <open>"),
        "open": "a list, or an estimate of lengths",
        "rules": "a dataset or a source",
        "cancel": "a cleaning under way",
    },
    "rules": {
        **dict.fromkeys(("toggle", "earlier", "later"), "the list of rules in focus"),
        **dict.fromkeys(("compare", "next_row", "previous_row"), "rows that the rule touches"),
        **dict.fromkeys(("previous_view", "next_view"), "several views"),
    },
    "train": {
        **dict.fromkeys(("start", "write_recipe", "edit_text"), "a recipe without errors"),
        **dict.fromkeys(("edit", "next_recipe"), "the form, which is being read"),
        "go_on": "a run that ended with a checkpoint, and a recipe without errors",
        "take_recipe": "a run",
        "apply": "a run whose end suggests a change",
        **dict.fromkeys(("stop", "kill"), _LIVE),
        "resume": _BROKEN_OFF,
        "note": "a run",
        **dict.fromkeys(("evaluate_now", "save_now", "sample_now"), "a run that trains"),
        **dict.fromkeys(("next_run", "previous_run"), "a second run"),
        "pause": "a run",
        **_CHART,
    },
    "log": _LOG,
    "runs": {
        "open": "a run or a sweep in the table",
        "mark": "a run in the table",
        "compare": "two runs marked with <mark>, or a sweep",
        "parameter": "a sweep's view chart: <open>, then <next_view>",
        "metric": "a sweep's view values or chart: <open>, then <next_view>",
        "find": "the table of runs, or a log",
        **dict.fromkeys(("sort", "turn_order", "group_by", "columns"), "the table of runs"),
        **dict.fromkeys(("repeat", "rename"), "one run, not a sweep or a group"),
        "descent": "a run",
        **dict.fromkeys(("star", "archive", "note", "tag"), "a run"),
        "resume": _BROKEN_OFF,
        "enqueue": _BROKEN_OFF,
        **dict.fromkeys(("stop", "kill"), _LIVE),
        "apply": "a run whose end suggests a change",
        "delete": "a run that has ended",
        "take_off": "a run that waits in the queue",
        **_LOG,
        **_CHART,
    },
    "queue": {
        **dict.fromkeys(("earlier", "later", "first_of_all", "take_off"), "a run that waits"),
        "open": "a run",
        "hold": "the queue, which is being read",
        "add": _BROKEN_OFF,
    },
    "system": dict.fromkeys(
        ("next_device", "previous_device"), "the history of several GPUs in sight"
    ),
    "play": {
        **dict.fromkeys(
            (
                *("send", "write", "next_row", "random_row", "sampling", "formatted", "marks"),
                *("system_prompt", "chat", "blind", "keep_prompt", "free", "stay"),
            ),
            "a column: <columns> adds one",
        ),
        **dict.fromkeys(
            ("vote_left", "vote_right", "vote_tie", "vote_bad"), "a blind round that was answered"
        ),
        **dict.fromkeys(("note", "take_back"), "a vote"),
        **dict.fromkeys(("previous_view", "next_view"), "more columns than there is room for"),
        "halt": "answers under way",
    },
}
"""Screen -> action -> what it wants; ``<open>`` is the key of the action of this name."""


def needs(screen: str, id: str) -> str:
    """What an action of this screen wants, with the keys as they are; "": nothing is known."""

    def key(found: re.Match[str]) -> str:
        actions = [*keymap.of_screen(screen), *keymap.of_screen("")]
        return next(keymap.shown(one.keys[0]) for one in actions if one.id == found[1])

    return re.sub(r"<(\w+)>", key, NEEDS.get(screen, {}).get(id, ""))
