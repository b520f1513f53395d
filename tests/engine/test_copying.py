"""Copies from the train split: against a search that compares words, in every script."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.dataset import Dataset, open_dataset
from engine.data.prepare import prepare
from engine.data.progress import Cancelled
from engine.errors import UserError
from engine.generate import copying_work
from engine.generate.copying import CopyIndex, index_file
from engine.generate.copying_work import hashes_of
from engine.generate.stretches import words
from engine.home import Home, open_home
from engine.recipe import load_recipe

ROOT = Path(__file__).parents[2]
VOCABULARY = [
    "the",
    "a",
    "kettle",
    "of",
    "steel",
    "boils",
    "water",
    "in",
    "two",
    "minutes",
    "and",
    "Ünder",
    "12,5",
    "cm.",
    "it's",
    "(new)",
    "🙂",
]


def of(*texts: str) -> CopyIndex:
    return CopyIndex(np.unique(hashes_of(list(texts))))


def copied(index: CopyIndex, text: str) -> list[str]:
    return [text[start:end] for start, end in index.spans(text)]


def slow_spans(texts: list[str], text: str) -> list[tuple[int, int]]:
    """What spans() must find, by comparing words one by one."""
    trained = set()
    for each in texts:
        parts = each.lower().split()
        trained |= {tuple(parts[n : n + 8]) for n in range(len(parts) - 7)}
    bounds, place = [], 0
    for word in text.split():
        start = text.index(word, place)
        bounds.append((start, start + len(word)))
        place = start + len(word)
    parts = [text[start:end].lower() for start, end in bounds]
    inside = [False] * len(parts)
    for n in range(len(parts) - 7):
        if tuple(parts[n : n + 8]) in trained:
            inside[n : n + 8] = [True] * 8
    spans: list[tuple[int, int]] = []
    for (start, end), yes, before in zip(bounds, inside, [False, *inside], strict=False):
        if yes and before:
            spans[-1] = (spans[-1][0], end)
        elif yes:
            spans.append((start, end))
    return spans


def test_random_texts_against_a_search_by_words() -> None:
    rng = random.Random(5)
    some = 0
    for _ in range(200):
        texts = [" ".join(rng.choices(VOCABULARY[:6], k=rng.randint(0, 40))) for _ in range(8)]
        index = of(*texts)
        whole = rng.choice(texts).split()
        text = " ".join(
            rng.choices(VOCABULARY[:6], k=12) + whole[3:30] + rng.choices(VOCABULARY, k=5)
        )
        text = "".join(rng.choice((" ", "\n", "  ", "\u00a0")) if c == " " else c for c in text)
        text = "".join(rng.choice((c.upper(), c)) for c in text) if rng.random() < 0.3 else text
        want = slow_spans(texts, text)
        assert index.spans(text) == want, (texts, text)
        some += len(want)
    assert some > 100


def test_eight_words_count_and_seven_do_not() -> None:
    index = of("One two three four five six seven eight nine. Ten")
    seven, eight = (
        "two three four five six seven eight",
        "two three four five six seven eight NINE.",
    )
    assert index.spans(seven) == [] and index.rate(seven) == 0.0
    assert copied(index, f"  and\t{eight}  \nmore") == [eight]
    assert index.rate(f"{eight} x y") == 0.8
    assert index.spans("two three four five six seven eight nine") == []  # punctuation counts
    assert len(index) == 3


def test_no_stretch_spans_two_rows() -> None:
    index = of("one two three four", "five six seven eight", "a b c d e f g h")
    assert len(index) == 1
    assert index.spans("one two three four five six seven eight") == []
    assert index.rate("a b c d e f g h") == 1.0


CHINESE = "这个杯子由不锈钢制成，容量为五百毫升"
MIXED = "Our new kettle XJ9 for you 电水壶好 today"
HINDI = "कृपया इस केतली को सूखी जगह पर रखें"
TURKISH = "İstanbul'da bir iki üç dört beş altı yedi"
ODD = "\ud800 A b c d e f g \U0001f600"


@pytest.mark.parametrize(
    ("trained", "text", "want"),
    [
        # Sixteen characters count, fifteen do not.
        (f"{CHINESE}，适合在家里使用。", f"说：{CHINESE}！", [CHINESE]),
        (CHINESE, CHINESE[:16], [CHINESE[:16]]),
        (CHINESE, CHINESE[:15], []),
        ("กาต้มน้ำไฟฟ้าสแตนเลสขนาดใหญ่", "มีกาต้มน้ำไฟฟ้าสแตนเลสแล้ว", ["กาต้มน้ำไฟฟ้าสแตนเลส"]),
        # A word is two of them: here six words and four characters.
        (MIXED, "the NEW kettle XJ9 for  you 电水壶好吗", []),
        (MIXED, "OUR new kettle XJ9 for  you 电水壶好吗", ["OUR new kettle XJ9 for  you 电水壶好"]),
        (f"{HINDI} धन्यवाद", f"{HINDI}।", []),
        (f"{HINDI} धन्यवाद", f"- {HINDI}", [HINDI]),
        (TURKISH, f"ve {TURKISH}.", []),
        (TURKISH.lower(), f"ve {TURKISH}", []),  # its lower case has another character there
        (TURKISH.replace("İ", "i"), f"ve {TURKISH}", [TURKISH]),
        (ODD.lower(), f"x {ODD}", [ODD]),
        ("", "anything at all and more and more and more", []),
        ("one two three four five six seven eight", "", []),
    ],
)
def test_every_script(trained: str, text: str, want: list[str]) -> None:
    assert copied(of(trained), text) == want


def test_lower_case_moves_no_character() -> None:
    for code in range(0x110000):
        character = chr(code)
        if len(character.lower()) != 1:
            assert character == "\u0130"  # which words() replaces
    text = "\u0130x Ab \U00020000c"
    found = words(text)
    assert [text[s:e] for s, e in zip(found.starts, found.ends, strict=True)] == [
        "\u0130x", "Ab", "\U00020000", "c",
    ]  # fmt: skip


def test_no_two_of_many_words_are_taken_for_one() -> None:
    texts = [f"{n:x}" for n in range(300_000)]
    found = words(" ".join(texts))
    assert len(np.unique(found.hashes)) == len(texts)
    for one, other in (("ab", "ba"), ("aab", "aba"), ("a a", "aa"), ("\x00", "\x00\x00")):
        first, second = words(one), words(other)
        assert len(first) != len(second) or first.hashes[0] != second.hashes[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("copies") / "home")


@pytest.fixture(scope="module")
def dataset(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rng = random.Random(7)
    source = tmp_path_factory.mktemp("source") / "rows.jsonl"
    vocabulary = [f"word{n}" for n in range(500)]
    with source.open("w") as file:
        for n in range(600):
            content = " ".join(rng.choices(vocabulary, k=rng.randint(3, 60)))
            file.write(json.dumps({"title": f"product number {n}", "content": content}) + "\n")
    settings = [f"data.source={source}", "data.name=copies", "clean.rules=[]"]
    return prepare(home, load_recipe("demo", settings))


@pytest.fixture
def fresh(home: Home, dataset: Dataset) -> Path:
    """Where the index will be; it is not there yet."""
    path = index_file(home, dataset)
    path.unlink(missing_ok=True)
    return path


def test_the_index_of_a_train_split(home: Home, dataset: Dataset, fresh: Path) -> None:
    assert CopyIndex.open(home, dataset) is None
    told: list[str] = []
    index = CopyIndex.open_or_build(home, dataset, told.append)
    assert told and "indexing the training rows" in told[0]
    rows = {split: dataset.split(split) for split in ("train", "test")}
    texts = [text for name in ("prompt", "completion") for text in rows["train"][name].to_pylist()]
    assert len(index) == len(np.unique(hashes_of(texts))) > 5000
    long = [text for text in texts if len(text.split()) >= 8]
    assert all(index.spans(text) == [(0, len(text))] for text in long)
    assert sum(index.rate(text) for text in rows["test"]["completion"].to_pylist()) == 0.0
    saved = np.load(fresh, allow_pickle=False)
    assert (np.diff(saved.astype(object)) > 0).all()
    assert fresh.stat().st_mode & 0o77 == 0
    again: list[str] = []
    assert len(CopyIndex.open_or_build(home, dataset, again.append)) == len(index)
    assert again == []  # it was there
    assert [path.name for path in fresh.parent.iterdir() if path.suffix != ".lock"] == [fresh.name]


class Told:
    """In the place of the pipe to who asked."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def status(self, words: str) -> None:
        self.words.append(words)


def test_many_parts_make_the_same_file(
    home: Home, dataset: Dataset, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Any = Told()
    assert copying_work.build(home, dataset.path, answers)["built"]
    whole = fresh.read_bytes()
    fresh.unlink()
    monkeypatch.setattr(copying_work, "PART_HASHES", 500)
    monkeypatch.setattr(copying_work, "PASS_CHARACTERS", 700)
    assert copying_work.build(home, dataset.path, answers)["built"]
    assert fresh.read_bytes() == whole
    assert not copying_work.build(home, dataset.path, answers)["built"]


def test_a_damaged_index_is_built_anew(home: Home, dataset: Dataset, fresh: Path) -> None:
    whole = len(CopyIndex.open_or_build(home, dataset))
    data = fresh.read_bytes()
    for damaged in (b"", data[:50], data[:-8], b"x" * len(data)):
        fresh.write_bytes(damaged)
        assert CopyIndex.open(home, dataset) is None
    assert len(CopyIndex.open_or_build(home, dataset)) == whole


def test_cancelling_leaves_nothing_half_made(home: Home, dataset: Dataset, fresh: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Cancelled):
        CopyIndex.open_or_build(home, dataset, cancelled=lambda: True)
    assert time.monotonic() - began < 10
    assert not fresh.exists() and not [*fresh.parent.glob(f".{fresh.stem}-*")]


def test_what_a_killed_builder_left_is_removed(home: Home, dataset: Dataset, fresh: Path) -> None:
    left = fresh.with_name(f".{fresh.stem}-999999")
    left.mkdir(parents=True)
    (left / "0.u64").write_bytes(b"x")
    CopyIndex.open_or_build(home, dataset)
    assert not left.exists()


def test_two_builders_at_once_make_one(home: Home, dataset: Dataset, fresh: Path) -> None:
    found: list[CopyIndex] = []
    builders = [
        threading.Thread(target=lambda: found.append(CopyIndex.open_or_build(home, dataset)))
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert len(found) == 2 and len(found[0]) == len(found[1])


def test_a_manifest_names_no_file_of_ours(home: Home, dataset: Dataset) -> None:
    hostile = open_dataset(home, dataset.path)
    hostile.fingerprint = "../../../etc/passwd\x00\ud800"
    path = index_file(home, hostile)
    assert path.parent == home.path / "cache" / "copies" and path.stem.isalnum()


def test_a_lost_dataset_is_told(home: Home, dataset: Dataset, tmp_path: Path) -> None:
    lost = open_dataset(home, dataset.path)
    lost.path = tmp_path / "nowhere"
    assert CopyIndex.open(home, lost) is None
    with pytest.raises(UserError, match="nowhere"):
        CopyIndex.open_or_build(home, lost)


def test_the_longest_unused_goes_first(
    home: Home, dataset: Dataset, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.parent.mkdir(parents=True, exist_ok=True)
    old, older = fresh.with_name("old.npy"), fresh.with_name("older.npy")
    for age, path in ((100, old), (200, older)):
        path.write_bytes(bytes(1 << 20))
        os.utime(path, (time.time() - age,) * 2)
    monkeypatch.setattr(copying_work, "MOST_BYTES", 3 << 19)
    answers: Any = Told()
    copying_work.build(home, dataset.path, answers)
    assert (old.exists(), older.exists(), fresh.exists()) == (True, False, True)
    old.unlink()


def test_looking_up_needs_no_torch() -> None:
    code = "import sys, engine.generate.copying, engine.generate.repeating; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT).decode().split()
    assert {"torch", "transformers", "pyarrow"}.isdisjoint(loaded)
