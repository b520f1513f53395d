"""What a row is, wherever it comes from: its texts, and which of them make it the same as another.

A dataset has one *shape*, which says what its rows have beside prompt and completion:

- ``pair``: nothing more (two columns, or ``prompt`` and ``completion``).
- ``instruction``: an ``instruction`` and a ``system`` message of the row's own (alpaca).
- ``conversation``: ``messages``, of which the last answer is the completion and what comes before
  it the prompt (messages, sharegpt).
- ``text``: the completion is all there is, the prompt is empty.
"""

from typing import NamedTuple

__all__ = [
    "SHAPES",
    "Message",
    "RawRow",
    "Row",
    "completion_identity",
    "from_messages",
    "given",
    "prompt_identity",
    "texts",
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


def texts(row: Row) -> tuple[str, ...]:
    """Every text of a row: what rules clean, search and put back with :func:`with_texts`."""
    if row.messages:
        return tuple(message.content for message in row.messages)
    if row.instruction or row.system:
        return row[:4]
    return row[:2]


def with_texts(row: Row, new: tuple[str, ...]) -> Row:
    """The row with other texts, in the order of :func:`texts` and as many."""
    if not row.messages:
        if len(new) == 2:
            return Row(new[0], new[1])
        prompt, completion, instruction, system = new
        return Row(prompt, completion, instruction, system)
    messages = tuple(Message(m.role, text) for m, text in zip(row.messages, new, strict=True))
    before = messages[-2].content if len(messages) > 1 else ""
    return Row(before, messages[-1].content, row.instruction, row.system, messages)


def given(row: Row) -> str:
    """All that a model is given to answer, without a system message of an instruction's."""
    if row.messages:
        return "\n".join(message.content for message in row.messages[:-1])
    if row.instruction and row.prompt:
        return f"{row.instruction}\n{row.prompt}"
    return row.instruction or row.prompt


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
