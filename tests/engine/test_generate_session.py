"""A playground's session with the real worker: adapters, servers, mistakes, and cancelling."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.builtin import BUILTIN_BASE
from engine.generate.columns import Column, column_for
from engine.generate.session import Session
from engine.generate.wire import Chunk
from engine.home import Home, open_home
from engine.recipe import GenerateSection
from tests.bench.first_token import make_adapter
from tests.bench.same_answers import prompts
from tests.engine.servers import Asked, event, serving

GREEDY = GenerateSection(max_new_tokens=24)
SEEDED = GenerateSection(max_new_tokens=24, do_sample=True, temperature=1.4, seed=11)
LONG = GenerateSection(max_new_tokens=300, do_sample=True, temperature=30.0, top_k=0)
"""Nothing ends it early."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("session") / "home")


@pytest.fixture(scope="module")
def columns(home: Home, tmp_path_factory: pytest.TempPathFactory) -> list[Column]:
    """The built-in model and two adapters of it."""
    folder = tmp_path_factory.mktemp("adapters")
    recipe = column_for(home, BUILTIN_BASE).recipe.with_settings(["model.device=cpu"])
    found = [Column("base", "base", BUILTIN_BASE, None, recipe)]
    for seed, name in enumerate("ab"):
        adapter = make_adapter(BUILTIN_BASE, folder / name, seed)
        found.append(Column(name, name, BUILTIN_BASE, str(adapter), recipe))
    return found


@contextlib.asynccontextmanager
async def session(home: Home, columns: list[Column], **more: Any) -> AsyncIterator[Session]:
    async with asyncio.timeout(150), Session.open(home, columns, **more) as one:
        yield one


@pytest.fixture(scope="module", autouse=True)
def keep(home: Home, columns: list[Column]) -> Any:
    """A viewer that stays for the whole module, so that torch is imported once."""
    loop = asyncio.new_event_loop()
    one = Session.open(home, columns)
    loop.run_until_complete(one.__aenter__())
    loop.run_until_complete(asyncio.wait_for(one.ready(), 120))
    yield
    loop.run_until_complete(one.__aexit__(None, None, None))
    loop.close()


Ended = tuple[str, Chunk]


async def ask(
    one: Session, prompt: Any, sampling: dict[str, GenerateSection], **more: Any
) -> dict[str, Ended]:
    """Column -> (text, its end)."""
    texts: dict[str, str] = dict.fromkeys(sampling, "")
    ends: dict[str, Chunk] = {}
    async for chunk in one.ask(prompt, sampling, **more):
        assert chunk.column not in ends
        texts[chunk.column] += chunk.text_delta
        if chunk.done:
            ends[chunk.column] = chunk
    assert ends.keys() == sampling.keys()
    return {name: (texts[name], end) for name, end in ends.items()}


async def test_local_columns_and_servers_stream_together(
    home: Home, columns: list[Column], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    local_is_there = asyncio.Event()

    async def good(asked: Asked) -> None:
        await asked.begin()
        await asked.chunk(event("from "))
        await local_is_there.wait()  # they are under way at the same time
        await asked.chunk(event("afar") + event(None, "stop") + b"data: [DONE]\n\n")
        await asked.end()

    async def bad(asked: Asked) -> None:
        await asked.answer(500, b"")

    async with serving(good) as here, serving(bad) as there:
        near = column_for(home, f"{here.url}#good")
        broken = column_for(home, f"{there.url}#bad")
        everything = [*columns[:2], near, broken]
        async with session(home, everything) as one:
            order: list[Chunk] = []
            async for chunk in one.ask("oak lamp", {c.id: GREEDY for c in everything}):
                order.append(chunk)
                if chunk.column == "base":
                    local_is_there.set()
    ends = {chunk.column: chunk for chunk in order if chunk.done}
    assert ends["base"].stop_reason in ("eos", "length") and ends["a"].tokens
    assert ends[near.id].stop_reason == "eos" and ends[near.id].tokens == 2
    assert ends[broken.id].stop_reason == "error" and "failed (500)" in str(ends[broken.id].error)
    assert 0 < ends["base"].first_seconds <= ends["base"].seconds  # type: ignore[operator]


async def test_settings_of_one_column_do_not_reach_another(
    home: Home, columns: list[Column]
) -> None:
    mine = {
        "base": GREEDY,
        "a": SEEDED,
        "b": SEEDED.model_copy(update={"min_p": 0.3, "stop_strings": ["."], "seed": 5}),
    }
    texts = set()
    async with session(home, columns) as one:
        for index, prompt in enumerate(prompts(2, seed=31)):
            together = await ask(one, prompt, mine, index=index)
            again = await ask(one, prompt, mine, index=index)
            for name, settings in mine.items():
                alone = await ask(one, prompt, {name: settings}, index=index)
                assert alone[name][0] == together[name][0] == again[name][0]
                assert alone[name][1].stop_reason == together[name][1].stop_reason
                texts.add(together[name][0])
            assert "." not in together["b"][0]
    assert len(texts) > 4, "the columns do not differ: nothing was tested"


async def test_mistakes_of_one_column_are_its_own(
    home: Home, columns: list[Column], tiny_model: Path, tmp_path: Path
) -> None:
    foreign = make_adapter(str(tiny_model), tmp_path / "foreign", 3)
    stranger = Column("stranger", "stranger", BUILTIN_BASE, str(foreign), columns[0].recipe)
    short = column_for(home, str(tiny_model))  # a context of 256 tokens
    gone = Column("gone", "gone", BUILTIN_BASE, str(tmp_path / "gone"), columns[0].recipe)
    everything = [*columns, stranger, short, gone]
    sampling = dict.fromkeys((column.id for column in everything), GREEDY)
    async with session(home, everything) as one:
        found = await ask(one, "oak lamp " * 140, sampling)
        reasons = {name: end.stop_reason for name, (_, end) in found.items()}
        assert "is an adapter of another base model" in str(found["stranger"][1].error)
        assert "layers." in str(found["stranger"][1].error), "it says which layer"
        assert "cannot be read" in str(found["gone"][1].error)
        assert "the model's context only 256" in str(found[short.id][1].error)
        assert {reasons[name] for name in "ab"} | {reasons["base"]} <= {"eos", "length"}
        # Nothing of a refused adapter stays in the base.
        fresh = await ask(one, "oak lamp", {"base": GREEDY})
        assert found["base"][0] and fresh["base"][1].error is None
        assert (await ask(one, "oak lamp", {short.id: GREEDY}))[short.id][1].error is None


async def test_probabilities_come_on_demand(home: Home, columns: list[Column]) -> None:
    async with session(home, columns) as one:
        pieces: list[tuple[str, float]] = []
        text = ""
        async for chunk in one.ask("oak lamp", {"a": SEEDED}, probabilities=True):
            pieces += chunk.pieces or []
            text += chunk.text_delta
            tokens = chunk.tokens
        assert "".join(piece for piece, _ in pieces) == text and len(pieces) == tokens
        assert all(0 < odds <= 1 for _, odds in pieces)
        plain = [chunk async for chunk in one.ask("oak lamp", {"a": SEEDED})]
        assert "".join(chunk.text_delta for chunk in plain) == text
        assert all(chunk.pieces is None for chunk in plain)


async def test_a_conversation_goes_on(home: Home, columns: list[Column]) -> None:
    async with session(home, columns) as one:
        bare = await ask(one, "oak lamp", {"base": SEEDED})
        turn = [{"role": "user", "content": "oak lamp"}]
        assert (await ask(one, turn, {"base": SEEDED}))["base"][0] == bare["base"][0]
        turns = [
            *turn,
            {"role": "assistant", "content": bare["base"][0]},
            {"role": "user", "content": "and in red?"},
        ]
        more = await ask(one, turns, {"base": SEEDED})
        assert more["base"][1].error is None and more["base"][0] != bare["base"][0]
        told = [{"role": "system", "content": "Be brief."}, *turn]
        assert (await ask(one, told, {"base": SEEDED}))["base"][0] != bare["base"][0]
        ends_wrong = await ask(one, turns[:2], {"base": SEEDED, "a": SEEDED})
        assert "ends with the user's" in str(ends_wrong["base"][1].error)


@pytest.mark.slow
async def test_a_worker_that_dies_is_replaced(columns: list[Column], tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    async with session(home, columns[:1]) as one:
        await one.ready()
        for worker in workers(home):
            worker.kill()
        found = await ask(one, "oak lamp", {"base": LONG})
        assert "the generation worker ended" in str(found["base"][1].error)
        assert (await ask(one, "oak lamp", {"base": GREEDY}))["base"][1].error is None


def workers(home: Home) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE
        and process.cmdline()[-2:] == ["engine.generate.server", str(home.path)]
    ]


def zombies() -> set[psutil.Process]:
    return {p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE}


async def left_behind(others: set[psutil.Process]) -> set[psutil.Process]:
    """Zombies besides the others; one that has only just ended is waited for a moment later."""
    for _ in range(100):
        if not zombies() - others:
            break
        await asyncio.sleep(0.05)
    return zombies() - others


@pytest.mark.parametrize("count", [12, pytest.param(50, marks=pytest.mark.slow)])
async def test_cancellations_at_any_moment(home: Home, columns: list[Column], count: int) -> None:
    """While it loads, before the first token, and in the middle; by asking, and by leaving."""
    random_ = random.Random(7)
    sampling = dict.fromkeys((column.id for column in columns), LONG)
    others = zombies()
    seen: dict[str, int] = {"loading": 0, "before a token": 0, "mid-stream": 0}

    async def one_prompt(one: Session, prompt: str, got: list[Chunk]) -> None:
        async for chunk in one.ask(prompt, sampling):
            got.append(chunk)

    async with session(home, columns) as one:
        before = await ask(one, "oak lamp", dict.fromkeys(sampling, GREEDY))
        (worker,) = workers(home)
        sizes = []
        for number in range(count):
            got: list[Chunk] = []
            kind = number % 3
            if kind == 0:
                await one.free()
            asking = asyncio.create_task(one_prompt(one, f"copper kettle {number}", got))
            if kind < 2:
                await asyncio.sleep(random_.uniform(0, (0.3, 0.02)[kind]))
            else:
                wanted = random_.randint(1, 60)
                while len(got) < wanted:
                    await asyncio.sleep(0.001)
            texts = any(chunk.text_delta for chunk in got)
            seen["mid-stream" if texts else "loading" if kind == 0 else "before a token"] += 1
            if number % 2:
                await one.cancel()
                await asking
                ends = {chunk.column: chunk.stop_reason for chunk in got if chunk.done}
                assert ends.keys() == sampling.keys() and "cancelled" in ends.values()
            else:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking
            if number >= count // 5:
                sizes.append(worker.memory_info().rss)
        after = await ask(one, "oak lamp", dict.fromkeys(sampling, GREEDY))
        assert {name: text for name, (text, _) in after.items()} == {
            name: text for name, (text, _) in before.items()
        }
        assert workers(home) == [worker]
    assert not await left_behind(others) and min(seen.values()) >= count // 6, seen
    grown = max(sizes[-10:]) - max(sizes[:10])
    print(
        f"cancelled {seen}; RSS {sizes[0] >> 20} MiB, then {sizes[-1] >> 20}, grown {grown >> 20}"
    )
    assert grown < 64 << 20, [size >> 20 for size in sizes]
