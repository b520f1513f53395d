"""The one table of actions: bindings, footer, help, palette and README's key list come from it.

Rules: every action has a plain key; letters never fire inside inputs; what destroys is a capital
and asks; nothing needs a mouse, Alt or a function key; ``q`` and ``ctrl+c`` never stop training.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding

__all__ = [
    "ACTIONS",
    "NAMES",
    "OVER",
    "SCREENS",
    "Action",
    "as_markdown",
    "bindings",
    "key_of",
    "keys_of",
    "of_screen",
    "shown",
    "title",
]

SCREENS = {"data": "Data", "train": "Train", "runs": "Runs", "play": "Play", "system": "System"}
"""The five screens in the order of their keys: id -> title."""
OVER = {
    "rules": ("data", "Rules"),
    "log": ("train", "Log"),
    "queue": ("runs", "Queue"),
    "descent": ("runs", "Descent"),
}
"""Screens over one of the five, which esc leaves: id -> (the screen below, title)."""


@dataclass(frozen=True)
class Action:
    """One thing a key does."""

    id: str
    """Method ``action_<id>`` on the screen (or on the app), without arguments."""
    keys: tuple[str, ...]
    """Textual key names; the first one is shown."""
    words: str
    """What it does, for help and palette."""
    screen: str = ""
    """Id of the screen it belongs to; empty: everywhere."""
    show: str = ""
    """Its hint in the footer, one or two words; empty: not in the footer."""
    group: str = "General"
    """Heading in help."""
    palette: bool = True
    """Offered by the palette too (moving about is not)."""
    priority: bool = False
    """Fires inside inputs too; never for a printable key."""
    app: bool = False
    """The app does it, whatever screen is shown (else the screen does)."""


def _move(id: str, keys: str, words: str) -> Action:
    return Action(id, tuple(keys.split()), words, group="Moving", palette=False)


def _of_log(screen: str, find: str = "search the log", show: str = "search") -> list[Action]:
    """What can be done with a log, on the screen where it is shown."""
    return [
        Action("find", ("slash",), find, screen, show, "Runs" if screen == "runs" else "Log"),
        Action("next_match", ("n",), "the next line with the text", screen, "next", "Log"),
        Action("previous_match", ("N",), "the line with the text before", screen, "", "Log"),
        Action("level", ("F",), "all lines, warnings, or only errors", screen, "level", "Log"),
        Action("wrap", ("w",), "wrap long lines, or cut them", screen, "wrap", "Log"),
    ]


def _of_charts(screen: str) -> list[Action]:
    """What can be done with charts, on the screens that show some."""
    return [
        Action("inspect", ("v",), "read values under a cursor (h l move it)", screen, "", "Chart"),
        Action("x_axis", ("x",), "x axis: steps, tokens, minutes, epochs", screen, "", "Chart"),
        Action("zoom_in", ("plus", "equals_sign"), "zoom in (h l pan)", screen, "", "Chart"),
        Action("zoom_out", ("minus",), "zoom out", screen, "", "Chart"),
        Action("zoom_whole", ("0",), "show all of the x axis", screen, "", "Chart"),
        Action("log_y", ("L",), "this chart on a logarithmic axis, or not", screen, "", "Chart"),
        Action("smoothing", ("S",), "smoothing: none, 0.6, 0.9, 0.99", screen, "", "Chart"),
        Action("pin", ("p",), "the run as baseline, above all charts", screen, "", "Chart"),
        Action("export", ("Y",), "save the chart: SVG, or CSV of its points", screen, "", "Chart"),
    ]


ACTIONS: tuple[Action, ...] = (
    # --- Data
    Action(
        "open",
        ("enter",),
        "the whole row; in lists: what the line stands for",
        "data",
        "open",
        "Data",
    ),
    Action("prepare", ("s",), "clean and split a source", "data", "clean", "Data"),
    Action("compare", ("b",), "the row before and after, changes marked", "data", "before", "Data"),
    Action("rules", ("u",), "try cleaning rules on the first rows", "data", "rules", "Data"),
    Action("find", ("slash",), "find rows that contain a text", "data", "find", "Data"),
    Action("filter", ("F",), "show only rows with a text or reason", "data", "filter", "Data"),
    Action("next_row", ("n",), "the next match, row or split", "data", "next", "Data"),
    Action("previous_row", ("N",), "the match, row or split before", "data", "", "Data"),
    Action("jump", ("number_sign",), "jump to a line of the source", "data", "line", "Data"),
    Action("lengths", ("H",), "lengths in tokens, and what is cut", "data", "lengths", "Data"),
    Action("cancel", ("X",), "cancel the cleaning that runs", "data", "", "Data"),
    Action("reload", ("r",), "look for datasets again", "data", "", "Data"),
    # --- Rules, over Data
    Action("toggle", ("space",), "switch the rule on or off", "rules", "on/off", "Rules"),
    Action(
        "open", ("enter",), "the rule's options; a row before and after", "rules", "open", "Rules"
    ),
    Action("earlier", ("minus",), "run the rule earlier, within its stage", "rules", "", "Rules"),
    Action("later", ("plus",), "run the rule later, within its stage", "rules", "", "Rules"),
    Action("compare", ("b",), "the row before and after", "rules", "before", "Rules"),
    Action("prepare", ("s",), "clean the whole source by these rules", "rules", "clean", "Rules"),
    Action("save", ("w",), "write the recipe to a file", "rules", "save", "Rules"),
    Action("next_row", ("n",), "the next row that the rule touches", "rules", "", "Rules"),
    Action("previous_row", ("N",), "the row before", "rules", "", "Rules"),
    Action("reload", ("r",), "read the first rows again", "rules", "", "Rules"),
    # --- Train
    Action("start", ("s",), "review and start a run", "train", "start", "Train"),
    Action("edit", ("e",), "edit the recipe", "train", "edit recipe", "Train"),
    Action("edit_text", ("V",), "edit the recipe as TOML in $EDITOR", "train", "", "Train"),
    Action("apply", ("A",), "go on as the run's end suggests", "train", "as suggested", "Train"),
    Action("all_keys", ("a",), "every key of the recipe, and back", "train", "all keys", "Train"),
    Action("find_key", ("slash",), "find a key by name or description", "train", "", "Train"),
    Action("next_recipe", ("r",), "take the next built-in recipe", "train", "", "Train"),
    Action("take_recipe", ("u",), "edit the recipe of the run shown", "train", "", "Train"),
    Action("write_recipe", ("w",), "write the recipe to a file", "train", "", "Train"),
    Action(
        "stop", ("X",), "stop the run after its step, with a checkpoint", "train", "stop", "Train"
    ),
    Action("kill", ("K",), "kill the run at once, nothing saved", "train", "", "Train"),
    Action("resume", ("R",), "go on from the last whole checkpoint", "train", "resume", "Train"),
    Action("go_on", ("c",), "go on with the run under this recipe", "train", "", "Train"),
    Action("note", ("t",), "write a note on the run", "train", "", "Train"),
    Action("evaluate_now", ("E",), "evaluate now, without effect on the run", "train", "", "Train"),
    Action("save_now", ("W",), "save a checkpoint now", "train", "", "Train"),
    Action("sample_now", ("y",), "answer the fixed prompts now", "train", "", "Train"),
    Action("next_run", ("n",), "the next run; in samples the next prompt", "train", "", "Train"),
    Action("previous_run", ("N",), "the run before; in samples the prompt", "train", "", "Train"),
    *_of_charts("train"),
    Action("pause", ("space",), "hold charts and log still, or go on", "train", "", "Chart"),
    # --- Log, over Train
    *_of_log("log"),
    # --- Runs
    Action("open", ("enter",), "the whole run, or the whole sweep", "runs", "open", "Runs"),
    Action("mark", ("space",), "mark the run; open or close the sweep", "runs", "mark", "Runs"),
    Action(
        "compare",
        ("c",),
        "compare the marked runs",
        "runs",
        "compare",
        "Runs",
    ),
    Action("parameter", ("P",), "chart the sweep's next parameter", "runs", "parameter", "Runs"),
    Action("metric", ("m",), "the sweep's next metric", "runs", "metric", "Runs"),
    *_of_log("runs", "filter the runs; search the log", "filter"),
    Action("sort", ("o",), "sort by the next column", "runs", "sort", "Runs"),
    Action("turn_order", ("O",), "sort the other way round", "runs", "", "Runs"),
    Action("group_by", ("b",), "group by sweep, dataset, model, tag, or not", "runs", "", "Runs"),
    Action("columns", ("C",), "choose the table's columns", "runs", "", "Runs"),
    Action("repeat", ("e",), "its recipe again, with a change", "runs", "repeat", "Runs"),
    Action("descent", ("d",), "who came from whom, as a tree", "runs", "", "Runs"),
    Action("star", ("s",), "star the run, or no longer", "runs", "", "Runs"),
    Action("rename", ("r",), "give the run another name", "runs", "", "Runs"),
    Action("archive", ("a",), "put it away, or back into the list", "runs", "", "Runs"),
    Action("resume", ("R",), "go on from the last whole checkpoint", "runs", "resume", "Runs"),
    Action(
        "stop", ("X",), "stop the run after its step, with a checkpoint", "runs", "stop", "Runs"
    ),
    Action("kill", ("K",), "kill the run at once, nothing saved", "runs", "", "Runs"),
    Action("apply", ("A",), "go on as the run's end suggests", "runs", "as suggested", "Runs"),
    Action("delete", ("D",), "move the run's folder to the trash", "runs", "delete", "Runs"),
    Action("undelete", ("u",), "bring a run back from the trash", "runs", "", "Runs"),
    Action("empty_trash", ("Z",), "empty the trash", "runs", "", "Runs"),
    Action("queue", ("Q",), "the queue: who waits, and for what", "runs", "queue", "Runs"),
    Action("enqueue", ("E",), "go on through the queue, last in it", "runs", "", "Runs"),
    Action("take_off", ("U",), "take what waits off the queue", "runs", "", "Runs"),
    Action("note", ("t",), "write a note on the run, or all of a sweep", "runs", "", "Runs"),
    Action("tag", ("T",), "tag it; TAG- takes a tag away", "runs", "", "Runs"),
    *_of_charts("runs"),
    # --- Queue, over Runs
    Action("earlier", ("minus", "K"), "start the run earlier", "queue", "earlier", "Queue"),
    Action("later", ("plus", "J"), "start the run later", "queue", "later", "Queue"),
    Action("first_of_all", ("B",), "bring the run before all others", "queue", "", "Queue"),
    Action("hold", ("space",), "pause the queue, or let it go on", "queue", "pause/go on", "Queue"),
    Action("take_off", ("D",), "take the run off the queue", "queue", "take off", "Queue"),
    Action("add", ("a",), "go on with a run that ended, last in it", "queue", "", "Queue"),
    Action("open", ("enter",), "open the run", "queue", "", "Queue"),
    # --- Descent, over Runs
    Action("open", ("enter",), "open the run", "descent", "open", "Descent"),
    Action("all", ("a",), "all runs, or only its family", "descent", "all", "Descent"),
    # --- Play
    Action("send", ("ctrl+j", "f5"), "send the prompt", "play", "send", "Play", priority=True),
    Action("halt", ("ctrl+x",), "stop the answers", "play", "halt", "Play", priority=True),
    Action("next_row", ("n",), "the next row as prompt, with its reference", "play", "row", "Play"),
    Action("random_row", ("N",), "a row by chance (by the seed)", "play", "", "Play"),
    Action("write", ("i", "enter"), "write a prompt", "play", "prompt", "Play"),
    Action("columns", ("c",), "who answers: add and remove columns", "play", "columns", "Play"),
    Action("blind", ("b",), "blind rounds: two hidden columns, you judge", "play", "blind", "Play"),
    Action("sampling", ("s",), "sampling, of all columns or this one", "play", "", "Play"),
    Action("marks", ("m",), "mark differences, unlikely words, copies", "play", "", "Play"),
    Action("formatted", ("p",), "what the model is given: text and tokens", "play", "", "Play"),
    Action("find", ("slash",), "search the prompts asked before", "play", "", "Play"),
    Action("prompt_set", ("P",), "prompts from a saved set, or test rows", "play", "", "Play"),
    Action("keep_prompt", ("a",), "add the prompt to a saved set", "play", "", "Play"),
    Action("system_prompt", ("S",), "the system prompt", "play", "", "Play"),
    Action("chat", ("C",), "a conversation of several turns, or not", "play", "", "Play"),
    Action("vote_left", ("comma",), "blind: left is better", "play", "", "Judging"),
    Action("vote_right", ("full_stop",), "blind: right is better", "play", "", "Judging"),
    Action("vote_tie", ("equals_sign",), "blind: a tie", "play", "", "Judging"),
    Action("vote_bad", ("0",), "blind: both are bad", "play", "", "Judging"),
    Action("note", ("t",), "write a note on the last vote", "play", "", "Judging"),
    Action("take_back", ("U",), "take the last vote back", "play", "", "Judging"),
    Action("votes", ("v",), "win rates of all votes", "play", "", "Judging"),
    Action(
        "evaluation", ("e",), "the run's evaluation: metrics, best, worst", "play", "", "Judging"
    ),
    Action("free", ("F",), "give the models' memory back", "play", "", "Play"),
    Action("stay", ("W",), "keep the models loaded when you leave", "play", "", "Play"),
    # --- System
    Action("reload", ("r",), "read everything again", "system", "reload", "System"),
    Action("next_device", ("n",), "in the history: the next GPU", "system", "next GPU", "System"),
    Action("previous_device", ("N",), "in the history: the GPU before", "system", "", "System"),
    # --- everywhere
    Action("back", ("escape",), "back; leave an input; cancel", palette=False),
    Action("previous_view", ("left_square_bracket",), "the view before this one"),
    Action("next_view", ("right_square_bracket",), "the next view of this screen"),
    Action("maximise", ("z",), "this pane on the whole screen, and back"),
    Action("jump_pane", ("f",), "a letter over every pane and field: go there", app=True),
    Action(
        "help", ("question_mark", "f1"), "the keys, searchable", "", "help", palette=False, app=True
    ),
    Action(
        "palette",
        ("colon", "ctrl+o"),
        "everything possible now, by name",
        "",
        "commands",
        palette=False,
        app=True,
    ),
    Action("low_bandwidth", ("M",), "low bandwidth: live panes every 5 s, or not", app=True),
    Action("colours", ("asterisk",), "light colours, or dark ones", app=True),
    Action(
        "suspend_process", ("ctrl+z",), "back to the shell; fg returns, training goes on", app=True
    ),
    Action("leave", ("q",), "leave the workbench; training goes on", app=True),
    Action(
        "interrupt", ("ctrl+c",), "copy; twice: leave, training goes on", palette=False, app=True
    ),
    Action(
        "go_data",
        ("1",),
        "screen Data: rows, cleaning, what the model sees",
        group="Screens",
        app=True,
    ),
    Action(
        "go_train", ("2",), "screen Train: recipe, start, the live run", group="Screens", app=True
    ),
    Action("go_runs", ("3",), "screen Runs: the history", group="Screens", app=True),
    Action(
        "go_play",
        ("4",),
        "screen Play: models side by side, blind votes",
        group="Screens",
        app=True,
    ),
    Action(
        "go_system", ("5",), "screen System: GPUs, processes, versions", group="Screens", app=True
    ),
    _move("next_pane", "tab", "the next pane or field"),
    _move("previous_pane", "shift+tab", "the pane or field before"),
    _move("up", "k up", "up"),
    _move("down", "j down", "down"),
    _move("left", "h left", "left"),
    _move("right", "l right", "right"),
    _move("first", "g home", "to the beginning"),
    _move("last", "G end", "to the end"),
    _move("page_up", "ctrl+u pageup", "a page up"),
    _move("page_down", "ctrl+d pagedown", "a page down"),
)

_SHOWN = {
    "left_square_bracket": "[", "right_square_bracket": "]", "slash": "/", "colon": ":",
    "question_mark": "?", "escape": "esc", "pageup": "pgup", "pagedown": "pgdn",
    "number_sign": "#", "minus": "-", "plus": "+",
    "up": "↑", "down": "↓", "left": "←", "right": "→", "f1": "F1", "f5": "F5",
}  # fmt: skip


NAMES = {
    "[": "left_square_bracket", "]": "right_square_bracket", "/": "slash", ":": "colon",
    "?": "question_mark", "#": "number_sign", "-": "minus", "+": "plus", ",": "comma",
    ".": "full_stop", ";": "semicolon", "!": "exclamation_mark", "*": "asterisk",
    "=": "equals_sign", "<": "less_than_sign", ">": "greater_than_sign", "_": "underscore",
    "'": "apostrophe", '"': "quotation_mark", "(": "left_parenthesis", ")": "right_parenthesis",
    "{": "left_curly_bracket", "}": "right_curly_bracket", "|": "vertical_line", "~": "tilde",
    "@": "at", "$": "dollar_sign", "%": "percent_sign", "&": "ampersand", "^": "circumflex_accent",
    "\\": "backslash", "`": "grave_accent", " ": "space", "esc": "escape", "pgup": "pageup",
    "pgdn": "pagedown",
}  # fmt: skip
"""Signs, and short names, as Textual calls them."""


_SIGNS = {name: sign for sign, name in NAMES.items() if len(sign) == 1 and sign != " "}


def keys_of(id: str) -> tuple[str, ...]:
    """The keys of an action that works everywhere, as Textual calls them."""
    return next(action.keys for action in ACTIONS if action.id == id and not action.screen)


def key_of(id: str) -> str:
    """The first one of :func:`keys_of`, as people write it."""
    return shown(keys_of(id)[0])


def shown(key: str) -> str:
    """A Textual key name as people write it."""
    return _SHOWN.get(key) or _SIGNS.get(key, key)


def title(screen: str) -> str:
    """A screen's title; "" for what is everywhere."""
    return OVER[screen][1] if screen in OVER else SCREENS.get(screen, "")


def of_screen(screen: str) -> list[Action]:
    """The actions of one screen, or with ``""`` those that work everywhere."""
    return [action for action in ACTIONS if action.screen == screen]


def bindings(screen: str, *, app: bool = False) -> list[Binding]:
    """Textual bindings of one screen, or with ``""`` of every screen, or of the app itself."""
    made = []
    for action in of_screen(screen):
        if action.app is not app:
            continue
        for key in action.keys:
            # A key that types nothing may work inside an input when it has to.
            inside = action.priority or key == "ctrl+o"
            made.append(Binding(key, action.id, action.words, show=False, priority=inside))
    return made


def as_markdown(actions: Iterable[Action] = ACTIONS) -> str:
    """README's key list: one table a group."""
    groups: dict[str, list[Action]] = {}
    for action in actions:
        groups.setdefault(action.group, []).append(action)
    lines: list[str] = []
    for group in ["Screens", "General", "Moving", *groups]:
        rows = groups.pop(group, [])
        if not rows:
            continue
        lines += [f"**{group}**", "", "| key | |", "| --- | --- |"]
        seen = set()
        for row in rows:
            line = f"| {' '.join(f'`{shown(key)}`' for key in row.keys)} | {row.words} |"
            if line not in seen:
                seen.add(line)
                lines.append(line)
        lines.append("")
    return "\n".join(lines)
