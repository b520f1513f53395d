"""Reports: what they say of runs, and that nothing of the runs' texts does anything in them."""

import base64
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from engine import cli
from engine.charts.colours import LIGHT
from engine.data.prepare import prepare
from engine.export import blocks as b
from engine.export.answer_parts import MOST_PROMPTS
from engine.export.card import card_of
from engine.export.figures import curve_of
from engine.export.gathered import gather
from engine.export.html import html_of
from engine.export.markdown import markdown_of
from engine.export.report import report_of
from engine.history import queries
from engine.home import Home, open_home
from engine.jobs.journal import Journal
from engine.recipe import load_recipe
from engine.text import safe, safe_line
from tests.bench.homes import write_runs
from tests.engine import exporting
from tests.engine.fakes import runs as fakes

ONE = "20251122-000000-run"
ALL = (ONE, "20251122-000001-run", "20251122-000002-run")
CHARTS = ["loss", "validation-loss", "learning-rate", "tokens-per-second", "memory"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = exporting.hostile_home(tmp_path_factory.mktemp("reports"))
    exporting.opened(home).close()
    return home


def export(home: Home, *words: str) -> int:
    return cli.main(["runs", "export", *words, "--home", str(home.path)])


class Page(HTMLParser):
    """What a browser would find: tags, attributes, the text, style sheets."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["style"] and not self.style:
            self.style = data
        else:
            self.text += data

    def of(self, tag: str, name: str) -> list[str]:
        return [value for its, key, value in self.attributes if (its, key) == (tag, name)]


INERT = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "li", "div"),
    *("table", "thead", "tbody", "tr", "th", "td", "pre", "code", "details", "summary", "figure"),
    *("svg", "rect", "text", "path", "circle", "line"),
}


@pytest.mark.parametrize("refs", [(ONE,), ALL], ids=["one", "several"])
def test_html_does_nothing_and_loads_nothing(
    home: Home, tmp_path: Path, refs: tuple[str, ...]
) -> None:
    path = tmp_path / "report.html"
    assert export(home, *refs, "--to", str(path)) == 0
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert set(page.tags) <= INERT
    names = {name for _, name, _ in page.attributes}
    assert not names & {"src", "href", "xlink:href", "style", "srcdoc", "action", "data"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"url\(|@import|javascript:", page.style)
    [policy] = [v for v in page.of("meta", "content") if v.startswith("default-src")]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert [*tmp_path.iterdir()] == [path]


def test_html_shows_every_text_as_it_is(home: Home, tmp_path: Path) -> None:
    export(home, ONE, "--to", str(tmp_path / "report.html"))
    text = Page((tmp_path / "report.html").read_text()).text
    for note in exporting.HOSTILE:
        assert safe_line(note) in text
    answered = [one for one in exporting.HOSTILE if safe(exporting.LINES + one) in text]
    assert len(answered) == MOST_PROMPTS and all(safe(prompt) in text for prompt in answered)
    assert safe_line(exporting.TRAVERSAL) in text and exporting.SQL in text


def test_charts_are_whole_and_take_the_pages_colours(home: Home, tmp_path: Path) -> None:
    export(home, ONE, "--to", str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    found = re.findall("<svg xmlns.*?</svg>\n?(?=</figure>)", text, re.S)
    assert len(found) == len(CHARTS)
    for svg in found:
        ET.fromstring(svg)
        used = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) - {"none"}
        assert used and all(colour.startswith("var(--") for colour in used), used
    page = Page(text)
    for name in {name for svg in found for name in re.findall(r"var\((--\w+)\)", svg)}:
        assert page.style.count(f"{name}:") == 2  # for light and for dark
    assert "prefers-color-scheme: dark" in page.style and "@media print" in page.style


@pytest.mark.parametrize("refs", [(ONE,), ALL], ids=["one", "several"])
def test_markdown_has_only_our_own_marks(home: Home, tmp_path: Path, refs: tuple[str, ...]) -> None:
    path = tmp_path / "a report (1).md"
    assert export(home, *refs, "--to", str(path)) == 0
    tokens = parsed(path.read_text(encoding="utf-8"))
    kinds = {token.type for token in tokens}
    assert not kinds & {"link_open", "html_inline", "em_open", "s_open", "code_inline"}
    assert not kinds & {"ordered_list_open", "hr", "code_block"}
    blocks = [token.content.strip() for token in tokens if token.type == "html_block"]
    for block in blocks:
        assert re.fullmatch(r"<details>\n<summary>[\w ]+</summary>|</details>", block), block
    images = [str(token.attrs["src"]) for token in tokens if token.type == "image"]
    assert images == [f"a%20report%20%281%29_files/{name}.svg" for name in CHARTS]
    folder = tmp_path / "a report (1)_files"
    assert {*tmp_path.rglob("*")} == {path, folder, *(folder / f"{n}.svg" for n in CHARTS)}
    for name in CHARTS:
        svg = (folder / f"{name}.svg").read_text()
        ET.fromstring(svg)
        assert "var(" not in svg and f'fill="{LIGHT.back}"' in svg


def parsed(text: str) -> list[Token]:
    found: list[Token] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        found += [token, *(token.children or [])]
    return found


def test_markdown_tables_keep_their_columns_and_texts(home: Home, tmp_path: Path) -> None:
    export(home, ONE, "--to", str(tmp_path / "r.md"))
    text = (tmp_path / "r.md").read_text()
    shown = "\n".join(
        "".join(child.content for child in token.children or [])
        for token in parsed(text)
        if token.type == "inline"
    )
    for note in exporting.HOSTILE:
        assert safe_line(note).strip() in shown, note
    fences = [token.content for token in parsed(text) if token.type == "fence"]
    answered = [one for one in exporting.HOSTILE if f"{safe(exporting.LINES + one)}\n" in fences]
    assert len(answered) == MOST_PROMPTS


def test_a_folder_of_charts_that_is_there_is_left_alone(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "r_files"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    assert export(home, ONE, "--to", str(tmp_path / "r.md")) == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"r_files", "mine.txt"}
    assert export(home, ONE, "--to", str(tmp_path / "r.md"), "--force") == 0
    assert (folder / "mine.txt").read_text() == "mine" and (folder / "loss.svg").exists()
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert export(home, ONE, "--to", str(tmp_path / "r.md"), "--force") == 1
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_several_runs_mark_the_best_and_show_only_what_differs(home: Home, tmp_path: Path) -> None:
    export(home, ALL[0], ALL[1], "--to", str(tmp_path / "r.md"))
    text = (tmp_path / "r.md").read_text()
    metrics, differs = (text.partition(f"## {title}")[2].partition("\n## ")[0]
                        for title in ("Metrics", "What differs"))  # fmt: skip
    [best] = [line for line in metrics.splitlines() if line.startswith("| best val")]
    assert re.fullmatch(r"\| best val[\w. ]+ \| 2\.\d{4} \| \*\*2\.\d{4}\*\* ★ \|", best)
    assert "| train.learning_rate | 0.0001 | 0.0002 |" in differs
    assert "lora.r" not in differs and "torch" not in differs


def test_losses_of_other_rows_are_not_called_the_best(home: Home, tmp_path: Path) -> None:
    one = fakes.write_run(home, "other-rows", 5)
    try:
        export(home, ALL[0], one.id, "--to", str(tmp_path / "r.md"))
    finally:
        shutil.rmtree(one.path)
    metrics = (tmp_path / "r.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    assert "ot judged on the same" in metrics
    assert not [line for line in metrics.splitlines() if "loss" in line and "★" in line]


def test_the_data_report_tells_leakage(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    recipe = load_recipe("demo", ["data.catalogue_rows=400"])
    dataset = prepare(home, recipe)
    folder = fakes.write_run(home, "r", 3, end=None)
    journal = Journal(folder.journal)
    told = {"max_steps": 9, "dataset": dataset.name, "fingerprint": dataset.fingerprint}
    journal.append("state", state="running", resume_step=0, **told)
    journal.close()
    exporting.opened(home).close()
    assert export(home, "r", "--to", str(tmp_path / "r.md")) == 0
    text = (tmp_path / "r.md").read_text()
    report = dataset.report
    held_out = report.validation + report.test
    assert f"Leakage: {report.leakage_after} of {held_out} validation and test rows" in text
    assert f"| rows read | {report.rows_read} |" in text
    shutil.rmtree(dataset.path)
    assert export(home, "r", "--to", str(tmp_path / "r2.md")) == 0
    assert (
        "its cleaning report, leakage included, cannot be told" in (tmp_path / "r2.md").read_text()
    )


def test_a_run_of_which_nothing_is_known_has_a_report(tmp_path: Path) -> None:
    home = fakes.make_home(tmp_path / "home")
    folder = fakes.write_run(home, "empty", 0, end=None)
    folder.journal.write_text("")
    folder.recipe_file.unlink()
    for name in ("r.html", "r.md"):
        assert export(home, "empty", "--to", str(tmp_path / name)) == 0
        assert "The recipe can no longer be read." in (tmp_path / name).read_text()
    assert not (tmp_path / "r_files").exists()


def test_too_many_runs_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home = fakes.make_home(tmp_path / "home")
    write_runs(home, 25, 2)
    ids = [f"20251122-{number:06d}-run" for number in range(25)]
    assert export(home, *ids, "--to", str(tmp_path / "r.html")) == 1
    assert "a report has at most 24" in capfd.readouterr().err


def test_printed_reports_are_whole(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(home, ONE, "--to", "-", "--format", "md") == 0
    text = capfd.readouterr().out
    assert text.startswith("# ") and "_files/" not in text and "\x1b" not in text
    assert "## Curves" not in text and "## Samples" in text


def test_a_fence_is_longer_than_what_it_holds() -> None:
    text = markdown_of([b.Code("````\nx\n````", "python")], None)
    assert text == "`````python\n````\nx\n````\n`````\n"


def test_a_page_alone() -> None:
    page = Page(
        html_of("<t>", [b.Heading(2, "<a>"), b.Items(["<b>"]), b.Words("&amp;", quiet=True)])
    )
    assert page.text.split() == ["<t>", "<a>", "<b>", "&amp;"]


GARBAGE = ("x", -1, 1e308, float("nan"), float("-inf"), True, 2**70, "NaN", "", b"\xff", 0)


@pytest.mark.parametrize("value", GARBAGE, ids=repr)
def test_whatever_a_journal_says_there_is_a_report(home: Home, value: object) -> None:
    """Columns of runs.db hold what a journal had, of any type."""
    store = exporting.opened(home)
    row = queries.get_run(store, ONE)
    own = ("id", "name", "state", "attempt")
    changed = {field.name: value for field in fields(row) if field.name not in own}
    garbled = replace(row, **changed)  # type: ignore[arg-type]
    for runs in ([garbled], [garbled, row]):
        text = html_of("t", report_of(store, runs, 0.0))
        assert "<script>alert" not in text
    assert ModelCard(card_of(gather(store, garbled), curve_of(store, garbled)).text).data.tags
    store.close()


def test_what_is_no_evaluation_is_left_out(home: Home) -> None:
    store = exporting.opened(home)
    sound = exporting.evaluation(ONE, home)
    broken = (
        {"columns": "x"}, {"metrics": []}, {"differences": 1}, {"rows": "many"}, {"columns": []},
        {"metrics": {ONE: {"bleu": 1.0, "bleu_ci": [1.0]}}}, {"failed": [1]}, {"columns": [1]},
    )  # fmt: skip
    for number, change in enumerate(broken):
        document = json.dumps(sound | change)
        with store.transaction() as connection:
            values = (f"broken-{number}", "20251122-000001-run", 1.0, "test", 1, document)
            connection.execute("INSERT INTO evaluated VALUES (?, ?, ?, ?, ?, ?)", values)
    row = queries.get_run(store, "20251122-000001-run")
    assert not gather(store, row).answers
    assert len(gather(store, queries.get_run(store, ONE)).answers) == 1
    with store.transaction() as connection:
        connection.execute("DELETE FROM evaluated WHERE id LIKE 'broken-%'")
    store.close()
