"""Axolotl's recipes: the YAML of ``axolotl train``.

Names and defaults from its ``utils/schemas`` and trainer builders (2026-07).
"""

from typing import Any

from engine.imports.axolotl_data import dataset
from engine.imports.axolotl_keys import ALIASES, MARKS, RULES, WORDS
from engine.imports.convert import (
    mapping,
    names,
    strategy,
    targets,
)
from engine.imports.draft import Alias, Draft
from engine.imports.rhythm import Every, rhythm, split_shares
from engine.imports.rows import as_they_are

__all__ = ["ALIASES", "MARKS", "NAME", "RULES", "build"]

NAME = "Axolotl"


def build(draft: Draft) -> None:
    """Raises :class:`UsageError` naming file and key."""
    for key in ("rl", "reward_model", "process_reward_model"):
        if value := draft.take(key):
            raise draft.wrong(key, f"{value!r}: only supervised fine-tuning is done here")
    if not draft.has("base_model") and "model.model_name_or_path" not in draft.settings:
        raise draft.wrong("base_model", "is not there")
    if not draft.has("learning_rate") and "train.learning_rate" not in draft.settings:
        raise draft.wrong("learning_rate", "is not there; Axolotl has no default of it either")
    _method(draft)
    draft.aliases(ALIASES)
    _adapters(draft)
    _numbers(draft)
    _batches(draft)
    _schedule(draft)
    _tokens(draft)
    once = draft.flag("dataset_exact_deduplication")
    as_they_are(draft, ["duplicates"] if once else None)
    if once:
        draft.put("clean.duplicates", {"by": "both"}, "dataset_exact_deduplication", "same rows")
    dataset(draft)
    _packing(draft)
    _steps(draft)
    _trackers(draft)
    draft.leave_rest(WORDS)


def _method(draft: Draft) -> None:
    kind = draft.take("adapter")
    if kind not in (None, "lora", "qlora"):
        raise draft.wrong("adapter", f"{kind!r}: only lora and qlora are done here")
    why = "" if kind else "no adapter: every weight is trained"
    draft.put("lora.enabled", kind is not None, "adapter", why)
    four = draft.flag("load_in_4bit", kind == "qlora")
    if kind == "qlora" and not four:
        raise draft.wrong("load_in_4bit", "must be true for adapter: qlora, also in Axolotl")
    if kind == "qlora":
        draft.put("model.load_in_4bit", True, "adapter", "qlora")
    else:
        draft.put("model.load_in_4bit", four, "load_in_4bit")
    for name, value in draft.convert("bnb_config_kwargs", mapping, {}).items():
        key = f"bnb_config_kwargs.{name}"
        if name in ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant"):
            draft.put(f"model.{name}", value, key)
        else:
            draft.leave(key, "no such setting of 4-bit weights here", value)


def _adapters(draft: Draft) -> None:
    if not draft.get("lora.enabled"):
        for key in ("lora_r", "lora_alpha", "lora_target_linear", "lora_target_modules"):
            if draft.has(key):
                draft.leave(key, "without effect: every weight is trained")
        return
    for key, to in (("lora_r", "lora.r"), ("lora_alpha", "lora.lora_alpha")):
        if draft.has(key):
            draft.put(to, draft.take(key), key)
        else:
            draft.put(to, 8, key, "PEFT's default, as there")
    linear, modules = draft.flag("lora_target_linear"), draft.take("lora_target_modules")
    if modules and not linear:
        draft.alias("lora_target_modules", Alias("lora.target_modules", None, targets))
    elif linear:
        draft.put("lora.target_modules", "all-linear", "lora_target_linear", "every linear module")
        if modules:
            draft.leave("lora_target_modules", "every linear module is among them")
    else:
        draft.put(
            "lora.target_modules",
            ["q_proj", "v_proj"],
            "lora_target_modules",
            "PEFT's default for Llama-like models, as there",
        )


def _numbers(draft: Draft) -> None:
    types = {
        "bf16": "bfloat16",
        "bfloat16": "bfloat16",
        "fp16": "float16",
        "float16": "float16",
        "float32": "float32",
    }
    given = {key: draft.take(key) for key in types}
    on = next((key for key, value in given.items() if value not in (None, False, "auto")), None)
    if on:
        why = "weights held in it too there" if on in ("bfloat16", "float16") else ""
        draft.put("model.dtype", types[on], on, why)
    elif given["bf16"] is False:
        draft.put("model.dtype", "float32", "bf16", "neither bf16 nor fp16")
    flash, sdpa, eager = (draft.flag(f"{name}_attention") for name in ("flash", "sdp", "eager"))
    if sdpa or eager:
        draft.put(
            "model.attn_implementation",
            "sdpa" if sdpa else "eager",
            "sdp_attention" if sdpa else "eager_attention",
        )
    elif flash and not draft.has("attn_implementation"):
        draft.put(
            "model.attn_implementation",
            "auto",
            "flash_attention",
            "whichever attention is there, with the same result; flash_attention_2 where "
            "flash-attn is installed",
        )
    value = draft.take("gradient_checkpointing", False)
    why = f"{value!r} moves activations elsewhere there" if isinstance(value, str) else ""
    draft.put("train.gradient_checkpointing", value is not False, "gradient_checkpointing", why)


def _batches(draft: Draft) -> None:
    one = draft.get("train.per_device_train_batch_size")
    steps = draft.number("gradient_accumulation_steps", 0)
    total = draft.number("batch_size", 0)
    if total and not steps and isinstance(one, int) and one > 0:
        draft.put(
            "train.gradient_accumulation_steps",
            max(1, int(total // one)),
            "batch_size",
            f"{total:g} rows a step in batches of {one}, on one GPU",
        )
    else:
        draft.put("train.gradient_accumulation_steps", steps or 1, "gradient_accumulation_steps")
    if size := draft.take("eval_batch_size"):
        draft.put("train.per_device_eval_batch_size", size, "eval_batch_size")
    else:
        draft.put(
            "train.per_device_eval_batch_size",
            one,
            "eval_batch_size",
            f"{draft.default_words}: micro_batch_size",
        )


def _schedule(draft: Draft) -> None:
    ratio, total = draft.number("warmup_ratio", 0), draft.get("train.max_steps")
    if steps := draft.number("warmup_steps", 0):
        draft.put("train.warmup_steps", steps, "warmup_steps")
    elif ratio:
        draft.put("train.warmup_steps", ratio, "warmup_ratio", "a share of all steps")
    elif draft.has("warmup_steps") or draft.has("warmup_ratio"):
        # 0 is taken for nothing there.
        draft.put(
            "train.warmup_steps",
            _usual(total),
            "warmup_steps",
            f"0 stands for the {draft.default_words}: 3 % of all steps, at most 100",
        )
    else:
        draft.put(
            "train.warmup_steps",
            _usual(total),
            "warmup_steps",
            f"{draft.default_words}: 3 % of all steps, at most 100",
        )
    if lowest := draft.number("cosine_min_lr_ratio", 0):
        if draft.get("train.lr_scheduler_type") != "cosine":
            draft.leave("cosine_min_lr_ratio", "for the schedule cosine only")
            return
        draft.put(
            "train.lr_scheduler_type",
            "cosine_with_min_lr",
            "cosine_min_lr_ratio",
            f"the schedule that ends at {lowest:g} of the learning rate",
        )
        draft.put(
            "train.lr_scheduler_kwargs",
            {"min_lr_rate": lowest},
            "cosine_min_lr_ratio",
            "the same share",
        )


def _usual(total: Any) -> float:
    return min(int(0.03 * total), 100) if isinstance(total, int) and total > 0 else 0.03


def _tokens(draft: Draft) -> None:
    new = draft.convert("tokens", names, [])
    special = draft.convert("special_tokens", mapping, {})
    more = special.pop("additional_special_tokens", None) or []
    new += draft.converted("special_tokens.additional_special_tokens", more, names)
    # An end token that the vocabulary has must not be trained anew; one that comes with other new
    # tokens, or with trained embeddings, is new itself.
    fresh = bool(new) or draft.has("lora_modules_to_save")
    for name, value in special.items():
        key = f"special_tokens.{name}"
        if value is None:
            continue
        if name == "pad_token":
            draft.leave(key, "padding is never trained", value)
        elif fresh:
            new.append(str(value))
            draft.leave(key, "the tokenizer keeps its own; the token is in model.add_tokens", value)
        else:
            draft.leave(
                key,
                "the tokenizer keeps its own; name it in model.add_tokens where the vocabulary has "
                "none such",
                value,
            )
    if new:
        key = "tokens" if draft.has("tokens") else "special_tokens"
        draft.put("model.add_tokens", list(dict.fromkeys(new)), key, "their embeddings are trained")


def _packing(draft: Draft) -> None:
    packs = draft.flag(
        "sample_packing", draft.get("data.layout") == "text" and draft.has("pretraining_dataset")
    )
    draft.put(
        "train.packing",
        packs,
        "sample_packing",
        "which rows share a block is decided otherwise" if packs else "",
    )
    key = "excess_length_strategy"
    if draft.take(key, "drop") != "truncate":
        draft.change(
            key,
            "train.max_length",
            draft.get("train.max_length"),
            f"{draft.default_words if not draft.has(key) else 'there'}: longer rows are "
            "dropped; here they are cut (the rule clean.length drops them)",
        )
    order = "random"
    for key, word in (
        ("group_by_length", "group_by_length"),
        ("curriculum_sampling", "sequential"),
    ):
        if draft.flag(key):
            order = word
            draft.change(key, "train.train_sampling_strategy", word, "true there")
    draft.put("train.train_sampling_strategy", order, "curriculum_sampling")


def _steps(draft: Draft) -> None:
    key = "val_set_size"
    size = draft.number(key, 0)
    if size >= 1:
        draft.leave(
            key,
            f"{size:g} rows; how many rows there are is not known here, so a share of "
            "0.05 is taken: set split.* to counts",
        )
        size = 0.05
    split_shares(draft, key, size, draft.has(key))
    evaluated = bool(size) or draft.has("test_datasets")
    evaluates: Every | None = _every(draft, "eval")
    if not evaluated or (evaluates is not None and evaluates.words == "no"):
        evaluates = None
    best = draft.flag("load_best_model_at_end")
    patience = int(draft.number("early_stopping_patience", 0))
    rhythm(draft, evaluates, _every(draft, "save"), best, patience)


def _every(draft: Draft, what: str) -> Every:
    """``eval_steps``, ``evals_per_epoch``, ``eval_strategy``, and the same of saving."""
    steps = draft.take(f"{what}_steps")
    times = draft.take(f"{what}s_per_epoch")
    key = f"{what}_strategy"
    when = strategy(
        draft.take(key, draft.take("evaluation_strategy") if what == "eval" else None) or "epoch"
    )
    if steps:
        return Every(f"{what}_steps", draft.number(f"{what}_steps", 0))
    if times:
        return Every(f"{what}s_per_epoch", None, f"{times} times an epoch")
    if when == "no":
        return Every(key, None, "no" if what == "eval" else "no checkpoints there")
    return Every(
        key, None, f"once an {when}" if when == "epoch" else f"at every {when}", draft.has(key)
    )


def _trackers(draft: Draft) -> None:
    """A tracker is on by its switch, or by the name of a project where it has one."""
    projects = {
        "wandb": "wandb_project",
        "mlflow": "mlflow_experiment_name",
        "trackio": "trackio_project_name",
        "tensorboard": "",
    }
    on = []
    for name, project in projects.items():
        key = f"use_{name}"
        if draft.flag(key, bool(project and draft.has(project))):
            on.append(name)
            draft.change(
                key if draft.has(key) else project, "train.report_to", [name], "switched on there"
            )
    draft.put("train.report_to", on, f"({draft.tool})")
