"""Finds the home's generation worker, or starts one, and connects to it."""

import asyncio
import contextlib
import subprocess
import sys
import threading

from engine.errors import UserError
from engine.generate.wire import LINE_LIMIT, log_path, socket_path
from engine.home import Home
from engine.jobs import child

__all__ = ["connect", "gone"]

START_SECONDS = 20.0
"""A worker that does not listen after this long is given up: it imports nothing heavy before."""


async def connect(home: Home) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the worker, starting one when there is none (or it is just ending).

    Raises :class:`UserError` when it does not start.
    """
    path = socket_path(home)
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    worker: subprocess.Popen[bytes] | None = None
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_LIMIT)
            if await reader.readline():  # its hello; a worker on its way out says nothing
                return reader, writer
            writer.close()
        if worker is None or worker.poll() is not None:
            if worker is not None and worker.returncode:
                raise UserError(gone(home))
            worker = await asyncio.to_thread(_spawn, home)
        if asyncio.get_running_loop().time() > deadline:
            raise UserError(f"the generation worker does not answer; see {log_path(home)}")
        await asyncio.sleep(0.05)


def gone(home: Home) -> str:
    """What to say about a worker that has ended."""
    return f"the generation worker ended; its last words are in {log_path(home)}"


def _spawn(home: Home) -> "subprocess.Popen[bytes]":
    with log_path(home).open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.generate.server", str(home.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child.environment(),
            start_new_session=True,
            umask=0o077,
        )
    # Whenever it ends, it does not stay behind as a zombie.
    threading.Thread(target=worker.wait, daemon=True, name="generation worker").start()
    return worker
