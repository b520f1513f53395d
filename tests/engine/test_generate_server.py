"""The playground's worker and its client, with the tiny model: real processes, a real socket."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.generate.answer_all import generate_all
from engine.generate.client import GenerationClient
from engine.generate.columns import Column, base_column, column_for, run_column
from engine.generate.wire import log_path, socket_path
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.jobs.launch import create_run
from engine.recipe import Recipe
from tests.engine.training import Attempt

PROMPTS = ["red oak kettle 5", "blue clay lamp"]
SAMPLED = {"do_sample": True, "seed": 3, "temperature": 1.5}


@pytest.fixture(scope="module")
def second_run(tuned_home: Home, tiny_recipe: Callable[..., Recipe]) -> RunFolder:
    """Another adapter of the same base, with another rank; it learnt to write titles."""
    swapped = ["data.name=swapped", "data.prompt_column=content", "data.completion_column=title"]
    attempt = Attempt(tuned_home, tiny_recipe("lora.r=4", *swapped), "second")
    attempt.run()
    return attempt.folder


@pytest.fixture(scope="module")
def columns(tuned_run: RunFolder, second_run: RunFolder) -> list[Column]:
    tuned = run_column(tuned_run)
    return [base_column(tuned), tuned, run_column(second_run)]


@pytest.fixture(scope="module")
def keep(tuned_home: Home, columns: list[Column]) -> Any:
    """A viewer that stays for the whole module, so that torch is imported once."""
    loop = asyncio.new_event_loop()
    client = GenerationClient.start(tuned_home, columns)
    loop.run_until_complete(client.__aenter__())
    loop.run_until_complete(asyncio.wait_for(client.ready(), 120))
    yield client
    loop.run_until_complete(client.__aexit__())
    loop.close()


async def texts(stream: AsyncIterator[Any]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    async for chunk in stream:
        key = (chunk.column, chunk.prompt)
        found[key] = found.get(key, "") + chunk.text_delta
    return found


async def test_it_speaks_at_once_and_ends_with_its_last_viewer(
    tmp_path: Path, columns: list[Column]
) -> None:
    """In a home of its own: first status within a second, although torch takes many."""
    home = Home(tmp_path)
    heard: list[tuple[float, str]] = []
    began = time.monotonic()
    client = GenerationClient.start(
        home, columns[:1], lambda phase: heard.append((time.monotonic() - began, phase))
    )
    async with client, asyncio.timeout(60):
        while len(heard) < 2:
            await asyncio.sleep(0.01)
    assert heard[0][1] == "starting" and heard[0][0] < 1.0
    assert heard[1][1] in ("starting", "importing torch")
    async with asyncio.timeout(20):
        while socket_path(home).exists():
            await asyncio.sleep(0.02)


async def test_columns_of_one_base_stream_side_by_side(
    tuned_home: Home, columns: list[Column], keep: Any
) -> None:
    async with GenerationClient.start(tuned_home, columns) as client:
        chunks = [chunk async for chunk in client.generate(PROMPTS[0])]
    ends = {chunk.column: chunk for chunk in chunks if chunk.done}
    assert ends.keys() == {column.id for column in columns}
    for end in ends.values():
        assert end.stop_reason in ("eos", "length") and end.tokens is not None and end.seconds
    # Before the first column is done, others have begun.
    first_end = next(number for number, chunk in enumerate(chunks) if chunk.done)
    assert len({chunk.column for chunk in chunks[:first_end]}) > 1


@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["greedy", "seeded"])
async def test_mixed_batch_equals_each_alone(
    tuned_home: Home, columns: list[Column], keep: Any, sampling: dict[str, Any]
) -> None:
    async with GenerationClient.start(tuned_home, columns) as client:
        mixed = await texts(client.generate(PROMPTS, sampling))
        for column in columns:
            for index, prompt in enumerate(PROMPTS):
                seed = {"seed": sampling.get("seed", 0) + index}
                stream = client.generate(prompt, {**sampling, **seed}, [column.id])
                alone = await texts(stream)
                assert mixed[column.id, index] == alone[column.id, 0]
    assert len(set(mixed.values())) > 2, "the columns do not differ: nothing was tested"


async def test_same_seed_same_answer_other_seed_another(
    tuned_home: Home, columns: list[Column], keep: Any
) -> None:
    async with GenerationClient.start(tuned_home, columns[:1]) as client:
        answers = [
            await texts(client.generate(PROMPTS[0], {**SAMPLED, "seed": seed}))
            for seed in (1, 1, 2)
        ]
    assert answers[0] == answers[1] != answers[2]


async def test_greedy_base_equals_transformers(
    tuned_home: Home, columns: list[Column], keep: Any, tiny_model: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    async with GenerationClient.start(tuned_home, columns) as client:
        ours = await texts(client.generate(PROMPTS[0]))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    instruction = columns[0].recipe.format.instruction
    message = {"role": "user", "content": f"{instruction}\n\n{PROMPTS[0]}"}
    ids = tokenizer.apply_chat_template(
        [message], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        whole = model.generate(**ids, max_new_tokens=24, do_sample=False)[0]
    new = whole[ids["input_ids"].shape[1] :]
    assert ours["base", 0] == tokenizer.decode(new, skip_special_tokens=True)


async def test_cancel_ends_all_columns_and_the_next_prompt_works(
    tuned_home: Home, columns: list[Column], keep: Any
) -> None:
    long = {"max_new_tokens": 150, "do_sample": True, "temperature": 50.0}
    async with GenerationClient.start(tuned_home, columns) as client, asyncio.timeout(60):
        for _ in range(5):
            reasons, cancelled = [], False
            async for chunk in client.generate(PROMPTS * 2, long):
                if not cancelled:
                    cancelled = True
                    await client.cancel()
                if chunk.done:
                    reasons.append(chunk.stop_reason)
            assert len(reasons) == 12 and "cancelled" in reasons
            after = [chunk async for chunk in client.generate(PROMPTS[0], columns=["base"])]
            assert after[-1].stop_reason in ("eos", "length")


async def test_leaving_an_answer_early_cancels_it(
    tuned_home: Home, columns: list[Column], keep: Any
) -> None:
    long = {"max_new_tokens": 150, "do_sample": True, "temperature": 50.0}
    async with GenerationClient.start(tuned_home, columns) as client, asyncio.timeout(60):
        stream = client.generate(PROMPTS * 8, long)
        async for _ in stream:
            break
        await stream.aclose()
        assert await texts(client.generate(PROMPTS[0], columns=["base"]))


async def test_a_prompt_longer_than_the_context(
    tuned_home: Home, columns: list[Column], keep: Any
) -> None:
    async with GenerationClient.start(tuned_home, columns[:1]) as client:
        with pytest.raises(UserError, match=r"the prompt has [\d,]+ tokens, .* only 256"):
            await texts(client.generate("word " * 400))
        with pytest.raises(UserError, match="not loaded"):
            await texts(client.generate("x", columns=["nobody"]))
        assert await texts(client.generate(PROMPTS[0]))


async def test_a_worker_that_dies_is_said_so(tmp_path: Path, columns: list[Column]) -> None:
    home = Home(tmp_path)
    async with GenerationClient.start(home, columns[:1]) as client:
        await asyncio.wait_for(client.ready(), 120)
        pids = subprocess.check_output(
            ["pgrep", "-f", f"engine.generate.server {home.path}"], text=True
        )
        stream = client.generate(PROMPTS[0], {"max_new_tokens": 150})
        os.kill(int(pids.split()[0]), 9)
        with pytest.raises(UserError, match=r"the generation worker ended.*\.log"):
            await texts(stream)
    # And a new one is started for the next viewer.
    async with GenerationClient.start(home, columns[:1]) as client:
        assert client.phase
    log_path(home).unlink()


def test_commands_wait_for_all_answers(tuned_home: Home, columns: list[Column], keep: Any) -> None:
    answers = generate_all(tuned_home, columns, PROMPTS, {"max_new_tokens": 5})
    assert [(a["prompt"], a["column"]) for a in answers] == [
        (prompt, column.id) for prompt in PROMPTS for column in columns
    ]
    assert all(a["stop_reason"] and a["tokens"] <= 5 for a in answers)


def test_columns_by_name(
    tuned_home: Home, tuned_run: RunFolder, tiny_model: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    assert column_for(tuned_home, "tuned").adapter == str(tuned_run.adapter)
    bare = column_for(tuned_home, str(tiny_model))
    assert bare.adapter is None and bare.recipe.format.template == "chat"
    with pytest.raises(UserError, match="neither a run nor a model folder"):
        column_for(tuned_home, "nothing-of-the-kind")
    create_run(tuned_home, tiny_recipe(), "untrained")
    with pytest.raises(UserError, match="has saved nothing yet"):
        column_for(tuned_home, "untrained")


def test_the_client_imports_no_torch() -> None:
    code = (
        "import sys, engine.generate.client, engine.commands.generate, engine.commands.export\n"
        "import engine.generate.session, engine.generate.answer_all, engine.generate.formatted\n"
        "heavy = {'torch', 'transformers', 'datasets', 'trl', 'peft', 'pyarrow', 'tokenizers'}\n"
        "heavy |= {'httpx', 'llama_cpp'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
