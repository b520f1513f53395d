"""A dataset whose source lies elsewhere now, or was touched: its rows are read where they are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.dataset import FILES, MANIFEST, Dataset
from engine.whole import sync

if TYPE_CHECKING:
    from engine.data.sources import Look

__all__ = ["follow_source"]


def follow_source(dataset: Dataset, look: "Look", identity: dict[str, Any]) -> bool:
    """Note in a dataset where its source is now; True when that was another place or time.

    ``look`` is at a source of the same bytes and layout, ``identity`` what a manifest says of it.
    Raises OSError, and ValueError, KeyError or TypeError when the index is damaged. Whoever is
    interrupted between the two files leaves a dataset that is damaged, which is made again.
    """
    index = json.loads(dataset.file("raw_index").read_text(encoding="utf-8"))
    files = json.loads(json.dumps([file.as_json() for file in look.files]))
    if index["files"] == files and dataset.manifest["source"] == identity:
        return False
    index["files"] = files
    manifest = {**dataset.manifest, "source": identity}
    size = _replace(dataset.file("raw_index"), json.dumps(index))
    manifest["files"] = {**manifest["files"], FILES["raw_index"]: size}
    _replace(dataset.path / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    sync(dataset.path)
    return True


def _replace(path: Path, text: str) -> int:
    """Write a file anew, whole or not at all; its size in bytes."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    return path.stat().st_size
