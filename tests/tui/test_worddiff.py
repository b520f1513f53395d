"""Marks of what changed, the texts before and after as a layout, and the histogram; as text."""

import random
import time

import pytest
from rich.cells import cell_len

from engine.data.rows import Message, Row
from engine.data.trial import TriedRow
from tests.tui.wares import NASTY
from tui.widgets.compare import SIDE_BY_SIDE, compare, layout_compared
from tui.widgets.lengths import histogram_strips, lengths_strips
from tui.worddiff import MOST_WORDS, marked


def both(before: str, after: str) -> tuple[str, str]:
    seen = marked(before, after)
    return "".join(text for text, _ in seen.before), "".join(text for text, _ in seen.after)


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        ("an old lamp", "a new lamp", "[-an-] [-old-] lamp", "{+a+} {+new+} lamp"),
        ("a <b>x</b>", "a x", "a [-<b>-]x[-</b>-]", "a x"),
        ("a  b\n", "a b", "a[-··-]b[-⏎-]", "a{+·+}b"),
        ("x\u200by", "xy", "[-x⟨U+200B⟩y-]", "{+xy+}"),
        ("cafe\u0301", "café", "[-cafe⟨U+0301⟩-]", "{+café+}"),
        ("a\tb\x1b[1m", "a b[1m", "a[-→-]b[-␛-][1m", "a{+·+}b[1m"),
        ("", "all new", "", "{+all·new+}"),
    ],
)
def test_changes_are_seen_without_colour(before: str, after: str, old: str, new: str) -> None:
    assert both(before, after) == (old, new)


def test_what_is_alike_is_shortened_but_not_what_changed() -> None:
    text = "word " * 2_000
    old, new = both(f"{text}old {text}", f"{text}new {text}")
    assert "[-old-]" in old and "{+new+}" in new and len(old) < 500
    assert old.count("characters alike") == 2
    assert marked(text, text).same


def test_a_hundred_thousand_characters_are_compared_in_time() -> None:
    random.seed(7)
    words = [random.choice(["oak", "lamp", "pan", "of", "the", " ", "é"]) for _ in range(50_000)]
    other = [word if random.random() < 0.7 else "steel" for word in words]
    began = time.monotonic()
    old, new = both(" ".join(words), " ".join(other))
    assert time.monotonic() - began < 2  # some 0.1 s where it was written
    assert len(old) < 30_000 and len(new) < 30_000
    assert "more characters" in old
    few, most = " ".join(words[:MOST_WORDS]), " ".join(other[:MOST_WORDS])
    began = time.monotonic()
    both(few, most)
    assert time.monotonic() - began < 2


def tried(before: Row | None, after: Row | None, **fields: object) -> TriedRow:
    given = {"reason": None, "evidence": "", "changed": (), **fields}
    return TriedRow(7, b"{raw}", before, after, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [20, 50, SIDE_BY_SIDE, 116])
def test_a_layout_never_passes_the_edge(width: int) -> None:
    rows = [
        tried(Row(NASTY, NASTY * 3), Row("prompt", "after"), changed=("html",)),
        tried(Row("a", "光" * 300), Row("a", "光 " * 150)),
        tried(None, None, reason="malformed"),
        tried(Row("a", "b"), Row("a", "b"), reason="echo", evidence=NASTY),
    ]
    for row in rows:
        for strip in layout_compared(compare(row), width):
            assert strip.cell_length == cell_len(strip.text) <= width + 1
            assert strip.text.isprintable()


def test_every_turn_of_a_conversation_is_compared() -> None:
    turns = (Message("user", "a <i>b</i>"), Message("assistant", "c"))
    clean = (Message("user", "a b"), Message("assistant", "c"))
    seen = compare(tried(Row("", "", messages=turns), Row("", "", messages=clean)))
    assert [(name, text.same) for name, text in seen.texts] == [
        ("user", False),
        ("assistant", True),
    ]


# --- lengths

SEEN = {
    "split": "train",
    "rows": 100,
    "rows_in_split": 900,
    "max_length": 31,
    "quantiles": {"50%": 20, "max": 50},
    "mean": 22.5,
    "histogram": {
        "edges": [8.0 * place for place in range(1, 8)],
        "counts": [0, 40, 30, 10, 16, 4, 0],
    },
    "truncated": 20,
    "answers_cut": 19,
    "answers_lost": 0,
    "untrained": 0,
    "sentence": "at max_length 31, 20 % of answers are cut",
}


def test_a_histogram_says_where_it_is_cut() -> None:
    lines = [strip.text for strip in histogram_strips(SEEN, 60)]
    assert [line.split()[0] for line in lines] == [
        "tokens", "8-15", "16-23", "24-31", "✂", "32-39", "40-47",
    ]  # fmt: skip
    assert "max_length 31 cuts 20 rows (20 %)" in lines[4]
    assert "█" in lines[3] and "░" in lines[5] and "█" not in lines[5]
    assert lines[1].count("█") > lines[2].count("█") > lines[3].count("█") > 0


def test_a_histogram_in_ascii() -> None:
    lines = [strip.text for strip in histogram_strips(SEEN, 60, ascii_only=True)]
    assert all(line.isascii() for line in lines)
    assert "#" in lines[3] and "x" in lines[5]


@pytest.mark.parametrize("width", [20, 40, 52, 84, 120])
def test_lengths_never_pass_the_edge(width: int) -> None:
    for few in (True, False):
        for strip in lengths_strips(SEEN, NASTY, width, few=few, ascii_only=False):
            assert strip.cell_length <= width + 1
            assert strip.text.isprintable()


def test_nothing_cut_is_said_too() -> None:
    seen = {**SEEN, "truncated": 0, "max_length": 64}
    assert "max_length 64 cuts 0 rows (0 %)" in histogram_strips(seen, 60)[-1].text
