"""A process of the bench that leaves a child behind and never ends by itself."""

import subprocess
import sys
import time

from engine.bench.telling import Teller, serve


def work(arguments: list[str], teller: Teller) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    teller.tell(phase="lingering", child=child.pid)
    if arguments == ["fail"]:
        raise ValueError("no such\nluck")
    if arguments == ["leave"]:
        return
    time.sleep(300)


if __name__ == "__main__":
    sys.exit(serve(work))
