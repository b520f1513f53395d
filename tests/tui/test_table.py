"""The paged table, the text pane and the token view, compared as text."""

import asyncio
import threading
from typing import Any

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.widget import Widget

from tests.tui.conftest import settle
from tui.widgets.cursortable import Column
from tui.widgets.funnel import funnel_strips
from tui.widgets.lines import BOLD, PLAIN, LinesView, hanging, wrap
from tui.widgets.table import PAGE, PAGES_KEPT, PagedTable, one_line
from tui.widgets.tokens import TokensView, layout_tokens, shown_token

HOSTILE = (
    "\x1b]52;c;cHduZWQ=\x07\x1b[2J\x1b[31m\x9b5n\x00\x08\u202egnp.exe\u2066 [@click=app.quit]go[/]"
    " [/red] [bold [/ \\[ {x} \r\n\t﷽ 👨‍👩‍👧 🇩🇪 漢字 \ud800 \u0301" + "A" * 100_000
)
COLUMNS = [Column("line", 7, right=True), Column("title", share=2), Column("content", share=3)]


class Stage(App[None]):
    """One widget on a screen of its own."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        yield self.widget


class Source:
    """Rows made up when asked for; counts what was asked."""

    def __init__(self, count: int, text: str = "content") -> None:
        self.count, self.text = count, text
        self.asked: list[tuple[int, int]] = []

    def fetch(self, start: int, count: int) -> list[tuple[str, ...]]:
        self.asked.append((start, count))
        end = min(self.count, start + count)
        return [(str(i), f"title {i}", f"{self.text} {i}") for i in range(start, end)]


def drawn(widget: Widget) -> list[str]:
    return [widget.render_line(y).text for y in range(widget.size.height)]


async def test_two_million_rows_fetch_only_what_is_seen() -> None:
    source, table = Source(2_200_000), PagedTable()
    async with Stage(table).run_test(size=(60, 12)) as pilot:
        table.show(COLUMNS, source.count, source.fetch)
        await settle(pilot)
        assert drawn(table)[:3] == [
            "     line  title               content   row 1 of 2,200,000 ",
            "›       0  title 0             content 0                   ┃",
            "        1  title 1             content 1                   │",
        ]
        table.action_last()
        await settle(pilot)
        assert drawn(table)[-1].startswith("› 2199999  title 2199999")
        assert drawn(table)[-1].endswith("┃")
        assert sum(count for _, count in source.asked) <= 3 * PAGE
        table.go(1_000_000)
        await settle(pilot)
        assert any(line.startswith("› 1000000") for line in drawn(table))


async def test_every_way_to_move() -> None:
    table = PagedTable()
    source = Source(25)
    async with Stage(table).run_test(size=(40, 11)) as pilot:
        table.show(COLUMNS, source.count, source.fetch)
        await settle(pilot)
        places = []
        for move in (
            table.action_cursor_down,
            table.action_page_down,
            table.action_page_down,
            table.action_page_down,
            table.action_cursor_down,
            table.action_page_up,
            table.action_cursor_up,
            table.action_first,
            table.action_cursor_up,
            table.action_last,
        ):
            move()
            places.append(table.cursor)
            assert table.top <= table.cursor < table.top + table.visible_rows
        assert places == [1, 11, 21, 24, 24, 14, 13, 0, 0, 24]


async def test_it_remembers_a_bounded_number_of_pages() -> None:
    source, table = Source(PAGE * 100), PagedTable()
    async with Stage(table).run_test(size=(40, 11)) as pilot:
        table.show(COLUMNS, source.count, source.fetch)
        for page in range(0, 2 * PAGES_KEPT + 8, 2):
            table.go(page * PAGE)
            await settle(pilot)
        assert len(table._pages) <= PAGES_KEPT
        table.go(0)
        await settle(pilot)
        assert drawn(table)[1].startswith("›       0"), "what was forgotten is fetched again"


async def test_scrolling_past_does_not_fetch() -> None:
    """While one page is on its way the user flies past many others: they are never asked for."""
    source, table = Source(PAGE * 1000), PagedTable()
    slow, go = threading.Event(), source.fetch

    def fetch(start: int, count: int) -> list[tuple[str, ...]]:
        assert slow.wait(10)
        return go(start, count)

    async with Stage(table).run_test(size=(60, 11)) as pilot:
        table.show(COLUMNS, source.count, fetch)
        await pilot.pause()
        for page in range(500):
            table.go(page * PAGE)
            await asyncio.sleep(0)
        assert "…" in drawn(table)[1], "what is not there yet is shown as such"
        slow.set()
        await settle(pilot)
        assert len(source.asked) <= 4
        assert any("title 49900" in line for line in drawn(table))


async def test_a_source_that_fails_says_so_once() -> None:
    failures: list[Exception] = []

    class Listening(Stage):
        def on_paged_table_failed(self, event: PagedTable.Failed) -> None:
            failures.append(event.error)

    def fetch(start: int, count: int) -> list[tuple[str, ...]]:
        raise OSError("the disk is gone")

    table = PagedTable()
    async with Listening(table).run_test(size=(40, 11)) as pilot:
        table.show(COLUMNS, 1000, fetch)
        await settle(pilot)
        table.action_last()
        await settle(pilot)
    assert [str(error) for error in failures] == ["the disk is gone"]


async def test_another_source_replaces_rows_that_come_late() -> None:
    late = threading.Event()

    def old(start: int, count: int) -> list[tuple[str, ...]]:
        assert late.wait(10)
        return [("0", "old", "old")] * count

    table, source = PagedTable(), Source(5)
    async with Stage(table).run_test(size=(40, 8)) as pilot:
        table.show(COLUMNS, 5, old)
        await pilot.pause()
        table.show(COLUMNS, 5, source.fetch)
        late.set()
        await settle(pilot)
        assert not any("old" in line for line in drawn(table))
        assert "title 4" in drawn(table)[5]


async def test_no_rows() -> None:
    table = PagedTable()
    async with Stage(table).run_test(size=(40, 8)) as pilot:
        table.show(COLUMNS, 0, None, empty="No row was dropped.")
        await settle(pilot)
        assert drawn(table)[1].rstrip() == "No row was dropped."
        for move in (table.action_cursor_down, table.action_last, table.action_page_up):
            move()
        assert table.cursor == 0


@pytest.mark.parametrize("width", [8, 20, 37, 80, 200])
async def test_hostile_rows_break_no_border(width: int) -> None:
    def fetch(start: int, count: int) -> list[tuple[str, ...]]:
        return [(str(i), HOSTILE[i * 7 :], HOSTILE) for i in range(start, start + count)]

    table = PagedTable()
    async with Stage(table).run_test(size=(width, 10)) as pilot:
        table.show(COLUMNS, 50, fetch)
        await settle(pilot)
        for y in range(10):
            strip = table.render_line(y)
            assert strip.cell_length == cell_len(strip.text) == width
            assert strip.text.isprintable()
            assert "\u202e" not in strip.text and "\u200d" not in strip.text


async def test_a_narrow_table_keeps_its_last_column() -> None:
    columns = [Column("line", 7, right=True), Column("why", 20), Column("row")]
    table = PagedTable()
    async with Stage(table).run_test(size=(34, 4)) as pilot:
        table.show(columns, 1, lambda start, count: [("1", "completion again", "abcdefgh")])
        await settle(pilot)
        assert drawn(table)[1] == "›       1  completion…   abcdefgh "


def test_cells_are_kept_short() -> None:
    assert one_line(None) == ""
    assert one_line(12) == "12"
    assert len(one_line("x" * 10_000_000)) == 600
    assert one_line("a\nb\x1b[31m") == "a␤b␛[31m"


# --- text pane


def texts(lines: list[Any]) -> list[str]:
    return [strip.text for strip in lines]


def test_wrapping() -> None:
    lines = wrap([("one two ", PLAIN), ("three", BOLD), (" four\n\nfive", PLAIN)], 9)
    assert texts(lines) == ["one two ", "three ", "four", "", "five"]
    assert texts(wrap([("abcdefghij", PLAIN)], 4)) == ["abcd", "efgh", "ij"]
    assert texts(wrap([], 10)) == [""]
    assert texts(wrap([("漢字漢字", PLAIN)], 5)) == ["漢字", "漢字"]
    assert texts(wrap([("漢", PLAIN)], 1)) == ["漢"], "a character wider than the pane is not lost"


def test_wrapping_keeps_every_character() -> None:
    text = "The quick brown fox — 漢字 and 🦊 — jumps " * 40
    for width in (1, 2, 7, 40, 1000):
        assert "".join(texts(wrap([(text[:500], PLAIN), (text[500:], BOLD)], width))) == text


def test_hanging_indent() -> None:
    lines = hanging([("✓ ", PLAIN), ("disk  ", BOLD)], "plenty of room on it", PLAIN, 22)
    assert texts(lines) == ["✓ disk  plenty of room ", "        on it"]
    assert len(hanging([("a" * 30, BOLD)], "words", PLAIN, 20)) == 2


async def test_hostile_text_in_the_pane() -> None:
    pane = LinesView()
    async with Stage(pane).run_test(size=(50, 10)) as pilot:
        pane.show(HOSTILE)
        await settle(pilot)
        assert len(pane.text_lines) > 2000
        for y in range(10):
            strip = pane.render_line(y)
            assert strip.cell_length == cell_len(strip.text) == 50
            assert strip.text.isprintable()
        pane.action_last()
        assert pane.render_line(9).text.rstrip("┃ ").strip("A") == ""


async def test_the_pane_wraps_anew_when_its_width_changes() -> None:
    pane = LinesView()
    async with Stage(pane).run_test(size=(40, 10)) as pilot:
        pane.show("word " * 20)
        await settle(pilot)
        wide = len(pane.text_lines)
        await pilot.resize_terminal(20, 10)
        await settle(pilot)
        assert len(pane.text_lines) > wide


async def test_endless_text_is_cut_and_says_so() -> None:
    pane = LinesView()
    async with Stage(pane).run_test(size=(80, 10)) as pilot:
        pane.show("x" * 1_000_000)
        await settle(pilot)
        assert pane.text_lines[-1] == "… 600,000 more characters are not shown"


# --- tokens


def tokens(*texts: str, trained_from: int) -> list[dict[str, Any]]:
    return [
        {"id": number, "text": text, "trained": number >= trained_from}
        for number, text in enumerate(texts)
    ]


def test_tokens_say_what_is_trained_without_colour() -> None:
    made = tokens("<s>", "Title", ":", " lamp", "\n", "A", " lamp", ".", "</s>", trained_from=5)
    assert texts(layout_tokens(made, None, None, 40)) == [
        "5 tokens, not trained: only read",
        "<s>│Title│:│·lamp│⏎│",
        "",
        "4 tokens, trained: the loss counts them",
        "A│·lamp│.│</s>│",
    ]


def test_a_cut_is_told_with_what_it_costs() -> None:
    lines = texts(layout_tokens(tokens("a", "b", trained_from=1), 2, 1200, 60))
    told = "✂ cut here at max_length 2: 1,198 of 1,200 tokens are never seen"
    assert "".join(lines[lines.index("") + 4 :]) == told


def test_tokens_never_pass_the_edge() -> None:
    nasty = tokens(*[HOSTILE[i : i + 5] or "x" for i in range(0, 300, 3)], trained_from=50)
    for width in (10, 33, 80):
        for strip in layout_tokens(nasty, 10, 20, width):
            assert strip.cell_length == cell_len(strip.text)
            assert strip.cell_length <= width + 1, "a space may hang over; drawing crops it"
            assert strip.text.isprintable()


def test_shown_tokens_have_no_invisible_text() -> None:
    assert shown_token(" a b\n") == "·a·b⏎"
    assert shown_token("") == "∅"
    assert shown_token("\ufe0f") == "∅"
    assert shown_token("\x1b[0m") == "␛[0m"


async def test_the_token_pane() -> None:
    view = TokensView()
    async with Stage(view).run_test(size=(40, 6)) as pilot:
        view.show_tokens(tokens("a", "b", trained_from=1))
        await settle(pilot)
        assert drawn(view)[1].rstrip() == "a│"


# --- funnel


FUNNEL = [
    ("rows_read", 20_000, "lines that are not blank"),
    ("repaired.invalid_utf8", 8, "not UTF-8"),
    ("changed.html", 1060, "entities and tags"),
    ("dropped.malformed", 37, "not one JSON object"),
    ("dropped.not_text", 0, "prompt or completion not text"),
    ("dropped.brand_new_rule", 3, "made up"),
    ("rows_kept", 19_960, "clean rows"),
    ("train", 18_000, "rows"),
    ("validation", 980, "rows"),
    ("test", 980, "rows"),
    ("leakage_before", 12, "..."),
    ("leakage_after", 0, "..."),
]


def test_funnel_in_a_narrow_pane() -> None:
    assert texts(funnel_strips(FUNNEL, 19)) == [
        "read         20,000",
        "− malformed      37",
        "brand new rule    3",
        "kept         19,960",
        "  train      18,000",
        "  validation    980",
        "  test          980",
        "",
        "repaired          8",
        "  bad UTF-8       8",
        "",
        "changed",
        "  html        1,060",
        "",
        "leaks, naive     12",
        "leaks, ours       0",
    ]


def test_funnel_with_room_tells_everything() -> None:
    lines = texts(funnel_strips(FUNNEL, 90))
    assert any("not text" in line and " 0 " in line for line in lines), "zeros too"
    read = next(line for line in lines if line.startswith("read"))
    assert "━" * 20 in read and read.endswith("lines that are not blank")
    assert all(cell_len(line) <= 90 for line in lines)
    huge = [("rows_read", 10**12, "x" * 500)]
    assert all(cell_len(line) <= 50 for line in texts(funnel_strips(huge, 50)))
