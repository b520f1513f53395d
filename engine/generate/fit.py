"""Which models the slots can answer for: by what they say of themselves, and by trying."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from engine.generate.mixing import BASE, Mixture
from engine.generate.slots import ATTENTION
from engine.generate.stepper import Stepper
from engine.recipe import GenerateSection

if TYPE_CHECKING:
    from engine.generate.models import Base

__all__ = ["leave_slots", "misfit", "take_slots"]

FIXED_ROPE = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings that do not depend on how long the longest answer is by now."""

PROBE_TOKENS = 48

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}
"""How far logits may be off, as a share of their spread: what rounding does to them."""


def take_slots(base: "Base", capacity: int, prompt: Sequence[int]) -> str:
    """Give the base's model the attention of slots; says why not where it does not fit it.

    The first time the model is asked, with the beginning of ``prompt``: what the slots answer must
    be what the model answers on its own.
    """
    if not (why := misfit(base.bare, capacity)):
        if base.misfit is None:
            leave_slots(base)
            base.misfit = _tried(base, list(prompt[:PROBE_TOKENS]))
        why = base.misfit
    if why:
        leave_slots(base)
    elif base.bare.config._attn_implementation != ATTENTION:
        base.bare.set_attn_implementation(ATTENTION)
    return why


def leave_slots(base: "Base") -> None:
    """Give the base's model its own attention back."""
    if base.bare.config._attn_implementation == ATTENTION:
        base.bare.set_attn_implementation(base.attention)


def misfit(model: Any, capacity: int) -> str:
    """Why a model cannot answer from slots of this many tokens; "" where nothing speaks against."""
    config = model.config.get_text_config()
    if not type(model).__module__.startswith("transformers.models."):
        return "its code is not Transformers' own"
    if not getattr(model, "_can_compile_fullgraph", False):
        return f"{type(model).__name__} has no fixed shapes"
    kinds = set(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    if kinds - {"full_attention"} or (not kinds and window and window < capacity):
        return "not all of its layers look at the whole text"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in FIXED_ROPE:
        return f"its rotary embedding ({rope}) changes with the length"
    return ""


def _tried(base: "Base", prompt: list[int]) -> str:
    model = base.bare
    with base.only(BASE), base.without_gradients():
        ids = torch.tensor([prompt]).to(base.device)
        alone = model(input_ids=ids, use_cache=False).logits[0, -1]
        try:
            model.set_attn_implementation(ATTENTION)
            if model.config._attn_implementation != ATTENTION:
                return "its attention cannot be replaced"
            beside = _beside_a_shorter_one(base, prompt)
        except Exception as error:  # whatever a model says that was not made for this
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    spread = (alone.float() - alone.float().mean()).norm()
    off = ((alone.float() - beside.float()).norm() / spread).item()
    if off <= TOLERANCE.get(_multiplied_in(alone), 0.0):
        return ""
    return f"what it answers there is {off:.2g} of its logits' spread off"


def _multiplied_in(logits: torch.Tensor) -> torch.dtype:
    """What matrices were multiplied in: logits of autocast may have been widened since."""
    kind = logits.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else logits.dtype


def _beside_a_shorter_one(base: "Base", prompt: list[int]) -> torch.Tensor:
    """Logits after the prompt (shape: vocabulary), from the second of two slots."""
    settings = GenerateSection(max_new_tokens=1)
    stepper = Stepper(base, 2, len(prompt) + 8, settings, Mixture(base, [BASE], 2))
    shorter = prompt[: len(prompt) // 2 + 1]
    stepper.fill([0, 1], [shorter, prompt], [BASE, BASE], [0, 0])
    return stepper.logits()[1]
