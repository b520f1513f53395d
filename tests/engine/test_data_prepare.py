"""Datasets on disk: exact counts, whole or not at all, reused, mapped, paged."""

import errno
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.data import prepare as prepare_module
from engine.data import tables
from engine.data.dataset import VIEWS, list_datasets, open_dataset
from engine.data.prepare import Cancelled, Progress, prepare
from engine.data.report import CleanReport, funnel
from engine.data.rules import title_key
from engine.data.sources import packed, raw
from engine.errors import UserError
from engine.home import Home, open_home
from engine.recipe import Recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def recipe(source: Path | str, *settings: str) -> Recipe:
    base = Recipe(name="test")
    data = base.data.model_copy(update={"source": str(source)})
    return base.model_copy(update={"data": data}).with_settings(settings)


def write_rows(path: Path, count: int, seed: int = 0) -> Path:
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            title = f"Item {n // 2}" if n % 10 else ""
            content = f"Text {n} {rng.random()}" if n % 7 else f"<b>Old</b> news {n % 5}"
            file.write(json.dumps({"title": title, "content": content}) + "\n")
    return path


def only_hidden(home: Home) -> bool:
    return all(path.name in (".locks", ".sources") for path in home.datasets.iterdir())


def test_the_planted_catalogue_is_counted_exactly(home: Home) -> None:
    dataset = prepare(home, recipe("builtin:catalogue", "data.catalogue_rows=6000"))
    report = dataset.report
    notes = home.datasets / ".sources" / "catalogue-6000-0.json.gz.planted.json"
    planted = json.loads(notes.read_text(encoding="utf-8"))
    assert dataset.name == "catalogue"
    assert report.rows_read == planted["rows"]
    assert report.dropped == planted["dropped"]
    assert report.repairs == planted["repairs"]
    assert report.repaired == sum(planted["repairs"].values())
    assert report.changed == planted["changed"]
    assert report.rows_kept == planted["kept"]
    assert report.train + report.validation + report.test == report.rows_kept
    assert report.leakage_after == 0
    assert not report.warnings


def test_datasets_maps_the_splits_and_no_row_is_lost(home: Home, tmp_path: Path) -> None:
    from datasets import Dataset as HubDataset

    dataset = prepare(home, recipe(write_rows(tmp_path / "rows.jsonl", 3000)))
    parts = {
        name: HubDataset.from_file(str(dataset.file(name)))
        for name in ("train", "validation", "test")
    }
    report = dataset.report
    assert [len(part) for part in parts.values()] == [report.train, report.validation, report.test]
    assert all(part.column_names == ["line", "prompt", "completion"] for part in parts.values())
    lines = [line for part in parts.values() for line in part["line"]]
    assert len(lines) == len(set(lines)) == report.rows_kept
    dropped = [row["line"] for row in dataset.page("dropped", 0, 10_000)]
    assert sorted(lines + dropped) == list(range(1, 3001))
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    titles = {name: {title_key(text) for text in part["prompt"]} for name, part in parts.items()}
    assert not titles["train"] & (titles["validation"] | titles["test"])
    assert report.leakage_before > 0
    first = parts["train"][0]
    assert dataset.split("train").slice(0, 1).to_pylist() == [first]


def test_leaks_through_descriptions_are_taken_out_and_said(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    rows = [{"title": f"t{n}", "content": f"c{n % 50}"} for n in range(500)]
    source.write_text("\n".join(map(json.dumps, rows)))
    dataset = prepare(
        home, recipe(source, 'clean.rules=["html","unicode","control","whitespace","empty"]')
    )
    report = dataset.report
    assert report.rows_kept == 500
    out = 500 - report.train - report.validation - report.test
    assert out > 0
    assert f"{out} rows are in no split" in report.warnings[0]
    texts = [
        {row["completion"] for row in dataset.page(name, 0, 500)}
        for name in ("train", "validation", "test")
    ]
    assert not texts[0] & (texts[1] | texts[2])


def test_the_audit_says_why(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(
        b'{"title": "a", "content": "one"}\n\nbroken \xff line\n'
        b'{"title": "b", "content": "<i>one</i>"}\n{"title": "c", "content": ""}\n'
    )
    dataset = prepare(home, recipe(source))
    assert dataset.page("dropped", 0, 10) == [
        {"line": 3, "rule": "malformed", "evidence": "", "raw": "broken \ufffd line"},
        {
            "line": 4,
            "rule": "duplicate_completion",
            "evidence": "repeats line 1",
            "raw": '{"title": "b", "content": "<i>one</i>"}',
        },
        {
            "line": 5,
            "rule": "empty_completion",
            "evidence": "",
            "raw": '{"title": "c", "content": ""}',
        },
    ]
    assert "the test split is empty" in " ".join(dataset.report.warnings)


def test_the_same_again_is_reused_and_a_change_is_seen(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 500)
    first = prepare(home, recipe(source))
    written = first.file("manifest").stat().st_mtime_ns
    again = prepare(home, recipe(source))
    assert again.file("manifest").stat().st_mtime_ns == written
    assert again.report == first.report
    # The name of the file does not count, its bytes do.
    moved = source.rename(tmp_path / "other.jsonl")
    assert prepare(home, recipe(moved, "data.name=rows")).fingerprint == first.fingerprint
    old = first.split("train")
    with moved.open("a") as file:
        file.write('{"title": "new", "content": "new"}\n')
    changed = prepare(home, recipe(moved, "data.name=rows"))
    assert changed.fingerprint != first.fingerprint
    assert changed.report.rows_read == 501
    assert old.num_rows == first.report.train  # whoever has it mapped keeps it
    assert old.column("completion")[0].as_py()
    other = prepare(
        home, recipe(moved, "data.name=rows", 'clean.rules=["whitespace","empty","duplicates"]')
    )
    assert other.fingerprint != changed.fingerprint
    assert [info.name for info in list_datasets(home)] == ["rows"]
    assert sorted(path.name for path in home.datasets.iterdir()) == [".locks", ".sources", "rows"]


def test_replacing_the_dataset_of_another_source_is_said(home: Home, tmp_path: Path) -> None:
    sources = []
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        sources.append(write_rows(tmp_path / folder / "train.jsonl", 300, seed=number))
    one, two = sources
    assert not any("replaces" in told for told in prepare(home, recipe(one)).report.warnings)
    told = prepare(home, recipe(two)).report.warnings
    assert [text for text in told if "replaces" in text] == [
        f"replaces the dataset train of {one}; --name (data.name) keeps both"
    ]
    again = prepare(home, recipe(two, 'clean.rules=["empty"]')).report.warnings
    assert not any("replaces" in told for told in again)


@pytest.mark.parametrize("several", [False, True])
def test_a_source_that_was_moved_or_touched_is_paged_again(
    home: Home, tmp_path: Path, several: bool
) -> None:
    """Its bytes are the same, so the dataset is reused; its rows must be found where they are."""
    source = tmp_path / "rows"
    source.mkdir()
    for name in ("a.jsonl", "b.jsonl")[: 1 + several]:
        write_rows(source / name, 300, seed=ord(name[0]))

    def cleaned(place: Path):
        return prepare(home, recipe(place if several else place / "a.jsonl", "data.name=d"))

    first = cleaned(source)
    rows = first.page("raw", 0, 1000)
    os.utime(source / "a.jsonl", (1, 1))
    with pytest.raises(UserError, match="changed since it was cleaned; clean it again"):
        open_dataset(home, "d").page("raw", 0, 1)
    assert cleaned(source).page("raw", 0, 1000) == rows
    moved = cleaned(source.rename(tmp_path / "moved"))
    assert moved.page("raw", 0, 1000) == rows
    assert moved.manifest["created"] == first.manifest["created"], "reused"
    assert str(tmp_path / "moved") in moved.manifest["source"]["path"]
    assert not list(moved.path.glob(".*"))


def test_two_cleanings_give_the_same_bytes(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 2000)
    homes = [open_home(tmp_path / name) for name in ("one", "two")]
    one, two = (prepare(home, recipe(source)) for home in homes)
    assert one.fingerprint == two.fingerprint
    for what in ("train", "validation", "test", "cleaned", "audit", "raw_index"):
        assert one.file(what).read_bytes() == two.file(what).read_bytes(), what


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "only blank lines"),
        (b"x\n[1]\n", r"no usable row among 2 \(2 malformed\)"),
        (b'{"title": "", "content": "a"}\n', r"no usable row among 1 \(1 empty_prompt\)"),
        (b'{"a": 1}\n', "there are: a;"),
    ],
)
def test_files_without_a_usable_row(home: Home, tmp_path: Path, content: bytes, words: str) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(content)
    with pytest.raises(UserError, match=words) as failure:
        prepare(home, recipe(source))
    assert str(source) in str(failure.value)
    assert only_hidden(home)


def test_near_duplicates_across_the_border_are_counted_where_only_they_lie_there(
    home: Home, tmp_path: Path
) -> None:
    """Four a family; the first one of each, to which the others are near, is often in no split."""
    rng = random.Random(0)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for family in range(200):
            words = [f"word{rng.randrange(3000)}" for _ in range(40)]
            for member in range(4):
                words[-1] = f"last{family}of{member}"
                file.write(json.dumps({"title": f"{family}.{member}", "content": " ".join(words)}))
                file.write("\n")
    rules = 'clean.rules=["empty","near_duplicates"]'
    counts = ["split.train=150", "split.validation=30", "split.test=30"]
    dataset = prepare(
        home,
        recipe(tmp_path / "rows.jsonl", rules, 'clean.near_duplicates.action="count"', *counts),
    )
    families = {
        name: [title.split(".")[0] for title in dataset.split(name)["prompt"].to_pylist()]
        for name in ("train", "validation", "test")
    }
    others = [*families["validation"], *families["test"]]
    assert dataset.report.rows_kept == 800
    assert dataset.report.near_leakage == sum(one in families["train"] for one in others) > 0


def test_a_bad_run_leaves_the_old_dataset(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 500)
    first = prepare(home, recipe(source))
    with pytest.raises(UserError, match="too few clean rows"):
        prepare(home, recipe(source, "split.train=900", "split.validation=5", "split.test=5"))
    assert open_dataset(home, "rows").fingerprint == first.fingerprint


def test_cancelling_leaves_nothing(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 20_000)
    told: list[Progress] = []
    with pytest.raises(Cancelled):
        prepare(
            home,
            recipe(source),
            progress=told.append,
            cancelled=lambda: any(progress.phase == "splitting" for progress in told),
        )
    assert only_hidden(home)
    assert {progress.phase for progress in told} >= {"fingerprinting", "cleaning", "splitting"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["add", "close"])
def test_a_full_disk_is_said_and_leaves_nothing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 500)

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tables.RowWriter, where, full)
    with pytest.raises(UserError, match="disk is full") as failure:
        prepare(home, recipe(source))
    assert str(home.datasets) in str(failure.value)
    assert only_hidden(home)


def test_a_source_that_changes_meanwhile_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 500)
    run = prepare_module.Build.run

    def and_grow(self: prepare_module.Build) -> None:
        run(self)
        with source.open("a") as file:
            file.write("{}\n")

    monkeypatch.setattr(prepare_module.Build, "run", and_grow)
    with pytest.raises(UserError, match="changed while it was read"):
        prepare(home, recipe(source))
    assert only_hidden(home)


KILLED = """
import os, signal, sys
from engine.data import prepare as p
from engine.home import open_home
from engine.recipe import Recipe
home, source, phase = sys.argv[1:]
def kill(progress):
    if progress.phase == phase:
        os.kill(os.getpid(), signal.SIGKILL)
if phase == "publishing":
    def put_in_place(temporary, folder):
        os.kill(os.getpid(), signal.SIGKILL)
    p.put_in_place = put_in_place
recipe = Recipe(name="r").with_settings([f"data.source={source}"])
p.prepare(open_home(home), recipe, progress=kill)
"""


def test_killed_anywhere_and_run_again_gives_the_same(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 2000)
    for phase in ("fingerprinting", "cleaning", "splitting", "writing", "publishing"):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(home.path), str(source), phase],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL, (phase, done.stderr)
        assert list_datasets(home) == []
        with pytest.raises(UserError, match="no such dataset"):
            open_dataset(home, "rows")
    dataset = prepare(home, recipe(source))
    clean = prepare(open_home(tmp_path / "clean"), recipe(source))
    assert dataset.fingerprint == clean.fingerprint
    assert dataset.file("train").read_bytes() == clean.file("train").read_bytes()
    assert sorted(path.name for path in home.datasets.iterdir()) == [".locks", ".sources", "rows"]


def test_two_at_once_make_one_dataset(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 20_000)
    command = [sys.executable, "-m", "engine.cli", "clean", str(source), "--json"]
    command += ["--home", str(home.path)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    documents = []
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        documents.append(json.loads(out))
    # The second one waited and found the first one's work, times and all.
    assert documents[0] == documents[1]


@pytest.mark.parametrize("packed", [False, True])
def test_pages_of_every_view(home: Home, tmp_path: Path, packed: bool) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 25_000)
    lines = source.read_bytes().splitlines()
    if packed:
        data = source.read_bytes()
        middle = len(data) // 2
        source.write_bytes(gzip.compress(data[:middle]) + gzip.compress(data[middle:]))
    dataset = prepare(home, recipe(source))
    report = dataset.report
    assert dataset.count("raw") == 25_000
    assert dataset.count("cleaned") == report.rows_kept
    assert dataset.count("cleaned") + dataset.count("dropped") == dataset.count("raw")
    for view in VIEWS:
        count = dataset.count(view)
        whole = dataset.page(view, 0, count + 10)
        assert len(whole) == count
        for start in (0, 7, 9_990, 10_000, count - 3, 123, count, count + 5):
            assert dataset.page(view, start, 50) == whole[start : start + 50]
        assert dataset.page(view, 0, 0) == dataset.page(view, -1, 5) == []
    assert dataset.page("raw", 24_000, 2) == [
        {"line": 24_001, "raw": lines[24_000].decode()},
        {"line": 24_002, "raw": lines[24_001].decode()},
    ]
    source.write_bytes(b"something else")
    with pytest.raises(UserError, match="has changed since"):
        open_dataset(home, "rows").page("raw", 0, 1)
    source.unlink()
    with pytest.raises(UserError, match="no longer there"):
        open_dataset(home, "rows").page("raw", 0, 1)


def test_far_into_a_gzip_file_a_page_at_a_time(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 60_000)
    lines = source.read_bytes().splitlines()
    source.write_bytes(gzip.compress(source.read_bytes()))
    dataset = prepare(home, recipe(source))
    monkeypatch.setattr(raw, "MOST_AHEAD", 1 << 20)
    monkeypatch.setattr(packed, "KEEP_EVERY", 1 << 18)
    assert len(dataset.page("raw", 0, 50)) == 50
    refused = 0
    while refused < 10:
        try:
            rows = dataset.page("raw", 59_950, 100)
            break
        except UserError as error:
            assert "ask again to go on" in str(error)
            refused += 1
    assert 1 <= refused < 10
    assert [row["raw"] for row in rows] == [line.decode() for line in lines[59_950:]]
    rng = random.Random(0)
    for _ in range(50):
        start = rng.randrange(60_000)
        rows = dataset.page("raw", start, 30)
        assert [row["line"] for row in rows] == list(range(start + 1, min(start + 31, 60_001)))
        assert rows[0]["raw"] == lines[start].decode()


def test_a_damaged_dataset_is_no_dataset(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 500)
    dataset = prepare(home, recipe(source))
    assert open_dataset(home, dataset.path).name == "rows"  # by its folder too
    file = dataset.file("train")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"train\.arrow is damaged"):
        open_dataset(home, "rows")
    file.unlink()
    with pytest.raises(UserError, match=r"train\.arrow is missing"):
        open_dataset(home, "rows")
    assert list_datasets(home) == []
    assert prepare(home, recipe(source)).file("train").read_bytes() == whole
    dataset.file("manifest").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        open_dataset(home, "rows")


@pytest.mark.parametrize(
    "damage",
    [
        {"created": None},
        {"created": "x"},
        {"source": None},
        {"source": "x"},
        {"report": {"train": "x"}},
    ],
)
def test_a_damaged_manifest_hides_no_other_dataset(
    home: Home, tmp_path: Path, damage: dict[str, object]
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 300)
    dataset = prepare(home, recipe(source))
    prepare(home, recipe(source, "data.name=other"))
    manifest = dataset.file("manifest")
    manifest.write_text(json.dumps(dataset.manifest | damage))
    assert [info.name for info in list_datasets(home)] == ["other"]
    with pytest.raises(UserError, match="is damaged"):
        open_dataset(home, "rows")
    manifest.write_text("[" * 100_000)
    assert [info.name for info in list_datasets(home)] == ["other"]
    assert prepare(home, recipe(source)).count("train") == dataset.count("train")


def test_a_damaged_index_is_made_again(home: Home, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", 300)
    index = prepare(home, recipe(source)).file("raw_index")
    for damage in (b"x" * index.stat().st_size, b"{}".ljust(index.stat().st_size)):
        index.write_bytes(damage)
        assert len(prepare(home, recipe(source)).page("raw", 0, 1000)) == 300


def test_the_funnel_adds_up(home: Home, tmp_path: Path) -> None:
    report = prepare(home, recipe(write_rows(tmp_path / "rows.jsonl", 500))).report
    rows = {name: count for name, count, words in funnel(report) if words}
    assert len(rows) == len(funnel(report))
    dropped = sum(count for name, count in rows.items() if name.startswith("dropped."))
    assert rows["rows_read"] == rows["rows_kept"] + dropped
    assert rows["rows_kept"] == rows["train"] + rows["validation"] + rows["test"]
    assert CleanReport.from_json(json.loads(json.dumps(report.as_json()))) == report
