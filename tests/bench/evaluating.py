"""Seconds that metrics with intervals take, beside those whose counting they agree with.

``python -m tests.bench.evaluating --rows 30000``: random words in natural proportions, 40 to 80 a
text, of which a prediction has kept 60 %. Elapsed and CPU seconds, children included. The packages'
own rows (values only, no intervals) are measured on a tenth of the pairs, and multiplied.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from engine.evaluate.metrics import compare
from engine.evaluate.statistics import statistics

SHARE = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=30_000)
    args = parser.parse_args()
    print(json.dumps(evaluating(args.rows), indent=1))


def evaluating(rows: int) -> dict[str, Any]:
    """What took how long."""
    predictions, references = pairs(rows)
    found: dict[str, Any] = {"rows": rows, "load": round(os.getloadavg()[0], 1)}
    counted = _timed(found, "counting", lambda: statistics(predictions, references))
    _timed(found, "one column", lambda: compare({"one": counted}))
    both = {"base": counted, "tuned": counted}
    _timed(found, "two columns", lambda: compare(both, "base"))
    few = rows // SHARE
    ours, theirs = predictions[:few], references[:few]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    _timed(found, "rouge-score", lambda: list(map(scorer.score, theirs, ours)), SHARE)
    _timed(found, "sacrebleu BLEU", lambda: BLEU().corpus_score(ours, [theirs]), SHARE)
    _timed(found, "sacrebleu chrF", lambda: CHRF().corpus_score(ours, [theirs]), SHARE)
    return found


def pairs(rows: int, seed: int = 1) -> tuple[list[str], list[str]]:
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(8000)]
    shares = list(accumulate(1 / rank for rank in range(1, 8001)))
    references = [
        " ".join(chance.choices(words, cum_weights=shares, k=chance.randint(40, 80))) + "."
        for _ in range(rows)
    ]
    predictions = [
        " ".join(w if chance.random() < 0.6 else chance.choice(words) for w in text.split())
        for text in references
    ]
    return predictions, references


def _timed(found: dict[str, Any], what: str, work: Callable[[], Any], times: int = 1) -> Any:
    began, before = time.perf_counter(), os.times()
    result = work()
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    elapsed = time.perf_counter() - began
    found[what] = {"seconds": round(elapsed * times, 1), "cpu": round(cpu * times, 1)}
    return result


if __name__ == "__main__":
    main()
