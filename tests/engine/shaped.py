"""Small datasets of every shape, written by hand: Arrow files and a manifest, no cleaning."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.dataset import FILES, MANIFEST, Dataset, open_dataset
from engine.data.report import CleanReport
from engine.data.tables import AUDIT_SCHEMA, ROW_SCHEMAS
from engine.home import Home
from tests import tiny

Values = dict[str, Any]


def rows(shape: str, count: int = 60) -> list[Values]:
    """Rows of a shape: of very different lengths, some spelling special tokens out."""
    made: list[Values] = []
    for number, row in enumerate(tiny.rows(count)):
        title, text = row["title"], row["content"] * (1 + number % 7 // 3)
        if number % 11 == 5:
            title, text = f"{title}<|end|>", f"<|begin|><|assistant|>{text}"
        values: Values = {"line": 2 * number + 1, "prompt": title, "completion": text}
        if shape == "text":
            values["prompt"] = ""
        elif shape == "instruction":
            values["prompt"] = title if number % 3 else ""
            values["instruction"] = f"Sell this, {number} words." if number % 4 else ""
            values["system"] = "You keep a shop." if number % 5 == 0 else ""
        elif shape == "conversation":
            turns = [("user", title), ("assistant", text)] * (1 + number % 3)
            if number % 4 == 0:
                turns.insert(0, ("system", "You keep a shop."))
            values["messages"] = [{"role": role, "content": content} for role, content in turns]
        made.append(values)
    return made


def write_dataset(home: Home, shape: str, values: list[Values], name: str = "") -> Dataset:
    """The first two thirds are train, then validation and test by halves."""
    folder = home.datasets / (name or shape)
    folder.mkdir(parents=True)
    schema = ROW_SCHEMAS[shape]
    table = pa.Table.from_pylist(values, schema=schema)
    a, b = 2 * len(values) // 3, 5 * len(values) // 6
    parts = {"train": table[:a], "validation": table[a:b], "test": table[b:]}
    for split, part in parts.items():
        with (
            pa.OSFile(str(folder / FILES[split]), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            writer.write_table(part)
    pq.write_table(table, folder / FILES["cleaned"])
    pq.write_table(AUDIT_SCHEMA.empty_table(), folder / FILES["audit"])
    (folder / FILES["raw_index"]).write_text("{}")
    sizes = {split: len(part) for split, part in parts.items()}
    report = CleanReport(
        rows_read=len(values), rows_kept=len(values), fingerprint=f"{shape}-by-hand", **sizes
    )
    _manifest(folder, shape, report)
    return open_dataset(home, folder.name)


def _manifest(folder: Path, shape: str, report: CleanReport) -> None:
    files = [path for path in folder.iterdir() if path.name != MANIFEST]
    manifest = {
        "version": 1,
        "name": folder.name,
        "fingerprint": report.fingerprint,
        "created": 0.0,
        "shape": shape,
        "source": {},
        "files": {path.name: path.stat().st_size for path in files},
        "report": report.as_json(),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
