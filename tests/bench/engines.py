"""The same cleaning in other tools, as a notebook would write it: one function a tool.

Each reads gzipped JSON Lines, drops empty titles and descriptions, unescapes and strips HTML,
normalises Unicode and white space, drops repeated descriptions, writes the whole cleaned set as
Parquet and splits it 90/5/5 into three more files. ``python -m tests.bench.engines NAME IN OUT``.
"""

import gzip
import html
import json
import re
import sys
import unicodedata
from pathlib import Path

TAGS = re.compile(r"<[a-zA-Z/!?][^<>]*>")
CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
SHARES = {"train": (0.0, 0.9), "validation": (0.9, 0.95), "test": (0.95, 1.0)}


def normalise(text: str) -> str:
    text = TAGS.sub(" ", html.unescape(text))
    text = CONTROL.sub("", unicodedata.normalize("NFC", text))
    return " ".join(text.split())


def pandas_notebook(source: Path, out: Path) -> int:
    import pandas as pd

    rows = []
    with gzip.open(source, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
                # Lone surrogates cannot be in a column.
                texts = (str(row[name]).encode("utf-8", "replace") for name in ("title", "content"))
                rows.append(tuple(text.decode("utf-8") for text in texts))
            except (ValueError, KeyError, TypeError):
                continue
    frame = pd.DataFrame(rows, columns=["title", "content"])
    del rows
    for column in ("title", "content"):
        frame[column] = frame[column].map(normalise)
    frame = frame[(frame.title != "") & (frame.content != "")].drop_duplicates("content")
    frame.to_parquet(out / "cleaned.parquet")
    mixed = frame.sample(frac=1.0, random_state=0)
    for name, (low, high) in SHARES.items():
        part = mixed.iloc[int(low * len(mixed)) : int(high * len(mixed))]
        part.to_parquet(out / f"{name}.parquet")
    return len(frame)


def hf_datasets(source: Path, out: Path) -> int:
    import datasets

    datasets.disable_progress_bars()
    data = datasets.load_dataset(
        "json", data_files=str(source), split="train", cache_dir=str(out / "cache")
    ).select_columns(["title", "content"])
    data = data.map(
        lambda row: {key: normalise(row[key] or "") for key in ("title", "content")}, num_proc=2
    )
    seen: set[int] = set()

    def first(row: dict[str, str]) -> bool:
        if not row["title"] or not row["content"]:
            return False
        key = hash(row["content"])
        if key in seen:
            return False
        seen.add(key)
        return True

    data = data.filter(first)
    data.to_parquet(out / "cleaned.parquet")
    parts = data.train_test_split(test_size=0.1, seed=0)
    held = parts["test"].train_test_split(test_size=0.5, seed=0)
    for name, part in (
        ("train", parts["train"]),
        ("validation", held["train"]),
        ("test", held["test"]),
    ):
        part.to_parquet(out / f"{name}.parquet")
    return len(data)


def polars_streaming(source: Path, out: Path) -> int:
    import polars as pl

    entities = {f"&{name};": html.unescape(f"&{name};") for name in (
        "amp", "lt", "gt", "quot", "nbsp", "eacute", "egrave", "reg", "trade", "copy", "rsquo",
        "#39", "#45", "#x200b", "ndash", "mdash",
    )}  # fmt: skip

    def tidy(column: str) -> pl.Expr:
        return (
            pl.col(column)
            .str.replace_many(entities)
            .str.replace_all(TAGS.pattern, " ")
            .str.replace_all(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\ufeff]", "")
            .str.normalize("NFC")
            .str.replace_all(r"\s+", " ")
            .str.strip_chars()
        )

    frame = pl.scan_ndjson(
        source, ignore_errors=True, schema={"title": pl.String, "content": pl.String}
    )
    (
        frame.select(tidy("title"), tidy("content"))
        .filter((pl.col("title") != "") & (pl.col("content") != ""))
        .unique("content", keep="any")
        .sink_parquet(out / "cleaned.parquet")
    )
    cleaned = pl.scan_parquet(out / "cleaned.parquet").with_columns(
        side=pl.col("title").str.to_lowercase().hash(0) % 1000
    )
    for name, (low, high) in SHARES.items():
        part = cleaned.filter((pl.col("side") >= low * 1000) & (pl.col("side") < high * 1000))
        part.drop("side").sink_parquet(out / f"{name}.parquet")
    return int(pl.scan_parquet(out / "cleaned.parquet").select(pl.len()).collect().item())


def duckdb_sql(source: Path, out: Path) -> int:
    import duckdb

    db = duckdb.connect(str(out / "work.duckdb"))
    db.execute("SET memory_limit = '1GB'")
    db.execute("SET preserve_insertion_order = false")

    def tidy(column: str) -> str:
        text = column
        for entity, plain in (
            ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&#39;", "''"),
            ("&#45;", "-"), ("&eacute;", "é"), ("&quot;", '"'),
        ):  # fmt: skip
            text = f"replace({text}, '{entity}', '{plain}')"
        text = f"regexp_replace({text}, '<[a-zA-Z/!?][^<>]*>', ' ', 'g')"
        text = f"regexp_replace({text}, '[\\x00-\\x08\\x0e-\\x1f\\x7f]', '', 'g')"
        return f"trim(regexp_replace(nfc_normalize({text}), '\\s+', ' ', 'g'))"

    db.execute(
        f"""CREATE TABLE tidy AS SELECT {tidy("title")} AS title, {tidy("content")} AS content
        FROM read_ndjson(?, columns = {{title: 'VARCHAR', content: 'VARCHAR'}},
                         ignore_errors = true)""",
        [str(source)],
    )
    db.execute(
        "CREATE TABLE cleaned AS SELECT any_value(title) AS title, content FROM tidy "
        "WHERE title <> '' AND content <> '' GROUP BY content"
    )
    db.execute(f"COPY cleaned TO '{out / 'cleaned.parquet'}'")
    for name, (low, high) in SHARES.items():
        db.execute(
            f"COPY (SELECT * FROM cleaned WHERE hash(lower(title)) % 1000 >= {low * 1000} AND "
            f"hash(lower(title)) % 1000 < {high * 1000}) TO '{out / f'{name}.parquet'}'"
        )
    found = db.execute("SELECT count(*) FROM cleaned").fetchall()
    return int(found[0][0])


def tunebench(source: Path, out: Path) -> int:
    from engine.data.prepare import prepare
    from engine.home import open_home
    from engine.recipe import Recipe

    recipe = Recipe(name="bench").with_settings(
        [f"data.source={source}", "data.prompt_column=title", "data.completion_column=content"]
    )
    return prepare(open_home(out), recipe).report.rows_kept


ENGINES = {
    "tunebench": tunebench,
    "polars": polars_streaming,
    "duckdb": duckdb_sql,
    "datasets": hf_datasets,
    "pandas": pandas_notebook,
}
NEEDS_SOUND_LINES = ("polars", "datasets")
"""These end at a byte order mark, a line that is no JSON or bytes that are not UTF-8."""

if __name__ == "__main__":
    name, source, out = sys.argv[1:]
    print(ENGINES[name](Path(source), Path(out)))
