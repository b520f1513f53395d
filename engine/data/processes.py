"""Does something to many items in processes of their own and gives the results in their order.

A worker is ``python -m engine.data.processes``: what is to be done comes on its standard input, the
items after it; results go to its standard output, one pickle after the other between processes of
ours. It ends when its input ends; a rule that does not come to an end is killed with the process
that asked.
"""

import contextlib
import ctypes
import fcntl
import gc
import os
import pickle
import queue
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any, BinaryIO, Protocol

from engine.errors import UserError
from engine.jobs import child

__all__ = ["Task", "Work", "cores", "in_order", "peak_rss_bytes", "worker_count"]

MOST_WORKERS = 8
"""Cleaning: unpacking and writing, which one process does, keep up with no more."""
SMALL_BYTES = 24 << 20
"""Below this (unpacked some 60 MB) starting processes takes longer than it saves."""
_AHEAD = 3
"""Items a worker that are read before their turn: about 1 MB each."""
_LOOK_UP_SECONDS = 0.1
"""How often is asked, while an item takes its time, whether to go on."""
_PR_SET_PDEATHSIG = 1
_MAXRSS = 1 if sys.platform == "darwin" else 1024

Work = Callable[[Any, Callable[[], None] | None], Any]
"""An item, and what to call now and then (it may raise to give up), to the item's result."""


class Task(Protocol):
    """What is done to every item. Every process gets a pickle of it."""

    @property
    def doing(self) -> str:
        """For messages: "cleaning"."""

    @property
    def left(self) -> str:
        """For messages: what there is when a process was killed."""

    def start(self) -> Work:
        """Get ready, in the process that works."""


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(source_bytes: int) -> int:
    """How many processes clean a source of this size; 0: none but the one that asks."""
    return 0 if source_bytes < SMALL_BYTES or cores() < 2 else min(cores(), MOST_WORKERS)


def peak_rss_bytes() -> int:
    """The largest memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS


def _widen(*pipes: BinaryIO) -> None:
    """Pipes of 1 MB instead of 64 KB: 1 MB goes through in two turns instead of twenty."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for pipe in pipes:
            with contextlib.suppress(OSError):  # the system's limit
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)


def _send(pipe: BinaryIO, value: Any) -> None:
    """One value; the buffers of Arrow are written from where they lie."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(head), *(view.nbytes for view in views)]
    pipe.write(struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
    pipe.write(head)
    for view in views:
        pipe.write(view)
    pipe.flush()


def _receive(pipe: BinaryIO) -> Any:
    """The next value. Raises EOFError when there is none or it ends in the middle."""
    (count,) = struct.unpack("<I", _exactly(pipe, 4))
    sizes = struct.unpack(f"<{count}Q", _exactly(pipe, 8 * count))
    head, *buffers = [_exactly(pipe, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


class _Worker:
    """One process and the talk with it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Each process has a core: threads of their own would only take turns.
            env=child.environment(TOKENIZERS_PARALLELISM="false"),
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to: BinaryIO = self.process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self.process.stdout  # type: ignore[assignment]
        _widen(self._to, self._from)
        _send(self._to, task)

    def work(self, item: Any) -> tuple[Any, int]:
        """The item's result, and the process's peak memory so far in bytes."""
        doing = self._task.doing
        try:
            _send(self._to, item)
            kind, value, peak = _receive(self._from)
        except (EOFError, OSError):
            code = self.process.wait()
            how = f"by signal {-code}" if code < 0 else f"with status {code}"
            raise UserError(
                f"a {doing} process was ended {how}; was the memory full? {self._task.left}"
            ) from None
        if kind == "user":
            raise UserError(value)
        if kind == "error":
            raise RuntimeError(f"a {doing} process failed:\n{value}")
        return value, peak

    def end(self) -> None:
        self.process.kill()  # first: a pipe that a thread is waiting at cannot be closed
        self.process.wait()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):  # what was not sent any more
                pipe.close()


def in_order(
    task: Task,
    items: Iterable[Any],
    workers: int,
    peaks: list[int],
    look_up: Callable[[], None],
) -> Generator[tuple[Any, Any], None, None]:
    """Every item with its result, in order; ``workers`` 0: worked at by this process.

    ``peaks`` gets the peak memory of each worker in bytes. ``look_up`` is called every 0.1 s while
    an item takes longer (a user's rule may take a second a row), and may raise to give up. Raises
    :class:`UserError` when the task does, or when a worker is killed.
    """
    if not workers:
        work = task.start()
        for item in items:
            yield item, work(item, _looking_up(look_up))
        return
    processes: list[_Worker] = []
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    highest: dict[int, int] = {}

    def turn(item: Any) -> Any:
        worker = idle.get()
        try:
            value, highest[worker.process.pid] = worker.work(item)
            return value
        finally:
            idle.put(worker)

    def result(future: Future[Any]) -> Any:
        while not wait_for([future], _LOOK_UP_SECONDS).done:
            look_up()
        return future.result()

    pool = ThreadPoolExecutor(workers, thread_name_prefix=task.doing)
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    try:
        for _ in range(workers):
            processes.append(_Worker(task))
            idle.put(processes[-1])
        for item in items:
            waiting.append((item, pool.submit(turn, item)))
            if len(waiting) > workers * _AHEAD:
                first, future = waiting.popleft()
                yield first, result(future)
        while waiting:
            first, future = waiting.popleft()
            yield first, result(future)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in processes:
            worker.end()
        pool.shutdown()
        peaks += highest.values()


def _looking_up(look_up: Callable[[], None]) -> Callable[[], None]:
    """To be called at every row: calls ``look_up`` when it is time to."""
    due = time.monotonic() + _LOOK_UP_SECONDS

    def at_row() -> None:
        nonlocal due
        if time.monotonic() >= due:
            look_up()
            due = time.monotonic() + _LOOK_UP_SECONDS

    return at_row


def _outlive_nobody() -> None:
    """Be killed when the process that asked is gone, whatever a rule is at: Linux only."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells every process; one decides
    _outlive_nobody()
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # A user's rule that reads finds nothing, not the next chunk; what it prints goes to the log.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    task: Task = _receive(source)
    work: Work | None = None
    gc.disable()  # rows make no cycles; looking for them took a tenth of the time
    while True:
        try:
            item = _receive(source)
        except EOFError:
            return 0
        answer: tuple[str, Any]
        try:
            work = work or task.start()
            answer = ("done", work(item, None))
        except UserError as error:
            answer = ("user", str(error))
        except Exception:
            answer = ("error", traceback.format_exc())
        _send(target, (*answer, peak_rss_bytes()))


if __name__ == "__main__":
    sys.exit(main())
