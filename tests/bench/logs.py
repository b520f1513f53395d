"""How fast a log of gigabytes opens, is searched and is filtered, and what that takes of memory.

    python -m tests.bench.logs [--gb 5] [--folder FOLDER]

Writes a log of the lines that training prints (one in 50,000 a warning, a progress bar every
10,000) and measures with the reader that the log page uses; each number is that of one call.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from engine.jobs.logfile import LogFile
from engine.jobs.loglevels import Level
from engine.jobs.logsearch import Needle, count, find

BAR = b"\r".join(b"evaluating: %3d%%|####| %d/100" % (n, n) for n in range(100)) + b"\n"
WARNING = b"WARNING:root:row %d is longer than 4096 tokens\n"


def write(path: Path, size: int) -> None:
    number = 0
    with path.open("wb") as file:
        while file.tell() < size:
            piece = []
            for number in range(number, number + 50_000):  # noqa: B020
                piece.append(
                    b"{'loss': %.4f, 'grad_norm': 0.8123, 'learning_rate': 0.0002, 'step': %d}\n"
                    % (2 + number % 997 / 997, number)
                )
                if number % 10_000 == 9_999:
                    piece.append(BAR)
            piece.append(WARNING % number)
            file.write(b"".join(piece))
            number += 1


def held() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "worker.log"
        # In a process of its own: what writing takes of memory is not the reader's.
        writer = get_context("spawn").Process(target=write, args=(path, int(options.gb * 1e9)))
        writer.start()
        writer.join()
        measure(path)


def measure(path: Path) -> None:
    before = held()
    log = LogFile(path)

    def timed(what: str, do: Callable[[], Any], size: int = 0) -> Any:
        begun, used = time.perf_counter(), time.process_time()
        result = do()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - used
        rate = f"{size / seconds / 1e6:8,.0f} MB/s" if size else ""
        print(f"{what:44} {1000 * seconds:10,.1f} ms  {1000 * cpu:10,.1f} ms CPU {rate}")
        return result

    def open_at_end() -> Any:
        log.look()
        return log.before(log.size, 340)

    timed("open, and the last 340 lines", open_at_end)
    size = log.size
    print(f"{'':44} {size / 1e9:.2f} GB")
    timed("340 lines in the middle", lambda: log.before(log.start_of(size // 2), 340))
    timed("count all lines", lambda: log.count_ahead(1e9), size)
    timed("search on, nothing found", lambda: find(log, Needle("nowhere"), 0), size)
    timed("search on, as written, nothing found", lambda: find(log, Needle("Nowhere"), 0), size)
    timed("search back, nothing found", lambda: find(log, Needle("nowhere"), size, back=True), size)
    timed("count the lines with a text", lambda: list(count(log, Needle("tokens")))[-1], size)
    timed("the last 40 warnings", lambda: log.before(size, 40, Level.WARNING))
    log = LogFile(path)  # which knows nothing of its levels yet
    log.look()
    timed("errors, of which there are none", lambda: log.before(size, 40, Level.ERROR), size)
    timed("errors once more", lambda: log.before(size, 40, Level.ERROR))
    print(f"memory: {held() - before:.0f} MiB more than before it was opened")


if __name__ == "__main__":
    main()
