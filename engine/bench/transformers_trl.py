"""Transformers, PEFT and TRL's trainer, as TRL's documentation shows, in 4 bits or whole."""

from typing import Any

from engine.bench.clock import Clock, timed
from engine.bench.job import Job, completion_dataset

__all__ = ["lora_config", "run"]


def lora_config(job: Job) -> Any:
    """The recipe's adapters as PEFT's configuration; None: every weight is trained."""
    from peft import LoraConfig

    lora = job.read_recipe().lora
    if not lora.enabled:
        return None
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
        modules_to_save=lora.modules_to_save or None,
        layers_to_transform=lora.layers_to_transform or None,
        init_lora_weights=lora.init_lora_weights,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        bias=lora.bias,
        task_type="CAUSAL_LM",
    )


def run(job: Job, clock: Clock) -> None:
    """Train the job's steps. Batches are padded to their longest row, as the trainer does."""
    clock.phase("importing transformers and trl")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    from engine.train.optim import resolve_optim
    from engine.train.transformers_backend import compute_dtype

    recipe = job.read_recipe()
    train, section = recipe.train, recipe.model
    cpu = job.device == "cpu"
    dtype = compute_dtype(recipe, job.device)
    held_in = getattr(torch, dtype if recipe.lora.enabled else "float32")
    clock.phase("loading the model")
    quantization = None
    if section.load_in_4bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=section.bnb_4bit_quant_type,
            bnb_4bit_use_double_quant=section.bnb_4bit_use_double_quant,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    model = AutoModelForCausalLM.from_pretrained(
        job.model,
        dtype=held_in,
        quantization_config=quantization,
        device_map={"": "cpu" if cpu else 0},
    )
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    clock.phase("preparing the trainer")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir="outputs",
            max_length=train.max_length,
            per_device_train_batch_size=train.per_device_train_batch_size,
            gradient_accumulation_steps=train.gradient_accumulation_steps,
            max_steps=job.planned_steps,
            learning_rate=train.learning_rate,
            optim=resolve_optim(recipe, job.device),
            weight_decay=train.weight_decay,
            gradient_checkpointing=train.gradient_checkpointing,
            bf16=dtype == "bfloat16",
            fp16=dtype == "float16",
            use_cpu=cpu,
            dataloader_pin_memory=not cpu,
            seed=train.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            completion_only_loss=train.completion_only_loss,
        ),
        train_dataset=completion_dataset(job.read_rows()),
        processing_class=tokenizer,
        peft_config=lora_config(job),
        callbacks=[timed(clock, job.steps)],
    )
    clock.facts(dtype=dtype, attention=getattr(model.config, "_attn_implementation", None))
    trainer.train()
    clock.end()
