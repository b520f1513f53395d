"""Prompts that were asked and saved sets: each once, found by words, rebuilt from the journal."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.history import prompts as prompts_module
from engine.history.ingest import ingest_all, reindex
from engine.history.prompts import (
    add_prompt,
    drop_prompt_set,
    find_prompts,
    prompt_set,
    prompt_sets,
    save_prompt_set,
)
from engine.history.store import Store, open_store
from engine.home import Home, open_home

ROOT = Path(__file__).parents[2]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße?"}]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path)


def read(home: Home) -> Store:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return store


def test_each_prompt_is_told_once_the_newest_first(home: Home) -> None:
    add_prompt(home, "Blue kettle")
    add_prompt(home, CHAT, source="chat")
    last = add_prompt(home, "Blue kettle", source="kettles")
    assert add_prompt(home, " \n") == ""
    store = read(home)
    first, second = find_prompts(store)
    assert (first.id, first.prompt, first.source, first.times) == (
        last,
        "Blue kettle",
        "kettles",
        2,
    )
    assert (second.prompt, second.text) == (CHAT, "Be brief.\nGrüße?")
    assert [row.prompt for row in find_prompts(store, limit=1)] == ["Blue kettle"]
    reindex(home, store)
    assert find_prompts(store) == [first, second]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("KETTLE blue", ["Blue kettle 100%"]),
        ("grüsse", ["GRÜSSE an_alle"]),
        ("%", ["Blue kettle 100%"]),
        ("_", ["GRÜSSE an_alle"]),
        ("' OR 1 --", []),
        ("\ud800", ["odd \ud800"]),
    ],
)
def test_prompts_are_found_by_all_their_words(home: Home, words: str, found: list[str]) -> None:
    for text in ("Blue kettle 100%", "GRÜSSE an_alle", "odd \ud800"):
        add_prompt(home, text)
    got = [row.prompt for row in find_prompts(read(home), words)]
    assert got == [text.replace("\ud800", "?") for text in found]


def test_a_set_is_saved_replaced_and_dropped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_module, "PIECE_CHARACTERS", 100)
    rows: list[dict[str, Any]] = [
        {"prompt": f"prompt number {n}", "reference": None if n % 2 else f"answer {n}"}
        for n in range(100)
    ]
    rows[7]["prompt"] = CHAT
    id = save_prompt_set(home, "kettles", rows)
    store = read(home)
    [found] = prompt_sets(store)
    assert (found.name, found.id, found.count) == ("kettles", id, 100)
    assert prompt_set(store, "kettles") == rows
    save_prompt_set(home, "kettles", rows[:3])
    save_prompt_set(home, "a tea set", [{"prompt": "Tea"}])
    ingest_all(home, store, live=False)
    assert [(each.name, each.count) for each in prompt_sets(store)] == [
        ("a tea set", 1),
        ("kettles", 3),
    ]
    assert prompt_set(store, "a tea set") == [{"prompt": "Tea", "reference": None}]
    drop_prompt_set(home, "kettles")
    drop_prompt_set(home, "unknown")
    ingest_all(home, store, live=False)
    with pytest.raises(UserError, match="there are a tea set"):
        prompt_set(store, "kettles")
    assert store.query("SELECT count(*) FROM set_prompts") == [(1,)]
    reindex(home, store)
    assert [each.name for each in prompt_sets(store)] == ["a tea set"]
    assert prompt_set(store, "a tea set") == [{"prompt": "Tea", "reference": None}]


@pytest.mark.parametrize("name", ["", " x", "a\nb", "\x1b[31m", "\u202ex", "x" * 65])
def test_what_cannot_name_a_set(home: Home, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a set"):
        save_prompt_set(home, name, [{"prompt": "p"}])
    assert not home.journal.exists()


@pytest.mark.parametrize("row", [{}, {"prompt": 3}, {"prompt": []}, {"prompt": [{"role": "user"}]}])
def test_what_is_no_prompt_leaves_the_old_set(home: Home, row: dict[str, Any]) -> None:
    save_prompt_set(home, "kettles", [{"prompt": "p"}])
    with pytest.raises(UserError, match="prompt 2"):
        save_prompt_set(home, "kettles", [{"prompt": "q"}, row])
    with pytest.raises(UserError, match="without prompts"):
        save_prompt_set(home, "kettles", [])
    # The first piece is written before the second turns out to be too long for a line.
    with pytest.raises(UserError, match="at most 16 MiB"):
        long = [{"prompt": "x" * 300_000}, {"prompt": "y" * (17 << 20)}]
        save_prompt_set(home, "kettles", long)
    assert prompt_set(read(home), "kettles") == [{"prompt": "p", "reference": None}]


def test_odd_events_are_passed_over(home: Home) -> None:
    save_prompt_set(home, "kettles", [{"prompt": "p"}])
    odd: list[dict[str, Any]] = [
        {"type": "prompt"},
        {"type": "prompt", "id": "1", "prompt": {"a": 1}},
        {"type": "prompt", "id": "2", "prompt": "kept", "t": "soon", "source": 4, "more": [1]},
        {"type": "set_prompts", "set": "s", "first": -1, "prompts": []},
        {"type": "set_prompts", "set": "s", "first": 10**30, "prompts": []},
        {"type": "set_prompts", "set": "s", "first": 0, "prompts": [7]},
        {"type": "set_prompts", "set": ["s"], "first": 0, "prompts": []},
        {"type": "set_prompts", "first": 0},
        {"type": "prompt_set", "id": "s", "name": ["x"]},
        {"type": "prompt_set", "name": "kettles"},
        {"type": "prompt_unset"},
        {"type": "prompt_unset", "name": {}},
    ]
    with home.journal.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in odd)
    store = read(home)
    assert [(row.prompt, row.source, row.t) for row in find_prompts(store)] == [("kept", "", 0.0)]
    assert prompt_set(store, "kettles") == [{"prompt": "p", "reference": None}]


WRITER = """
import sys
from pathlib import Path
from engine.history.prompts import save_prompt_set
from engine.home import Home

home, name = Home(Path(sys.argv[1])), sys.argv[2]
for _ in range(10):
    save_prompt_set(home, "shared", [{"prompt": f"{name} {n}"} for n in range(20)])
"""


def test_two_writers_at_once_leave_one_whole_set(home: Home) -> None:
    command = [sys.executable, "-c", WRITER, str(home.path)]
    writers = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    texts = [row["prompt"] for row in prompt_set(read(home), "shared")]
    assert texts in ([f"one {n}" for n in range(20)], [f"two {n}" for n in range(20)])
