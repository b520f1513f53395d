"""One nasty text in every place that outside text can come from, through every screen.

Twice: in the app itself (nothing crashes, no text becomes a link or a style), and through a pty
(what the terminal would really get).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.home import Home
from engine.recipe import load_recipe
from tests.tui.conftest import HOSTILE, NOW, FrozenFeed, detail, row, settle
from tests.tui.terminal import DANGEROUS, PtyApp
from tests.variants import slow_but
from tui import keymap
from tui.app import WorkbenchApp
from tui.feed import RunDetail, Snapshot
from tui.filters import _UNSAFE
from tui.screens.confirm import ConfirmScreen
from tui.screens.review import ReviewScreen
from tui.screens.runs import VIEWS

MakeApp = Callable[..., WorkbenchApp]


def hostile_detail(state: str) -> RunDetail:
    run = row(
        HOSTILE, state, phase=HOSTILE, model=HOSTILE, dataset=HOSTILE, device=HOSTILE,
        reason=HOSTILE, checkpoint=HOSTILE, gpu=HOSTILE, git_commit=HOSTILE, step=57,
        max_steps=120, parent=HOSTILE, error_kind=HOSTILE, loss=float("nan"),
        eval_loss=float("inf"), best_eval_loss=2.0, best_step=40,
        ended=NOW if state == "failed" else None,
    )  # fmt: skip
    run = replace(run, id=f"id-{state}")
    return detail(
        run,
        57,
        samples=[{"step": 1, "prompt": HOSTILE, "text": HOSTILE, "reference": HOSTILE}],
        notices=[{"type": HOSTILE, "text": HOSTILE}],
        evaluations=[{"step": 40, "split": HOSTILE, "which": HOSTILE, "loss": 2.0, "seconds": 1}],
        checkpoints=[{"step": 40, "path": HOSTILE, "bytes": 1, "best": 1}],
        recipe=HOSTILE,
        log=[HOSTILE, "\x1b[2K" * 5000, HOSTILE],
        events=[{"t": float("inf"), "attempt": HOSTILE, "type": HOSTILE, "text": HOSTILE}] * 3,
        notes=[{"id": "n", "t": NOW, "text": HOSTILE}],
        tags=[HOSTILE],
        ending=[(label, HOSTILE) for label in ("tried", "missing", "next")],
        suggested=True,
        changes=[(HOSTILE, HOSTILE, [HOSTILE])],
    )


def painted(app: WorkbenchApp) -> Iterator[Any]:
    """The segments on the screen, before the app's last filter."""
    for strip in app.screen._compositor.render_strips():
        yield from strip


def check(app: WorkbenchApp) -> str:
    text = []
    for segment in painted(app):
        if segment.control:
            continue
        text.append(segment.text)
        meta = segment.style.meta if segment.style else {}
        assert not any("click" in str(key) for key in meta), "text became a link"
        assert segment.style is None or segment.style.link is None
    whole = "".join(text)
    assert not _UNSAFE.search(whole), "engine.text should have caught this before the filter"
    return whole


@pytest.mark.parametrize("state", ["starting", "running", "failed"])
@pytest.mark.parametrize("screen", keymap.SCREENS)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_through_every_screen(
    screen: str, state: str, size: tuple[int, int], frozen_app: MakeApp
) -> None:
    app = frozen_app(hostile_detail(state), mode=screen)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        seen = check(app)
        if screen in ("train", "runs"):
            assert "EVIL" in seen
        if screen == "runs":
            await pilot.press("enter")
            for _ in VIEWS:
                await settle(pilot)
                assert "EVIL" in check(app)
                await pilot.press("right_square_bracket")


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40)], ids=str)
async def test_through_a_sweep_its_page_and_its_questions(
    size: tuple[int, int], frozen_app: MakeApp
) -> None:
    values = json.dumps({f"{HOSTILE}.{HOSTILE}": HOSTILE, "lora.r": [HOSTILE, 8], "a.b": None})
    details = []
    for state in ("running", "failed", "queued", "starting"):
        found = hostile_detail(state)
        run = replace(found.row, sweep=HOSTILE, sweep_values=values, parent="id-failed")
        details.append(replace(found, row=run))
    broken = replace(hostile_detail("lost").row, sweep=HOSTILE, sweep_values="[1]")
    details.append(replace(hostile_detail("lost"), row=broken))
    app = frozen_app(*details, mode="runs")
    async with app.run_test(size=size) as pilot:
        for keys in (["space"], ["t"], ["escape", "T"], ["escape", "U"], ["escape", "X"],
                     ["escape", "enter"], ["right_square_bracket"], ["j", "enter"],
                     ["right_square_bracket"]):  # fmt: skip
            await settle(pilot)
            for key in keys:
                await pilot.press(key)
                await settle(pilot)
            assert "EVIL" in check(app), keys


@pytest.mark.parametrize(("key", "state"), [("X", "running"), ("K", "running"), ("D", "failed")])
async def test_through_the_questions(key: str, state: str, frozen_app: MakeApp) -> None:
    app = frozen_app(hostile_detail(state), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        assert "EVIL" in check(app)


async def test_through_notices_review_and_errors_of_the_form(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.say(HOSTILE, "error")
        form = app.screen.query_one("#form")
        form.load(HOSTILE[:300])  # type: ignore[attr-defined]
        await settle(pilot)
        assert "EVIL" in check(app)
        rows = [(HOSTILE[:40], HOSTILE), ("data", HOSTILE)]
        app.push_screen(ReviewScreen(HOSTILE, load_recipe("demo"), rows))
        await settle(pilot)
        assert "EVIL" in check(app)


async def test_through_an_error_of_the_store(frozen_app: MakeApp) -> None:
    for mode in ("train", "runs"):
        app = frozen_app(feed=FrozenFeed(Snapshot(loaded=True, error=HOSTILE)), mode=mode)
        async with app.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            assert "EVIL" in check(app)


def hostile_dataset(home: Home, folder: Path) -> None:
    """Rows of nasty text, some of them changed and some dropped by the rules."""
    from engine.data.prepare import prepare
    from tests.tui.wares import recipe

    nasty = HOSTILE.replace("\ud800", "")
    rows = [{"title": f"{n} {nasty}", "content": f"{n} <b>{nasty}</b>  x"} for n in range(12)]
    rows += [{"title": f"again {nasty}", "content": rows[0]["content"]}]
    source = folder / "EVIL[@click=app.quit] \x1b[31m\u202e.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in rows) + f'{{"EVIL {nasty!r}'
    source.write_bytes(text.encode() + b"\xff\n" + HOSTILE.encode("utf-8", "replace") + b"\n")
    prepare(home, recipe(source, "nasty"))


DATA_KEYS = (
    *("]", "enter", "b", "n", "escape", "escape") * 8,
    *("F", "E", "V", "enter", "escape", "/", "E", "enter", "H", "enter", "escape"),
    *("tab", "tab", "j", "enter", "escape", "tab", "G", "enter"),
)
"""Through every view of a row, the filters, the funnel, to the clean form."""


@pytest.mark.parametrize("size", slow_but([(60, 20), (80, 24), (120, 40)], (80, 24)), ids=str)
async def test_through_every_view_of_a_dataset(
    size: tuple[int, int], home: Home, tmp_path: Path, frozen_app: MakeApp
) -> None:
    hostile_dataset(home, tmp_path)
    app = frozen_app(mode="data")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for key in DATA_KEYS:
            await pilot.press(KEY_NAMES.get(key, key))
            await settle(pilot)
            check(app)
        await pilot.press("escape")
        await settle(pilot)
        seen = ""
        for keys in ("s", "escape u", "b n escape", "w escape", "j" * 9 + " b"):
            for key in keys.split() if " " in keys else keys:
                await pilot.press(key)
                await settle(pilot)
                seen += check(app)
        assert "EVIL" in seen and "Rules" in seen


KEY_NAMES = {"]": "right_square_bracket", "/": "slash"}


def hostile_home(home: Home) -> None:
    """A run on disk whose every text is nasty, as a worker of somebody else could have written."""
    folder = home.runs / "20251122-081640-abcd"
    folder.mkdir()
    folder.joinpath("run.json").write_text(
        json.dumps(
            {
                **{"id": folder.name, "name": HOSTILE, "parent": HOSTILE, "created": NOW},
                "sweep": {"id": HOSTILE, "values": {HOSTILE: HOSTILE}},
            }
        )
    )
    folder.joinpath("recipe.toml").write_text(
        load_recipe("demo").to_toml() + "# " + HOSTILE.encode("utf-8", "replace").decode()
    )
    events = [
        {"type": "state", "state": "starting", "phase": HOSTILE, "pid": 1},
        {"type": "state", "state": "running", "max_steps": 3, "dataset": HOSTILE},
        *({"type": "metrics", "step": n, "epoch": 1, "loss": 3.0 - n, HOSTILE[:99]: 1}
          for n in (1, 2, 3)),
        {"type": "sample", "step": 1, "prompt": HOSTILE, "text": HOSTILE},
        {"type": "warning", "message": HOSTILE},
        {"type": "error", "message": HOSTILE, "kind": HOSTILE},
        {"type": "state", "state": "failed", "reason": HOSTILE},
        {"type": "exit", "exit_code": 1, "signal": None, "by": "supervisor"},
    ]  # fmt: skip
    lines = [json.dumps({"v": 1, "t": NOW + n, "attempt": 1, **e}) for n, e in enumerate(events)]
    folder.joinpath("events.jsonl").write_text("\n".join(lines) + "\n")
    folder.joinpath("worker.log").write_bytes(HOSTILE.encode("utf-8", "replace") * 2)


@pytest.mark.slow  # test_hostile_table goes through more of them
def test_the_bytes_that_reach_a_terminal(home: Home) -> None:
    hostile_home(home)
    with PtyApp(home.path) as app:
        app.wait_for(rb"EVIL.*failed|failed.*EVIL|EVIL")
        at = app.quiet()
        app.press("3")
        app.wait_for(rb"EVIL", since=at)
        app.quiet()
        app.press(" j")
        at = app.quiet()
        app.press("\r")
        for view in VIEWS[1:]:
            app.wait_for(rb"EVIL|turn the page", since=at)
            at = app.quiet()
            app.press("]")
            app.wait_for(f"\\[{view}\\]".encode(), since=at)
            app.quiet()
        for key in "1452":
            at = app.quiet()
            app.press(key)
            app.wait_for(f"\\[{key} ".encode(), since=at)
            app.quiet()
        for key in ("D\x1b", ":", "\x1b", "?"):
            app.press(key)
            app.quiet()
        found = DANGEROUS.search(app.written)
        assert found is None, app.written[max(0, found.start() - 80) : found.end() + 40]
        assert app.written.count(b"EVIL") > 10


def test_the_bytes_of_a_dataset_that_reach_a_terminal(home: Home, tmp_path: Path) -> None:
    hostile_dataset(home, tmp_path)
    with PtyApp(home.path) as app:
        app.wait_for(rb"Recipe")
        app.quiet()
        at = app.quiet()
        app.press("1")
        app.wait_for(rb"EVIL", since=at)
        for keys in ("]",) * 8 + ("\r", "b", "\x1b", "H", "\x1b", "FEVIL\r", "s", "\x1b", "u", "b"):
            app.quiet()
            app.press(keys)
        app.wait_for(rb"touched by")
        app.quiet()
        found = DANGEROUS.search(app.written)
        assert found is None, app.written[max(0, found.start() - 80) : found.end() + 40]
        assert app.written.count(b"EVIL") > 10


def test_the_search_for_danger_finds_it() -> None:
    """The check above cannot pass because its pattern is wrong."""
    for piece in HOSTILE.encode("utf-8", "replace"), "\u202e".encode(), "\x9b".encode(), b"\x1bc":
        assert DANGEROUS.search(piece)


def test_hostile_text_holds_what_it_should(tmp_path: Path) -> None:
    assert len(HOSTILE) > 100_000
    for piece in ("\x1b]52", "\u202e", "\x9b", "[@click", "[/", "\x00", "\ud800", "\u200d"):
        assert piece in HOSTILE
