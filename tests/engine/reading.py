"""Files for the reader to choke on: good ones of every format, mutated, and bytes of any kind.

Shared by the short fuzz of the usual tests and the long one.
"""

import bz2
import gzip
import io
import json
import lzma
import random
import re
from collections.abc import Callable
from pathlib import Path

from engine.data.rows import RawRow
from engine.data.sources import RawRecords, open_source
from engine.data.sources.encodings import BOM
from engine.errors import UserError
from engine.home import Home
from engine.recipe import DataSection

ROWS = [
    {"title": "Banjo", "content": "Five strings."},
    {"title": "Two\nlines", "content": 'a "quoted", word; and\ttabs|bars'},
    {"title": "Café 漢字", "content": "naïve 😀 \\u0041"},
    {"title": 1984, "content": None},
    {"title": "", "content": "x" * 200},
    {"title": ["a"], "content": {"b": [1, 2.5, True]}},
]
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
OTHERS = [
    {"messages": TURNS, "title": "t"},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {"instruction": "i", "input": "", "output": "o", "history": [["q", "a"]]},
    {"prompt": TURNS[:1], "completion": TURNS[1:]},
    {"text": "all of it"},
]
DEFECTS = [
    b'{"title": "Caf\xe9", "content": "c"}',
    b'{"title": "\\ud800", "content": "c"}',
    b'{"title": NaN, "content": 99999999999999999999}',
    b'{"title": "a", "title": "b", "content": "c"}',
    b"[1]", b"null", b"not json", b"", b" ", b"\xef\xbb\xbf{}", b'{"title": "cut', b"{" * 50,
]  # fmt: skip
TOKENS = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\r\n", b"\t", b";", b"|"),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\\u"),
    *(b"9" * 30, b"NaN", b"null", b'""', b'"},{"', b"\n  {", b"PAR1", b"ARROW1", b"\xff" * 4),
]


def _csv(rows: list[dict[str, object]], delimiter: str) -> bytes:
    import csv

    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["title", "content"])
    writer.writerows([[row.get("title"), row.get("content")] for row in rows])
    return out.getvalue().encode()


def _columnar(kind: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": n, "title": f"t{n}" * (n % 5), "content": "c" * (n % 9)} for n in range(60)]
    turns = [{"turns": TURNS} for _ in rows]
    table = pa.Table.from_pylist([{**row, **turn} for row, turn in zip(rows, turns, strict=True)])
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=25)
    else:
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(sink, table.schema) as writer:
            for batch in table.to_batches(max_chunksize=25):
                writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def good_files() -> list[bytes]:
    """A small good file of each format and layout."""
    texts = []
    for rows in (ROWS, *([other] * 3 for other in OTHERS)):
        texts += [
            b"\n".join(json.dumps(row).encode() for row in rows) + b"\n",
            json.dumps(rows, ensure_ascii=False).encode(),
            json.dumps(rows, indent=2).encode(),
            b"\n".join(json.dumps(row, indent=1).encode() for row in rows),
        ]
    texts.append(b"\n".join([json.dumps(ROWS[0]).encode(), *DEFECTS]))
    texts.append(b"[" + b",\n".join([json.dumps(ROWS[0]).encode(), *DEFECTS]) + b"]")
    texts += [_csv(ROWS, delimiter) for delimiter in ",;\t|"]
    return texts + [_columnar(kind) for kind in ("parquet", "arrow", "stream")]


def packings() -> list[Callable[[bytes], bytes]]:
    from backports import zstd

    def transcoded(data: bytes) -> bytes:
        return data.decode("utf-8", "replace").encode("utf-16")

    return [bytes] * 5 + [gzip.compress, lzma.compress, bz2.compress, zstd.compress, transcoded]


class Mutator:
    """Makes inputs from a seed."""

    def __init__(self) -> None:
        self._good = good_files()
        self._packings = packings()

    def make(self, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.05:
            return rng.randbytes(rng.randrange(1, 400))
        data = rng.choice(self._good)
        if rng.random() < 0.3:
            data = data + rng.choice(self._good)
        data = self._mutated(data, rng) if rng.random() < 0.8 else data
        packed = rng.choice(self._packings)(data)
        if rng.random() < 0.4 and packed is not data:
            packed = self._mutated(packed, rng)
        return packed or b"\n"

    @staticmethod
    def _mutated(data: bytes, rng: random.Random) -> bytes:
        mutable = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4, 12))):
            at = rng.randrange(len(mutable) + 1)
            what = rng.randrange(6)
            if what == 0:
                mutable[at:at] = rng.choice(TOKENS)
            elif what == 1:
                del mutable[at : at + rng.randrange(1, 30)]
            elif what == 2 and at < len(mutable):
                mutable[at] = rng.randrange(256)
            elif what == 3:
                start = rng.randrange(len(mutable) + 1)
                mutable[at:at] = mutable[start : start + rng.randrange(200)]
            elif what == 4:
                mutable[at : at + len(TOKENS[0])] = rng.choice(TOKENS)
            elif rng.random() < 0.2:
                del mutable[at:]
        return bytes(mutable)


def _lost(data: bytes, rows: list[RawRow], format: str) -> bytes:
    """What of a file is in no row, but for white space, commas and brackets between them."""
    if format == "csv":  # from the end: the header, which is no row, may hold the first one's bytes
        end, after = len(data), []
        for row in reversed(rows):
            start = data.rfind(row.raw, 0, end)
            assert start >= 0, row
            after.append(data[start + len(row.raw) : end])
            end = start
        return b"".join(after).strip()
    at, between = 0, []
    for row in rows:
        start = data.find(row.raw, at)
        assert start >= at, row
        between.append(data[at:start])
        at = start + len(row.raw)
    return re.sub(rb"[\s,\[\]]", b"", b"".join([*between, data[at:]]).removeprefix(BOM))


def check_reading(path: Path, data: bytes) -> str:
    """Read a file of these bytes and check what came out; says how that ended.

    Anything else than rows or a :class:`UserError` is a bug: it comes out of here.
    """
    path.write_bytes(data)
    section = DataSection(source=str(path))
    try:
        source = open_source(Home(path.parent), section)
    except UserError as error:
        assert "\n" not in str(error), str(error)
        return "refused"
    parser = source.parser()
    rows = []
    covered = 0
    try:
        for chunk in source.chunks():
            assert chunk.number >= covered + 1
            covered = chunk.number + chunk.lines - 1
            these = list(parser.rows(chunk))
            rows += these
            assert all(chunk.number <= row.line <= covered for row in these)
    except UserError as error:
        assert "\n" not in str(error), str(error)
        return "refused"
    assert len(rows) == source.rows  # the reader counted as many as the parser found
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))
    for row in rows:
        assert (row.row is None) == (row.drop is not None)
        if row.row:
            texts = (*row.row[:4], *(text for message in row.row.messages for text in message))
            assert all(type(text) is str for text in texts)
            "".join(texts).encode("utf-8")  # no half surrogate pairs
    file = source.files[0]
    if file.newline == "\r":
        data = data.replace(b"\r", b"\n")
    if file.format == "jsonl" and not file.compression and file.encoding == "utf-8":
        data = data.removeprefix(BOM)
        blank = sum(not line.strip() for line in data.split(b"\n"))
        assert len(rows) + blank == data.count(b"\n") + 1
    if file.format in ("json", "csv") and not file.compression and file.encoding == "utf-8":
        assert not _lost(data, rows, file.format)
    records = RawRecords(json.loads(json.dumps(source.index)))
    if not source.file_repairs:
        found = records.records(0, len(rows) + 1)
        assert [line for line, _ in found] == lines
        if file.format in ("jsonl", "csv"):
            assert [raw for _, raw in found] == [row.raw for row in rows]
    return f"{file.format} {file.compression}".strip()
