"""The worker's manners with models that load as a test wants: the real server, socket and client.

Only torch is left out, so that loading can be held up, refused, and watched.
"""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.builtin import BUILTIN_BASE
from engine.errors import NeedsConsent, UserError
from engine.generate import preparation, room
from engine.generate.client import GenerationClient
from engine.generate.columns import Column, column_for
from engine.generate.room import ask_leave, bytes_needed, check_room
from engine.generate.server import Server
from engine.generate.session import Session
from engine.generate.wire import Chunk, socket_path
from engine.home import Home, open_home
from engine.jobs.leases import Device
from engine.recipe import GenerateSection

SETTINGS = GenerateSection(max_new_tokens=5)


@dataclass
class Voice:
    column: Column
    base: object = field(default_factory=object)


class Models:
    """What ``engine.generate.models`` is to the server."""

    def __init__(self) -> None:
        self.loading: Callable[[Column, bool], None] = lambda column, allow: None
        self.loaded: list[str] = []
        self.freed = 0

    def voice(self, column: Column, *, used: Any, allow_beside_training: bool) -> Voice:
        self.loading(column, allow_beside_training)
        self.loaded.append(column.id)
        return Voice(column)

    def free(self) -> bool:
        self.freed += 1
        return bool(self.loaded)


class Cancelled:
    requested = False
    request: Any = None


@dataclass(frozen=True)
class Row:
    voice: Voice
    prompt_index: int


class Answering:
    """And ``engine.generate.answering``: echoes the prompt, word by word."""

    Cancelled = Cancelled

    def __init__(self) -> None:
        self.step: Callable[[], None] = lambda: None
        self.settings: dict[str, GenerateSection] = {}

    def answer(
        self, voices: Any, prompts: Any, settings: Any, emit: Any, cancelled: Any, **more: Any
    ) -> None:
        self.settings = settings
        for index, prompt in zip(more["indices"], prompts, strict=True):
            for voice in voices:
                reason = "eos"
                for word in str(prompt).split():
                    self.step()
                    if cancelled.requested:
                        reason = "cancelled"
                        break
                    emit(Row(voice, index), word, None, None)
                end = {"stop_reason": reason, "tokens": 1, "seconds": 0.1, "first_seconds": 0.05}
                emit(Row(voice, index), "", end, None)

    def notes(self, voices: Any) -> list[str]:
        return ["a note"]

    def warm_up(self, voices: Any) -> None:
        pass


@dataclass
class Fake:
    home: Home
    models: Models
    answering: Answering
    ended: threading.Event
    server: Server


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A worker in threads of this process."""
    home = open_home(tmp_path / "home")
    models, answering, ended = Models(), Answering(), threading.Event()
    monkeypatch.setattr(preparation, "prepare", lambda home, tell: (answering, models))

    class InThreads(Server):
        def _exit(self) -> None:
            self.path.unlink()
            self.listener.close()
            ended.set()
            raise SystemExit

    path = socket_path(home)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    server = InThreads(listener, path)

    def serve() -> None:
        with contextlib.suppress(SystemExit):
            server.serve()

    threading.Thread(target=serve, daemon=True).start()
    threading.Thread(target=server.work, args=(home,), daemon=True).start()
    yield Fake(home, models, answering, ended, server)
    models.loading, answering.step = lambda column, allow: None, lambda: None


def columns(home: Home, *names: str) -> list[Column]:
    recipe = column_for(home, BUILTIN_BASE).recipe
    return [Column(name, name, BUILTIN_BASE, None, recipe) for name in names]


@contextlib.asynccontextmanager
async def session(fake: Fake, *names: str, **more: Any) -> AsyncIterator[Session]:
    async with (
        asyncio.timeout(30),
        Session.open(fake.home, columns(fake.home, *names), **more) as s,
    ):
        yield s


async def ends(session: Session, prompt: str = "one two", **more: Any) -> dict[str, Chunk]:
    settings = dict.fromkeys(session.columns, SETTINGS)
    return {c.column: c async for c in session.ask(prompt, settings, **more) if c.done}


# ---- loading --------------------------------------------------------------------------------


async def test_a_column_that_cannot_be_loaded_ends_alone_and_is_tried_again(fake: Fake) -> None:
    broken = [True]

    def loading(column: Column, allow: bool) -> None:
        if column.id == "b" and broken[0]:
            raise UserError("b: there is no such file")
        if column.id == "c" and broken[0]:
            raise RuntimeError("weights of another kind")

    fake.models.loading = loading
    async with session(fake, "a", "b", "c") as one:
        found = await ends(one)
        assert found["a"].stop_reason == "eos" and found["a"].first_seconds == 0.05
        assert (found["b"].stop_reason, found["b"].error) == ("error", "b: there is no such file")
        assert found["c"].error == "c: RuntimeError: weights of another kind"
        assert one.notes == ["a note"]
        with pytest.raises(UserError, match="no such file"):
            await one.ready()
        broken[0] = False
        assert {end.stop_reason for end in (await ends(one)).values()} == {"eos"}
        assert fake.models.loaded == ["a", "b", "c"], "what is there is not loaded again"
        with pytest.raises(UserError, match="column 'x' is not in this session"):
            await anext(one.ask("x", {"x": SETTINGS}))


async def test_nothing_is_loaded_beside_a_training_run_without_consent(fake: Fake) -> None:
    def loading(column: Column, allow: bool) -> None:
        if not allow:
            raise NeedsConsent("run demo is training on GPU 0")

    fake.models.loading = loading
    async with session(fake, "a") as one:
        with pytest.raises(NeedsConsent, match="run demo is training"):
            await one.ready()
        end = (await ends(one))["a"]
        assert end.needs_consent and end.error == "run demo is training on GPU 0"
        assert fake.models.loaded == []
        one.allow_beside_training = True
        assert (await ends(one))["a"].stop_reason == "eos"


def test_the_command_asks_for_consent_too(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    def loading(column: Column, allow: bool) -> None:
        if not allow:
            raise NeedsConsent("run demo is training on GPU 0")

    fake.models.loading = loading
    words = ["generate", BUILTIN_BASE, "--prompt", "one two", "--home", str(fake.home.path)]
    out = fake.home.path / "out.jsonl"
    stays = ["--stay"]
    fake.server.stay_seconds = 60.0  # it would end with its first viewer
    for more in ([], ["--out", str(out)]):
        assert cli.main([*words, *more, *stays]) == 2
        assert "training on GPU 0; --now answers all the same" in capsys.readouterr().err
    assert cli.main([*words, "--now", *stays]) == 0
    assert "onetwo" in capsys.readouterr().out
    assert cli.main([*words, "--now", *stays, "--out", str(out)]) == 0
    assert '"stop_reason": "eos"' in out.read_text()


async def test_each_column_has_its_own_settings(fake: Fake) -> None:
    async with session(fake, "a", "b") as one:
        mine = {"a": SETTINGS, "b": GenerateSection(do_sample=True, min_p=0.2, stop_strings=["x"])}
        assert {c.prompt async for c in one.ask("one", mine, index=7)} == {7}
        assert fake.answering.settings == mine


async def test_more_columns_come_while_the_session_is_open(fake: Fake) -> None:
    async with session(fake, "a") as one:
        await ends(one)
        await one.add(columns(fake.home, "a", "b"))
        assert (await ends(one)).keys() == {"a", "b"}
    assert fake.models.loaded == ["a", "b"]


# ---- giving memory back, and ending -----------------------------------------------------------


async def test_memory_is_given_back_when_told_and_the_next_prompt_loads_again(fake: Fake) -> None:
    said: list[str] = []
    async with session(fake, "a", on_status=lambda column, words: said.append(words)) as one:
        await ends(one)
        await one.free()
        assert fake.models.freed == 1 and "memory given back" in said
        assert (await ends(one))["a"].stop_reason == "eos"
        assert fake.models.loaded == ["a", "a"]


async def test_memory_is_given_back_after_a_rest(fake: Fake) -> None:
    said: list[str] = []
    rested = asyncio.Event()

    def heard(column: str | None, words: str) -> None:
        said.append(words)
        if "of rest" in words:
            rested.set()

    async with session(fake, "a", on_status=heard, idle_seconds=0.2) as one:
        await ends(one)
        await asyncio.wait_for(rested.wait(), 10)
        assert fake.models.freed >= 1 and not fake.ended.is_set()
        assert (await ends(one))["a"].stop_reason == "eos"
        assert fake.models.loaded == ["a", "a"]


async def test_it_ends_with_its_last_viewer_unless_told_to_stay(fake: Fake) -> None:
    async with session(fake, "a") as one:
        await ends(one)
        await one.stay(3600)
    async with session(fake, "a") as one:
        assert (await ends(one))["a"].stop_reason == "eos"
        assert not fake.ended.is_set()
        await one.stay(0)
    assert await asyncio.to_thread(fake.ended.wait, 10)


async def test_after_a_worker_that_is_gone_the_next_prompt_finds_another(fake: Fake) -> None:
    go = threading.Event()

    def held_up() -> None:
        assert go.wait(20)

    fake.server.stay_seconds = 60.0
    async with session(fake, "a") as one:
        await one.ready()
        fake.answering.step = held_up
        asking = asyncio.create_task(ends(one))
        await asyncio.sleep(0.1)
        for viewer in list(fake.server.viewers):
            viewer.connection.shutdown(socket.SHUT_RDWR)
        end = (await asking)["a"]
        assert end.stop_reason == "error" and "the generation worker ended" in str(end.error)
        go.set()
        assert (await ends(one))["a"].stop_reason == "eos"


# ---- cancelling -------------------------------------------------------------------------------


async def test_cancelling_while_it_loads_ends_the_answers_at_once(fake: Fake) -> None:
    go, loading = threading.Event(), threading.Event()

    def held_up(column: Column, allow: bool) -> None:
        loading.set()
        assert go.wait(20)

    fake.models.loading = held_up
    async with session(fake, "a", "b") as one:
        asking = asyncio.create_task(ends(one))
        assert await asyncio.to_thread(loading.wait, 10)
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await one.cancel()
        found = await asking
        assert asyncio.get_running_loop().time() - began < 1.0
        assert {end.stop_reason for end in found.values()} == {"cancelled"}
        again = asyncio.create_task(ends(one))
        go.set()
        assert {end.stop_reason for end in (await again).values()} == {"eos"}


async def test_cancelling_in_the_middle_and_leaving(fake: Fake) -> None:
    step, stepped = threading.Semaphore(0), threading.Semaphore(0)

    def turn() -> None:
        stepped.release()
        assert step.acquire(timeout=20)

    fake.answering.step = turn
    async with session(fake, "a") as one:
        settings = {"a": SETTINGS}
        seen = []
        step.release()
        async for chunk in one.ask("one two three four", settings):
            seen.append(chunk)
            if len(seen) == 1:
                await one.cancel()
                await asyncio.sleep(0.1)  # the message is on its way
                step.release(9)
        assert seen[-1].stop_reason == "cancelled" and len(seen) < 5
        for _ in range(20):
            step.acquire(blocking=False)
        leaving = one.ask("one two three four", settings)
        step.release()
        assert (await anext(leaving)).text_delta == "one"
        await leaving.aclose()
        step.release(99)
        assert (await ends(one))["a"].stop_reason == "eos"


async def test_prompts_are_cancelled_for_whoever_asked_them_only(fake: Fake) -> None:
    go = threading.Event()

    def held_up() -> None:
        assert go.wait(20)

    fake.answering.step = held_up
    async with (
        GenerationClient.start(fake.home, columns(fake.home, "a")) as one,
        GenerationClient.start(fake.home, columns(fake.home, "a")) as other,
    ):
        await one.ready()
        await other.ready()

        async def reasons(client: GenerationClient) -> list[str | None]:
            return [c.stop_reason async for c in client.generate(["x y", "z"]) if c.done]

        first, second = (asyncio.create_task(reasons(c)) for c in (one, other))
        await asyncio.sleep(0.1)
        await one.cancel()
        await asyncio.sleep(0.1)
        go.set()
        assert await first == ["cancelled", "cancelled"]
        assert await second == ["eos", "eos"]


# ---- room -------------------------------------------------------------------------------------


def test_how_much_a_model_takes(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    recipe = column_for(home, BUILTIN_BASE).recipe
    from engine.builtin import model_path

    stored = (Path(model_path(BUILTIN_BASE)) / "model.safetensors").stat().st_size
    whole = bytes_needed(recipe, "float32")
    assert whole is not None
    half = bytes_needed(recipe, "bfloat16")
    packed = bytes_needed(recipe.with_settings(["model.load_in_4bit=true"]), "bfloat16")
    assert half is not None and packed is not None
    assert packed < half < whole and abs(whole / half - 2) < 0.01
    assert any(abs(stored * times * 1.05 / whole - 1) < 0.05 for times in (1, 2)), (stored, whole)
    assert bytes_needed(column_for(home, "some/model").recipe, "bfloat16") is None
    check_room("some/model", 5 << 30, 5 << 30, "cuda:0")
    with pytest.raises(
        UserError, match=r"some/model needs about 5\.0 GiB .* GPU has 4\.0 GiB free"
    ):
        check_room("some/model", 5 << 30, 4 << 30, "cuda:0")


def test_a_run_that_trains_on_the_gpu_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import json

    home = open_home(tmp_path)
    monkeypatch.setattr(room, "devices", lambda visible: [Device("GPU-1", "GPU 0")])
    ask_leave(home, "cuda:0")  # nobody ever took it
    leases = home.queue / "leases"
    leases.mkdir()
    (leases / "GPU-1").write_text(json.dumps({"run": "r1", "name": "demo"}))
    run = home.runs / "r1"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"id": "r1", "name": "demo"}))
    ask_leave(home, "cuda:0")  # it is over
    lock = os.open(run / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(NeedsConsent, match=r"run demo is training on GPU 0: .* may need"):
            ask_leave(home, "cuda:0")
        ask_leave(home, "cuda:1")
        ask_leave(home, "cpu")
    finally:
        os.close(lock)
