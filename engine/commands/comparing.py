"""``runs compare``, ``runs diff``, ``runs why``: several runs, or the runs of sweeps, compared."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.commands import difference_words, parallel_words, side_tables
from engine.commands.opened import opened
from engine.commands.output import Output
from engine.commands.runs import rows_of
from engine.commands.side_tables import Lines
from engine.errors import UsageError
from engine.history import queries
from engine.history.beside import evaluations_beside, samples_beside, votes_between
from engine.history.compare import MEASURES, Yardstick, best_of, number_named, yardstick
from engine.history.compare import compare as compare_runs
from engine.history.differing import differ
from engine.history.fields import SHORT, names_of_keys
from engine.history.parallel import by_value, parameters_of
from engine.history.recipe_values import recipe_values
from engine.history.row import RunRow
from engine.history.why import Ranked, Why
from engine.history.why import why as why_better

__all__ = ["compare", "diff", "why"]

SCATTER_LINES = 16


def _width() -> int:
    """Of the terminal; 80 where the output is no terminal."""
    return max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def _print(out: Output, lines: Lines) -> None:
    for text, _ in lines:
        out.line(text.rstrip())


def compare(args: argparse.Namespace, out: Output) -> int:
    """Metrics of several runs side by side, the best marked; their votes and evaluations."""
    _, store = opened(args, out)
    rows = rows_of(store, args.refs)
    try:
        metric = number_named(args.metric).name
    except UsageError as error:
        raise UsageError(f"--metric {error}") from None
    parameters = parameters_of(rows)
    by = SHORT.get(args.by, args.by)
    by = names_of_keys(parameters).get(by, by)
    if by is not None and by not in parameters:
        there = ", ".join(parameters) or "none: name a sweep"
        raise UsageError(
            f"--by {args.by}: no parameter of a sweep of these runs; there are {there}"
        )
    settings = recipe_values(store, [row.id for row in rows])
    judged = yardstick(rows, [settings[row.id].values for row in rows])
    width = _width()
    votes = votes_between(store, rows)
    evaluations = evaluations_beside(store, rows)
    samples = samples_beside(store, rows, args.samples) if args.samples > 0 else []
    _print(out, side_tables.metric_lines(rows, judged, width))
    if parameters and len(rows) > 2:
        out.line()
        _print(out, parallel_words.parallel_lines(rows, metric, judged, width))
    if by is not None:
        out.line()
        size = width, SCATTER_LINES
        for line in parallel_words.scatter_lines(rows, by, metric, *size):
            out.line(line)
    if evaluations:
        out.line()
        _print(out, side_tables.evaluation_lines(evaluations, rows, width))
    if votes:
        out.line()
        _print(out, side_tables.vote_lines(votes, rows, width))
    if samples:
        out.line()
        _print(out, side_tables.sample_lines(samples, width))
    document = _compared(rows, judged)
    document["parameters"] = _parameters(rows, parameters, metric, judged)
    document["votes"] = [
        {**asdict(rate), "a_run": rows[a].id, "b_run": rows[b].id} for a, b, rate in votes
    ]
    document["evaluations"] = [asdict(one) for one in evaluations]
    if args.samples > 0:
        document["samples"] = [
            {
                "prompt": one.prompt,
                "reference": one.reference,
                "answers": {
                    row.id: {"step": answer[0], "text": answer[1]}
                    for row, answer in zip(rows, one.answers, strict=True)
                    if answer is not None
                },
            }
            for one in samples
        ]
    out.document(document)
    return 0


def _compared(rows: Sequence[RunRow], judged: Yardstick) -> dict[str, Any]:
    table = compare_runs(rows)
    best = {name: best_of(name, values, judged) for name, values in table.items()}
    return {
        "runs": [row.id for row in rows],
        "names": [row.name for row in rows],
        "metrics": table,
        "best": {name: [rows[at].id for at in places] for name, places in best.items() if places},
        "better": {one.name: one.better for one in MEASURES if one.better},
        "same_rows": judged.same_rows,
        "notes": judged.words,
    }


def _parameters(
    rows: Sequence[RunRow], parameters: Sequence[str], metric: str, judged: Yardstick
) -> dict[str, Any]:
    return {
        key: [
            {
                "value": one.value,
                "runs": one.runs,
                "measured": one.measured,
                "best": one.best,
                "median": one.median,
                "best_run": one.best_run.id if one.best_run else None,
                "leads": one.leads,
            }
            for one in by_value(rows, key, metric, judged)
        ]
        for key in parameters
    }


def diff(args: argparse.Namespace, out: Output) -> int:
    """Only what differs: recipe, data, versions, machine, with every run's value."""
    _, store = opened(args, out)
    rows = rows_of(store, args.refs)
    if len(rows) < 2:
        raise UsageError("runs diff: name at least two runs")
    found = differ(store, rows)
    _print(out, difference_words.difference_lines(found, _width()))
    groups = {
        group: {one.key: list(one.values) for one in its} for group, its in found.groups().items()
    }
    out.document(
        {
            "runs": [row.id for row in rows],
            "names": [row.name for row in rows],
            "recipe": {one.key: list(one.values) for one in found.found if one.of_recipe},
            "differences": groups,
            "known_of_some": {key: list(values) for key, values in found.of_some.items()},
            "unreadable": found.problems,
        }
    )
    return 0


def why(args: argparse.Namespace, out: Output) -> int:
    """The differences between two runs, ranked by what other runs show about each."""
    _, store = opened(args, out)
    a, b = queries.get_run(store, args.a), queries.get_run(store, args.b)
    if a.id == b.id:
        raise UsageError(f"runs why: {args.a} and {args.b} are the same run; name two")
    found = why_better(store, a, b)
    _print(out, difference_words.why_lines(found, _width()))
    out.document(_why(found))
    return 0


def _why(found: Why) -> dict[str, Any]:
    seeds = found.seeds
    return {
        "a": found.a.id,
        "b": found.b.id,
        "names": [found.a.name, found.b.name],
        "best_eval_loss": [found.a.best_eval_loss, found.b.best_eval_loss],
        "change": found.change,
        "better": found.better.id if found.better else None,
        "same_rows": found.judged.same_rows,
        "notes": [*found.judged.words, *found.differences.words],
        "seed_spread": {**asdict(seeds), "width": seeds.width} if seeds else None,
        "beyond_seed_spread": found.beyond_seeds,
        "only_seed": found.only_seed,
        "these_are": "differences, not causes",
        "differences": [_document(place, one) for place, one in enumerate(found.ranked, 1)],
        "finished_runs_on_these_rows": found.looked_at,
        "unreadable": found.differences.problems,
    }


def _document(place: int, one: Ranked) -> dict[str, Any]:
    return {
        "rank": place,
        "key": one.key,
        "group": one.difference.group,
        "values": list(one.difference.values),
        "basis": one.basis,
        "evidence": asdict(one.evidence) if one.evidence else None,
    }
