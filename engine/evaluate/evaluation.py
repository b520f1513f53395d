"""One evaluation: columns that answered the same prompts, measured, compared and journaled."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.evaluate.answers import Answers, digest_of
from engine.evaluate.metrics import METRICS, RowMetric, compare, definitions
from engine.evaluate.rows import EvaluationRows
from engine.evaluate.statistics import Statistics, statistics
from engine.history.evaluated import SCORES, add_evaluation, find_evaluation
from engine.history.ingest import ingest_all
from engine.history.store import Store
from engine.home import Home
from engine.recipe import GenerateSection
from engine.whole import sync

__all__ = ["evaluate_answers"]


def evaluate_answers(
    home: Home,
    store: Store,
    run: str,
    rows: EvaluationRows,
    answers: Sequence[Answers],
    sampling: GenerateSection,
    *,
    base: str | None,
    more: Sequence[RowMetric] = (),
    loss: Callable[[], dict[str, Any] | None] = lambda: None,
    on_status: Callable[[str], None] = lambda words: None,
) -> dict[str, Any]:
    """The evaluation's document, as it is kept in ``runs.db``: the one that is there, or a new one.

    ``base`` is the column that the others are compared with; the last of ``answers`` is the one
    whose best and worst rows are asked for. ``loss`` is called for a new one only. The document:
    ``id``, ``run``, ``on``, ``rows`` (that every column answered), ``failed`` (how many others, and
    the first reason), ``of_rows``, ``base``, ``columns`` (id, label, answers, digest, stop_reasons,
    tokens), ``metrics``, ``differences``, ``definitions``, ``better`` (which side of a metric is),
    ``sampling``, ``loss``, ``pairs``.
    """
    pairs = _pairs_file(home, run, rows)
    said = definitions(more)
    parts = [run, pairs.name, base or "", *(answer.column.id for answer in answers)]
    # The names of their files tell the weights: these may differ where no answer does.
    parts += [f"{answer.path.name} {answer.digest}" for answer in answers]
    parts.append(json.dumps(said, sort_keys=True))
    evaluation = digest_of(parts)
    known = find_evaluation(store, evaluation)
    if known is not None:
        return known
    kept, failed = _kept(answers)
    counted = {
        answer.column.id: _counted(answer, kept, rows, more, on_status) for answer in answers
    }
    on_status("drawing resamples")
    metrics, differences = compare(counted, base, more)
    document: dict[str, Any] = {
        "id": evaluation,
        "run": run,
        "on": rows.source,
        "rows": len(kept),
        "failed": failed,
        "of_rows": rows.of,
        "base": base,
        "columns": [
            {
                "id": answer.column.id,
                "label": answer.column.label,
                "answers": _relative(home, answer.path),
                "digest": answer.digest,
                "stop_reasons": answer.stop_reasons,
                "tokens": answer.tokens,
            }
            for answer in answers
        ],
        "metrics": metrics,
        "differences": differences,
        "definitions": said,
        "better": {metric.name: metric.better for metric in METRICS}
        | {metric.name: metric.better for metric in more},
        "sampling": sampling.model_dump(),
        "loss": loss(),
        "pairs": _relative(home, pairs),
    }
    add_evaluation(home, document, kept, _scores(counted))
    ingest_all(home, store)
    return document


def _kept(answers: Sequence[Answers]) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the rows that every column answered; of the others how many, and a reason.

    Columns are compared on the same rows, and what was not answered is no bad answer.
    """
    failed = {
        number: f"{answer.column.label}: {words}"
        for answer in answers
        for number, words in answer.failed.items()
    }
    kept = [number for number in range(len(answers[0].texts)) if number not in failed]
    first = failed[min(failed)] if failed else ""
    if not kept:
        raise UserError(f"no row was answered by every column; {first}")
    return kept, {"rows": len(failed), "first": first}


def _counted(
    answer: Answers,
    kept: Sequence[int],
    rows: EvaluationRows,
    more: Sequence[RowMetric],
    on_status: Callable[[str], None],
) -> Statistics:
    import numpy as np

    label, total = answer.column.label, len(kept)
    prompts = [rows.prompts[number] for number in kept]
    references = [rows.references[number] for number in kept]
    texts = [answer.texts[number] for number in kept]

    def told(done: int) -> None:
        on_status(f"comparing answers of {label}: {done:,} of {total:,}")

    found = statistics(texts, references, on_progress=told)
    values = {}
    for metric in more:
        on_status(f"{metric.label} of {label}")
        values[metric.name] = np.array(metric.rates(prompts, texts, references), dtype=np.float64)
        if values[metric.name].shape != (total,) or not np.isfinite(values[metric.name]).any():
            raise UserError(f"{metric.label}: there is none for any answer of {label}")
    return replace(found, more=values)


def _scores(counted: Mapping[str, Statistics]) -> list[list[list[float]]]:
    """Of each row, of each column: the values of :data:`SCORES`."""
    import numpy as np

    by_column = [
        np.stack([found.of(name) for name in SCORES], axis=1) for found in counted.values()
    ]
    scores: list[list[list[float]]] = np.stack(by_column, axis=1).round(4).tolist()
    return scores


def _pairs_file(home: Home, run: str, rows: EvaluationRows) -> Path:
    """Prompts and references as JSON Lines in the run's folder, named by what is in it."""
    data = b"".join(
        json.dumps(
            {"index": index, "prompt": prompt, "reference": reference}, ensure_ascii=False
        ).encode("utf-8", "replace")
        + b"\n"
        for index, (prompt, reference) in enumerate(zip(rows.prompts, rows.references, strict=True))
    )
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    path = home.runs / run / "evaluations" / f"pairs-{digest}.jsonl"
    if path.is_file() and path.stat().st_size == len(data):
        return path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _relative(home: Home, path: Path) -> str:
    return str(path.relative_to(home.path))
