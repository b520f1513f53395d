"""The history, as a command opens it: up to date, and saying what is wrong with it."""

import argparse

from engine.commands.output import Output
from engine.history.ingest import ingest_all
from engine.history.store import Store, open_store
from engine.home import Home, existing_home, open_home

__all__ = ["opened"]


def opened(args: argparse.Namespace, out: Output, *, make_home: bool = False) -> tuple[Home, Store]:
    """The home that ``--home`` names and its store, with all that the journals say.

    Raises UserError where there is no such folder; with ``make_home`` it is made.
    """
    home = (open_home if make_home else existing_home)(args.home)
    store = open_store(home)
    ingest_all(home, store)
    for warning in store.warnings:
        out.note(f"tunebench: {warning}")
    return home, store
