"""A cleaning that is interrupted at random moments, and run again: the same bytes, nothing left."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine.data.dataset import FILES, list_datasets, open_dataset
from engine.demo.catalogue import write_catalogue
from engine.home import Home, open_home

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROWS = 100_000
"""Some 40 MB packed: cleaned by several processes."""
TIMES = 20


def start(home: Home, source: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "engine.cli", "clean", str(source), "--json"]
    return subprocess.Popen(
        [*command, "--name", "rows", "--home", str(home.path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def digests(home: Home) -> dict[str, str]:
    dataset = open_dataset(home, "rows")
    found = {
        what: hashlib.sha256(dataset.file(what).read_bytes()).hexdigest()
        for what in FILES
        if what not in ("manifest", "raw_index")
    }
    return found | {"fingerprint": dataset.fingerprint}


def test_interrupted_at_twenty_moments(tmp_path: Path) -> None:
    source = tmp_path / "rows.json.gz"
    write_catalogue(source, ROWS, long=True)
    whole = open_home(tmp_path / "whole")
    began = time.monotonic()
    assert start(whole, source).wait(300) == 0
    seconds = time.monotonic() - began
    home = open_home(tmp_path / "home")
    rng = random.Random(3)
    finished = 0
    for turn in range(TIMES):
        how = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[turn % 3]
        process = start(home, source)
        family = psutil.Process(process.pid)
        try:
            process.wait(rng.uniform(0.05, seconds * 0.8))
            finished += 1  # quicker than the first time
        except subprocess.TimeoutExpired:
            children = family.children(recursive=True)
            process.send_signal(how)
            assert process.wait(30) != 0
            _, alive = psutil.wait_procs(children, timeout=30)
            assert not alive, f"left behind after {how.name}"
            assert list_datasets(home) == [], how.name
        for manifest in home.datasets.glob("rows*"):
            if process.returncode:
                raise AssertionError(f"{manifest} is there after {how.name}")
        if not process.returncode:
            assert digests(home) == digests(whole)
            for file in (home.datasets / "rows").iterdir():
                file.unlink()
            (home.datasets / "rows").rmdir()
    assert start(home, source).wait(300) == 0
    assert digests(home) == digests(whole)
    names = {path.name for path in home.datasets.iterdir()}
    assert names == {"rows", ".locks", ".sources"}
    print(f"\n{TIMES - finished} interruptions in {seconds:.1f} s of cleaning; the same bytes")
