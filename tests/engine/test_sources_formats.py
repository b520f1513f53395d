"""Every format and packing gives the same rows; what is wrong with a file is counted."""

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from engine.data.rows import RawRow
from engine.data.sources import RawRecords, Source, look, open_source
from engine.data.sources import files as files_module
from engine.errors import UserError
from engine.home import Home
from engine.recipe import DataSection

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
}
TEXTS = [
    ("Banjo", "Five strings."),
    ("Two\nlines", 'a "quoted", word; and\ttabs|bars'),
    ("Café", "naïve 漢字 😀"),
    ("", "no title"),
    ("x" * 300, "y" * 3000),
]


def write(tmp_path: Path, content: bytes, name: str = "rows") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(path: Path, **settings: str) -> tuple[list[RawRow], Source]:
    source = open_source(Home(path.parent), DataSection(source=str(path), **settings))
    parser = source.parser()
    rows = [row for chunk in source.chunks() for row in parser.rows(chunk)]
    assert source.rows == len(rows)
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))  # every row has a number of its own
    assert source.bytes_read <= source.bytes_total
    return rows, source


def texts(rows: list[RawRow]) -> list[tuple[str, str] | str | None]:
    return [(row.row.prompt, row.row.completion) if row.row else row.drop for row in rows]


def objects(count: int = 5) -> list[dict[str, str]]:
    return [
        {"title": TEXTS[n % 5][0] + ("" if n < 5 else str(n)), "content": TEXTS[n % 5][1]}
        for n in range(count)
    ]


def csv_text(delimiter: str = ",", count: int = 5) -> str:
    lines = [f"id{delimiter}title{delimiter}content"]
    for n, row in enumerate(objects(count)):
        quoted = ['"' + row[name].replace('"', '""') + '"' for name in ("title", "content")]
        lines.append(delimiter.join([str(n), *quoted]))
    return "\r\n".join(lines) + "\r\n"


def table(count: int = 5) -> pa.Table:
    return pa.Table.from_pylist([{"id": n, **row} for n, row in enumerate(objects(count))])


def parquet(count: int = 5, group: int = 2) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table(count), sink, row_group_size=group)
    return sink.getvalue().to_pybytes()


def arrow(count: int = 5, stream: bool = False, batch: int = 2) -> bytes:
    sink = pa.BufferOutputStream()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(sink, table().schema) as writer:
        for part in table(count).to_batches(max_chunksize=batch):
            writer.write_batch(part)
    return sink.getvalue().to_pybytes()


TEXT_FORMATS: dict[str, Callable[[int], str]] = {
    "lines": lambda n: "".join(json.dumps(row) + "\n" for row in objects(n)),
    "lines as they are": lambda n: "\n".join(
        json.dumps(row, ensure_ascii=False) for row in objects(n)
    ),
    "array": lambda n: json.dumps(objects(n)),
    "pretty array": lambda n: json.dumps(objects(n), indent=2, ensure_ascii=False),
    "array, one a line": lambda n: "[\n" + ",\n".join(map(json.dumps, objects(n))) + "\n]\n",
    "pretty objects": lambda n: "\n".join(json.dumps(row, indent=4) for row in objects(n)),
    "comma": lambda n: csv_text(",", n),
    "semicolon": lambda n: csv_text(";", n),
    "tab": lambda n: csv_text("\t", n),
    "bar": lambda n: csv_text("|", n),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_text_formats_in_every_packing(tmp_path: Path, name: str, packing: str) -> None:
    content = PACKERS[packing](TEXT_FORMATS[name](5).encode())
    rows, source = read(write(tmp_path, content))
    assert texts(rows) == TEXTS
    assert source.files[0].compression == packing
    assert not source.file_repairs
    assert not any(row.repair for row in rows)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_text_formats_in_every_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    rows, source = read(write(tmp_path, TEXT_FORMATS[name](5).encode(encoding)))
    assert texts(rows) == TEXTS
    assert not set(source.file_repairs) - {"bom"}


@pytest.mark.parametrize("packing", PACKERS)
def test_truncated_and_damaged_packings_keep_what_is_there(tmp_path: Path, packing: str) -> None:
    if not packing:
        return
    rng = random.Random(0)
    rows = [{"title": f"t{n}", "content": rng.randbytes(60).hex()} for n in range(20_000)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    lines = data.splitlines()
    packed = PACKERS[packing](data)
    cut, source = read(write(tmp_path, packed[: len(packed) * 2 // 3]))
    whole = [row for row in cut if row.drop is None]
    assert [row.raw for row in whole] == lines[: len(whole)]
    assert 8_000 < len(whole) < 15_000
    assert len(cut) - len(whole) <= 1
    assert source.file_repairs == {f"truncated_{packing}": 1}
    middle = len(packed) // 2
    damaged = packed[:middle] + bytes(200) + packed[middle + 200 :]
    found, source = read(write(tmp_path, damaged))
    same = 0
    while same < len(found) and found[same].raw == lines[same]:
        same += 1
    assert same > 4_000
    assert source.file_repairs == {f"damaged_{packing}": 1}
    twice, source = read(write(tmp_path, packed + packed))
    assert len(twice) == 40_000
    assert not source.file_repairs
    more, source = read(write(tmp_path, packed + b"garbage" * 9))
    assert len(more) == 20_000
    assert source.file_repairs == {"trailing_garbage": 1}


# JSON arrays


GOOD = '{"title": "t", "content": "c"}'


@pytest.mark.parametrize(
    ("element", "raw"),
    [
        ('{"title": "t", "content": "c",}', None),
        ('{"title": "t", "content": "c"', None),
        ('{"title": "t", "content": "c}', None),
        ('{"title": "t, "content": "c"}', None),
        ("{'title': 't', 'content': 'c'}", None),
        ('{"title": "t", "content": ["c"}', None),
        ('{"title": "t", "content": "c"}}', '{"title": "t", "content": "c"}'),
        ('"just a text"', None),
        ("42", None),
        ("null", None),
        ("[1, 2]", None),
        ('{"title": "raw\nline end", "content": "c"}', None),
        ("what?", None),
    ],
)
@pytest.mark.parametrize("layout", ["one a line", "indented"])
def test_a_malformed_element_is_one_row_and_the_rest_is_read(
    tmp_path: Path, element: str, raw: str | None, layout: str
) -> None:
    elements = [GOOD, GOOD, element, GOOD, GOOD]
    indent = "  " if layout == "indented" else ""
    content = "[\n" + ",\n".join(indent + each for each in elements) + "\n]\n"
    rows, _ = read(write(tmp_path, content.encode()))
    good = [row for row in rows if row.drop is None]
    if raw is None:
        assert [row.drop for row in rows] == [None, None, "malformed", None, None]
        assert rows[2].raw.decode() == element
        later = 5 + element.count("\n")
        assert [row.line for row in rows] == [2, 3, 4, later, later + 1]
    else:  # the object is whole; what follows it is a row of its own
        assert len(good) == 5
        assert [row.raw.decode() for row in rows if row.drop] == ["}"]


def test_repairs_are_the_same_in_arrays(tmp_path: Path) -> None:
    elements = [
        GOOD.encode(),
        b'{"title": "Caf\xe9", "content": "c"}',
        b'{"title": "\\ud800", "content": "c"}',
        b'{"title": "t", "content": "c", "x": NaN}',
        b'{"title": "t", "content": "c", "x": 99999999999999999999}',
        b'{"title": "a", "title": "t", "content": "c"}',
        b'{"title": 1984, "content": "c"}',
    ]
    rows, _ = read(write(tmp_path, b"[" + b", ".join(elements) + b"]"))
    assert [row.repair for row in rows] == [
        *(None, "invalid_utf8", "lone_surrogate", "nan"),
        *("number_overflow", "duplicate_key", "number_as_text"),
    ]
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6, 7]


def test_arrays_that_do_not_end_or_come_twice(tmp_path: Path) -> None:
    rows, source = read(write(tmp_path, f"[{GOOD}, {GOOD}".encode()))
    assert len(rows) == 2
    assert source.file_repairs == {"truncated_json": 1}
    rows, source = read(write(tmp_path, f"[{GOOD}, {GOOD[:20]}".encode()))
    assert [row.drop for row in rows] == [None, "malformed"]
    rows, source = read(write(tmp_path, f"[{GOOD} {GOOD}]\n[{GOOD},]\n".encode()))
    assert len(rows) == 3
    assert source.file_repairs == {"missing_comma": 1}
    rows, _ = read(write(tmp_path, f"[{GOOD}] behind it".encode()))
    assert [row.drop for row in rows] == [None, "malformed"]


def test_one_object_is_no_rows(tmp_path: Path) -> None:
    whole = {"version": 1, "data": objects(3), "names": ["a"]}
    for content in (json.dumps(whole, indent=2), json.dumps(whole)):
        with pytest.raises(UserError, match=r"one JSON object.* the list 'data'"):
            read(write(tmp_path, content.encode(), "rows.json"))
    with pytest.raises(UserError, match="one JSON object"):
        read(write(tmp_path, json.dumps({"a": {"b": 1}}, indent=1).encode()))
    large = json.dumps({"items": objects(2000)}, indent=1)
    with pytest.raises(UserError, match="the list 'items'"):
        read(write(tmp_path, large.encode()))


def test_a_large_element_and_a_large_array(tmp_path: Path) -> None:
    elements = [{"title": "t", "content": "x" * 5_000_000}, *objects(30_000)]
    rows, source = read(write(tmp_path, json.dumps(elements).encode()))
    assert len(rows) == 30_001
    assert rows[0].row and len(rows[0].row.completion) == 5_000_000
    assert len(source.index["blocks"]) > 10


# CSV


def test_csv_counts_lines_where_records_start(tmp_path: Path) -> None:
    content = 'title,content\n\n"a\nb","c\n\nd"\ne,f\n"g",h\n'
    rows, _ = read(write(tmp_path, content.encode(), "rows.csv"))
    assert texts(rows) == [("a\nb", "c\n\nd"), ("e", "f"), ("g", "h")]
    assert [row.line for row in rows] == [3, 7, 8]
    assert rows[0].raw == b'"a\nb","c\n\nd"'


def test_csv_rows_of_another_width_are_malformed(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, b"title,content\na,b\nc\nd,e,f\n,\ng,h", "rows.csv"))
    assert texts(rows) == [("a", "b"), "malformed", "malformed", ("", ""), ("g", "h")]


def test_csv_quotes_that_nothing_closes(tmp_path: Path) -> None:
    content = b'title,content\na,b\nc,"d\ne,f\ng,h\n'
    rows, source = read(write(tmp_path, content, "rows.csv"))
    assert texts(rows) == [("a", "b"), "malformed", ("e", "f"), ("g", "h")]
    assert rows[1].raw == b'c,"d'
    assert source.file_repairs == {"unclosed_quote": 1}
    rows, source = read(write(tmp_path, b"title,content\n" + b'a","b\n' * 200, "rows.csv"))
    assert len(rows) == 200
    assert {row.drop for row in rows} == {"malformed"}


def test_csv_defects_of_bytes(tmp_path: Path) -> None:
    content = b"title,content\nCaf\xe9,c\na\0b,c\n\xc3\xa9,c\n"
    rows, _ = read(write(tmp_path, content, "rows.csv"))
    assert texts(rows) == [("Café", "c"), ("a\0b", "c"), ("é", "c")]
    assert [row.repair for row in rows] == ["invalid_utf8", None, None]
    rows, _ = read(write(tmp_path, b"title,content\r\x82\xa0,c\rb,c\r", "rows.csv"),
                   encoding="shift_jis")  # fmt: skip
    assert texts(rows) == [("あ", "c"), ("b", "c")]
    rows, source = read(write(tmp_path, b"title,content\nab\x81\xff,c\n", "rows.csv"),
                        encoding="gb18030")  # fmt: skip
    assert source.file_repairs["undecodable"] >= 1
    assert len(rows) == 1
    with pytest.raises(UserError, match=r"data\.encoding: no encoding 'klingon'"):
        read(tmp_path / "rows.csv", encoding="klingon")
    with pytest.raises(UserError, match=r"data\.encoding"):
        read(tmp_path / "rows.csv", encoding="hex")


def test_csv_headers(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, b"sep=;\ntitle;content\na;b,c\n", "rows.csv"))
    assert texts(rows) == [("a", "b,c")]
    rows, _ = read(write(tmp_path, b"title,title,content\na,b,c\n", "rows.csv"))
    assert (texts(rows), rows[0].repair) == ([("b", "c")], "duplicate_key")
    rows, _ = read(write(tmp_path, b"title#content\na#b\n", "rows.csv"), delimiter="#")
    assert texts(rows) == [("a", "b")]
    with pytest.raises(UserError, match=r"data\.delimiter"):
        read(tmp_path / "rows.csv", delimiter="##")
    rows, _ = read(write(tmp_path, b'title,content\na,"' + b"x" * 3_000_000 + b'"\n', "rows.csv"))
    assert rows[0].row and len(rows[0].row.completion) == 3_000_000


# Parquet and Arrow


@pytest.mark.parametrize(
    "content", [parquet(), arrow(), arrow(stream=True)], ids=["parquet", "file", "stream"]
)
def test_columnar_formats(tmp_path: Path, content: bytes) -> None:
    rows, source = read(write(tmp_path, content))
    assert texts(rows) == TEXTS
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]
    assert json.loads(rows[0].raw) == {"title": "Banjo", "content": "Five strings."}
    assert source.files[0].columns == ("id", "title", "content")
    with pytest.raises(UserError, match="packed with gzip"):
        read(write(tmp_path, gzip.compress(content)))


def test_columns_that_are_no_text(tmp_path: Path) -> None:
    import datetime

    columns = {
        "title": pa.array([1, None, 3]),
        "content": pa.array(["a", "b", None]),
        "price": pa.array([1.5, float("nan"), None]),
        "when": pa.array([datetime.date(2020, 1, 1)] * 3),
        "bytes": pa.array([b"caf\xc3\xa9", b"caf\xe9", b"\0\1"]),
    }
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    rows, _ = read(path)
    assert texts(rows) == [("1", "a"), "missing_field", "missing_field"]
    assert [row.repair for row in rows] == ["number_as_text", None, "number_as_text"]
    rows, _ = read(path, prompt_column="price", completion_column="bytes")
    assert texts(rows) == [("1.5", "café"), "missing_field", "missing_field"]
    assert [row.repair for row in rows] == ["number_as_text", "invalid_utf8", None]
    rows, _ = read(path, prompt_column="when", completion_column="bytes")
    assert texts(rows) == ["not_text"] * 3


def test_texts_of_arrow_that_are_not_utf8(tmp_path: Path) -> None:
    bad = pa.array([b"a", b"caf\xe9", b"c"]).view(pa.string())
    batch = pa.RecordBatch.from_arrays([bad, pa.array(["x", "y", "z"])], ["title", "content"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    rows, _ = read(write(tmp_path, sink.getvalue().to_pybytes()))
    assert texts(rows) == [("a", "x"), ("café", "y"), ("c", "z")]
    assert [row.repair for row in rows] == [None, "invalid_utf8", None]


def test_a_damaged_row_group_is_counted(tmp_path: Path) -> None:
    content = bytearray(parquet(3000, 1000))
    start = len(content) // 2 - 300
    content[start : start + 200] = b"\xff" * 200
    rows, source = read(write(tmp_path, bytes(content)))
    assert len(rows) == 3000
    lost = sum(row.drop == "malformed" for row in rows)
    assert 0 < lost <= 2000
    assert source.file_repairs["damaged_rows"] == lost
    assert "cannot be read" in source.warnings[0]
    with pytest.raises(UserError, match="damaged or cut off"):
        read(write(tmp_path, bytes(content[:-20])))


def test_a_truncated_arrow_stream(tmp_path: Path) -> None:
    content = arrow(1000, stream=True, batch=100)
    rows, source = read(write(tmp_path, content[: len(content) // 2]))
    assert 300 < len(rows) < 600
    assert source.file_repairs == {"damaged_rows": 1}


# Paging


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", [*TEXT_FORMATS, "utf-16", "parquet", "arrow", "stream"])
def test_every_row_is_found_again(
    tmp_path: Path, name: str, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.data.sources import arrays, columnar, delimited, unpack

    for module in (files_module, arrays, columnar, delimited, unpack):
        monkeypatch.setattr(module, "BLOCK_BYTES", 5_000)
    makers = {
        "parquet": lambda: parquet(200, 70),
        "arrow": lambda: arrow(200, batch=70),
        "stream": lambda: arrow(200, stream=True, batch=70),
        "utf-16": lambda: TEXT_FORMATS["lines"](200).encode("utf-16"),
    }
    if name in makers:
        content = makers[name]()
        if packing and name != "utf-16":
            return
    else:
        content = TEXT_FORMATS[name](200).encode()
    path = write(tmp_path, PACKERS[packing](content))
    rows, source = read(path)
    assert len(rows) == 200
    index = json.loads(json.dumps(source.index))
    assert len(index["blocks"]) > 2
    records = RawRecords(index)
    for start in (0, 199, 50, 51, 190, 3, 120, 200, 300):
        found = records.records(start, 25)
        expected = rows[start : start + 25]
        assert [line for line, _ in found] == [row.line for row in expected]
        if name in ("parquet", "arrow", "stream"):
            titles = [json.loads(raw)["title"] for _, raw in found]
            assert titles == [row.row.prompt for row in expected if row.row]
        else:
            assert [raw for _, raw in found] == [row.raw for row in expected]
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="has changed"):
        RawRecords(index)


@pytest.mark.parametrize("packing", PACKERS)
def test_far_into_large_packed_files(tmp_path: Path, packing: str) -> None:
    data = b"".join(b'{"title": "t%d", "content": "%s"}\n' % (n, b"x" * 90) for n in range(60_000))
    _, source = read(write(tmp_path, PACKERS[packing](data)))
    lines = data.splitlines()
    rng = random.Random(0)
    records = RawRecords(source.index)
    for start in (59_990, 5, 59_000, *(rng.randrange(60_000) for _ in range(10))):
        records = RawRecords(source.index) if start % 3 == 0 else records
        found = records.records(start, 20)
        assert found == list(enumerate(lines[start : start + 20], start + 1))


def test_look_shows_what_will_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, zstd.compress(csv_text(";", 50).encode("utf-16")))
    found = look(Home(tmp_path), DataSection(source=str(path)))
    file = found.files[0]
    assert (file.format, file.compression, file.delimiter) == ("csv", "zstd", ";")
    assert file.encoding == "utf-16-le"
    assert (found.layout.name, found.shape) == ("columns", "pair")
    assert found.columns == ("id", "title", "content")
    assert found.mapping == "title -> prompt, content -> completion"
    assert len(found.sample) == 20
    assert texts(list(found.sample))[:5] == TEXTS
    assert "utf-16-le" in found.notes[0]
