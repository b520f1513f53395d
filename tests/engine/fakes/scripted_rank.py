"""A rank without torch: the first trains as the scripted worker does, the others wait for it.

``script.json`` may say ``"ranks": {"1": "memory"}``: how that rank fails once step 3 is journaled.
"""

import json
import os
import time
from typing import Any

from engine.jobs import rank
from engine.jobs.context import RunContext
from engine.jobs.journal import read_all
from engine.jobs.ranks import RankFiles
from tests.engine.fakes import scripted


def train(context: RunContext) -> dict[str, Any]:
    if not context.rank:
        return scripted.train(context)
    script = json.loads((context.home.path / "script.json").read_text())
    how = script.get("ranks", {}).get(str(context.rank)) if context.attempt == 1 else None
    files = RankFiles(context.folder)
    while not (ended := files.ended(0)):
        if how and any(e.get("step") == 3 for e in read_all(context.folder.journal)):
            scripted.fail(how)
        time.sleep(0.01)
    assert ended["state"] in ("finished", "stopped")
    return {}


if __name__ == "__main__":
    os._exit(rank.main(train=train))
