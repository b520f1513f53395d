"""The built-in catalogue: a seeded file of product rows, as dirty as the real corpus and counted.

The counts are kept by construction, as each piece of dirt is planted; nothing here cleans. A demo's
funnel must equal them exactly. Memory stays flat at any size: duplicates are drawn from a small
reservoir, and fresh descriptions are kept apart by a fixed bitmap of their checksums.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from zlib import crc32

from isal import igzip

from engine.demo import dirt
from engine.demo.kinds import kind_of, kinds
from engine.demo.prose import Writer
from engine.whole import sync

__all__ = ["KINDS", "Planted", "kind_of", "write_catalogue"]

KINDS: tuple[str, ...]
DROPS = (
    "malformed", "missing_field", "not_text", "empty_prompt", "empty_completion",
    "duplicate_completion",
)  # fmt: skip
REPAIRS = (
    "invalid_utf8", "lone_surrogate", "nan", "number_overflow", "duplicate_key", "number_as_text",
)  # fmt: skip
CHANGES = ("html", "unicode", "control", "whitespace")
_BITS = 1 << 27  # 16 MiB: at 1.4 million descriptions one in a hundred is drawn again for nothing
_RESERVOIR = 512
_BUFFER = 1 << 20
_PROGRESS_EVERY = 5_000
_json_ascii = json.encoder.encode_basestring_ascii
_json_utf8 = json.encoder.encode_basestring


def __getattr__(name: str) -> tuple[str, ...]:
    # The facts take some 20 ms to read: not at import.
    if name == "KINDS":
        return tuple(kind.name for kind in kinds())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True)
class Planted:
    """What was planted, under the cleaning's own names.

    Attributes:
        rows: non-blank lines.
        blank_lines: lines of whitespace only; they are no rows.
        dropped: rows by the first reason to drop them.
        repairs: rows by the first repair they need, dropped later or not.
        changed: rows by normalisation rule; one row may count under several.
        near_duplicates: kept rows whose description is nearly that of another.
        kept: rows that are left.
    """

    rows: int
    blank_lines: int
    dropped: dict[str, int]
    repairs: dict[str, int]
    changed: dict[str, int]
    near_duplicates: int
    kept: int


class _Catalogue:
    """The rows of one catalogue in order, and the counts so far."""

    def __init__(self, rows: int, seed: int, long: bool) -> None:
        self._rng = Random(f"catalogue {seed}")
        self._rand = self._rng.random
        self._rows = rows
        self._babble = babble(Random(f"babble {seed}")) if long else ""
        self._most_targets = 44 if long else 3
        self._writer = Writer(self._rng)
        self._defects = dirt.places(self._rng, rows)
        self._seen = bytearray(_BITS // 8)
        self._reservoir: list[str] = []
        self._orphans: list[str] = []  # descriptions seen so far in dropped rows only
        self._uid_offset = self._rng.randrange(10**9)
        self.dropped: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self._clean = ""  # the last plain row's content as the cleaning will see it
        self.near_duplicates = 0
        self.blank_lines = 0

    def _is_new(self, text: str) -> bool:
        """False when the text was, or might have been, seen before; marks it as seen."""
        bit = crc32(text.encode()) & (_BITS - 1)
        byte, mask = bit >> 3, 1 << (bit & 7)
        if self._seen[byte] & mask:
            return False
        self._seen[byte] |= mask
        return True

    def _fresh(self, row: int, product: dict[str, str]) -> list[str]:
        """Sentences of a description that occurs nowhere else."""
        for extra in (None, 3, 5):
            sentences = self._writer.sentences(product, extra)
            if self._babble:
                sentences.append(self._more())
            if self._is_new(" ".join(sentences)):
                return sentences
        # Only this sentence names the row's number, so nothing else can be equal to it.
        return [*sentences, f"Catalog number {row + 1:07d}."]

    def _more(self) -> str:
        """Some hundred characters of invented words, as a sentence."""
        start = self._babble.index(" ", int(self._rand() * (len(self._babble) - 4000))) + 1
        end = self._babble.index(" ", start + int(self._rand() * 1040))
        return f"{self._babble[start:end].capitalize()}."

    def _earlier(self) -> str:
        return self._reservoir[int(self._rand() * len(self._reservoir))]

    def _keep(self, text: str) -> None:
        if len(self._reservoir) < _RESERVOIR:
            self._reservoir.append(text)
        elif self._rand() < 0.05:
            self._reservoir[int(self._rand() * _RESERVOIR)] = text

    def _near(self, row: int) -> str:
        """An earlier description with a small difference."""
        text, rand = self._earlier(), self._rand
        way = int(rand() * 4)
        if way == 0:
            text = text[:-1] + "!"
        elif way == 1:
            text = text.replace(" and ", " & ", 1)
        elif way == 2:
            text = text.replace("The ", "the ").replace("This ", "this ")
        else:
            words = text.split(" ")
            words[int(rand() * len(words))] = ("really", "quality", "new", "great")[int(rand() * 4)]
            text = " ".join(words)
        return text if self._is_new(text) else f"{text} Lot {row + 1:07d}."

    def _dirty(self, text: str, changes: set[str], odd: float, html: float) -> str:
        rand = self._rand
        if rand() < odd:
            way = rand()
            if way < 0.35:
                text = dirt.spaces(text, rand)
                changes.add("whitespace")
            elif way < 0.8 or text.isascii():
                text = dirt.controls(text, rand)
                changes.add("control")
            else:
                nfd = dirt.decomposed(text)
                changes.update({"unicode"} if nfd != text else ())
                text = nfd
        if rand() < html:
            text, nbsp = dirt.markup(text, rand)
            changes.update(("html", "whitespace") if nbsp else ("html",))
        return text

    def _content(self, row: int, product: dict[str, str], changes: set[str]) -> tuple[str, str]:
        """A row's raw content, and "" or the reason for which the cleaning drops it."""
        rand = self._rand
        # The first row is kept, so that there is always something to repeat.
        share = rand() if row else 1.0
        if share < 0.30:
            if rand() < 0.97:
                return "", "empty_completion"
            text, rules = dirt.EMPTY_CONTENTS[int(rand() * len(dirt.EMPTY_CONTENTS))]
            changes |= rules
            return text, "empty_completion"
        drop, sentences = "", []
        if share < 0.38:
            text, drop = self._earlier(), "duplicate_completion"
        elif share < 0.40:
            text, drop = self._near(row), "near"
        elif share < 0.41 and self._orphans:
            text = self._orphans.pop()
        else:
            sentences = self._fresh(row, product)
            text = " ".join(sentences)
        clean = text
        if len(sentences) > 5 and rand() < 0.4:
            text = dirt.paragraphs(sentences, rand)
            changes.add("whitespace")
        self._clean = clean
        return self._dirty(text, changes, 0.04, 0.05), drop

    def _plain(self, row: int, uid: str, product: dict[str, str], title: str) -> bytes:
        rand = self._rand
        changes: set[str] = set()
        content, drop = self._content(row, product, changes)
        if row and rand() < 0.01:
            title = ("", "", "  ", "<br/>")[int(rand() * 4)]
            if title:
                changes.add("html" if title == "<br/>" else "whitespace")
            if not drop and len(self._orphans) < 8:
                self._orphans.append(self._clean)
            drop = "empty_prompt"
        else:
            title = self._dirty(title, changes, 0.008, 0.01)
        if drop == "near":
            self.near_duplicates += 1
        elif drop:
            self.dropped[drop] += 1
        else:
            self._keep(self._clean)
        if changes:
            self.changed.update(changes)
        encode = _json_ascii if rand() < 0.5 else _json_utf8
        others, ones = self._targets()
        return (
            f'{{"uid": "{uid}", "title": {encode(title)}, "content": {encode(content)}, '
            f'"target_ind": {others}, "target_rel": {ones}}}'
        ).encode()

    def _targets(self) -> tuple[list[int], list[float]]:
        count = 1 + int(self._rand() * self._most_targets)
        return [int(self._rand() * 1_300_000) for _ in range(count)], [1.0] * count

    def _defective(self, row: int, uid: str, product: dict[str, str], title: str) -> bytes:
        defect = dirt.DEFECTS[self._defects[row]]
        if defect.content == "duplicate":
            content = self._earlier()
        elif defect.content == "number":
            content = str(50_000_000 + row)
        elif defect.content == "long":
            pages = [" ".join(self._writer.sentences(product, 8)) for _ in range(20)]
            content = " ".join([*pages, f"Catalog number {row + 1:07d}."])
        else:
            content = " ".join(self._fresh(row, product))
        if defect.drop:
            self.dropped[defect.drop] += 1
            if defect.drop != "duplicate_completion" and defect.content == "fresh":
                self._orphans = [*self._orphans[-7:], content]
        if defect.repair:
            self.repairs[defect.repair] += 1
        self.changed.update(defect.changed)
        return defect.write(dirt.Row(uid, title, content, self._targets()[0]), row)

    def line(self, row: int) -> bytes:
        """The bytes of one row with its line end and, sometimes, a blank line before it."""
        product = self._writer.product()
        title = self._writer.title(product)
        # An odd multiplier that 5 does not divide maps the rows onto distinct ten-digit numbers.
        uid = f"{((row + self._uid_offset) * 2_654_435_761) % 10**10:010d}"
        if row == self._rows - 1 and row >= 50:
            content = " ".join(self._writer.sentences(product, 4))
            self.dropped["malformed"] += 1
            whole = dirt.Row(uid, title, content, [1]).line().encode()
            return whole[: len(whole) * 2 // 3]
        if row in self._defects:
            text = self._defective(row, uid, product, title)
        else:
            text = self._plain(row, uid, product, title)
        if row % 2503 == 1:
            self.blank_lines += 1
            blank = dirt.BLANK_LINES[row // 2503 % len(dirt.BLANK_LINES)]
            return blank + b"\n" + text + b"\n"
        return text + b"\n"


def babble(rng: Random) -> str:
    """Four million characters of invented words whose frequencies follow Zipf's law."""
    starts, vowels = (
        ("b", "br", "d", "f", "gl", "k", "l", "m", "n", "p", "r", "st", "t", "v"),
        "aeiou",
    )
    words = {
        "".join(rng.choice(starts) + rng.choice(vowels) for _ in range(rng.randint(1, 4)))
        for _ in range(40_000)
    }
    vocabulary = sorted(words, key=lambda word: (len(word), word))
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    return " ".join(rng.choices(vocabulary, weights, k=700_000))


def write_catalogue(
    path: Path,
    rows: int = 20_000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    *,
    long: bool = False,
) -> Planted:
    """Write a gzipped JSON Lines catalogue and, beside it, `<path>.planted.json`.

    Args:
        path: the file to write; it appears whole or not at all.
        rows: non-blank lines, at least 1. Below about 150 not every defect finds a place.
        seed: the same seed and rows give the same bytes.
        progress: called with the number of rows written so far, every few thousand rows.
        long: rows as long as the real corpus's and as hard to compress, for measuring: some 960
            bytes, 400 packed.

    Returns:
        The counts that a cleaning of the file must arrive at.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    catalogue = _Catalogue(rows, seed, long)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with (
            temporary.open("wb") as raw,
            igzip.IGzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file,
        ):
            pending: list[bytes] = []
            size = 0
            for row in range(rows):
                line = catalogue.line(row)
                pending.append(line)
                size += len(line)
                if size >= _BUFFER:
                    file.write(b"".join(pending))
                    pending.clear()
                    size = 0
                if progress is not None and row % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
                    progress(row + 1)
            file.write(b"".join(pending))
        planted = Planted(
            rows=rows,
            blank_lines=catalogue.blank_lines,
            dropped={reason: catalogue.dropped[reason] for reason in DROPS},
            repairs={repair: catalogue.repairs[repair] for repair in REPAIRS},
            changed={change: catalogue.changed[change] for change in CHANGES},
            near_duplicates=catalogue.near_duplicates,
            kept=rows - catalogue.dropped.total(),
        )
        notes = path.with_name(f"{path.name}.planted.json")
        notes.write_text(json.dumps(asdict(planted), indent=1) + "\n", encoding="utf-8")
        # Synced first: after a disk error a file of that name without its bytes would stand there.
        sync(notes)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    if progress is not None:
        progress(rows)
    return planted
