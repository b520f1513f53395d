"""LLaMA-Factory's recipes: the YAML or JSON of ``llamafactory-cli train``.

Names and defaults from its ``hparams`` and, where it hands keys on, from Transformers'
TrainingArguments (2026-08).
"""

from typing import Any

from engine.imports.convert import (
    arguments,
    attention,
    epochs_or_steps,
    mapping,
    names,
    negated,
    optimizer,
    strategy,
    targets,
    trackers,
)
from engine.imports.draft import Alias, Draft
from engine.imports.llama_factory_data import dataset
from engine.imports.llama_factory_words import WORDS
from engine.imports.rhythm import Every, rhythm, split_shares
from engine.imports.rows import as_they_are, chat

__all__ = ["ALIASES", "MARKS", "NAME", "RULES", "build"]

NAME = "LLaMA-Factory"
MARKS = (
    "model_name_or_path", "finetuning_type", "stage", "template", "dataset", "dataset_dir",
    "cutoff_len", "lora_target", "lora_rank", "quantization_bit", "preprocessing_num_workers",
)  # fmt: skip
"""Keys by which its files are known."""

_SHIFTED = "rows in a block never see each other here; there they do unless neat_packing is set"
ALIASES = {
    "model_name_or_path": Alias("model.model_name_or_path"),
    "model_revision": Alias("model.revision", None, lambda value: "" if value == "main" else value),
    "trust_remote_code": Alias("model.trust_remote_code", False),
    "use_unsloth": Alias("model.backend", None, lambda value: "unsloth" if value else "auto"),
    "flash_attn": Alias("model.attn_implementation", "auto", attention),
    "quantization_type": Alias("model.bnb_4bit_quant_type", "nf4"),
    "double_quantization": Alias("model.bnb_4bit_use_double_quant", True),
    "add_special_tokens": Alias(
        "model.add_tokens", None, names, "they start from the mean of all tokens, with noise, there"
    ),
    "use_cpu": Alias("model.device", None, lambda value: "cpu" if value else "auto"),
    "lora_rank": Alias("lora.r", 8),
    "lora_dropout": Alias("lora.lora_dropout", 0.0),
    "lora_target": Alias("lora.target_modules", "all-linear", targets),
    "additional_target": Alias("lora.modules_to_save", None, names),
    "use_rslora": Alias("lora.use_rslora", False),
    "use_dora": Alias("lora.use_dora", False),
    "cutoff_len": Alias("train.max_length", 2048),
    "per_device_train_batch_size": Alias("train.per_device_train_batch_size", 8),
    "per_device_eval_batch_size": Alias("train.per_device_eval_batch_size", 8),
    "gradient_accumulation_steps": Alias("train.gradient_accumulation_steps", 1),
    "num_train_epochs": Alias("train.num_train_epochs", 3.0),
    "max_steps": Alias("train.max_steps", -1, epochs_or_steps),
    "learning_rate": Alias("train.learning_rate", 5e-5),
    "lr_scheduler_type": Alias("train.lr_scheduler_type", "linear"),
    "lr_scheduler_kwargs": Alias("train.lr_scheduler_kwargs", None, mapping),
    "weight_decay": Alias("train.weight_decay", 0.0),
    "optim": Alias("train.optim", "adamw_torch", optimizer),
    "optim_args": Alias("train.optim_args", None, arguments),
    "adam_beta1": Alias("train.adam_beta1", 0.9),
    "adam_beta2": Alias("train.adam_beta2", 0.999),
    "adam_epsilon": Alias("train.adam_epsilon", 1e-8),
    "max_grad_norm": Alias("train.max_grad_norm", 1.0),
    "label_smoothing_factor": Alias("train.label_smoothing_factor", 0.0),
    "neftune_noise_alpha": Alias("train.neftune_noise_alpha"),
    "seed": Alias("train.seed", 42),
    "full_determinism": Alias("train.full_determinism", False),
    "train_on_prompt": Alias("train.completion_only_loss", True, negated),
    "disable_gradient_checkpointing": Alias("train.gradient_checkpointing", True, negated),
    "save_total_limit": Alias("train.save_total_limit"),
    "fsdp": Alias("train.fsdp", None, bool, "FSDP2; set train.num_processes"),
    "do_sample": Alias("generate.do_sample"),
    "temperature": Alias("generate.temperature"),
    "top_p": Alias("generate.top_p"),
    "top_k": Alias("generate.top_k"),
    "max_new_tokens": Alias("generate.max_new_tokens"),
    "repetition_penalty": Alias("generate.repetition_penalty"),
    "default_system": Alias("format.system"),
}
RULES = {
    "finetuning_type": "lora.enabled",
    "quantization_bit": "model.load_in_4bit",
    "lora_alpha": "lora.lora_alpha",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "pure_bf16": "model.dtype",
    "template": "format.template",
    "packing": "train.packing",
    "neat_packing": "train.packing",
    "warmup_ratio": "train.warmup_steps",
    "warmup_steps": "train.warmup_steps",
    "disable_shuffling": "train.train_sampling_strategy",
    "group_by_length": "train.train_sampling_strategy",
    "train_sampling_strategy": "train.train_sampling_strategy",
    "val_size": "split.validation",
    "eval_steps": "train.eval_steps",
    "save_steps": "train.save_steps",
    "load_best_model_at_end": "train.load_best_model_at_end",
    "early_stopping_steps": "train.early_stopping_patience",
    "report_to": "train.report_to",
}
"""Keys that a rule below sees to, and what they end up as."""


def build(draft: Draft) -> None:
    """Raises :class:`UsageError` naming file and key."""
    stage = str(draft.take("stage", "sft"))
    if stage not in ("sft", "pt"):
        raise draft.wrong("stage", f"{stage!r}: only supervised fine-tuning (sft) is done here")
    if not draft.has("model_name_or_path") and "model.model_name_or_path" not in draft.settings:
        raise draft.wrong("model_name_or_path", "is not there")
    _method(draft)
    draft.aliases(ALIASES)
    if draft.get("lora.enabled"):
        _alpha(draft)
    _numbers(draft)
    as_they_are(draft)
    dataset(draft, stage)
    _template(draft, stage)
    _packing(draft, stage)
    _steps(draft)
    on, others = trackers(draft.take("report_to", "none"))
    draft.put("train.report_to", on, "report_to", f"without {', '.join(others)}" if others else "")
    draft.leave_rest(WORDS)


def _method(draft: Draft) -> None:
    key = "finetuning_type"
    kind = str(draft.take(key, "lora"))
    if kind not in ("lora", "full"):
        raise draft.wrong(key, f"{kind!r}: only lora and full are done here")
    draft.put(
        "lora.enabled", kind == "lora", key, "every weight is trained" if kind == "full" else ""
    )
    key = "quantization_bit"
    bits = draft.number(key, 0)
    if bits and bits != 4:
        draft.leave(
            key, f"weights held in {bits:g} bits; here in 16, or with model.load_in_4bit in 4"
        )
    draft.put("model.load_in_4bit", bits == 4, key, "bitsandbytes" if bits == 4 else "")


def _alpha(draft: Draft) -> None:
    if value := draft.take("lora_alpha"):
        draft.put("lora.lora_alpha", value, "lora_alpha")
        return
    rank = draft.get("lora.r")
    double = 2 * rank if isinstance(rank, int) else rank
    draft.put("lora.lora_alpha", double, "lora_alpha", f"{draft.default_words}: twice lora_rank")


def _numbers(draft: Draft) -> None:
    pure = draft.flag("pure_bf16")
    if pure or draft.flag("bf16"):
        why = "weights and adapters in bfloat16 alone there; trained ones are kept in float32 here"
        draft.put("model.dtype", "bfloat16", "pure_bf16" if pure else "bf16", why if pure else "")
        draft.take("fp16")
    elif draft.flag("fp16"):
        draft.put("model.dtype", "float16", "fp16")
    ratio = draft.number("warmup_ratio", 0)
    if steps := draft.number("warmup_steps", 0):
        draft.put("train.warmup_steps", steps, "warmup_steps")
        if ratio:
            draft.leave("warmup_ratio", "warmup_steps is there and decides")
    else:
        why = "a share of all steps" if ratio else ""
        draft.put("train.warmup_steps", ratio, "warmup_ratio", why)
    order: Any = draft.take("train_sampling_strategy", "random")
    key = "train_sampling_strategy"
    for other, word in (
        ("group_by_length", "group_by_length"),
        ("disable_shuffling", "sequential"),
    ):
        if draft.flag(other):
            order, key = word, other
    why = f"{key} there" if key != "train_sampling_strategy" else ""
    draft.put("train.train_sampling_strategy", order, key, why)


def _template(draft: Draft, stage: str) -> None:
    value = draft.take("template")
    if stage == "pt":
        draft.put("format.template", "plain", "template")
    elif value is None:
        chat(draft, "template", "own choice (the tokenizer's, where it has one)")
    elif value == "alpaca":
        draft.put(
            "format.template",
            "alpaca",
            "template",
            "a row's input has a part of its own here; there it goes below the instruction",
        )
    elif value in ("default", "empty", "vanilla"):
        draft.put(
            "format.template",
            "plain",
            "template",
            f"was {value!r}; no such layout here, compare with tunebench preview",
        )
    else:
        chat(draft, "template", value)
    if draft.has("default_system") and draft.get("format.template") != "chat":
        draft.made["format"].pop("system")
        draft.leave("default_system", "a system message is for the chat template only")


def _packing(draft: Draft, stage: str) -> None:
    neat = draft.flag("neat_packing")
    packs = draft.flag("packing", stage == "pt") or neat
    key = "neat_packing" if neat else "packing"
    draft.put("train.packing", packs, key, _SHIFTED if packs and not neat else "")


def _steps(draft: Draft) -> None:
    size, key = draft.number("val_size", 0), "val_size"
    if size >= 1:
        draft.leave(
            key,
            f"{size:g} rows; how many rows there are is not known here, so a share of "
            "0.05 is taken: set split.* to counts",
        )
        size = 0.05
    split_shares(draft, key, size, draft.has(key))
    when = strategy(draft.take("eval_strategy", draft.take("evaluation_strategy", "no")))
    evaluates = None
    if when == "steps":
        given = draft.has("eval_steps")
        source = "eval_steps" if given else "logging_steps"  # which stands in for it there
        evaluates = Every(source, draft.number(source, 500), given=given)
    elif when != "no":
        evaluates = Every("eval_strategy", None, f"once an {when}")
    when, key = strategy(draft.take("save_strategy", "steps")), "save_steps"
    if when == "steps":
        saves = Every(key, draft.number(key, 500), given=draft.has(key))
    else:
        words = {"no": "no checkpoints there", "best": "at every best evaluation there"}
        saves = Every("save_strategy", None, words.get(when, f"once an {when}"))
    if not draft.has("save_total_limit"):
        draft.change(
            "save_total_limit",
            "train.save_total_limit",
            draft.get("train.save_total_limit"),
            f"{draft.default_words}: all checkpoints are kept",
        )
    patience = int(draft.number("early_stopping_steps", 0))
    best = draft.flag("load_best_model_at_end")
    rhythm(draft, evaluates, saves, best, patience)
    if patience:
        draft.origin["train.early_stopping_patience"] = "early_stopping_steps"
