"""``evaluate RUN``: the loss, and how good the answers of base and tuned model are."""

import argparse
import math
from typing import TYPE_CHECKING, Any

from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.home import Home, existing_home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.jobs.launch import find_run
from engine.text import clip
from engine.words import counted

if TYPE_CHECKING:
    from engine.evaluate.metrics import RowMetric
    from engine.evaluate.rows import EvaluationRows

__all__ = ["evaluate_run"]

MEASURED_SPLITS = ("test", "validation")
SHOWN = (
    *("on", "of_rows", "failed", "base", "columns", "metrics", "differences", "better"),
    *("definitions", "sampling"),
)
"""What of an evaluation the document has under the same name."""
_SAMPLE_CELLS = 2000


def evaluate_run(args: argparse.Namespace, out: Output) -> int:
    """Base and tuned beside each other on rows that were not trained on."""
    home = existing_home(args.home)
    name, _, checkpoint = args.ref.partition("@")
    folder = find_run(home, name)
    # Of another checkpoint than the run's result the losses would be wrong.
    split = "" if checkpoint else args.on
    for setting in args.settings:
        if not setting.startswith("generate."):
            raise UsageError(f"--set {setting}: only settings of [generate] count here")
    rows = None if args.no_answers else _rows(home, folder, args, out)
    if rows is not None and rows.why_none:
        out.note(f"tunebench: {folder.name}: {rows.why_none}")
        rows = None
    document: dict[str, Any] = {"run": folder.id, "split": args.on}
    if rows is None:
        loss = _loss(folder, split, out)
        if loss is None:
            raise UsageError(
                f"evaluate {args.ref} --on {args.on}: the loss is measured of a run's result, on "
                "test and validation only"
            )
        document |= loss
        _tell_loss(loss, args.on, out)
    else:
        evaluation, samples = _answered(home, folder, rows, split, args, out)
        loss = _journaled(folder) if split == "test" else None
        document |= loss or evaluation["loss"] or {}
        if found := loss or evaluation["loss"]:
            _tell_loss(found, args.on, out)
        _tell_answers(evaluation, rows.references, samples, out)
        document |= {"evaluation": evaluation["id"], "answered_rows": evaluation["rows"]}
        document |= {key: evaluation[key] for key in SHOWN}
        if args.samples:
            document["samples"] = samples
    out.document(document)
    return 0


def _rows(home: Home, folder: RunFolder, args: argparse.Namespace, out: Output) -> "EvaluationRows":
    from engine.evaluate.rows import rows_for

    if args.rows < 0:
        raise UsageError(f"--rows {args.rows}: a number of rows, 0 for all of them")
    rows = rows_for(
        *(home, folder, args.on, args.rows),
        prompt=args.prompt_column,
        reference=args.reference_column,
        progress=lambda now: out.progress(str(now.phase)),
    )
    out.progress_done()
    for note in rows.notes:
        out.note(note)
    return rows


def _answered(
    home: Home,
    folder: RunFolder,
    rows: "EvaluationRows",
    split: str,
    args: argparse.Namespace,
    out: Output,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The evaluation's document, and the samples that were asked for."""
    from engine.evaluate.answers import answer_all
    from engine.evaluate.evaluation import evaluate_answers
    from engine.generate.columns import base_column, column_for
    from engine.history.evaluated import samples_of
    from engine.history.ingest import ingest_all
    from engine.history.store import open_store

    tuned = column_for(home, args.ref)
    base = None if args.no_base else base_column(tuned)
    others = [column_for(home, ref) for ref in args.with_refs]
    named = [*([base] if base else []), *others, tuned]
    columns = list({column.id: column for column in named}.values())
    sampling = tuned.recipe.with_settings(args.settings).generate
    try:
        answers, tally = answer_all(home, columns, rows.prompts, sampling, out.progress)
    except KeyboardInterrupt:
        out.note("what was answered is kept; the same command goes on with it")
        raise
    out.progress_done()
    for note in tally.notes:
        out.note(note)
    if tally.new:
        out.note(f"{tally.new:,} new answers, {tally.tokens_per_second:,.0f} tok/s")
    store = open_store(home)
    ingest_all(home, store)
    measured = split in MEASURED_SPLITS and not (split == "test" and _journaled(folder))
    document = evaluate_answers(
        *(home, store, folder.id, rows, answers, sampling),
        base=base.id if base else None,
        more=_further(home, folder, args, out),
        loss=(lambda: _loss(folder, split, out)) if measured else lambda: None,
        on_status=out.progress,
    )
    out.progress_done()
    samples = samples_of(store, document["id"], args.samples, args.show) if args.samples else []
    store.close()
    return document, samples


def _further(
    home: Home, folder: RunFolder, args: argparse.Namespace, out: Output
) -> "list[RowMetric]":
    """The metrics that were asked for besides."""
    from engine.evaluate.copied import copy_rate
    from engine.evaluate.embedding import similarity
    from engine.evaluate.judge import judged
    from engine.evaluate.rows import trained_dataset
    from engine.generate.copying import CopyIndex

    found = []
    try:
        dataset = trained_dataset(home, folder)
    except UserError as error:  # of rows of another place, for which the run's own need not be here
        out.note(f"tunebench: copies are not looked for: {error}")
    else:
        found.append(copy_rate(CopyIndex.open_or_build(home, dataset, out.progress).rate))
    if args.embedding_model:
        found.append(similarity(home, args.embedding_model, out.progress))
    if args.judge:
        found.append(judged(home, args.judge, out.progress))
    return found


def _loss(folder: RunFolder, split: str, out: Output) -> dict[str, Any] | None:
    """Losses and perplexities of base and tuned model; None where there are none to measure."""
    from engine.generate.errand import run_errand

    if split == "test" and (journaled := _journaled(folder)):
        return journaled
    if split not in MEASURED_SPLITS:
        return None
    result = run_errand("engine.train.measure", [str(folder.path), split], out.progress)
    out.progress_done()
    return _with_words({**result, "source": "measured now"})


def _journaled(folder: RunFolder) -> dict[str, Any] | None:
    """Before and after as the run itself measured them; None when it did not measure both."""
    found: dict[str, Any] = {"source": "journal"}
    for event in read_all(folder.journal):
        if event["type"] == "evaluation" and event.get("split") == "test":
            found[event["which"]] = event["loss"]
            found |= {"rows": event["rows"], "tokens": event["tokens"]}
    return _with_words(found) if {"before", "after"} <= found.keys() else None


def _with_words(result: dict[str, Any]) -> dict[str, Any]:
    before, after = float(result["before"]), float(result["after"])  # "NaN" is a text there
    fall = (before - after) / before if before else 0.0
    perplexity = {"before": _perplexity(before), "after": _perplexity(after)}
    return {**result, "fall": fall, "perplexity": perplexity}


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _tell_loss(loss: dict[str, Any], split: str, out: Output) -> None:
    out.line(f"{split} loss on {loss['rows']:,} rows ({loss['tokens']:,} trained tokens)")
    for which, label in (("before", "base"), ("after", "tuned")):
        value, perplexity = float(loss[which]), float(loss["perplexity"][which])
        fall = f"  ({-loss['fall']:+.1%})" if which == "after" else ""
        out.line(f"  {label:<6} {value:.4f}  perplexity {perplexity:,.2f}{fall}")


def _tell_answers(
    evaluation: dict[str, Any],
    references: list[str],
    samples: list[dict[str, Any]],
    out: Output,
) -> None:
    from engine.commands.metrics_table import table
    from engine.evaluate.metrics import METRICS, footnotes

    rows, of = evaluation["rows"], evaluation["of_rows"]
    of_words = f" of {of:,}, the same at every evaluation" if rows < of else ""
    out.line(f"\nanswers to {rows:,} rows{of_words} ({evaluation['on']})")
    labels = {column["id"]: column["label"] for column in evaluation["columns"]}
    labels |= {evaluation["base"]: "base"} if evaluation["base"] else {}
    better = evaluation["better"]
    for line in table(evaluation["metrics"], labels, evaluation["differences"], better):
        out.line(line)
    if failed := evaluation["failed"]["rows"]:
        first = evaluation["failed"]["first"]
        out.line(f"{counted(failed, 'row')} left out that not every column answered; {first}")
    most = evaluation["sampling"]["max_new_tokens"]
    for column in evaluation["columns"]:
        if cut := column["stop_reasons"].get("length"):
            share = cut / sum(column["stop_reasons"].values())
            out.line(
                f"{column['label']}: {share:.0%} of its answers were cut at {most} tokens "
                "(--set generate.max_new_tokens=N)"
            )
    if samples:
        _tell_samples(samples, out)
        return
    compared = bool(evaluation["differences"])
    usual = {metric.name for metric in METRICS}
    for line in footnotes(references, compared=compared):
        out.line(line)
    for name in better:
        if name not in usual:
            out.line(f"{name}: {evaluation['definitions'][name]}")


def _tell_samples(samples: list[dict[str, Any]], out: Output) -> None:
    for sample in samples:
        change = f"  chrF {sample['change']:+.1f}" if sample["change"] is not None else ""
        out.line(f"\n> {clip(sample['prompt'], _SAMPLE_CELLS)}  (row {sample['row']:,}){change}")
        out.line(f"[reference] {clip(sample['reference'].strip(), _SAMPLE_CELLS)}")
        for answer in sample["answers"]:
            score = answer["scores"]["row_chrf"]
            text = clip(answer["text"].strip(), _SAMPLE_CELLS)
            out.line(f"[{answer['label']}, chrF {score:.1f}] {text}")
