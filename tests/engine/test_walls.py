"""The two walls, seen from outside: a fresh interpreter imports something and says what came along.

import-linter reads the source; only a running interpreter sees imports made inside functions.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "datasets", "unsloth", "trl", "peft", "accelerate", "pandas"}
SCREEN = {"textual", "tui"}


def modules_after(code: str, *, home: Path) -> set[str]:
    listing = "import sys\nprint('MODULES', *sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "TUNEBENCH_HOME": str(home)},
    )
    assert "MODULES" in done.stdout, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


def engine_modules() -> list[str]:
    """Every module of the engine that a viewer may import: all but those that only workers run."""
    return [
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for room in (
            "",
            "charts",
            "data",
            "data/sources",
            "data/rules",
            "data/tokenised",
            "jobs",
            "history",
            "system",
            "commands",
            "evaluate",
            "imports",
            "imports/runs",
            "preflight",
        )
        for path in sorted((ROOT / "engine" / room).glob("*.py"))
        if path.name not in ("__init__.py", "probe_trainer.py", "probe_rows.py")
    ]


def test_engine_needs_no_screen_and_viewers_no_torch(tmp_path: Path) -> None:
    found = modules_after("\n".join(f"import {name}" for name in engine_modules()), home=tmp_path)
    assert not found & SCREEN
    assert not found & HEAVY


def test_the_workbench_never_imports_torch(tmp_path: Path) -> None:
    code = (
        "import importlib, pkgutil, tui\n"
        "for m in pkgutil.walk_packages(tui.__path__, 'tui.'):\n"
        "    importlib.import_module(m.name)"
    )
    found = modules_after(code, home=tmp_path)
    assert "textual" in found
    assert not found & HEAVY


READ_ONLY = (
    ["--help"],
    ["--version"],
    ["runs", "list"],
    ["runs", "list", "--json"],
    ["runs", "export", "--to", "-", "--format", "csv"],
    ["runs", "schema"],
    ["recipes"],
    ["evaluate", "--predictions", str(Path(__file__).parent / "fixtures/predictions.csv")],
    ["recipes", "import", str(Path(__file__).parent / "fixtures/imports/axolotl-lora.yml")],
    ["runs", "import", str(Path(__file__).parent / "fixtures/past/trl")],
    ["doctor"],
    ["reindex"],
    ["queue"],
)


@pytest.mark.parametrize("words", READ_ONLY, ids=" ".join)
def test_read_only_commands_import_neither_screen_nor_torch(
    words: list[str], tmp_path: Path
) -> None:
    code = (
        "import tui.__main__ as program\n"
        f"try: program.main({words!r})\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    found = modules_after(code, home=tmp_path)
    assert not found & HEAVY
    assert "textual" not in found


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_answer_at_once(word: str) -> None:
    """Under 0.3 s on an idle machine; the best of five, because the machine may not be idle."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        command = [sys.executable, "-m", "tui", word]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3, seconds
