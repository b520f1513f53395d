"""Seconds to the first token through the real worker, as the playground asks for it.

``python -m tests.bench.first_token --model FOLDER --device cuda``: base alone, base and tuned side
by side, and base with two adapters, in 4 bits and whole. The adapters are random ones of the
reference experiment's shape (r=8 on the seven linear layers), made here. From the moment that the
client is asked until the first text of any column is there; the first prompt is not counted.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.builtin import BUILTIN_BASE, model_path
from engine.generate.client import GenerationClient
from engine.generate.columns import Column, column_for
from engine.home import Home, open_home

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=BUILTIN_BASE)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--prompts", type=int, default=10)
    args = parser.parse_args()
    print(json.dumps(first_tokens(args.model, args.device, args.prompts, print), indent=1))


def first_tokens(
    model: str, device: str, count: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """For each set of columns: milliseconds to the first token, and tokens/s while streaming."""
    folder = Path(tempfile.mkdtemp())
    home = open_home(folder / "home")
    adapters = [make_adapter(model, folder / name, seed) for seed, name in enumerate("ab")]
    return asyncio.run(_all(home, model, device, adapters, count, say))


async def _all(
    home: Home,
    model: str,
    device: str,
    adapters: list[Path],
    count: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    found = []
    began = time.perf_counter()
    async with GenerationClient.start(home, []) as stays:  # one worker for all
        await stays.ready()
        say(f"worker ready after {time.perf_counter() - began:.1f} s")
        for in_4bit in (False, True):
            settings = [
                f"model.device={device}",
                f"model.load_in_4bit={str(in_4bit).lower()}",
                "generate.max_new_tokens=60",
            ]
            recipe = column_for(home, model).recipe.with_settings(settings)
            base = Column("base", "base", model, None, recipe)
            tuned = [Column(a.name, a.name, model, str(a), recipe) for a in adapters]
            for columns in ([base], [base, tuned[0]], [base, *tuned]):
                try:
                    result = await _ask(home, columns, count)
                except Exception as error:  # one that does not work must not cost the others
                    result = {"error": f"{type(error).__name__}: {error}"}
                found.append({"4-bit": in_4bit, "columns": len(columns), **result})
                say(f"first token: {found[-1]}")
    return found


async def _ask(home: Home, columns: list[Column], count: int) -> dict[str, Any]:
    firsts, rates = [], []
    began = time.perf_counter()
    async with GenerationClient.start(home, columns, warm_up=True) as client:
        await client.ready()
        loaded = time.perf_counter() - began
        for number in range(count + 1):
            asked = time.perf_counter()
            first, tokens = None, 0
            async for chunk in client.generate(f"Cast iron skillet, {number} inch, with a lid"):
                first = first or time.perf_counter()
                tokens += chunk.tokens or 0
            firsts.append(1000 * ((first or asked) - asked))
            rates.append(tokens / (time.perf_counter() - asked))
        notes = client.notes
    return {
        "ready_s": round(loaded, 1),
        "first_token_ms": round(statistics.median(firsts[1:])),
        "slowest_ms": round(max(firsts[1:])),
        "very_first_ms": round(firsts[0]),
        "tok_s": round(statistics.median(rates[1:])),
        "notes": notes,
    }


def make_adapter(model: str, folder: Path, seed: int) -> Path:
    """A random LoRA adapter for the model, in PEFT's format; the model is not loaded for it."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_path(model)))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in bare.named_modules():
        if name.rpartition(".")[2] in TARGETS:
            rows, columns = module.weight.shape
            for part, shape in (("A", (RANK, columns)), ("B", (rows, RANK))):
                weight = 0.02 * torch.randn(shape, generator=generator)
                weights[f"base_model.model.{name}.lora_{part}.weight"] = weight
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
        base_model_name_or_path=model,
        inference_mode=True,
    ).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
