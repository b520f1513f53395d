"""What holds for any rows and any rules, from the file to the splits on disk."""

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.dataset import Dataset
from engine.data.prepare import prepare
from engine.data.rules import title_key
from engine.home import open_home
from engine.recipe import Recipe

SIDES = ("train", "validation", "test")
TEXT_RULES = ["html", "unicode", "control", "whitespace", "lowercase"]
ROW_RULES = ["empty", "length", "echo", "placeholder", "personal_data"]

pieces = st.sampled_from(
    ["red", "Red", "mug", "MUG", " ", "  ", "&amp;", "<b>", "</b>", "e\u0301", "\u00e9", "\u200b",
     "\n", "\x00", "5", "a@b.example", "n/a", "!", "&lt;p&gt;"]
)  # fmt: skip
text = st.lists(pieces, max_size=6).map("".join)
lines = st.one_of(
    st.tuples(text, text).map(lambda pair: json.dumps({"title": pair[0], "content": pair[1]})),
    st.sampled_from(['{"title": "t"}', "broken", '{"title": 1, "content": "n"}', "[]", "", "  "]),
)
rules = st.builds(
    lambda text_rules, row_rules, repeats: [*text_rules, *row_rules, *repeats],
    st.lists(st.sampled_from(TEXT_RULES), unique=True),
    st.lists(st.sampled_from(ROW_RULES), unique=True),
    st.sampled_from([[], ["duplicates"], ["duplicates", "near_duplicates"]]),
)


def made(folder: str, name: str, rows: Sequence[str], *more: str) -> Dataset:
    source = Path(folder, f"{name}.jsonl")
    # The first row is always kept, so that there is a dataset.
    first = json.dumps({"title": "a first title", "content": "a first description of it all"})
    source.write_text("\n".join([first, *rows]) + "\n")
    recipe = Recipe(name="any").with_settings(
        [f"data.source={source}", "data.prompt_column=title", "data.completion_column=content",
         "split.train=0.6", "split.validation=0.2", "split.test=0.2", *more]
    )  # fmt: skip
    return prepare(open_home(Path(folder, f"home-{name}")), recipe)


def rows_of(dataset: Dataset, view: str) -> list[tuple[str, str]]:
    rows = dataset.page(view, 0, 10_000)
    return [(row["prompt"], row["completion"]) for row in rows]


EXAMPLES = 40
"""Of each property: 120 took 30 s of the suite."""


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(lines, min_size=1, max_size=25), rules)
def test_every_line_is_accounted_for_and_nothing_leaks(rows: list[str], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = made(folder, "one", rows, f"clean.rules={json.dumps(names)}")
        report = dataset.report
        assert report.rows_read == 1 + sum(bool(row.strip()) for row in rows)
        assert report.rows_read == report.rows_kept + sum(report.dropped.values())
        kept = [row["line"] for row in dataset.page("cleaned", 0, 10_000)]
        dropped = [row["line"] for row in dataset.page("dropped", 0, 10_000)]
        assert kept == sorted(kept) and dropped == sorted(dropped)
        assert len(kept + dropped) == len(set(kept + dropped)) == report.rows_read
        sides = {name: rows_of(dataset, name) for name in SIDES}
        held = sides["validation"] + sides["test"]
        assert not {title_key(p or c) for p, c in sides["train"]} & {
            title_key(p or c) for p, c in held
        }
        assert not {c for _, c in sides["train"]} & {c for _, c in held}
        if "duplicates" in names:
            texts = [completion for _, completion in rows_of(dataset, "cleaned")]
            assert len(texts) == len(set(texts))
            assert sum(map(len, sides.values())) == report.rows_kept


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(lines, min_size=1, max_size=25), rules)
def test_cleaning_what_is_clean_changes_nothing(rows: list[str], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        setting = f"clean.rules={json.dumps(names)}"
        once = rows_of(made(folder, "once", rows, setting), "cleaned")
        again = made(
            folder,
            "again",
            [json.dumps({"title": prompt, "content": answer}) for prompt, answer in once[1:]],
            setting,
        )
        assert rows_of(again, "cleaned") == once
        assert not any(again.report.changed.values())
        assert not any(again.report.dropped.values())


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(lines, min_size=1, max_size=25), st.integers(0, 2**32))
def test_order_decides_neither_what_survives_nor_the_side(rows: list[str], seed: int) -> None:
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    with tempfile.TemporaryDirectory() as folder:
        one, other = made(folder, "one", rows), made(folder, "other", shuffled)
        texts = [{answer for _, answer in rows_of(each, "cleaned")} for each in (one, other)]
        assert texts[0] == texts[1]
        # A title never changes sides, whatever else is there.
        more = made(folder, "more", [*shuffled, '{"title": "new", "content": "brand new"}'])
        side = {title_key(prompt): name for name in SIDES for prompt, _ in rows_of(one, name)}
        for name in SIDES:
            for prompt, _ in rows_of(more, name):
                assert side.get(title_key(prompt), name) == name
