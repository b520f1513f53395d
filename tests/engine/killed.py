"""``python -m tests.engine.killed RUN_DIR STEP [ATTEMPT]``: train one attempt, and be killed.

SIGKILL comes right after the line of STEP is in the journal, so that a test knows where; kills at
any moment are what the tests of jobs are about.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from engine.home import Home
from engine.jobs import checkpoints
from engine.jobs.context import RunContext
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.train import session


class Deadly(Journal):
    last = int(sys.argv[2])

    def append(self, type: str, **fields: Any) -> None:
        super().append(type, **fields)
        if type == "metrics" and fields["step"] == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


folder = RunFolder(Path(sys.argv[1]))
attempt = int(sys.argv[3]) if len(sys.argv) > 3 else 1
session.run(
    RunContext(
        home=Home(folder.path.parent.parent),
        folder=folder,
        recipe=folder.read_recipe(),
        attempt=attempt,
        journal=Deadly(folder.journal, attempt),
        resume_from=checkpoints.latest_whole(folder),
        stop_requested=lambda: False,
        take_controls=list,
    )
)
