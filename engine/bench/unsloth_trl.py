"""Unsloth with TRL's trainer, as Unsloth's documentation shows; padding is left to its choice."""

from typing import Any

from engine.bench.clock import Clock, timed
from engine.bench.job import Job, completion_dataset

__all__ = ["run"]


def run(job: Job, clock: Clock) -> None:
    """Train the job's steps. With the recipe's gradient checkpointing: Unsloth's own way."""
    clock.phase("importing unsloth")
    from unsloth import FastLanguageModel  # isort: skip  # it patches the others
    from trl import SFTConfig, SFTTrainer

    recipe = job.read_recipe()
    train, lora = recipe.train, recipe.lora
    checkpointing = "unsloth" if train.gradient_checkpointing else False
    clock.phase("loading the model")
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=job.model,
        max_seq_length=train.max_length,
        dtype=None,
        load_in_4bit=recipe.model.load_in_4bit,
        full_finetuning=not lora.enabled,
        use_gradient_checkpointing=checkpointing,
    )
    if lora.enabled:
        model = FastLanguageModel.get_peft_model(
            model,
            r=lora.r,
            target_modules=lora.target_modules,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            bias=lora.bias,
            modules_to_save=lora.modules_to_save or None,
            layers_to_transform=lora.layers_to_transform or None,
            use_gradient_checkpointing=checkpointing,
            random_state=train.seed,
            use_rslora=lora.use_rslora,
            loftq_config=None,
        )
    clock.phase("preparing the trainer")
    # TRL's configuration has checkpointing by default; that it is off has to be said.
    more: dict[str, Any] = {} if checkpointing else {"gradient_checkpointing": False}
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=completion_dataset(job.read_rows()),
        args=SFTConfig(
            output_dir="outputs",
            max_length=train.max_length,
            per_device_train_batch_size=train.per_device_train_batch_size,
            gradient_accumulation_steps=train.gradient_accumulation_steps,
            warmup_steps=5,
            max_steps=job.planned_steps,
            learning_rate=train.learning_rate,
            logging_steps=1,
            optim="adamw_8bit",
            weight_decay=train.weight_decay,
            lr_scheduler_type="linear",
            seed=train.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            completion_only_loss=train.completion_only_loss,
            **more,
        ),
        callbacks=[timed(clock, job.steps)],
    )
    clock.facts(
        padding_free=bool(getattr(trainer.data_collator, "padding_free", False)),
        attention=getattr(model.config, "_attn_implementation", None),
    )
    trainer.train()
    clock.end()
