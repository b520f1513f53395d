"""``runs schema``: the tables and views of ``runs.db``."""

import argparse
from dataclasses import asdict

from engine.commands.output import Output
from engine.history.schema import page, relations
from engine.history.store import MIGRATIONS

__all__ = ["schema"]


def schema(args: argparse.Namespace, out: Output) -> int:
    """As Markdown, or as a document; no home is looked at."""
    out.line(page().rstrip("\n"))
    out.document(
        {"migrations": MIGRATIONS, "relations": [asdict(relation) for relation in relations()]}
    )
    return 0
