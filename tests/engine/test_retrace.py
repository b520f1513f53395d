"""A row from its source again gives what the dataset holds, whatever the source is made of."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.prepare import prepare
from engine.data.retrace import Retrace
from engine.errors import UserError
from engine.home import Home, open_home
from engine.recipe import Recipe

SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
PAIRS = [
    {"title": f"lamp {n}", "content": f"A <b>lamp</b>  with\n{n} bulbs &amp; {'光' * (n % 5)}"}
    for n in range(60)
] + [{"title": "empty", "content": " "}, {"title": "twin", "content": "A <i>lamp</i>"}]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n\n" for row in rows).encode() + b'{"title": broken\n'


def as_csv(rows: list[dict[str, Any]], delimiter: str = ";") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode() + b"one field only\r\n"


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=25)
    return sink.getvalue()


FILES = {
    "rows.jsonl": as_json_lines(PAIRS),
    "rows.jsonl.gz": gzip.compress(as_json_lines(PAIRS)),
    "rows.json": json.dumps(PAIRS, indent=1).encode(),
    "rows.csv": as_csv(PAIRS),
    "latin.csv": as_csv([{**row, "content": f"é {row['content'][:20]}"} for row in PAIRS], ",")
    .decode()
    .encode("utf-16"),
    "rows.parquet": as_parquet(PAIRS),
    "alpaca.jsonl": as_json_lines(
        [
            {"instruction": f"Say <i>{n}</i>", "input": "", "output": f"{n}  it is"}
            for n in range(60)
        ]
    ),
    "messages.jsonl": as_json_lines(
        [
            {
                "messages": [
                    {"role": "user", "content": f"What is <b>{n}</b>?"},
                    {"role": "assistant", "content": f"{n}  it is."},
                ]
            }
            for n in range(60)
        ]
    ),
    "text.jsonl": as_json_lines([{"text": f"Once  upon <b>{n}</b> times"} for n in range(60)]),
}


@pytest.mark.parametrize("name", FILES)
def test_rows_come_out_as_they_were_cleaned(name: str, home: Home, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(FILES[name])
    dataset = prepare(
        home, Recipe.model_validate({"name": "r", "data": {"source": str(source)}, "split": SPLIT})
    )
    retrace = Retrace(home, dataset, "builtin:base")
    cleaned = {row["line"]: row for row in dataset.page("cleaned", 0, 1000)}
    dropped = {row["line"]: row for row in dataset.page("dropped", 0, 1000)}
    raw = dataset.page("raw", 0, 1000)
    assert len(raw) == dataset.count("raw") >= 60
    for number, row in enumerate(raw):
        tried = retrace.row(number)
        assert tried.line == row["line"]
        if tried.line in cleaned:
            kept = cleaned[tried.line]
            assert tried.reason is None and tried.after is not None and tried.before is not None
            assert tried.after[:2] == (kept["prompt"], kept["completion"])
            assert bool(tried.changed) == (tried.before != tried.after)
        elif not dropped[tried.line]["rule"].startswith("duplicate"):
            assert tried.reason == dropped[tried.line]["rule"]
    with pytest.raises(UserError, match="no row"):
        retrace.row(len(raw))


def test_a_source_that_has_changed_is_not_read(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(FILES["rows.jsonl"])
    dataset = prepare(
        home, Recipe.model_validate({"name": "r", "data": {"source": str(source)}, "split": SPLIT})
    )
    source.write_bytes(FILES["rows.jsonl"] + b"{}\n")
    with pytest.raises(UserError, match="has changed"):
        Retrace(home, dataset, "builtin:base")
