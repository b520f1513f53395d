"""Keys of one's own: ``keys.toml``, read before any screen is made.

A table a screen (and ``everywhere``), a line an action: its key, or several::

    [everywhere]
    leave = "Q"
    [train]
    stop = ["X", "ctrl+t"]
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.text import safe_line
from tui import keymap

__all__ = ["keys_file", "load_user_keys", "with_keys"]

EVERYWHERE = "everywhere"
NAMED = frozenset({
    "backspace", "delete", "down", "end", "enter", "escape", "home", "insert", "left", "pagedown",
    "pageup", "right", "space", "tab", "up",
})  # fmt: skip
"""Textual's names of keys that type nothing, and of the space bar."""
NEVER = {
    "ctrl+m": "it is enter in most terminals",
    "ctrl+i": "it is tab in most terminals",
    "ctrl+h": "it is backspace in many terminals",
    "ctrl+s": "it stops the output of many terminals",
    "ctrl+q": "it is eaten by many terminals",
    "ctrl+z": "it suspends the workbench",
    "ctrl+c": "it copies, and twice it leaves",
    "escape": "it leaves inputs and dialogs",
}


def keys_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where one's own keys are looked for: ``$XDG_CONFIG_HOME/tunebench/keys.toml``."""
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "tunebench" / "keys.toml"


def load_user_keys(file: Path) -> None:
    """Let the actions of :mod:`tui.keymap` have the keys of ``file``, where it exists.

    Call it before a screen's module is imported. Raises :class:`UsageError` naming file and line.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from None
    try:
        keymap.ACTIONS = with_keys(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: no TOML: {error}") from None
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None


def with_keys(wanted: Mapping[str, Any]) -> tuple[keymap.Action, ...]:
    """The table of actions with other keys. Raises :class:`UsageError`."""
    actions = list(keymap.ACTIONS)
    screens = {EVERYWHERE: "", **{id: id for id in (*keymap.SCREENS, *keymap.OVER)}}
    for name, lines in wanted.items():
        if name not in screens:
            raise UsageError(f"[{_said(name)}]: no such screen{_near(name, screens)}")
        if not isinstance(lines, dict):
            raise UsageError(f"{_said(name)}: a table is wanted, as [{name}] begins one")
        for id, given in lines.items():
            place = f"[{name}] {_said(id)}"
            there = {a.id: n for n, a in enumerate(actions) if a.screen == screens[name]}
            if id not in there:
                raise UsageError(f"{place}: no such action{_near(id, there)}")
            old = actions[there[id]]
            keys = tuple(_key(place, key, old) for key in _listed(place, given))
            actions[there[id]] = replace(old, keys=keys)
    for name, screen in screens.items():
        _check_apart(name, [a for a in actions if a.screen in (screen, "")])
    return tuple(actions)


def _listed(place: str, given: Any) -> list[str]:
    keys = [given] if isinstance(given, str) else given
    if not isinstance(keys, list) or not keys or not all(isinstance(k, str) for k in keys):
        raise UsageError(f'{place}: a key is wanted, as "x" or ["x", "ctrl+t"]')
    return keys


def _key(place: str, key: str, action: keymap.Action) -> str:
    """Textual's name of a key as people write it."""
    named = keymap.NAMES.get(key, key)
    bare = named.removeprefix("ctrl+").removeprefix("shift+")
    if named in NEVER and named not in action.keys:
        raise UsageError(f"{place}: {_said(key)} cannot be taken: {NEVER[named]}")
    known = bare in NAMED or (bare[:1] == "f" and bare[1:].isdigit()) or bare in _PUNCTUATION
    if not (len(bare) == 1 and bare.isascii() and bare.isalnum()) and not known:
        raise UsageError(
            f"{place}: {_said(key)} is no key; letters, digits, signs, ctrl+letter, f1 to f12 and "
            f"{', '.join(sorted(NAMED))} are"
        )
    if action.priority and bare == named and len(bare) == 1:
        raise UsageError(f"{place}: {_said(key)} types a letter in the prompt; take ctrl+letter")
    return named


def _check_apart(name: str, actions: list[keymap.Action]) -> None:
    """No key does two things at a time; enter and esc are handed from the screen to all."""
    taken: dict[str, keymap.Action] = {}
    for action in actions:
        for key in action.keys:
            other = taken.setdefault(key, action)
            if other.id != action.id and key not in ("escape", "enter"):
                raise UsageError(
                    f"[{name}]: {keymap.shown(key)} is both {other.id} ({other.words}) and "
                    f"{action.id} ({action.words}); give one of them another key"
                )


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _said(name: str) -> str:
    return safe_line(name[:60])


_PUNCTUATION = frozenset(keymap.NAMES.values())
