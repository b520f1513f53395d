"""``generate`` and ``evaluate``: what runs and models answer, and how well."""

import argparse
from pathlib import Path
from typing import Any

from engine.commands.output import Output
from engine.errors import UsageError
from engine.home import open_home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.jobs.launch import find_run

__all__ = ["evaluate", "generate"]


def generate(args: argparse.Namespace, out: Output) -> int:
    """Answer every prompt with every run or model, side by side."""
    from engine.generate.client import generate_all
    from engine.generate.columns import base_column, column_for

    home = open_home(args.home)
    prompts = [*args.prompt, *_prompts_of(args.prompts)]
    if not prompts:
        raise UsageError("generate: nothing to answer; give --prompt TEXT or --prompts FILE")
    for setting in args.settings:
        if not setting.startswith("generate."):
            raise UsageError(f"--set {setting}: only settings of [generate] count here")
    # One run may be named twice, by its id and by its name.
    named = [column_for(home, ref) for ref in args.refs]
    columns = list({column.id: column for column in named}.values())
    if args.base:
        columns.insert(0, base_column(columns[0]))
    recipe = columns[0].recipe.with_settings(args.settings)
    answers = generate_all(home, columns, prompts, recipe.generate, on_status=out.progress)
    out.progress_done()
    for index, answer in enumerate(answers):
        if index % len(columns) == 0:
            out.line(f"{'' if index == 0 else chr(10)}> {answer['prompt']}")
        out.line(f"[{answer['label']}] {answer['text'].strip()}")
    out.document(
        {
            "columns": [{"id": c.id, "label": c.label, "adapter": c.adapter} for c in columns],
            "sampling": recipe.generate.model_dump(),
            "answers": answers,
        }
    )
    return 0


def _prompts_of(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"--prompts {file}: cannot be read ({reason})") from None
    return [line for line in text.split("\n") if line.strip()]


def evaluate(args: argparse.Namespace, out: Output) -> int:
    """The loss on the run's test split, of the base and of the tuned model."""
    from engine.generate.errand import run_errand

    folder = find_run(open_home(args.home), args.ref)
    result = _journaled(folder)
    if result is None:
        result = run_errand("engine.train.measure", [str(folder.path)], out.progress)
        result["source"] = "measured now"
        out.progress_done()
    before, after = float(result["before"]), float(result["after"])  # "NaN" is a text there
    fall = (before - after) / before if before else 0.0
    out.line(f"test loss on {result['rows']:,} rows ({result['tokens']:,} trained tokens)")
    out.line(f"  base   {before:.4f}")
    out.line(f"  tuned  {after:.4f}  ({-fall:+.1%})")
    out.document({"run": folder.id, "split": "test", **result, "fall": fall})
    return 0


def _journaled(folder: RunFolder) -> dict[str, Any] | None:
    """Before and after as the run itself measured them; None when it did not measure both."""
    found: dict[str, Any] = {"source": "journal"}
    for event in read_all(folder.journal):
        if event["type"] == "evaluation" and event.get("split") == "test":
            found[event["which"]] = event["loss"]
            found |= {"rows": event["rows"], "tokens": event["tokens"]}
    return found if {"before", "after"} <= found.keys() else None
