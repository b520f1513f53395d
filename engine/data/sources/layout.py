"""Which columns make an example, and the row that an object of a source becomes."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.data.rows import Message, Row, from_messages

__all__ = ["Layout", "Reading"]

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""What the layouts call those who speak -> what chat templates call them; others stay."""
NESTED = ("from", "value", "role", "content", "human", "assistant")


class Reading:
    """What was met while the texts of one row were taken out."""

    __slots__ = ("missing", "not_text", "number")

    def __init__(self) -> None:
        self.missing = self.not_text = self.number = False

    def text(self, value: Any) -> str:
        """A text or a number as it is; anything else is remembered."""
        if type(value) is str:
            return value
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            self.missing = True
            return ""
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            self.number = True
            return str(value)
        self.not_text = True
        return ""

    def optional(self, value: Any) -> str:
        return "" if value is None else self.text(value)

    @property
    def drop(self) -> str | None:
        if self.missing:
            return "missing_field"
        return "not_text" if self.not_text else None


@dataclass(frozen=True)
class Layout:
    """How objects become rows; picklable. Columns that a layout does not have are empty."""

    name: str
    shape: str
    prompt: str = ""
    """Also the input of alpaca."""
    completion: str = ""
    """Also the output of alpaca, the list of turns, the text."""
    instruction: str = ""
    system: str = ""
    history: str = ""

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that are read."""
        names = (self.prompt, self.completion, self.instruction, self.system, self.history)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def required(self) -> tuple[str, ...]:
        """Those that a file must have."""
        if self.name == "alpaca":
            return (self.instruction, self.completion)
        return tuple(name for name in (self.prompt, self.completion) if name)

    @property
    def nested(self) -> tuple[str, ...]:
        """Keys of the objects in the turns of a conversation."""
        return NESTED if self.name in ("messages", "sharegpt") else ()

    @property
    def is_pair(self) -> bool:
        return self.name in ("columns", "prompt-completion") and self.shape == "pair"

    @property
    def words(self) -> str:
        """The mapping for people."""
        if self.name == "text":
            return f"{self.completion} -> the whole text"
        if self.name in ("messages", "sharegpt"):
            words = f"{self.completion} -> conversation"
        elif self.name == "alpaca":
            words = f"{self.instruction} -> instruction"
            words += f", {self.prompt} -> prompt" if self.prompt else ""
            words += f", {self.completion} -> completion"
        else:
            words = f"{self.prompt} -> prompt, {self.completion} -> completion"
        words += f", {self.system} -> system" if self.system else ""
        return words + (f", {self.history} -> turns before" if self.history else "")

    def row(self, value: dict[str, Any]) -> tuple[Row | None, str | None, bool]:
        """The row, or why there is none; and whether a number was taken as text."""
        reading = Reading()
        row = self._row(value, reading)
        drop = reading.drop
        if not drop and row is None:
            drop = "missing_field"  # a conversation without an answer
        return (None if drop else row), drop, reading.number

    def _row(self, value: dict[str, Any], reading: Reading) -> Row | None:
        if self.name == "text":
            return Row("", reading.text(value.get(self.completion)))
        if self.is_pair:
            prompt = reading.text(value.get(self.prompt))
            return Row(prompt, reading.text(value.get(self.completion)))
        if self.shape == "instruction":
            return Row(
                reading.optional(value.get(self.prompt)),
                reading.text(value.get(self.completion)),
                reading.text(value.get(self.instruction)),
                reading.optional(value.get(self.system)),
            )
        messages = self._messages(value, reading)
        return None if reading.drop else from_messages(tuple(messages))

    def _messages(self, value: dict[str, Any], reading: Reading) -> list[Message]:
        messages = []
        if self.system and (system := reading.optional(value.get(self.system))):
            messages.append(Message("system", system))
        if self.name == "alpaca":
            for asked, answered in _history(value.get(self.history), reading):
                messages += [Message("user", asked), Message("assistant", answered)]
            instruction = reading.text(value.get(self.instruction))
            more = reading.optional(value.get(self.prompt))
            asked = f"{instruction}\n{more}" if instruction and more else instruction or more
            messages.append(Message("user", asked))
            messages.append(Message("assistant", reading.text(value.get(self.completion))))
        elif self.name == "prompt-completion":
            messages += turns(value.get(self.prompt), reading, "user")
            messages += turns(value.get(self.completion), reading, "assistant")
        else:
            messages += turns(value.get(self.completion), reading)
        return messages


def turns(value: Any, reading: Reading, alone: str = "") -> list[Message]:
    """The messages of a list of turns; ``alone``: the role of a text that stands for one."""
    value = _list_in_text(value)
    if alone and not isinstance(value, list):
        return [Message(alone, reading.text(value))]
    if value is None:
        reading.missing = True
        return []
    if not isinstance(value, list):
        reading.not_text = True
        return []
    messages: list[Message] = []
    for item in value:
        if not isinstance(item, dict):
            reading.not_text = True
        elif "human" in item or "assistant" in item:
            if item.get("human") is not None:
                messages.append(Message("user", reading.text(item["human"])))
            messages.append(Message("assistant", reading.text(item.get("assistant"))))
        else:
            role = item.get("role", item.get("from"))
            if not isinstance(role, str):
                reading.text(role)
                reading.not_text = reading.not_text or role is not None
                continue
            content = item.get("content", item.get("value"))
            messages.append(Message(ROLES.get(role.lower(), role), _content(content, reading)))
    return messages


def _list_in_text(value: Any) -> Any:
    """A list of objects or lists that a column of texts holds as JSON; else what was given."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            items = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if all(isinstance(item, (dict, list)) for item in items):
            return items
    return value


def _content(value: Any, reading: Reading) -> str:
    """A message's text, also given as a list of text parts."""
    if not isinstance(value, list):
        return reading.text(value)
    parts = []
    for part in value:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") == "text" and "text" in part:
            parts.append(reading.text(part["text"]))
        else:
            reading.not_text = True
    return "".join(parts)


def _history(value: Any, reading: Reading) -> Sequence[tuple[str, str]]:
    value = _list_in_text(value)
    if value is None or value == "":
        return ()
    pairs = []
    for turn in value if isinstance(value, list) else [value]:
        if isinstance(turn, (list, tuple)) and len(turn) == 2:
            pairs.append((reading.text(turn[0]), reading.text(turn[1])))
        else:
            reading.not_text = True
    return pairs
