"""On what kind of file system a folder lies, and whether other machines may see it too.

Read from the kernel's table of mounts, in a fraction of a millisecond: every start asks.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["file_system", "is_network"]

MOUNTS = Path("/proc/self/mountinfo")

NETWORK = (
    *("9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fakeowner"),
    *("fhgfs", "gfs", "glusterfs", "gpfs", "grpcfuse", "juicefs", "lustre", "mfs", "moosefs"),
    *("ncpfs", "nfs", "ocfs2", "orangefs", "osxfs", "panfs", "prl_fs", "pvfs2", "shfs", "smb"),
    *("sshfs", "stfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs", "wslfs"),
)
"""Beginnings of the names ("nfs" of "nfs4") of what several machines see, or a machine and its
host, none of which shares memory with the others: what WAL needs."""

LOCAL_FUSE = (
    *("bindfs", "cryfs", "encfs", "exfat", "ext2", "ext4", "fuse-ext2", "fuse-overlayfs"),
    *("gocryptfs", "lxcfs", "mergerfs", "mhddfs", "ntfs", "ntfs-3g", "portal", "securefs"),
    *("snapfuse", "squashfuse", "unionfs", "unionfs-fuse", "zfs"),
)
"""File systems in user space that stay on their machine; any other of that kind may reach out."""


def is_network(kind: str) -> bool:
    """True for a type of file system that other machines may write to at the same time.

    Of an unknown file system in user space (``fuse.something``) that is supposed, for nothing is
    lost by it; of a type that is not told ("") it is not.
    """
    kind = kind.lower()
    if kind == "fuse" or kind.startswith("fuse."):
        return kind.removeprefix("fuse").removeprefix(".") not in LOCAL_FUSE
    return kind.startswith(NETWORK)


def file_system(folder: str | os.PathLike[str], mounts: Path | None = None) -> str:
    """Type of the file system that holds ``folder`` ("ext4", "nfs4"); empty if not told.

    ``folder`` need not exist: its closest parent that does decides. Never raises.
    """
    path = _nearest(Path(folder))
    device = ""
    with suppress(OSError):  # before the table is read: looking may mount it
        number = os.stat(path).st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
    try:
        lines = (mounts or MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return _without_table(path)
    best: tuple[bool, int] = (False, -1)
    kind = ""
    for line in lines.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) < 5 or not tail[0]:
            continue
        mount = Path(_unescaped(fields[4]))
        if path != mount and mount not in path.parents:
            continue
        # The device tells a mount from one that lies hidden below another. Some file systems
        # (btrfs, overlay) have numbers of their own for it: then the longest path decides alone.
        rank = (fields[2] == device, len(mount.parts))
        if rank >= best:
            best, kind = rank, tail[0]
    return kind


def _unescaped(field: str) -> str:
    """Blanks and the like are octal there: ``my\\040disk``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _without_table(path: Path) -> str:
    """Where there is no such table (no Linux, or one without /proc): by psutil."""
    import psutil

    best, kind = -1, ""
    with suppress(OSError, psutil.Error):
        for part in psutil.disk_partitions(all=True):
            mount = Path(part.mountpoint)
            if (path == mount or mount in path.parents) and len(mount.parts) >= best:
                best, kind = len(mount.parts), part.fstype
    return kind


def _nearest(path: Path) -> Path:
    """``path`` or its closest parent that exists."""
    path = Path(os.path.realpath(path))
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path
