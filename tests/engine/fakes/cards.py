"""GPUs that are not there: for this process and those that it starts."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.system import gpu

FOLDER = Path(__file__).parent / "nvml"


def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *cards: dict[str, Any]) -> None:
    """Let NVML tell of these cards from now on; call again to change them."""
    path = tmp_path / "cards.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(cards))
    os.replace(new, path)
    if os.environ.get("TUNEBENCH_TEST_CARDS") == str(path):
        return
    monkeypatch.setenv("TUNEBENCH_TEST_CARDS", str(path))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    spec = importlib.util.spec_from_file_location("pynvml", FOLDER / "pynvml.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(gpu, "_started", False)


def card(number: int, **more: Any) -> dict[str, Any]:
    return {"uuid": f"GPU-{number:04d}", **more}
