"""A preflight for programs (one document) and for people (lines of at most 80 cells)."""

import textwrap
from pathlib import Path
from typing import Any

from engine.preflight.look import Preflight, hours
from engine.preflight.memory import MemoryEstimate
from engine.words import bytes_words, counted, duration

__all__ = ["PARTS", "attempt_words", "document", "facts", "lines", "memory_words"]

WIDE = 80
LABEL = 11
PARTS = {
    "libraries": "libraries",
    "weights": "weights",
    "adapters": "adapters",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "logits": "logits",
    "working": "one layer's work",
    "evaluation": "evaluation",
}
"""The parts of a memory estimate, in its order, as people call them."""
_MARKS = {"note": "note", "warning": "warning", "error": "error"}


def document(seen: Preflight) -> dict[str, Any]:
    """The whole preflight, JSON-able. What is not known is null. Bytes, seconds, hours."""
    resolved, place, pace, disk = seen.resolved, seen.place, seen.pace, seen.disk
    recipe, attempt = resolved.recipe, seen.attempt
    shape = seen.shape
    return {
        "recipe": recipe.model_dump(),
        "dataset": {"name": resolved.dataset.name, "fingerprint": resolved.dataset.fingerprint},
        "model": {
            "name": recipe.model.model_name_or_path,
            "type": shape.model_type if shape else None,
            "parameters": shape.parameters if shape else None,
            "trainable": shape.trainable(recipe) if shape else None,
            "stored_bytes": shape.stored_bytes if shape else None,
        },
        "place": {
            "backend": place.setup.backend,
            "device": place.setup.device,
            "dtype": place.setup.dtype,
            "kernels": "fused" if place.setup.fused else "plain",
            "unpack_4bit": place.setup.unpacked,
            "layers": place.layers,
            "gpu": place.gpu.name if place.gpu else None,
            "total_bytes": place.total_bytes,
            "free_bytes": place.free_bytes,
        },
        "data": {name: _split(seen, name) for name in resolved.splits},
        "is_estimate": resolved.is_estimate,
        "steps": resolved.steps,
        "steps_per_epoch": resolved.steps_per_epoch,
        "epochs": resolved.epochs,
        "effective_batch": resolved.effective_batch,
        "tokens": resolved.tokens,
        "evaluations": resolved.evaluations,
        "checkpoints": resolved.checkpoints,
        "hours": hours(pace.seconds) if pace else None,
        "pace": None
        if pace is None
        else {
            "source": pace.source,
            "step_seconds": pace.step_seconds,
            "tokens_per_second": pace.tokens_per_second,
            "training_seconds": pace.training_seconds,
            "evaluation_seconds": pace.evaluation_seconds,
        },
        "memory": {
            "estimate": seen.estimate.as_json() if seen.estimate else None,
            "measured_bytes": attempt.get("peak_bytes") if attempt else None,
        },
        "disk": None
        if disk is None
        else {
            "checkpoint_bytes": disk.checkpoint_bytes,
            "kept": disk.kept,
            "needed_bytes": disk.needed_bytes,
            "free_bytes": disk.free_bytes,
        },
        "probe": seen.probe,
        "finder": seen.finder,
        "warnings": [warning.as_json() for warning in seen.warnings],
    }


def _split(seen: Preflight, name: str) -> dict[str, Any]:
    split = seen.resolved.splits[name]
    return {
        "rows": split.rows_in_split,
        "trained_rows": split.trained_rows,
        "sequences": seen.resolved.sequences if name == "train" else split.trained_rows,
        "tokens": split.whole("tokens"),
        "trained_tokens": split.whole("trained_tokens"),
        "longest": int(split.lengths.max(initial=0)),
        "answers_cut": split.whole("answers_cut"),
        "left_out": split.whole("left_out"),
        "is_estimate": split.is_estimate,
    }


def lines(seen: Preflight) -> list[str]:
    """The report for people."""
    resolved, place = seen.resolved, seen.place
    recipe = resolved.recipe
    name = Path(recipe.model.model_name_or_path).name
    bits = "4 bits" if recipe.model.load_in_4bit else place.setup.dtype
    how = f"LoRA r={recipe.lora.r}" if recipe.lora.enabled else "every weight"
    found = [
        *_wrapped(f"{recipe.name}: {name}, {bits}, {how}; {place.setup.backend} on {place.name}", 0)
    ]
    for label, words in facts(seen):
        found += _row(label, words)
        if label == "memory" and seen.estimate:
            found += _parts(seen.estimate)
    if seen.finder:
        found += _finder(seen)
    for warning in seen.warnings:
        found += _row(_MARKS[warning.severity], warning.words)
    return found


def facts(seen: Preflight) -> list[tuple[str, str]]:
    """(label, words) of what the run comes to, one line each."""
    found = []
    if seen.shape:
        total, trained = seen.shape.parameters, seen.shape.trainable(seen.resolved.recipe)
        share = 100 * trained / total
        words = f"{total:,} parameters, {trained:,} of them trained ({share:.3g} %)"
        found.append(("model", words))
    found += [
        ("data", _data(seen)),
        ("tokens", _tokens(seen)),
        ("steps", _steps(seen)),
        ("time", _time(seen)),
        ("layers", seen.place.layers),
        ("memory", memory_words(seen)),
    ]
    if disk := seen.disk:
        words = (
            f"{counted(disk.kept, 'checkpoint')} of {bytes_words(disk.checkpoint_bytes)} "
            "at a time; "
            f"{bytes_words(disk.free_bytes)} free"
        )
        found.append(("disk", words))
    return found


def _data(seen: Preflight) -> str:
    splits = seen.resolved.splits
    rows = ", ".join(f"{splits[name].rows_in_split:,} {name}" for name in splits)
    return f"{seen.resolved.dataset.name}: {rows} rows"


def _tokens(seen: Preflight) -> str:
    resolved = seen.resolved
    train = resolved.splits["train"]
    about = "about " if resolved.is_estimate else ""
    words = (
        f"{about}{train.whole('tokens'):,} a pass, {train.whole('trained_tokens'):,} of them "
        f"trained on; longest {resolved.longest}"
    )
    if resolved.recipe.train.packing:
        words += f"; packed in {resolved.sequences:,} sequences"
    return words


def _steps(seen: Preflight) -> str:
    resolved = seen.resolved
    train = resolved.recipe.train
    batch = f"{resolved.effective_batch}"
    if train.gradient_accumulation_steps > 1 or train.num_processes > 1:
        parts = [train.per_device_train_batch_size, train.gradient_accumulation_steps]
        parts += [train.num_processes] if train.num_processes > 1 else []
        batch += f" ({' x '.join(map(str, parts))})"
    epochs = f"{resolved.epochs:.3g}"
    return (
        f"{resolved.steps:,} of {batch} rows, {epochs} {'epoch' if epochs == '1' else 'epochs'}; "
        f"{counted(resolved.evaluations, 'evaluation')}, "
        f"{counted(resolved.checkpoints, 'checkpoint')}"
    )


def _time(seen: Preflight) -> str:
    pace = seen.pace
    if pace is None:
        return "not known: no run like this one yet; --probe measures it"
    whence = "measured now" if pace.source == "probe" else f"as run {pace.source} took"
    return (
        f"{duration(pace.seconds)} ({whence}: {pace.step_seconds:.3g} s a step, "
        f"{pace.tokens_per_second:,.0f} tok/s)"
    )


def memory_words(seen: Preflight) -> str:
    """What the run takes of its device's memory, measured or estimated, and what is free."""
    place, memory, attempt = seen.place, seen.estimate, seen.attempt
    where = f"{bytes_words(place.free_bytes)} of {bytes_words(place.total_bytes)} free"
    measured = attempt.get("peak_bytes") if attempt and "out_of_memory" not in attempt else None
    if measured is not None:
        guessed = f"; estimated {bytes_words(memory.peak)}" if memory else ""
        return f"{bytes_words(measured)} measured{guessed}; {where}"
    if memory is not None:
        return f"about {bytes_words(memory.peak)}, estimated; {where}"
    return f"not known; {where}"


def _parts(memory: MemoryEstimate) -> list[str]:
    """The estimate's parts, two a line."""
    values = memory.as_json()
    cells = [
        f"{words:<18}{bytes_words(values[name]):>9}"
        for name, words in PARTS.items()
        if values[name]
    ]
    pairs = [cells[place : place + 2] for place in range(0, len(cells), 2)]
    return [" " * (LABEL + 2) + "    ".join(pair) for pair in pairs]


def _finder(seen: Preflight) -> list[str]:
    assert seen.finder and seen.probe
    tried = attempt_words(seen)
    found = [f"  {'' if place else 'batch':<{LABEL}}{words}" for place, words in enumerate(tried)]
    if seen.finder["best"]:
        found += [
            f"  {'':<{LABEL}}--set {key}={value}" for key, value in seen.finder["settings"].items()
        ]
    return found


def attempt_words(seen: Preflight) -> list[str]:
    """A line a batch size that a search tried, the smallest first."""
    assert seen.finder and seen.probe
    found: list[str] = []
    best, fastest = seen.finder["best"], seen.finder["fastest"]
    for attempt in sorted(
        seen.probe["attempts"], key=lambda one: one["per_device_train_batch_size"]
    ):
        size, steps = _pair(attempt)
        if "out_of_memory" in attempt:
            words = "out of memory"
        else:
            words = (
                f"{bytes_words(attempt['peak_bytes']):>9}  "
                f"{attempt['tokens_per_second']:>9,.0f} tok/s"
            )
            chosen = [
                *(["largest that fits"] if attempt is best else []),
                *(["fastest"] if attempt is fastest else []),
            ]
            words += f"  {', '.join(chosen)}" if chosen else ""
        found.append(f"{size:>5} x {steps:<5}{words}")
    return found


def _pair(attempt: dict[str, Any]) -> tuple[int, int]:
    return attempt["per_device_train_batch_size"], attempt["gradient_accumulation_steps"]


def _row(label: str, words: str) -> list[str]:
    first, *rest = _wrapped(words, LABEL + 2)
    return [f"  {label:<{LABEL}}{first.lstrip()}", *rest]


def _wrapped(words: str, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(
        words, WIDE, initial_indent=space, subsequent_indent=space or "  ", break_on_hyphens=False
    ) or [""]
