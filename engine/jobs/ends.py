"""What an exception, or a last line of the log, says about why a worker ended.

Kinds: "user", "nan", "out_of_memory", "disk_full", "read_only", "gpu_lost", "crash".
"""

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from engine.errors import Diverged, UserError
from engine.system.xid import Evidence, gpu_evidence

__all__ = ["chain", "classify", "classify_log", "exit_status_of", "kind_of_exit"]

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|Cannot allocate memory|Unable to allocate .* for an array"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_FULL = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")
_READ_ONLY = re.compile(r"Read-only file system|os error 30\b")
_GPU_LOST = re.compile(
    r"uncorrectable ECC|unspecified launch failure|fallen off the bus|GPU is lost|\bXid\b"
    r"|no CUDA-capable device is detected|CUDA unknown error|devices? (is|are|\(s\) is/are) busy or"
    r"|Invalid access of peer GPU memory over nvlink|hardware stack error",
    re.IGNORECASE,
)
_CUDA = re.compile(r"CUDA (driver )?error|cudaError|NCCL error|Cuda failure|at line \d+ in file")
_LOGGED = re.compile(r"^(Error .* at line \d+ in file|terminate called|\s*what\(\):)|error", re.I)

_EXITS = {"disk_full": errno.ENOSPC, "read_only": errno.EROFS}
"""Exit statuses of a worker that could not write its end: what stopped it, for its supervisor."""
FAILED = 1


def chain(error: BaseException) -> list[BaseException]:
    """The exception and those that led to it, outermost first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        context = None if link.__suppress_context__ else link.__context__
        link = link.__cause__ or context
    return links


def classify(error: BaseException, folder: Path | None = None) -> tuple[str, str, BaseException]:
    """(kind, one line, the exception of the chain that decided it)."""
    line = " ".join(str(error).split())[:500] or type(error).__name__
    if isinstance(error, UserError):
        return ("nan" if isinstance(error, Diverged) else "user"), line, error
    if folder is not None and not folder.is_dir():
        return "crash", f"{folder}: the run's folder was removed while it ran", error
    links = chain(error)
    for link in links:
        if found := _kind(link):
            return found, _words(found, line, link), link
    if any(_CUDA.search(str(link)) for link in links) and (seen := gpu_evidence()).broken:
        return "gpu_lost", _gpu_lost(line, seen), error
    if isinstance(error, SystemExit):
        return "crash", f"the training code called exit({error.code})", error
    if any("device-side assert" in str(link) for link in links):
        # The GPU is well, and a resume would meet the same row again.
        hint = "a number out of range, such as a token id beyond the vocabulary"
        return "crash", f"the GPU's code met {hint} ({line})", error
    return "crash", f"{type(error).__name__}: {line}", error


def _kind(link: BaseException) -> str | None:
    names = {base.__name__ for base in type(link).__mro__}
    number = link.errno if isinstance(link, OSError) else None
    if names & {"OutOfMemoryError", "MemoryError"} or number == errno.ENOMEM:
        return "out_of_memory"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if number == errno.EROFS:
        return "read_only"
    # torch.save hides the reason when its disk gets full.
    hidden = "file write failed" in str(link)
    return _kind_of_text(str(link)) or ("disk_full" if hidden else None)


def _kind_of_text(text: str) -> str | None:
    for kind, pattern in (
        ("gpu_lost", _GPU_LOST),
        ("out_of_memory", _MEMORY),
        ("disk_full", _FULL),
        ("read_only", _READ_ONLY),
    ):
        if pattern.search(text):
            return kind
    return None


def _words(kind: str, line: str, link: BaseException | None) -> str:
    if kind == "disk_full":
        return f"the disk is full; free some space, then resume ({line})"
    if kind == "read_only":
        return (
            "the file system became read-only, as it does after a disk error: look at the kernel's "
            f"log, mount it for writing, then resume ({line})"
        )
    if kind == "gpu_lost":
        return _gpu_lost(line, gpu_evidence())
    return f"out of memory ({line})"


def _gpu_lost(line: str, seen: Evidence) -> str:
    told = f"; {seen.words}" if seen.words else ""
    return (
        f"the GPU failed{told}; look at nvidia-smi, reset the GPU or restart the machine, then "
        f"resume ({line})"
    )


def classify_log(lines: Sequence[str]) -> tuple[str, str] | None:
    """(kind, one line) from the last lines of a log whose worker died without a word.

    C++ code prints its error and leaves: bitsandbytes' "Error out of memory at line 380 in file
    ..." with ``exit(1)``, an uncaught exception with ``abort()``.
    """
    for line in reversed(lines):
        if _LOGGED.search(line) and (kind := _kind_of_text(line)):
            words = " ".join(line.split())[:500]
            return kind, _words(kind, words, None)
    return None


def exit_status_of(kind: str) -> int:
    """The exit status of a worker whose end, of this kind, could not be written."""
    return _EXITS.get(kind, FAILED)


def kind_of_exit(status: int | None) -> tuple[str, str] | None:
    """(kind, one line) of :func:`exit_status_of`'s statuses; None for every other one."""
    for kind, number in _EXITS.items():
        if status == number:
            return kind, _words(kind, "so that the worker could not write its end", None)
    return None
