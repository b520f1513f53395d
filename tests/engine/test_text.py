"""Outside text: nothing that a terminal obeys is left, and widths are kept."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.text import clip, safe, safe_json, safe_line

HOSTILE = "a\x1b]52;c;eA==\x1b\\b\x9b31m\x00\u202e\u2066x\x7f\x85\u2028\ufeff\u206a\ufff9\U000e0041"


def test_nothing_a_terminal_obeys_is_left() -> None:
    shown = safe(HOSTILE)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert "␛]52;c;eA==␛\\" in shown and "␀" in shown


def test_json_keeps_its_value_and_loses_what_a_terminal_obeys() -> None:
    value = {"text": HOSTILE + "\ud800\n日本"}
    shown = safe_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(shown) == value and "日本" in shown
    assert not [
        c for c in shown.replace("\n", "") if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl")
    ]


def test_plain_text_newlines_and_tabs() -> None:
    assert safe("plain [b]text[/b] ü 日本") == "plain [b]text[/b] ü 日本"
    assert safe("a\r\nb\n\tc") == "a\nb\n    c"
    assert safe_line("a\nb") == "a␤b"


@given(st.text())
def test_safe_is_idempotent_and_never_longer_in_lines(text: str) -> None:
    assert safe(safe(text)) == safe(text)
    assert "\n" not in safe_line(text)


@given(st.text(), st.integers(0, 40))
def test_clip_keeps_to_its_cells(text: str, cells: int) -> None:
    assert cell_len(clip(text, cells)) <= cells


def test_clip_looks_only_at_what_can_be_shown() -> None:
    assert clip("x" * 100_000_000, 10) == "x" * 9 + "…"
    assert clip("日本語日本語", 5) == "日本…"
    assert clip("short", 10) == "short"
