"""Base and two adapters from one copy of the weights: memory, speed, cancelling, and sameness.

    python -m tests.gpu.side_by_side --out results/ --model FOLDER                 one NVIDIA GPU
    python -m tests.gpu.side_by_side --out results/ --device cpu --model builtin:base --tokens 20

By the real worker, as the playground asks it: the base alone, one adapter alone, and base and two
adapters side by side, in 16 bits and in 4, each in a worker of its own. Memory is NVML's, of the
whole card (nobody else may use it) and of the worker's process, with CUDA's own. Then ``--cancels``
cancellations while models load, before a first token and in the middle, and what memory they left.
Last, in a process of its own, how many tokens of a mixed batch are those of each column alone, of
the model and of the built-in one. Writes ``side_by_side.json`` and ``side_by_side.md``.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.builtin import BUILTIN_BASE, model_path
from engine.generate.client import GenerationClient
from engine.generate.columns import Column, column_for
from engine.home import Home, open_home
from engine.system.gpu import read_gpus
from tests.bench.first_token import make_adapter

SETTLE_SECONDS = 15.0
"""Until a card's memory is where it was once a worker has ended."""
NEW_TOKENS = 48
PROMPTS = 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--model", default=BUILTIN_BASE)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--prompts", type=int, default=5, help="counted, after a first")
    parser.add_argument("--tokens", type=int, default=200, help="of each answer")
    parser.add_argument("--cancels", type=int, default=50)
    parser.add_argument("--bits", default="16,4", help="how weights are held, with commas")
    parser.add_argument("--same", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.same:
        args.same.write_text(json.dumps(same(args), indent=1))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    home = open_home(folder / "home")
    adapters = [make_adapter(args.model, folder / name, seed) for seed, name in enumerate("ab")]
    size = {
        "base": weights_bytes(model_path(args.model)),
        "adapters": sum(map(adapter_bytes, adapters)),
    }
    found: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "bytes": size}
    found["gpu"] = [gpu.name for gpu in read_gpus()]

    def keep() -> None:
        (args.out / "side_by_side.json").write_text(json.dumps(found, indent=1))
        (args.out / "side_by_side.md").write_text(table(found))

    found["sets"] = []
    for bits in args.bits.split(",") if args.device == "cuda" else ["16"]:
        in_4bit = bits == "4"
        columns = columns_of(home, args, adapters, in_4bit)
        for chosen in ([0], [1], [0, 1, 2]):
            mine = [columns[number] for number in chosen]
            result = asyncio.run(measure(home, mine, args))
            found["sets"].append({"4-bit": in_4bit, "columns": [c.id for c in mine], **result})
            print(found["sets"][-1], flush=True)
            keep()
    found["cancels"] = asyncio.run(cancels(home, columns_of(home, args, adapters, False), args))
    print(found["cancels"], flush=True)
    keep()
    answers = args.out.resolve() / "same.json"
    command = [sys.executable, "-m", "tests.gpu.side_by_side", *sys.argv[1:], "--same", answers]
    subprocess.run([*map(str, command)], check=True)
    found["same"] = json.loads(answers.read_text())
    keep()
    print(table(found))
    return 0


def weights_bytes(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))


def adapter_bytes(folder: Path) -> int:
    return (folder / "adapter_model.safetensors").stat().st_size


def columns_of(
    home: Home, args: argparse.Namespace, adapters: list[Path], in_4bit: bool
) -> list[Column]:
    settings = [
        f"model.device={args.device}",
        f"model.load_in_4bit={str(in_4bit).lower()}",
        f"generate.max_new_tokens={args.tokens}",
    ]
    recipe = column_for(home, args.model).recipe.with_settings(settings)
    base = Column("base", "base", args.model, None, recipe)
    return [base, *(Column(a.name, a.name, args.model, str(a), recipe) for a in adapters)]


def memory() -> dict[str, int | None]:
    """Bytes: of the first card, and of its process with the most."""
    for gpu in read_gpus():
        sizes = [one.memory for one in gpu.processes or () if one.memory is not None]
        return {"card": gpu.memory_used, "process": max(sizes, default=None)}
    return {"card": None, "process": None}


async def settled(want: int | None, spare: int = 8 << 20) -> dict[str, int | None]:
    """The card's memory, once it is back at ``want`` or after some seconds."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (now := memory())["card"] is not None and now["card"] > (want or 0) + spare:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    return now


async def measure(home: Home, columns: list[Column], args: argparse.Namespace) -> dict[str, Any]:
    before = memory()
    rates, firsts = [], []
    began = time.perf_counter()
    async with GenerationClient.start(home, columns, warm_up=True) as client:
        await client.ready()
        ready = time.perf_counter() - began
        for number in range(args.prompts + 1):
            asked, first, tokens = time.perf_counter(), None, 0
            async for chunk in client.generate(f"Cast iron skillet, {number} inch, with a lid"):
                first = first or time.perf_counter()
                tokens += chunk.tokens or 0
            rates.append(tokens / (time.perf_counter() - asked))
            firsts.append(1000 * ((first or asked) - asked))
        held = memory()
        notes = client.notes
        await client.free()
        freed = memory()
    after = await settled(before["card"])
    return {
        "ready_s": round(ready, 1),
        "tok_s": round(statistics.median(rates[1:])),
        "first_ms": round(statistics.median(firsts[1:])),
        "before": before,
        "held": held,
        "freed": freed,
        "after": after,
        "notes": notes,
    }


async def cancels(home: Home, columns: list[Column], args: argparse.Namespace) -> dict[str, Any]:
    """A third while they load, a third at once, a third in the middle."""
    random_ = random.Random(7)
    before = memory()
    held, kinds = [], {"loading": 0, "before a token": 0, "mid-stream": 0}
    async with GenerationClient.start(home, columns, warm_up=True) as client:
        await client.ready()
        first = [chunk.text_delta async for chunk in client.generate("oak lamp")]
        start = memory()
        for number in range(args.cancels):
            if number % 3 == 0:
                await client.free()
            wanted = random_.randint(1, 60) if number % 3 == 2 else 0
            got: list[str] = []

            async def ask(prompt: str, got: list[str] = got) -> None:
                async for chunk in client.generate(prompt):
                    got.append(chunk.text_delta)

            asking = asyncio.create_task(ask(f"copper kettle {number}"))
            if wanted:
                while len(got) < wanted and not asking.done():
                    await asyncio.sleep(0.001)
            else:
                await asyncio.sleep(random_.uniform(0, 1.0 if number % 3 == 0 else 0.02))
            kinds[
                "mid-stream" if any(got) else "loading" if not number % 3 else "before a token"
            ] += 1
            if number % 2:
                await client.cancel()
                await asking
            else:
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asking
            if number % 3 == 2:
                held.append(memory()["card"])
        last = [chunk.text_delta async for chunk in client.generate("oak lamp")]
        end = memory()
    after = await settled(before["card"])
    return {
        "kinds": kinds,
        "same_answer_after": "".join(first) == "".join(last),
        "before": before,
        "start": start,
        "held": held,
        "end": end,
        "after": after,
    }


# ---- sameness ----------------------------------------------------------------------------------


def same(args: argparse.Namespace) -> list[dict[str, Any]]:
    """For models and precisions, tokens of columns side by side that are those of each alone."""
    found = []
    wanted = [(args.model, "bfloat16"), (BUILTIN_BASE, "bfloat16"), (BUILTIN_BASE, "float32")]
    if args.device == "cpu":
        wanted = [(BUILTIN_BASE, "float32")]
    for model, dtype in wanted:
        found.append({"model": Path(model).name, "dtype": dtype, **shares(args, model, dtype)})
        print(found[-1], flush=True)
    return found


def shares(args: argparse.Namespace, model: str, dtype: str) -> dict[str, Any]:
    from engine.generate.models import Models, Voice
    from engine.recipe import GenerateSection

    folder = Path(tempfile.mkdtemp())
    home = open_home(folder / "home")
    settings = [f"model.device={args.device}", f"model.dtype={dtype}"]
    recipe = column_for(home, model).recipe.with_settings(settings)
    voice = Models(lambda phase: None).voice(Column("base", "base", model, None, recipe))
    voices: list[Voice] = [voice]
    for seed, name in enumerate("ab"):
        adapter = voice.base.load_adapter(make_adapter(model, folder / name, seed))
        voices.append(replace(voice, column=replace(voice.column, id=name), adapter=adapter))
    greedy = GenerateSection(max_new_tokens=NEW_TOKENS)
    seeded = greedy.model_copy(update={"do_sample": True, "temperature": 1.0, "seed": 5})
    wide = seeded.model_copy(update={"top_p": 0.9, "top_k": 40, "min_p": 0.02})
    found: dict[str, Any] = {}
    for way, section in {"greedy": greedy, "seeded": seeded, "all filters": wide}.items():
        # One set of slots after the other: recording one anew takes half a second.
        alone = [[ids(voice, [one], n, section)[0] for n in range(PROMPTS)] for one in voices]
        together = [ids(voice, voices, n, section) for n in range(PROMPTS)]
        pairs = [
            (alone[column][n], together[n][column])
            for column in range(len(voices))
            for n in range(PROMPTS)
        ]
        tokens = sum(max(len(a), len(b)) for a, b in pairs)
        alike = sum(x == y for a, b in pairs for x, y in zip(a, b, strict=False))
        answers = sum(a == b for a, b in pairs)
        found[way] = {"tokens": alike / tokens, "answers": answers, "of": len(pairs)}
    found["misfit"] = voice.base.misfit
    found["replayed"] = [stepper.replays for stepper in voice.base.steppers]
    return found


def ids(voice: Any, voices: list[Any], number: int, section: Any) -> list[list[int]]:
    """Tokens of one prompt's answers in these columns, as the playground asks for them."""
    from engine.generate.batching import Asked, answer_in_slots, most_room
    from engine.generate.fit import take_slots
    from engine.generate.sampling import Cancelled
    from tests.bench.same_answers import prompts

    base = voice.base
    prompt = voice.formatter.prompt_ids(prompts(PROMPTS, 2)[number])
    asked = [
        Asked(prompt, one.adapter, section.seed, section.max_new_tokens, base.ends, section)
        for one in voices
    ]
    if why := take_slots(base, most_room(base, asked), prompt):
        raise RuntimeError(why)
    answer_in_slots(base, asked, lambda *_: None, Cancelled())
    return [one.ids for one in asked]


# ---- words -------------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """The results as a page for people."""

    def gb(value: int | None) -> str:
        return "-" if value is None else f"{value / 1e9:.3f}"

    size = found["bytes"]
    lines = [
        f"`{found['command']}`, {found['gpu']}; weights {gb(size['base'])} GB, both adapters "
        f"{gb(size['adapters'])} GB in files",
        "",
        "| weights | columns | ready s | tokens/s | first ms | card GB before | held | process "
        "| freed | after |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found["sets"]:
        numbers = [
            *(gb(one["before"]["card"]), gb(one["held"]["card"]), gb(one["held"]["process"])),
            *(gb(one["freed"]["card"]), gb(one["after"]["card"])),
        ]
        lines.append(
            f"| {'4-bit' if one['4-bit'] else '16-bit'} | {' + '.join(one['columns'])} | "
            f"{one['ready_s']} | {one['tok_s']} | {one['first_ms']} | {' | '.join(numbers)} |"
        )
    if cancelled := found.get("cancels"):
        cards = {name: gb(cancelled[name]["card"]) for name in ("before", "start", "end", "after")}
        lines += [
            "",
            f"Cancelled {cancelled['kinds']}: card GB {cards}; mid-stream at most "
            f"{gb(max((c for c in cancelled['held'] if c is not None), default=None))}; the same "
            f"answer after: {cancelled['same_answer_after']}",
        ]
    for one in found.get("same", []):
        lines.append(f"- {one}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
