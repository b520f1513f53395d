"""A bench's document as one table for people, in 80 cells."""

import textwrap
import time
from collections.abc import Sequence
from typing import Any

from engine.text import clip, safe_line

__all__ = ["WIDTH", "by_speed", "table"]

WIDTH = 80
LABEL = 22
NONE = "-"
SPEEDS = ["s/step", "padded", "real", "trained", "x best", "limit", "GB"]
START = ["total", "imports", "loading", "1st step", "compile", "loss", "last"]
CELLS = [8, 8, 8, 9, 8, 8, 8]


def table(document: dict[str, Any]) -> list[str]:
    """The lines: what was measured, the contestants by speed, how they started, what is meant."""
    lines = _wrapped(_heading(document))
    results = document["results"]
    for name, rows in document["rows"].items():
        own = by_speed([one for one in results if one["rows"] == name])
        if own:
            lines += ["", f"{rows['words']}, {rows['trained_tokens']:.0f} of them trained"]
            lines += [_line("", SPEEDS), _line("", ["", "tok/s", "tok/s", "tok/s", "", "", ""])]
            lines += [line for one in own for line in _speed(one)]
    started: dict[str, dict[str, Any]] = {}
    for one in results:
        if one["first_step_after_seconds"] is not None:
            started.setdefault(one["contestant"], one)
    if started:
        lines += ["", "from the process's start to the first step, in seconds; first and last loss"]
        lines += [_line("", START), *map(_start, started.values())]
    return [clip(line, WIDTH) for line in [*lines, "", *_wrapped(_foot(document))]]


def by_speed(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fastest first, those without a figure last."""
    return sorted(results, key=lambda one: one["step_seconds"] or float("inf"))


def _wrapped(words: Sequence[str]) -> list[str]:
    return [
        line
        for text in words
        for line in textwrap.wrap(
            safe_line(text), WIDTH, subsequent_indent="  ", break_on_hyphens=False
        )
    ]


def _heading(document: dict[str, Any]) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(document["t"]))
    quick = " --quick" if document["quick"] else ""
    kind = f"LoRA r={document['lora_r']}" if document["lora_r"] else "every weight trained"
    batch = str(document["per_device_train_batch_size"])
    if document["gradient_accumulation_steps"] > 1:
        batch += f" x {document['gradient_accumulation_steps']}"
    card, limit = document["card"], document["limit_tokens_per_second"]
    rate = f"{card['dtype']} matrices of {card['size']}: "
    rate += f"{_flops(card['flops_per_second'])} measured"
    if limit:
        rate += f"; the limit is that / ({document['limit_factor']} x parameters) = "
        rate += f"{limit:,.0f} tokens/s"
    return [
        f"tunebench bench{quick}: {document['recipe']} on {document['device_name']}, {when}",
        f"{document['model']}: {_parameters(document['parameters'])}, {kind}, batch {batch}, "
        f"length {document['max_length']}, {document['steps']} steps, of which the first "
        f"{document['warm_up_steps']} do not count",
        rate,
    ]


def _parameters(number: int | None) -> str:
    if not number:
        return "parameters unknown"
    scale, unit = (1e9, "B") if number >= 1e9 else (1e6, "M")
    return f"{number / scale:.2f} {unit} parameters"


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.0f} TFLOP/s" if rate >= 1e13 else f"{rate / 1e9:.0f} GFLOP/s"


def _speed(one: dict[str, Any]) -> list[str]:
    if one["step_seconds"] is None:
        return _wrapped([f"{one['label']}: {one['reason'] or one['state']}"])
    memory = one["peak_memory_bytes"]
    cells = [
        _step(one["step_seconds"]),
        _count(one["padded_tokens_per_second"]),
        _count(one["tokens_per_second"]),
        _count(one["trained_tokens_per_second"]),
        f"{one['to_best']:.2f}",
        NONE if one["to_limit"] is None else f"{100 * one['to_limit']:.0f} %",
        NONE if memory is None else f"{memory / 1e9:.2f}",
    ]
    marked = one["state"] != "finished" or one["others"]
    return [_line(one["label"] + "*" * bool(marked), cells)]


def _start(one: dict[str, Any]) -> str:
    seconds = ["first_step_after_seconds", "importing_seconds", "loading_seconds"]
    seconds += ["first_step_seconds", "warm_up_extra_seconds"]
    cells = [NONE if one[key] is None else f"{one[key]:.1f}" for key in seconds]
    return _line(one["label"], [*cells, _loss(one["first_loss"]), _loss(one["last_loss"])])


def _line(label: str, cells: Sequence[str]) -> str:
    figures = "".join(f"{cell:>{width}}" for cell, width in zip(cells, CELLS, strict=True))
    return f"{clip(label, LABEL):<{LABEL}}{figures}".rstrip()


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 999_999.5 else f"{value / 1e6:.2f}M"


def _step(seconds: float) -> str:
    digits = 4 if seconds < 1 else 3 if seconds < 10 else 1
    return f"{seconds:.{digits}f}"


def _loss(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:.4f}" if isinstance(value, int | float) else str(value)


def _foot(document: dict[str, Any]) -> list[str]:
    results = document["results"]
    words = _meaning(document) if results else []
    for one in results:
        if one["state"] in ("cut", "interrupted") and one["step_seconds"]:
            words.append(f"* {one['label']}, {one['rows']}: {one['reason'] or one['state']}")
        if one["others"]:
            words.append(f"* {one['label']}, {one['rows']}: {one['others']}")
    words += [f"Note: {note}" for note in document["notes"]]
    reasons: dict[str, list[str]] = {}
    for left in document["left_out"]:
        who, where = left["contestant"], left["rows"]
        what = f"{who} ({where} rows)" if who and where else who or f"all on {where} rows"
        reasons.setdefault(left["why"], []).append(what)
    words += [f"Left out: {', '.join(names)}: {why}" for why, names in reasons.items()]
    if document["state"] == "interrupted":
        done = any(one["step_seconds"] for one in results)
        kept = ": what was measured until then is kept" if done else " before anything was measured"
        words.append(f"Interrupted{kept}.")
    return words


def _meaning(document: dict[str, Any]) -> list[str]:
    of = "forward and the activations' gradients"
    if document["limit_factor"] != 4:
        of = "forward, the activations' and the weights' gradients"
    where = "resident on the host" if document["device"] == "cpu" else "reserved by the allocator"
    words = [
        "x best: tokens/s as a share of the fastest's. limit: real tokens/s as a share of the "
        f"limit ({of}). Steps: medians. padded: every row counted as {document['max_length']}.",
        "compile: seconds that the first steps took longer than the later ones. GB: 10^9 bytes, "
        f"{where}.",
        "trl: Transformers + PEFT + TRL's trainer; unsloth: Unsloth with TRL's trainer; both as "
        "their documentation shows, once without and once with gradient checkpointing. bare "
        "loop: Transformers + PEFT, one shape, fused AdamW, no trainer.",
    ]
    if document["random_weights"]:
        words.append("Random weights: time and memory are those of real ones, the losses are not.")
    return words
