"""The playground's worker: ``python -m engine.generate.server HOME``.

It holds the models and streams answers. It listens on a Unix socket before it imports torch, so
that its first viewer hears from it at once. One thread talks to the viewers, the main thread does
the work, one request after the other. It ends with its last viewer, whatever it is doing: nothing
in it needs saving.
"""

import argparse
import contextlib
import fcntl
import os
import queue
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.generate.columns import Column
from engine.generate.wire import LINE_LIMIT, decode, encode, lock_path, socket_path
from engine.home import Home
from engine.recipe import GenerateSection

__all__ = ["main"]

FIRST_VIEWER_SECONDS = 60.0
SEND_SECONDS = 60.0
READ_BYTES = 1 << 16


@dataclass(eq=False)
class Viewer:
    """One connection. ``send`` may be called from both threads."""

    connection: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: bool = False

    def send(self, **message: Any) -> None:
        """Send one message; a viewer that left, or does not read for a minute, is given up."""
        try:
            with self.lock:
                self.connection.sendall(encode(message))
        except OSError:
            self.gone = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


@dataclass(eq=False)
class Request:
    """One thing that a viewer wants: its columns loaded, or prompts answered."""

    viewer: Viewer
    message: dict[str, Any]
    cancelled: bool = False


class Server:
    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.listener = listener
        self.path = path
        self.viewers: list[Viewer] = []
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.pending: list[Request] = []
        self.current: Any = None
        """The ``Cancelled`` of the generation under way."""
        self.phase = "starting"
        self.phase_lock = threading.Lock()

    # ---- the thread that talks --------------------------------------------------------------

    def serve(self) -> None:
        """Talk to viewers until the last one leaves; then ends the process."""
        selector = selectors.DefaultSelector()
        selector.register(self.listener, selectors.EVENT_READ)
        deadline = time.monotonic() + FIRST_VIEWER_SECONDS
        while True:
            for key, _ in selector.select(1.0):
                if key.fileobj is self.listener:
                    connection, _ = self.listener.accept()
                    connection.settimeout(SEND_SECONDS)
                    viewer = Viewer(connection)
                    self.viewers.append(viewer)
                    selector.register(connection, selectors.EVENT_READ, viewer)
                    viewer.send(type="hello", pid=os.getpid())
                    viewer.send(type="status", phase=self.phase)
                elif not self._read(key.data):
                    selector.unregister(key.fileobj)
                    self._leave(key.data)
            if self.viewers:
                deadline = time.monotonic()
            elif time.monotonic() >= deadline:
                self._exit()

    def _read(self, viewer: Viewer) -> bool:
        """Take what a viewer sent; False when it left."""
        try:
            data = viewer.connection.recv(READ_BYTES)
        except OSError:
            return False
        viewer.buffer += data
        if not data or len(viewer.buffer) > LINE_LIMIT:
            return False
        while (end := viewer.buffer.find(b"\n")) >= 0:
            line = bytes(viewer.buffer[:end])
            del viewer.buffer[: end + 1]
            try:
                self._take(viewer, decode(line))
            except (ValueError, KeyError, TypeError) as error:
                viewer.send(type="error", kind="crash", id=None, message=f"not understood: {error}")
        return True

    def _take(self, viewer: Viewer, message: dict[str, Any]) -> None:
        if message["type"] == "cancel":
            self._cancel(viewer)
        else:
            request = Request(viewer, message)
            self.pending.append(request)
            self.requests.put(request)

    def _cancel(self, viewer: Viewer) -> None:
        """Give up whatever a viewer asked for; what is only queued is answered as cancelled."""
        for request in list(self.pending):
            if request.viewer is viewer and request.message["type"] == "generate":
                request.cancelled = True
        current = self.current
        if current is not None and current.request.viewer is viewer:
            current.requested = True

    def _leave(self, viewer: Viewer) -> None:
        self._cancel(viewer)
        viewer.gone = True
        self.viewers.remove(viewer)
        viewer.connection.close()

    def _exit(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    # ---- the thread that works --------------------------------------------------------------

    def tell(self, phase: str) -> None:
        """Say to everybody what is going on."""
        self.phase = phase
        for viewer in list(self.viewers):
            viewer.send(type="status", phase=phase)

    def work(self, home: Home) -> None:
        """Import torch, then serve requests for ever."""
        from engine.generate.preparation import prepare

        self.tell("importing torch")
        answering, models = prepare(home, self.tell)
        columns: dict[Viewer, dict[str, Any]] = {}
        while True:
            request = self.requests.get()
            viewer, message = request.viewer, request.message
            number = message.get("id")
            try:
                if viewer.gone:
                    continue
                if message["type"] == "load":
                    voices = columns.setdefault(viewer, {})
                    for value in message["columns"]:
                        column = Column.from_json(value)
                        voices[column.id] = models.voice(column)
                    if message.get("warm_up") and voices:
                        self.tell("warming up")
                        answering.warm_up(list(voices.values()))
                    self.tell("ready")
                    viewer.send(type="loaded", id=number, columns=sorted(voices))
                elif message["type"] == "generate":
                    notes = self._generate(request, columns.get(viewer, {}), answering)
                    viewer.send(type="finished", id=number, notes=notes)
            except UserError as error:
                viewer.send(type="error", kind="user", id=number, message=str(error))
                self.tell("ready")
            except Exception as error:  # one broken request must not end the other viewers' server
                traceback.print_exc()
                words = " ".join(str(error).split())[:300]
                viewer.send(
                    type="error",
                    kind="crash",
                    id=number,
                    message=f"{type(error).__name__}: {words}",
                )
                self.tell("ready")
            finally:
                self.pending.remove(request)
                for left in [viewer for viewer in columns if viewer.gone]:
                    del columns[left]

    def _generate(self, request: Request, voices: dict[str, Any], answering: Any) -> list[str]:
        """Answer; returns what there is to say about how it was done."""
        message, viewer = request.message, request.viewer
        number = message["id"]
        wanted = message.get("columns") or list(voices)
        if missing := [name for name in wanted if name not in voices]:
            raise UserError(f"column {missing[0]!r} is not loaded")
        settings = GenerateSection.model_validate(message["sampling"])
        cancelled = answering.Cancelled()
        cancelled.request = request
        self.current = cancelled
        if request.cancelled:
            cancelled.requested = True

        def emit(row: Any, text: str, end: dict[str, Any] | None) -> None:
            if viewer.gone:
                cancelled.requested = True
            viewer.send(
                type="chunk",
                id=number,
                column=row.voice.column.id,
                prompt=row.prompt_index,
                text=text,
                **(end or {}),
                done=end is not None,
            )

        asked = [voices[name] for name in wanted]
        try:
            answering.answer(
                asked,
                message["prompts"],
                settings,
                emit,
                cancelled,
                indices=message.get("indices"),
                stream=message.get("stream", True),
            )
        finally:
            self.current = None
        notes: list[str] = answering.notes(asked)
        return notes


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 also when another server has this home already."""
    parser = argparse.ArgumentParser(prog="engine.generate.server", description=__doc__)
    parser.add_argument("home", type=Path)
    args = parser.parse_args(arguments)
    os.umask(0o077)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    home = Home(args.home)
    lock = os.open(lock_path(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    path = socket_path(home)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    server = Server(listener, path)
    threading.Thread(target=server.serve, daemon=True, name="viewers").start()
    server.work(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
