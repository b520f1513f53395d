"""The parts of a report about one run, as blocks; a model card has some of them too.

What was written and how it was judged is in ``answer_parts``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from engine.data.report import CleanReport, funnel
from engine.export import blocks as b
from engine.export.gathered import Gathered, changed_settings
from engine.export.said import losses, percent, setting, value_words
from engine.history.row import RunRow, is_ended, seconds
from engine.words import NOTHING, bytes_words, counted, duration, moment

__all__ = [
    "about",
    "data",
    "evaluation",
    "method",
    "recipe",
    "trained",
    "versions",
]


def pairs(rows: Sequence[tuple[str, str]]) -> b.Table:
    """Names and values, without those that have none."""
    return b.Table(("", ""), [row for row in rows if row[1] not in ("", NOTHING)])


def method(g: Gathered) -> str:
    """How it was trained, in a few words: LoRA r=8 on a base in 4 bits (NF4)."""
    if g.recipe is None or "lora.enabled" not in g.settings:
        return ""
    lora, model = g.recipe.lora, g.recipe.model
    if not lora.enabled:
        return "full fine-tuning"
    names = "DoRA" if lora.use_dora else "LoRA"
    shown = (("r", lora.r), ("lora_alpha", lora.lora_alpha))
    sizes = "".join(f", {key}={value:g}" for key, value in shown if f"lora.{key}" in g.settings)
    held = f" on a base in 4 bits ({model.bnb_4bit_quant_type})" if model.load_in_4bit else ""
    return f"{names}{sizes}{held}"


def trained(g: Gathered, base: str) -> b.Table:
    """What was trained by what, on what. ``base``: how the base model is called."""
    row = g.row
    counts = row.trainable_parameters, row.total_parameters
    parameters = f"{value_words('', counts[0])} of {value_words('', counts[1])}"
    took = seconds(row)
    rows = [
        ("base model", base),
        ("method", method(g)),
        ("trained", f"{parameters} parameters ({percent(*counts)})" if all(counts) else ""),
        ("data", _dataset_words(g)),
        ("steps", f"{row.step or 0:,} of {value_words('', row.max_steps)}"),
        ("took", duration(took) + (f" in {row.attempt} attempts" if row.attempt > 1 else "")),
        ("best validation loss", _best(row.best_eval_loss, row.best_step)),
        ("peak memory", _peak(g)),
        ("hardware", hardware(g)),
    ]
    return pairs(rows)


def about(g: Gathered) -> list[b.Block]:
    """What the run is, and what came of it."""
    row = g.row
    state = row.state + (f": {row.reason}" if row.reason else "")
    rows = [
        ("run", f"{row.name} ({row.id})"),
        ("state", state if is_ended(row) else f"{state}, not at its end yet"),
        ("begun", moment(row.created or 0)),
        ("test loss", _before_and_after(row)),
        ("speed", _speed(g)),
        ("sweep", _sweep(g)),
        ("goes on from", row.parent or ""),
        ("repeats", row.repeats or ""),
        ("tags", " ".join(g.tags)),
    ]
    whole = [*rows[:4], *trained(g, row.model or "").rows, *rows[4:]]
    return [pairs([(name, value) for name, value in whole])]


def _before_and_after(row: RunRow) -> str:
    if row.test_loss is None and row.test_loss_before is None:
        return ""
    return f"{losses(row.test_loss_before)} before, {losses(row.test_loss)} after"


def _best(loss: Any, step: Any) -> str:
    at = f" at step {step:,}" if isinstance(step, int) else ""
    return losses(loss) + at if loss is not None else ""


def _peak(g: Gathered) -> str:
    estimate = g.row.estimated_peak_bytes
    said = f" (estimated {bytes_words(estimate)})" if estimate else ""
    return bytes_words(g.row.peak_memory_bytes) + said if g.row.peak_memory_bytes else ""


def _speed(g: Gathered) -> str:
    found = g.row.tokens_per_second
    return f"{found:,.0f} tokens/s at the end" if isinstance(found, int | float) else ""


def _sweep(g: Gathered) -> str:
    values = ", ".join(f"{key} = {setting(value)}" for key, value in g.sweep_values.items())
    return f"{g.row.sweep}: {values}" if g.row.sweep else ""


def _dataset_words(g: Gathered) -> str:
    counts = [
        f"{count:,} {split}"
        for split, count in (
            ("train", g.row.train_rows),
            ("validation", g.row.validation_rows),
            ("test", g.row.test_rows),
        )
        if isinstance(count, int)
    ]
    return f"{g.row.dataset or ''}" + (f": {', '.join(counts)} rows" if counts else "")


def hardware(g: Gathered) -> str:
    row = g.row
    count = f"{row.num_processes} × " if row.num_processes and row.num_processes > 1 else ""
    words = [f"{count}{row.gpu or row.device or ''}", row.dtype or "", row.backend or ""]
    return ", ".join(word for word in words if word)


def recipe(g: Gathered, say: Callable[[Any], str] = setting) -> list[b.Block]:
    """What differs from the defaults first, then all of it; ``say``: how a value is said."""
    if g.recipe is None:
        return [b.Words("The recipe can no longer be read.")]
    changed = changed_settings(g.settings)
    rows = [(key, say(value), say(usual)) for key, (value, usual) in changed.items()]
    flat = [(key, say(value)) for key, value in g.settings.items()]
    known = f"{len(flat)} that are known" if g.row.imported else f"{len(flat)}"
    found: list[b.Block] = [
        b.Words(f"{counted(len(rows), 'value')} of {known} differ from the defaults:")
    ]
    if rows:
        found.append(b.Table(("key", "value", "default"), rows))
    return [*found, b.Fold("every value", [b.Table(("key", "value"), flat)])]


def data(g: Gathered, say: Callable[[Any], str] = setting, warnings: bool = True) -> list[b.Block]:
    """Where the rows came from, what cleaning did to them, and what of the test was in train."""
    known = g.dataset_row
    rows = [
        ("dataset", g.row.dataset or ""),
        ("source", say(str(known.get("source") or ""))),
        ("shape", str(known.get("shape") or "")),
        ("fingerprint", g.row.fingerprint or ""),
    ]
    if g.dataset is None:
        gone = (
            "The dataset is no longer there as it was trained on, so its cleaning report, leakage "
            "included, cannot be told."
        )
        counts = [
            (name.replace("_", " "), f"{known[name]:,}")
            for name in ("rows_read", "rows_kept", "train_rows", "validation_rows", "test_rows")
            if isinstance(known.get(name), int)
        ]
        return [pairs([*rows, *counts]), b.Words(gone)]
    report = g.dataset.report
    steps = [
        (name.replace("_", " "), f"{count:,}", words)
        for name, count, words in funnel(report)
        if count or name in ("leakage_before", "leakage_after")
    ]
    return [
        pairs(rows),
        b.Items(leakage(report)),
        b.Fold("from the rows read to the splits", [
            b.Table(("", "rows", ""), steps, frozenset({1}))
        ]),
        *([b.Items(report.warnings)] if report.warnings and warnings else []),
    ]  # fmt: skip


def leakage(report: CleanReport) -> list[str]:
    """What of validation and test was seen in training, in sentences."""
    kept = f"{report.rows_kept:,} of {counted(report.rows_read, 'row')} kept"
    splits = f"{report.train:,} train, {report.validation:,} validation, {report.test:,} test"
    held_out = report.validation + report.test
    after = (
        f"Leakage: {report.leakage_after:,} of {held_out:,} validation and test rows occur in "
        "train as written"
    )
    before = (
        f"{counted(report.leakage_before, 'test title')} would, had lines been dealt out at random"
    )
    found = [f"{kept}: {splits}.", f"{after} ({before})."]
    if report.near_leakage:
        found.append(
            f"{report.near_leakage:,} more are nearly the same as one in train (near_leakage)."
        )
    return found


def evaluation(g: Gathered) -> list[b.Block]:
    """Losses before and after, and the best of validation."""
    row = g.row
    rows = []
    for one in g.evaluations:
        if one["split"] == "test" and one["which"] in ("before", "after"):
            rows.append(("test", f"{one['which']} training", one))
    for one in g.evaluations:
        if one["split"] == "validation" and one["step"] == row.best_step:
            rows.append(("validation", f"best, step {one['step']}", one))
    if not rows:
        return []
    table = [
        (split, when, losses(one["loss"]), _perplexity(one["loss"]),
         value_words("", one["mean_token_accuracy"]), value_words("", one["rows"]))
        for split, when, one in rows
    ]  # fmt: skip
    head = ("split", "when", "loss", "perplexity", "token accuracy", "rows")
    found: list[b.Block] = [b.Table(head, table, frozenset({2, 3, 4, 5}))]
    before, after = row.test_loss_before, row.test_loss
    if isinstance(before, float) and isinstance(after, float) and before > 0:
        change = 100 * (after - before) / before
        found.append(b.Words(f"Test loss: {change:+.1f} % by training."))
    return found


def _perplexity(loss: Any) -> str:
    known = isinstance(loss, int | float) and loss < 50
    return f"{math.exp(loss):.3f}" if known and math.isfinite(loss) else NOTHING


def versions(g: Gathered) -> list[b.Block]:
    """Packages, hardware and commit."""
    rows = [("hardware", hardware(g)), ("git commit", g.row.git_commit or "")]
    return [pairs([*rows, *((name, value) for name, value in g.versions.items())])]
