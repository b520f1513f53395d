"""Splits as token ids, made once for a dataset and a tokenizer, and mapped from then on.

No torch and no ``datasets``: :mod:`engine.train.rows` makes of them what the trainer takes.
"""

from engine.data.tokenised.packed import Packed, pack_rows
from engine.data.tokenised.split import (
    Tokenised,
    find_tokenised,
    list_lengths,
    tokenise,
    tokenise_table,
)
from engine.data.tokenised.store import Part
from engine.data.tokenised.work import COUNTS, IGNORED

__all__ = [
    "COUNTS",
    "IGNORED",
    "Packed",
    "Part",
    "Tokenised",
    "find_tokenised",
    "list_lengths",
    "pack_rows",
    "tokenise",
    "tokenise_table",
]
