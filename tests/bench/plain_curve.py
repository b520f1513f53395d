"""A loss curve of plain Transformers + PEFT + TRL, and one batch's gradients: for ``curves.py``.

    python -m tests.bench.plain_curve HOME RECIPE plain,split OUT.json

Of the engine only the rows are used, and in ``gradients`` the layers that are compared.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from engine.home import Home, open_home
from engine.recipe import Recipe, read_recipe


def main() -> int:
    home, recipe, ways, file = sys.argv[1:]
    plain(open_home(Path(home)), read_recipe(Path(recipe)), ways.split(","), Path(file))
    return 0


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
        print(f"{way}: {len(steps)} steps in {time.monotonic() - began:.0f} s", flush=True)
        found["curves"][way] = steps
        file.write_text(json.dumps(found))
        found["facts"][way] = {"attention": model.config._attn_implementation}
        if trained is None or way == "plain":
            trained = adapters(model)
        del model
        free()
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


def free() -> None:
    import torch

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
    from tests.bench.gradients import compare

    batch = rows[: recipe.train.per_device_train_batch_size]
    keys = ("input_ids", "labels")
    examples = [
        dict(zip(keys, each, strict=True)) for each in zip(*(batch[k] for k in keys), strict=True)
    ]
    device, found = recipe.model.device, {}
    for place in ("first", "trained"):
        model = load(recipe, "plain").train()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                value = trained[name] if place == "trained" else parameter.data.float()
                parameter.data = value.to(parameter.device)
        found[place] = compare(model, recipe, examples, recipe.model.dtype, device, False)
        print(f"gradients, {place}: {json.dumps(found[place]['cosine'])}", flush=True)
        del model
        free()
    return found


if __name__ == "__main__":
    sys.exit(main())
