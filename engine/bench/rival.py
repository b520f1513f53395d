"""The process of one rival: ``python -m engine.bench.rival --tell FD PARENT JOB.json``.

What trains is one module a kind; rows, clock and words are the same for all.
"""

import importlib
import sys
from pathlib import Path

from engine.bench.clock import Clock
from engine.bench.job import Job
from engine.bench.telling import Teller, serve

KINDS = {
    "unsloth": "engine.bench.unsloth_trl",
    "trl": "engine.bench.transformers_trl",
    "bare": "engine.bench.bare",
}
"""Kind -> module with ``run(job, clock)``."""


def _work(arguments: list[str], teller: Teller) -> None:
    job = Job.read(Path(arguments[0]))
    importlib.import_module(KINDS[job.kind]).run(job, Clock(teller, job.device))


if __name__ == "__main__":
    sys.exit(serve(_work))
