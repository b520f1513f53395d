"""Errands: short-lived worker processes with torch, which a command waits for.

The worker answers in JSON lines on a pipe of its own; what libraries print goes to a log.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from engine.data.progress import Cancelled
from engine.errors import UserError
from engine.home import runtime_folder
from engine.jobs import child

__all__ = ["Answers", "run_errand", "serve_errand"]


POLL_SECONDS = 0.1
END_SECONDS = 5.0


def run_errand(
    module: str,
    arguments: Sequence[str],
    on_status: Callable[[str], None] | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Run ``python -m module arguments`` and return its result.

    ``cancelled`` is asked ten times a second; once it is true the worker is ended. Raises
    :class:`engine.data.progress.Cancelled` then, and :class:`UserError` with the worker's own
    words, or with the log's name when it crashed.
    """
    log = runtime_folder() / f"errand-{os.getpid()}-{threading.get_ident()}.log"
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
            for line in _lines(pipe, cancelled):
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
                _end(worker)
    if result is None:
        raise UserError(f"{module} ended with status {worker.returncode}; its last words: {log}")
    log.unlink(missing_ok=True)
    return result


def _lines(pipe: BinaryIO, cancelled: Callable[[], bool] | None) -> Iterator[bytes]:
    """Whole lines as they come; raises Cancelled between two of them."""
    rest = b""
    while True:
        while cancelled is not None and not select.select([pipe], [], [], POLL_SECONDS)[0]:
            if cancelled():
                raise Cancelled("cancelled")
        piece = os.read(pipe.fileno(), 1 << 16)
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if not piece:
            return


def _end(worker: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, which lets it clear up; kill it when it does not."""
    worker.terminate()
    try:
        worker.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # "finally" runs
    try:
        answers._write(result=work(arguments, answers))
    except UserError as error:
        answers._write(error=str(error))
        return 1
    return 0
