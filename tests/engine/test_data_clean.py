"""The cleaning rules: each defect by hand, and what holds for any text."""

import string
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.clean import Cleaner, Job
from engine.data.repeats import Repeats
from engine.data.rows import RawRow, Row
from engine.data.rules import Normaliser, title_key
from engine.data.rules.text import html
from engine.recipe import CleanSection
from engine.sections.data import DEFAULT_RULES, DuplicatesRule, UnicodeRule

TEXT = ("html", "unicode", "control", "whitespace")


def row(line: int, prompt: str, completion: str) -> RawRow:
    return RawRow(line, Row(prompt, completion), None, None, b"")


class Whole:
    """All rules over rows that come one by one, as a preparation applies them."""

    def __init__(self, clean: CleanSection) -> None:
        self.cleaner = Cleaner(Job(clean, "pair", ""))
        self.repeats = Repeats(clean)
        self.dropped = dict.fromkeys(self.cleaner.reasons, 0)
        self.changed = dict.fromkeys((name for name in clean.rules if name in TEXT), 0)
        self.kept: list[Row] = []

    def decide(self, raw: RawRow) -> tuple[str | None, Row | None, str]:
        reason, made, evidence, changed = self.cleaner.decide(raw)
        for name in changed:
            self.changed[name] += 1
        if reason is None:
            assert made is not None
            for repeat in self.repeats.sift([raw.line], self.cleaner.marks([made])):
                _, reason, evidence = repeat
        if reason is None:
            self.kept.append(made)
        else:
            self.dropped[reason] += 1
        return reason, made, evidence


@pytest.mark.parametrize(
    ("dirty", "clean", "rules"),
    [
        ("plain text", "plain text", set()),
        ("Tom &amp; Jerry", "Tom & Jerry", {"html"}),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold", {"html"}),
        ("&amp;amp;lt;p&amp;amp;gt;twice", "twice", {"html"}),
        ("<p>One.</p><p>Two.</p>", "One. Two.", {"html"}),
        ("One.<br />Two.", "One. Two.", {"html"}),
        ("One. <br />Two.", "One. Two.", {"html"}),
        ("wat<b>er</b>proof", "waterproof", {"html"}),
        ('<a href="x?a=1&amp;b=2">go</a><!-- end -->', "go", {"html"}),
        ("<p>&nbsp;</p>", "", {"html", "whitespace"}),
        ("<p>end</p>\n", "end", {"html", "whitespace"}),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3", set()),
        ("a <3 b", "a <3 b", set()),
        ("cafe\u0301", "café", {"unicode"}),
        ("a\x00b\x1b[31mc", "ab[31mc", {"control"}),
        ("zero\u200bwidth\ufeff", "zerowidth", {"control"}),
        ("right\u202eto\u2066left", "righttoleft", {"control"}),
        ("a\u0085b\u00a0c\u2028d\u3000e", "a b c d e", {"whitespace"}),
        ("  two  spaces ", "two spaces", {"whitespace"}),
        ("tab\tline\r\nend", "tab line end", {"whitespace"}),
        ("&am\u200bp;", "&", {"control", "html"}),
        ("日本語 العربية 👩", "日本語 العربية 👩", set()),
    ],
)
def test_each_rule(dirty: str, clean: str, rules: set[str]) -> None:
    changed: set[str] = set()
    assert Normaliser(CleanSection()).apply(dirty, changed) == clean
    assert changed == rules


def test_rules_that_are_off_change_and_count_nothing() -> None:
    whole = Whole(CleanSection(rules=["empty", "duplicates"]))
    _, kept, _ = whole.decide(row(1, " <b>a\x00 ", "cafe\u0301  &amp;"))
    assert kept == Row(" <b>a\x00 ", "cafe\u0301  &amp;")
    assert whole.changed == {}
    # What is only white space is empty all the same.
    assert whole.decide(row(2, " \u2028 ", "b"))[0] == "empty_prompt"


def test_nfkc_and_lowercase() -> None:
    rules = ["html", "unicode", "control", "whitespace", "lowercase"]
    normaliser = Normaliser(CleanSection(rules=rules, unicode=UnicodeRule(form="NFKC")))
    changed: set[str] = set()
    assert normaliser.apply("Ｆｕｌｌ ＜b＞ Ⅷ", changed) == "full viii"
    assert changed == {"html", "unicode", "lowercase", "whitespace"}


def test_drops_in_order_with_evidence() -> None:
    whole = Whole(CleanSection())
    assert whole.decide(row(1, "A", "text"))[0] is None
    assert whole.decide(RawRow(2, None, "malformed", None, b"x"))[0] == "malformed"
    assert whole.decide(RawRow(3, None, "missing_field", "nan", b""))[0] == "missing_field"
    assert whole.decide(row(4, "<br>", ""))[0] == "empty_prompt"
    assert whole.decide(row(5, "B", "\u200b"))[0] == "empty_completion"
    reason, _, evidence = whole.decide(row(6, "C", "<i>text</i>"))
    assert (reason, evidence) == ("duplicate_completion", "repeats line 1")
    assert whole.decide(row(7, "A", "other"))[0] is None
    assert whole.dropped == {
        "malformed": 1,
        "missing_field": 1,
        "not_text": 0,
        "empty_prompt": 1,
        "empty_completion": 1,
        "duplicate_completion": 1,
    }
    assert whole.changed == {"html": 2, "unicode": 0, "control": 1, "whitespace": 0}
    assert len(whole.kept) == 2


@pytest.mark.parametrize(
    ("what", "kept"), [("completion", 2), ("prompt", 2), ("both", 3), ("none", 4)]
)
def test_what_makes_a_duplicate(what, kept: int) -> None:
    rules = [name for name in DEFAULT_RULES if what != "none" or name != "duplicates"]
    by = DuplicatesRule(by="both" if what == "none" else what)
    whole = Whole(CleanSection(rules=rules, duplicates=by))
    rows = [("A", "one"), ("A", "two"), ("B", "one"), ("A", "one")]
    for line, (prompt, completion) in enumerate(rows, 1):
        whole.decide(row(line, prompt, completion))
    assert len(whole.kept) == kept
    assert sum(whole.dropped.values()) == 4 - kept


def test_an_empty_row_stays_when_it_may() -> None:
    assert Whole(CleanSection(rules=["html"])).decide(row(1, "", ""))[0] is None


@pytest.mark.parametrize(
    ("start", "end", "times"),
    [
        ("&", "amp;", 100_000),
        ("&#38;", "#38;", 100_000),
        ("", "<b", 100_000),
        ("<p" * 50_000, ">", 50_000),
        ("", "<", 200_000),
        ("", "<!--", 50_000),
        ("", "&lt;", 100_000),
        ("", "\u0301", 50_000),
    ],
    ids=range(8),
)
def test_hostile_markup_takes_no_time(start: str, end: str, times: int) -> None:
    text = start + end * times
    # Level by level, the first one alone would take minutes.
    began = time.process_time()
    clean = Normaliser(CleanSection()).apply(text, set())
    assert time.process_time() - began < 5
    assert Normaliser(CleanSection()).apply(clean, set()) == clean


def test_html_repeats_until_nothing_is_left() -> None:
    assert html("<<b>p>x</<b>p>") == "x"


def test_title_key() -> None:
    assert title_key("  The  BANJO ") == title_key("the banjo")
    assert title_key("Straße\u00a0X") == title_key("STRASSE x")
    assert title_key("Café") == title_key("CAFE\u0301")
    assert title_key("Banjo 1") != title_key("Banjo 2")


# Text with much of what the rules look for.
markup = ["&amp;", "&", "amp;", "lt;", "#38;", "&#x3c;", "<b>", "<", ">", "</p>", "<!--", "-->"]
letters = ["e\u0301", "\u00e9", "\uff1c", "\uff1e", "\uff06", "\u0130", "\u00df", "\ufdfa"]
pieces = st.sampled_from([*markup, *letters, " ", "\u00a0", "\u200b", "\n", "\x00"])
dirty_text = st.lists(pieces | st.text(string.ascii_letters, max_size=3), max_size=12).map("".join)
any_text = dirty_text | st.text(max_size=30)
any_clean = st.builds(
    lambda rules, form: CleanSection(rules=rules, unicode=UnicodeRule(form=form)),
    st.lists(st.sampled_from([*TEXT, "lowercase"]), unique=True),
    st.sampled_from(["NFC", "NFKC"]),
)


@settings(max_examples=500, deadline=None)
@given(any_text, any_clean)
def test_cleaning_is_idempotent(text: str, clean: CleanSection) -> None:
    normaliser = Normaliser(clean)
    once = normaliser.apply(text, set())
    changed: set[str] = set()
    assert normaliser.apply(once, changed) == once
    assert not changed


@settings(max_examples=500, deadline=None)
@given(st.text(string.printable + "<&é", max_size=20))
def test_the_quick_yes_agrees_with_the_rules(text: str) -> None:
    class Thorough(Normaliser):
        def is_clean(self, text: str) -> bool:
            return False

    changed: set[str] = set()
    thorough = Thorough(CleanSection()).apply(text, changed)
    assert Normaliser(CleanSection()).apply(text, set()) == thorough
    if Normaliser(CleanSection()).is_clean(text):
        assert not changed


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(any_text, any_text), max_size=12).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations(rows))
    )
)
def test_order_does_not_decide_which_descriptions_survive(rows) -> None:
    survivors = []
    for order in rows:
        whole = Whole(CleanSection())
        for n, texts in enumerate(order, 1):
            whole.decide(row(n, *texts))
        kept = [made.completion for made in whole.kept]
        assert len(kept) == len(set(kept))
        assert len(order) == len(kept) + sum(whole.dropped.values())
        survivors.append(set(kept))
    assert survivors[0] == survivors[1]


def test_the_rules_live_without_pyarrow() -> None:
    import subprocess
    import sys

    code = (
        "import sys, engine.data.dataset, engine.data.report, engine.data.sources, "
        "engine.data.prepare, engine.commands.data\n"
        "print([m for m in ('pyarrow', 'numpy', 'torch', 'datasets', 'tokenizers', 'jinja2') "
        "if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
