"""Keys, footer, help, palette, sizes, imports: what all screens share."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from textual._compositor import Compositor
from textual.color import Color
from textual.events import Key
from textual.widgets import Input, OptionList

from engine.jobs.folder import log_tail
from engine.text import safe
from tests.tui.conftest import failed, finished, running, settle
from tui import keymap
from tui.app import WorkbenchApp
from tui.filters import UnsafeText
from tui.keyneeds import NEEDS, needs
from tui.screens.base import TooSmall, WorkbenchScreen, hints
from tui.screens.help import HelpScreen, PaletteScreen
from tui.widgets.bars import FooterBar, HeaderBar

MakeApp = Callable[..., WorkbenchApp]
FORBIDDEN_IN_KEYS = ("alt+", "super+", "ctrl+b", "ctrl+a", "ctrl+s", "ctrl+q", "ctrl+m", "ctrl+i",
                     "ctrl+h", "ctrl+p")  # fmt: skip


def test_every_key_of_a_screen_does_one_thing() -> None:
    for screen in keymap.SCREENS:
        mine = [key for action in keymap.of_screen(screen) for key in action.keys]
        assert len(set(mine)) == len(mine), screen
        common = [key for action in keymap.of_screen("") for key in action.keys]
        assert len(set(common)) == len(common)
        assert not set(mine) & set(common) - {"escape", "enter"}, screen


def test_every_action_has_a_key_that_every_terminal_sends() -> None:
    for action in keymap.ACTIONS:
        assert not re.fullmatch(r"f\d+", action.keys[0]), action
        for key in action.keys:
            assert not key.startswith(FORBIDDEN_IN_KEYS), action


def test_what_destroys_is_a_capital() -> None:
    for action in keymap.ACTIONS:
        if action.id in ("stop", "kill", "delete"):
            assert all(len(key) == 1 and key.isupper() for key in action.keys)


@pytest.mark.parametrize("screen", keymap.SCREENS)
async def test_every_action_of_the_table_is_done_by_somebody(
    screen: str, frozen_app: MakeApp
) -> None:
    app = frozen_app(running(), mode=screen)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for action in [*keymap.of_screen(screen), *keymap.of_screen("")]:
            owner = app if action.app else app.screen
            assert hasattr(owner, f"action_{action.id}") or action.id.endswith("_view"), action


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 50)])
async def test_five_screens_on_five_keys(size: tuple[int, int], frozen_app: MakeApp) -> None:
    app = frozen_app(running(), finished(), failed())
    async with app.run_test(size=size) as pilot:
        for key, (id, title) in zip("12345", keymap.SCREENS.items(), strict=True):
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(app.screen, WorkbenchScreen) and id == app.screen.SCREEN
            head = str(app.screen.query_one(HeaderBar).render())
            assert f"[{key} {title}]" in head
            shown = app.screen.query_one(FooterBar)._hints
            assert 2 <= len(shown) <= 6 and ("?", "help") in shown
            assert len(hints(app.screen)) <= 6


KEY_TO_CHAR = {"slash": "/"}


async def test_letters_and_digits_are_text_inside_inputs(frozen_app: MakeApp) -> None:
    app = frozen_app(running())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("e")
        await settle(pilot)
        box = app.screen.focused
        assert isinstance(box, Input)
        box.value = ""
        await pilot.press(*"q15XKDs", "question_mark", "colon")
        await settle(pilot)
        assert box.value == "q15XKDs?:"
        assert app.current_mode == "train" and len(app.screen_stack) == 1
        await pilot.press("ctrl+o")
        await settle(pilot)
        assert isinstance(app.screen, PaletteScreen)


@pytest.mark.parametrize(
    ("mode", "key", "typed"),
    [("train", "e", "xK"), ("runs", "slash", "xD")],
)
async def test_keys_that_come_in_one_burst_reach_the_input_that_the_first_one_opens(
    frozen_app: MakeApp, mode: str, key: str, typed: str
) -> None:
    """A slow link delivers several keys at once; none may act as a command meanwhile."""
    app = frozen_app(finished(), mode=mode)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.post_message(Key(key, KEY_TO_CHAR.get(key, key)))
        for letter in typed:
            app.post_message(Key(letter, letter))
        await settle(pilot)
        assert isinstance(app.focused, Input)
        assert app.focused.value.endswith(typed)


async def test_q_leaves(frozen_app: MakeApp) -> None:
    app = frozen_app(running())
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value == 0


async def test_ctrl_c_hints_first_and_leaves_the_second_time(frozen_app: MakeApp) -> None:
    app = frozen_app(running())
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert app.is_running and "training goes on" in next(iter(app._notifications)).message
        await pilot.press("ctrl+c")
        await pilot.pause()
    assert app.return_value == 0


async def test_help_is_searchable_and_begins_with_this_screen(frozen_app: MakeApp) -> None:
    app = frozen_app(running(), mode="runs")
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)
        assert isinstance(app.screen, HelpScreen)
        options = app.screen.query_one(OptionList)
        assert "Runs" in str(options.get_option_at_index(0).prompt)
        everything = options.option_count
        await pilot.press(*"smooth")
        await settle(pilot)
        left = [str(option.prompt) for option in options.options]
        assert 0 < len(left) < everything / 3
        assert any("smoothing" in words for words in left)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, WorkbenchScreen)


async def test_help_greys_what_is_not_possible_now(frozen_app: MakeApp) -> None:
    app = frozen_app(finished(), mode="runs")
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)
        options = [one.prompt for one in app.screen.query_one(OptionList).options]
        assert str(options[0]) == "Runs  this screen; grey: not now"
        grey = {str(line)[1]: "#9e9e9e" in str(line.spans[0].style) for line in options[1:9]}
        assert not grey["e"] and grey["c"] and grey["P"], "enter opens; nothing is marked"


@pytest.mark.parametrize("detail", [None, finished, running, failed])
@pytest.mark.parametrize("screen", keymap.SCREENS)
async def test_a_key_that_is_not_possible_says_what_it_wants(
    screen: str, detail: Callable[[], Any] | None, frozen_app: MakeApp
) -> None:
    app = frozen_app(*([detail()] if detail else []), mode=screen)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.screen.set_focus(None)
        footer = app.screen.query_one(FooterBar)
        for action in [*keymap.of_screen(screen), *keymap.of_screen("")]:
            if action.app or app.screen.check_action(action.id, ()):
                continue
            told = needs(screen, action.id)
            assert told, f"{action.id} on {screen}"
            await pilot.press(action.keys[0])
            line = str(footer.render())
            assert line == f" {keymap.shown(action.keys[0])} wants {told}  ·  {action.words}"[:119]
        assert screen == app.screen.SCREEN  # type: ignore[attr-defined]


async def test_the_footer_tells_its_hints_again(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.widgets.bars.TOLD_SECONDS", 0.3)
    app = frozen_app(finished(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        footer = app.screen.query_one(FooterBar)
        before = str(footer.render())
        await pilot.press("c")
        assert "wants two runs marked with space" in str(footer.render())
        await pilot.pause(0.6)
        assert str(footer.render()) == before
        await pilot.press("P", "s")
        assert str(footer.render()) == before, "another key did something"
        await pilot.press("z", "P")
        assert any("P wants a sweep's view chart" in one.message for one in app._notifications)
        await pilot.press("z", "P", "slash")
        assert "leave the field" in str(footer.render()), "what keys do now comes first"
        await pilot.press(*"cP")
        assert app.screen.query_one("#wanted", Input).value == "cP", "letters are text in there"
        assert "wants" not in str(footer.render())


def test_what_actions_want_is_told_of_actions_that_there_are() -> None:
    everywhere = {action.id for action in keymap.of_screen("")}
    for screen, told in NEEDS.items():
        there = {action.id for action in keymap.of_screen(screen)} | everywhere
        assert told.keys() <= there, told.keys() - there
        assert "<" not in "".join(needs(screen, id) for id in told)


async def test_the_palette_lists_only_what_is_possible_and_runs_it(frozen_app: MakeApp) -> None:
    app = frozen_app(finished())
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press("colon")
        await settle(pilot)
        ids = {option.id for option in app.screen.query_one(OptionList).options}
        assert {"start", "edit", "log_y", "go_runs", "leave"} <= ids
        assert not ids & {"stop", "kill", "resume"}, "a finished run has nothing to end or resume"
        await pilot.press(*"history", "enter")
        await settle(pilot)
        assert app.current_mode == "runs"


async def test_too_small_is_said_and_passes(frozen_app: MakeApp) -> None:
    app = frozen_app(running())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for size in ((59, 24), (80, 19), (5, 3), (1, 1)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            small = app.screen.query_one(TooSmall)
            assert small.display and not app.screen.query_one(HeaderBar).display
        await pilot.resize_terminal(60, 20)
        await settle(pilot)
        assert not app.screen.query_one(TooSmall).display
        assert app.screen.query_one(HeaderBar).display


def test_the_last_gate_takes_control_and_bidi_characters_out() -> None:
    nasty = "a\x1b]52;c;x\x07b\x9bm\u202ec\u2066\x00\n\td\u200f\ud800"
    plain = Segment("plain 漢字 ⣿ é")
    made = UnsafeText().apply([Segment(nasty), plain], Color(0, 0, 0))
    assert made[0].text.replace("\ufffd", "") == "a]52;c;xbmcd"
    assert made[1].text == plain.text
    assert made[0].cell_length == Segment(nasty).cell_length


def test_the_key_list_for_the_readme_names_every_action() -> None:
    listed = keymap.as_markdown()
    for action in keymap.ACTIONS:
        assert action.words in listed
        assert f"`{keymap.shown(action.keys[0])}`" in listed


def test_the_last_gate_knows_every_character_that_the_engine_takes_for_unsafe() -> None:
    unsafe = [chr(code) for code in range(0x110000) if safe(chr(code)) != chr(code)]
    assert len(unsafe) > 2000
    plain = Segment("a")
    for char in unsafe:
        (left, _) = UnsafeText().apply([Segment(char), plain], Color(0, 0, 0))
        assert char not in left.text, f"U+{ord(char):04X}"


def test_log_tail_keeps_what_a_progress_bar_said_last(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"first\r\n" + b"\r".join(b"step %d" % n for n in range(9)) + b"\nlast\n\n\n")
    assert log_tail(log, 200) == ["first", "step 8", "last"]
    log.write_bytes(b"x" * 300_000 + b"\nend of a long line\n" + b"\xff\xfe\n")
    assert log_tail(log, 200) == ["end of a long line", "\ufffd\ufffd"]
    log.write_bytes(b"y" * 300_000)
    assert len(log_tail(log, 200)) == 1
    assert log_tail(tmp_path / "none", 200) == []
    log.write_text("".join(f"{n}\n" for n in range(5000)))
    assert log_tail(log, 200)[-1] == "4999" and len(log_tail(log, 200)) == 200


LATER = ("numpy", "pydantic", "sqlite_utils", "sqlite3")
HEAVY = ("torch", "transformers", "datasets", "trl", "peft", "unsloth", "pandas", "pyarrow")

AT_START = f"""
import sys
import tui.__main__, tui.app, tui.screens.train
found = [name for name in {(*HEAVY, *LATER)!r} if name in sys.modules]
assert not found, found
import tui.screens.data, tui.screens.runs, tui.screens.play, tui.screens.system, tui.plotting
import tui.screens.help, tui.screens.review, tui.screens.confirm, tui.screens.rules
found = [name for name in {HEAVY!r} if name in sys.modules]
assert not found, found
"""


def test_nothing_heavy_is_imported_at_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_START], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_no_file_of_the_tui_imports_what_only_workers_may() -> None:
    """Also not inside functions, where the import test above cannot see it."""
    for file in Path(keymap.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in HEAVY, f"{file}: {name}"


async def test_the_feed_starts_only_when_something_is_to_be_seen(frozen_app: MakeApp) -> None:
    order: list[str] = []

    class Feed:
        def start(self, post: Any) -> None:
            order.append("feed")

        def watch(self, run_ids: frozenset[str]) -> None: ...

        def stop(self) -> None: ...

    app = frozen_app(feed=Feed())
    shown = app.post_display_hook

    def displayed() -> None:
        if app.presented:
            order.append("display")
        shown()

    app.post_display_hook = displayed  # type: ignore[method-assign]
    async with app.run_test() as pilot:
        await settle(pilot)
    assert order[0] == "display" and order.count("feed") == 1


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    """Escape sequences in somebody's pipe or log file help nobody, and nobody could leave."""
    done = subprocess.run(
        [sys.executable, "-m", "tui", "--home", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tunebench: the workbench needs a terminal")
    assert len(done.stderr.splitlines()) == 1


async def test_another_focus_paints_two_panes_and_not_the_screen(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = frozen_app(running(), mode="system")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        painted: list[str] = []
        for name in ("render_full_update", "render_partial_update"):
            paint = getattr(Compositor, name)
            monkeypatch.setattr(
                Compositor, name, lambda *a, n=name, p=paint: painted.append(n) or p(*a)
            )
        before = app.screen.focused
        await pilot.press("tab")
        await settle(pilot)
        assert app.screen.focused is not before
        assert painted and set(painted) == {"render_partial_update"}
