"""Out of memory as an event: what was tried, how much was asked for, how much there was.

The figures come from the error's own text (PyTorch, NumPy and Arrow write them there), then from
torch and NVML while the worker still lives, then from the kernel.
"""

import importlib
import os
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

from engine.words import bytes_words

if TYPE_CHECKING:  # pydantic: 20 MB that a supervisor has no use for
    from engine.recipe import Recipe

__all__ = ["attempted", "during", "host_figures", "message", "parse", "read"]

_SIZE = r"([\d.]+) (bytes|[KMGT]iB)"
_UNITS = {unit: 1024**power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB"))}
_FIGURES = {
    "needed_bytes": re.compile(
        rf"(?:[Tt]ried to allocate|Unable to allocate|malloc of size|realloc of size) {_SIZE}"
    ),
    "total_bytes": re.compile(rf"total capacity of {_SIZE}"),
    "free_bytes": re.compile(rf"of which {_SIZE} is free"),
    "used_bytes": re.compile(rf"this process has {_SIZE} memory in use"),
    "limit_bytes": re.compile(rf"{_SIZE} allowed"),
    "allocated_bytes": re.compile(rf"{_SIZE} is allocated by PyTorch"),
    "cached_bytes": re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated"),
}
_BARE = re.compile(r"(?:malloc|realloc) of size (\d+)(?! [KMGT]?i?B)")
_PROCESS = re.compile(rf"Process (\d+) has {_SIZE} memory in use")
_GPU = re.compile(r"CUDA|GPU|CUBLAS|CUDNN|NCCL|ncclU|Error .* at line \d+")
_SMALL = 1 << 30
"""Of a GPU's memory, what driver and context take without being anybody's."""

# (module's beginning, function): where in the program it happened, the innermost first.
_PLACES = (
    ("transformers.generation", "", "generation"),
    ("engine.generate", "", "generation"),
    ("engine.train.loss", "split_loss", "evaluation"),
    ("", "measure", "evaluation"),
    ("", "evaluate", "evaluation"),
    ("", "training_step", "training"),
    ("", "load_base", "loading the model"),
)


def parse(text: str) -> dict[str, Any]:
    """The figures in an out-of-memory error's text, in bytes; only those that are there.

    ``processes``: [{"pid", "bytes"}, ...] of others that the text names.
    """
    found: dict[str, Any] = {}
    for name, pattern in _FIGURES.items():
        if match := pattern.search(text):
            found[name] = _bytes(match[1], match[2])
    if match := _BARE.search(text):
        found.setdefault("needed_bytes", int(match[1]))
    others = [
        {"pid": int(pid), "bytes": _bytes(number, unit)}
        for pid, number, unit in _PROCESS.findall(text)
    ]
    if others:
        found["processes"] = others
    return found


def _bytes(number: str, unit: str) -> int:
    return round(float(number.rstrip(".")) * _UNITS[unit])


def during(error: BaseException | None, phase: str) -> str:
    """ "loading the model", "training", "evaluation", "generation", or the journal's ``phase``.

    Where the error was raised is surer than what was said last: an evaluation in the middle of
    training says nothing before it is done.
    """
    frames = traceback.walk_tb(error.__traceback__) if error is not None else ()
    for frame, _ in reversed(list(frames)):
        module, name = str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        for beginning, function, what in _PLACES:
            if module.startswith(beginning) and function in ("", name):
                return what
    if phase.startswith("test loss"):
        return "evaluation"
    return phase or "training"


def read(error: BaseException, deepest: BaseException, phase: str) -> dict[str, Any]:
    """The fields of an ``out_of_memory`` error event, all but kind, message and suggestion.

    ``deepest`` is the exception of the chain that tells of memory. Never raises.
    """
    text = str(deepest)
    fields: dict[str, Any] = {"during": during(deepest, phase) if deepest else phase}
    if fields["during"] == (phase or "training") and error is not deepest:
        fields["during"] = during(error, phase)
    found = parse(text)
    if _GPU.search(text) or type(deepest).__module__.startswith("torch"):
        fields["device"] = "cuda"
        if "torch" in sys.modules:
            found = {**_measured(error), **found}
        _share(found)
    else:
        fields["device"] = "host"
        found = {**host_figures(os.getpid()), **found}
    names = ("needed_bytes", "free_bytes", "total_bytes", "used_bytes", "others_bytes")
    fields.update((name, found.pop(name, None)) for name in names)
    return {**fields, **found}


def _measured(error: BaseException) -> dict[str, Any]:
    try:
        found = importlib.import_module("engine.train.out_of_memory").measure(error)
        return dict(found)
    except Exception:  # a GPU in this state may refuse anything; the text's figures remain
        return {}


def _share(found: dict[str, Any]) -> None:
    """What other processes hold; and what a limit on this one leaves of the free memory."""
    total, free, used = (found.get(f"{name}_bytes") for name in ("total", "free", "used"))
    if total is not None and free is not None and used is not None:
        others = max(0, total - free - used)
        named = sum(one.get("bytes") or 0 for one in found.get("processes", []))
        found["others_bytes"] = others if others > _SMALL else min(others, named)
    limit = found.get("limit_bytes")
    if limit is not None and used is not None and free is not None:
        found["free_bytes"] = max(0, min(free, limit - used))


def host_figures(pid: int) -> dict[str, Any]:
    """Of the host, in bytes: total, free, used by ``pid``, used by others."""
    found: dict[str, Any] = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        found["total_bytes"] = int(lines["MemTotal"].split()[0]) * 1024
        found["free_bytes"] = int(lines["MemAvailable"].split()[0]) * 1024
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            found["used_bytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        rest = found["total_bytes"] - found["free_bytes"] - found["used_bytes"]
        found["others_bytes"] = max(0, rest)
    except (OSError, KeyError, ValueError):
        pass
    return found


def attempted(recipe: "Recipe", what: str) -> str:
    """What of the recipe was being tried, in words."""
    train, model = recipe.train, recipe.model
    bits = " in 4 bits" if model.load_in_4bit else ""
    length = f"of up to {train.max_length:,} tokens"
    if what == "training":
        rows = train.per_device_train_batch_size
        more = ", with gradient checkpointing" if train.gradient_checkpointing else ""
        return f"training on {_rows(rows)} {length} at a time, the model{bits or ' whole'}{more}"
    if what == "evaluation":
        return f"evaluating {_rows(train.per_device_eval_batch_size)} {length} at a time"
    if what == "generation":
        return f"generating samples of up to {recipe.evaluate.sample_max_new_tokens} new tokens"
    if what == "loading the model":
        return f"loading {model.model_name_or_path}{bits}"
    return what


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def message(event: dict[str, Any]) -> str:
    """One line: what was going on, what was asked for, what there was, what was missing."""
    what = event["during"]
    when = {"training": "in training", "evaluation": "in an evaluation", "generation": "in samples"}
    parts = [f"out of memory {when.get(what, f'while {what}')}"]
    where = "the GPU" if event.get("device") == "cuda" else "the host"
    needed, free, total = (event.get(f"{name}_bytes") for name in ("needed", "free", "total"))
    if needed is not None:
        parts.append(f"{bytes_words(needed)} more asked of {where}")
    if free is not None and total is not None:
        parts.append(f"{bytes_words(free)} free of {bytes_words(total)}")
    if needed is not None and free is not None and needed > free:
        parts.append(f"{bytes_words(needed - free)} missing")
    return ", ".join(parts)
