"""Errands: short-lived worker processes with torch, which a command waits for.

The worker answers in JSON lines on a pipe of its own; what libraries print goes to a log.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import UserError
from engine.home import runtime_folder
from engine.jobs import child

__all__ = ["Answers", "run_errand", "serve_errand"]


def run_errand(
    module: str, arguments: Sequence[str], on_status: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Run ``python -m module arguments`` and return its result.

    Raises :class:`UserError` with the worker's own words, or with the log's name when it crashed.
    """
    log = runtime_folder() / f"errand-{os.getpid()}.log"
    read, write = os.pipe()
    with log.open("wb") as output, open(read, "rb") as pipe:
        try:
            worker = subprocess.Popen(
                [sys.executable, "-P", "-m", module, "--answers", str(write), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(write,),
                env=child.environment(),
            )
        finally:
            os.close(write)
        result: dict[str, Any] | None = None
        try:
            for line in pipe:
                message = json.loads(line)
                if "status" in message and on_status:
                    on_status(message["status"])
                elif "error" in message:
                    log.unlink(missing_ok=True)  # its words say it all
                    raise UserError(message["error"])
                elif "result" in message:
                    result = message["result"]
            worker.wait()
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    if result is None:
        raise UserError(f"{module} ended with status {worker.returncode}; its last words: {log}")
    log.unlink(missing_ok=True)
    return result


class Answers:
    """The worker's end of the pipe."""

    def __init__(self, fd: int) -> None:
        self._file = open(fd, "w", encoding="utf-8", buffering=1)  # noqa: SIM115

    def status(self, words: str) -> None:
        self._write(status=words)

    def _write(self, **message: Any) -> None:
        self._file.write(json.dumps(message) + "\n")


def serve_errand(work: Callable[[list[str], Answers], dict[str, Any]]) -> int:
    """The worker's main: ``work(arguments, answers)`` returns the result. Exit status 0 or 1."""
    option, fd, *arguments = sys.argv[1:]
    assert option == "--answers"
    os.umask(0o077)
    answers = Answers(int(fd))
    try:
        answers._write(result=work(arguments, answers))
    except UserError as error:
        answers._write(error=str(error))
        return 1
    return 0
