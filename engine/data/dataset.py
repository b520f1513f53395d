"""A cleaned dataset on disk: its manifest, its splits mapped into memory, its pages.

Opening one reads ``dataset.json`` only; pyarrow is imported when rows are asked for.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.report import CleanReport
from engine.errors import UserError
from engine.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.data.pages import Pages

__all__ = ["FILES", "MANIFEST", "VIEWS", "Dataset", "DatasetInfo", "list_datasets", "open_dataset"]

MANIFEST = "dataset.json"
MANIFEST_VERSION = 2
FILES = {
    "train": "train.arrow",
    "validation": "validation.arrow",
    "test": "test.arrow",
    "cleaned": "cleaned.parquet",
    "audit": "audit.parquet",
    "rejects": "rejects.jsonl",
    "raw_index": "raw-index.json",
    "recipe": "recipe.toml",
    "manifest": MANIFEST,
}
"""What is which file of a dataset's folder. The manifest is written last: it makes one whole."""

VIEWS = ("raw", "train", "validation", "test", "cleaned", "dropped")


class Dataset:
    """One cleaned dataset. Cheap to open; its row readers open their files at first use."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.fingerprint: str = manifest["fingerprint"]
        self.created = float(manifest.get("created", 0))
        """Seconds since 1970."""
        self.source = str(manifest.get("source", {}).get("path", ""))
        """Where its rows came from."""
        self.report = CleanReport.from_json(manifest["report"])
        if not all(isinstance(self.count(view), int) for view in VIEWS):
            raise ValueError("the counts are no numbers")
        # A folder that was copied elsewhere tells where it lies now.
        self.report.paths = {"folder": str(path)} | {
            what: str(path / file) for what, file in FILES.items()
        }

    @property
    def shape(self) -> str:
        """What its rows have: one of :data:`engine.data.rows.SHAPES`."""
        return str(self.manifest.get("shape", "pair"))

    def file(self, what: str) -> Path:
        """The path of one of :data:`FILES`."""
        return self.path / FILES[what]

    def split(self, name: str) -> "pa.Table":
        """The train, validation or test rows, memory-mapped: line, prompt, completion.

        The shapes instruction and conversation have further columns, see
        :data:`engine.data.tables.ROW_SCHEMAS`.
        """
        return self._pages.split(name)

    def count(self, view: str) -> int:
        """Rows of a view of :data:`VIEWS`, from the report: reads nothing."""
        report = self.report
        if view == "raw":
            return report.rows_read
        if view == "cleaned":
            return report.rows_kept
        if view == "dropped":
            return report.rows_read - report.rows_kept
        return {"train": report.train, "validation": report.validation, "test": report.test}[view]

    def page(self, view: str, start: int, count: int) -> list[dict[str, Any]]:
        """At most ``count`` rows of a view from row ``start`` (0-based) on.

        Rows of raw: line, raw. Of dropped: line, rule, evidence, raw (its first 1,000 bytes). Of
        the others: line, prompt, completion. Raises :class:`UserError` when the raw source is gone
        or has changed.
        """
        if start < 0 or count <= 0:
            return []
        return self._pages.page(view, start, count)

    def rest(self) -> None:
        """Let go of the rows that were decoded for the last pages, up to a row group a view."""
        if "_pages" in self.__dict__:
            self._pages.rest()

    @cached_property
    def _pages(self) -> "Pages":
        from engine.data.pages import Pages

        return Pages(self)


@dataclass(frozen=True)
class DatasetInfo:
    """A line in the list of datasets, from the manifest."""

    name: str
    path: Path
    fingerprint: str
    created: float
    """Seconds since 1970."""
    source: str
    rows_kept: int
    train: int
    validation: int
    test: int


def list_datasets(home: Home) -> list[DatasetInfo]:
    """The whole datasets of a home, newest first. Folders without a manifest are none."""
    found = []
    for manifest in home.datasets.glob(f"*/{MANIFEST}"):
        if manifest.parent.name.startswith("."):
            continue
        try:
            dataset = open_dataset(home, manifest.parent.name)
        except UserError:
            continue
        report = dataset.report
        found.append(
            DatasetInfo(
                name=dataset.name,
                path=dataset.path,
                fingerprint=dataset.fingerprint,
                created=dataset.created,
                source=dataset.source,
                rows_kept=report.rows_kept,
                train=report.train,
                validation=report.validation,
                test=report.test,
            )
        )
    return sorted(found, key=lambda info: (-info.created, info.name))


def open_dataset(home: Home, name_or_path: str | Path) -> Dataset:
    """A dataset of this home by name, or one anywhere by its folder.

    Raises :class:`UserError` when there is none or it is not whole.
    """
    named = home.datasets / str(name_or_path)
    path = named if (named / MANIFEST).is_file() else Path(name_or_path).expanduser().absolute()
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        dataset = Dataset(path, manifest)
        if manifest["version"] > MANIFEST_VERSION:
            raise UserError(f"{path}: was written by a newer tunebench; update this one")
        sizes = manifest["files"].items()
        broken = [file for file, size in sizes if (path / file).stat().st_size != size]
    except (FileNotFoundError, NotADirectoryError) as error:
        lost = Path(str(error.filename))
        if lost.name != MANIFEST and lost.parent == path:
            raise UserError(f"{path}: {lost.name} is missing; clean the source again") from None
        names = ", ".join(sorted(info.parent.name for info in home.datasets.glob(f"*/{MANIFEST}")))
        raise UserError(
            f"{name_or_path}: no such dataset; there is "
            + (names or "none yet: make one with tunebench clean SOURCE")
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path / MANIFEST}: is damaged; clean the source again") from None
    if broken:
        raise UserError(f"{path}: {broken[0]} is damaged; clean the source again")
    return dataset
