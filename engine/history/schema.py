"""The schema page: what the migrations make of an empty database, with what it means in words."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from engine.history.described import GROUPS, WORDS

__all__ = ["Column", "Relation", "page", "relations"]


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """As SQLite has it; of a view's expression: empty."""
    key: int
    """Place in the primary key, from 1; 0: none."""
    words: str


@dataclass(frozen=True)
class Relation:
    """A table or a view."""

    name: str
    kind: str
    """table, view, or full-text index."""
    words: str
    columns: tuple[Column, ...]
    indexes: tuple[str, ...]
    """In words: columns, and whether they are unique."""
    sql: str
    """Of a view."""


def relations() -> list[Relation]:
    """All of them, in the order of the page. Those without words come last, and have none."""
    from engine.history.migrations import Database, migrations

    connection = sqlite3.connect(":memory:")
    try:
        migrations.apply(Database(connection))
        found = dict(_of(connection))
    finally:
        connection.close()
    order = [name for names in GROUPS.values() for name in names]
    return [found[name] for name in (*order, *sorted(set(found) - {*order})) if name in found]


def _of(connection: sqlite3.Connection) -> Iterator[tuple[str, Relation]]:
    # Tables that a full-text index keeps its own things in are left out: "shadow".
    for _, name, kind, *_ in connection.execute("PRAGMA table_list").fetchall():
        if kind == "shadow" or name.startswith("sqlite_"):
            continue
        words, columns = WORDS.get(name, ("", {}))
        said = {"virtual": "full-text index"}.get(kind, kind)
        [(sql,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
        yield (
            name,
            Relation(
                name,
                said,
                words,
                tuple(
                    Column(column, type, key, columns.get(column, ""))
                    for _, column, type, _, _, key in connection.execute(
                        "SELECT * FROM pragma_table_info(?)", (name,)
                    ).fetchall()
                ),
                tuple(_indexes(connection, name)),
                str(sql) if kind == "view" else "",
            ),
        )


def _indexes(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    sql = 'SELECT name, "unique", origin FROM pragma_index_list(?) ORDER BY name'
    for name, unique, origin in connection.execute(sql, (table,)).fetchall():
        if origin == "pk":
            continue
        columns = connection.execute("SELECT name FROM pragma_index_info(?)", (name,)).fetchall()
        listed = ", ".join(f"`{column}`" for (column,) in columns)
        yield f"`{name}` ({listed}{'; unique' if unique else ''})"


_HEAD = """\
# `runs.db`

Made by `tunebench runs schema` from the migrations; do not edit it by hand.

`runs.db` in a home folder is an SQLite database (WAL) and an index only: the truth is in the runs'
folders and in `journal.jsonl`. It may be deleted at any time, `tunebench reindex` makes it anew.
Read it with whatever reads SQLite, while runs go on too; do not write to it: what is written there
is lost with the next reindex.

    datasette runs.db
    sqlite-utils query runs.db "SELECT * FROM run_summary WHERE starred" --table
    sqlite3 -readonly -header runs.db \\
        "SELECT name, best_eval_loss FROM runs WHERE best_eval_loss IS NOT NULL ORDER BY 2 LIMIT 10"

Times are Unix seconds, sizes bytes, durations seconds, unless a column says otherwise. A number
that is not finite is one of the texts `NaN`, `Infinity`, `-Infinity`. Where a column is JSON,
`json_extract` and `json_each` look into it. Migrations only ever go forward; a database of a newer
program is refused, not changed.
"""


def page() -> str:
    """The page as Markdown."""
    found = {relation.name: relation for relation in relations()}
    parts = [_HEAD]
    listed = [name for names in GROUPS.values() for name in names]
    groups = {**GROUPS, "Others": tuple(name for name in found if name not in listed)}
    for title, names in groups.items():
        there = [found[name] for name in names if name in found]
        if there:
            parts.append(f"## {title}\n")
            parts += [_section(relation) for relation in there]
    return "\n".join(parts)


def _section(relation: Relation) -> str:
    lines = [f"### `{relation.name}`", "", f"{relation.words} ({relation.kind})", ""]
    lines += ["| column | type | key | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{column.name}` | {column.type.lower()} | {column.key or ''} | {column.words} |"
        for column in relation.columns
    ]
    if relation.indexes:
        lines += ["", f"Indexes: {', '.join(relation.indexes)}."]
    if relation.sql:
        sql = [line.rstrip() for line in relation.sql.strip().splitlines()]
        lines += ["", "```sql", *sql, "```"]
    return "\n".join([*lines, ""])
