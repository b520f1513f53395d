"""``generate --prompts FILE --out FILE``: every answer once, whatever interrupts it."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.errors import UserError
from engine.generate.answer_file import AnswerFile
from engine.generate.client import GenerationClient
from engine.generate.columns import Column, column_for
from engine.generate.prompt_files import read_prompts
from engine.home import Home, open_home
from engine.recipe import GenerateSection
from tests.bench.same_answers import prompts

SETTINGS = ["--set", "generate.max_new_tokens=40", "--set", "generate.do_sample=true"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """With a viewer that stays, so that torch is imported once."""
    home = open_home(tmp_path_factory.mktemp("file") / "home")
    loop = asyncio.new_event_loop()
    client = GenerationClient.start(home, [column_for(home, "builtin:base")])
    loop.run_until_complete(client.__aenter__())
    loop.run_until_complete(asyncio.wait_for(client.ready(), 120))
    yield home
    loop.run_until_complete(client.__aexit__())
    loop.close()


def command(home: Home, source: Path, out: Path, *more: str) -> list[str]:
    words = ["generate", "builtin:base", "--prompts", str(source), "--out", str(out)]
    return [*words, "--home", str(home.path), "--json", *SETTINGS, *more]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def test_three_interruptions_lose_and_repeat_nothing(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = prompts(400, seed=1)
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert cli.main(command(home, source, whole)) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["answers"], said["new"]) == (400, 400)

    held = 0
    for _ in range(3):
        worker = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", *command(home, source, out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not out.exists() or out.read_bytes().count(b"\n") < held + 40:
            assert worker.poll() is None and time.monotonic() < deadline, worker.communicate()
            time.sleep(0.005)
        worker.send_signal(signal.SIGINT)
        _, errors = worker.communicate(timeout=30)
        assert worker.returncode == 130 and "the same command goes on with it" in errors
        before, held = held, out.read_bytes().count(b"\n")
        assert before < held < 400
        with out.open("ab") as file:
            file.write(b'{"index": 7, "colu')  # as a machine leaves it that loses its power
    assert cli.main(command(home, source, out)) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["answers"], said["new"]) == (400, 400 - held)
    assert lines(out) == lines(whole)
    assert [line["index"] for line in lines(out)] == list(range(400))
    assert [line["prompt"] for line in lines(out)] == texts
    assert cli.main(command(home, source, out)) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 0


def test_the_file_says_what_it_is_not(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("Oak bench\n\nCopper kettle\n")
    assert cli.main(command(home, source, out)) == 0
    before = out.read_bytes()
    for words, more in (
        ("answered with other settings", ["--set", "generate.seed=3"]),
        ("is by 'builtin:base'", []),
        ("answers another prompt", []),
        ("answers a prompt that is not among these", []),
    ):
        call = command(home, source, out, *more)
        if "is by" in words:
            call[1] = str(Path(cli.__file__).parent / "demo" / "base")
        if "another" in words:
            source.write_text("Pine bench\nCopper kettle\n")
        if "not among" in words:
            source.write_text("Oak bench\n")
        assert cli.main(call) == 1
        error = capsys.readouterr().err
        assert words in error and "out.jsonl: line " in error
        assert out.read_bytes() == before
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes, without an end of line")
    assert cli.main(command(home, source, notes)) == 1
    assert "line 1 is no answer of tunebench generate" in capsys.readouterr().err
    assert notes.read_text() == "my notes, without an end of line"


@pytest.fixture
def column(tmp_path: Path) -> Column:
    return column_for(open_home(tmp_path / "home"), "builtin:base")


def test_answers_in_any_order_end_in_order(tmp_path: Path, column: Column) -> None:
    out, texts = tmp_path / "out.jsonl", ["a", "b", "c\ud800\u2028"]
    two = [column, Column("other", "other", column.model_name_or_path, None, column.recipe)]
    with AnswerFile(out, texts, two, GenerateSection()) as file:
        for index, name in ((2, "other"), (0, "builtin:base"), (2, "builtin:base"), (0, "other")):
            file.add(index, name, f"{name} {index}", 3, "eos")
        with pytest.raises(UserError, match="another tunebench is writing it"):
            AnswerFile(out, texts, two, GenerateSection()).__enter__()
    with AnswerFile(out, texts, two, GenerateSection()) as file:
        assert file.missing("other") == file.missing("builtin:base") == [1]
        for name in ("other", "builtin:base"):
            file.add(1, name, f"{name} 1", 3, "length")
        file.put_in_order()
    assert [(line["index"], line["text"]) for line in lines(out)] == [
        (index, f"{name} {index}") for index in range(3) for name in ("builtin:base", "other")
    ]
    with AnswerFile(out, texts, two, GenerateSection()) as file:
        assert file.missing("other") == []


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("a.txt", "one\n\n two \u2028x\n", ["one", " two \u2028x"]),
        ("a.jsonl", '{"prompt": "one"}\n"two"\n\n', ["one", "two"]),
        ("a.jsonl", '{"prompt": "one"}\n{"title": "two"}\n', "line 2 has no 'prompt'; it has 'ti"),
        ("a.jsonl", '{"prompt": 3}\n', "line 1: 'prompt' is no text"),
        ("a.jsonl", '"one"\n{"prom\n', "line 2 is no JSON"),
    ],
)
def test_prompts_from_files(tmp_path: Path, name: str, text: str, want: Any) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    if isinstance(want, list):
        assert read_prompts(open_home(tmp_path), str(path)) == want
    else:
        with pytest.raises(UserError, match=want):
            read_prompts(open_home(tmp_path), str(path))


def test_prompts_from_a_dataset(tuned_home: Home, tuned_run: Any) -> None:
    from engine.data.dataset import open_dataset

    table = open_dataset(tuned_home, "tiny").split("test")
    assert read_prompts(tuned_home, "tiny:test") == table["prompt"].to_pylist() != []
    assert read_prompts(tuned_home, "tiny:test", "completion") == table["completion"].to_pylist()
    with pytest.raises(UserError, match=r"tiny:test: its rows have no text 'line'; they have line"):
        read_prompts(tuned_home, "tiny:test", "line")
    with pytest.raises(UserError, match=r"cannot be read .*DATASET:SPLIT"):
        read_prompts(tuned_home, "nothing.txt")
