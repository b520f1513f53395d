"""The library without a trainer: a loop over one shape, torch's fused AdamW, no waiting."""

import contextlib
from typing import Any

from engine.bench.clock import Clock
from engine.bench.job import Job
from engine.bench.rows import IGNORED, Rows
from engine.bench.transformers_trl import lora_config

__all__ = ["run"]


def run(job: Job, clock: Clock) -> None:
    """Train the job's steps in bfloat16 (float16, float32: what the device has)."""
    clock.phase("importing transformers and peft")
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    from engine.train.transformers_backend import compute_dtype

    recipe = job.read_recipe()
    train = recipe.train
    device = "cpu" if job.device == "cpu" else "cuda:0"
    dtype = getattr(torch, compute_dtype(recipe, job.device))
    clock.phase("loading the model")
    set_seed(train.seed)
    config = lora_config(job)
    # Trained weights are no float16: too small changes would be lost.
    held_in = torch.float32 if config is None else dtype
    model: Any = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=held_in, device_map={"": device}
    )
    half = dtype == torch.float16
    if config is not None:
        model = get_peft_model(model, config, autocast_adapter_dtype=half)
    if train.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=train.learning_rate,
        betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon,
        weight_decay=train.weight_decay,
        fused=True,
    )
    scaler = torch.amp.GradScaler(device.partition(":")[0], enabled=half)
    mixed: Any = contextlib.nullcontext()
    if half or held_in != dtype:
        mixed = torch.autocast(device.partition(":")[0], dtype)
    ids, labels = _fixed(job.read_rows(), train.max_length, device)
    generator = torch.Generator().manual_seed(train.seed)
    clock.facts(dtype=str(dtype).removeprefix("torch."), padding="to max_length")
    clock.begin()
    batches = _batches(len(ids), train.per_device_train_batch_size, generator, device)
    accumulation = train.gradient_accumulation_steps
    loss: Any = None
    for step in range(job.steps):
        loss = 0.0
        for _ in range(accumulation):
            chosen = next(batches)
            with mixed:
                # Padding is at the end and not trained, so causal attention needs no mask.
                part = model(input_ids=ids[chosen], labels=labels[chosen], use_cache=False).loss
            scaler.scale(part / accumulation).backward()
            loss = loss + part.detach() / accumulation
        scaler.unscale_(optimizer)
        if train.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(trained, train.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        clock.step(float(loss) if step == 0 else None)
    clock.end()
    clock.loss(job.steps, float(loss))


def _fixed(rows: Rows, length: int, device: str) -> tuple[Any, Any]:
    """All rows as two tensors on the device, (rows, length) int64, padded at the end."""
    import torch

    ids = torch.zeros(len(rows.input_ids), length, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for place, (row, label) in enumerate(zip(rows.input_ids, rows.labels, strict=True)):
        ids[place, : len(row)] = torch.from_numpy(row)
        labels[place, : len(row)] = torch.from_numpy(label)
    return ids.to(device), labels.to(device)


def _batches(rows: int, size: int, generator: Any, device: str) -> Any:
    """Places of rows for batch after batch, epoch after epoch, shuffled."""
    import torch

    while True:
        order = torch.randperm(rows, generator=generator).to(device)
        # The last batch of an epoch would have another shape.
        yield from order.split(size) if rows < size else order[: rows // size * size].split(size)
