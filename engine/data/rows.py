"""What a row is, wherever it comes from: its texts, and which of them make it the same as another.

A dataset has one *shape*, which says what its rows have beside prompt and completion:

- ``pair``: nothing more (two columns, or ``prompt`` and ``completion``).
- ``instruction``: an ``instruction`` and a ``system`` message of the row's own (alpaca).
- ``conversation``: ``messages``, of which the last answer is the completion and what comes before
  it the prompt (messages, sharegpt).
- ``text``: the completion is all there is, the prompt is empty.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "SHAPES",
    "Message",
    "RawRow",
    "Row",
    "completion_identity",
    "from_messages",
    "prompt_identity",
    "texts_of",
    "with_texts",
]

SHAPES = ("pair", "instruction", "conversation", "text")


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    """system, user, assistant, or whatever else the template knows (tool, ...)."""
    content: str


class Row(NamedTuple):
    """The texts of one row. What its shape does not have is empty."""

    prompt: str
    completion: str
    instruction: str = ""
    system: str = ""
    messages: tuple[Message, ...] = ()


class RawRow(NamedTuple):
    """One row of a source, read but not yet cleaned."""

    line: int
    """1-based number over the whole source: of the line, or of the record where there are none."""
    row: Row | None
    """None when the row cannot be used; ``drop`` then says why."""
    drop: str | None
    """malformed, missing_field or not_text."""
    repair: str | None
    """What reading put right, one of :data:`engine.data.repairs.REPAIRS`."""
    raw: bytes
    """As it is in the source; for formats without lines as JSON."""


def from_messages(messages: tuple[Message, ...]) -> Row | None:
    """The row of a conversation: what comes behind its last answer is left out.

    None when there is no answer in it. The prompt is the message before the last answer.
    """
    end = len(messages)
    while end and messages[end - 1].role != "assistant":
        end -= 1
    if not end:
        return None
    messages = messages[:end]
    before = messages[-2].content if end > 1 else ""
    return Row(before, messages[-1].content, messages=messages)


def texts_of(row: Row) -> tuple[str, ...]:
    """Every text of a row: of each message, or prompt, completion, instruction and system."""
    return tuple(m.content for m in row.messages) if row.messages else row[:4]


def with_texts(row: Row, texts: Sequence[str]) -> Row:
    """The row with other texts in the order of :func:`texts_of`."""
    if not row.messages:
        return Row(*texts)
    messages = tuple(Message(m.role, text) for m, text in zip(row.messages, texts, strict=True))
    return Row(texts[-2] if len(texts) > 1 else "", texts[-1], messages=messages)


def prompt_identity(row: Row) -> str:
    """The text by which rows are told apart and dealt out to the splits: all that is given."""
    if row.messages:
        return "\n".join(message.content for message in row.messages[:-1])
    if row.instruction or row.system:
        return f"{row.system}\n{row.instruction}\n{row.prompt}"
    return row.prompt or row.completion


def completion_identity(row: Row) -> str:
    """The text by which a completion is the same as another: all that is answered."""
    if row.messages:
        return "\n".join(m.content for m in row.messages if m.role == "assistant")
    return row.completion
