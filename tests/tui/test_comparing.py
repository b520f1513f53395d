"""The pages of a comparison, and a sweep by its parameters: layouts, keys, hostile names."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine.history import queries
from engine.history.ingest import ingest_all
from engine.history.row import RunRow
from engine.history.store import open_store
from engine.history.votes import Side, add_vote
from engine.home import Home
from tests.compared import write, write_grid
from tests.tui.conftest import HOSTILE, SIZES, FrozenFeed, settle
from tests.tui.test_hostile import check
from tests.tui.test_runs import texts
from tests.tui.test_sweeps import with_keys
from tui.app import WorkbenchApp
from tui.feed import Snapshot
from tui.rundetail import DetailReader
from tui.widgets.chart import Chart
from tui.widgets.comparepage import VIEWS, ComparePage
from tui.widgets.lines import LinesView
from tui.widgets.rows import Rows
from tui.widgets.sweeppage import SweepPage

MakeApp = Callable[..., WorkbenchApp]
NEXT, BEFORE = "right_square_bracket", "left_square_bracket"


def snapshot_of_home(home: Home) -> Snapshot:
    """What the feed would say, with the details of every run."""
    store = open_store(home)
    ingest_all(home, store, live=False)
    rows = queries.list_runs(store)
    reader = DetailReader(home, queries)
    snapshot = Snapshot(rows, {row.id: reader.read(store, row) for row in rows}, True)
    store.close()
    return snapshot


@pytest.fixture
def grid(home: Home) -> Home:
    """A sweep of nine runs, two repetitions of its best with other seeds, a run of other data, and
    votes between the best two."""
    ids = write_grid(home)
    best, other = ids[8, 3e-3], ids[16, 3e-3]
    for seed, loss in ((1, 2.012), (2, 1.997)):
        settings = {"lora.r": 8, "train.learning_rate": 3e-3, "train.seed": seed}
        write(home, f"seed-{seed}", settings, loss=loss, number=seed, samples=[("Oak bench", "A.")])
    versions = {"python": "3.12.1", "torch": "2.10.0"}
    write(
        *(home, "other-data", {"data.source": "shop.jsonl", "lora.r": 8}),
        loss=1.2, number=3, fingerprint="0123456789abcdef", facts={"versions": versions},
    )  # fmt: skip
    write(home, "no-recipe", loss=2.2, number=4, toml="")
    sides = [Side(f"{id}@20", name, f"by {name}") for id, name in ((best, "r8"), (other, "r16"))]
    for verdict, count in (("left", 7), ("right", 2), ("tie", 1)):
        for _ in range(count):
            add_vote(
                home, prompt="Oak bench", prompt_set="", left=sides[0], right=sides[1],
                verdict=verdict,
            )  # fmt: skip
    return home


@pytest.fixture
def app_of(frozen_app: MakeApp) -> Callable[[Home], WorkbenchApp]:
    return lambda home: frozen_app(feed=FrozenFeed(snapshot_of_home(home)), mode="runs")


def shown(app: WorkbenchApp) -> str:
    """The text of the comparison's page."""
    page = app.screen.query_one(ComparePage)
    return "\n".join(app.screen.query_one(f"#compare-{VIEWS[page.view]}", LinesView).text_lines)


SIX = ("enter", "c")
"""From the sweep's line: its page, and the best six compared."""
TWO = ("space", "j", "space", *["j"] * 7, "space", "c")
"""From the sweep's line: open it, mark its first and its last run, compare them."""
LAYOUTS = {
    "curves": SIX,
    "metrics": (*SIX, NEXT),
    "differences": (*SIX, NEXT, NEXT),
    "samples": (*SIX, NEXT, NEXT, NEXT),
    "votes": (*SIX, BEFORE),
    "why": (*TWO, NEXT, NEXT),
    "values": ("enter", NEXT, NEXT),
    "chart": ("enter", BEFORE, "P"),
}


WIDE = ("metrics", "differences", "why", "chart")
"""Layouts that are another one where there is room."""


@pytest.mark.parametrize(
    ("layout", "size"),
    [*((one, SIZES[0]) for one in LAYOUTS), *((one, SIZES[1]) for one in WIDE)],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}x{value[1]}",
)
def test_layout(
    layout: str,
    size: tuple[int, int],
    grid: Home,
    app_of: Callable[[Home], WorkbenchApp],
    snap_compare: Any,
) -> None:
    assert snap_compare(app_of(grid), terminal_size=size, run_before=with_keys(*LAYOUTS[layout]))


def on_page(app: WorkbenchApp) -> str:
    return VIEWS[app.screen.query_one(ComparePage).view]


async def test_brackets_turn_the_pages_and_esc_goes_back_where_one_came_from(
    grid: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    app = app_of(grid)
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys(*SIX)(pilot)
        seen = []
        for _ in VIEWS:
            seen.append(on_page(app))
            await with_keys(NEXT)(pilot)
        assert tuple(seen) == VIEWS and on_page(app) == "curves"
        await with_keys(BEFORE)(pilot)
        assert on_page(app) == "votes"
        screen: Any = app.screen
        assert not screen.check_action("x_axis", ()), "no charts on this page"
        await with_keys(NEXT)(pilot)
        assert screen.check_action("x_axis", ())
        assert isinstance(app.screen.focused, Chart)
        await with_keys(NEXT)(pilot)
        assert isinstance(app.screen.focused, LinesView), "j and k scroll it"
        await with_keys("escape")(pilot)
        assert app.screen.query_one(SweepPage).display
        await with_keys("c")(pilot)
        assert on_page(app) == "curves", "another comparison begins with its curves"


async def test_the_pages_say_what_the_command_says(
    grid: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    app = app_of(grid)
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys(*SIX, NEXT)(pilot)
        [line] = [line for line in shown(app).splitlines() if line.startswith("best val. loss")]
        assert line.split()[3:] == ["2.0000*", "2.0100", "2.0200", "2.1000", "2.1100", "2.1200"]
        assert "the same in all: state finished" in shown(app)
        await with_keys(NEXT)(pilot)
        told = [line.split() for line in shown(app).splitlines()]
        assert ["lora.r", "8", "16", "4", "8", "16", "4"] in told
        assert not any(words and words[0].startswith("format.") for words in told)
        await with_keys(NEXT)(pilot)
        assert "> Oak bench" in shown(app) and "a step 20: A bench at rank 8." in shown(app)
        assert "b step 20: A bench at rank 16." in shown(app)
        await with_keys(NEXT)(pilot)
        assert "a 7 : 2 b" in shown(app) or "b 2 : 7 a" in shown(app)


async def test_two_runs_are_told_apart_by_rank_from_the_first_to_the_second(
    grid: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    app = app_of(grid)
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys(*TWO, NEXT, NEXT)(pilot)
        text = shown(app)
        assert "A  tune-r4-lr0.001" in text and "B  tune-r16-lr0.006" in text
        assert "B is better than A: its best validation loss is 0.3100 lower" in text
        assert "Larger than the spread of 3 runs on the same rows" in text
        assert text.index("1 train.learning_rate: 0.001 -> 0.006") < text.index("2 lora.r: 4 -> 16")
        assert "3 other pairs differ in this alone: lower in 3 of 3" in text


async def test_other_data_and_a_lost_recipe_are_said_on_every_page_that_needs_it(
    grid: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    app = app_of(grid)
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys("home", "j", "space", "space", "space", "c", NEXT)(pilot)
        assert len(app.screen.query_one(ComparePage).runs) == 3
        assert "! not judged on the same validation rows" in shown(app)
        [line] = [line for line in shown(app).splitlines() if line.startswith("best val. loss")]
        assert "*" not in line
        await with_keys(NEXT)(pilot)
        assert "no-recipe: its recipe is not compared" in shown(app)
        assert "data.source" in shown(app) and "versions.torch" in shown(app)


async def test_a_live_run_moves_the_mark_and_a_deleted_one_leaves(
    grid: Home, frozen_app: MakeApp
) -> None:
    snapshot = snapshot_of_home(grid)
    feed = FrozenFeed(snapshot)
    app = frozen_app(feed=feed, mode="runs")

    def losses() -> list[str]:
        [line] = [line for line in shown(app).splitlines() if line.startswith("best val. loss")]
        return line.split()[3:]

    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys(*SIX, NEXT)(pilot)
        ids = list(app.screen.query_one(ComparePage).runs)
        assert losses()[0] == "2.0000*"

        def with_loss(row: RunRow) -> RunRow:
            return replace(row, best_eval_loss=1.5) if row.id == ids[3] else row

        feed.say(replace(snapshot, rows=[with_loss(row) for row in snapshot.rows]))
        await settle(pilot)
        assert losses()[0] == "2.0000" and losses()[3] == "1.5000*"
        feed.say(replace(snapshot, rows=[row for row in snapshot.rows if row.id != ids[0]]))
        await settle(pilot)
        assert losses()[:2] == ["2.0100*", "2.0200"]
        feed.say(Snapshot(loaded=True))
        await settle(pilot)
        assert "holds no run yet" in texts(app)


async def test_votes_that_were_given_meanwhile_are_there_when_the_page_is_turned_to(
    grid: Home, frozen_app: MakeApp
) -> None:
    app = frozen_app(feed=FrozenFeed(snapshot_of_home(grid)), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys(*TWO, BEFORE)(pilot)
        assert "no votes between these runs" in shown(app)
        a, b = app.screen.query_one(ComparePage).runs
        sides = [Side(id, id, "text") for id in (a, b)]
        add_vote(grid, prompt="p", prompt_set="", left=sides[0], right=sides[1], verdict="right")
        snapshot_of_home(grid)  # as the feed does
        await with_keys(NEXT, BEFORE)(pilot)
        assert "a 0 : 1 b" in shown(app)


async def test_a_history_that_cannot_be_read_is_said_and_tried_again_at_the_next_turn(
    grid: Home, frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = frozen_app(feed=FrozenFeed(snapshot_of_home(grid)), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys(*SIX)(pilot)

        def fail(*args: Any) -> Any:
            raise OSError(f"no {HOSTILE}")

        with monkeypatch.context() as broken:
            broken.setattr("tui.widgets.comparepage.read", fail)
            await with_keys(NEXT, NEXT)(pilot)
            assert "The history cannot be read: no EVIL" in shown(app)
            check(app)
        await with_keys(NEXT, BEFORE)(pilot)
        assert "lora.r" in shown(app)


@pytest.mark.parametrize("size", [(60, 20), (120, 40)], ids=str)
async def test_hostile_names_and_answers_on_every_page(
    size: tuple[int, int], home: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    nasty = HOSTILE[:3000].replace("\ud800", "")
    values = {"lora.r": 4, f"x.{nasty}": nasty}
    for number in (1, 2):
        settings = {"lora.r": 4 * number, "format.instruction": nasty * number}
        write(
            *(home, f"{nasty}{number}", settings),
            number=number, loss=2.0 + number, samples=[(nasty, nasty)], fingerprint=f"f{nasty}",
            facts={"gpu": nasty * number, "versions": {nasty: str(number)}},
            sweep={"id": nasty, "values": {**values, "lora.r": 4 * number}},
        )  # fmt: skip
    a, b = (row.id for row in snapshot_of_home(home).rows)
    sides = [Side(f"{id}@{nasty}", nasty, nasty) for id in (a, b)]
    add_vote(home, prompt=nasty, prompt_set="", left=sides[0], right=sides[1], verdict="left")
    app = app_of(home)
    async with app.run_test(size=size) as pilot:
        await with_keys("enter")(pilot)
        for _ in range(4):
            assert "EVIL" in check(app)
            await with_keys(NEXT, "P", "m")(pilot)
        await with_keys("c")(pilot)
        for _ in VIEWS:
            assert "EVIL" in check(app)
            await with_keys("G", "g")(pilot)
            check(app)
            await with_keys(NEXT)(pilot)


# --- a sweep by its parameters


def chart(app: WorkbenchApp) -> tuple[str, list[str]]:
    pane = app.screen.query_one("#parameters", LinesView)
    return str(pane.border_title), pane.text_lines


async def test_keys_choose_parameter_and_metric_of_the_sweep_s_chart(
    grid: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    app = app_of(grid)
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("enter")(pilot)
        screen: Any = app.screen
        assert not screen.check_action("parameter", ()), "curves have no parameter"
        await with_keys(NEXT, NEXT)(pilot)
        assert screen.check_action("metric", ()) and not screen.check_action("parameter", ())
        await with_keys(NEXT)(pilot)
        title, lines = chart(app)
        assert title == "best val. loss by lora.r" and lines[-1].split() == ["4", "8", "16"]
        await with_keys("P")(pilot)
        title, lines = chart(app)
        assert title == "best val. loss by train.learning_rate"
        assert lines[-1].split() == ["0.001", "0.003", "0.006"]
        await with_keys("m")(pilot)
        assert chart(app)[0] == "train loss by train.learning_rate"
        await with_keys("m")(pilot)
        assert chart(app)[0] == "tokens/s by train.learning_rate"
        await with_keys("P")(pilot)
        assert chart(app)[0] == "tokens/s by lora.r"
        await with_keys("escape", "enter")(pilot)
        assert chart(app)[0] == "tokens/s by lora.r", "the same sweep as it was left"


async def test_the_chart_s_letters_are_the_table_s(
    grid: Home, app_of: Callable[[Home], WorkbenchApp]
) -> None:
    app = app_of(grid)
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys("enter", BEFORE, "P")(pilot)
        table = app.screen.query_one("#points", Rows)
        cells = [list(table._row(index)) for index in range(table.count)]
        rates = {str(cell[0]).strip(): str(cell[2]) for cell in cells}
        assert list(rates) == list("abcdefghi")
        lines = chart(app)[1]
        third = 109 // 3
        for letter, rate in rates.items():
            places = [line.index(letter, 11) for line in lines[:-2] if letter in line[11:]]
            assert len(places) == 1
            assert (places[0] - 11) // third == ["1e-3", "3e-3", "6e-3"].index(rate), letter


async def test_without_box_characters_the_chart_is_ascii(
    grid: Home, app_of: Callable[[Home], WorkbenchApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBENCH_CHART", "ascii")
    app = app_of(grid)
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("enter", BEFORE)(pilot)
        text = "".join(chart(app)[1])
        assert text.isascii() and "|" in text and "+--" in text


async def test_a_thousand_runs_of_a_sweep_and_one_alone(frozen_app: MakeApp) -> None:
    def rows(count: int, sweep: str) -> Iterator[RunRow]:
        for n in range(count):
            values = json.dumps({"train.seed": n, "lora.r": n % 7})
            yield RunRow(
                id=f"{sweep}-{n}", name=f"{sweep}-{n}", state="finished", sweep=sweep,
                sweep_values=values, best_eval_loss=2 + n % 13 / 10, fingerprint="f",
            )  # fmt: skip

    feed = FrozenFeed(Snapshot([*rows(1, "one"), *rows(1000, "many")], {}, True))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys("enter", BEFORE)(pilot)
        assert chart(app)[0] == "best val. loss by train.seed"
        await with_keys(BEFORE, "escape", "j", "enter")(pilot)
        assert chart(app)[1][1].startswith("train.seed")
        assert len(chart(app)[1]) > 1000, "a line a value; it scrolls"
        await with_keys(NEXT, "P")(pilot)
        title, lines = chart(app)
        assert title == "best val. loss by lora.r" and max(map(len, lines)) <= 117
        assert lines[-1].split() == ["0", "1", "2", "3", "4", "5", "6"]
