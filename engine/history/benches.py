"""Benches: kept in the home's own journal, and the latest one of each device found again."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from engine.history.notes import append_event
from engine.history.store import Store
from engine.home import Home

__all__ = ["add_bench", "latest_bench", "latest_benches", "of_device"]


def add_bench(home: Home, document: dict[str, Any]) -> None:
    """Journal a bench as it is now; a later event of the same ``id`` takes its place.

    Raises :class:`UserError` when it cannot be written.
    """
    append_event(home, "bench", id=document["id"], document=document)


def latest_benches(store: Store, host: str) -> list[dict[str, Any]]:
    """The last bench of each device of this host that measured something, newest first."""
    rows = store.query(
        "SELECT gpu, document FROM benches WHERE host = ? ORDER BY t DESC, id DESC", (host,)
    )
    found: dict[str | None, dict[str, Any]] = {}
    for gpu, text in rows:
        if gpu not in found:
            document = json.loads(text)
            results = document.get("results")
            if isinstance(results, list) and any(
                isinstance(one, dict) and one.get("step_seconds") for one in results
            ):
                found[gpu] = document
    return list(found.values())


def of_device(benches: Sequence[dict[str, Any]], gpus: Collection[str]) -> dict[str, Any] | None:
    """Of :func:`latest_benches` the one of these GPUs (none: of the CPU); else the newest."""
    for bench in benches:
        if bench.get("gpu") in gpus if gpus else bench.get("gpu") is None:
            return bench
    return benches[0] if benches else None


def latest_bench(store: Store, host: str, gpus: Collection[str]) -> dict[str, Any] | None:
    """The last bench of this host on one of its GPUs (by name), or on its CPU; None: none yet."""
    return of_device(latest_benches(store, host), gpus)
