"""Copies a run's adapter out of the home, without what only a resume needs. No torch."""

import shutil
from pathlib import Path
from typing import Any

from engine.generate.columns import run_column
from engine.jobs.folder import RunFolder

__all__ = ["copy_adapter"]

_ONLY_FOR_RESUMING = (
    *("manifest.json", "optimizer.pt", "scheduler.pt", "scaler.pt"),
    *("rng_state*.pth", "trainer_state.json"),
)


def copy_adapter(folder: RunFolder, out: Path) -> dict[str, Any]:
    """Copy the run's adapter (or whole model) with tokenizer to ``out``; no torch."""
    column = run_column(folder)
    source = Path(column.adapter or column.model_name_or_path)
    temporary = out.with_name(f".{out.name}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(*_ONLY_FOR_RESUMING))
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"folder": str(out), "bytes": sum(file.stat().st_size for file in out.iterdir())}
