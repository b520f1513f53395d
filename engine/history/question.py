"""A small language to ask for runs: ``eval_loss<2.3 and model~llama and not tag:old``.

- ``FIELD OP VALUE``: ``=`` ``!=`` ``<`` ``<=`` ``>`` ``>=``, and ``~`` or ``:`` for "contains" (of
  words; of numbers ``:`` is ``=``). ``=none``: there is no value. A field is a number or word of
  the run, or any key of its recipe, by its last part where that is unique (``r``,
  ``learning_rate``). Case never matters. Sizes take ``mib`` and ``gib``, times ``s``, ``min``,
  ``h``, ``d``; dates are as 2026-11-30.
- ``tag:keep``, ``is:starred`` (archived, live, ended, imported, or a state), ``has:note`` (tag,
  parent, sweep, error, adapter).
- ``text:"out of memory"``: the full-text search, or ``name:``, ``note:``, ``prompt:``,
  ``error:``, ``log:`` only there.
- A word alone is looked for in name, id, state, model, dataset, sweep and tags.
- ``and`` (may be left out), ``or``, ``not``, parentheses; quotes around what has spaces.
"""

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.history import texts
from engine.history.fields import OTHERS, Facts, Field, field_named
from engine.history.quantities import number_of, wanted_words
from engine.history.row import ENDS, RunRow

if TYPE_CHECKING:
    from engine.history.store import Store

__all__ = ["Question", "parse"]

Test = Callable[[RunRow, Facts], bool]
DEEPEST = 50
OPS = ("<=", ">=", "!=", "<", ">", "=", "~", ":")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<paren>[()])
    | (?P<field>[A-Za-z_][\w.]*)\s*(?P<op><=|>=|!=|<|>|=|~|:(?!//))\s*
      (?P<value>"[^"]*"|'[^']*'|[^\s()"']+|(?=[)\s]|$))
    | (?P<word>"[^"]*"|'[^']*'|[^\s()"']+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Question:
    """A parsed question."""

    text: str
    test: Test
    parts: tuple[Test, ...] = ()
    """What must all be true for ``test`` to be: rows are narrowed by one after the other."""
    searches: tuple[tuple[str, str], ...] = ()
    """(kind of text or "text", words) of the full-text searches in it."""
    found: dict[tuple[str, str], Collection[str]] = field(default_factory=dict)
    """What these found, ids of runs: see :meth:`look_up`."""
    wants_archived: bool = False
    """It asks for what was put away; others leave that out."""

    def look_up(self, store: "Store") -> "Question":
        """Do the full-text searches, if there are any: :meth:`select` needs what they find."""
        for search in self.searches:
            kind, words = search
            kinds = texts.KINDS if kind == "text" else (kind,)
            self.found[search] = texts.search(store, words, kinds)
        return self

    def select(self, rows: Sequence[RunRow], facts: Facts) -> list[RunRow]:
        """Those of ``rows`` that are asked for, in their order."""
        away = facts.archived
        found = list(rows)
        if away and not self.wants_archived:
            found = [row for row in rows if row.id not in away]
        for test in self.parts or (self.test,):
            found = [row for row in found if test(row, facts)]
        return found


def parse(text: str, keys: Collection[str] = ()) -> Question:
    """``keys``: those of all recipes. Raises :class:`UsageError` that says where and what."""
    return _Parser(text, keys).whole()


class _Parser:
    def __init__(self, text: str, keys: Collection[str]) -> None:
        self._text, self._keys = text, keys
        self._tokens: list[re.Match[str]] = []
        self._searches: list[tuple[str, str]] = []
        self._found: dict[tuple[str, str], Collection[str]] = {}
        self._archived = False
        at = 0
        while at < len(text.rstrip()):
            token = _TOKEN.match(text, at)
            if token is None:
                raise UsageError(f"{text[at:].strip()[:40]}: a quotation mark is not closed")
            self._tokens.append(token)
            at = token.end()
        self._at = 0
        self._depth = 0
        self._ands: list[Test] = []
        """The parts of the ``and`` that was read last."""
        self._is_and = False

    def whole(self) -> Question:
        test = self._or() if self._tokens else lambda row, facts: True
        if self._at < len(self._tokens):
            raise UsageError("')' without '('")
        parts = tuple(self._ands) if self._is_and else (test,)
        return Question(self._text, test, parts, tuple(self._searches), self._found, self._archived)

    # --- and, or, not

    def _next(self) -> str:
        """The next word or parenthesis in small letters; "" for a comparison, or the end."""
        if self._at >= len(self._tokens):
            return ""
        token = self._tokens[self._at]
        return (token["paren"] or token["word"] or "").lower()

    def _or(self) -> Test:
        tests = [self._and()]
        while self._next() == "or":
            self._at += 1
            tests.append(self._and())
        self._is_and = len(tests) == 1
        return tests[0] if len(tests) == 1 else lambda row, facts: any(t(row, facts) for t in tests)

    def _and(self) -> Test:
        tests = [self._not()]
        while self._at < len(self._tokens) and self._next() not in ("or", ")"):
            if self._next() == "and":
                self._at += 1
            tests.append(self._not())
        self._ands = tests
        return tests[0] if len(tests) == 1 else lambda row, facts: all(t(row, facts) for t in tests)

    def _not(self) -> Test:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UsageError(f"more than {DEEPEST} 'not' and '(' within each other")
        try:
            return self._one()
        finally:
            self._depth -= 1

    def _one(self) -> Test:
        if self._next() == "not":
            self._at += 1
            test = self._not()
            return lambda row, facts: not test(row, facts)
        if self._next() == "(":
            self._at += 1
            test = self._or()
            if self._next() != ")":
                raise UsageError("'(' without ')'")
            self._at += 1
            return test
        return self._term()

    def _term(self) -> Test:
        if self._at >= len(self._tokens):
            raise UsageError("something is missing at the end")
        token = self._tokens[self._at]
        if token["field"] is None and self._next() in ("and", "or", ")"):
            raise UsageError(f"{token[0].strip()!r} without something before it")
        self._at += 1
        if token["field"] is None:
            return _word(_unquoted(token["word"]).lower())
        name, op, wanted = token["field"], token["op"], _unquoted(token["value"])
        if not wanted and not token["value"]:
            raise UsageError(f"{name}{op}: a value is missing")
        if name.lower() in OTHERS and op in (":", "=") and name.lower() != "name":
            return self._other(name.lower(), wanted)
        return _compared(field_named(name, self._keys), op, wanted)

    def _other(self, name: str, wanted: str) -> Test:
        if name == "is":
            self._archived |= wanted.lower() == "archived"
            return _is(wanted.lower())
        if name == "has":
            return _has(wanted.lower())
        texts.word_query(wanted)  # raises where there is no word in it
        search = (name, wanted)
        self._searches.append(search)
        found = self._found
        return lambda row, facts: row.id in found.get(search, ())


def _unquoted(value: str | None) -> str:
    value = value or ""
    return value[1:-1] if value[:1] in ('"', "'") and value[:1] == value[-1:] else value


def _word(word: str) -> Test:
    def test(row: RunRow, facts: Facts) -> bool:
        text = f"{row.name} {row.id} {row.state} {row.model} {row.dataset} {row.sweep or ''}"
        return word in text.lower() or any(
            word in tag.lower() for tag in facts.tags.get(row.id, ())
        )

    return test


_IS: Mapping[str, Test] = {
    "starred": lambda row, facts: row.id in facts.starred,
    "archived": lambda row, facts: row.id in facts.archived,
    "live": lambda row, facts: row.state not in ENDS,
    "ended": lambda row, facts: row.state in ENDS,
    "imported": lambda row, facts: row.imported is not None,
}
STATES = ("queued", "starting", "running", "stopping", *sorted(ENDS))


def _is(wanted: str) -> Test:
    if wanted in _IS:
        return _IS[wanted]
    if wanted in STATES:
        return lambda row, facts: row.state == wanted
    raise UsageError(f"is:{wanted}: there are {', '.join((*_IS, *STATES))}")


_HAS: Mapping[str, Test] = {
    "note": lambda row, facts: row.id in facts.noted,
    "tag": lambda row, facts: bool(facts.tags.get(row.id)),
    "parent": lambda row, facts: row.parent is not None,
    "sweep": lambda row, facts: row.sweep is not None,
    "error": lambda row, facts: row.error_kind is not None,
    "adapter": lambda row, facts: row.adapter is not None,
}


def _has(wanted: str) -> Test:
    found = _HAS.get(wanted.removesuffix("s")) or _HAS.get(wanted)
    if found is None:
        raise UsageError(f"has:{wanted}: there are {', '.join(_HAS)}")
    return found


_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _refuse_no_state(op: str, low: str) -> None:
    """A mistyped state would find nothing, in silence; ``~`` takes any word."""
    known = op not in ("=", "!=", ":") or low == "none" or low in STATES
    if known or (op == ":" and any(low in state for state in STATES)):
        return
    near = difflib.get_close_matches(low, STATES, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"state{op}{low}: there are {', '.join(STATES)}{hint}")


def _compared(one: Field, op: str, wanted: str) -> Test:
    value = one.value
    if one.name == "state":
        _refuse_no_state(op, wanted.lower())
    if wanted.lower() == "none" and op in ("=", "!=", ":"):
        is_none = op != "!="
        return lambda row, facts: (value(row, facts) in (None, "", ())) == is_none
    if one.kind == "words":
        return _of_tags(one, op, wanted.lower())
    number = number_of(one.kind, wanted)
    if op in ("<", "<=", ">", ">="):
        if number is None:
            raise UsageError(f"{one.name}{op}{wanted}: {wanted_words(one.kind)} is wanted")
        return _ordered(value, op, number)
    if number is None and one.kind in ("number", "bytes", "seconds", "time") and op != "~":
        raise UsageError(f"{one.name}{op}{wanted}: {wanted_words(one.kind)} is wanted")
    low = wanted.lower()
    contains = op == "~" or (op == ":" and one.kind in ("word", "any"))

    def test(row: RunRow, facts: Facts) -> bool:
        found = value(row, facts)
        if found is None:
            return False
        if isinstance(found, bool):
            return low in (("true", "yes", "on", "1") if found else ("false", "no", "off", "0"))
        if isinstance(found, int | float) and number is not None:
            return math.isclose(found, number, rel_tol=1e-9) or (found != found != number != number)
        text = str(found).lower()
        return low in text if contains else low == text

    return test if op != "!=" else lambda row, facts: not test(row, facts)


def _of_tags(one: Field, op: str, low: str) -> Test:
    def test(row: RunRow, facts: Facts) -> bool:
        tags = one.value(row, facts)
        return any(low in tag.lower() if op == "~" else low == tag.lower() for tag in tags)

    if op in ("<", "<=", ">", ">="):
        raise UsageError(f"{one.name}{op}: tags have no order; write {one.name}:{low}")
    return test if op != "!=" else lambda row, facts: not test(row, facts)


def _ordered(value: Callable[[RunRow, Facts], Any], op: str, number: float) -> Test:
    compare = _ORDERS[op]

    def test(row: RunRow, facts: Facts) -> bool:
        there = value(row, facts)
        # A comparison with not-a-number is never true, so that is never found either.
        return (
            isinstance(there, float | int)
            and not isinstance(there, bool)
            and compare(there, number)
        )

    return test
