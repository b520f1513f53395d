"""Whether the fused layers can compute a recipe's model: from its files, without torch."""

import importlib.util
import json
from typing import Any

from engine.errors import UserError
from engine.model_files import find_file
from engine.recipe import Recipe
from engine.sections.model import LINEARS

__all__ = ["FAMILIES", "read_config", "why_plain"]

FAMILIES = frozenset({"llama", "mistral", "qwen2"})
"""``model_type`` of models whose decoder layers are RMS norm, rotary attention and SwiGLU."""


def read_config(recipe: Recipe) -> dict[str, Any] | None:
    """The model's ``config.json``; None where it is not on this machine yet, or cannot be read."""
    from engine.builtin import model_path

    try:
        name = model_path(recipe.model.model_name_or_path)
        file = find_file(name, "config.json", recipe.model.revision)
        found = json.loads(file.read_text(encoding="utf-8")) if file else None
    except (UserError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def why_plain(recipe: Recipe, config: dict[str, Any] | None, device: str) -> str:
    """Why the model is computed by Transformers' own layers; "" where the fused ones are taken.

    ``config``: of :func:`read_config`; what it does not tell is taken for granted. ``device``: cuda
    or cpu. Raises UserError where ``model.kernels`` asks for what cannot be.
    """
    why = _why_not(recipe, config or {})
    wanted = recipe.model.kernels
    if wanted == "fused":
        if why:
            raise UserError(
                f"model.kernels: the fused layers cannot compute this recipe: {why}; set "
                'model.kernels = "auto"'
            )
        return ""
    if wanted == "plain":
        return 'model.kernels = "plain"'
    if device != "cuda":
        return "they are for CUDA GPUs"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return why


def _why_not(recipe: Recipe, config: dict[str, Any]) -> str:
    model, lora, train = recipe.model, recipe.lora, recipe.train
    kind = config.get("model_type", "llama")
    window = config.get("sliding_window")
    if config.get("use_sliding_window") is False:
        window = None
    targets = lora.target_modules
    others = [] if isinstance(targets, str) else sorted(set(targets) - set(LINEARS))
    reasons = {
        "every weight is trained (lora.enabled = false)": not lora.enabled,
        f"{kind} models have other layers": kind not in FAMILIES,
        f"the model's activation is {config.get('hidden_act')}": (
            config.get("hidden_act", "silu") != "silu"
        ),
        f"attention looks back {window} tokens only": int(window or train.max_length)
        < train.max_length,
        "attention has dropout": bool(config.get("attention_dropout")),
        "lora.use_dora": lora.use_dora,
        f'lora.bias = "{lora.bias}"': lora.bias != "none",
        "lora.modules_to_save": bool(lora.modules_to_save),
        f"lora.target_modules has {', '.join(others)}": bool(others),
        "model.add_tokens": bool(model.add_tokens),
        f'model.attn_implementation = "{model.attn_implementation}"': (
            model.attn_implementation != "auto"
        ),
        "train.neftune_noise_alpha": bool(train.neftune_noise_alpha),
        "train.label_smoothing_factor": bool(train.label_smoothing_factor),
        "model.trust_remote_code": model.trust_remote_code,
    }
    return next((words for words, applies in reasons.items() if applies), "")
