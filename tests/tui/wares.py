"""A small dirty source, the recipe that cleans it, and helpers of the Data screen's tests."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from engine.data import background
from engine.recipe import Recipe
from tests.tui.conftest import settle
from tui.rowviews import Rows
from tui.widgets.lines import LinesView
from tui.widgets.table import PagedTable

NASTY = (
    "\x1b]52;c;cHduZWQ=\x07\x1b[2J [@click=app.quit]go[/] [/red] [bold \u202egnp.exe\u2066 ﷽"
    " 👨‍👩‍👧 漢字漢字漢字漢字 "
)
TITLES = ["Oak bench", "Copper kettle", "Wool scarf", "Steel pan", "Glass lamp", "Clay teapot"]

STRANGE: dict[str, tuple[str, str]] = {
    "markup": (NASTY + "title", NASTY * 3),
    "cjk": ("漢字 lamp", "光" * 300 + " & <b>bold</b>"),
    "rtl": ("שלום עולם", "مرحبا بالعالم  " * 20),
    "emoji": ("👨‍👩‍👧 🇩🇪 lamp", "Family 👨‍👩‍👧 of lamps  🇩🇪 ✈️ &amp; more " * 6),
    "long": ("Long", "long " * 20_000),
    "long-changed": ("Long and changed", "<i>wide</i>  and long " * 5_000),
}
"""Rows that a screen could trip over: title and content."""


JOB = background.CleanState(
    "wares", "running", phase="cleaning", rows=1_234_567, fraction=0.56, rows_per_second=61_234.0,
    eta=17.0,
)  # fmt: skip
"""A cleaning that runs."""


def lines() -> list[bytes]:
    """About 100 lines: good ones, duplicates, empty ones, no JSON at all, and nasty text."""
    made: list[bytes] = []
    for number in range(96):
        title = f"{TITLES[number % len(TITLES)]} {number}"
        row = {"title": title, "content": f"{title} is made to last. It comes in {number} parts."}
        made.append(json.dumps(row).encode())
    made[3:3] = [b'{"title": "Broken lamp", "content": "no end', b"", b"[1, 2, 3]"]
    made[9:9] = [json.dumps({"title": "Empty chair", "content": ""}).encode()]
    made[20:20] = [
        json.dumps({"title": "Marked lamp", "content": "A <b>bold</b>  lamp &amp; more"}).encode()
    ]
    made.append(
        json.dumps({"title": "Twin bench", "content": json.loads(made[0])["content"]}).encode()
    )
    for title, content in STRANGE.values():
        made.append(json.dumps({"title": title, "content": content}).encode())
    return made


MARKED_LINE = 21
"""The line of the row that html and whitespace change."""


def line_of(kind: str) -> int:
    """The line of one of the strange rows."""
    return len(lines()) - len(STRANGE) + list(STRANGE).index(kind) + 1


def recipe(source: Path, name: str = "wares") -> Recipe:
    return Recipe.model_validate(
        {
            "name": "demo",
            "data": {"source": str(source), "name": name},
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        }
    )


def preview(self: Rows, split: str, index: int) -> dict[str, Any]:
    """What engine.data.preview gives, for a tokeniser that cuts at spaces."""
    row = self.one(split, index)
    prompt = f"### Title:\n{row['prompt'][:60]}\n### Text:\n"
    pieces = [(piece, False) for piece in prompt.splitlines(keepends=True)]
    words = row["completion"].split()[:40]
    pieces += [(" " * bool(place) + word, True) for place, word in enumerate(words)]
    return {
        "line": row["line"],
        "text": prompt + " ".join(words),
        "tokens": [{"id": i, "text": t, "trained": on} for i, (t, on) in enumerate(pieces)],
        "truncated_at": len(pieces) if len(words) == 40 else None,
        "length": len(pieces) + 160,
        "eos_trained": len(words) < 40,
        "bos_count": 1,
    }


def stats(
    self: Rows,
    split: str,
    sample: int,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """What engine.data.preview_stats gives, for a split of 18,000 made-up rows."""
    counts = [int(300 * 2.7 ** -(((place - 7) / 5) ** 2)) for place in range(32)]
    rows = 2_000 if sample else 18_000
    return {
        "split": split,
        "rows": rows,
        "rows_in_split": 18_000,
        "max_length": 128,
        "quantiles": {"5%": 24, "50%": 117, "95%": 241, "max": 2_000},
        "mean": 120.4,
        "histogram": {
            "edges": [16.0 * place for place in range(1, 32)] + [2000.0],
            "counts": [count * rows // 2_000 for count in counts],
        },
        "truncated": 900 * rows // 2_000,
        "answers_cut": 899 * rows // 2_000,
        "answers_lost": 2,
        "untrained": 0,
        "eos_untrained": 899,
        "fits_95": 320,
        "fits_99": 512,
        "packing": {"sequences": 200, "filled": 0.93},
        "sentence": "at max_length 128, 45 % of descriptions are cut; 256 would cut 3 %",
    }


# --- what a screen shows


async def until(pilot: Any, true: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await pilot.pause(0.02)


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def to_view(pilot: Any, view: str) -> None:
    browser = pilot.app.screen.browser
    while browser.view != view:
        await press(pilot, "right_square_bracket")


async def to_line(pilot: Any, line: int) -> None:
    await press(pilot, "number_sign", *str(line), "enter")


def title(app: Any) -> str:
    return str(app.screen.query_one("#rows").border_title)


def foot(app: Any) -> str:
    return str(app.screen.query_one("#rows").border_subtitle)


def words(app: Any, id: str = "words") -> str:
    return "\n".join(app.screen.query_one(f"#{id}", LinesView).text_lines)


def table_lines(app: Any) -> list[str]:
    table = app.screen.query_one(PagedTable)
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


def screen_lines(app: Any) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


def check_borders(app: Any) -> None:
    """Every line is as wide as the screen, and both sides of every pane stand in one column each.

    Measured by cells: a character that is wider than it was taken for moves what is behind it.
    """
    width, height = app.size
    strips = app.screen._compositor.render_strips()
    assert len(strips) == height
    for strip in strips:
        assert strip.cell_length == cell_len(strip.text) == width, strip.text
        assert strip.text.replace("\u00a0", " ").isprintable(), strip.text
        assert "\u202e" not in strip.text and "\u200d" not in strip.text
    panes = app.screen.query(".dialog") or app.screen.query(".pane")
    checked = 0
    for pane in panes:
        region = pane.region
        if not region or not pane.display or region.height < 3:
            continue
        for y in range(max(0, region.y + 1), min(height, region.bottom - 1)):
            for x in (region.x, region.right - 1):
                edge = strips[y].crop(x, x + 1).text
                assert edge in "│┃├┤", (pane, y, x, strips[y].text)
                checked += 1
    assert checked, "no pane was there to be checked"
