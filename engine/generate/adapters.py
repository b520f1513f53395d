"""Whether an adapter was made for a base model: by its shapes, before anything is changed."""

from pathlib import Path
from typing import Any

__all__ = ["stranger"]

PREFIX = "base_model.model."


def stranger(model: Any, folder: Path) -> str:
    """Why an adapter's matrices do not fit a model's layers, in words; "" where they do.

    PEFT finds out when a part of them is in place already. Only plain LoRA matrices of linear
    layers are looked at: whatever else an adapter has, PEFT knows better.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        return f"cannot be read ({error})"
    for name, shape in shapes.items():
        layer, _, part = name.removeprefix(PREFIX).rpartition(".lora_")
        if part not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        try:
            module = model.get_submodule(layer)
        except AttributeError:
            return f"it has {layer}, the model has no such layer"
        size = (getattr(module, "in_features", None), getattr(module, "out_features", None))
        if None in size:
            continue
        have, want = (shape[1], size[0]) if part.startswith("A") else (shape[0], size[1])
        if have != want:
            return f"{layer} has {want:,} {'inputs' if part[0] == 'A' else 'outputs'}, not {have:,}"
    return ""
