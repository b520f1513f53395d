"""From a recipe to a dataset on disk: read, clean, spill, split, check, publish.

Everything is written to a hidden folder beside and renamed when it is whole, under one lock per
dataset name. Whatever interrupts it leaves nothing that looks like a dataset.
"""

import errno
import json
import resource
import shutil
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.clean import Cleaner, hash64
from engine.data.dataset import FILES, MANIFEST, MANIFEST_VERSION, Dataset, open_dataset
from engine.data.progress import Cancelled, Progress, Watch
from engine.data.report import CleanReport
from engine.data.rules import title_key
from engine.data.sources import (
    check_source,
    data_files,
    dataset_name,
    fingerprint,
    locate_source,
    look,
    open_source,
    source_sha256,
)
from engine.data.split import SIDES, Sides, assign
from engine.errors import UserError
from engine.home import Home
from engine.jobs.lock import locked
from engine.recipe import Recipe

__all__ = ["Cancelled", "Progress", "check_source", "prepare"]

RAW_BYTES = 1000
"""Bytes of a dropped line that the audit keeps."""
_CHECK_EVERY = 1024


def prepare(
    home: Home,
    recipe: Recipe,
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Dataset:
    """The dataset that a recipe describes: the one that is there, or a new one.

    A dataset of the same name with the same fingerprint is opened at once; one with another
    fingerprint is replaced when the new one is whole. Raises :class:`UserError` when the source
    cannot be used and :class:`Cancelled` when ``cancelled()`` turns true.
    """
    watch = Watch(progress, cancelled)
    check_source(recipe)
    name = dataset_name(recipe.data)
    folder = home.datasets / name
    try:
        locks = home.datasets / ".locks"
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(locks / name, waiting=lambda: watch.tell("waiting for another run")):
            rows = recipe.data.catalogue_rows
            source = locate_source(
                home,
                recipe.data,
                lambda done: watch.tell("making the catalogue", done, done / rows),
            )
            sha256 = source_sha256(home, source, lambda: watch.tell("fingerprinting"))
            wanted = fingerprint(sha256, recipe)
            if _is_whole(home, name, wanted):
                return open_dataset(home, name)
            temporary = home.datasets / f".{name}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(mode=0o700)
            try:
                _Preparation(home, recipe, source, sha256, wanted, temporary, folder, watch).run()
                _publish(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{home.datasets}: the disk is full; the unfinished dataset was removed; make room "
                "or name another folder with --home DIR"
            ) from None
        where = error.filename or folder
        raise UserError(f"{where}: cannot be used ({error.strerror or error})") from None
    return open_dataset(home, name)


def _is_whole(home: Home, name: str, wanted: str) -> bool:
    if not (home.datasets / name).exists():
        return False
    try:
        return open_dataset(home, name).fingerprint == wanted
    except UserError:
        return False  # damaged: made again


def _publish(temporary: Path, folder: Path) -> None:
    from engine.data.tables import sync

    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _states(source: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file of a source."""
    infos = [(str(path), path.stat()) for path in data_files(source)[0]]
    return [(path, info.st_size, info.st_mtime_ns) for path, info in infos]


class _Preparation:
    """One preparation into ``temporary``; ``folder`` is where it will lie."""

    def __init__(
        self,
        home: Home,
        recipe: Recipe,
        source: Path,
        sha256: str,
        wanted: str,
        temporary: Path,
        folder: Path,
        watch: Watch,
    ) -> None:
        self.home = home
        self.recipe = recipe
        self.source = source
        self.sha256 = sha256
        self.temporary = temporary
        self.watch = watch
        self.report = CleanReport(
            fingerprint=wanted,
            paths={"folder": str(folder)}
            | {what: str(folder / file) for what, file in FILES.items()},
        )
        self.titles, self.completions, self.lines = array("Q"), array("Q"), array("q")

    def path(self, what: str) -> Path:
        return self.temporary / FILES[what]

    def run(self) -> None:
        from engine.data.tables import sync

        report = self.report
        before = _states(self.source)
        self.clean()
        if before != _states(self.source):
            raise UserError(f"{self.source}: changed while it was read; try again")
        self.split()
        report.seconds = round(time.monotonic() - self.watch.began, 3)
        report.peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
        for path in self.temporary.iterdir():
            sync(path)
        self.write_manifest(sum(b for _, b, _ in before), max(time for _, _, time in before))
        sync(self.temporary)

    def clean(self) -> None:
        """Read and clean every row; the kept ones are spilled to ``cleaned.parquet``."""
        from engine.data.tables import AUDIT_SCHEMA, ROW_SCHEMA, RowWriter

        found = look(self.home, self.recipe.data)
        source = open_source(self.home, self.recipe.data, found)
        parser = source.parser()
        cleaner = Cleaner(self.recipe.clean)
        size = max(1, source.bytes_total)
        titles, completions, lines = self.titles, self.completions, self.lines
        with (
            RowWriter(self.path("cleaned"), ROW_SCHEMA) as kept,
            RowWriter(self.path("audit"), AUDIT_SCHEMA) as audit,
        ):
            rows = (row for chunk in source.chunks() for row in parser.rows(chunk))
            for count, row in enumerate(rows):
                if not count % _CHECK_EVERY:
                    self.watch.tell("cleaning", count, source.bytes_read / size)
                rule, prompt, completion, evidence, completion_hash = cleaner.decide(row)
                if rule is None:
                    kept.add(row.line, prompt, completion)
                    titles.append(hash64(title_key(prompt)))
                    completions.append(completion_hash)
                    lines.append(row.line)
                else:
                    raw = row.raw[:RAW_BYTES].decode("utf-8", "replace")
                    audit.add(row.line, rule, evidence, raw)
        report = self.report
        report.rows_read, report.rows_kept = cleaner.rows_read, cleaner.rows_kept
        report.dropped, report.changed = cleaner.dropped, cleaner.changed
        report.repairs = cleaner.repairs
        report.repaired = sum(cleaner.repairs.values())
        report.file_repairs = dict(source.file_repairs + parser.file_repairs)
        report.warnings = [*found.notes, *source.warnings]
        if not report.rows_kept:
            raise UserError(_nothing_usable(self.source, report))
        with self.path("raw_index").open("w", encoding="utf-8") as file:
            json.dump(source.index, file)

    def split(self) -> None:
        """Deal the clean rows out, write the sides, and check what was written for leaks."""
        import numpy as np

        from engine.data.tables import write_splits

        self.watch.tell("splitting")
        report, split = self.report, self.recipe.split
        sides = assign(
            split,
            np.frombuffer(self.titles, dtype=np.uint64),
            np.frombuffer(self.completions, dtype=np.uint64),
            np.frombuffer(self.lines, dtype=np.int64),
            unique_completions=self.recipe.clean.has("duplicates")
            and self.recipe.clean.duplicates.by == "completion",
        )
        report.leakage_before = sides.leakage_before
        for name in SIDES:
            setattr(report, name, sides.count(name))
        self._warn(sides)
        paths = {name: self.path(name) for name in SIDES}
        for done in write_splits(self.path("cleaned"), sides.side, paths):
            self.watch.tell("splitting", done, done / report.rows_kept)
        report.leakage_after = self._leaks(paths)
        if report.leakage_after:
            raise AssertionError(f"{report.leakage_after} rows of the other splits are in train")

    def _warn(self, sides: Sides) -> None:
        if sides.left_out:
            self.report.warnings.append(
                f"{sides.left_out:,} rows are in no split: another split has the same completion"
            )
        for name in SIDES:
            if not getattr(self.report, name):
                self.report.warnings.append(
                    f"the {name} split is empty: too few clean rows ({self.report.rows_kept:,})"
                )

    def _leaks(self, paths: dict[str, Path]) -> int:
        """Rows of validation and test with a title or completion of train, from the files."""
        import pyarrow as pa

        def keys(name: str) -> "Any":
            with pa.OSFile(str(paths[name])) as source:
                for batch in pa.ipc.open_stream(source):
                    self.watch.tell("checking")
                    yield from zip(
                        map(hash64, map(title_key, batch.column("prompt").to_pylist())),
                        map(hash64, batch.column("completion").to_pylist()),
                        strict=True,
                    )

        others = [*keys("validation"), *keys("test")]
        titles, completions = {title for title, _ in others}, {text for _, text in others}
        seen_titles, seen_completions = set(), set()
        for title, completion in keys("train"):
            if title in titles:
                seen_titles.add(title)
            if completion in completions:
                seen_completions.add(completion)
        return sum(
            title in seen_titles or completion in seen_completions for title, completion in others
        )

    def write_manifest(self, size: int, mtime_ns: int) -> None:
        from engine import __version__
        from engine.data.tables import sync

        recipe = self.recipe
        manifest = {
            "version": MANIFEST_VERSION,
            "tunebench": __version__,
            "name": Path(self.report.paths["folder"]).name,
            "fingerprint": self.report.fingerprint,
            "created": time.time(),
            "source": {
                "path": str(self.source),
                "bytes": size,
                "mtime_ns": mtime_ns,
                "sha256": self.sha256,
            },
            "data": recipe.data.model_dump(),
            "clean": recipe.clean.model_dump(),
            "split": recipe.split.model_dump(),
            "files": {
                file: self.path(what).stat().st_size
                for what, file in FILES.items()
                if what != "manifest"
            },
            "report": self.report.as_json(),
        }
        path = self.temporary / MANIFEST
        path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        sync(path)


def _nothing_usable(source: Path, report: CleanReport) -> str:
    if not report.rows_read:
        return f"{source}: has no rows, only blank lines"
    why = ", ".join(f"{count:,} {rule}" for rule, count in report.dropped.items() if count)
    message = f"{source}: no usable row among {report.rows_read:,} ({why})"
    if report.dropped["malformed"] == report.rows_read:
        message += "; one JSON object a line is expected"
    return message
