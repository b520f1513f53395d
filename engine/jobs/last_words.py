"""What a supervisor can say about the end of its worker that the worker did not.

Imported at the end only: a supervisor stays small for as long as its run takes.
"""

import signal
from typing import Any

from engine.jobs import checkpoints, ends, out_of_memory
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all

__all__ = ["last_words"]

ENDS = ("finished", "stopped", "failed")
LOG_LINES = 12


def last_words(
    folder: RunFolder, attempt: int, ended: dict[str, Any], oom_kill: bool | None
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(fields of an ``error`` event or None, further fields of the ``exit`` event).

    ``ended``: exit_code and signal, as far as known. ``oom_kill``: whether the kernel killed for
    want of memory meanwhile. The exit tells the last whole checkpoint, whatever happened.
    """
    whole = checkpoints.whole(folder)
    checkpoint = str(whole[-1].relative_to(folder.path)) if whole else None
    more: dict[str, Any] = {"checkpoint": checkpoint}
    said, asked, phase, device = _journaled(folder, attempt)
    killed = ended["signal"] == signal.SIGKILL
    unknown = ended["signal"] is None and ended["exit_code"] is None
    if killed or unknown:
        more["oom_kill"] = oom_kill if not (said or asked) else False
    if said or asked:
        return None, more
    if (killed or unknown) and oom_kill:
        return _killed_by_kernel(folder, phase, device, checkpoint), more
    kind = None
    if ended["exit_code"] or ended["signal"] == signal.SIGABRT:
        kind = ends.kind_of_exit(ended["exit_code"])
        kind = kind or ends.classify_log(folder.log_tail(LOG_LINES))
    if kind is None:
        return None, more
    if kind[0] != "out_of_memory":
        return {"kind": kind[0], "message": kind[1]}, more
    fields = {"during": out_of_memory.during(None, phase), "device": "cuda"}
    return _with_suggestion(folder, kind[1], fields), more


def _journaled(folder: RunFolder, attempt: int) -> tuple[bool, bool, str, str | None]:
    """(whether the worker told its end, whether it was to be killed, last phase, device)."""
    said, asked, phase, device = False, False, "", None
    for event in read_all(folder.journal):
        if event.get("attempt") != attempt:
            continue
        if event["type"] == "state":
            said = said or event.get("state") in ENDS
            device = event.get("device", device)
            if "seconds" not in event:
                phase = str(event.get("phase") or "")
        said = said or event["type"] == "error"
        asked = asked or (event["type"] == "control" and event.get("action") == "kill")
    return said, asked, phase, device


def _killed_by_kernel(
    folder: RunFolder, phase: str, device: str | None, checkpoint: str | None
) -> dict[str, Any]:
    fields = {
        "during": out_of_memory.during(None, phase),
        "device": "host",
        "trains_on": device,
    }
    last = checkpoint.rsplit("/", 1)[-1] if checkpoint else None
    line = (
        "killed by the kernel for want of host memory, "
        f"{f'last whole checkpoint {last}' if last else 'no checkpoint yet'}"
    )
    return _with_suggestion(folder, line, fields)


def _with_suggestion(folder: RunFolder, line: str, fields: dict[str, Any]) -> dict[str, Any]:
    from engine.errors import UserError
    from engine.jobs.suggestions import suggest

    names = ("needed", "free", "total", "used", "others")
    found = {
        "kind": "out_of_memory",
        "message": line,
        **fields,
        **{f"{name}_bytes": None for name in names},
    }
    try:
        recipe = folder.read_recipe()
    except UserError:
        return found
    found["tried"] = out_of_memory.attempted(recipe, found["during"])
    if suggestion := suggest(recipe, found):
        found["suggestion"] = suggestion.as_event()
    return found
