"""Columns of OpenAI-compatible servers: what they are sent, and every way in which they fail."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.generate import endpoint as endpoint_module
from engine.generate.address import Endpoint, endpoint_of
from engine.generate.columns import Column, column_for
from engine.generate.endpoint import EndpointClient
from engine.generate.wire import Chunk
from engine.home import Home
from engine.recipe import GenerateSection
from tests.engine.servers import Asked, event, serving, told

GREEDY = GenerateSection(max_new_tokens=9)
SECRET = "sk-very-secret-0123456789"
"""No log, error or file may have it."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield


def column(url: str, model: str = "m", key: str = "") -> Column:
    return column_for(Home(Path("/nowhere")), f"{url}#{model}" + (f" key={key}" if key else ""))


async def ask(
    url: str,
    prompt: Any = "Hi",
    sampling: GenerateSection = GREEDY,
    *,
    key: str = "",
    said: list[str] | None = None,
    silent_seconds: float = 5.0,
    **more: Any,
) -> list[Chunk]:
    """All chunks of one answer; the last one is its end."""
    words: list[str] = said if said is not None else []
    client = EndpointClient(column(url, key=key), words.append, silent_seconds=silent_seconds)
    try:
        async with asyncio.timeout(20):
            chunks = [chunk async for chunk in client.ask(prompt, sampling, **more)]
    finally:
        await client.close()
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert not any(SECRET in str(one) for one in [*chunks, *words])
    return chunks


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text_delta for chunk in chunks)


# ---- what is sent ---------------------------------------------------------------------------


async def test_a_good_answer_streams() -> None:
    first = asyncio.Event()

    async def handler(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(b": a comment\n\nevent: x\n" + event("He"))
        await first.wait()
        for piece in (event("llo"), event(" wörld")):
            await asked.chunk(piece[:20])  # lines come in parts
            await asked.chunk(piece[20:])
        await asked.chunk(event(None, "length") + b"data: [DONE]\n\n")
        await asked.end()

    async with serving(handler) as server:
        client = EndpointClient(column(server.url, "org/model:7b"))
        chunks = []
        async for chunk in client.ask("Hi", GREEDY, index=4):
            chunks.append(chunk)
            first.set()
        await client.close()
    assert [chunk.text_delta for chunk in chunks] == ["He", "llo", " wörld", ""]
    end = chunks[-1]
    assert (end.stop_reason, end.tokens, end.error, end.prompt) == ("length", 3, None, 4)
    assert end.first_seconds is not None and end.seconds is not None
    assert 0 < end.first_seconds <= end.seconds
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "org/model:7b",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.0,
        "seed": 4,
    }
    assert "authorization" not in asked.headers and "cookie" not in asked.headers


async def test_settings_and_turns_are_sent_under_openais_names() -> None:
    async with serving(lambda asked: asked.say("a", "b", usage=7)) as server:
        turns = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi\u2028<|eot_id|> שלום"},
        ]
        sampling = GenerateSection(
            do_sample=True, temperature=0.5, top_p=0.8, stop_strings=["\n", "x"], seed=2**32 - 1
        )
        chunks = await ask(server.url, turns, sampling, index=1)
        other = {"top_k": 7, "min_p": 0.1, "repetition_penalty": 1.2}
        await ask(server.url, turns, sampling.model_copy(update=other))
    body = server.asked[0].body
    assert body["messages"] == turns and body["seed"] == 0
    assert (body["temperature"], body["top_p"], body["stop"]) == (0.5, 0.8, ["\n", "x"])
    assert not body.keys() & other.keys()
    assert {name: server.asked[1].body[name] for name in other} == other
    assert chunks[-1].tokens == 7, "the server's own count"


async def test_the_key_comes_from_the_named_variable_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    async def echo(asked: Asked) -> None:
        if asked.headers.get("authorization") != f"Bearer {SECRET}":
            await asked.answer(401, told("no key"))
        else:
            await asked.answer(403, told(f"{SECRET} may not"))

    async with serving(echo) as server:
        unasked = await ask(server.url)
        named = await ask(server.url, key="OPENAI_API_KEY")
        monkeypatch.setenv("EMPTY", "")
        unset = await ask(server.url, key="EMPTY")
        monkeypatch.setenv("ODD", f"{SECRET}\nX-Injected: 1")
        odd = await ask(server.url, key="ODD")
    assert "authorization" not in server.asked[0].headers
    assert "wants a key (401): name the variable" in str(unasked[-1].error)
    assert "forbids it (403)" in str(named[-1].error) and "… may not" in str(named[-1].error)
    assert "variable EMPTY, which is to hold the key, is not set" in str(unset[-1].error)
    assert "what $ODD holds cannot be a key" in str(odd[-1].error)
    assert len(server.asked) == 2, "without its key nothing is sent"
    assert SECRET not in repr(column(server.url, key="OPENAI_API_KEY"))


# ---- faults ---------------------------------------------------------------------------------

REFUSALS = [
    (401, told("bad key"), "wants a key (401)"),
    (403, b"", "forbids it (403): the key or the account may not use m"),
    (404, told("The model `m` does not exist"), "has no model m, or no OpenAI-compatible API"),
    (500, b"<html>Oops</html>", "failed (500); its log will say why"),
    (503, told("loading"), "failed (503); its log will say why (loading)"),
    (400, b'{"detail": [{"msg": "field required"}]}', "refuses the request (400) (field required)"),
]


@pytest.mark.parametrize(("status", "body", "words"), REFUSALS)
async def test_refusals(status: int, body: bytes, words: str) -> None:
    async with serving(lambda asked: asked.answer(status, body)) as server:
        (end,) = await ask(server.url)
    assert end.stop_reason == "error" and words in str(end.error)
    assert str(end.error).startswith("127.0.0.1:") and "<html>" not in str(end.error)


async def test_429_is_asked_once_more_after_a_short_wait_only() -> None:
    waits = iter(["0.05", "0.05", "3600", ""])

    async def handler(asked: Asked) -> None:
        await asked.answer(429, told("slow down"), Retry_After=next(waits))

    said: list[str] = []
    async with serving(handler) as server:
        (end,) = await ask(server.url, said=said)
        assert len(server.asked) == 2 and any("asks to wait 0 s" in words for words in said)
        assert "has enough for now (429); ask again in 0 s (slow down)" in str(end.error)
        (end,) = await ask(server.url)
        assert len(server.asked) == 3 and "ask again in 3600 s" in str(end.error)
        (end,) = await ask(server.url)
        assert "ask again later" in str(end.error)

    answers = iter([True, False])

    async def recovers(asked: Asked) -> None:
        if next(answers):
            await asked.answer(429, b"", Retry_After="0.05")
        else:
            await asked.say("fine")

    async with serving(recovers) as server:
        chunks = await ask(server.url)
    assert text(chunks) == "fine" and chunks[-1].stop_reason == "eos"


async def test_a_redirect_is_not_followed() -> None:
    async with serving(lambda asked: asked.say("stolen")) as other:

        async def away(asked: Asked) -> None:
            await asked.answer(307, b"", Location=f"{other.url}/chat/completions")

        async with serving(away) as server:
            (end,) = await ask(server.url)
    assert "is not followed" in str(end.error) and not other.asked


async def test_nobody_there() -> None:
    async with serving(lambda asked: asked.say("x")) as server:
        url = server.url
    (end,) = await ask(url)
    assert "nothing listens there (connection refused)" in str(end.error)
    (end,) = await ask("http://no-such-host.invalid/v1")
    assert "there is no host of that name" in str(end.error)
    async with serving(lambda asked: asked.say("x")) as server:
        (end,) = await ask(server.url.replace("http:", "https:"))
    assert "does not speak TLS" in str(end.error)


async def test_a_slow_server_is_given_up_and_a_cut_stream_keeps_its_text() -> None:
    async def silent(asked: Asked) -> None:
        await asyncio.sleep(30)

    async def stalls(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(event("so far"))
        await asyncio.sleep(30)

    async def cuts(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(event("so far"))

    async def no_end(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(event("so far"))
        await asked.end()

    async def closes(asked: Asked) -> None:
        asked.writer.close()

    for handler, words, shown in (
        (silent, "has said nothing for 1 s", ""),
        (stalls, "has said nothing more for 1 s", "so far"),
        (cuts, "cut the answer off before its end", "so far"),
        (no_end, "cut the answer off before its end", "so far"),
        (closes, "ended the connection without an answer", ""),
    ):
        async with serving(handler) as server:
            chunks = await ask(server.url, silent_seconds=0.6)
        assert words in str(chunks[-1].error) and text(chunks) == shown
        assert chunks[-1].stop_reason == "error" and chunks[-1].tokens == bool(shown)


NONSENSE = [
    b"<!DOCTYPE html><html>It works!</html>\n",
    b"data: {not json}\n\n",
    b"data: [1, 2]\n\n",
    b'data: {"hello": "world"}\n\n',
    b"data: " + b"[" * 100_000 + b"\n\n",
    b"\x00\xff\xfe\x1b[2J\n",
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
async def test_nonsense_instead_of_events(nonsense: bytes) -> None:
    async def handler(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(nonsense)
        await asked.end()

    async with serving(handler) as server:
        (end,) = await ask(server.url)
    assert "sends no answer but" in str(end.error)
    assert "an OpenAI-compatible server?" in str(end.error) and len(str(end.error)) < 250


async def test_lines_and_answers_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def line(asked: Asked) -> None:
        await asked.begin()
        for _ in range(40):
            await asked.chunk(b"data: " + b"a" * 65536)

    async with serving(line) as server:
        (end,) = await ask(server.url)
        assert "a line of more than 1 MiB" in str(end.error)

    async def forever(asked: Asked) -> None:
        await asked.begin()
        while not asked.writer.is_closing():
            await asked.chunk(event("a" * 10_000))

    monkeypatch.setattr(endpoint_module, "MOST_TEXT", 1 << 20)
    async with serving(forever) as server:
        chunks = await ask(server.url)
    assert "an answer of more than 1 Mi characters" in str(chunks[-1].error)
    assert len(text(chunks)) <= 1 << 20


async def test_the_server_gives_up_in_the_middle() -> None:
    async def handler(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(event("so far") + b"data: " + told("out of memory") + b"\n\n")
        await asked.end()

    async with serving(handler) as server:
        chunks = await ask(server.url)
    assert text(chunks) == "so far" and "gave up: out of memory" in str(chunks[-1].error)


# ---- servers that differ --------------------------------------------------------------------


async def test_what_a_server_does_not_know_is_left_out_or_said() -> None:
    unknown = {"stream_options", "logprobs", "seed", "max_tokens", "top_k"}
    instead = {"max_tokens": " (use max_completion_tokens)"}

    async def handler(asked: Asked) -> None:
        for name in unknown & asked.body.keys():
            await asked.answer(400, told(f"Unsupported parameter: {name}{instead.get(name, '')}"))
            return
        await asked.say("ok")

    said: list[str] = []
    async with serving(handler) as server:
        chunks = await ask(server.url, probabilities=True, said=said)
        assert text(chunks) == "ok" and chunks[0].pieces is None
        assert server.asked[-1].body["max_completion_tokens"] == 9
        assert any("knows no seed" in words for words in said)
        assert any("gives no token probabilities" in words for words in said)
        sampling = GenerateSection(do_sample=True, top_k=3)
        (end,) = await ask(server.url, "Hi", sampling)
    assert "does not know top_k: set it to 50 for this column" in str(end.error)


async def test_a_server_without_chat_is_given_the_bare_prompt() -> None:
    async def handler(asked: Asked) -> None:
        if asked.path.endswith("/chat/completions"):
            await asked.answer(400, told("no chat template for this model"))
            return
        await asked.begin()
        last = {"text": "!", "finish_reason": "stop", "logprobs": {}}
        last["logprobs"] = {"tokens": ["!"], "token_logprobs": [-0.5]}
        await asked.chunk(b'data: {"choices": [{"text": "raw"}]}\n\n')
        await asked.chunk(b"data: " + _json({"choices": [last]}) + b"\n\ndata: [DONE]\n\n")
        await asked.end()

    said: list[str] = []
    async with serving(handler) as server:
        chunks = await ask(server.url, "Once", said=said, probabilities=True)
        assert text(chunks) == "raw!" and any("has no chat" in words for words in said)
        assert server.asked[-1].body["prompt"] == "Once"
        (end,) = await ask(server.url, [{"role": "user", "content": "Once"}])
    assert "no chat template" in str(end.error), "a conversation is a chat or nothing"


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


async def test_a_server_that_does_not_stream() -> None:
    whole = {
        "choices": [{"message": {"content": "all at once"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 3},
    }
    async with serving(lambda asked: asked.answer(200, _json(whole))) as server:
        chunks = await ask(server.url)
    assert text(chunks) == "all at once" and chunks[-1].tokens == 3


async def test_stop_strings_are_never_shown_even_where_the_server_does_not_know_them() -> None:
    async def handler(asked: Asked) -> None:
        await asked.say("one\n", "Us", "er:", " two", "three")

    sampling = GREEDY.model_copy(update={"stop_strings": ["\nUser:"]})
    async with serving(handler) as server:
        chunks = await ask(server.url, "Hi", sampling)
    assert text(chunks) == "one" and chunks[-1].stop_reason == "stop"


async def test_token_probabilities() -> None:
    import math

    async def handler(asked: Asked) -> None:
        assert asked.body["logprobs"] is True
        await asked.begin()
        for word, odds in (("He", 0.9), ("llo", 0.25)):
            content = [{"token": word, "logprob": math.log(odds)}]
            await asked.chunk(event(word, logprobs={"content": content}))
        await asked.chunk(event(None, "stop") + b"data: [DONE]\n\n")
        await asked.end()

    async with serving(handler) as server:
        chunks = await ask(server.url, probabilities=True)
    pieces = [piece for chunk in chunks for piece in chunk.pieces or []]
    assert [word for word, _ in pieces] == ["He", "llo"]
    assert [round(odds, 6) for _, odds in pieces] == [0.9, 0.25]


async def test_leaving_ends_the_connection() -> None:
    async def handler(asked: Asked) -> None:
        await asked.begin()
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                await asked.chunk(event("word "))
                await asyncio.sleep(0.005)

    async with serving(handler) as server:
        client = EndpointClient(column(server.url))
        answers = client.ask("Hi", GREEDY)
        assert (await anext(answers)).text_delta == "word "
        await answers.aclose()
        async with asyncio.timeout(10):
            while server.open:
                await asyncio.sleep(0.01)
        await client.close()


# ---- addresses ------------------------------------------------------------------------------


def test_addresses() -> None:
    assert endpoint_of("https://a.b/v1/#gpt-x key=MY_KEY") == Endpoint(
        "https://a.b/v1", "gpt-x", "MY_KEY"
    )
    found = column_for(Home(Path("/nowhere")), "http://localhost:11434/v1#qwen3:4b")
    assert found.endpoint == Endpoint("http://localhost:11434/v1", "qwen3:4b")
    assert found.label == "qwen3:4b at localhost:11434" and endpoint_of(str(found.endpoint))
    for ref, words in {
        "ftp://a/v1#m": "only http:// and https://",
        "file:///etc/passwd#m": "only http:// and https://",
        "http://a/v1": "name a model behind it",
        "http:///v1#m": "names no host",
        "http://a:x/v1#m": "is no address",
        f"http://me:{SECRET}@a/v1#m": "has no user or password in it",
        f"http://a/v1?key={SECRET}#m": "leave out what comes behind the question mark",
        f"http://a/v1#m {SECRET}": "must be key=NAME",
        f"http://a/v1#m key={SECRET}": "must be key=NAME",
    }.items():
        with pytest.raises(UserError) as raised:
            column_for(Home(Path("/nowhere")), ref)
        assert words in str(raised.value) and SECRET not in str(raised.value)


# ---- a real one -----------------------------------------------------------------------------


async def test_transformers_serve(tiny_model: Path, tmp_path: Path) -> None:
    """Transformers' own OpenAI-compatible server, with the tiny model and its chat template."""
    for module in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(module, reason="the server needs it: pip install '.[dev]'")
    import socket

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "log").open("wb")
    command = ["serve", str(tiny_model), "--port", str(port), "--device", "cpu"]
    code = "from transformers.cli.transformers import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--host", "127.0.0.1"],
        stdout=log,
        stderr=log,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    try:
        deadline = time.monotonic() + 180
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            await asyncio.sleep(0.2)
        url = f"http://127.0.0.1:{port}/v1"
        client = EndpointClient(column(url, str(tiny_model)), silent_seconds=120)
        async with asyncio.timeout(200):
            chunks = [c async for c in client.ask("red oak lamp", GREEDY)]
            sampled = GenerateSection(max_new_tokens=9, do_sample=True, temperature=1.0, seed=3)
            again = [text([c async for c in client.ask("red oak lamp", sampled)]) for _ in range(2)]
        await client.close()
    finally:
        server.terminate()
        server.wait(20)
    assert chunks[-1].error is None, (chunks[-1].error, Path(log.name).read_text()[-3000:])
    assert chunks[-1].stop_reason in ("length", "eos") and chunks[-1].tokens
    assert again[0] == again[1]
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "red oak lamp"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        whole = model.generate(**ids, max_new_tokens=9, do_sample=False)[0]
    new = whole[ids["input_ids"].shape[1] :]
    assert text(chunks) == tokenizer.decode(new, skip_special_tokens=True)
