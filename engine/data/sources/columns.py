"""Recognises the layout of rows by their columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.data.sources.layout import Layout
from engine.errors import UserError

if TYPE_CHECKING:
    from engine.sections.data import DataSection

__all__ = ["OBJECTS_LOOK", "Seen", "layout_of"]

OBJECTS_LOOK = 1000
"""Objects in which a column must turn up at least once."""
QUERIES = ("query", "prompt", "input", "instruction", "question", "problem")
ANSWERS = (
    "response", "answer", "output", "targets", "target", "answer_key", "answers", "solution",
    "text", "completion", "content",
)  # fmt: skip
"""Usual names, in the order in which they are taken."""
_NAME_LENGTH = 60
_SET = "--set data.prompt_column=... --set data.completion_column=..."


class Seen:
    """The columns of some objects, and of which types their values were."""

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self.types: dict[str, set[str]] = {name: set() for name in columns}
        self.count = 0
        self.last: Mapping[str, Any] = {}

    def add(self, value: Mapping[str, Any]) -> None:
        self.count += 1
        self.last = value
        for key, item in value.items():
            types = self.types.setdefault(key, set())
            if item is None or item == "" or item == []:
                continue
            kind = type(item).__name__
            if isinstance(item, list):
                kind = "objects" if isinstance(item[0], dict) else "list"
            elif isinstance(item, str):
                short = item[:5].lower() if len(item) < 6 else ""
                kind = "truth" if short in ("true", "false") else "str"
                if item.lstrip()[:2] in ("[{", "[ ", "[\n", "[["):
                    kind = "objects"
            types.add(kind)

    def __contains__(self, name: str) -> bool:
        return name in self.types

    def has_text(self, name: str) -> bool:
        types = self.types.get(name)
        return types is not None and (not types or bool(types & {"str", "int", "float", "truth"}))

    def has_objects(self, name: str) -> bool:
        return "objects" in self.types.get(name, ())

    @property
    def words(self) -> str:
        names = [_shown(name) for name in self.types]
        return (", ".join(names[:20]) + (", ..." if len(names) > 20 else "")) or "none"


def _shown(name: str) -> str:
    """A column's name in a message of one line."""
    name = name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}..."
    return name if name.isprintable() else repr(name)


def layout_of(seen: Seen, data: "DataSection", path: str) -> Layout:
    """The layout of a source's rows. Raises :class:`UserError` in one line when there is none.

    Without a single object to look at it is the columns that the recipe names, or else title and
    content: what is wrong with the rows is then found out by reading them.
    """
    given = [name for name in (data.prompt_column, data.completion_column) if name]
    missing = [name for name in given if name not in seen]
    if missing and seen.count:
        raise UserError(
            f"{path}: no column {' and no column '.join(map(repr, missing))} in the first "
            f"{seen.count:,} rows; there are: {seen.words}; name the columns with {_SET}"
        )
    if data.layout != "auto":
        return _asked(seen, data, path)
    if given:
        return _columns(seen, data, path)
    if not seen.count:
        return Layout("columns", "pair", "title", "content")
    if why := _preferences(seen):
        raise UserError(f"{path}: {why}")
    for make in (_sharegpt, _messages, _alpaca, _prompt_completion):
        if layout := make(seen, data):
            return layout
    if pair := _known_pair(seen):
        return Layout("columns", "pair", *pair)
    if layout := _text(seen, data):
        return layout
    raise UserError(_nothing(seen, path))


def _nothing(seen: Seen, path: str) -> str:
    if seen.count == 1:
        lists = [name for name in seen.types if seen.has_objects(name)]
        if len(lists) == 1:
            return (
                f"{path}: is one JSON object, not rows; its rows seem to be the list "
                f"{lists[0]!r}: save that as a file"
            )
    return f"{path}: no layout recognised; there are: {seen.words}; name the columns with {_SET}"


def _asked(seen: Seen, data: "DataSection", path: str) -> Layout:
    if data.layout == "columns":
        return _columns(seen, data, path)
    makers = {
        "sharegpt": _sharegpt,
        "messages": _messages,
        "alpaca": _alpaca,
        "prompt-completion": _prompt_completion,
        "text": _text,
    }
    needs = {
        "sharegpt": "a column conversations",
        "messages": "a column messages",
        "alpaca": "columns instruction and output",
        "prompt-completion": "columns prompt and completion",
        "text": "a column text",
    }
    layout = makers[data.layout](seen, data)
    if layout is None and not seen.count:
        for name in ("conversations", "messages", "instruction", "output", "prompt", "text"):
            seen.types.setdefault(name, {"objects", "str"})
        layout = makers[data.layout](seen, data)
    if layout is None:
        raise UserError(
            f"{path}: layout {data.layout!r} needs {needs[data.layout]}; there are: {seen.words}; "
            "choose another data.layout"
        )
    return layout


def _columns(seen: Seen, data: "DataSection", path: str) -> Layout:
    prompt, completion = data.prompt_column, data.completion_column
    if not prompt and not completion:
        pair = _known_pair(seen)
        if pair is None and not seen.count:
            pair = ("title", "content")
        if pair is None:
            raise UserError(_nothing(seen, path))
        return Layout("columns", "pair", *pair)
    if not completion:
        names = (*(("content",) if prompt == "title" else ()), *ANSWERS)
        completion = _first(seen, names, but=prompt)
    elif not prompt:
        names = (*(("title",) if completion == "content" else ()), *QUERIES)
        prompt = _first(seen, names, but=completion)
    if not prompt or not completion:
        which = "data.prompt_column" if not prompt else "data.completion_column"
        raise UserError(f"{path}: set {which} as well; there are: {seen.words}")
    return Layout("columns", "pair", prompt, completion)


def _first(seen: Seen, names: Sequence[str], but: str = "") -> str:
    return next((name for name in names if name != but and seen.has_text(name)), "")


def _known_pair(seen: Seen) -> tuple[str, str] | None:
    if "title" in seen and "content" in seen:
        return "title", "content"
    prompt = _first(seen, QUERIES)
    completion = _first(seen, ANSWERS, but=prompt) if prompt else ""
    return (prompt, completion) if completion else None


def _preferences(seen: Seen) -> str:
    """Why rows that compare answers cannot be used, or nothing."""
    how = "to train on the better answer alone, name the columns with --set data.prompt_column="
    if "chosen" in seen and "rejected" in seen:
        prompt = next((name for name in QUERIES if name in seen), "...")
        return (
            "these are preference pairs (chosen, rejected): supervised fine-tuning has no use for "
            f"the rejected one; {how}{prompt} --set data.completion_column=chosen"
        )
    if "prompt" in seen and "completion" in seen and "label" in seen:
        types = seen.types["label"]
        if types and types <= {"bool", "truth"}:
            return (
                "these are rated answers (prompt, completion, label): supervised fine-tuning "
                f"would learn the bad ones too; keep the good ones, or {how.partition(', ')[2]}"
                "prompt --set data.completion_column=completion"
            )
    return ""


def _system(seen: Seen) -> str:
    return "system" if seen.has_text("system") else ""


def _sharegpt(seen: Seen, data: "DataSection") -> Layout | None:
    names = (
        (data.completion_column,) if data.completion_column else ("conversations", "conversation")
    )
    name = next((name for name in names if seen.has_objects(name)), "")
    return Layout("sharegpt", "conversation", "", name, system=_system(seen)) if name else None


def _messages(seen: Seen, data: "DataSection") -> Layout | None:
    name = data.completion_column or "messages"
    return Layout("messages", "conversation", "", name) if seen.has_objects(name) else None


def _alpaca(seen: Seen, data: "DataSection") -> Layout | None:
    output = data.completion_column or "output"
    if "instruction" not in seen or output not in seen:
        return None
    history = "history" if seen.types.get("history") else ""
    return Layout(
        "alpaca",
        "conversation" if history else "instruction",
        data.prompt_column or ("input" if "input" in seen else ""),
        output,
        "instruction",
        _system(seen),
        history,
    )


def _prompt_completion(seen: Seen, data: "DataSection") -> Layout | None:
    prompt, completion = data.prompt_column or "prompt", data.completion_column or "completion"
    if prompt not in seen or completion not in seen:
        return None
    turns = seen.has_objects(prompt) or seen.has_objects(completion)
    return Layout("prompt-completion", "conversation" if turns else "pair", prompt, completion)


def _text(seen: Seen, data: "DataSection") -> Layout | None:
    name = data.completion_column or "text"
    return Layout("text", "text", "", name) if seen.has_text(name) else None
