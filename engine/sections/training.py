"""Model, adapters, training, evaluation and generation: names of Transformers, TRL and PEFT."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.builtin import BUILTIN_BASE
from engine.sections import Section

__all__ = ["EvaluateSection", "GenerateSection", "LoraSection", "ModelSection", "TrainSection"]

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class ModelSection(Section):
    """Which model, and how it is loaded."""

    model_name_or_path: str = Field(
        BUILTIN_BASE, description=f"hub id, folder, or {BUILTIN_BASE!r} for the built-in model"
    )
    revision: str = Field("", description="hub revision; default: the main branch")
    backend: Literal["auto", "unsloth", "transformers"] = Field(
        "auto", description="auto: unsloth where it is installed and a CUDA GPU is there"
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto: CUDA where there is one"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the GPU has it, else float16; float32 on a CPU"
    )
    load_in_4bit: bool = Field(False, description="hold the base weights in 4 bits (bitsandbytes)")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="4-bit data type")
    bnb_4bit_use_double_quant: bool = Field(True, description="quantise the constants too")
    trust_remote_code: bool = Field(
        False,
        description="run the Python code that a model brings along, on this machine, as you: only "
        "for models whose code you have read",
    )


class LoraSection(Section):
    """Low-rank adapters (PEFT's LoraConfig)."""

    enabled: bool = Field(True, description="false: full fine-tuning of every weight")
    r: int = Field(8, ge=1, le=4096, description="rank")
    lora_alpha: float = Field(16, gt=0, description="scale is lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapters' input")
    target_modules: list[str] = Field(LINEARS, min_length=1, description="modules with adapters")
    use_rslora: bool = Field(False, description="scale by lora_alpha / sqrt(r)")
    use_dora: bool = Field(False, description="weight-decomposed adapters")


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
    ] = Field("linear", description="Transformers' schedules that need no further settings")
    warmup_steps: float = Field(0, ge=0, description="steps, or below 1 a share of all steps")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    optim: Literal[
        "auto",
        "adamw_torch",
        "adamw_torch_fused",
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
    ] = Field("auto", description="auto: adamw_8bit on a GPU, adamw_torch on a CPU")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0: none")
    completion_only_loss: bool = Field(True, description="train on the completion's tokens only")
    packing: bool = Field(
        False,
        description="group several rows into blocks of max_length, to improve computational "
        "efficiency and reduce padding; a batch then counts blocks",
    )
    gradient_checkpointing: bool = Field(False, description="less memory, slower steps")
    seed: int = Field(
        3407, ge=0, lt=2**32, description="data order, adapters' first values, dropout"
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

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, steps: int) -> int:
        if steps == 0:  # Transformers would make one step all the same, and report none
            raise ValueError("at least 1, or -1 for as many as num_train_epochs asks for")
        return steps

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


class GenerateSection(Section):
    """How answers are sampled (names of Transformers' GenerationConfig)."""

    max_new_tokens: int = Field(128, ge=1, description="tokens")
    do_sample: bool = Field(False, description="false: always the most likely token")
    temperature: float = Field(0.7, gt=0, description="used when do_sample is true")
    top_p: float = Field(0.9, gt=0, le=1, description="used when do_sample is true")
    top_k: int = Field(50, ge=0, description="used when do_sample is true; 0: off")
    repetition_penalty: float = Field(1.0, gt=0, description="1: none")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampling")
