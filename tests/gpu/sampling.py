"""Seconds and memory of one sampling in training: from slots, and by Transformers' ``generate``.

    python tests/gpu/sampling.py --out sampling.json                    on a GPU: the 3B shape
    python tests/gpu/sampling.py --out sampling.json --device cpu       the tiny shape: does it run

Each way of holding the model is loaded as training loads it (random weights of Llama 3.2's shape,
and adapters that change what is said), and asked ``--prompts`` prompts of about 40 tokens for
``--new-tokens`` tokens each, which nothing ends early. The first sampling from slots also tries
whether they fit. Of the trained built-in model the texts of both ways are compared: random weights
choose between nearly equal tokens, so that agreement means little there.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from engine.data.tokens import Formatter  # noqa: E402
from engine.generate.models import Base  # noqa: E402
from engine.generate.stepper import Stepper  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402
from engine.train.samples import Prompt, Sampling, generate  # noqa: E402
from engine.train.transformers_backend import TransformersBackend  # noqa: E402
from tests.bench.same_answers import prompts  # noqa: E402

HELD = {
    "fused 4-bit, held unpacked": ["model.load_in_4bit=true", "model.kernels=fused"],
    "fused bf16": ["model.load_in_4bit=false", "model.kernels=fused"],
    "plain 4-bit": ["model.load_in_4bit=true", "model.kernels=plain"],
    "plain bf16": ["model.load_in_4bit=false", "model.kernels=plain"],
    "full, float32 with autocast": ["model.load_in_4bit=false", "lora.enabled=false"],
}
KNOWN = {
    "float32": ["model.dtype=float32", "model.kernels=plain"],
    "bfloat16": ["model.dtype=bfloat16", "model.kernels=plain"],
    "bfloat16 4-bit": ["model.dtype=bfloat16", "model.load_in_4bit=true"],
    "full, autocast": ["model.dtype=bfloat16", "lora.enabled=false"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/tunebench-sampling"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", default="", help="of run_reference.py; 3b, tiny on a CPU")
    parser.add_argument("--held", default="", help="numbers of ways, with commas; all")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=100)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    shape = args.shape or ("3b" if args.device == "cuda" else "tiny")
    model = args.work / f"model-{shape}"
    if not (model / "config.json").is_file():
        script = ROOT / "tests" / "gpu" / "run_reference.py"
        command = [sys.executable, script, "--out", args.work, "--shape", shape, "--build", model]
        args.work.mkdir(parents=True, exist_ok=True)
        subprocess.run([*map(str, command)], check=True)
    results: dict[str, Any] = {"command": " ".join(sys.argv), "torch": torch.__version__}
    if args.device == "cuda":
        results["device"] = torch.cuda.get_device_name()
    names = list(HELD)
    if args.held:
        names = [names[int(number)] for number in args.held.split(",")]
    for name, source, settings in [
        *((f"built-in, {name}", "builtin:base", KNOWN[name]) for name in KNOWN),
        *((f"{shape}, {name}", str(model), HELD[name]) for name in names),
    ]:
        try:
            results[name] = one(args, source, settings)
        except Exception as error:  # one that does not work must not cost the others
            results[name] = {"error": f"{type(error).__name__}: {str(error)[:400]}"}
        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()
        print(f"{name}: {json.dumps(results[name])}", flush=True)
        args.out.write_text(json.dumps(results, indent=1))
    return 0


def one(args: argparse.Namespace, source: str, settings: list[str]) -> dict[str, Any]:
    known = source.startswith("builtin")
    recipe = load_recipe(
        "demo" if known else "amazon-titles",
        [
            f"model.model_name_or_path={source}",
            *([] if known else ["format.template=plain"]),
            *(f"model.device={args.device}", "model.backend=transformers", "model.dtype=auto"),
            *settings,
        ],
    )
    loaded = TransformersBackend().load(recipe)
    model = loaded.model
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # as the trainer does
            if "lora_B" in name:
                parameter.data.normal_(0, 0.01)
    formatter = Formatter.of(recipe)
    ids = [formatter.prompt_ids(text) for text in prompts(16 if known else args.prompts)]
    stops = sorted(formatter.stop_ids) if known else [len(loaded.tokenizer) - 1]
    sampling = Sampling([Prompt("", one, None) for one in ids], stops, formatter.pad_id)
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    base = Base(bare, loaded.tokenizer, loaded.device, borrowed=True)
    kind = args.device

    def autocast() -> Any:
        dtype = getattr(torch, loaded.dtype)
        return torch.autocast(kind, dtype, enabled=dtype is not torch.float32)

    def sample(base: Base | None, only: list[Prompt] | None = None) -> dict[str, Any]:
        asked = Sampling(only or sampling.prompts, stops, formatter.pad_id)
        before, drawn = memory(kind), random_state(kind)
        began, used = time.perf_counter(), time.process_time()
        texts = generate(
            *(model, asked, loaded.tokenizer),
            max_new_tokens=args.new_tokens,
            autocast=autocast,
            base=base,
        )
        if kind == "cuda":
            torch.cuda.synchronize()
        seconds = round(time.perf_counter() - began, 3)
        assert random_state(kind) == drawn, "random numbers were drawn"
        used = round(time.process_time() - used, 3)
        found = {"texts": texts, "seconds": seconds, "processor_seconds": used}
        return found | left(before, kind)

    replays: list[bool] = []
    real = Stepper.capture

    def watched(stepper: Stepper) -> None:
        real(stepper)
        replays.append(stepper.replays)

    Stepper.capture = watched  # type: ignore[method-assign]
    try:
        plain = [sample(None) for _ in range(1 if known else args.times)]
        slots = [sample(base) for _ in range(1 if known else args.times)]
    finally:
        Stepper.capture = real  # type: ignore[method-assign]
    found: dict[str, Any] = {"misfit": base.misfit, "replayed": replays}
    said = {"slots": slots[0]["texts"], "generate": plain[0]["texts"]}
    if known:
        one_by_one = [sample(None, [prompt])["texts"][0] for prompt in sampling.prompts]
        found["as_each_prompt_alone"] = {
            way: sum(a == b for a, b in zip(texts, one_by_one, strict=True))
            for way, texts in said.items()
        }
    same = sum(a == b for a, b in zip(*said.values(), strict=True))
    found["slots_as_generate"] = f"{same} of {len(sampling.prompts)}"
    for runs in (plain, slots):
        for run in runs:
            run.pop("texts", None)
    return found | {"by_generate": plain, "by_slots": slots}


def memory(kind: str) -> tuple[int, int]:
    """Bytes allocated and reserved; peaks begin anew."""
    if kind != "cuda":
        return 0, 0
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()


def left(before: tuple[int, int], kind: str) -> dict[str, int]:
    """MB on top of before: what stays allocated and reserved, and the reserved peak."""
    if kind != "cuda":
        return {}
    now = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    peak = torch.cuda.max_memory_reserved()
    return {
        "left_allocated_mb": (now[0] - before[0]) // 10**6,
        "left_reserved_mb": (now[1] - before[1]) // 10**6,
        "peak_reserved_mb": (peak - before[1]) // 10**6,
    }


def random_state(kind: str) -> list[int]:
    state: list[int] = torch.get_rng_state().tolist()
    return state + (torch.cuda.get_rng_state().tolist() if kind == "cuda" else [])


if __name__ == "__main__":
    raise SystemExit(main())
