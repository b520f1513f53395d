"""The history, as a command opens it: up to date, and saying what is wrong with it."""

import argparse

from engine.commands.output import Output
from engine.history.ingest import ingest_all
from engine.history.store import Store, open_store
from engine.home import Home, open_home

__all__ = ["opened"]


def opened(args: argparse.Namespace, out: Output) -> tuple[Home, Store]:
    """The home that ``--home`` names and its store, with all that the journals say."""
    home = open_home(args.home)
    store = open_store(home)
    ingest_all(home, store)
    for warning in store.warnings:
        out.note(f"tunebench: {warning}")
    return home, store
