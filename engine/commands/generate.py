"""``generate``: what runs and models answer."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands.output import Output
from engine.errors import NeedsConsent, UsageError
from engine.home import Home, open_home
from engine.recipe import GenerateSection

if TYPE_CHECKING:
    from engine.generate.answer_file import AnswerFile
    from engine.generate.columns import Column

__all__ = ["generate"]

MOST_FAILURES_SAID = 10


def generate(args: argparse.Namespace, out: Output) -> int:
    """Answer every prompt with every run or model, side by side, or into a file."""
    try:
        return _generate(args, out)
    except NeedsConsent as error:
        raise UsageError(f"{error}; --now answers all the same") from None


def _generate(args: argparse.Namespace, out: Output) -> int:
    from engine.generate.answer_all import generate_all
    from engine.generate.answer_file import AnswerFile
    from engine.generate.columns import base_column, column_for
    from engine.generate.prompt_files import read_prompts
    from engine.generate.wire import IDLE_SECONDS

    home = open_home(args.home)
    prompts = list(args.prompt)
    if args.prompts is not None:
        prompts += read_prompts(home, args.prompts, args.column)
    if not prompts:
        raise UsageError("generate: nothing to answer; give --prompt TEXT or --prompts FILE")
    for setting in args.settings:
        if not setting.startswith("generate."):
            raise UsageError(f"--set {setting}: only settings of [generate] count here")
    # One run may be named twice, by its id and by its name.
    named = [column_for(home, ref) for ref in args.refs]
    columns = list({column.id: column for column in named}.values())
    if args.base and columns[0].endpoint is not None:
        raise UsageError(f"--base: {columns[0].label} is a server's, its base model is not known")
    if args.base:
        columns.insert(0, base_column(columns[0]))
    recipe = columns[0].recipe.with_settings(args.settings)
    system = args.system or ""
    stay = IDLE_SECONDS if args.stay else 0.0
    document: dict[str, Any] = {
        "columns": [{"id": c.id, "label": c.label, "adapter": c.adapter} for c in columns],
        "sampling": recipe.generate.model_dump(),
    }
    if args.out is not None:
        file = AnswerFile(Path(args.out), prompts, columns, recipe.generate, system)
        document |= _into_file(home, file, columns, recipe.generate, stay, args.now, out)
    else:
        answers = generate_all(
            *(home, columns, prompts, recipe.generate),
            on_status=out.progress,
            system=system,
            stay=stay,
            allow_beside_training=args.now,
        )
        document["answers"] = answers
        out.progress_done()
        for index, answer in enumerate(answers):
            if index % len(columns) == 0:
                out.line(f"{'' if index == 0 else chr(10)}> {answer['prompt']}")
            said = answer.get("error") or answer["text"].strip()
            out.line(f"[{answer['label']}] {'failed: ' if 'error' in answer else ''}{said}")
        document["failed"] = [
            {"prompt": number // len(columns) + 1, "label": a["label"], "error": a["error"]}
            for number, a in enumerate(answers)
            if "error" in a
        ]
    out.document(document)
    return _status(document["failed"], out)


def _status(failed: list[dict[str, Any]], out: Output) -> int:
    """1 when something could not be answered; says which."""
    for one in failed[:MOST_FAILURES_SAID]:
        out.error(f"prompt {one['prompt']:,} by {one['label']}: {one['error']}")
    if len(failed) > MOST_FAILURES_SAID:
        out.error(f"... and {len(failed) - MOST_FAILURES_SAID:,} more")
    return 1 if failed else 0


def _into_file(
    home: Home,
    file: "AnswerFile",
    columns: list["Column"],
    sampling: GenerateSection,
    stay: float,
    now: bool,
    out: Output,
) -> dict[str, Any]:
    """Answers as JSON Lines in a file; those that are there already are kept."""
    from engine.generate.answer_prompts import answer_into

    path = file.path
    with file:
        held, total = len(file.done), len(file.prompts) * len(columns)
        if 0 < held < total:
            out.note(f"{path} has {held:,} of {total:,} answers: going on")
        try:
            tally = answer_into(
                *(file, home, columns, sampling, out.progress),
                stay=stay,
                allow_beside_training=now,
            )
        except KeyboardInterrupt:
            out.note(f"{path} has {len(file.done):,} answers; the same command goes on with it")
            raise
        file.put_in_order()
    out.progress_done()
    for note in tally.notes:
        out.note(note)
    rate = f", {tally.tokens_per_second:,.0f} tok/s" if tally.new else ""
    out.line(f"{tally.done:,} answers in {path} ({tally.new:,} new{rate})")
    if tally.failed:
        out.note("the same command asks again what could not be answered")
    order = [column.id for column in columns]
    failed = sorted(file.failed.items(), key=lambda item: (item[0][0], order.index(item[0][1])))
    return {
        "out": str(path),
        "answers": tally.done,
        "new": tally.new,
        "failed": [
            {"prompt": index + 1, "label": file.columns[name].label, "error": error}
            for (index, name), error in failed
        ],
        "tokens": tally.tokens,
        "seconds": tally.seconds,
        "notes": tally.notes,
    }
