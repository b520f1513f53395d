"""Cleans rows: decides about each one by itself, and does so for a whole chunk at a time.

This is what a worker process does. What compares rows with others (duplicates) is decided behind
it, in the order of the source: see ``engine.data.prepare``.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from engine.data.rows import (
    RawRow,
    Row,
    completion_identity,
    prompt_identity,
    texts,
    with_texts,
)
from engine.data.rules import (
    Normaliser,
    Verdict,
    changing_rules,
    drop_reasons,
    make_row_rules,
    title_key,
)
from engine.data.rules.near import Signer
from engine.errors import UserError
from engine.sections.data import TEXT_RULES, CleanSection

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.data.processes import Work
    from engine.data.sources import Chunk, Parser

__all__ = [
    "EXAMPLES",
    "Change",
    "Cleaned",
    "Cleaner",
    "Cleaning",
    "Decision",
    "Job",
    "Marks",
    "hash64",
]

EXAMPLES = 5
"""Changes kept as examples for each rule: the first ones of the source."""
RAW_BYTES = 1000
"""Bytes of a dropped row that the audit keeps."""

_hash_bytes = xxhash.xxh3_64_intdigest


def hash64(text: str) -> int:
    """64 bits of a text, the same on every machine. Two of 2.2 M texts clash once in 7 M files."""
    return int(_hash_bytes(text.encode()))


class Job(NamedTuple):
    """What a cleaner is made of: small, and the same in every process."""

    clean: CleanSection
    shape: str
    model_name_or_path: str
    """Whose tokenizer counts, where a rule counts tokens."""


class Change(NamedTuple):
    """One text that a rule changed."""

    rule: str
    line: int
    before: str
    after: str
    """What this rule alone makes of it."""


Decision = tuple[str | None, Row | None, str, frozenset[str]]
"""What the rules that look at one row make of it: reason, row, evidence, changed.

``reason``: why it is dropped; None: it is kept, unless it repeats another row. ``row``: its texts
as they are now; None when it could not be read. ``changed``: the rules that changed it. A
plain tuple: 2.2 million named ones take a second more.
"""


class Marks(NamedTuple):
    """By what rows are compared: one value a row."""

    prompts: "array[int]"
    """uint64: hash of the title key."""
    completions: "array[int]"
    """uint64: hash of the completion."""
    keys: "array[int]"
    """uint64: what makes a row a duplicate of another."""
    signatures: Any
    """For the rule near_duplicates, else None."""


class Cleaned(NamedTuple):
    """One chunk, cleaned. Goes from a worker process to the one that puts the rows in order."""

    rows_read: int
    kept: "pa.RecordBatch"
    """Candidates, columns of the dataset's shape."""
    dropped: "pa.RecordBatch"
    """line, rule, evidence, raw."""
    marks: Marks
    """Of the candidates."""
    repairs: dict[str, int]
    changed: dict[str, int]
    flagged: dict[str, int]
    file_repairs: dict[str, int]
    rejects: list[tuple[int, str, bytes]]
    """Line, reason and the whole bytes of rows that could not be read."""
    changes: list[Change]


@dataclass(frozen=True)
class Cleaning:
    """A task for :func:`engine.data.processes.in_order`: chunks of a source, cleaned."""

    job: Job
    parser: "Parser"
    doing: str = "cleaning"
    left: str = "nothing was written"

    def start(self) -> "Work":
        cleaner = Cleaner(self.job)
        return lambda chunk, at_row: cleaner.chunk(self.parser, chunk, at_row)


_NO_CHANGE: frozenset[str] = frozenset()


class Cleaner:
    """The rules of one recipe for rows of one shape."""

    def __init__(self, job: Job) -> None:
        clean = job.clean
        self.shape = job.shape
        self._normaliser = Normaliser(clean)
        self._row_rules = make_row_rules(clean, job.model_name_or_path, job.shape)
        self.reasons = drop_reasons(clean, self._row_rules)
        """Why rows are dropped, in the order of the questions."""
        self._signer = Signer(clean.near_duplicates) if clean.has("near_duplicates") else None
        self._by = clean.duplicates.by if clean.has("duplicates") else "completion"
        self.examples: Counter[str] = Counter()
        self.changing = changing_rules(clean)
        self.wanted = set(self.changing)
        """Rules whose examples in this chunk are not complete yet."""

    def decide(self, raw: RawRow) -> Decision:
        """One row by itself."""
        if raw.row is None:
            return raw.drop, None, "", _NO_CHANGE
        row: Row = raw.row
        changed = _NO_CHANGE
        prompt, completion, instruction, system, messages = row
        if messages or instruction or system:
            row, changed = self._normalised(row)
        else:
            normaliser = self._normaliser
            clean_prompt = normaliser.is_clean(prompt)
            clean_completion = normaliser.is_clean(completion)
            if not (clean_prompt and clean_completion):
                by_rules: set[str] = set()
                if not clean_prompt:
                    prompt = normaliser.work(prompt, by_rules)
                if not clean_completion:
                    completion = normaliser.work(completion, by_rules)
                if by_rules:
                    row, changed = Row(prompt, completion), frozenset(by_rules)
        for rule in self._row_rules:
            result = rule(row)
            if isinstance(result, Verdict):
                return result.reason, row, result.evidence, changed
            if result is not row and result != row:
                row, changed = result, changed | {rule.name}
        return None, row, "", changed

    def _normalised(self, row: Row) -> tuple[Row, frozenset[str]]:
        changed: set[str] = set()
        apply = self._normaliser.apply
        row = with_texts(row, tuple(apply(text, changed) for text in texts(row)))
        return row, frozenset(changed) if changed else _NO_CHANGE

    def chunk(
        self, parser: "Parser", chunk: "Chunk", at_row: Callable[[], None] | None = None
    ) -> Cleaned:
        """Every row of a chunk; ``at_row`` is called before each and may raise to give up."""
        # Each chunk has its own examples: processes may get chunks in another order than theirs.
        self.examples.clear()
        self.wanted = set(self.changing)
        tally = _Tally(self)
        for raw in parser.rows(chunk):
            if at_row is not None:
                at_row()
            tally.take(raw)
        return tally.cleaned(parser)

    def alone(self, rule: str, text: str) -> str:
        """What one text rule makes of a text."""
        return self._normaliser.alone(rule, text)

    def take_flagged(self) -> dict[str, int]:
        """Rows with personal data since the last call, by its kind."""
        found: Counter[str] = Counter()
        for rule in self._row_rules:
            flagged = getattr(rule, "flagged", None)
            if flagged:
                found.update(flagged)
                flagged.clear()
        return dict(found)

    def marks(self, rows: Sequence[Row]) -> Marks:
        """What rows are told apart by."""
        prompts = [prompt_identity(row) for row in rows]
        completions = [completion_identity(row) for row in rows]
        answers = array("Q", [_hash_bytes(text.encode()) for text in completions])
        keys = answers
        if self._by == "prompt":
            keys = array("Q", [_hash_bytes(text.encode()) for text in prompts])
        elif self._by == "both":
            pairs = zip(prompts, completions, strict=True)
            keys = array(
                "Q", [_hash_bytes(f"{len(one)}:{one}{two}".encode()) for one, two in pairs]
            )
        return Marks(
            prompts=array("Q", [_hash_bytes(title_key(text).encode()) for text in prompts]),
            completions=answers,
            keys=keys,
            signatures=self._signer.sign(completions) if self._signer else None,
        )


class _Tally:
    """What becomes of the rows of one chunk."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner
        self._lines: list[int] = []
        self._rows: list[Row] = []
        self._audit: list[tuple[int, str, str, str]] = []
        self._rejects: list[tuple[int, str, bytes]] = []
        self._repairs: Counter[str] = Counter()
        self._changes: list[Change] = []
        self._changed: Counter[frozenset[str]] = Counter()
        self._read = 0

    def take(self, raw: RawRow) -> None:
        """One row. To be called in the order of lines: the first changes are the examples."""
        self._read += 1
        cleaner = self._cleaner
        try:
            reason, row, evidence, by_rules = cleaner.decide(raw)
        except UserError as error:
            raise UserError(f"line {raw.line:,}: {error}") from None
        if raw.repair:
            self._repairs[raw.repair] += 1
        if by_rules:
            self._changed[by_rules] += 1
            if not cleaner.wanted.isdisjoint(by_rules):
                self._note(raw, row, by_rules)
        if reason is None:
            assert row is not None
            self._lines.append(raw.line)
            self._rows.append(row)
            return
        text = raw.raw[:RAW_BYTES].decode("utf-8", "replace")
        self._audit.append((raw.line, reason, evidence, text))
        if row is None:
            self._rejects.append((raw.line, reason, raw.raw))

    def _note(self, raw: RawRow, row: Row | None, rules: frozenset[str]) -> None:
        """Keep the first changes of each rule in this chunk."""
        cleaner = self._cleaner
        if row is None or raw.row is None:
            return
        for rule in sorted(cleaner.wanted & rules):
            for text, end in zip(texts(raw.row), texts(row), strict=False):
                # Of a rule that looks at whole rows the example is what became of the text.
                after = cleaner.alone(rule, text) if rule in TEXT_RULES else end
                if after != text:
                    self._changes.append(Change(rule, raw.line, *_excerpts(text, after)))
                    break
            else:  # only what another rule left of it
                continue
            cleaner.examples[rule] += 1
            if cleaner.examples[rule] >= EXAMPLES:
                cleaner.wanted.discard(rule)

    def cleaned(self, parser: "Parser") -> Cleaned:
        """All of it, in the order of lines."""
        from engine.data.tables import AUDIT_SCHEMA, batch, row_batch

        cleaner = self._cleaner
        by_rule: Counter[str] = Counter()
        for names, count in self._changed.items():
            by_rule.update(dict.fromkeys(names, count))
        file_repairs = dict(parser.file_repairs)
        parser.file_repairs.clear()
        return Cleaned(
            rows_read=self._read,
            kept=row_batch(cleaner.shape, self._lines, self._rows),
            dropped=batch(AUDIT_SCHEMA, self._audit),
            marks=cleaner.marks(self._rows),
            repairs=dict(self._repairs),
            changed=dict(by_rule),
            flagged=cleaner.take_flagged(),
            file_repairs=file_repairs,
            rejects=self._rejects,
            changes=self._changes,
        )


def _excerpts(old: str, new: str, most: int = 200) -> tuple[str, str]:
    """The two texts from a little before the place where they part."""
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    start = max(0, same - 40)
    lead = "…" if start else ""
    return tuple(  # type: ignore[return-value]
        lead + text[start : start + most] + ("…" if len(text) > start + most else "")
        for text in (old, new)
    )
