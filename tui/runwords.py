"""All that is known of one run, its events and its samples, as runs for a text pane."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.history.row import ENDS
from engine.text import clip, safe
from tui import keymap, words
from tui.feed import RunDetail, Snapshot
from tui.sweepwords import values_words
from tui.widgets.lines import ACCENT, BAD, BOLD, PLAIN, QUIET, WARM, Run

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["Kin", "event_runs", "kin_of", "number_runs", "sample_runs"]

KINDS = {
    "user": "something in the recipe or its data",
    "nan": "the loss is no number any more",
    "out_of_memory": "out of memory",
    "disk_full": "the disk is full",
    "read_only": "the file system became read-only",
    "gpu_lost": "the GPU failed",
    "crash": "the training code crashed",
}
"""Kind of an error -> in plain words."""
LABEL = 22
CHANGES = 30
"""So many differences from the parent are listed."""


@dataclass(frozen=True)
class Kin:
    """Whom a run goes on from, and who goes on from it."""

    parent: "RunRow | None" = None
    """None: a run of its own, or one whose parent was deleted."""
    children: tuple["RunRow", ...] = ()
    """Oldest first."""


def kin_of(row: "RunRow", snapshot: Snapshot) -> Kin:
    children = tuple(one for one in reversed(snapshot.rows) if one.parent == row.id)
    return Kin(snapshot.by_id.get(row.parent or ""), children)


class _Text:
    """Sections of labelled lines."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def section(self, title: str) -> None:
        self.runs.append((f"\n{title}\n" if self.runs else f"{title}\n", BOLD))

    def line(self, label: str, value: object) -> None:
        if value is not None and value != "":
            self.runs.append((f"  {clip(label, LABEL - 1):<{LABEL}}", QUIET))
            self.runs.append((f"{clip(str(value), 400)}\n", PLAIN))


def number_runs(detail: RunDetail, kin: Kin | None = None) -> list[Run]:
    """Every value of the run that is known, then its evaluations and checkpoints."""
    row = detail.row
    text = _Text()
    section, line = text.section, text.line

    told = _ending(text, detail)
    section("run")
    for label in ("id", "name"):
        line(label, getattr(row, label))
    if row.sweep:
        line("sweep", f"{row.sweep}  {values_words(row)}")
    for label in ("state", "attempt", "reason", "exit_code", "signal_name"):
        if label != "reason" or not told:
            line(label, getattr(row, label))
    line("checkpoint", row.checkpoint)
    line("best_checkpoint", row.best_checkpoint)
    line("adapter", row.adapter)
    line("tags", " ".join(detail.tags))
    for note in detail.notes:
        line(f"note {_stamp(note.get('t'))}", note.get("text"))
    _kin(text, detail, kin or Kin())
    _sample(text, detail)
    section("data and model")
    for label in ("dataset", "fingerprint", "train_rows", "validation_rows", "test_rows", "model"):
        line(label, getattr(row, label))
    if row.trainable_parameters and row.total_parameters:
        share = 100 * row.trainable_parameters / row.total_parameters
        line(
            "trainable", f"{row.trainable_parameters:,} of {row.total_parameters:,} ({share:.2f} %)"
        )
    for label in ("backend", "device", "gpu", "dtype", "optim", "num_processes", "git_commit"):
        line(label, getattr(row, label))
    section("measured")
    line("train loss", words.loss(row.train_loss) if row.train_loss is not None else None)
    line("best validation", f"{words.loss(row.best_eval_loss)} at step {row.best_step}"
         if row.best_eval_loss is not None else None)  # fmt: skip
    if row.test_loss is not None:
        before = words.loss(row.test_loss_before)
        line("test", f"{before} before, {words.loss(row.test_loss)} after")
    line("tokens/s", words.number(row.tokens_per_second) if row.tokens_per_second else None)
    line("peak memory", _peak(row))
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
    return text.runs


def _peak(row: "RunRow") -> str | None:
    """The most memory it took, and what was estimated: both as the run's allocator counts."""
    peak, estimate = row.peak_memory_bytes, row.estimated_peak_bytes
    told = words.bytes_words(peak) if peak else None
    if estimate:
        told = f"{told or words.NOTHING}, estimated {words.bytes_words(estimate)}"
    return told


def _ending(text: _Text, detail: RunDetail) -> bool:
    """How a run ended by an error, and what to do next; False for every other run."""
    row = detail.row
    if row.state not in ENDS or not row.error_kind or row.state == "finished":
        return False
    text.section("how it ended")
    kind, why = KINDS.get(row.error_kind, row.error_kind), row.reason or ""
    if kind not in why.lower():
        text.runs.append((f"  {clip(kind, 400)}\n", BAD))
    if why:
        text.runs.append((f"  {clip(why, 400)}\n", BAD))
    for label, words_of_it in detail.ending:
        text.line(label, words_of_it)
    if detail.suggested and row.checkpoint:
        command = f"tunebench resume {row.name} --suggested"
        if any("A" in action.keys for action in keymap.of_screen("runs")):
            text.runs += [("  A goes on so; or ", ACCENT), (f"{clip(command, 200)}\n", PLAIN)]
        else:
            text.line("to go on so", command)
    return True


def _kin(text: _Text, detail: RunDetail, kin: Kin) -> None:
    row = detail.row
    if row.parent is None and not kin.children:
        return
    text.section("kin")
    if row.parent is not None:
        gone = f"{row.parent}, which was deleted"
        text.line("goes on from", kin.parent.name if kin.parent else gone)
        for key, old, new in detail.changes[:CHANGES]:
            text.line(f"  {key.rsplit('.', 1)[-1]}", f"{_value(old)} → {_value(new)}   ({key})")
        if len(detail.changes) > CHANGES:
            text.line("", f"and {len(detail.changes) - CHANGES} more")
    for child in kin.children:
        best = f", best validation {words.loss(child.best_eval_loss)}"
        told = best if child.best_eval_loss is not None else ""
        text.line("gone on from by", f"{child.name}, {child.state}{told}")


def _value(value: Any) -> str:
    return words.NOTHING if value is None else str(value)


def _sample(text: _Text, detail: RunDetail) -> None:
    """What the model last wrote for the first of the fixed prompts."""
    if not detail.samples:
        return
    prompt = detail.samples[0].get("prompt")
    last = [one for one in detail.samples if one.get("prompt") == prompt][-1]
    text.section(f"last sample, step {last.get('step')}")
    text.line("prompt", prompt)
    text.line("wrote", last.get("text"))
    text.line("reference", last.get("reference"))


def _stamp(t: Any) -> str:
    if not isinstance(t, int | float):
        return ""
    try:
        return time.strftime("%m-%d %H:%M:%S", time.localtime(t))
    except (ValueError, OverflowError, OSError):
        return ""


LOOKS = {"warning": WARM, "error": BAD}


def event_runs(detail: RunDetail) -> list[Run]:
    """States, warnings, errors, requests, with their time, the newest first."""
    runs: list[Run] = []
    attempt = None
    many = any(event.get("attempt") != 1 for event in detail.events)
    for event in reversed(detail.events):
        if many and event.get("attempt") != attempt:
            attempt = event.get("attempt")
            runs.append((f"{'' if not runs else chr(10)}attempt {attempt}\n", BOLD))
        kind = str(event.get("type"))
        look = LOOKS.get(kind, PLAIN)
        mark = {"warning": "! ", "error": "✗ "}.get(kind, "  ")
        runs.append((f"{_stamp(event.get('t')):<15} ", QUIET))
        runs.append((f"{mark}{clip(kind, 10):<10} ", look))
        runs.append((clip(str(event.get("text") or ""), 1000) + "\n", look))
    return runs or [("No event yet.", QUIET)]


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
