"""``generate`` with servers, system messages and prompts that cannot be answered."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.generate.columns import column_for
from engine.generate.session import Session
from engine.home import Home, open_home
from tests.engine.servers import Asked, Server, serving, told

SETTINGS = ["--set", "generate.max_new_tokens=8"]


class Served:
    """A server in a thread of its own: the command has its own event loop."""

    def __init__(self, handler: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.stop = asyncio.Event()
        ready = threading.Event()
        self.server: Server

        async def serve() -> None:
            async with serving(handler) as self.server:
                ready.set()
                await self.stop.wait()

        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(serve(),))
        self.thread.start()
        assert ready.wait(10)

    def __enter__(self) -> Server:
        return self.server

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """With a viewer that stays, so that torch is imported once."""
    home = open_home(tmp_path_factory.mktemp("command") / "home")
    loop = asyncio.new_event_loop()
    one = Session.open(home, [column_for(home, "builtin:base")], warm_up=False)
    loop.run_until_complete(one.__aenter__())
    loop.run_until_complete(asyncio.wait_for(one.ready(), 120))
    yield home
    loop.run_until_complete(one.__aexit__(None, None, None))
    loop.close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def call(home: Home, *words: str) -> int:
    return cli.main(["generate", *words, "--home", str(home.path), *SETTINGS])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def test_a_prompt_that_is_too_long_is_one_failed_line(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("Oak bench\n" + "Oak bench " * 400 + "\nCopper kettle\n")
    words = ["builtin:base", "--prompts", str(source)]
    for _ in range(2):  # the second time it is asked again, the others are not
        assert call(home, *words, "--out", str(out), "--json") == 1
        said, errors = capsys.readouterr()
        document = json.loads(said)
        assert document["answers"] == 2 and len(document["failed"]) == 1
        assert document["failed"][0]["prompt"] == 2
        assert re.search("tunebench: prompt 2 by builtin:base: (the prompt|prompt 2) has", errors)
        found = lines(out)
        assert [line["index"] for line in found] == [0, 1, 2]
        assert [line["stop_reason"] == "error" for line in found] == [False, True, False]
        assert "context only 512" in found[1]["error"] and found[1]["text"] == ""
    assert document["new"] == 0
    source.write_text("Oak bench\nOak\nCopper kettle\n")
    assert call(home, *words, "--out", str(out)) == 1
    assert "answers another prompt" in capsys.readouterr().err
    source.write_text("Oak bench\n" + "Oak bench " * 400 + "\nCopper kettle\n")
    assert call(home, *words) == 1
    said, errors = capsys.readouterr()
    assert said.count("[builtin:base]") == 3 and "[builtin:base] failed: prompt 2 has" in said
    assert "tunebench: prompt 2 by builtin:base" in errors


def test_a_server_beside_a_model_of_ours_into_a_file(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"prompt {number}\n" for number in range(12)))
    failing = {"prompt 3", "prompt 7"}
    most = at_once = 0

    async def handler(asked: Asked) -> None:
        nonlocal most, at_once
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        prompt = asked.body["messages"][-1]["content"]
        if prompt in failing:
            await asked.answer(500, told("not now"))
        else:
            await asked.say("re: ", prompt, usage=4)

    with Served(handler) as server:
        words = ["builtin:base", f"{server.url}#m", "--prompts", str(source), "--out", str(out)]
        assert call(home, *words) == 1
        errors = capsys.readouterr().err
        assert "prompt 4 by m at 127.0.0.1" in errors and "not now" in errors
        assert 1 < most <= 4
        assert server.asked[0].body["max_tokens"] == 8
        before = len(server.asked)
        failing.clear()
        assert call(home, *words, "--json") == 0
        assert len(server.asked) == before + 2, "only what had failed is asked again"
        document = json.loads(capsys.readouterr().out)
        assert (document["answers"], document["new"], document["failed"]) == (24, 2, [])
    found = lines(out)
    assert [line["index"] for line in found] == [number for number in range(12) for _ in "ab"]
    assert [line["text"] for line in found[1::2]] == [f"re: prompt {n}" for n in range(12)]
    assert all(line["tokens"] == 4 and "error" not in line for line in found[1::2])


def test_a_server_that_always_fails_is_not_asked_for_ever(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"prompt {number}\n" for number in range(200)))
    with Served(lambda asked: asked.answer(401)) as server:
        assert call(home, f"{server.url}#m", "--prompts", str(source), "--out", str(out)) == 1
        assert len(server.asked) < 30
    assert "... and 190 more" in capsys.readouterr().err
    assert len(lines(out)) == 200 and "not asked" in lines(out)[-1]["error"]


def test_a_system_message_goes_before_every_prompt(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    with Served(lambda asked: asked.say("ok")) as server:
        words = [f"{server.url}#m", "--prompt", "Hi", "--system", "Be brief."]
        assert call(home, *words) == 0
        assert server.asked[0].body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]
        assert call(home, *words, "--out", str(out)) == 0
        assert call(home, *words[:-2], "--out", str(out)) == 1
        assert "answered with other settings" in capsys.readouterr().err
        assert call(home, *words, "--base") == 2
        assert "its base model is not known" in capsys.readouterr().err


def test_stop_strings_by_command(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["builtin:base", "--prompt", "Oak bench", "--json"]
    assert call(home, *words) == 0
    (whole,) = json.loads(capsys.readouterr().out)["answers"]
    stop = whole["text"][3:6]
    assert call(home, *words, "--set", f"generate.stop_strings={json.dumps([stop])}") == 0
    (cut,) = json.loads(capsys.readouterr().out)["answers"]
    assert cut["stop_reason"] == "stop" and cut["text"] == whole["text"].partition(stop)[0]
