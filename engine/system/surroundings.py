"""What the doctor asks about everything around Python: home, disk, terminal, session keeping.

A question takes the home and returns (ok, words, advice).
"""

import configparser
import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from engine.home import Home
from engine.system.host import read_host
from engine.system.mounts import file_system, is_network

__all__ = ["QUESTIONS", "Question", "locale_name"]

Answer = tuple[bool, str, str]
Question = Callable[[Home], Answer]
GIB = 2**30
LOGIND = (
    "/etc/systemd/logind.conf",
    "/usr/lib/systemd/logind.conf.d",
    "/run/systemd/logind.conf.d",
    "/etc/systemd/logind.conf.d",
)


def home_writable(home: Home) -> Answer:
    path = home.path
    if path.exists() and not path.is_dir():
        return False, f"{path} is not a folder", "name another home with --home DIR"
    if not path.exists():
        return True, f"{path} does not exist yet: the first run makes it", ""
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        words = f"{path} cannot be written to ({error.strerror})"
        return False, words, "change its permissions, or name another home with --home DIR"
    if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o007:
        words = f"{path} can be written to; others on this machine can look into it"
        return True, words, f"chmod o-rwx {path}, if your data is private"
    return True, f"{path} can be written to", ""


def disk_space(home: Home) -> Answer:
    host = read_host(home.path)
    if host.disk_free is None or host.disk_total is None:
        return True, "the free space of the home's disk is not told", ""
    words = f"{_size(host.disk_free)} of {_size(host.disk_total)} free on the home's disk"
    if host.disk_free < 2 * GIB:
        return False, words, "make room, or name a home on another disk with --home DIR"
    if host.disk_free < 20 * GIB:
        return True, words, "little for checkpoints of large models or a merged export"
    return True, words, ""


def network_disk(home: Home) -> Answer:
    kind = file_system(home.path)
    if is_network(kind):
        return (
            True,
            f"the home lies on a network file system ({kind})",
            "start runs of it from one machine; any may look, with an index of its own",
        )
    return True, f"the home lies on a local file system ({kind or 'type not told'})", ""


def file_locks(home: Home) -> Answer:
    """Locks say who is alive and keep two from training one run: are they granted, and kept?"""
    if not home.path.is_dir():
        return True, "file locks are tried once the home is there", ""
    elsewhere = "put the home on another file system with --home DIR"
    try:
        with tempfile.NamedTemporaryFile(dir=home.path, prefix=".lock-") as first:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(first.name, "rb") as second:
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    words = "file locks are granted and kept"
                    if is_network(file_system(home.path)):
                        words += " on this machine; whether others see them, the mount decides"
                    return True, words, ""
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            return True, f"file locks cannot be tried ({error.strerror})", ""
        words = f"file locks do not work in the home ({error.strerror}): nothing can be trained "
        return False, words + "or noted there, only looked at", elsewhere
    words = "file locks are granted to two at once: two could train the same run, unseen"
    return False, words, elsewhere


def multiplexer(home: Home) -> Answer:
    if os.environ.get("TMUX"):
        return True, "inside tmux: the workbench itself survives a dropped connection", ""
    if os.environ.get("STY"):
        return True, "inside screen: the workbench itself survives a dropped connection", ""
    words = "not inside tmux: runs go on without a terminal, the workbench is opened again"
    if shutil.which("tmux"):
        return True, words, ""
    return True, f"{words}; tmux is not installed", ""


def terminal(home: Home) -> Answer:
    term, colours = os.environ.get("TERM", ""), os.environ.get("COLORTERM", "")
    if term in ("", "dumb", "unknown"):
        shown = f"TERM is {term!r}" if term else "TERM is not set"
        if not sys.stdout.isatty():
            return True, f"{shown}; this is not a terminal", ""
        return False, f"{shown}: the workbench cannot draw", "export TERM=xterm-256color"
    if "NO_COLOR" in os.environ:
        return True, f"TERM={term}, without colours (NO_COLOR is set)", ""
    if colours in ("truecolor", "24bit"):
        return True, f"TERM={term}, millions of colours", ""
    if term.endswith(("256color", "-direct")) or term == "xterm-kitty":
        return True, f"TERM={term}, 256 colours", ""
    advice = "" if term == "linux" else "export TERM=xterm-256color (inside tmux: tmux-256color)"
    return True, f"TERM={term}, 16 colours", advice


def locale_name(environment: Mapping[str, str]) -> str:
    """The locale that decides the character set; empty when none is set."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := environment.get(name):
            return value
    return ""


def locale(home: Home) -> Answer:
    name = locale_name(os.environ)
    if name.lower().replace("-", "").endswith("utf8") or ".utf" in name.lower():
        return True, f"the locale is {name}", ""
    shown = f"the locale is {name}" if name else "no locale is set"
    words = f"{shown}, not UTF-8: letters and borders may come out wrong"
    return False, words, "export LANG=C.UTF-8"


def logout(home: Home) -> Answer:
    """systemd-logind with KillUserProcesses=yes ends detached runs at logout."""
    if not Path("/run/systemd/system").is_dir():
        return True, "no systemd session here: runs go on after logout", ""
    if not _kills_user_processes(LOGIND):
        return True, "runs go on after logout (logind leaves processes alone)", ""
    user = psutil.Process().username()
    if Path("/var/lib/systemd/linger", user).exists():
        return True, f"runs go on after logout (lingering is on for {user})", ""
    return (
        False,
        "logind ends your processes at logout (KillUserProcesses=yes): runs would die",
        f"loginctl enable-linger {user}, or start with: systemd-run --user --scope tunebench",
    )


def _kills_user_processes(places: tuple[str, ...]) -> bool:
    """The last setting wins, as systemd reads its drop-ins."""
    kills = False
    for place in map(Path, places):
        for file in sorted(place.glob("*.conf")) if place.is_dir() else [place]:
            parser = configparser.ConfigParser(strict=False, interpolation=None)
            try:
                parser.read(file, encoding="utf-8")
                kills = parser.getboolean("Login", "KillUserProcesses", fallback=kills)
            except (configparser.Error, OSError, ValueError):
                continue
    return kills


def _size(size: int) -> str:
    return f"{size / GIB:.0f} GiB" if size >= 10 * GIB else f"{size / GIB:.1f} GiB"


QUESTIONS: dict[str, Question] = {
    "home": home_writable,
    "disk": disk_space,
    "file system": network_disk,
    "locks": file_locks,
    "tmux": multiplexer,
    "terminal": terminal,
    "locale": locale,
    "logout": logout,
}
"""Name -> question, in the order in which they are asked."""
