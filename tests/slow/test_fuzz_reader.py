"""200,000 broken files for the reader: no crash, no hang, every line and record accounted for.

``TUNEBENCH_FUZZ_INPUTS`` and ``TUNEBENCH_FUZZ_SEED`` choose how many and which; what failed is
repeated by its seed alone.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INPUTS = int(os.environ.get("TUNEBENCH_FUZZ_INPUTS", "200000"))
FIRST = int(os.environ.get("TUNEBENCH_FUZZ_SEED", "0"))
AT_ONCE = 5_000
SLOWEST = 20
"""Seconds that one input of a few hundred bytes may take on a busy machine."""

BATCH = """
import collections, json, resource, signal, sys, traceback
from pathlib import Path
from tests.engine.reading import Mutator, check_reading
folder, first, count, seconds = Path(sys.argv[1]), *map(int, sys.argv[2:])
def hang(*_):
    raise TimeoutError("took too long")
signal.signal(signal.SIGALRM, hang)
mutator, ends, bad = Mutator(), collections.Counter(), {}
for seed in range(first, first + count):
    (folder / "seed").write_text(str(seed))
    signal.alarm(seconds)
    try:
        ends[check_reading(folder / "rows", mutator.make(seed))] += 1
    except Exception:
        bad[seed] = traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print(json.dumps({"ends": ends, "bad": bad, "memory": memory}))
"""


@pytest.mark.slow
def test_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    ends: Counter[str] = Counter()
    bad: dict[str, str] = {}
    memory = 0
    for first in range(FIRST, FIRST + INPUTS, AT_ONCE):
        count = min(AT_ONCE, FIRST + INPUTS - first)
        # In processes of their own: what kills one has a seed, too.
        done = subprocess.run(
            [sys.executable, "-c", BATCH, str(tmp_path), str(first), str(count), str(SLOWEST)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SLOWEST * AT_ONCE,
        )
        if done.returncode:
            bad[(tmp_path / "seed").read_text()] = f"exit {done.returncode}: {done.stderr[-2000:]}"
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        ends.update(found["ends"])
        bad.update(found["bad"])
        memory = max(memory, found["memory"])
    with capsys.disabled():
        print(
            f"\nreader: {ends.total():,} inputs from seed {FIRST}, peak {memory} MiB, {dict(ends)}"
        )
    assert not bad, f"{len(bad)} inputs; the first: {next(iter(bad.items()))}"
    assert ends.total() == INPUTS
