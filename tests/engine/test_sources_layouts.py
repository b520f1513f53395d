"""Layouts are recognised by their columns, shown in words, and give rows of one shape."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.rows import Message, RawRow
from engine.data.sources import Look, look, open_source
from engine.errors import UserError
from engine.home import Home
from engine.recipe import DataSection

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def read(tmp_path: Path, *objects: Any, **settings: str) -> tuple[list[RawRow], Look]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)) + "\n")
    data = DataSection(source=str(path), **settings)
    found = look(Home(tmp_path), data)
    source = open_source(Home(tmp_path), data, found)
    parser = source.parser()
    rows = [row for chunk in source.chunks() for row in parser.rows(chunk)]
    assert [*found.sample] == rows[:20]
    return rows, found


@pytest.mark.parametrize(
    ("value", "layout", "mapping"),
    [
        (
            {"content": "a", "title": "q", "text": "x"},
            "columns",
            "title -> prompt, content -> co",
        ),
        ({"question": "q", "answer": "a"}, "columns", "question -> prompt, answer -> completion"),
        ({"problem": "q", "solution": "a"}, "columns", "problem -> prompt, solution -> completion"),
        ({"instruction": "q", "response": "a"}, "columns", "instruction -> prompt, response ->"),
        ({"prompt": "q", "completion": "a"}, "prompt-completion", "prompt -> prompt, completion"),
        (
            {"input": "q", "output": "a", "id": 1},
            "columns",
            "input -> prompt, output -> ",
        ),
        (
            {"query": "q", "answers": ["x"], "text": "a"},
            "columns",
            "query -> prompt, text -> co",
        ),
        ({"prompt": "q", "completion": "a", "label": 3}, "prompt-completion", "prompt -> prompt"),
    ],
)
def test_pairs(tmp_path: Path, value: dict[str, Any], layout: str, mapping: str) -> None:
    rows, found = read(tmp_path, value)
    assert (found.layout.name, found.shape) == (layout, "pair")
    assert found.mapping.startswith(mapping)
    assert rows[0].row and rows[0].row[:2] == ("q", "a")


def test_columns_by_name(tmp_path: Path) -> None:
    value = {"a": "x", "b": "y", "chosen": "z", "rejected": "w", "answer": "v"}
    rows, _ = read(tmp_path, value, prompt_column="a", completion_column="chosen")
    assert rows[0].row and rows[0].row[:2] == ("x", "z")
    rows, _ = read(tmp_path, value, prompt_column="a")
    assert rows[0].row and rows[0].row[:2] == ("x", "v")
    with pytest.raises(UserError, match=r"set data\.prompt_column as well; there are: a, b"):
        read(tmp_path, value, completion_column="b")


def test_alpaca(tmp_path: Path) -> None:
    rows, found = read(
        tmp_path,
        {"instruction": "i", "input": "x", "output": "o", "system": "s"},
        {"instruction": "i", "input": None, "output": 5},
        {"instruction": "i", "output": "o"},
        {"input": "x", "output": "o"},
        {"instruction": "i", "output": ["o"]},
    )
    assert (found.layout.name, found.shape) == ("alpaca", "instruction")
    assert found.mapping.startswith("instruction -> instruction, input -> prompt, output -> compl")
    assert [row.row and row.row[:4] for row in rows] == [
        *(("x", "o", "i", "s"), ("", "5", "i", ""), ("", "o", "i", ""), None, None),
    ]
    assert [row.drop for row in rows[3:]] == ["missing_field", "not_text"]
    assert rows[1].repair == "number_as_text"


def test_alpaca_with_history_is_a_conversation(tmp_path: Path) -> None:
    rows, found = read(
        tmp_path,
        {"instruction": "i", "input": "x", "output": "o", "history": [["q", "a"]]},
        {"instruction": "i", "input": "", "output": "o", "history": []},
        {"instruction": "i", "input": "", "output": "o", "history": [["q"]]},
    )
    assert found.shape == "conversation"
    assert rows[0].row and rows[0].row.messages == (
        *(Message("user", "q"), Message("assistant", "a")),
        *(Message("user", "i\nx"), Message("assistant", "o")),
    )
    assert rows[0].row[:2] == ("i\nx", "o")
    assert rows[1].row and rows[1].row.messages == (Message("user", "i"), Message("assistant", "o"))
    assert rows[2].drop == "not_text"


@pytest.mark.parametrize(
    ("value", "layout", "roles"),
    [
        (
            {"conversations": [
                {"from": "system", "value": "s"}, {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"}, {"from": "human", "value": "and?"},
            ]}, "sharegpt", "system user assistant",
        ),
        (
            {"conversation": [{"human": "x", "assistant": "y"}, {"human": "q", "assistant": "a"}],
             "system": "s"}, "sharegpt", "system user assistant user assistant",
        ),
        ({"messages": [USER, ANSWER]}, "messages", "user assistant"),
        ({"messages": json.dumps([USER, ANSWER])}, "messages", "user assistant"),
        (
            {"messages": [
                {"role": "developer", "content": "d"},
                {"role": "user", "content": [{"type": "text", "text": "q"}]}, ANSWER,
            ]}, "messages", "developer user assistant",
        ),
        ({"prompt": [USER], "completion": [ANSWER]}, "prompt-completion", "user assistant"),
        ({"prompt": "q", "completion": [ANSWER]}, "prompt-completion", "user assistant"),
        ({"conversations": [USER, ANSWER]}, "sharegpt", "user assistant"),
    ],
)  # fmt: skip
def test_conversations(tmp_path: Path, value: dict[str, Any], layout: str, roles: str) -> None:
    rows, found = read(tmp_path, value)
    assert (found.layout.name, found.shape) == (layout, "conversation")
    assert rows[0].row and rows[0].row[:2] == ("q", "a")
    assert [message.role for message in rows[0].row.messages] == roles.split()


@pytest.mark.parametrize(
    ("messages", "drop", "repair"),
    [
        ([USER], "missing_field", None),
        ([], "missing_field", None),
        (None, "missing_field", None),
        ("text", "not_text", None),
        ([USER, {"role": "assistant", "content": None}], "missing_field", None),
        ([USER, {"role": "assistant"}], "missing_field", None),
        ([{"content": "c"}, ANSWER], "missing_field", None),
        ([USER, {"role": "assistant", "content": [{"type": "image"}]}], "not_text", None),
        ([USER, "text", ANSWER], "not_text", None),
        ([USER, {"role": "assistant", "content": 5}], None, "number_as_text"),
    ],
)
def test_conversations_that_are_none(
    tmp_path: Path, messages: Any, drop: str | None, repair: str | None
) -> None:
    rows, _ = read(tmp_path, {"messages": [USER, ANSWER]}, {"messages": messages})
    assert (rows[1].drop, rows[1].repair) == (drop, repair)


def test_repairs_within_conversations(tmp_path: Path) -> None:
    lines = [
        json.dumps({"messages": [USER, ANSWER]}),
        '{"messages": [{"role": "user", "role": "user", "content": "q"}, '
        '{"role": "assistant", "content": "a"}]}',
        '{"messages": [], "messages": [{"role": "assistant", "content": "a"}]}',
        '{"messages": [{"role": "assistant", "content": "\\ud800"}], "x": NaN}',
        '{"messages": [{"role": "assistant", "content": "about \\"role\\": it"}]}',
        '{"messages": [{"role": "assistant", "content": "a"}], "x": 99999999999999999999}',
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    source = open_source(Home(tmp_path), DataSection(source=str(path)))
    rows = [row for chunk in source.chunks() for row in source.parser().rows(chunk)]
    assert [row.repair for row in rows] == [
        *(None, "duplicate_key", "duplicate_key", "lone_surrogate", None, "number_overflow"),
    ]
    assert rows[3].row and rows[3].row.completion == "\ufffd"


def test_text(tmp_path: Path) -> None:
    rows, found = read(tmp_path, {"text": "all"}, {"text": None}, {"text": 5}, {"text": ["x"]})
    assert (found.layout.name, found.shape) == ("text", "text")
    assert rows[0].row == ("", "all", "", "", ())
    assert [row.drop for row in rows] == [None, "missing_field", None, "not_text"]
    rows, _ = read(tmp_path, {"body": "b", "n": 1}, layout="text", completion_column="body")
    assert rows[0].row and rows[0].row.completion == "b"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            r"preference pairs .*column=prompt",
        ),
        ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "completion_column=chosen"),
        ({"prompt": "q", "completion": "a", "label": True}, "rated answers .*learn the bad ones"),
    ],
)
def test_preferences_are_refused_with_a_reason(
    tmp_path: Path, value: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as failure:
        read(tmp_path, value)
    assert "\n" not in str(failure.value)
    if "prompt" in value:
        column = "chosen" if "chosen" in value else "completion"
        rows, _ = read(tmp_path, value, prompt_column="prompt", completion_column=column)
        assert rows[0].row and rows[0].row[:2] == ("q", "a")


def test_nothing_recognised_names_the_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are: a, 'b\\n'; .*--set data\.prompt") as error:
        read(tmp_path, {"a": "x", "b\n": "y"}, {"a": "x"})
    assert "--set data.completion_column" in str(error.value)
    for layout in ("sharegpt", "messages", "alpaca", "prompt-completion", "text"):
        with pytest.raises(UserError, match=rf"layout '{layout}' needs .*choose another data\.lay"):
            read(tmp_path, {"a": "x"}, layout=layout)


def test_a_layout_that_is_asked_for(tmp_path: Path) -> None:
    value = {"messages": [USER, ANSWER], "text": "t", "prompt": "q", "completion": "a"}
    assert read(tmp_path, value)[1].layout.name == "messages"
    for layout in ("text", "prompt-completion", "columns", "messages"):
        assert read(tmp_path, value, layout=layout)[1].layout.name == layout
