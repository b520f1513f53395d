"""Tells a terminal that nobody looks at: its bell, or a notification by OSC 9 or OSC 777.

Only where asked for: what a terminal does not know it may print.
"""

import os
import re
from collections.abc import Mapping, Sequence

from engine.errors import UsageError
from engine.text import clip, safe_line

__all__ = ["VARIABLE", "WAYS", "ring", "ways"]

WAYS = ("bell", "osc9", "osc777")
VARIABLE = "TUNEBENCH_NOTIFY"
CELLS = 100
ESC, BEL = "\x1b", "\x07"


def ways(flag: str | None, environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """What ``--notify``, or else the environment, asks for. Raises :class:`UsageError`."""
    source, text = ("--notify", flag) if flag is not None else (VARIABLE, environ.get(VARIABLE, ""))
    asked = [word for word in re.split(r"[,\s]+", text) if word]
    for word in asked:
        if word not in WAYS:
            known = ", ".join(WAYS)
            raise UsageError(f"{source}: {safe_line(word[:40])!r} is none of {known}")
    return frozenset(asked)


def ring(
    asked: frozenset[str], notices: Sequence[str], environ: Mapping[str, str] = os.environ
) -> str:
    """What to write to the terminal for notices of these words, which need not be safe.

    tmux hands a notification on to its own terminal only when wrapped (and where its
    ``allow-passthrough`` is on); a bell it knows itself, and one is enough for all.
    """
    written = []
    for words in notices:
        if "osc9" in asked:
            # A number first would be a command to some terminals: OSC 9;4 is a progress bar.
            written.append(f"\x1b]9;{clip(f'tunebench: {words}', CELLS)}{BEL}")
        if "osc777" in asked:
            text = clip(words, CELLS).replace(";", ",")
            written.append(f"\x1b]777;notify;tunebench;{text}{BEL}")
    if environ.get("TMUX"):
        written = [f"\x1bPtmux;{one.replace(ESC, ESC * 2)}{ESC}\\" for one in written]
    if notices and "bell" in asked:
        written.append(BEL)
    return "".join(written)
