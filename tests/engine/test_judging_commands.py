"""``tunebench votes`` and ``prompts``: documents, tables, files, one clear line of error."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.errors import UserError
from engine.generate.prompt_files import read_prompts
from engine.history.votes import Side, add_vote
from engine.home import Home, open_home
from tests.engine.fakes import runs

HOSTILE = "\x1b]0;owned\x07\x1b[31mred [bold]x[/] \u202egnp\x00\r\n=1+1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def ran(capsys: pytest.CaptureFixture[str], home: Home, *argv: str) -> Any:
    assert main([*argv, "--home", str(home.path), "--json"]) == 0, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def told(capsys: pytest.CaptureFixture[str], home: Home, *argv: str) -> str:
    """What a terminal gets: no character of it may be one that a terminal obeys."""
    status = main([*argv, "--home", str(home.path)])
    out, error = capsys.readouterr()
    assert status == 0, error
    for character in "\x1b\x07\x00\r\u202e":
        assert character not in out + error
    return out


def failed(capsys: pytest.CaptureFixture[str], home: Home, *argv: str) -> str:
    status = main([*argv, "--home", str(home.path)])
    out, error = capsys.readouterr()
    assert (out, status > 0, error.count("\n")) == ("", True, 1)
    return error


def vote(home: Home, left: str, right: str, verdict: str, **more: Any) -> str:
    sides = {
        name: Side(column, f"{column} label", f"answer of {column}", {"seed": 1}, "eos", 4)
        for name, column in (("left", left), ("right", right))
    }
    return add_vote(home, **{"prompt": "Tea", "prompt_set": "", **more}, **sides, verdict=verdict)


def test_win_rates_as_table_and_document(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no votes yet" in told(capsys, home, "votes")
    folder = runs.write_run(home, "one", steps=1)
    run = f"{folder.id}@1"
    for verdict in ("left", "left", "right", "tie", "both bad"):
        vote(home, run, "builtin:base", verdict, prompt_set="tea")
    vote(home, "x", "builtin:base", "left")
    document = ran(capsys, home, "votes")
    assert document["votes"] == 6
    first = document["win_rates"][0]
    assert (first["a"], first["b"], first["b_wins"], first["a_wins"]) == ("builtin:base", run, 2, 1)
    assert (first["ties"], first["both_bad"], first["votes"], first["decided"]) == (1, 1, 5, 3)
    assert first["rate"] == 2 / 3 and first["low"] < 0.3 and first["high"] > 0.9
    assert ran(capsys, home, "votes", "--run", "one")["votes"] == 5
    assert ran(capsys, home, "votes", "--run", "x")["votes"] == 1
    assert ran(capsys, home, "votes", "--prompt-set", "tea")["votes"] == 5
    by_set = ran(capsys, home, "votes", "--by-set")["win_rates"]
    assert [rate["prompt_set"] for rate in by_set] == ["tea", ""]
    assert "67% (21% to 94%)" in told(capsys, home, "votes")
    assert "--run nobody" in failed(capsys, home, "votes", "--run", "nobody")


def test_votes_are_listed_noted_and_taken_back(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = vote(home, "a", "b", "left"), vote(home, "a", "b", "right")
    ran(capsys, home, "votes", "note", first[:8], "too", "long")
    document = ran(capsys, home, "votes", "list")
    assert [one["id"] for one in document["list"]] == [second, first]
    assert [one["note"] for one in document["list"]] == ["", "too long"]
    assert document["list"][0]["winner"] == "b"
    assert "and 1 more" in told(capsys, home, "votes", "list", "--limit", "1")
    assert ran(capsys, home, "votes", "rm", second)["votes"] == [second]
    assert ran(capsys, home, "votes", "list")["votes"] == 1
    assert "is no vote" in failed(capsys, home, "votes", "rm", second)


def test_votes_are_exported_whole(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = [{"role": "user", "content": "Hi"}]
    vote(home, "a", "b", "left", prompt_set="tea", note=HOSTILE, reference="Green")
    vote(home, "b", "a", "tie", prompt=chat)
    lines, table = tmp_path / "votes.jsonl", tmp_path / "votes.csv"
    assert ran(capsys, home, "votes", "export", str(lines))["votes"] == 2
    first, second = map(json.loads, lines.read_text().split("\n")[:-1])
    assert (first["winner"], first["note"], first["left"]["text"]) == ("a", HOSTILE, "answer of a")
    assert second["prompt"] == chat and second["right"]["sampling"] == {"seed": 1}
    assert ran(capsys, home, "votes", "export", "--out", str(table))["votes"] == 2
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["left", "tie"]
    assert rows[0]["note"] == HOSTILE and rows[0]["reference"] == "Green"
    assert rows[1]["left_column"] == "b" and json.loads(rows[1]["prompt"]) == chat
    assert "is there already" in failed(capsys, home, "votes", "export", str(lines))
    again = ("votes", "export", str(lines), "--force", "--prompt-set", "tea")
    assert ran(capsys, home, *again)["votes"] == 1
    assert len(lines.read_text().splitlines()) == 1
    assert "must end in" in failed(capsys, home, "votes", "export", "votes.txt")
    assert "name one file" in failed(capsys, home, "votes", "export")
    nowhere = str(tmp_path / "no" / "votes.csv")
    assert "cannot be written" in failed(capsys, home, "votes", "export", nowhere)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "votes.csv", "votes.jsonl"]


def test_hostile_names_reach_no_terminal(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    sides = {name: Side(f"{name}{HOSTILE}", HOSTILE, HOSTILE) for name in ("left", "right")}
    for _ in range(2):
        add_vote(home, prompt=HOSTILE, prompt_set=HOSTILE, verdict="left", note=HOSTILE, **sides)
    event = {"type": "set_prompts", "id": "1", "set": "s", "first": 0}
    event["prompts"] = [{"prompt": HOSTILE, "reference": HOSTILE}]
    name = {"type": "prompt_set", "id": "s", "name": HOSTILE}
    asked = {"type": "prompt", "id": HOSTILE, "prompt": HOSTILE}
    with home.journal.open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in (event, name, asked))
    for words in (["votes", "--by-set"], ["votes", "list"], ["prompts"], ["prompts", "history"]):
        assert "owned" in told(capsys, home, *words)
    error = failed(capsys, home, "prompts", "show", HOSTILE.replace("\x00", "unknown"))
    assert not set("\x1b\x07\x00\r\u202e") & set(error)


@pytest.mark.parametrize(
    "words", ["votes rm", "votes --run", "votes list --run", "prompts show", "prompts rm --yes"]
)
def test_a_word_that_is_no_utf_8_names_nothing(
    home: Home, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    failed(capsys, home, *words.split(), "\udcff")


def test_a_time_out_of_reach_is_no_crash(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    sides = {"left": {"column": "a"}, "right": {"column": "b"}}
    whole = {"type": "vote", "prompt": "p", "verdict": "left", **sides}
    with home.journal.open("a") as file:
        for n, t in enumerate((1e30, -1e30, 1e308, 2**70, True, "x", None)):
            file.write(json.dumps({**whole, "id": f"v{n}", "t": t}) + "\n")
            file.write(json.dumps({"type": "prompt", "id": "p", "prompt": f"p{n}", "t": t}) + "\n")
    assert told(capsys, home, "votes", "list").count("left") == 7
    assert told(capsys, home, "prompts", "history").count("p") == 7


def test_sets_are_saved_from_files_shown_and_removed(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tea.jsonl"
    chat = [{"role": "user", "content": "Hi"}]
    lines: list[dict[str, Any]] = [
        {"q": "one", "a": "1"},
        {"q": [*chat, {"role": "assistant", "content": "Hello"}], "a": None},
        {"q": "three", "a": "3"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    add = ("prompts", "add", "tea", str(file), "--column", "q")
    assert ran(capsys, home, *add)["references"] == 1
    assert ran(capsys, home, "prompts", "show", "tea")["prompts"] == [
        {"prompt": "one", "reference": None},
        {"prompt": chat, "reference": "Hello"},
        {"prompt": "three", "reference": None},
    ]
    assert "is a saved set already" in failed(capsys, home, *add)
    more = (*add, "--force", "--reference-column", "a")
    assert ran(capsys, home, *more, "--limit", "1") == {
        "name": "tea",
        "prompts": 1,
        "references": 1,
    }
    assert "= 1" in told(capsys, home, "prompts", "show", "tea")
    assert "has no 'b'; it has 'q', 'a'" in failed(capsys, home, *add, "--force", *more[-2:-1], "b")
    text = tmp_path / "plain.txt"
    text.write_text("first\n\nsecond\n")
    ran(capsys, home, "prompts", "add", "plain", str(text))
    assert read_prompts(home, "set:plain") == ["first", "second"]
    assert "no column 'a'" in failed(
        capsys, home, "prompts", "add", "x", str(text), "--reference-column", "a"
    )
    found = ran(capsys, home, "prompts")["sets"]
    assert [(each["name"], each["prompts"]) for each in found] == [("plain", 2), ("tea", 1)]
    assert "add --yes" in failed(capsys, home, "prompts", "rm", "tea")
    assert ran(capsys, home, "prompts", "rm", "tea", "--yes")["removed"]
    assert "there are plain" in failed(capsys, home, "prompts", "rm", "tea", "--yes")
    with pytest.raises(UserError, match="no saved prompts 'tea'"):
        read_prompts(home, "set:tea")


def test_a_conversation_is_no_text_for_generate(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps({"prompt": [{"role": "user", "content": "Hi"}]}) + "\n")
    ran(capsys, home, "prompts", "add", "chat", str(file))
    with pytest.raises(UserError, match=r"--prompts set:chat: prompt 1 is a conversation"):
        read_prompts(home, "set:chat")


def test_a_split_is_saved_with_its_references(
    tuned_home: Home, tuned_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.data.dataset import open_dataset
    from engine.generate.prompt_files import read_prompt_rows

    table = open_dataset(tuned_home, "tiny").split("test")
    rows = read_prompt_rows(tuned_home, "tiny:test")
    assert [row["prompt"] for row in rows] == table["prompt"].to_pylist()
    assert [row["reference"] for row in rows] == table["completion"].to_pylist()
    error = failed(capsys, tuned_home, "prompts", "add", "x", "tiny:test", "--column", "line")
    assert "no text 'line'" in error
