"""Every defect of a line and of a file: counted, survivable, and never silent."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data import lines as lines_module
from engine.data.read import RawRow, Reader, read_rows
from engine.errors import UserError
from engine.recipe import DataSection

GOOD = b'{"uid": "1", "title": "Banjo", "content": "Five strings.", "target_ind": [1]}'


def read(tmp_path: Path, content: bytes, name: str = "rows.jsonl") -> tuple[list[RawRow], Reader]:
    path = tmp_path / name
    path.write_bytes(content)
    reader = Reader(path, DataSection())
    return list(reader), reader


def only(tmp_path: Path, line: bytes) -> RawRow:
    # A good row first: a file without any title is an error of its own.
    rows, _ = read(tmp_path, GOOD + b"\n" + line + b"\n")
    assert len(rows) == 2
    assert rows[1].line == 2
    return rows[1]


@pytest.mark.parametrize(
    "line",
    [
        GOOD[:-1],
        GOOD[:30],
        GOOD[:-1] + b",}",
        GOOD.replace(b'"', b"'"),
        b"not json at all",
        b"[" + GOOD + b"]",
        b"42",
        b"null",
        b'"text"',
        GOOD + GOOD,
        b'{"title": "a raw \x02 control", "content": "c"}',
        b"[" * 5000,
        b'{"a":' * 100_000,
        b"\x00",
    ],
)
def test_malformed(tmp_path: Path, line: bytes) -> None:
    row = only(tmp_path, line)
    assert (row.drop, row.repair, row.prompt) == ("malformed", None, None)


@pytest.mark.parametrize(
    ("line", "repair", "prompt", "completion"),
    [
        (b'{"title": "Caf\xe9", "content": "c"}', "invalid_utf8", "Café", "c"),
        (b'{"title": "\x93q\x94", "content": "\x81"}', "invalid_utf8", "“q”", "\x81"),
        (b'{"title": "t", "content": "a \\ud83d b"}', "lone_surrogate", "t", "a � b"),
        (b'{"title": "\\udc00", "content": "c"}', "lone_surrogate", "�", "c"),
        (b'{"title": "t", "content": "c", "uid": ["\\ud800"]}', "lone_surrogate", "t", "c"),
        (b'{"title": "t", "content": "c", "x": NaN}', "nan", "t", "c"),
        (b'{"title": "t", "content": "c", "x": [-Infinity]}', "nan", "t", "c"),
        (b'{"title": "t", "content": "c", "x": 18446744073709551616}', "number_overflow", "t", "c"),
        (b'{"title": "t", "content": "c", "x": -9223372036854775809}', "number_overflow", "t", "c"),
        (b'{"title": "t", "content": "c", "x": 18446744073709551615}', None, "t", "c"),
        (b'{"title": "t", "content": "99999999999999999999999"}', None, "t", "9" * 23),
        (b'{"title": "t", "content": "c", "x": ' + b"9" * 5000 + b"}", "number_overflow", "t", "c"),
        (b'{"title": "a", "title": "b", "content": "c"}', "duplicate_key", "b", "c"),
        (b'{"title": "t", "content": "c", "content": "d"}', "duplicate_key", "t", "d"),
        (b'{"title": "t", "content": "c", "x": 1, "x": 2}', None, "t", "c"),
        (b'{"title": "t", "content": "c", "x": {"title": 1}}', None, "t", "c"),
        (b'{"title": 1984, "content": "c"}', "number_as_text", "1984", "c"),
        (b'{"title": "t", "content": 19.5}', "number_as_text", "t", "19.5"),
        (b'{"title": ' + b"1" * 30 + b', "content": "c"}', "number_overflow", "1" * 30, "c"),
        # The first that applies counts.
        (b'{"title": 1, "content": "\xe9", "x": NaN}', "invalid_utf8", "1", "é"),
        (b'{"title": "\\ud800", "content": "c", "x": NaN}', "lone_surrogate", "�", "c"),
        (b'{"title": 5, "content": "c", "x": NaN}', "nan", "5", "c"),
        # No defects at all.
        (b'{"content": "c", "price": 1e400, "title": "t"} \r', None, "t", "c"),
        (b'{"title": "\\ud83d\\ude00", "content": "\xe2\x80\xa8"}', None, "😀", "\u2028"),
        (b'{"title": "a\\u0000b", "content": "c"}', None, "a\x00b", "c"),
    ],
)
def test_repairs(
    tmp_path: Path, line: bytes, repair: str | None, prompt: str, completion: str
) -> None:
    row = only(tmp_path, line)
    assert (row.drop, row.repair) == (None, repair)
    assert (row.prompt, row.completion) == (prompt, completion)


@pytest.mark.parametrize(
    ("line", "drop", "repair"),
    [
        (b'{"title": "t"}', "missing_field", None),
        (b'{"title": null, "content": "c"}', "missing_field", None),
        (b'{"title": NaN, "content": "c"}', "missing_field", "nan"),
        (b'{"content": 12}', "missing_field", "number_as_text"),
        (b'{"title": ["t"], "content": null}', "missing_field", None),
        (b'{"title": ["t"], "content": "c"}', "not_text", None),
        (b'{"title": "t", "content": {"en": "c"}}', "not_text", None),
        (b'{"title": true, "content": "c"}', "not_text", None),
        (b'{"title": false, "content": 3}', "not_text", "number_as_text"),
        (b"{}", "missing_field", None),
    ],
)
def test_missing_and_not_text(tmp_path: Path, line: bytes, drop: str, repair: str | None) -> None:
    row = only(tmp_path, line)
    assert (row.drop, row.repair) == (drop, repair)


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, b"\n" + GOOD + b"\n  \n\t\r\n" + GOOD)
    assert [row.line for row in rows] == [2, 5]


def test_other_line_ends_of_unicode_end_no_line(tmp_path: Path) -> None:
    line = '{"title": "a\u2028b\u0085c", "content": "d\u2029e"}'.encode()
    row = only(tmp_path, line)
    assert row.prompt == "a\u2028b\u0085c"


def test_bom_and_a_second_one_in_the_middle(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    rows, reader = read(tmp_path, bom + GOOD + b"\n" + bom + GOOD + b"\n")
    assert [row.prompt for row in rows] == ["Banjo", "Banjo"]
    assert not any(row.repair for row in rows)
    assert reader.lines.file_repairs == {"bom": 2}


def test_a_whole_latin1_file(tmp_path: Path) -> None:
    text = "".join(f'{{"title": "Café {n}", "content": "naïve"}}\n' for n in range(50))
    rows, _ = read(tmp_path, text.encode("latin-1"))
    assert {row.repair for row in rows} == {"invalid_utf8"}
    assert rows[7].prompt == "Café 7"


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"\xff\xfe{\x00", "UTF-16"), (b"PAR1", "Parquet"), (b"\x28\xb5\x2f\xfd", "zstd")],
)
def test_formats_that_are_something_else_are_named(tmp_path: Path, head: bytes, kind: str) -> None:
    with pytest.raises(UserError, match=kind):
        read(tmp_path, head)


def numbered(count: int) -> bytes:
    return b"".join(
        b'{"title": "title %d", "content": "text %d"}\n' % (n, n * n) for n in range(count)
    )


def test_gzip_is_told_by_its_content_and_may_have_members_and_padding(tmp_path: Path) -> None:
    data = numbered(1000)
    packed = b"".join(gzip.compress(data[at : at + 7001]) for at in range(0, len(data), 7001))
    rows, reader = read(tmp_path, packed + b"\0" * 512, "not-named-gz.json")
    assert [row.raw for row in rows] == data.splitlines()
    assert not reader.lines.file_repairs
    assert not reader.lines.warnings


@pytest.mark.parametrize("rows", [10, 200_000])
def test_truncated_gzip_keeps_what_is_there(tmp_path: Path, rows: int) -> None:
    data = numbered(rows)
    packed = gzip.compress(data, 1)
    found, reader = read(tmp_path, packed[: len(packed) * 2 // 3])
    whole = [row for row in found if row.drop is None]
    assert [row.raw for row in whole] == data.splitlines()[: len(whole)]
    assert len(found) - len(whole) <= 1  # the line that was cut
    assert len(whole) >= (rows // 3 if rows > 10 else 1)
    assert reader.lines.file_repairs == {"truncated_gzip": 1}
    assert "ends in the middle" in reader.lines.warnings[0]


def test_garbage_behind_gzip_is_said_and_not_read(tmp_path: Path) -> None:
    rows, reader = read(tmp_path, gzip.compress(numbered(100)) + b"\0\0garbage" * 1000)
    assert len(rows) == 100
    assert reader.lines.file_repairs == {"trailing_garbage": 1}
    assert "follows the gzip data" in reader.lines.warnings[0]


def test_damage_in_the_middle_keeps_what_comes_before(tmp_path: Path) -> None:
    data = numbered(100_000)
    packed = bytearray(gzip.compress(data))
    middle = len(packed) // 2
    packed[middle : middle + 200] = b"\xff" * 200
    rows, reader = read(tmp_path, bytes(packed))
    lines = data.splitlines()
    same = 0
    while same < len(rows) and rows[same].raw == lines[same]:
        same += 1
    assert same > 40_000
    assert reader.lines.file_repairs == {"damaged_gzip": 1}


def test_lines_of_any_length(tmp_path: Path) -> None:
    long = json.dumps({"title": "t", "content": "x" * 5_000_000}).encode()
    rows, _ = read(tmp_path, GOOD + b"\n" + long + b"\n" + GOOD)
    assert [len(row.completion or "") for row in rows] == [13, 5_000_000, 13]


def test_a_line_longer_than_memory_allows_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 3 << 20)
    rows, reader = read(tmp_path, GOOD + b"\n" + b"x" * (9 << 20) + b"\n" + GOOD + b"\n" + GOOD)
    assert [(row.line, row.drop) for row in rows] == [
        (1, None),
        (2, "malformed"),
        (3, None),
        (4, None),
    ]
    assert "line 2 is longer" in reader.lines.warnings[0]


def test_the_index_finds_each_block_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", 100)
    data = (
        b"\xef\xbb\xbf"
        + b"\n".join(b"{}" if n % 3 else b" " for n in range(100))
        + b"\n"
        + b'{"title": "t", "content": "'
        + b"x" * 500
        + b'"}\n'
        + numbered(40)
    )
    _, reader = read(tmp_path, data)
    for rows, number, offset in reader.index:
        before = data[:offset].removeprefix(b"\xef\xbb\xbf")
        assert before.count(b"\n") == number - 1
        assert sum(bool(line.strip()) for line in before.split(b"\n")) == rows


def test_missing_columns_name_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"input": "a", "output": "b", "title": "c"}\n')
    with pytest.raises(UserError, match=r"no column 'content' .* input, output, title"):
        list(read_rows(tmp_path / "a.jsonl", DataSection()))


def test_a_column_that_comes_late_is_no_error(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, b'{"title": "t"}\n' * 900 + GOOD)
    assert rows[-1].drop is None
    with pytest.raises(UserError, match="first 1,000 rows"):
        read(tmp_path, b'{"title": "t"}\n' * 1000 + GOOD)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([GOOD, b"{}", b'{"title":']), max_size=8))
def test_any_bytes_are_accounted_for(tmp_path_factory: pytest.TempPathFactory, parts) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    data = GOOD + b"\n" + b"\n".join(parts)
    path.write_bytes(data)
    rows = list(read_rows(path, DataSection()))
    lines = data.split(b"\n")
    assert [row.line for row in rows] == [
        number for number, line in enumerate(lines, 1) if line and not line.isspace()
    ]
    for row in rows:
        assert (row.prompt is None) == (row.drop is not None)
