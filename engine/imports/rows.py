"""Where the rows come from and how they are put into words, as far as all tools have it alike."""

import re
from pathlib import Path
from typing import Any

from engine.imports.draft import Draft

__all__ = ["as_they_are", "chat", "hub", "local_or_hub", "needs_source"]

_FILE = re.compile(r"\.(jsonl?|csv|tsv|parquet|arrow|txt)(\.(gz|zst|xz|bz2))?$", re.IGNORECASE)


def as_they_are(draft: Draft, rules: list[str] | None = None) -> None:
    """No cleaning but ``rules``, and no instruction before the rows' own."""
    draft.put(
        "clean.rules",
        rules or [],
        f"({draft.tool})",
        "rows are trained as they are there; name rules to clean them",
    )
    draft.put("format.instruction", "", f"({draft.tool})", "nothing goes before the rows' own text")


def hub(name: str) -> str:
    """A hub dataset as ``data.source`` has it: ids without an owner get a mark."""
    return name if "/" in name else f"hub:{name}"


def local_or_hub(name: str) -> str:
    """A path where one is there or it looks like one, else a hub dataset."""
    path = Path(name).expanduser()
    if name.startswith((".", "/", "~")) or _FILE.search(name) or path.exists():
        return name
    return hub(name)


def needs_source(draft: Draft, key: str, words: str) -> None:
    """Nobody but the user can say where the rows are: an error, unless they did by --set."""
    if "data.source" not in draft.settings:
        raise draft.wrong(key, f"{words}; add --set data.source=FILE (or a hub id)")


def chat(draft: Draft, key: str, template: Any) -> None:
    """The tokenizer's own chat template stands for a named one of the other tool."""
    draft.put(
        "format.template",
        "chat",
        key,
        f"the tokenizer's own chat template stands for {draft.tool}'s {template!r}; compare what "
        "comes out (tunebench preview): the default system message may differ",
    )
