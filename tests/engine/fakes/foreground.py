"""``tunebench train demo`` in the foreground, with the scripted worker: home, then more options."""

import sys
import types

from engine import cli
from engine.jobs import check, launch
from tests.engine.fakes.runs import WORKER

if __name__ == "__main__":
    launch.WORKER = WORKER
    prepare = types.ModuleType("engine.data.prepare")
    prepare.check_source = lambda recipe: None  # type: ignore[attr-defined]
    sys.modules["engine.data.prepare"] = prepare
    check.check_model = lambda recipe: None
    sys.exit(cli.main(["train", "demo", "--home", *sys.argv[1:]]))
