"""How a process of ours starts another one: with this very engine, wherever it was started."""

import os
import site
from pathlib import Path

import engine

__all__ = ["environment"]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, in which ``python -P -m engine...`` finds the engine.

    ``-P`` because the current folder is the user's, and may hold a json.py.
    """
    found = {**os.environ, **more}
    source = str(Path(engine.__file__).parents[1])
    if source not in (*site.getsitepackages(), site.getusersitepackages()):
        paths = [source, *filter(None, found.get("PYTHONPATH", "").split(os.pathsep))]
        found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return found
