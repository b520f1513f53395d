"""The loss curve of a run of tunebench with fused layers against plain Transformers + PEFT + TRL.

    python -m tests.bench.curves --out results/                            one NVIDIA GPU
    python -m tests.bench.curves --out results/ --only base --device cpu --dtype bfloat16

Shapes: ``base``, the built-in model that was trained from scratch; ``tiny``, ``1b`` and ``3b`` of
random weights. Of each, over ``--steps`` steps on the same rows in the same order, with the same
first adapters, batch, rank, rate, schedule and seed, without dropout:

- ``fused``: a run by the real launcher and worker, every step's loss from its journal;
- ``plain``: TRL's ``SFTTrainer`` on a Transformers model with PEFT's LoRA, nothing of the engine's;
- ``split``: ``plain`` again, every batch in two halves whose gradients are added up: the same
  mathematics in another order, which tells how far curves part through rounding alone;
- ``float32`` (with ``--float32``): ``plain`` in float32, what both are roundings of.

And of one batch, at the first adapters and at those after the last step: the cosine between the
gradients. Two processes a shape, one after the other. Writes ``curves.json`` and ``curves.md``.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.bench.shapes import SHAPES  # noqa: E402
from engine.home import Home, open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import Recipe, load_recipe, read_recipe  # noqa: E402

LIMIT = 0.02
LEAST_COSINE = 0.999
SECONDS = 540
"""That one run may take."""
PAIRS = (("fused", "plain"), ("split", "plain"), ("fused", "float32"), ("plain", "float32"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-curves"))
    parser.add_argument("--only", default="base,1b,3b", help="shapes, with commas")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--float32", action="store_true", help="a curve in float32 as well")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--plain", nargs=3, metavar=("RECIPE", "WAYS", "FILE"))
    args = parser.parse_args()
    home = open_home(args.home)
    if args.plain:
        recipe, ways, file = args.plain
        plain(home, read_recipe(Path(recipe)), ways.split(","), Path(file))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "steps": args.steps}
    for shape in args.only.split(","):
        began = time.monotonic()
        results[shape] = of_shape(home, shape, args)
        results[shape]["seconds"] = time.monotonic() - began
        (args.out / "curves.json").write_text(json.dumps(results, indent=1))
        (args.out / "curves.md").write_text(table(results))
    print(table(results))
    shapes = [value for value in results.values() if isinstance(value, dict)]
    return 0 if all(shape["agrees"] for shape in shapes) else 1


def say(words: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


def of_shape(home: Home, shape: str, args: argparse.Namespace) -> dict[str, Any]:
    recipe = recipe_of(home, shape, args)
    say(f"{shape}: a run with fused layers")
    curves: dict[str, list[dict[str, Any]]] = {}
    facts, curves["fused"], file = fused(home, recipe)
    ways = ["plain", "split", *(["float32"] if args.float32 else [])]
    say(f"{shape}: {', '.join(ways)}")
    out = args.out.resolve() / f"plain-{shape}.json"
    command = [sys.executable, "-m", "tests.bench.curves", "--out", args.out, "--home", args.home]
    command += ["--plain", file, ",".join(ways), out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([str(each) for each in command], check=True, cwd=ROOT, env=environment)
    found = json.loads(out.read_text())
    curves |= found["curves"]
    pairs = {f"{a} {b}": apart(curves[a], curves[b]) for a, b in PAIRS if {a, b} <= curves.keys()}
    least = min(each["cosine"]["fused plain"] for each in found["gradients"].values())
    difference = pairs["fused plain"]["mean"]
    return {
        "facts": facts,
        "plain_facts": found["facts"],
        "apart": pairs,
        "gradients": found["gradients"],
        "agrees": difference < LIMIT and least >= LEAST_COSINE,
        "curves": {name: [each["loss"] for each in curve] for name, curve in curves.items()},
        "norms": {name: [each["grad_norm"] for each in curve] for name, curve in curves.items()},
    }


def recipe_of(home: Home, shape: str, args: argparse.Namespace) -> Recipe:
    """The demo's recipe for the built-in model, the reference's (alpaca, r=8) for the others."""
    quiet = [
        *(f"model.device={args.device}", f"model.dtype={args.dtype}"),
        *("model.backend=transformers", "model.kernels=fused", "model.load_in_4bit=false"),
        *("lora.lora_dropout=0", f"train.max_steps={args.steps}", "train.save_total_limit=1"),
        *(f"train.eval_steps={args.steps}", f"train.save_steps={args.steps}"),
        *("train.load_best_model_at_end=false", "train.early_stopping_patience=0"),
        *("evaluate.before=false", "evaluate.sample_rows=0"),
        *("evaluate.validation_rows=32", "evaluate.test_rows=32"),
    ]
    if shape == "base":
        return load_recipe("demo", [*quiet, *args.settings])
    if shape not in SHAPES:
        raise SystemExit(f"--only {shape}: one of base, {', '.join(SHAPES)}")
    model = home.path / f"model-{shape}"
    if not (model / "config.json").is_file():
        say(f"{shape}: building the model")
        code = "import sys, pathlib; from engine.bench.shapes import build_model; "
        code += "build_model(pathlib.Path(sys.argv[1]), sys.argv[2])"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, str(model), shape]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
    data = ["data.source=builtin:catalogue", "data.name=catalogue", "data.catalogue_rows=16000"]
    split = ["split.train=0.9", "split.validation=0.05", "split.test=0.05"]
    model_name = f"model.model_name_or_path={model}"
    return load_recipe("amazon-titles", [*data, *split, *quiet, model_name, *args.settings])


def fused(home: Home, recipe: Recipe) -> tuple[dict[str, Any], list[Any], Path]:
    """(the run's facts, every step's journal line, its recipe's file)"""
    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    if not launch.wait_until_dead(folder, SECONDS):
        raise SystemExit(f"{folder.id}: still running after {SECONDS} s")
    events = list(read_all(folder.journal))
    states = [event for event in events if event["type"] == "state"]
    if states[-1]["state"] != "finished":
        why = [event.get("message") for event in events if event["type"] == "error"]
        raise SystemExit(f"{folder.id}: {states[-1]['state']}: {why}")
    running = next(state for state in states if state["state"] == "running")
    keys = ("notes", "optim", "dtype", "gpu", "versions", "fingerprint")
    metrics = [event for event in events if event["type"] == "metrics"]
    return {key: running.get(key) for key in keys}, metrics, folder.recipe_file


def apart(curve: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """How far two curves of losses part; raises where they did not see the same batches."""
    tokens = [[int(each["tokens"]) for each in one] for one in (curve, other)]
    if tokens[0] != tokens[1]:
        place = next(i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b)
        raise SystemExit(f"step {place + 1}: {tokens[0][place]} tokens and {tokens[1][place]}")
    gaps = [abs(a["loss"] - b["loss"]) for a, b in zip(curve, other, strict=True)]
    norms = curve[0]["grad_norm"], other[0]["grad_norm"]
    return {
        "mean": statistics.mean(gaps),
        "largest": max(gaps),
        "at_step": gaps.index(max(gaps)) + 1,
        "mean_of_last_50": statistics.mean(gaps[-50:]),
        # Of the same adapters: their B is zero, and its gradient goes through A.
        "first_norms_differ": abs(norms[0] - norms[1]) / norms[1],
    }


# ---- plain, in a process of its own -------------------------------------------------------------


def plain(home: Home, recipe: Recipe, ways: list[str], file: Path) -> None:
    from engine.data.prepare import prepare
    from engine.data.tokens import Formatter
    from engine.train.environment import set_environment
    from engine.train.rows import encode_split

    set_environment(home, recipe.model.model_name_or_path)
    dataset = prepare(home, recipe)
    formatter = Formatter.of(recipe)
    rows = encode_split(home, dataset, "train", formatter, completion_only_loss=True).dataset
    found: dict[str, Any] = {"curves": {}, "facts": {}}
    trained: Any = None
    for way in ways:
        model = load(recipe, way)
        began = time.monotonic()
        steps = curve(home, recipe, way, model, rows)
        say(f"{way}: {len(steps)} steps in {time.monotonic() - began:.0f} s")
        found["curves"][way] = steps
        found["facts"][way] = {"attention": model.config._attn_implementation}
        if way == "plain":
            trained = adapters(model)
        model = drop(model)
    found["gradients"] = gradients(recipe, rows, trained)
    file.write_text(json.dumps(found))


def load(recipe: Recipe, way: str) -> Any:
    """The model with new adapters, drawn as the engine draws them: seeded, then loaded."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    from engine.builtin import model_path

    lora = recipe.lora
    set_seed(recipe.train.seed)
    model = AutoModelForCausalLM.from_pretrained(
        model_path(recipe.model.model_name_or_path),
        dtype=torch.float32 if way == "float32" else getattr(torch, recipe.model.dtype),
        device_map={"": recipe.model.device if recipe.model.device == "cpu" else 0},
    )
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.lora_alpha, target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, config)


def adapters(model: Any) -> dict[str, Any]:
    return {
        name: parameter.detach().float().cpu()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def drop(model: Any) -> None:
    import torch

    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def curve(home: Home, recipe: Recipe, way: str, model: Any, rows: Any) -> list[dict[str, Any]]:
    """Loss, gradient's norm and tokens of each step."""
    from trl import SFTConfig, SFTTrainer

    train, cpu = recipe.train, recipe.model.device == "cpu"
    parts = 2 if way == "split" else 1
    steps: list[dict[str, Any]] = []
    seen = [0.0, 0]

    class Recording(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            tokens = int(inputs["attention_mask"].sum())
            loss = super().training_step(model, inputs, *args, **kwargs)
            seen[0] += loss.item()
            seen[1] += tokens
            return loss

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "grad_norm" in logs:
                norm = float(logs["grad_norm"])
                steps.append({"loss": seen[0], "tokens": seen[1], "grad_norm": norm})
                seen[:] = [0.0, 0]

    trainer = Recording(
        model=model,
        args=SFTConfig(
            output_dir=str(home.path / "plain"),
            max_length=train.max_length,
            per_device_train_batch_size=train.per_device_train_batch_size // parts,
            gradient_accumulation_steps=train.gradient_accumulation_steps * parts,
            num_train_epochs=train.num_train_epochs,
            max_steps=train.max_steps,
            learning_rate=train.learning_rate,
            lr_scheduler_type=train.lr_scheduler_type,
            warmup_steps=train.warmup_steps,
            weight_decay=train.weight_decay,
            max_grad_norm=train.max_grad_norm,
            optim="adamw_torch" if cpu else "adamw_torch_fused",
            gradient_checkpointing=False,
            seed=train.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=cpu,
            bf16=way != "float32" and recipe.model.dtype == "bfloat16",
            dataloader_pin_memory=not cpu,
            completion_only_loss=False,  # the labels already say so
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows,
        processing_class=tokenizer_of(recipe),
    )
    trainer.train()
    return steps


def tokenizer_of(recipe: Recipe) -> Any:
    from transformers import AutoTokenizer

    from engine.builtin import model_path

    return AutoTokenizer.from_pretrained(model_path(recipe.model.model_name_or_path))


def gradients(recipe: Recipe, rows: Any, trained: dict[str, Any]) -> dict[str, Any]:
    """One batch's gradients, plain and fused, at the first adapters and at the trained ones."""
    from tests.bench.fused_step import compare

    batch = rows[: recipe.train.per_device_train_batch_size]
    keys = ("input_ids", "labels")
    examples = [dict(zip(keys, each, strict=True)) for each in zip(*(batch[k] for k in keys))]
    device, found = recipe.model.device, {}
    for place in ("first", "trained"):
        model = load(recipe, "plain").train()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                value = trained[name] if place == "trained" else parameter.data.float()
                parameter.data = value.to(parameter.device)
        found[place] = compare(model, recipe, examples, recipe.model.dtype, device, False)
        say(f"gradients, {place}: {json.dumps(found[place]['cosine'])}")
        model = drop(model)
    return found


# ---- words --------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    lines = [
        f"`{results['command']}`, {results['steps']} steps",
        "",
        "| shape | curves | mean difference | largest (at step) | last 50 | first norms differ |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    shapes = {name: value for name, value in results.items() if isinstance(value, dict)}
    for name, shape in shapes.items():
        for pair, each in shape["apart"].items():
            lines.append(
                f"| {name} | {' and '.join(pair.split())} | {each['mean']:.5f} | "
                f"{each['largest']:.5f} ({each['at_step']}) | {each['mean_of_last_50']:.5f} | "
                f"{each['first_norms_differ']:.1e} |"
            )
    lines += ["", "| shape | adapters | gradients | cosine |", "| --- | --- | --- | --- |"]
    for name, shape in shapes.items():
        for place, each in shape["gradients"].items():
            for pair, cosine in each["cosine"].items():
                lines.append(f"| {name} | {place} | {pair} | {cosine:.6f} |")
    for name, shape in shapes.items():
        ends = {way: f"{c[0]:.4f} to {c[-1]:.4f}" for way, c in shape["curves"].items()}
        words = ", ".join(f"{way} {each}" for way, each in ends.items())
        lines += ["", f"{name} ({shape['facts']['notes']}): loss {words}; {shape['seconds']:.0f} s"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
