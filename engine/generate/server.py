"""The playground's worker: ``python -m engine.generate.server HOME``.

It holds the models and streams answers. It listens on a Unix socket before it imports torch, so
that its first viewer hears from it at once. One thread talks to the viewers, the main thread does
the work, one request after the other. It gives the models' memory back when it is told to or was
asked nothing for a while, and ends with its last viewer (or so much later as a viewer told it to
stay), whatever it is doing: nothing in it needs saving.
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
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.generate.columns import Column
from engine.generate.holding import Held, Holding, failure, in_words
from engine.generate.viewers import Request, Viewer
from engine.generate.wire import (
    IDLE_SECONDS,
    LINE_LIMIT,
    decode,
    lock_path,
    socket_path,
)
from engine.home import Home
from engine.recipe import GenerateSection
from engine.words import duration

__all__ = ["main"]

FIRST_VIEWER_SECONDS = 60.0
SEND_SECONDS = 60.0
READ_BYTES = 1 << 16


class Server:
    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.listener = listener
        self.path = path
        self.viewers: list[Viewer] = []
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.pending: list[Request] = []
        self.current: Any = None
        """The ``Cancelled`` of the generation under way."""
        self.turn = threading.Lock()
        """Held while a request is begun or given up: never both."""
        self.phase = "starting"
        self.idle_seconds = IDLE_SECONDS
        """Without a request for so long, models are freed."""
        self.stay_seconds = 0.0
        """How long to stay after the last viewer."""

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
                deadline = time.monotonic() + self.stay_seconds
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
        elif message["type"] == "stay":
            self.stay_seconds = float(message["seconds"])
        else:
            request = Request(viewer, message)
            self.pending.append(request)
            self.requests.put(request)

    def _cancel(self, viewer: Viewer) -> None:
        """Give up what a viewer asked for; what is not begun is answered as cancelled at once."""
        with self.turn:
            mine = [
                request
                for request in list(self.pending)
                if request.viewer is viewer
                and request.message["type"] == "generate"
                and not request.cancelled
            ]
            for request in mine:
                request.cancelled = True
            if (current := self.current) is not None and current.request in mine:
                current.requested = True
        for request in mine:
            if not request.begun and not viewer.gone:
                self._say_cancelled(request)

    def _say_cancelled(self, request: Request) -> None:
        message, viewer = request.message, request.viewer
        for index in message.get("indices") or range(len(message["prompts"])):
            for column in message.get("columns") or ():
                viewer.send(
                    type="chunk",
                    id=message["id"],
                    column=column,
                    prompt=index,
                    text="",
                    done=True,
                    stop_reason="cancelled",
                    tokens=0,
                    seconds=0.0,
                )
        viewer.send(type="finished", id=message["id"], notes=[])

    def _leave(self, viewer: Viewer) -> None:
        viewer.gone = True
        self._cancel(viewer)
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
        holding = Holding(models)
        while True:
            try:
                request = self.requests.get(timeout=self.idle_seconds)
            except queue.Empty:
                if holding.free():
                    self.tell(f"memory given back after {duration(self.idle_seconds)} of rest")
                continue
            viewer, number = request.viewer, request.message.get("id")
            try:
                if not request.given_up():
                    self._serve(request, holding, answering)
            except UserError as error:
                viewer.send(type="error", kind="user", id=number, message=str(error))
                self.tell("ready")
            except Exception as error:  # one broken request must not end the other viewers' server
                traceback.print_exc()
                viewer.send(type="error", kind="crash", id=number, message=in_words(error))
                self.tell("ready")
            finally:
                self.pending.remove(request)
                holding.forget_gone()
                del request  # nothing of it stays while the next one is waited for

    def _serve(self, request: Request, holding: Holding, answering: Any) -> None:
        viewer, message = request.viewer, request.message
        number, kind = message.get("id"), message["type"]
        if kind == "load":
            self.idle_seconds = float(message.get("idle_seconds") or IDLE_SECONDS)
            wanted = holding.add(viewer, map(Column.from_json, message["columns"]))
            holding.load(wanted, bool(message.get("allow")), lambda: viewer.gone)
            voices = [held.voice for held in holding.of(viewer, None) if held.voice is not None]
            if message.get("warm_up") and voices and not viewer.gone:
                self.tell("warming up")
                answering.warm_up(voices)
            self.tell("ready")
            failed = {held.column.id: failure(held.error) for held in wanted if held.error}
            viewer.send(type="loaded", id=number, failed=failed)
        elif kind == "generate":
            wanted = holding.of(viewer, message["columns"])
            if any(held.voice is None for held in wanted):
                holding.load(wanted, bool(message.get("allow")), request.given_up)
                self.tell("ready")
            notes = self._generate(request, wanted, answering)
            if notes is not None:
                viewer.send(type="finished", id=number, notes=notes)
        elif kind == "free":
            holding.free()
            self.tell("memory given back")
            viewer.send(type="freed", id=number)

    def _generate(self, request: Request, wanted: list[Held], answering: Any) -> list[str] | None:
        """Answer; returns what there is to say about how it was done.

        None: it was given up before it began, and the viewer knows.
        """
        message, viewer = request.message, request.viewer
        number, prompts = message["id"], message["prompts"]
        cancelled = answering.Cancelled()
        cancelled.request = request
        with self.turn:
            if request.given_up():
                return None
            request.begun, self.current = True, cancelled

        def send(column: str, prompt: int, text: str, end: Any, odds: Any = None) -> None:
            if viewer.gone:
                cancelled.requested = True
            viewer.send(
                type="chunk",
                id=number,
                column=column,
                prompt=prompt,
                text=text,
                pieces=odds,
                **(end or {}),
                done=end is not None,
            )

        def emit(row: Any, text: str, end: dict[str, Any] | None, odds: Any) -> None:
            send(row.voice.column.id, row.prompt_index, text, end, odds)

        indices = message.get("indices") or list(range(len(prompts)))
        for held in wanted:
            if held.voice is None:
                assert held.error is not None
                words = failure(held.error)
                for index in indices:
                    end = {"stop_reason": "error", "tokens": 0, "error": words["message"]}
                    end["needs_consent"] = words["consent"]
                    send(held.column.id, index, "", end)
        voices = [held.voice for held in wanted if held.voice is not None]
        settings = {
            name: GenerateSection.model_validate(value)
            for name, value in message["sampling"].items()
        }
        try:
            answering.answer(
                voices,
                prompts,
                settings,
                emit,
                cancelled,
                indices=indices,
                stream=message.get("stream", True),
                probabilities=bool(message.get("probabilities")),
            )
        finally:
            self.current = None
        notes: list[str] = answering.notes(voices)
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
