"""A short look into ``runs.db`` from a thread, brought up to date first."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.history.store import Store
    from engine.home import Home

__all__ = ["looking"]


@contextlib.contextmanager
def looking(home: "Home") -> "Iterator[Store]":
    """The store with all that the home's journals say; closed when it is left."""
    from engine.history.ingest import ingest_all
    from engine.history.store import open_store

    store = open_store(home)
    try:
        ingest_all(home, store, live=False)
        yield store
    finally:
        store.close()
