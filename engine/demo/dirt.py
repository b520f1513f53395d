"""The dirt that the demo's catalogue plants, each piece undone exactly by one cleaning rule.

Normalisation runs html, unicode, control, whitespace in this order, so dirt is laid on in the
opposite order: whitespace first, markup last. Every function says which rules it set off.
"""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

# No U+001C..U+001F or U+0085: Python calls those whitespace as well as controls.
_CONTROLS = "\x00\x01\x07\x08\x1b\x7f\x92\u200b\u200c\ufeff\u200e\u200f\u202a\u202e\u2066\u2069"
_SPACES = ("  ", "\t", "\r\n", "\n", "\u00a0", "\u2009", "\u3000", "\u2028", "\u2029", " \u00a0 ")


def paragraphs(sentences: list[str], rand: Callable[[], float]) -> str:
    """The sentences with one or two blank lines between them, as pages with paragraphs have."""
    cut = 2 + int(rand() * (len(sentences) - 3))
    return " ".join(sentences[:cut]) + "\n\n" + " ".join(sentences[cut:])


def spaces(text: str, rand: Callable[[], float]) -> str:
    """One space becomes another run of whitespace, or a run is put around the text."""
    run = _SPACES[int(rand() * len(_SPACES))]
    at = text.find(" ", int(rand() * len(text)))
    if at < 0:
        return run + text if rand() < 0.5 else text + run
    return text[:at] + run + text[at + 1 :]


def controls(text: str, rand: Callable[[], float]) -> str:
    """One to three control, zero-width or bidi characters somewhere in the text."""
    for _ in range(1 + int(rand() * 3)):
        at = int(rand() * (len(text) + 1))
        text = text[:at] + _CONTROLS[int(rand() * len(_CONTROLS))] + text[at:]
    return text


def decomposed(text: str) -> str:
    """The text in NFD: changed only where it has accents."""
    return unicodedata.normalize("NFD", text)


def markup(text: str, rand: Callable[[], float]) -> tuple[str, bool]:
    """Tags or entities that unescaping and removing tags undo.

    Returns:
        The dirty text, and whether a non-breaking space came in (a whitespace change as well).
    """
    way = int(rand() * 12)
    first = text.find(". ", int(rand() * len(text)))
    if way == 0:
        return f"<p>{text}</p>", False
    if way == 1:
        return f'<div class="desc"><b>{text[:20]}</b>{text[20:]}</div>', False
    if way == 2 and "'" in text:
        return text.replace("'", "&#39;"), False
    if way == 3 and " & " in text:
        return text.replace(" & ", " &amp; "), False
    if way == 4 and "-" in text:
        return text.replace("-", "&#45;"), False
    if way == 5 and "é" in text:
        return text.replace("é", "&eacute;"), False
    if way == 6 and " " in text:
        at = text.index(" ")
        return f"{text[:at]}&nbsp;{text[at + 1 :]}", True
    if way == 7 and first > 0:
        return f"{text[: first + 2]}<br />{text[first + 2 :]}", False
    if way == 8 and first > 0:
        return f"<ul><li>{text[: first + 1]}</li> <li>{text[first + 2 :]}</li></ul>", False
    if way == 9:
        return f"&lt;p&gt;{text}&lt;/p&gt;", False
    if way == 10:
        return f"&amp;lt;i&amp;gt;{text}&amp;lt;/i&amp;gt;", False
    return f'<a href="http://shop.example/item?a=1&amp;b=2">{text}</a><!-- end -->', False


# Contents that are empty after normalisation, and the rules that make them so.
EMPTY_CONTENTS: tuple[tuple[str, frozenset[str]], ...] = (
    ("   ", frozenset({"whitespace"})),
    ("\n", frozenset({"whitespace"})),
    ("<br>", frozenset({"html"})),
    ("<p></p>", frozenset({"html"})),
    ("<p>&nbsp;</p>", frozenset({"html", "whitespace"})),
    ("\u200b", frozenset({"control"})),
    ("&#x200b;", frozenset({"html", "control"})),
)


@dataclass(frozen=True)
class Row:
    """One clean product row before it is written."""

    uid: str
    title: str
    content: str
    target_ind: list[int]

    def line(self, ascii_only: bool = True, **fields: object) -> str:
        """The row as one JSON line without its end; `fields` replace or add fields."""
        values = {
            "uid": self.uid,
            "title": self.title,
            "content": self.content,
            "target_ind": self.target_ind,
            "target_rel": [1.0] * len(self.target_ind),
        }
        return json.dumps(values | fields, ensure_ascii=ascii_only)


@dataclass(frozen=True)
class Defect:
    """A line-level defect: what it does to a row, and what the cleaning must count for it.

    Attributes:
        write: the line's bytes without the line end, from the clean row and a serial number.
        drop: the reason for which the row is dropped, or None.
        repair: the repair that is counted, or None.
        changed: the normalisations that are counted.
        content: "fresh" (a new description), "duplicate" (an earlier one), "number" (one of its
            own), "long" (some 9,000 characters).
    """

    write: Callable[[Row, int], bytes]
    drop: str | None = None
    repair: str | None = None
    changed: tuple[str, ...] = ()
    content: str = "fresh"


def _without(row: Row, key: str) -> bytes:
    record = json.loads(row.line())
    del record[key]
    return json.dumps(record).encode()


def _twice(row: Row, key: str) -> bytes:
    return (f'{{"{key}": "overwritten by the later key", ' + row.line()[1:]).encode()


def _cut(row: Row, serial: int) -> bytes:
    line = row.line().encode()
    return line[: len(line) * (30 + serial % 60) // 100]


def _put(text: str, piece: str) -> str:
    at = text.index(" ") + 1
    return text[:at] + piece + text[at:]


def _bytes(row: Row, piece: bytes) -> bytes:
    line = row.line(ascii_only=False, content="@" + row.content)
    return line.encode("cp1252").replace(b'"@', b'"' + piece, 1)


def _spaced(row: Row) -> bytes:
    record = dict(reversed(json.loads(row.line()).items()))
    return (json.dumps(record | {"price": None}, separators=(" , ", " : ")) + " \r").encode()


DEFECTS: dict[str, Defect] = {
    "truncated": Defect(_cut, "malformed"),
    "truncated_duplicate": Defect(_cut, "malformed", content="duplicate"),
    "single_quotes": Defect(lambda row, n: repr(json.loads(row.line())).encode(), "malformed"),
    "trailing_comma": Defect(lambda row, n: (row.line()[:-1] + ",}").encode(), "malformed"),
    "not_json": Defect(lambda row, n: f"ERROR {n}: record not exported".encode(), "malformed"),
    "array": Defect(lambda row, n: f"[{row.line()}]".encode(), "malformed"),
    "scalar": Defect(lambda row, n: (b"42", b"null", b'"text"')[n % 3], "malformed"),
    "two_objects": Defect(lambda row, n: (row.line() + row.line()).encode(), "malformed"),
    "raw_control": Defect(
        lambda row, n: row.line().replace('"content": "', '"content": "\x02\t').encode(),
        "malformed",
    ),
    "missing_title": Defect(lambda row, n: _without(row, "title"), "missing_field"),
    "missing_content": Defect(lambda row, n: _without(row, "content"), "missing_field"),
    "null_title": Defect(lambda row, n: row.line(title=None).encode(), "missing_field"),
    "null_content": Defect(lambda row, n: row.line(content=None).encode(), "missing_field"),
    "nan_null_content": Defect(
        lambda row, n: row.line(content=None, target_rel=[float("nan")]).encode(),
        "missing_field",
        "nan",
    ),
    "list_title": Defect(lambda row, n: row.line(title=[row.title]).encode(), "not_text"),
    "object_content": Defect(
        lambda row, n: row.line(content={"en": row.content}).encode(), "not_text"
    ),
    "boolean_title": Defect(lambda row, n: row.line(title=n % 2 == 0).encode(), "not_text"),
    "latin1_byte": Defect(lambda row, n: _bytes(row, b"Caf\xe9: "), repair="invalid_utf8"),
    "undefined_byte": Defect(
        lambda row, n: _bytes(row, b"\x81"), repair="invalid_utf8", changed=("control",)
    ),
    "lone_surrogate": Defect(
        lambda row, n: row.line(content=row.content + " \ud83d").encode(), repair="lone_surrogate"
    ),
    "lone_surrogate_title": Defect(
        lambda row, n: row.line(title=row.title + " \udc00!").encode(), repair="lone_surrogate"
    ),
    "lone_surrogate_uid": Defect(
        lambda row, n: row.line(uid=row.uid + "\ud800").encode(), repair="lone_surrogate"
    ),
    "nan": Defect(
        lambda row, n: row.line(target_ind=[1], target_rel=[float("nan")]).encode(), repair="nan"
    ),
    "infinity": Defect(
        lambda row, n: row.line(target_ind=[10**30], target_rel=[float("-inf")]).encode(),
        repair="nan",
    ),
    "nan_duplicate": Defect(
        lambda row, n: row.line(target_rel=[float("nan")]).encode(),
        "duplicate_completion",
        "nan",
        content="duplicate",
    ),
    "integer_overflow": Defect(
        lambda row, n: row.line(target_ind=[7, 10**25 + n], target_rel=[1.0, 1.0]).encode(),
        repair="number_overflow",
    ),
    "duplicate_title": Defect(lambda row, n: _twice(row, "title"), repair="duplicate_key"),
    "duplicate_content": Defect(lambda row, n: _twice(row, "content"), repair="duplicate_key"),
    "numeric_title": Defect(
        lambda row, n: row.line(title=1984 + n).encode(), repair="number_as_text"
    ),
    "decimal_title": Defect(
        lambda row, n: row.line(title=n + 0.5).encode(), repair="number_as_text"
    ),
    "numeric_title_empty": Defect(
        lambda row, n: row.line(title=2001, content="").encode(),
        "empty_completion",
        "number_as_text",
    ),
    "numeric_content": Defect(
        lambda row, n: row.line(content=int(row.content)).encode(),
        repair="number_as_text",
        content="number",
    ),
    "nul": Defect(
        lambda row, n: row.line(content=_put(row.content, "\x00")).encode(), changed=("control",)
    ),
    "line_separator": Defect(
        lambda row, n: row.line(False, content=_put(row.content, "\u2028")).encode(),
        changed=("whitespace",),
    ),
    "carriage_return": Defect(lambda row, n: row.line().encode() + b"\r"),
    "spaced_and_reordered": Defect(lambda row, n: _spaced(row)),
    "long": Defect(lambda row, n: row.line().encode(), content="long"),
    "empty_title_dirty_content": Defect(
        lambda row, n: row.line(title=" ", content=f"<b>{row.content}</b>").encode(),
        "empty_prompt",
        changed=("html", "whitespace"),
    ),
    "duplicate_after_cleaning": Defect(
        lambda row, n: row.line(content=f"<p>{_put(row.content, chr(0x200B))}</p>\n").encode(),
        "duplicate_completion",
        changed=("html", "control", "whitespace"),
        content="duplicate",
    ),
}
BLANK_LINES = (b"", b"   ", b"\t", b"\r")


def places(rng: Random, rows: int) -> dict[int, str]:
    """Which rows get which defect: each at least once where there is room, at most 40 times."""
    each = min(40, max(1, rows // 5000))
    names = [name for name in DEFECTS for _ in range(each)][: rows // 3]
    # The first rows stay plain, so that there is something to duplicate, and so does the last.
    free = range(min(10, rows), max(rows - 1, min(10, rows)))
    rows_taken = rng.sample(free, min(len(names), len(free)))
    return dict(zip(rows_taken, names, strict=False))
