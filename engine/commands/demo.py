"""``tunebench demo``: the main job, from a generated dirty file to compared models."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from engine.commands import following
from engine.commands.output import Output
from engine.data.dataset import Dataset
from engine.data.prepare import Progress, prepare
from engine.data.report import funnel
from engine.data.sources import locate_source
from engine.demo.compare import Sample, count_named, unseen_rows
from engine.errors import UserError
from engine.history.follow import Follower
from engine.history.row import RunRow
from engine.home import Home, open_home
from engine.jobs import launch
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe, load_recipe

__all__ = ["demo"]

UNSEEN_TITLES = 50
"""Titles that the naming of the product's kind is counted on."""

SHOWN = 3


def demo(args: argparse.Namespace, out: Output) -> int:
    """Clean, train, compare; exit status 0 only when all of it happened."""
    began = time.monotonic()
    settings = [f"data.catalogue_rows={args.rows}", f"data.catalogue_seed={args.seed}"]
    recipe = load_recipe("demo", [*settings, *args.settings])
    home = open_home(args.home)

    out.line(f"1. Clean: {recipe.data.catalogue_rows:,} lines of the built-in catalogue")
    dataset = prepare(home, recipe, progress=lambda now: out.progress(_progress(now)))
    out.progress_done()
    _tell_funnel(dataset, home, recipe, out)

    out.line("\n2. Train: the built-in tiny Llama learns to write descriptions from titles")
    folder = launch.begin(home, recipe)
    row = following.follow(folder, out, stop_on_interrupt=True)
    if row.state != "finished":
        following.summary(row, folder, out)
        out.document({"run": row.id, "state": row.state, "reason": row.reason})
        return following.exit_status(row)
    losses = _losses(folder)
    _tell_losses(losses, row, out)

    out.line(f"\n3. Compare: {UNSEEN_TITLES} titles that training has not seen")
    samples = _answers(home, dataset, row, recipe, out)
    named_before, named_after = count_named(samples)
    for sample in samples[:SHOWN]:
        out.line(f"\n  {sample.title}")
        out.line(f"    before     {sample.before}")
        out.line(f"    after      {sample.after}")
        out.line(f"    reference  {sample.reference}")
    out.line("\n  the description names the product's kind:")
    for which, named in (("before", named_before), ("after", named_after)):
        out.line(f"    {which:<9}{named:3} of {len(samples)}  {100 * named / len(samples):.0f} %")
    seconds = time.monotonic() - began
    _tell_what_next(row, home, seconds, out)
    out.document(
        {
            "clean": dataset.report.as_json(),
            "run": row.id,
            "name": row.name,
            "state": row.state,
            "eval_loss_before": row.test_loss_before,
            "eval_loss_after": row.test_loss,
            "losses": losses,
            "kind_named_before": named_before,
            "kind_named_after": named_after,
            "kind_named_of": len(samples),
            "samples": [vars(sample) for sample in samples],
            "seconds": round(seconds, 1),
        }
    )
    return 0


def _progress(now: Progress) -> str:
    return f"  {now.phase} {100 * now.fraction:3.0f} %  {now.rows:,} rows"


def _tell_funnel(dataset: Dataset, home: Home, recipe: Recipe, out: Output) -> None:
    planted = _planted(home, recipe)
    differing = []
    for name, count, words in funnel(dataset.report):
        group, _, rule = name.partition(".")
        expected = planted.get({"repaired": "repairs"}.get(group, group), {}).get(rule)
        mark = "" if expected is None else f"  (planted {expected:,})"
        if expected not in (None, count):
            differing.append(name)
        out.line(f"  {name:<30}{count:>9,}  {words}{mark}")
    if differing:
        raise UserError(f"the cleaning did not find what was planted: {', '.join(differing)}")
    out.line(f"  every count equals what the generator planted; {dataset.report.seconds:.1f} s")


def _planted(home: Home, recipe: Recipe) -> dict[str, dict[str, int]]:
    """What the generator wrote beside the catalogue: group -> rule -> rows."""
    file = locate_source(home, recipe.data)
    counts = json.loads(Path(f"{file}.planted.json").read_text(encoding="utf-8"))
    return {key: value for key, value in counts.items() if isinstance(value, dict)}


def _losses(folder: RunFolder) -> list[dict[str, Any]]:
    """Per validation: the step, the mean training loss since the one before, the validation's."""
    table: list[dict[str, Any]] = []
    since: list[float] = []
    for event in Follower(folder).read():
        if event["type"] == "metrics" and isinstance(event.get("loss"), float):
            since.append(event["loss"])
        elif event["type"] == "evaluation" and event.get("split") == "validation":
            train = sum(since) / len(since) if since else None
            table.append({"step": event["step"], "train": train, "validation": event["loss"]})
            since = []
    return table


def _tell_losses(losses: list[dict[str, Any]], row: RunRow, out: Output) -> None:
    out.line("\n  step   train loss   validation loss")
    for entry in losses:
        train = "" if entry["train"] is None else f"{entry['train']:.4f}"
        out.line(f"  {entry['step']:>4}   {train:>10}   {entry['validation']:>15.4f}")
    before, after = row.test_loss_before, row.test_loss
    if before is not None and after is not None:
        fall = 100 * (before - after) / before
        out.line(f"  test loss: {before:.4f} before, {after:.4f} after, {fall:.1f} % lower")


def _answers(
    home: Home, dataset: Dataset, row: RunRow, recipe: Recipe, out: Output
) -> list[Sample]:
    from engine.generate.answer_all import generate_all
    from engine.generate.columns import base_column, column_for

    rows = unseen_rows(dataset.split("test"), UNSEEN_TITLES)
    if not rows:
        raise UserError("the test split names no product; make the catalogue larger with --rows")
    tuned = column_for(home, row.id)
    answers = generate_all(
        home,
        [base_column(tuned), tuned],
        [title for title, _ in rows],
        recipe.generate,
        on_status=lambda words: out.progress(f"  {words}"),
    )
    out.progress_done()
    texts = [answer["text"].strip() for answer in answers]
    return [
        Sample(title, before, after, reference)
        for (title, reference), before, after in zip(rows, texts[::2], texts[1::2], strict=True)
    ]


def _tell_what_next(row: RunRow, home: Home, seconds: float, out: Output) -> None:
    here = "" if home.path == Path.cwd() else f" --home {home.path}"
    out.line(f"\nDone in {seconds:.0f} s. Now open the workbench:")
    out.line(f"\n    .venv/bin/tunebench{here}\n")
    out.line("  1 Data    what cleaning did, row by row; what the model sees, token by token")
    out.line("  2 Train   this run's curves; s starts another one")
    out.line(f"  3 Runs    the history; enter on {row.name} opens it")
    out.line("  4 Play    base and tuned model side by side: type a title, press enter")
    out.line("  5 System  GPUs, host, versions.   ? tells every key, q leaves")
