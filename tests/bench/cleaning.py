"""Cleaning 2.2 million rows, here and with other tools: ``python -m tests.bench.cleaning``.

Makes the file with the catalogue generator (long rows: some 2.1 GB unpacked), then runs each tool
in a process of its own and prints one table: seconds, ratio to ``zcat FILE | wc -l``, CPU seconds,
peak memory of all its processes together, and what was written.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from engine.demo.catalogue import write_catalogue
from tests.bench.engines import ENGINES, NEEDS_SOUND_LINES

SAMPLE_SECONDS = 0.1


def measure(command: list[str], stdin: Path | None = None) -> tuple[float, float, int, str, int]:
    """(wall seconds, CPU seconds, peak bytes, last line of output, exit status) of a command.

    Memory is the proportional set size of the process and all its descendants, sampled: pages
    that they share count once.
    """
    before = os.times()
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for each in [watched, *watched.children(recursive=True)]:
                total += _pss(each.pid)
        except psutil.Error:
            total = 0
        peak = max(peak, total)
        time.sleep(SAMPLE_SECONDS)
    wall = time.monotonic() - began
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    lines = (process.stdout.read() if process.stdout else "").strip().splitlines()
    return wall, cpu, peak, lines[-1] if lines else "", process.returncode


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def sound_copy(source: Path) -> Path:
    """The file without what some tools end at: a BOM, lines that are no JSON object in UTF-8, or
    have a column twice or a whole number over 64 bits."""
    import orjson
    from isal import igzip

    target = source.with_name(f"sound-{source.name}")
    with igzip.open(source) as old, igzip.open(target, "wb") as new:
        for line in old:
            try:
                row = orjson.loads(line)
                once = line.count(b'"title"') == line.count(b'"content"') == 1
                texts = isinstance(row["title"], str) and isinstance(row["content"], str)
                if once and texts and all(type(n) is int for n in row["target_ind"]):
                    new.write(line)
            except (ValueError, KeyError, TypeError):
                continue
    return target


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_200_000)
    parser.add_argument("--file", type=Path, help="measure with this file")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--keep", type=Path, help="folder for the file, kept for the next time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = args.file or folder / f"catalogue-{args.rows}.json.gz"
        if not source.exists():
            print(f"making {source.name} ...", file=sys.stderr)
            write_catalogue(source, args.rows, long=True)
        command = ["sh", "-c", 'zcat "$0" | wc -l', str(source)]
        limit = min(measure(command)[0] for _ in range(2))
        print(f"{source.stat().st_size / 1e6:,.0f} MB packed; zcat | wc -l: {limit:.1f} s\n")
        print("| tool | seconds | x zcat | CPU s | peak memory | kept | left on disk |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name in args.engines.split(","):
            used = source
            if name in NEEDS_SOUND_LINES:
                used = source.with_name(f"sound-{source.name}")
                if not used.exists():
                    sound_copy(source)
            out = Path(tempfile.mkdtemp(dir=folder))
            ran = [sys.executable, "-m", "tests.bench.engines", name, str(used), str(out)]
            wall, cpu, peak, kept, status = measure(ran)
            told = f"{int(kept):,}" if not status else f"ended with {status}"
            print(
                f"| {name} | {wall:.1f} | {wall / limit:.1f} | {cpu:.1f} | "
                f"{peak / 1e9:.2f} GB | {told} | {folder_bytes(out) / 1e9:.2f} GB |",
                flush=True,
            )
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
