"""Makes a run's folder of a :class:`Past`: whole, in one rename, or not at all.

It is written aside (``.importing-<id>``) with its lock held; what a killed import left there is
removed by the next one.
"""

import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import tomlkit

from engine.errors import UserError
from engine.home import Home
from engine.imports.runs.past import Event, Past
from engine.imports.runs.places import utf8
from engine.jobs.create import numbered, refuse_bad_name
from engine.jobs.find import identities, sweep_of
from engine.jobs.folder import RunFolder
from engine.jobs.journal import SCHEMA_VERSION
from engine.jobs.lock import acquire, is_held, locked
from engine.text import clip, safe_line
from engine.whole import sync

__all__ = ["write_run"]

ASIDE = ".importing-"
BUFFER_BYTES = 1 << 20
MOST_NAME = 64
WIDTH = 200
TOO_HIGH = 2**63


def write_run(home: Home, past: Past, name: str | None, parent: str | None) -> RunFolder:
    """The run's folder, in the home's ``runs/``. ``name``: as asked for, else the past's, numbered
    when it is taken.

    Raises :class:`UserError`: the source cannot be read to its end, the name is taken, or the
    folder cannot be written.
    """
    if name is not None:
        refuse_bad_name(name)
    try:
        home.runs.mkdir(mode=0o700, exist_ok=True)
        with locked(home.runs / ".lock"):
            _sweep(home)
            id = _free_id(home, past.began)
            aside = RunFolder(home.runs / f"{ASIDE}{id}")
            aside.path.mkdir(mode=0o700)
            lock = acquire(aside.lock)
        try:
            _write_files(aside, past)
            with locked(home.runs / ".lock"):
                return _put(home, aside, past, id, name, parent)
        except BaseException:
            shutil.rmtree(aside.path, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                os.close(lock)
    except OSError as error:
        raise UserError(f"{home.runs}: the run cannot be written ({error.strerror})") from None


def _sweep(home: Home) -> None:
    """Remove what a killed import left; call with the lock of ``runs/`` held."""
    for entry in os.listdir(home.runs):
        path = home.runs / entry
        if entry.startswith(ASIDE) and not is_held(path / "lock"):
            shutil.rmtree(path, ignore_errors=True)


def _free_id(home: Home, began: float) -> str:
    """An id like any run's, by when it began there: the history then lists it at its place."""
    with suppress(ValueError, OverflowError, OSError):
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
        while True:
            id = f"{stamp}-{secrets.token_hex(2)}"
            if not (home.runs / id).exists() and not (home.runs / f"{ASIDE}{id}").exists():
                return id
    raise UserError(f"the source dates the run {began:g}, which is no time")


def _put(
    home: Home, aside: RunFolder, past: Past, id: str, name: str | None, parent: str | None
) -> RunFolder:
    taken = _taken(home)
    if name is not None and name in taken:
        raise UserError(f"a run named {name!r} exists already; give another --name")
    identity = {
        "v": SCHEMA_VERSION,
        "id": id,
        "name": name or _numbered(past.name, taken),
        "parent": parent,
        "created": past.began,
        "recipe": None,
        "imported": imported(past),
    }
    text = json.dumps(identity, indent=2, ensure_ascii=False) + "\n"
    aside.identity.write_bytes(text.encode("utf-8", "replace"))
    for path in (aside.identity, aside.path):
        sync(path)
    os.rename(aside.path, home.runs / id)
    sync(home.runs)
    return RunFolder(home.runs / id)


def imported(past: Past) -> dict[str, Any]:
    """``imported`` of ``run.json``: by it a second import of the same knows the first."""
    found = {
        "from": past.source,
        "tool": past.tool,
        "path": utf8(past.path),
        "key": past.key,
        "fingerprint": past.fingerprint,
        "times": past.times,
        "weights": past.weights,
        "t": time.time(),
    }
    return {key: value for key, value in found.items() if value != ""}


def _taken(home: Home) -> set[str]:
    found: set[str] = set()
    for _, identity in identities(home):
        found.add(identity["name"])
        if sweep := sweep_of(identity):
            found.add(sweep)
    return found


def _numbered(wish: str, taken: set[str]) -> str:
    """A name of letters, digits, ``.``, ``_`` and ``-``, whatever was wished for."""
    plain = re.sub(r"[^\w.-]+", "-", wish).strip("-._")
    plain = "".join(each for each in plain if each.isalnum() or each in "_.-")
    name = plain[: MOST_NAME - 8].strip("-._") or "imported"
    return numbered(name, taken)


def _write_files(aside: RunFolder, past: Past) -> None:
    recipe = _recipe(past).encode("utf-8", "replace")
    aside.recipe_file.write_bytes(recipe)
    sync(aside.recipe_file)
    with aside.journal.open("wb") as file:
        waiting = bytearray()
        for event in _all(past):
            waiting += _line(event)
            if len(waiting) >= BUFFER_BYTES:
                file.write(waiting)
                waiting.clear()
        file.write(waiting)
        file.flush()
        os.fsync(file.fileno())


def _all(past: Past) -> Iterator[Event]:
    first = {"t": past.began, "type": "state", "attempt": 1}
    yield {**first, "state": "queued"}
    words = f"imported from {past.tool}: {utf8(past.path)}"
    yield {**first, "state": "starting", "phase": words}
    facts = {"max_steps": None, "resume_step": 0, **past.facts}
    yield {**first, "state": "running", **facts}
    attempt = 1
    for event in past.events():
        attempt = event["attempt"]
        yield event
    last = {"t": past.ended, "attempt": attempt}
    yield {**last, "type": "imported", "message": f"times: {past.times}"}
    for words in past.notes:
        yield {**last, "type": "warning", "message": clip(words, 1000)}
    more = {key: value for key, value in past.end.more.items() if key != "exit_code"}
    if past.end.reason:
        more["reason"] = safe_line(past.end.reason)
    yield {**last, "type": "state", "state": past.end.state, **more}
    if "exit_code" in past.end.more:
        code = past.end.more["exit_code"]
        yield {**last, "type": "exit", "exit_code": code, "signal": None, "signal_name": None}


def _line(event: Event) -> bytes:
    """One line of the journal. Only it says ``v``; what is not finite is written as a text."""
    plain = {key: _plain(value) for key, value in event.items()}
    return orjson.dumps({"v": SCHEMA_VERSION, **plain}) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and not -TOO_HIGH <= value < TOO_HIGH:
        return float(value) if abs(value) < 10**300 else str(value)[:100]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _recipe(past: Past) -> str:
    """The recipe as far as known. Keys that are not there are not known; none is guessed."""
    document = tomlkit.document()

    def comment(text: str) -> None:
        document.add(tomlkit.comment(clip(text, WIDTH)))

    comment(f"Imported from {past.tool}: {utf8(past.path)}")
    comment("What is known of its settings; keys that are left out are not known.")
    for remark in past.remarks:
        comment(f"  {remark}")
    document.add(tomlkit.nl())
    document.add("version", tomlkit.item(2))
    sections: dict[str, dict[str, Any]] = {}
    for key, value in past.settings.items():
        section, _, inner = key.partition(".")
        sections.setdefault(section, {})[inner] = _plain(value)
    for section, values in sections.items():
        document.add(section, tomlkit.item(values))
    return tomlkit.dumps(document)
