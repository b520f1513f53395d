"""Arrow for a process that only looks at rows, a hundred at a time."""

import os

__all__ = ["read_frugally"]

_VARIABLE = "ARROW_DEFAULT_MEMORY_POOL"


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
