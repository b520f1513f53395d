"""``evaluate --predictions FILE``: every format, and what is said of files that are none."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import UsageError, UserError
from engine.evaluate.pair_files import read_pairs
from engine.home import Home
from tests.engine.fakes.shell import Shell

ROWS = [
    {"id": "1", "answer": 'Der Hund\n\n"lief", weit', "gold": "Der Hund lief weit"},
    {"id": "2", "answer": "", "gold": "日本語, ja"},
    {"id": "3", "answer": "same", "gold": "same"},
]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(Home(tmp_path / "home"), capsys)


def delimited(delimiter: str, begin: str = "", end: str = "\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(ROWS)
    return (begin + text.getvalue()).encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def columns(rows: list[dict[str, str]] = ROWS) -> dict[str, list[str]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def numbered() -> dict[str, dict[str, str]]:
    """As pandas' ``to_json`` writes by itself."""
    return {name: {str(n): v for n, v in enumerate(c)} for name, c in columns().items()}


def text(value: Any, **more: Any) -> bytes:
    return json.dumps(value, **more).encode()


LINES = b"".join(text(row) + b"\n" for row in ROWS)
FILES: dict[str, Callable[[], bytes]] = {
    "rows.json": lambda: text(ROWS),
    "indented.json": lambda: text(ROWS, indent=2),
    "columns.json": lambda: text(columns()),
    "indented-columns.json": lambda: text(columns(), indent=1),
    "pandas.json": lambda: text(numbered()),
    "bom.json": lambda: b"\xef\xbb\xbf" + text(columns()),
    "wide.json": lambda: json.dumps(columns(), ensure_ascii=False).encode("utf-16"),
    "columns.json.gz": lambda: gzip.compress(text(columns())),
    "rows.jsonl": lambda: LINES,
    "no-ending": lambda: LINES.rstrip(),
    "rows.jsonl.gz": lambda: gzip.compress(LINES),
    "rows.csv": lambda: delimited(","),
    "excel.csv": lambda: delimited(";", "\ufeff", "\r\n"),
    "rows.tsv": lambda: delimited("\t"),
    "rows.csv.gz": lambda: gzip.compress(delimited(",", "\ufeff")),
    "rows.parquet": parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    found = read_pairs(str(path), "answer", "gold")
    assert found.predictions == [row["answer"] for row in ROWS]
    assert found.references == [row["gold"] for row in ROWS]


def test_one_row_of_lists_is_columns_and_one_of_texts_a_row(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(text({"prediction": "a", "reference": "b"}))
    assert read_pairs(str(tmp_path / "one.jsonl")).predictions == ["a"]
    (tmp_path / "lists.json").write_bytes(text({"prediction": ["a", "b"], "reference": ["b", "c"]}))
    assert read_pairs(str(tmp_path / "lists.json")).references == ["b", "c"]
    (tmp_path / "more.json").write_bytes(text({"version": 1, "answer": ["a"], "gold": ["b"]}))
    assert read_pairs(str(tmp_path / "more.json"), "answer", "gold").references == ["b"]


def test_columns_that_are_called_as_usual_need_not_be_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("Title,Output,label,completion\nt,o,l,c\n")
    found = read_pairs(str(path))
    assert (found.predictions, found.references) == (["o"], ["l"])
    assert found.notes == (
        f"--predictions {path}: taking 'Output' for the predictions and 'label' for the references",
    )
    assert read_pairs(str(path), reference="Output", prediction="Title").predictions == ["t"]
    with pytest.raises(UsageError, match="--prediction-column; there are: 'Title', 'Output'"):
        read_pairs(str(path), reference="Output")


@pytest.mark.parametrize(
    ("name", "data", "kind", "words"),
    [
        ("none.csv", None, UsageError, "cannot be read (No such file"),
        ("empty.jsonl", b"", UserError, "is empty"),
        ("blank.jsonl", b"\n \n", UserError, "has no rows"),
        ("list.json", b"[]", UserError, "has no rows"),
        ("nothing.json", b'{"answer": [], "gold": []}', UserError, "has no rows"),
        ("header.csv", b"answer,gold\n", UserError, "has no rows"),
        ("other.csv", b"answer,text\na,b\n", UsageError,
         "has no such column; there are: 'answer', 'text'"),
        ("other.json", b'[{"answer": "a", "text": "b"}]', UsageError,
         "has no such column; there are: 'answer', 'text'"),
        ("other.parquet", parquet, UsageError, "has no such column; there are: 'id', 'answer'"),
        ("null.jsonl", b'{"answer": "a", "gold": "b"}\n\n{"answer": null, "gold": "b"}\n',
         UserError, "line 3: 'answer' is null, no text"),
        ("number.jsonl", b'{"answer": "a", "gold": "b"}\n{"answer": "a", "gold": 5}\n', UserError,
         "line 2: 'gold' is a number, no text"),
        ("list.jsonl", b'{"answer": "a", "gold": ["b"]}\n' * 9, UserError,
         "line 1: 'gold' is a list, no text (8 more such lines: 2, 3, 4, 5, 6, ...)"),
        ("some.jsonl", b'{"answer": "a", "gold": "b"}\n{"answer": "a"}\n', UserError,
         "line 2 has no 'gold'"),
        ("broken.jsonl", b'{"answer": "a", "gold": "b"}\n{"answer": "a", "go\n', UserError,
         "line 2 is no JSON object"),
        ("fields.csv", b"answer,gold\na,b\nc\n", UserError, "line 3 has not as many fields"),
        ("quote.csv", b'answer,gold\na,b\n"c,d\ne,f\n', UserError, "line 3 has not as many"),
        ("lengths.json", b'{"answer": ["a", "b"], "gold": ["c"]}', UserError,
         "'answer' has 2 values and 'gold' 1"),
        ("null.json", b'{"answer": ["a", "b"], "gold": ["c", null]}', UserError,
         "row 2: 'gold' is null, no text"),
        ("object.json", b'{"data": [{"answer": "a", "gold": "b"}]}', UsageError,
         "has no such column; there are: 'data'"),
        ("cut.json", b'[{"answer": "a", "gold": "b"},\n', UserError, "damaged or cut off"),
        ("cut.jsonl.gz", lambda: gzip.compress(LINES * 5000)[:-2000], UserError, "damaged or cut"),
        ("book.xlsx", b"PK\x03\x04 and so on", UserError, "a spreadsheet"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    tmp_path: Path, name: str, data: Any, kind: type[UserError], words: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data() if callable(data) else data)
    with pytest.raises(UserError) as refused:
        read_pairs(str(path), "answer", "nope" if name == "other.parquet" else "gold")
    assert type(refused.value) is kind and words in str(refused.value)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_null_in_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    table = pa.table({"answer": ["a", None, "c"], "gold": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "null.parquet")
    with pytest.raises(UserError, match="row 2: 'answer' is null"):
        read_pairs(str(tmp_path / "null.parquet"), "answer", "gold")


def test_the_command_prints_metrics_as_a_document_and_as_a_table(
    shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(delimited(",", "\ufeff"))
    words = ("evaluate", "--predictions", str(path))
    named = (*words, "--prediction-column", "answer", "--reference-column", "gold")
    document = shell.json(*named)
    metrics = document["metrics"]
    assert metrics["rouge1"] == pytest.approx(2 / 3) and metrics["rouge1_ci"] == [0, 1]
    assert metrics["exact_match"] == pytest.approx(1 / 3) and metrics["rows"] == 3
    for name in ("rouge2", "rougeL", "bleu", "chrf", "length_ratio", "distinct_1", "repetition"):
        assert isinstance(metrics[name], float) and len(metrics[f"{name}_ci"]) == 2
    assert document["definitions"]["bleu"].startswith("corpus BLEU of sacrebleu")
    status, shown, _ = shell(*named)
    assert status == 0 and "ROUGE-L" in shown and "tok:13a" in shown and "no stemming" in shown
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--predictions", "/nowhere.csv"], 2, "--predictions /nowhere.csv: cannot be read"),
        (["--predictions", "{null}"], 1, "line 1: 'reference' is null"),
        (["--predictions", "{null}", "--prediction-column", "p"], 2, "there are: 'prediction'"),
        (["run", "--predictions", "{null}"], 2, "not both"),
        (["run", "--prediction-column", "p"], 2, "--prediction-column needs --predictions"),
        ([], 2, "name a RUN, or --predictions FILE"),
    ],
)
def test_wrong_usage_and_wrong_data(
    shell: Shell, tmp_path: Path, words: list[str], status: int, told: str
) -> None:
    null = tmp_path / "null.jsonl"
    null.write_text('{"prediction": "a", "reference": null}\n')
    found, out, errors = shell("evaluate", *(word.format(null=null) for word in words), "--json")
    assert found == status and out == "" and told in errors.replace("\n", " ")
