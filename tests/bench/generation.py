"""How fast prompts are answered: ``python -m tests.bench.generation --model FOLDER --device cuda``.

Every engine answers prompts of many lengths with exactly ``--new-tokens`` tokens each, greedily:
Transformers' ``generate`` at batch 32 and its continuous batching, in 4 bits and in bfloat16
(a few batches of them are enough for a rate), and the slots of ``engine.generate`` on all
``--prompts``. ``--check N`` counts greedy answers of the trained built-in model that are what
``generate`` answers to each prompt alone; ``--latency N`` measures first tokens through the real
worker (``tests.bench.first_token``). One process; prints as it goes; ``--out`` keeps it as JSON.
"""

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig

from engine.builtin import BUILTIN_BASE
from engine.generate import batching, weights
from engine.generate.batching import Asked
from engine.generate.columns import Column, column_for
from engine.generate.fit import leave_slots
from engine.generate.mixing import BASE, Mixture
from engine.generate.models import Base, Models, Voice
from engine.generate.stepper import Stepper
from engine.home import Home, open_home
from engine.recipe import GenerateSection
from tests.bench.first_token import first_tokens
from tests.bench.same_answers import generated, in_slots, prompts, same_answers

BATCH = 32
ENGINES = {
    "generate-4bit": "4-bit",
    "slots-4bit": "4-bit",
    "slots-dequantised": "dequantised",
    "slots": "whole",
    "generate": "whole",
    "continuous": "whole",
}
"""How the weights are held for each; those held alike come together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=BUILTIN_BASE, help="a folder, or builtin:base")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--prompts", type=int, default=1000, help="for the slots")
    parser.add_argument("--baseline-prompts", type=int, default=64, help="for the others")
    parser.add_argument("--new-tokens", type=int, default=100)
    parser.add_argument("--engines", default=",".join(ENGINES), help="with commas; '' for none")
    parser.add_argument("--rows", default="64,128,256", help="most slots, with commas")
    parser.add_argument("--check", type=int, default=0, metavar="N", help="prompts to compare")
    parser.add_argument("--latency", type=int, default=0, metavar="N", help="prompts to time")
    parser.add_argument("--profile", action="store_true", help="which kernels a step spends on")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    home = open_home(Path(tempfile.mkdtemp()))
    results: dict[str, Any] = {"machine": machine(args.device), "engines": {}}

    def keep() -> None:
        if args.out:
            args.out.write_text(json.dumps(results, indent=1))

    say(f"{results['machine']}, {args.prompts} prompts x {args.new_tokens} tokens, greedy")
    voice, held = None, ""
    for engine in filter(None, args.engines.split(",")):
        for rows in args.rows.split(",") if engine.startswith("slots") else [BATCH]:
            name = f"{engine} {rows}"
            try:
                if held != ENGINES[engine]:
                    voice, held = None, ENGINES[engine]
                    voice = load(home, args, held)
                results["engines"][name] = one(engine, voice, int(rows), args)
            except Exception as error:  # one that does not work must not cost the others
                words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                results["engines"][name] = {"error": words}
            say(f"{name:22} {results['engines'][name]}")
            keep()
    voice = None
    free()
    if args.check:
        results["check"] = same_answers(home, args.device, args.check)
        say(f"identical greedy answers: {results['check']}")
        keep()
    if args.latency:
        results["latency"] = first_tokens(args.model, args.device, args.latency, say)
        keep()


def say(words: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}, transformers {transformers.__version__}"


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load(home: Home, args: argparse.Namespace, held: str) -> Voice:
    """The model on the device, its weights held in one of the three ways."""
    free()
    settings = [f"model.device={args.device}"]
    if held != "whole":
        settings.append("model.load_in_4bit=true")
    recipe = column_for(home, args.model).recipe.with_settings(settings)
    weights.MEMORY_SHARE = 0.0 if held == "4-bit" else 0.9
    began = time.perf_counter()
    voice = Models(lambda phase: None).voice(Column("model", "model", args.model, None, recipe))
    say(f"{held}: loaded in {time.perf_counter() - began:.1f} s. {voice.base.note}")
    return voice


def ask(voice: Voice, count: int, tokens: int) -> list[Asked]:
    """Prompts that get exactly so many tokens: nothing ends an answer."""
    ids = [voice.formatter.prompt_ids(prompt) for prompt in prompts(count)]
    return [Asked(one, BASE, 0, tokens, frozenset()) for one in ids]


def one(engine: str, voice: Voice, rows: int, args: argparse.Namespace) -> dict[str, Any]:
    """tokens, seconds and tok/s of one engine after a small warm-up; of slots each part too."""
    base, slots = voice.base, engine.startswith("slots")
    leave_slots(base)
    if slots:
        batching.MOST_ROWS = batching.MOST_ROWS_CPU = rows
    way = by_slots if slots else by_generate if engine.startswith("generate") else by_continuous
    way(base, ask(voice, BATCH, 8))
    asked = ask(voice, args.prompts if slots else args.baseline_prompts, args.new_tokens)
    sync(base)
    began = time.perf_counter()
    tokens = way(base, asked)
    sync(base)
    seconds = time.perf_counter() - began
    found = {"tok_s": round(tokens / seconds), "tokens": tokens, "seconds": round(seconds, 2)}
    assert tokens == len(asked) * args.new_tokens
    if slots:
        found |= steps(base, rows)
        if args.profile:
            profile(base, rows)
    return found


def sync(base: Base) -> None:
    if base.device.startswith("cuda"):
        torch.cuda.synchronize()


def by_generate(base: Base, asked: list[Asked]) -> int:
    """Transformers' ``generate`` in batches of 32, sorted by length."""
    asked = sorted(asked, key=lambda one: -len(one.prompt))
    parts = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]
    return sum(len(answer) for part in parts for answer in generated(base, part, whole=True))


def by_continuous(base: Base, asked: list[Asked]) -> int:
    """Transformers' continuous batching."""
    config = GenerationConfig(
        max_new_tokens=asked[0].room,
        do_sample=False,
        eos_token_id=-1,
        pad_token_id=base.tokenizer.pad_token_id,
    )
    with torch.no_grad():  # a thread of its own, to which inference mode does not reach
        made = base.bare.generate_batch(
            inputs=[list(one.prompt) for one in asked], generation_config=config
        )
    return sum(len(one.generated_tokens) for one in made.values())


def by_slots(base: Base, asked: list[Asked]) -> int:
    """The slots of ``engine.generate``."""
    return sum(len(answer) for answer in in_slots(base, asked))


@torch.inference_mode()
def steps(base: Base, rows: int, capacity: int = 256, prompt: int = 64) -> dict[str, Any]:
    """Seconds of preparing, of reading a prompt in every slot, and of one step."""
    mixture = Mixture(base, [BASE], rows)
    began = time.perf_counter()
    stepper = Stepper(base, rows, capacity, GenerateSection(max_new_tokens=100), mixture)
    stepper.capture()
    sync(base)
    captured = time.perf_counter()
    ids = [[5 + number % 100] * prompt for number in range(rows)]
    stepper.fill(range(rows), ids, [BASE] * rows, [0] * rows)
    sync(base)
    filled = time.perf_counter()
    for _ in range(50):
        stepper.step()()
    sync(base)
    stepped = time.perf_counter()
    return {
        "replayed": stepper.replays,
        "prepare_s": round(captured - began, 3),
        f"read_{rows}x{prompt}_s": round(filled - captured, 3),
        "step_ms": round(1000 * (stepped - filled) / 50, 2),
        "step_tok_s": round(50 * rows / (stepped - filled)),
    }


@torch.inference_mode()
def profile(base: Base, rows: int, capacity: int = 256) -> None:
    """Prints what a step spends its GPU time on."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    stepper = Stepper(base, rows, capacity, GenerateSection(), Mixture(base, [BASE], rows))
    stepper.capture()
    with watch(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for _ in range(10):
            stepper.step()()
    print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=14)[:6000])


if __name__ == "__main__":
    main()
