"""The built-in catalogue: its counts are true, its bytes repeatable, its descriptions distinct."""

import gzip
import html
import json
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.demo.catalogue import KINDS, Planted, kind_of, write_catalogue
from engine.demo.kinds import kinds
from engine.demo.prose import Writer
from tests.engine.fixtures.whole_file_defects import (
    multi_member,
    truncated,
    with_byte_order_mark,
    with_trailing_garbage,
)

ROWS = 50_000
_REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Planted]:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.json.gz"
    return path, write_catalogue(path, rows=ROWS, seed=3)


@pytest.fixture(scope="module")
def by_the_rules(
    catalogue: tuple[Path, Planted],
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    return cleaned(catalogue[0])


def normalised(text: str, changed: set[str]) -> str:
    """The cleaning rules, written down a second time and as plainly as possible."""
    before = text
    while (plain := re.sub(r"<[^>]*>", "", html.unescape(text))) != text:
        text = plain
    if text != before:
        changed.add("html")
    for rule, after in (
        ("unicode", lambda t: unicodedata.normalize("NFC", t)),
        ("control", lambda t: _REMOVED.sub("", t)),
        ("whitespace", lambda t: " ".join(t.split())),
    ):
        if (result := after(text)) != text:
            changed.add(rule)
            text = result
    return text


def repair_of(line: bytes) -> tuple[Any, str | None]:
    """One line's value and the first repair it needs; ValueError when it is no JSON."""
    found: set[str] = set()
    try:
        text = line.decode()
    except UnicodeDecodeError:
        found.add("invalid_utf8")
        text = "".join(
            bytes([b]).decode("latin-1" if b in b"\x81\x8d\x8f\x90\x9d" else "cp1252") for b in line
        )

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = Counter(key for key, _ in items)
        if keys["title"] > 1 or keys["content"] > 1:
            found.add("duplicate_key")
        return dict(items)

    def integer(digits: str) -> int:
        if not -(2**63) <= int(digits) < 2**64:
            found.add("number_overflow")
        return int(digits)

    def constant(name: str) -> float:
        found.add("nan")
        return float(name)

    value = json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_constant=constant)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    for key, field in value.items():
        if isinstance(field, str) and re.search("[\ud800-\udfff]", field):
            found.add("lone_surrogate")
            value[key] = re.sub("[\ud800-\udfff]", "\ufffd", field)
        elif key in ("title", "content") and type(field) in (int, float):
            found.add("number_as_text")
            value[key] = str(field)
    order = (
        "invalid_utf8", "lone_surrogate", "nan", "number_overflow", "duplicate_key",
        "number_as_text",
    )  # fmt: skip
    return value, next((repair for repair in order if repair in found), None)


def cleaned(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Counts and kept rows of a file by the plain rules above."""
    dropped: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    blank = rows = 0
    kept: dict[str, str] = {}
    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line end is no line
    for line in lines:
        if not line.strip():
            blank += 1
            continue
        rows += 1
        try:
            value, repair = repair_of(line)
        except ValueError:
            dropped["malformed"] += 1
            continue
        if repair:
            repairs[repair] += 1
        title, content = value.get("title"), value.get("content")
        if title is None or content is None:
            dropped["missing_field"] += 1
        elif not isinstance(title, str) or not isinstance(content, str):
            dropped["not_text"] += 1
        else:
            changed: set[str] = set()
            title, content = normalised(title, changed), normalised(content, changed)
            changes.update(changed)
            if not title:
                dropped["empty_prompt"] += 1
            elif not content:
                dropped["empty_completion"] += 1
            elif content in kept:
                dropped["duplicate_completion"] += 1
            else:
                kept[content] = title
    counts = {
        "rows": rows,
        "blank_lines": blank,
        "dropped": dict(dropped),
        "repairs": dict(repairs),
        "changed": dict(changes),
        "kept": len(kept),
    }
    return counts, [(title, content) for content, title in kept.items()]


def without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("rows", [1, 9, 60, 200, 2_000])
def test_counts_agree_with_the_rules_for_small_files(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "small.json.gz"
    for seed in range(4):
        planted = write_catalogue(path, rows=rows, seed=seed)
        counts, _ = cleaned(path)
        assert counts == {
            "rows": planted.rows,
            "blank_lines": planted.blank_lines,
            "dropped": without_zeros(planted.dropped),
            "repairs": without_zeros(planted.repairs),
            "changed": without_zeros(planted.changed),
            "kept": planted.kept,
        }


def test_counts_agree_with_the_rules(
    catalogue: tuple[Path, Planted], by_the_rules: tuple[dict[str, Any], list[tuple[str, str]]]
) -> None:
    planted = catalogue[1]
    counts, kept = by_the_rules
    assert counts["rows"] == planted.rows == ROWS
    assert counts["blank_lines"] == planted.blank_lines > 0
    assert counts["dropped"] == planted.dropped
    assert counts["repairs"] == planted.repairs
    assert counts["changed"] == planted.changed
    assert counts["kept"] == planted.kept == ROWS - sum(planted.dropped.values())
    assert all(planted.dropped.values()) and all(planted.repairs.values())
    assert len({content for _, content in kept}) == planted.kept


def test_dirt_has_the_shares_of_the_real_corpus(catalogue: tuple[Path, Planted]) -> None:
    planted = catalogue[1]
    share = {name: count / ROWS for name, count in (planted.dropped | planted.changed).items()}
    assert 0.27 < share["empty_completion"] < 0.33
    assert 0.005 < share["empty_prompt"] < 0.015
    assert 0.07 < share["duplicate_completion"] < 0.09
    assert 0.04 < share["html"] < 0.07
    assert 0.01 < planted.near_duplicates / ROWS < 0.03


def test_kept_titles_name_a_known_kind(
    by_the_rules: tuple[dict[str, Any], list[tuple[str, str]]],
) -> None:
    _, kept = by_the_rules
    named = [kind for title, _ in kept if (kind := kind_of(title))]
    assert set(named) == set(KINDS)
    # Titles that are numbers name none, and near and orphaned texts may describe another kind.
    assert len(named) > 0.99 * len(kept)
    said = sum((kind_of(title) or "?") in content.lower() for title, content in kept)
    assert said > 0.9 * len(kept)


def test_kind_of_finds_the_kind_of_every_title() -> None:
    writer = Writer(Random(5))
    for _ in range(20_000):
        product = writer.product()
        assert kind_of(writer.title(product)) == product["kind"]
    assert kind_of("Compass Jigsaw Puzzle") == "jigsaw puzzle"
    assert kind_of("Set of 4 SKILLETS") == "skillet"
    assert kind_of("Gift card") is None


def test_clean_texts_need_no_normalisation() -> None:
    writer = Writer(Random(6))
    for _ in range(5_000):
        product = writer.product()
        for text in (writer.title(product), " ".join(writer.sentences(product))):
            changed: set[str] = set()
            assert normalised(text, changed) == text and not changed
            assert "{" not in text


def test_kinds_are_many_and_whole() -> None:
    assert len(KINDS) >= 300 and len(set(KINDS)) == len(KINDS)
    for kind in kinds():
        assert len(kind.uses) == len(kind.materials) == len(kind.parts) == 3


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """In another process too: nothing depends on Python's salted string hashes."""
    first, second, other = (tmp_path / f"{name}.json.gz" for name in "abc")
    planted = write_catalogue(first, rows=3_000, seed=1)
    code = (
        "import sys; from pathlib import Path; from engine.demo.catalogue import write_catalogue;"
        "write_catalogue(Path(sys.argv[1]), rows=3000, seed=1);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(second)], check=True)
    write_catalogue(other, rows=3_000, seed=2)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    notes = json.loads((tmp_path / "a.json.gz.planted.json").read_text())
    assert notes["kept"] == planted.kept and notes["dropped"] == planted.dropped
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{name}.json.gz{end}" for name in "abc" for end in ("", ".planted.json")
    ]


def test_progress_and_wrong_size(tmp_path: Path) -> None:
    seen: list[int] = []
    write_catalogue(tmp_path / "x.json.gz", rows=12_000, progress=seen.append)
    assert seen[-1] == 12_000 and seen == sorted(seen) and len(seen) >= 3
    with pytest.raises(ValueError, match="at least 1"):
        write_catalogue(tmp_path / "y.json.gz", rows=0)


def test_whole_file_defects_do_what_they_say(tmp_path: Path) -> None:
    sound, path = tmp_path / "sound.json.gz", tmp_path / "defect.json.gz"
    write_catalogue(sound, rows=300)
    text = gzip.decompress(sound.read_bytes())

    def made(defect: Callable[[Path], None]) -> Path:
        path.write_bytes(sound.read_bytes())
        defect(path)
        return path

    assert gzip.decompress(made(multi_member).read_bytes()) == text
    assert gzip.decompress(made(with_byte_order_mark).read_bytes()) == b"\xef\xbb\xbf" + text
    with pytest.raises(EOFError):
        gzip.decompress(made(truncated).read_bytes())
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(made(with_trailing_garbage).read_bytes())
