"""Predictions or prompts and their references, out of a file of any format that data is read from.

Nothing is repaired or left out here, as cleaning does: a number about other rows than those of the
file would be a wrong one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.sources import Chunk
from engine.data.sources.encodings import BOM, as_utf8, encoding_of
from engine.data.sources.files import FileNotes, SourceFile
from engine.data.sources.layout import Layout
from engine.data.sources.parser import Parser
from engine.data.sources.recognise import recognise
from engine.data.sources.source import Source, cuts_of
from engine.data.sources.tolerant import Keys, parse_object
from engine.data.sources.unpack import compression_of, unpacked
from engine.errors import UsageError, UserError

__all__ = ["PREDICTIONS", "PROMPTS", "REFERENCES", "Pairs", "Side", "read_pairs"]


@dataclass(frozen=True)
class Side:
    """One of the two columns: how it is asked for, and its usual names, the likeliest first."""

    option: str
    usual: tuple[str, ...]


_PREDICTIONS = (
    *("prediction", "predictions", "predicted", "pred", "preds", "hypothesis", "hypotheses"),
    *("generated", "generated_text", "generation", "candidate", "model_output", "output"),
    *("outputs", "response"),
)
_REFERENCES = (
    *("reference", "references", "ref", "refs", "target", "targets", "gold", "ground_truth"),
    *("expected", "expected_output", "label", "labels", "completion"),
)
_PROMPTS = ("prompt", "prompts", "title", "instruction", "question", "query", "input", "source")
_ANSWERS = ("content", "output", "answer", "response")
PREDICTIONS = Side("--prediction-column", _PREDICTIONS)
REFERENCES = Side("--reference-column", _REFERENCES)
PROMPTS = Side("--prompt-column", _PROMPTS)
ANSWERS = Side("--reference-column", (*_REFERENCES, *_ANSWERS))
"""References beside prompts: what an answer is called there is no prediction."""

_LOOK_ROWS = 1000
_SHOWN_COLUMNS = 20
_SHOWN_LINES = 5
_HEAD_BYTES = 1 << 16
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


Wanted = tuple[tuple[Side, str | None], tuple[Side, str | None]]


@dataclass(frozen=True)
class Pairs:
    """Predictions (or prompts) and references, row by row."""

    predictions: list[str]
    references: list[str]
    prediction_column: str
    reference_column: str
    notes: tuple[str, ...] = ()
    """One line each: what was assumed, what the file's bytes needed."""


@dataclass(frozen=True)
class _Problem:
    line: int
    words: str


def read_pairs(
    name: str,
    prediction: str | None = None,
    reference: str | None = None,
    *,
    option: str = "--predictions",
    sides: tuple[Side, Side] = (PREDICTIONS, REFERENCES),
) -> Pairs:
    """The two columns of a JSON, JSON Lines, CSV, TSV, Parquet or Arrow file, packed or not.

    JSON is a list of objects, or an object of columns. Without a name the columns are taken that
    are called as such columns usually are. ``option`` is what named the file. Raises
    :class:`UsageError` when there is no such file or column, and :class:`UserError` for rows that
    are no two texts, with their lines.
    """
    path = Path(name).expanduser()
    name = f"{option} {name}"
    wanted = ((sides[0], prediction), (sides[1], reference))
    _check_file(path, name)
    columns = _columns_of(_whole_object(path), prediction, reference)
    if columns:
        return _of_columns(name, columns, wanted)
    file = recognise(path)
    seen = list(file.columns) or _names(file)
    ours, theirs, notes = _chosen(name, seen, wanted)
    found = Source((file,), Layout("columns", "pair", ours, theirs))
    parser = found.parser()
    keys = Keys((ours, theirs))
    predictions: list[str] = []
    references: list[str] = []
    problems: list[_Problem] = []
    for chunk in found.chunks():
        for row in parser.rows(chunk):
            if row.row is None or row.repair == "number_as_text":
                why = _why(file, row.raw, keys, (ours, theirs))
                problems.append(_Problem(row.line, why))
            else:
                predictions.append(row.row.prompt)
                references.append(row.row.completion)
    _refuse_damaged(name, found.file_repairs, found.warnings)
    _refuse(name, "row" if file.format in ("parquet", "arrow") else "line", problems)
    if not predictions:
        raise UserError(f"{name}: has no rows")
    notes += found.warnings
    return Pairs(predictions, references, ours, theirs, tuple(notes))


def _check_file(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except IsADirectoryError:
        raise UsageError(
            f"{name}: is a folder; name a JSON, JSON Lines, CSV or Parquet file"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or "no file name"
        raise UsageError(f"{name}: cannot be read ({why})") from None
    if empty:
        raise UserError(f"{name}: is empty")


def _names(file: SourceFile) -> list[str]:
    """The keys of the first objects, in their order."""
    parser = Parser(Layout("columns", "pair"), [file.format], [file.columns])
    names: dict[str, None] = {}
    looked = 0
    for cut in cuts_of(file, None, FileNotes()):
        for value in parser.objects(Chunk(cut.number, cut.lines, cut.offset, 0, cut.data)):
            names.update(dict.fromkeys(value))
            looked += 1
            if looked >= _LOOK_ROWS:
                return list(names)
    return list(names)


def _chosen(name: str, seen: Sequence[str], wanted: Wanted) -> tuple[str, str, list[str]]:
    """The two columns, and a note when they were not named."""
    found: list[str] = []
    taken: list[str] = []
    named = {given for _, given in wanted}
    for side, given in wanted:
        if given is None:
            lower = {column.lower(): column for column in reversed(seen) if column not in named}
            given = next((lower[word] for word in side.usual if word in lower), None)
            if given is None and seen:
                raise UsageError(f"{name}: name the column with {side.option}; {_there_are(seen)}")
            if given is not None:
                named.add(given)
                taken.append(f"{given!r} for the {side.option[2:].partition('-')[0]}s")
        elif seen and given not in seen:
            raise UsageError(
                f"{side.option} {given}: {name} has no such column; {_there_are(seen)}"
            )
        found.append(given or side.usual[0])  # without a column to see, reading tells what is wrong
    return found[0], found[1], [f"{name}: taking {' and '.join(taken)}"] if taken else []


def _there_are(seen: Sequence[str]) -> str:
    shown = ", ".join(repr(column) for column in seen[:_SHOWN_COLUMNS])
    return f"there are: {shown}{', ...' if len(seen) > _SHOWN_COLUMNS else ''}"


def _why(file: SourceFile, raw: bytes, keys: Keys, columns: Sequence[str]) -> str:
    """What is wrong with a row."""
    if file.format == "csv":
        return f"has not as many fields as the header ({len(file.columns)})"
    value = parse_object(raw, keys).value
    if value is None:
        return "is no JSON object"
    missing = [column for column in columns if column not in value]
    if missing:
        return f"has no {missing[0]!r}"
    for column in columns:
        if not isinstance(value[column], str):
            return f"{column!r} is {_kind(value[column])}, no text"
    return "is damaged"


def _kind(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "null"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _refuse(name: str, unit: str, problems: Sequence[_Problem]) -> None:
    if not problems:
        return
    first, *others = problems
    more = ", ".join(f"{problem.line:,}" for problem in others[:_SHOWN_LINES])
    more += ", ..." if len(others) > _SHOWN_LINES else ""
    rest = f" ({len(others):,} more such {unit}s: {more})" if others else ""
    colon = ":" if first.words.startswith("'") else ""
    raise UserError(f"{name}: {unit} {first.line:,}{colon} {first.words}{rest}")


def _refuse_damaged(name: str, repairs: Iterable[str], warnings: Sequence[str]) -> None:
    """Part of a file is another file."""
    if any(repair.startswith(("truncated", "damaged")) for repair in repairs):
        raise UserError(f"{name}: is damaged or cut off: {warnings[0]}")


def _whole_object(path: Path) -> dict[str, Any]:
    """The object that the whole file is; empty for rows, lines and everything that is no JSON."""
    import orjson

    with path.open("rb") as file:
        compression = compression_of(file.read(64))
    head = next(unpacked(path, compression, FileNotes()), b"")[:_HEAD_BYTES]
    text = _utf8([head], encoding_of(head), path)
    first, _, rest = text.partition(b"\n")
    if not text.startswith(b"{") or (rest.strip() and _is_json(first)):
        return {}
    whole = list(unpacked(path, compression, FileNotes()))
    try:
        value: dict[str, Any] = orjson.loads(_utf8(whole, encoding_of(head), path))
    except orjson.JSONDecodeError:
        return {}
    return value


def _columns_of(
    value: dict[str, Any], prediction: str | None, reference: str | None
) -> dict[str, list[Any]]:
    """The columns of an object of columns; empty when it is a row."""
    lists = {name: found for name, its in value.items() if (found := _list(its)) is not None}
    named = prediction in lists and reference in lists
    return lists if named or len(lists) == len(value) else {}


def _utf8(pieces: Sequence[bytes], codec: str, path: Path) -> bytes:
    whole = b"".join(as_utf8(iter(pieces), codec, "\n", str(path), FileNotes()))
    return whole.removeprefix(BOM).lstrip()


def _is_json(text: bytes) -> bool:
    import orjson

    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _list(value: Any) -> list[Any] | None:
    """A column as a list; pandas writes an object of the rows' numbers."""
    if isinstance(value, list):
        return value
    numbered = isinstance(value, dict) and all(key.isdecimal() for key in value)
    return list(value.values()) if numbered else None


def _of_columns(name: str, columns: dict[str, Any], wanted: Wanted) -> Pairs:
    ours, theirs, notes = _chosen(name, list(columns), wanted)
    predictions, references = columns[ours], columns[theirs]
    if len(predictions) != len(references):
        raise UserError(
            f"{name}: {ours!r} has {len(predictions):,} values and {theirs!r} "
            f"{len(references):,}; each row needs both"
        )
    if not predictions:
        raise UserError(f"{name}: has no rows")
    _refuse(name, "row", list(_no_texts(predictions, references, ours, theirs)))
    return Pairs(predictions, references, ours, theirs, tuple(notes))


def _no_texts(
    predictions: Sequence[Any], references: Sequence[Any], ours: str, theirs: str
) -> Iterator[_Problem]:
    for number, pair in enumerate(zip(predictions, references, strict=True), 1):
        for column, value in zip((ours, theirs), pair, strict=True):
            if not isinstance(value, str):
                yield _Problem(number, f"{column!r} is {_kind(value)}, no text")
                break
