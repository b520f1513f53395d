"""Every defect of a line and of a file: counted, survivable, and never silent."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.rows import RawRow
from engine.data.sources import Source, open_source
from engine.data.sources import lines as lines_module
from engine.data.sources import unpack as unpack_module
from engine.errors import UserError
from engine.home import Home
from engine.recipe import DataSection

GOOD = b'{"uid": "1", "title": "Banjo", "content": "Five strings.", "target_ind": [1]}'


def read(
    tmp_path: Path, content: bytes, name: str = "rows.jsonl", **settings: str
) -> tuple[list[RawRow], Source]:
    path = tmp_path / name
    path.write_bytes(content)
    source = open_source(Home(tmp_path), DataSection(source=str(path), **settings))
    parser = source.parser()
    rows = [row for chunk in source.chunks() for row in parser.rows(chunk)]
    source.file_repairs.update(parser.file_repairs)
    assert source.rows == len(rows)
    return rows, source


def only(tmp_path: Path, line: bytes) -> RawRow:
    # A good row first: a file without any title is an error of its own.
    rows, _ = read(tmp_path, GOOD + b"\n" + line + b"\n")
    assert len(rows) == 2
    assert rows[1].line == 2
    return rows[1]


def texts(rows: list[RawRow]) -> list[tuple[str, str] | None]:
    return [(row.row.prompt, row.row.completion) if row.row else None for row in rows]


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
    assert (row.drop, row.repair, row.row) == ("malformed", None, None)


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
    assert texts([row]) == [(prompt, completion)]


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
    assert texts([row]) == [("a\u2028b\u0085c", "d\u2029e")]


def test_bom_and_a_second_one_in_the_middle(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    rows, reader = read(tmp_path, bom + GOOD + b"\n" + bom + GOOD + b"\n")
    assert [row.row and row.row.prompt for row in rows] == ["Banjo", "Banjo"]
    assert not any(row.repair for row in rows)
    assert reader.file_repairs == {"bom": 2}


def test_a_whole_latin1_file(tmp_path: Path) -> None:
    text = "".join(f'{{"title": "Café {n}", "content": "naïve"}}\n' for n in range(50))
    rows, _ = read(tmp_path, text.encode("latin-1"))
    assert {row.repair for row in rows} == {"invalid_utf8"}
    assert texts(rows)[7] == ("Café 7", "naïve")


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"PK\x03\x04", "zip"), (b"PAR1", "damaged"), (b"SQLite format 3\0", "SQLite")],
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
    assert not reader.file_repairs
    assert not reader.warnings


@pytest.mark.parametrize("rows", [10, 200_000])
def test_truncated_gzip_keeps_what_is_there(tmp_path: Path, rows: int) -> None:
    data = numbered(rows)
    packed = gzip.compress(data, 1)
    found, reader = read(tmp_path, packed[: len(packed) * 2 // 3])
    whole = [row for row in found if row.drop is None]
    assert [row.raw for row in whole] == data.splitlines()[: len(whole)]
    assert len(found) - len(whole) <= 1  # the line that was cut
    assert len(whole) >= (rows // 3 if rows > 10 else 1)
    assert reader.file_repairs == {"truncated_gzip": 1}
    assert "ends in the middle" in reader.warnings[0]


def test_garbage_behind_gzip_is_said_and_not_read(tmp_path: Path) -> None:
    rows, reader = read(tmp_path, gzip.compress(numbered(100)) + b"\0\0garbage" * 1000)
    assert len(rows) == 100
    assert reader.file_repairs == {"trailing_garbage": 1}
    assert "follows the gzip data" in reader.warnings[0]


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
    assert reader.file_repairs == {"damaged_gzip": 1}


def test_lines_of_any_length(tmp_path: Path) -> None:
    long = json.dumps({"title": "t", "content": "x" * 5_000_000}).encode()
    rows, _ = read(tmp_path, GOOD + b"\n" + long + b"\n" + GOOD)
    assert [len(row.row.completion) for row in rows if row.row] == [13, 5_000_000, 13]


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
    assert "line 2 is longer" in reader.warnings[0]


def test_the_index_finds_each_block_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_module, "BLOCK_BYTES", 100)
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
    assert len(reader.index["blocks"]) > 5
    for rows, number, offset, _, _ in reader.index["blocks"]:
        before = data[:offset].removeprefix(b"\xef\xbb\xbf")
        assert before.count(b"\n") == number - 1
        assert sum(bool(line.strip()) for line in before.split(b"\n")) == rows


def test_missing_columns_name_those_that_are_there(tmp_path: Path) -> None:
    content = b'{"input": "a", "output": "b", "title": "c"}\n'
    names = {"prompt_column": "title", "completion_column": "content"}
    with pytest.raises(UserError, match=r"no column 'content' .* input, output, title"):
        read(tmp_path, content, **names)
    with pytest.raises(UserError, match="no column 'x' and no column 'y'"):
        read(tmp_path, content, prompt_column="x", completion_column="y")


def test_a_column_that_comes_late_is_no_error(tmp_path: Path) -> None:
    names = {"prompt_column": "title", "completion_column": "content"}
    rows, _ = read(tmp_path, b'{"title": "t"}\n' * 900 + GOOD, **names)
    assert rows[-1].drop is None
    with pytest.raises(UserError, match="first 1,000 rows"):
        read(tmp_path, b'{"title": "t"}\n' * 1000 + GOOD, **names)


def test_keys_twice_are_found_in_any_company(tmp_path: Path) -> None:
    """Keys are counted for all lines at once: neither escapes nor nesting may hide a second one."""
    lines = [GOOD] * 40
    lines[3] = b'{"title": "a", "title": "b", "content": "c"}'
    lines[5] = b'{"t\\u0069tle": "a", "content": "c"}'
    lines[7] = b'{"content": "c", "meta": {"title": "x"}, "title": "t"}'
    lines[9] = b'{"title": "a", "t\\u0069tle": "b", "content": "c"}'
    lines[11] = b'{"title": "about \\"title\\": this", "content": "c"}'
    rows, _ = read(tmp_path, b"\n".join(lines))
    assert [row.repair for row in rows if row.repair] == ["duplicate_key"] * 2
    assert [rows[at].repair for at in (3, 9)] == ["duplicate_key"] * 2
    assert [text and text[0] for text in texts(rows)][3:12:2] == [
        *("b", "a", "t", "b", 'about "title": this')
    ]


def test_large_numbers_are_found_among_many_small_ones(tmp_path: Path) -> None:
    small = b'{"title": "t", "content": "c", "x": [%s]}' % b", ".join(
        b"%d" % (n * 7919 % 10**6) for n in range(300)
    )
    lines = [small] * 30
    for at in range(19):  # at every distance from the sixth bytes that are looked at
        lines[at] = b'{"title": "t", "content": "c", %s"x": 99999999999999999999}' % (b" " * at)
    rows, _ = read(tmp_path, b"\n".join(lines))
    assert [row.repair for row in rows] == ["number_overflow"] * 19 + [None] * 11


def test_a_source_that_is_given_up_half_read_ends_in_the_garbage_collector(tmp_path: Path) -> None:
    import gc
    import threading

    path = tmp_path / "rows.jsonl"
    path.write_bytes(numbered(100_000))
    before = threading.active_count()
    for _ in range(20):
        source = open_source(Home(tmp_path), DataSection(source=str(path)))
        chunks = source.chunks()
        next(chunks)
        circle: list[object] = [chunks]
        circle.append(circle)
        del source, chunks, circle
    gc.collect()
    assert threading.active_count() == before


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([GOOD, b"{}", b'{"title":']), max_size=8))
def test_any_bytes_are_accounted_for(tmp_path_factory: pytest.TempPathFactory, parts) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    data = GOOD + b"\n" + b"\n".join(parts)
    rows, _ = read(folder, data)
    lines = data.split(b"\n")
    assert [row.line for row in rows] == [
        number for number, line in enumerate(lines, 1) if line and not line.isspace()
    ]
    for row in rows:
        assert (row.row is None) == (row.drop is not None)
