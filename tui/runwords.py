"""All that is known of one run, and its samples, as runs for a text pane."""

from engine.text import clip, safe
from tui import words
from tui.feed import RunDetail
from tui.widgets.lines import BOLD, PLAIN, QUIET, Run

__all__ = ["number_runs", "sample_runs"]


def number_runs(detail: RunDetail) -> list[Run]:
    """Every value of the run that is known, then its evaluations and checkpoints."""
    row = detail.row
    runs: list[Run] = []

    def section(title: str) -> None:
        runs.append((f"\n{title}\n" if runs else f"{title}\n", BOLD))

    def line(label: str, value: object) -> None:
        if value is not None and value != "":
            runs.append((f"  {label:<22}", QUIET))
            runs.append((f"{clip(str(value), 400)}\n", PLAIN))

    section("run")
    for label in ("id", "name", "parent", "state", "attempt", "reason", "exit_code", "signal_name"):
        line(label, getattr(row, label))
    line("checkpoint", row.checkpoint)
    line("best_checkpoint", row.best_checkpoint)
    line("adapter", row.adapter)
    section("data and model")
    for label in ("dataset", "fingerprint", "train_rows", "validation_rows", "test_rows", "model"):
        line(label, getattr(row, label))
    if row.trainable_parameters and row.total_parameters:
        share = 100 * row.trainable_parameters / row.total_parameters
        line(
            "trainable", f"{row.trainable_parameters:,} of {row.total_parameters:,} ({share:.2f} %)"
        )
    for label in ("backend", "device", "gpu", "dtype", "optim", "git_commit"):
        line(label, getattr(row, label))
    section("measured")
    line("train loss", words.loss(row.train_loss) if row.train_loss is not None else None)
    line("best validation", f"{words.loss(row.best_eval_loss)} at step {row.best_step}"
         if row.best_eval_loss is not None else None)  # fmt: skip
    if row.test_loss is not None:
        before = words.loss(row.test_loss_before)
        line("test", f"{before} before, {words.loss(row.test_loss)} after")
    line("tokens/s", words.number(row.tokens_per_second) if row.tokens_per_second else None)
    line("peak memory", words.bytes_words(row.peak_memory_bytes) if row.peak_memory_bytes else None)
    if detail.evaluations:
        section("evaluations")
        for one in detail.evaluations:
            label = f"step {one.get('step')} {one.get('split')}"
            spent = words.duration(one.get("seconds"))
            line(label, f"{words.loss(one.get('loss'))}  {one.get('which')}, {spent}")
    if detail.checkpoints:
        section("checkpoints")
        for one in detail.checkpoints:
            best = ", best" if one.get("best") else ""
            line(f"step {one.get('step')}", f"{words.bytes_words(one.get('bytes'))}{best}")
    if detail.notices:
        section("warnings and errors")
        for one in detail.notices:
            line(str(one.get("type")), one.get("text"))
    return runs


def sample_runs(detail: RunDetail) -> list[Run]:
    runs: list[Run] = []
    for one in reversed(detail.samples[-100:]):
        runs.append((f"step {one.get('step')}  ", QUIET))
        runs.append((safe(str(one.get("prompt") or "")[:2000]) + "\n", BOLD))
        runs.append((safe(str(one.get("text") or "")[:4000]) + "\n", PLAIN))
        if one.get("reference"):
            runs.append(("reference: " + safe(str(one["reference"])[:2000]) + "\n", QUIET))
        runs.append(("\n", PLAIN))
    return runs or [("This run wrote no samples.", QUIET)]
