"""Values of other tools as tunebench has them. Each raises ValueError for what has no meaning."""

import json
from typing import Any

__all__ = [
    "arguments",
    "attention",
    "epochs_or_steps",
    "mapping",
    "names",
    "negated",
    "optimizer",
    "strategy",
    "targets",
    "trackers",
]

_OPTIMIZERS = {
    "adamw_hf": "adamw_torch",
    "adamw": "adamw_torch",
    "ao_adamw_8bit": "adamw_torch_8bit",
    "ao_adamw_4bit": "adamw_torch_4bit",
    "paged_adamw": "paged_adamw_32bit",
    "lion": "lion_32bit",
    "paged_lion": "paged_lion_32bit",
}
"""Older or other names of the same optimiser."""
_ATTENTION = {
    "disabled": "eager",
    "fa2": "flash_attention_2",
    "flash_attention": "flash_attention_2",
}
_TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def names(value: Any) -> list[str]:
    """``"a,b"`` or a list of texts."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"must be names, not {value!r}")
    return [part.strip() for part in parts if part.strip()]


def targets(value: Any) -> list[str] | str:
    """Modules with adapters; every tool has a word of its own for all linear ones."""
    found = names(value)
    return "all-linear" if found in (["all"], ["all-linear"], ["all_linear"]) else found


def negated(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return not value


def optimizer(value: Any) -> str:
    return _OPTIMIZERS.get(str(value), str(value))


def attention(value: Any) -> str:
    return _ATTENTION.get(str(value), str(value))


def epochs_or_steps(value: Any) -> Any:
    """``max_steps``: nothing and 0 stand for "by epochs", which is -1 here."""
    return -1 if value in (0, None) and value is not False else value


def arguments(value: Any) -> str:
    """What an optimiser takes, as the text ``"a=1,b=2"``."""
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items())
    if not isinstance(value, str):
        raise ValueError(f"must be a text or a mapping, not {value!r}")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, also when it is written as JSON in a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"must be a mapping, not {value!r}") from None
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, not {value!r}")
    return {str(key): inner for key, inner in value.items()}


def strategy(value: Any) -> str:
    """``no``, ``steps``, ``epoch`` or ``best``: YAML 1.1 reads a bare ``no`` as false."""
    if isinstance(value, bool):
        return "steps" if value else "no"
    return str(value).lower()


def trackers(value: Any) -> tuple[list[str], list[str]]:
    """Those that tunebench has, and the others."""
    found = [str(each) for each in (value if isinstance(value, list) else [value])]
    found = [name for name in found if name not in ("none", "None", "False")]
    if "all" in found:
        return [], ["all"]
    return (
        [name for name in dict.fromkeys(found) if name in _TRACKERS],
        [name for name in found if name not in _TRACKERS],
    )
