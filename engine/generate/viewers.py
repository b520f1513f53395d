"""Who asks the playground's worker, and what."""

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

from engine.generate.wire import encode

__all__ = ["Request", "Viewer"]


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
    """Given up; if the work on it has not begun, the viewer has been told so already."""
    begun: bool = False
    """Its answers are being written: their ends come from there."""

    def given_up(self) -> bool:
        return self.cancelled or self.viewer.gone
