"""A table: every screen, page, dialog and notice, against every kind of hostile text.

The texts lie on the disk, as a worker, a library or a colleague could have written them: names of
runs and sweeps, phases, reasons, models, devices, metrics, samples, log lines, notes, tags, the
queue and its files. Looked at twice: in the app (what is drawn before its last filter holds no
control character, and no text became a link), and as the bytes that reach a pty.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from engine.home import Home
from engine.jobs import entries
from engine.jobs.folder import RunFolder
from engine.jobs.lock import acquire
from engine.recipe import load_recipe
from tests.tui.conftest import settle
from tests.tui.terminal import PtyApp, leaks
from tests.tui.test_hostile import check
from tui.app import WorkbenchApp

PIECES = {
    "markup": "EVIL [@click=app.quit]go[/] [red]x[/red] [/] [bold [/ \\[ {x} $x [link=a]b[/link]",
    "OSC": "EVIL\x1b]52;c;cHduZWQ=\x07a\x1b]52;c;cHduZWQ=\x1b\\b\x1b]0;title\x07c",
    "CSI, DCS, C0": "EVIL\x1b[7;77Ha\x00b\x08\x08c\x1b[31;5md\x1bce\x1bP1$q\x1b\\f\x1b[?1049lg"
    "\x7fh\x0bi\x0cj\x0ek\x1al\r\nm\tn\x1b_o\x1b\\p",
    "C1, bidi": "EVIL\x9b7;77Ha\u202egnp.exe\u2066b\x9d52;c;cHduZWQ=\x9cc\u200fd\u061ce\x90f\x85g"
    "\u200bh\ufeffi\u2028j\U000e0041k",
    "1 MB": "EVIL" + "[/A" * 350_000,
}
BOTH = "".join(PIECES[name] for name in ("OSC", "C1, bidi", "CSI, DCS, C0", "markup"))
NAMED = {"escape": "\x1b", "enter": "\r", "tab": "\t", "shift+tab": "\x1b[Z", "ctrl+u": "\x15",
         "right_square_bracket": "]", "colon": ":", "question_mark": "?", "slash": "/"}  # fmt: skip
NEXT = "right_square_bracket"


@dataclass(frozen=True)
class Place:
    """A line of the table: the keys that lead there from the line before, and what is seen then."""

    name: str
    keys: tuple[str, ...]
    shows: str


def page(name: str, *keys: str, shows: str = "EVIL") -> Place:
    return Place(name, keys, shows)


PLACES = (
    page("header, state, charts, memory, end of the log", "2"),
    page("charts of every metric", NEXT),
    page("samples over the steps", NEXT, shows=r"(?s)sample.*EVIL"),
    page("log on the whole screen", "escape", "shift+tab", "shift+tab", "z", shows=r"Train: Log"),
    page("log, searched", "slash", *"EVIL", "enter", shows=r"EVIL"),
    page("log, by level", "F", "F", shows=r"Train: Log"),
    page("every key of a recipe", "escape", "escape", "2", "a", shows=r"all \d+ keys"),
    page("recipe of the run in the form", "escape", "u", shows="run EVIL"),
    page("review of that recipe", "s", shows=r"Train .*EVIL.* again, as"),
    page("its file's name", "escape", "w", shows="enter takes it"),
    page(
        "runs and their filter", "escape", "3", "slash", *"EVIL", "enter", shows=r"(?s)3 Runs.*EVIL"
    ),
    page("note", "escape", "t", shows="enter takes it"),
    page("tag", "escape", "T", shows="enter takes it"),
    page("stop", "escape", "X", shows="Type y"),
    page("kill", "escape", "K", shows="esc cancels"),
    page("palette", "escape", "colon", shows="what to do"),
    page("help", "escape", "question_mark", shows="search the keys"),
    page("jump", "escape", "f", shows=r"\[a\]"),
    page("run: curves", "escape", "enter", shows=r"\[curves\]"),
    page("run: numbers", NEXT, shows=r"\[numbers\]"),
    page("run: samples", NEXT, shows=r"\[samples\]"),
    page("run: events", NEXT, shows=r"\[events\]"),
    page("run: recipe", NEXT, shows=r"\[recipe\]"),
    page("run: log", NEXT, shows=r"\[log\]"),
    page("failed run: its end", "escape", "j", "j", "enter", shows=r"✗ failed"),
    page("delete", "D", shows="Type"),
    page("queue", "escape", "escape", "Q", shows="Nothing is started"),
    page("queue: take off", "D", shows="Type y"),
    page("queue: chooser", "escape", "a", shows="type to search"),
    page("sweep in the list", "escape", "escape", "G", "space", shows="EVIL"),
    page("sweep: its page", "k", "k", "enter", shows="EVIL"),
    page("play", "4", shows="4 Play"),
    page("play: chooser", "c", shows="type to search|EVIL"),
    page("system", "escape", "5", shows="5 System"),
)


def short(text: str, most: int = 60) -> str:
    """What a file may be called, or a model that is no folder."""
    return re.sub("[/\x00]", "_", text)[:most]


def write(folder: RunFolder, evil: str, created: float, events: list[dict[str, Any]]) -> None:
    folder.path.mkdir(parents=True)
    identity = {"id": folder.id, "name": evil, "parent": evil, "recipe": evil, "created": created}
    if "sweep" in folder.id:
        identity["sweep"] = {"id": evil[:5000], "values": {evil[:300]: evil[:300], "lora.r": 8}}
    folder.identity.write_text(json.dumps(identity))
    recipe = load_recipe("demo")
    model = recipe.model.model_copy(update={"model_name_or_path": short(evil, 200)})
    folder.recipe_file.write_text(recipe.model_copy(update={"model": model}).to_toml())
    lines = []
    for n, event in enumerate(events):
        lines.append(json.dumps({"v": 1, "t": created + n, "attempt": 1, **event}))
    folder.journal.write_text("".join(line + "\n" for line in lines))
    folder.log.write_text(f"{evil}\nERROR {evil}\nWARNING {evil}\n", errors="replace")
    folder.adapter.mkdir()
    (folder.adapter / "adapter_model.safetensors").touch()


def course(evil: str) -> list[dict[str, Any]]:
    said = {"prompt": evil, "text": evil, "reference": evil}
    facts = {"device": evil, "gpu": evil, "backend": evil, "dataset": evil, "git_commit": evil}
    versions = {evil[:200]: evil[:200]}
    return [
        {"type": "state", "state": "starting", "phase": evil, "pid": 1},
        {"type": "state", "state": "running", "max_steps": 9, "versions": versions, **facts},
        *({"type": "metrics", "step": n, "epoch": 1, "loss": 3.0 / n, evil[:300]: n}
          for n in (1, 2, 3)),
        {"type": "memory", "device": evil, "used_bytes": 5, "total_bytes": 9, "peak_bytes": 3},
        {"type": "evaluation", "step": 3, "split": evil, "which": evil, "loss": 2.0, "seconds": 1},
        {"type": "sample", "step": 3, **said},
        {"type": "checkpoint", "step": 3, "path": evil, "bytes": 3, "seconds": 0.1, "best": True},
        {"type": "control", "action": evil, "id": evil},
        {"type": "warning", "message": evil},
    ]  # fmt: skip


def failure(evil: str) -> list[dict[str, Any]]:
    suggestion = {"words": evil, "settings": {evil[:200]: evil[:200]}}
    return [
        {"type": "error", "message": evil, "kind": evil, "tried": evil, "suggestion": suggestion},
        {"type": "state", "state": "failed", "reason": evil},
        {"type": "exit", "exit_code": 1, "signal": None, "by": evil},
    ]


@dataclass
class World:
    """A home full of one text, with a run that lives."""

    home: Home
    live: RunFolder
    locks: list[int]

    def fail(self, evil: str) -> None:
        """The run that lives ends badly, while somebody looks."""
        with self.live.journal.open("a") as file:
            for event in failure(evil):
                file.write(json.dumps({"v": 1, "t": time.time(), "attempt": 1, **event}) + "\n")
        self.let_go()

    def let_go(self) -> None:
        for fd in self.locks:
            os.close(fd)
        self.locks.clear()


def world_of(home: Home, evil: str) -> World:
    now = time.time()
    live = RunFolder(home.runs / "20251122-090000-live")
    write(live, evil, now - 20, course(evil))
    locks = [acquire(live.lock), acquire(live.supervisor_lock)]
    failed = RunFolder(home.runs / "20251122-080000-fail")
    write(failed, evil, now - 900, [*course(evil), *failure(evil)])
    for number in (1, 2):
        folder = RunFolder(home.runs / f"20251122-07000{number}-sweep")
        end = [{"type": "state", "state": "finished", "reason": evil, "steps": 9}]
        write(folder, evil, now - 9000 - number, [*course(evil), *end])
    waits = RunFolder(home.runs / "20251122-085000-wait")
    write(waits, evil, now - 500, [{"type": "state", "state": "queued"}])
    home.queue.mkdir(exist_ok=True)
    entries.put(home.queue, entries.Entry(waits.id, evil, added=now, visible=evil[:50]))
    (home.queue / f"{short(evil)}.json").write_text("{")
    entries.write_state(home, entries.State(paused=evil, failed=[evil]))
    told = [{"type": "note", "id": "n", "text": evil}, {"type": "tag", "tag": evil[:300]}]
    home.journal.write_text(
        "".join(
            json.dumps({"v": 1, "t": now, "run": run.id, **{**event, "id": f"{run.id}{n}"}}) + "\n"
            for run in (live, failed, waits)
            for n, event in enumerate(told)
        )
    )
    return World(home, live, [fd for fd in locks if fd is not None])


@pytest.fixture
def evil(request: pytest.FixtureRequest, home: Home) -> Iterator[World]:
    made = world_of(home, request.param)
    assert len(made.locks) == 2
    yield made
    made.let_go()


async def shows(app: WorkbenchApp, pilot: Any, pattern: str) -> None:
    async with asyncio.timeout(30):
        while not re.search(pattern, check(app)):
            await pilot.pause(0.05)


LONG = ("1 MB", "OSC", "CSI, DCS, C0")
"""Left to the slow suite: 10 to 40 s each, and the short mix has something of all of them."""


@pytest.mark.parametrize(
    "evil",
    [
        pytest.param(text, id=name, marks=[pytest.mark.slow] if name in LONG else [])
        for name, text in PIECES.items()
    ],
    indirect=True,
)
async def test_nothing_is_drawn_that_is_no_plain_text(
    evil: World, request: pytest.FixtureRequest
) -> None:
    piece = next(text for name, text in PIECES.items() if f"[{name}]" in request.node.name)
    app = WorkbenchApp(evil.home, home_words=piece, start="train")
    table: dict[str, str] = {}
    with_evil = 0
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await shows(app, pilot, "EVIL")
        for place in PLACES:
            try:
                for key in place.keys:
                    await pilot.press(key)
                    if key in ("escape", "enter"):  # a screen comes or goes
                        await settle(pilot)
                await shows(app, pilot, place.shows)
                await settle(pilot)
                with_evil += "EVIL" in check(app)
                table[place.name] = ""
            except (AssertionError, TimeoutError) as error:
                table[place.name] = f"{type(error).__name__} {str(error)[:200]}"
        evil.fail(piece)
        async with asyncio.timeout(30):
            while not any(" failed: EVIL" in one.message for one in app._notifications):
                await pilot.pause(0.05)
        await settle(pilot)
        check(app)
    assert not any(table.values()), {name: said for name, said in table.items() if said}
    assert with_evil > 0.6 * len(PLACES), "the text must be where it is looked for"


@pytest.mark.parametrize(
    "evil",
    [
        pytest.param(BOTH, id="short", marks=pytest.mark.slow),
        pytest.param(PIECES["1 MB"], id="1 MB", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_no_byte_of_it_reaches_a_terminal(evil: World, request: pytest.FixtureRequest) -> None:
    piece = PIECES["1 MB"] if "1 MB" in request.node.name else BOTH
    table: dict[str, str] = {}
    asked = ("9;tunebench: ", "777;notify;tunebench;")
    with PtyApp(evil.home.path, 120, 40, "--notify", "osc9,osc777") as app:
        app.wait_for(b"EVIL")
        for place in PLACES:
            since = app.quiet(0.2)
            for key in place.keys:
                app.press(NAMED.get(key, " " if key == "space" else key))
                if key == "escape":
                    app.quiet(0.25)
            app.quiet(0.25)
            table[place.name] = leaks(app.written[since:])
        since = len(app.written)
        evil.fail(piece)
        app.wait_for(rb"\]9;tunebench: EVIL[^\x07]*\x07", since=since)
        app.quiet()
        table["a notice, and in the terminal's own"] = leaks(app.written[since:], osc=asked)
        app.press("q")
        app.ended()
        table["start and leaving"] = leaks(app.written, osc=asked)
        assert app.written.count(b"EVIL") > len(PLACES)
    assert not any(table.values()), {name: said for name, said in table.items() if said}
    for danger in (b"\x1b[7;77H", b"\x1b[31;5m", b"\x1bc", b"\x1bP"):
        assert danger not in app.written


@pytest.mark.parametrize("piece", [name for name in PIECES if name not in ("markup", "1 MB")])
def test_the_search_for_leaks_finds_each(piece: str) -> None:
    assert leaks(f"\x1b[1mplain\x1b[0m\r\n {PIECES[piece]}".encode())
    assert not leaks(b"\x1b[?1049h\x1b[1mplain \xe2\x94\x81\x1b[0m\r\n\x1b7\x1b8")
    assert leaks(b"\x1b]9;tunebench: x\x07") and not leaks(b"\x1b]9;ours: x\x07", osc=("9;ours",))
    with pytest.raises(UnicodeDecodeError):
        leaks(b"\x9b5n")
