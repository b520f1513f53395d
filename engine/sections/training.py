"""Training, evaluation and generation: names of Transformers, TRL and PEFT."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.sections import Section

__all__ = ["EvaluateSection", "GenerateSection", "TrainSection"]


class TrainSection(Section):
    """Hyperparameters, under the names of Transformers' TrainingArguments and TRL's SFTConfig."""

    max_length: int = Field(128, ge=8, description="tokens; longer examples are cut at the end")
    per_device_train_batch_size: int = Field(32, ge=1, description="examples a step and device")
    per_device_eval_batch_size: int = Field(32, ge=1, description="examples an evaluation step")
    gradient_accumulation_steps: int = Field(1, ge=1, description="batches an optimiser step")
    num_train_epochs: float = Field(1, gt=0, description="passes over the train split")
    max_steps: int = Field(
        -1, ge=-1, le=10**9, description="optimiser steps; -1: by num_train_epochs"
    )
    learning_rate: float = Field(3e-4, ge=0, description="peak learning rate")
    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",
        "reduce_lr_on_plateau",
    ] = Field("linear", description="how the learning rate moves over the run")
    lr_scheduler_kwargs: dict[str, bool | int | float | str] = Field(
        {}, description="what the schedule takes besides, e.g. {min_lr_rate = 0.1}"
    )
    warmup_steps: float = Field(0, ge=0, description="steps, or below 1 a share of all steps")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    optim: Literal[
        "auto",
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_torch_8bit",
        "adamw_torch_4bit",
        "adamw_8bit",
        "adamw_bnb_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "adafactor",
        "ademamix",
        "ademamix_8bit",
        "paged_ademamix_8bit",
        "paged_ademamix_32bit",
        "lion_8bit",
        "lion_32bit",
        "paged_lion_8bit",
        "paged_lion_32bit",
        "sgd",
        "adagrad",
        "rmsprop",
        # Not galore and apollo (their checkpoints can only be read by unpickling code), nor
        # grokadamw (measured: a resumed run differs by 0.02).
        "schedule_free_radam",
        "schedule_free_adamw",
        "schedule_free_sgd",
        "stable_adamw",
    ] = Field(
        "auto",
        description="auto: adamw_torch (fused on a GPU); adamw_8bit to train all weights on a GPU",
    )
    optim_args: str = Field("", description='what the optimiser takes besides, e.g. "rank=64"')
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the gradients' mean")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's decay of their squares' mean")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0: none")
    completion_only_loss: bool = Field(True, description="train on the completion's tokens only")
    packing: bool = Field(
        False,
        description="group several rows into blocks of max_length, to improve computational "
        "efficiency and reduce padding; a batch then counts blocks",
    )
    label_smoothing_factor: float = Field(0.0, ge=0, lt=1, description="0: none")
    neftune_noise_alpha: float = Field(
        0.0, ge=0, description="noise on the embeddings while training (NEFTune); 0: none"
    )
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = Field(
        "random", description="order of the rows; group_by_length: less padding"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, slower steps")
    seed: int = Field(
        3407, ge=0, lt=2**32, description="data order, adapters' first values, dropout"
    )
    full_determinism: bool = Field(
        False,
        description="only kernels that give the same bits every time, or an error where there is "
        "none; slower on a GPU",
    )
    num_processes: int = Field(
        1, ge=1, le=1024, description="processes, one a GPU; the batch counts for each"
    )
    fsdp: Literal["auto"] | bool = Field(
        "auto",
        description="shard the weights over the processes (FSDP2); auto: for full fine-tuning",
    )
    eval_steps: int = Field(250, ge=1, description="optimiser steps between evaluations")
    save_steps: int = Field(250, ge=1, description="optimiser steps between checkpoints")
    save_total_limit: int = Field(2, ge=1, description="checkpoints kept; the best one always is")
    load_best_model_at_end: bool = Field(
        True, description="keep the weights with the lowest validation loss, not the last ones"
    )
    early_stopping_patience: int = Field(
        0, ge=0, description="evaluations without improvement before the run ends; 0: never"
    )
    early_stopping_threshold: float = Field(
        0.0, ge=0, description="smallest fall of the validation loss that counts"
    )
    stop_at_loss: float = Field(
        0.0, ge=0, description="end when the validation loss is at or below this; 0: never"
    )
    loss_watchdog: Literal["off", "stop", "lower_rate"] = Field(
        "stop",
        description="at a loss that is not a number, or too high: end the run, or skip the step "
        "and lower the learning rate",
    )
    loss_watchdog_threshold: float = Field(
        0.0, ge=0, description="a step's loss above this is too high; 0: no limit"
    )
    loss_watchdog_spike: float = Field(
        0.0,
        ge=0,
        description="a step's loss above this many times the median of the last 50 is too high; "
        "0: no limit",
    )
    loss_watchdog_patience: int = Field(
        3, ge=1, description="steps in a row with too high a loss before the watchdog acts"
    )
    loss_watchdog_factor: float = Field(
        0.5, gt=0, lt=1, description="lower_rate: the learning rate is multiplied by this"
    )
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        [], description="trackers that are told of the run besides its journal; empty: none"
    )

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, steps: int) -> int:
        if steps == 0:  # Transformers would make one step all the same, and report none
            raise ValueError("at least 1, or -1 for as many as num_train_epochs asks for")
        return steps

    @field_validator("optim_args")
    @classmethod
    def _keys_with_values(cls, text: str) -> str:
        # As Transformers takes them apart: after minutes of loading it would fail without a name.
        if any(part.count("=") != 1 for part in text.replace(" ", "").split(",") if text):
            raise ValueError('write it as key=value, with commas between: "rank=64,scale=0.5"')
        return text

    @model_validator(mode="after")
    def _best_needs_checkpoints(self) -> Self:
        if self.load_best_model_at_end and self.save_steps % self.eval_steps:
            raise ValueError(
                f"load_best_model_at_end needs save_steps ({self.save_steps}) to be a multiple of "
                f"eval_steps ({self.eval_steps})"
            )
        if self.early_stopping_patience and not self.load_best_model_at_end:
            raise ValueError("early_stopping_patience needs load_best_model_at_end = true")
        return self


class EvaluateSection(Section):
    """What is measured on the splits that are not trained on."""

    validation_rows: int = Field(0, ge=0, description="rows of validation at a time; 0: all")
    test_rows: int = Field(0, ge=0, description="rows of test in the report; 0: all")
    before: bool = Field(True, description="report the untrained model on the test split too")
    sample_prompts: list[str] = Field(
        [],
        description="prompts answered at every evaluation, to see the text change; empty: the "
        "first sample_rows of validation",
    )
    sample_rows: int = Field(3, ge=0, le=64, description="0, and no sample_prompts: no samples")
    sample_max_new_tokens: int = Field(64, ge=1, description="tokens an answer at most")


class GenerateSection(Section):
    """How answers are sampled (names of Transformers' GenerationConfig)."""

    max_new_tokens: int = Field(128, ge=1, description="tokens")
    do_sample: bool = Field(False, description="false: always the most likely token")
    temperature: float = Field(0.7, gt=0, description="used when do_sample is true")
    top_p: float = Field(0.9, gt=0, le=1, description="used when do_sample is true")
    top_k: int = Field(50, ge=0, description="used when do_sample is true; 0: off")
    min_p: float = Field(
        0.0,
        ge=0,
        le=1,
        description="used when do_sample is true: no token less likely than this share of the most "
        "likely one; 0: off",
    )
    repetition_penalty: float = Field(1.0, gt=0, description="1: none")
    stop_strings: list[str] = Field(
        [], description="an answer ends before the first of these texts; empty: none"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampling")

    @field_validator("stop_strings")
    @classmethod
    def _something_to_stop_at(cls, strings: list[str]) -> list[str]:
        if "" in strings:  # it would end every answer before it began
            raise ValueError("an empty text cannot be stopped at; leave it out")
        return strings
