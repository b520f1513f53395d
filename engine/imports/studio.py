"""Unsloth Studio's recipes: the file of ``unsloth train --config`` and the web page's export.

Names and defaults from ``unsloth_cli/config.py`` and what the trainer does with them (2026-08);
the web page writes more keys than the command line knows.
"""

from collections.abc import Mapping
from typing import Any

from engine.imports.convert import epochs_or_steps, names, optimizer, targets
from engine.imports.draft import Alias, Draft
from engine.imports.rhythm import Every, rhythm, split_shares
from engine.imports.rows import as_they_are, hub, needs_source

__all__ = ["ALIASES", "MARKS", "NAME", "RULES", "SECTIONS", "build", "flat"]

NAME = "Unsloth Studio"
SECTIONS = ("data", "training", "lora", "logging", "inference")
MARKS = ("data", "training", "lora", "logging")
"""Sections (mappings) by which its files are known."""
_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _targets(value: Any) -> list[str] | str:
    return targets(value) or _LINEARS  # the trainer takes its own for an empty text


ALIASES = {
    "model": Alias("model.model_name_or_path"),
    "training.trust_remote_code": Alias("model.trust_remote_code", False),
    "data.subset": Alias("data.subset"),
    "data.train_split": Alias("data.hub_split"),
    "training.max_seq_length": Alias("train.max_length", 2048),
    "training.batch_size": Alias("train.per_device_train_batch_size", 2),
    "training.gradient_accumulation_steps": Alias("train.gradient_accumulation_steps", 4),
    "training.max_steps": Alias("train.max_steps", -1, epochs_or_steps),
    "training.learning_rate": Alias("train.learning_rate", 2e-4),
    "training.lr_scheduler_type": Alias("train.lr_scheduler_type", "linear"),
    "training.optim": Alias("train.optim", "adamw_8bit", optimizer),
    "training.weight_decay": Alias("train.weight_decay", 0.01),
    "training.random_seed": Alias("train.seed", 3407),
    "training.packing": Alias("train.packing", False),
    "training.save_total_limit": Alias("train.save_total_limit"),
    "training.train_on_completions": Alias("train.completion_only_loss", False),
    "lora.lora_r": Alias("lora.r", 64),
    "lora.lora_alpha": Alias("lora.lora_alpha", 16),
    "lora.lora_dropout": Alias("lora.lora_dropout", 0.0),
    "lora.target_modules": Alias("lora.target_modules", _LINEARS, _targets),
    "lora.use_rslora": Alias("lora.use_rslora", False),
    "lora.use_dora": Alias("lora.use_dora", False),
    "inference.temperature": Alias("generate.temperature"),
    "inference.top_p": Alias("generate.top_p"),
    "inference.top_k": Alias("generate.top_k", None, lambda value: max(0, value)),
}
RULES = {
    "training.training_type": "lora.enabled",
    "training.load_in_4bit": "model.load_in_4bit",
    "training.gradient_checkpointing": "train.gradient_checkpointing",
    "training.num_epochs": "train.num_train_epochs",
    "training.warmup_steps": "train.warmup_steps",
    "training.warmup_ratio": "train.warmup_steps",
    "training.eval_steps": "train.eval_steps",
    "training.save_steps": "train.save_steps",
    "logging.enable_wandb": "train.report_to",
    "logging.enable_tensorboard": "train.report_to",
}
"""Keys that a rule below sees to, and what they end up as."""
_VISION = "pictures are not trained here"
WORDS = {
    "training.output_dir": "every run has a folder of its own",
    "training.push_to_hub": "nothing is pushed while training",
    "training.hub_model_id": "nothing is pushed while training",
    "training.vision_image_size": _VISION,
    "training.embedding_learning_rate": "embeddings have the learning rate of all",
    "lora.use_loftq": "LoftQ starts adapters from the error of the 4-bit weights; here they start "
    "from nothing",
    "lora.vision_all_linear": _VISION,
    "lora.finetune_vision_layers": _VISION,
    "lora.finetune_language_layers": "the language layers are always trained",
    "lora.finetune_attention_modules": "lora.target_modules says which modules have adapters",
    "lora.finetune_mlp_modules": "lora.target_modules says which modules have adapters",
    "logging.wandb_project": "set by WANDB_PROJECT",
    "logging.wandb_token": "set by WANDB_API_KEY",
    "logging.hf_token": "set by HF_TOKEN",
    "logging.tensorboard_dir": "TensorBoard's files lie in the run's folder",
    "logging.log_frequency": "every step is journaled anyway",
    "inference.*": "no such setting of generate",
    "data.eval_split": "validation rows are taken out of the rows that are read",
}


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The sections' keys as ``section.key``."""
    made: dict[str, Any] = {}
    for key, value in tree.items():
        if key in SECTIONS and isinstance(value, dict):
            made |= {f"{key}.{inner}": each for inner, each in value.items()}
        elif key == "model" and isinstance(value, dict):
            # Older files and the API spell the name out in a section.
            made |= {
                "model" if inner in ("name", "model_name") else f"model.{inner}": each
                for inner, each in value.items()
            }
        else:
            made["model" if key == "model_name" else key] = value
    return made


def build(draft: Draft) -> None:
    """Raises :class:`UsageError` naming file and key."""
    if not draft.has("model") and "model.model_name_or_path" not in draft.settings:
        raise draft.wrong(
            "model",
            "is not there (the web page leaves it out); add --set model.model_name_or_path=NAME",
        )
    _method(draft)
    draft.aliases(ALIASES)
    _data(draft)
    _batches(draft)
    _trackers(draft)
    draft.leave_rest(WORDS)


def _method(draft: Draft) -> None:
    key = "training.training_type"
    kind = str(draft.take(key, "lora")).lower()
    full = kind in ("full", "full finetuning")
    if not full and kind not in ("lora", "lora/qlora", "qlora"):
        raise draft.wrong(key, f"{kind!r} is neither lora nor full: no other way is done here")
    draft.put("lora.enabled", not full, key, "every weight is trained" if full else "")
    four = draft.flag("training.load_in_4bit", True)
    if full:
        why = "full fine-tuning holds its weights in full there too" if four else ""
        draft.put("model.load_in_4bit", False, "training.load_in_4bit", why)
    elif draft.has("training.load_in_4bit"):
        draft.put("model.load_in_4bit", four, "training.load_in_4bit")
    else:
        draft.carry("training.load_in_4bit", "model.load_in_4bit", True)
    key = "training.gradient_checkpointing"
    value = draft.take(key)
    word = "unsloth" if value is None else str(value).lower()
    on = word not in ("none", "false", "0", "no", "off")
    why = "" if value is not None else f"{draft.default_words}: {word!r}; "
    if word == "unsloth":
        why += "Unsloth's own checkpointing there; the result is the same"
    draft.put("train.gradient_checkpointing", on, key, why)


def _data(draft: Draft) -> None:
    as_they_are(draft)
    files = draft.convert("data.local_dataset", names, [])
    dataset = draft.take("data.dataset")
    if files:
        draft.put("data.source", files[0], "data.local_dataset")
        for number, file in enumerate(files[1:], 1):
            draft.leave(
                f"data.local_dataset[{number}]",
                "one source is read: put the files in a folder and name that",
                file,
            )
    if dataset and files:
        draft.leave("data.dataset", "one source is read: the local files are taken")
    elif dataset:
        draft.put("data.source", hub(str(dataset)), "data.dataset")
    elif not files:
        needs_source(draft, "data.dataset", "no data is named")
    key = "data.format_type"
    kind = str(draft.take(key, "auto")).lower()
    layouts = {"alpaca": "alpaca", "sharegpt": "sharegpt", "chatml": "messages",
               "conversational": "messages", "raw": "text", "auto": "auto"}  # fmt: skip
    if kind not in layouts:
        raise draft.wrong(key, f"{kind!r} is none of {', '.join(layouts)}")
    layout = layouts[kind]
    draft.put("data.layout", layout, key, f"was {kind!r}" if layout != kind else "")
    if layout in ("alpaca", "text"):
        draft.put("format.template", "alpaca" if layout == "alpaca" else "plain", key)
    else:
        words = (
            "the tokenizer's own chat template; Unsloth Studio may put one of its own in its place"
        )
        if layout == "auto":
            words += ", and trains instruction rows in the alpaca layout: then set it to alpaca"
        draft.put("format.template", "chat", key, words)


def _batches(draft: Draft) -> None:
    draft.put(
        "train.per_device_eval_batch_size",
        draft.get("train.per_device_train_batch_size"),
        f"({draft.tool})",
        "has no such key: the training batch",
    )
    key = "training.num_epochs"
    epochs = draft.number(key, 3)
    if epochs == 0 and draft.get("train.max_steps") != -1:
        draft.put("train.num_train_epochs", 1, key, "0 there: max_steps decides")
    elif draft.has(key):
        draft.put("train.num_train_epochs", epochs, key)
    else:
        draft.carry(key, "train.num_train_epochs", 3)
    _warmup(draft)
    shares = draft.number("training.eval_steps", 0)
    split_shares(draft, f"({draft.tool})", 0.05 if shares else 0, True)
    evaluates = Every("training.eval_steps", shares) if shares else None
    steps = draft.number("training.save_steps", 0)
    saves = Every(
        "training.save_steps",
        steps or None,
        "no checkpoints by steps there",
        draft.has("training.save_steps"),
    )
    rhythm(draft, evaluates, saves, best=False, patience=0)


def _warmup(draft: Draft) -> None:
    ratio = draft.number("training.warmup_ratio", 0)
    if draft.has("training.warmup_steps"):
        draft.put(
            "train.warmup_steps", draft.take("training.warmup_steps"), "training.warmup_steps"
        )
        if ratio:
            draft.leave("training.warmup_ratio", "warmup_steps is there and decides")
    elif ratio:
        draft.put("train.warmup_steps", ratio, "training.warmup_ratio", "a share of all steps")
    else:
        draft.carry("training.warmup_steps", "train.warmup_steps", 5)


def _trackers(draft: Draft) -> None:
    on = [name for name in ("tensorboard", "wandb") if draft.flag(f"logging.enable_{name}")]
    draft.put(
        "train.report_to",
        on,
        f"logging.enable_{on[0]}" if on else f"({draft.tool})",
        "trackers that are switched on" if on else "",
    )
