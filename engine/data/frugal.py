"""Memory for a process that only looks: C's allocator, and Arrow for a hundred rows at a time."""

import os
from typing import Any

__all__ = ["allocate_frugally", "give_back", "read_frugally"]

_VARIABLE = "ARROW_DEFAULT_MEMORY_POOL"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 128 << 10


def allocate_frugally() -> None:
    """One heap for all threads, and large pieces go back when freed: 16 MB of 163 in the workbench.

    To be called before the first thread starts, 2 ms. Does nothing where the C library is not
    glibc.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, 1)
        # Else glibc raises both with the largest piece that was ever freed.
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)


def give_back() -> None:
    """Return the heap's free pages to the system; some ms."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    import ctypes

    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def read_frugally() -> None:
    """Import pyarrow with the system's allocator and one thread: its own would hold 25 MB more.

    To be called before anything else imports pyarrow, 0.1 s. The allocator is chosen at its first
    use; processes started later choose their own.
    """
    ours = _VARIABLE not in os.environ
    if ours:
        os.environ[_VARIABLE] = "system"
    import pyarrow

    pyarrow.default_memory_pool()
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    if ours:
        os.environ.pop(_VARIABLE, None)
