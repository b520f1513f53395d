"""One step of the fused layers: how fast, how much memory, what it is spent on, how equal.

    python tests/bench/fused_step.py --out results/                       one NVIDIA GPU, 3B shape
    python tests/bench/fused_step.py --out results/ --shape tiny --device cpu

A model of Llama 3.2's shape with random weights, LoRA on the seven linears, every row ``--length``
tokens long; forward, backward, clipping and fused AdamW, no trainer around. Against plain
Transformers + PEFT on the same weights and rows: loss and gradient. Writes ``fused_step.json``.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.bench.shapes import SHAPES  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402
from engine.train.fused import attach  # noqa: E402
from engine.train.fused.flat import TOKENS, FlatCollator  # noqa: E402
from tests.bench.gradients import compare  # noqa: E402

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WAYS: dict[str, dict[str, Any]] = {
    "eager bf16 dropout": {"dropout": 0.05, "graphs": False},
    "bf16": {},
    "bf16 dropout": {"dropout": 0.05},
    "4-bit": {"packed": True},
    "4-bit dropout": {"packed": True, "dropout": 0.05},
    "4-bit held unpacked dropout": {"packed": True, "dropout": 0.05, "unpacked": True},
    "bf16 checkpointing": {"checkpointing": True},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--profile", default="bf16 dropout")
    parser.add_argument("--no-equal", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": " ".join(sys.argv), "torch": torch.__version__}
    if args.device == "cuda":
        results["gpu"] = torch.cuda.get_device_name()
        results["matrix_tflops"] = matrix_rate(args) / 1e12
    say(results)
    if not args.no_equal:
        results["equal"] = {name: equal(args, **WAYS[name]) for name in ("bf16", "4-bit")}
        say(results["equal"])
    for name in args.ways.split(","):
        try:
            results[name] = timed(args, name, **WAYS[name])
        except Exception as error:
            results[name] = {"error": repr(error)[:500]}
        say({name: results[name]})
        (args.out / "fused_step.json").write_text(json.dumps(results, indent=1))
    return 0


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def matrix_rate(args: argparse.Namespace) -> float:
    """FLOP/s of a product of two square matrices."""
    a = torch.randn(8192, 8192, dtype=getattr(torch, args.dtype), device="cuda")
    b = torch.randn_like(a)
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(30):
        a @ b
    torch.cuda.synchronize()
    return 30 * 2 * 8192**3 / (time.perf_counter() - began)


def build(args: argparse.Namespace, packed: bool, dropout: float) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **SHAPES[args.shape], tie_word_embeddings=True, rope_theta=500000.0, rms_norm_eps=1e-5
    )
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, args.dtype))
    with torch.device(args.device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if packed:
        pack(model.model.layers, getattr(torch, args.dtype), args.device)
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, target_modules=list(LINEARS))
    model = get_peft_model(model, lora)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            if "lora_B" in name:
                parameter.data.normal_(0, 0.01)
    recipe = load_recipe(
        "demo", [f"lora.lora_dropout={dropout}", f"train.max_length={args.length}"]
    )
    return model.train(), recipe


def pack(layers: Any, dtype: torch.dtype, device: str) -> None:
    import bitsandbytes as bnb

    for module in layers.modules():
        for name, child in list(module.named_children()):
            if name in LINEARS:
                new = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=False, compute_dtype=dtype,
                    compress_statistics=True, quant_type="nf4",
                )  # fmt: skip
                new.weight = bnb.nn.Params4bit(
                    child.weight.data, requires_grad=False, compress_statistics=True,
                    quant_type="nf4",
                )  # fmt: skip
                setattr(module, name, new.to(device))


def rows_of(args: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    size = SHAPES[args.shape]["vocab_size"]
    rows = []
    for _ in range(count):
        ids = torch.randint(5, size, (args.length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * 20 + ids[20:]})
    return rows


def flat(args: argparse.Namespace, count: int) -> dict[str, Any]:
    batch = FlatCollator(0)(rows_of(args, count))
    batch.pop(TOKENS)
    return {k: v.to(args.device) if torch.is_tensor(v) else v for k, v in batch.items()}


def autocast(args: argparse.Namespace) -> Any:
    return torch.autocast(args.device, getattr(torch, args.dtype))


def equal(args: argparse.Namespace, packed: bool = False, **_: Any) -> dict[str, Any]:
    """Loss and gradient of one batch of random rows: see ``compare``."""
    model, recipe = build(args, packed, 0.0)
    return compare(model, recipe, rows_of(args, 8), args.dtype, args.device, packed)


def timed(
    args: argparse.Namespace,
    name: str,
    packed: bool = False,
    dropout: float = 0.0,
    unpacked: bool = False,
    checkpointing: bool = False,
    graphs: bool = True,
) -> dict[str, Any]:
    gpu = args.device == "cuda"
    gc.collect()
    model, recipe = build(args, packed, dropout)
    recipe = recipe.with_values({"train.gradient_checkpointing": checkpointing})
    if gpu:
        torch.cuda.empty_cache()
    attention = attach.fuse(
        model, recipe, args.dtype, args.device, unpacked=unpacked, graphs=graphs
    ).attention
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-4, fused=True)
    batch = flat(args, args.batch)
    tokens = batch["input_ids"].numel()

    def step() -> Any:
        with autocast(args):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    began = time.perf_counter()
    first = step().item()
    compiling = time.perf_counter() - began
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds, launching, losses = [], [], [first]
    for _ in range(args.steps):
        began = time.perf_counter()
        loss = step()
        launching.append(time.perf_counter() - began)
        losses.append(loss.item())
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[args.steps // 3 :])
    result = {
        "attention": attention,
        "step_seconds": median,
        "tokens_per_second": tokens / median,
        "launching_seconds": statistics.median(launching),
        "first_step_seconds": compiling,
        "losses": [losses[0], losses[-1]],
    }
    if gpu:
        result["peak_reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
        result["peak_allocated_gb"] = torch.cuda.max_memory_allocated() / 1e9
        if name == args.profile:
            result["profile"] = profile(step)
    return result


def profile(step: Any) -> list[str]:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with record(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(3):
            step()
        torch.cuda.synchronize()
    events = sorted(recorded.key_averages(), key=lambda e: -e.self_device_time_total)
    return [
        f"{e.self_device_time_total / 3000:8.3f} ms {e.count // 3:5d} x {e.key[:90]}"
        for e in events[:32]
    ]


if __name__ == "__main__":
    sys.exit(main())
