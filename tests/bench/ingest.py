"""How many journal lines a second are parsed and stored in ``runs.db``.

    python -m tests.bench.ingest [--folder FOLDER] [--profile]

Metrics lines as the trainer writes them, with evaluations, checkpoints and readings of the memory
between them: many short runs, and one long one. One thread does all of it; CPU seconds are told
beside the wall clock's, as other work on the machine slows only those.
"""

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from pathlib import Path

from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import open_home
from tests.bench.homes import size, write_runs

SHAPES = ((1_000, 1_000), (1, 500_000))


def measure(folder: Path, runs: int, lines: int, profile: bool) -> None:
    home = open_home(folder)
    # As many steps as give about so many lines: one in 22 is no step.
    written = write_runs(home, runs, round(lines / 1.045))
    store = open_store(home)
    profiler = cProfile.Profile()
    began, used = time.perf_counter(), time.process_time()
    if profile:
        profiler.enable()
    ingest_all(home, store, live=False)
    profiler.disable()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    told = f"{runs:5,} x {written // runs:7,} lines: {seconds:6.2f} s, {cpu:6.2f} CPU s"
    rates = f"{written / seconds:9,.0f} lines/s, {written / cpu:9,.0f} a CPU second"
    sizes = f"journals {size(home.runs) / 1e6:,.0f} MB, runs.db {size(home.database) / 1e6:,.0f} MB"
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{told} | {rates} | {sizes}, {held} MiB at most")
    stored = sum(store.query(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES)
    assert stored == written, f"{written} lines, {stored} rows"
    store.close()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


TABLES = ("metrics", "evaluations", "checkpoints", "memory", "events")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(arguments)
    for runs, lines in SHAPES:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            measure(Path(folder), runs, lines, options.profile)


if __name__ == "__main__":
    main()
