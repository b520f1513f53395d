"""Builds one dataset into a folder: cleans, deals out, writes what was found."""

import json
import time
from array import array
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.clean import EXAMPLES, RAW_BYTES, Cleaned, Cleaner, Cleaning, Job
from engine.data.dataset import FILES, MANIFEST, MANIFEST_VERSION
from engine.data.processes import in_order, peak_rss_bytes, worker_count
from engine.data.progress import Watch
from engine.data.rejects import RejectWriter
from engine.data.repairs import REPAIRS
from engine.data.repeats import Repeats
from engine.data.report import CleanReport
from engine.data.split import SIDES, Sides, assign, leaks, sides_by_share
from engine.errors import UserError
from engine.recipe import Recipe
from engine.whole import sync

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from engine.data.sources import Look, Source

__all__ = ["Build"]


class Build:
    """One dataset, built into the folder ``temporary``; it will lie at ``folder``.

    ``identity``: what the manifest says of the source; ``wanted``: the fingerprint.
    """

    def __init__(
        self,
        recipe: Recipe,
        look: "Look",
        source: "Source",
        identity: dict[str, Any],
        wanted: str,
        temporary: Path,
        folder: Path,
        watch: Watch,
    ) -> None:
        self.recipe = recipe
        self.source = source
        self.identity = identity
        self.temporary = temporary
        self.folder = folder
        self.watch = watch
        clean = recipe.clean
        self.job = Job(clean, look.shape, recipe.model.model_name_or_path)
        # Made here too, so that a rule that cannot work says so before anything is started.
        cleaner = Cleaner(self.job)
        self.report = CleanReport(
            layout=look.layout.name,
            shape=look.shape,
            mapping=look.mapping,
            dropped=dict.fromkeys(cleaner.reasons, 0),
            repairs=dict.fromkeys(REPAIRS, 0),
            changed=dict.fromkeys(cleaner.changing, 0),
            fingerprint=wanted,
            paths={"folder": str(folder)}
            | {what: str(folder / file) for what, file in FILES.items()},
        )
        self.parser = source.parser()
        self.repeats = Repeats(clean)
        self.examples: Counter[str] = Counter()
        self.prompts, self.completions, self.lines = array("Q"), array("Q"), array("q")
        self.disk = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self.syncing: list[Future[None]] = []

    def path(self, what: str) -> Path:
        return self.temporary / FILES[what]

    def run(self) -> None:
        """Write it. Raises :class:`UserError` and what the disk raises.

        What is written then is no dataset, because the manifest comes last.
        """
        report = self.report
        peaks: list[int] = []
        try:
            self.clean(peaks)
            self.sync("cleaned", "audit", "rejects", "raw_index", "recipe")
            self.split()
            self.sync(*SIDES)
            for done in self.syncing:
                self.watch.tell("writing")
                done.result()
        finally:
            self.disk.shutdown(cancel_futures=True)
        report.seconds = round(time.monotonic() - self.watch.began, 3)
        report.peak_rss_bytes = peak_rss_bytes() + sum(peaks)
        self.write_manifest()
        sync(self.temporary)

    def sync(self, *files: str) -> None:
        """Bring files to the disk while other things are done: 390 MB/s where it was measured."""
        self.syncing += [self.disk.submit(sync, self.path(what)) for what in files]

    # --- cleaning

    def clean(self, peaks: list[int]) -> None:
        """Read and clean every row; the kept ones go to ``cleaned.parquet``, in order."""
        from engine.data.tables import AUDIT_SCHEMA, ROW_SCHEMAS, RowWriter, SplitWriters

        source, watch, report = self.source, self.watch, self.report
        size = max(1, source.bytes_total)
        with (
            RowWriter(self.path("cleaned"), ROW_SCHEMAS[report.shape]) as kept,
            RowWriter(self.path("audit"), AUDIT_SCHEMA) as audit,
            RejectWriter(self.path("rejects")) as rejects,
            ExitStack() as stack,
        ):
            chunks = stack.enter_context(closing(source.chunks()))
            sides = stack.enter_context(SplitWriters(*self.split_files())) if self.at_once else None
            workers = worker_count(size)

            def tell() -> None:
                watch.tell("cleaning", report.rows_read, source.bytes_read / size)

            task = Cleaning(self.job, self.parser)
            cleaned_chunks = in_order(task, chunks, workers, peaks, tell)
            for chunk, cleaned in stack.enter_context(closing(cleaned_chunks)):
                self.count(cleaned)
                rows, titles, dropped = self.sift(chunk, cleaned)
                kept.add(rows)
                audit.add(dropped)
                if sides is not None:
                    sides.add(rows, sides_by_share(self.recipe.split, titles))
                for line, reason, raw in cleaned.rejects:
                    rejects.add(self.where(line), line, reason, raw)
                tell()
        report.repaired = sum(report.repairs.values())
        report.file_repairs = dict(Counter(report.file_repairs) + source.file_repairs)
        report.warnings += source.warnings
        if not report.rows_kept:
            raise UserError(self.nothing_usable())
        self.path("raw_index").write_text(json.dumps(source.index), encoding="utf-8")
        self.path("recipe").write_text(self.recipe.to_toml(), encoding="utf-8")

    def where(self, line: int) -> tuple[str, int]:
        """File and line in it, for a source of several files; ("", line) for one."""
        if len(self.source.files) == 1:
            return "", line
        file, own = self.source.where(line)
        return str(file), own

    def count(self, cleaned: Cleaned) -> None:
        report = self.report
        report.rows_read += cleaned.rows_read
        for told, counts in (
            (report.repairs, cleaned.repairs),
            (report.changed, cleaned.changed),
            (report.flagged, cleaned.flagged),
            (report.file_repairs, cleaned.file_repairs),
        ):
            for name, count in counts.items():
                told[name] = told.get(name, 0) + count
        for change in cleaned.changes:
            if self.examples[change.rule] < EXAMPLES:
                self.examples[change.rule] += 1
                report.examples.append(change._asdict())

    def sift(
        self, chunk: Any, cleaned: Cleaned
    ) -> "tuple[pa.RecordBatch, np.ndarray, pa.RecordBatch]":
        """The chunk's rows that stay with the hashes of their titles, and those that do not."""
        import numpy as np

        from engine.data.tables import AUDIT_SCHEMA, batch, in_line_order

        kept, dropped = cleaned.kept, cleaned.dropped
        report = self.report
        for rule in dropped.column("rule").to_pylist():
            report.dropped[rule] = report.dropped.get(rule, 0) + 1
        lines = kept.column("line").to_pylist()
        marks = cleaned.marks
        hashes = [np.asarray(marks.prompts), np.asarray(marks.completions)]
        if repeats := self.repeats.sift(lines, marks):
            raw = self.parser.raw(chunk, [lines[place] for place, _, _ in repeats])
            more = []
            for (place, reason, evidence), text in zip(repeats, raw, strict=True):
                report.dropped[reason] += 1
                shown = text[:RAW_BYTES].decode("utf-8", "replace")
                more.append((lines[place], reason, evidence, shown))
            dropped = in_line_order(dropped, batch(AUDIT_SCHEMA, more))
            staying = np.ones(len(lines), dtype=bool)
            staying[[place for place, _, _ in repeats]] = False
            places = np.flatnonzero(staying)
            kept = kept.take(places)
            hashes = [values[places] for values in hashes]
        self.prompts.frombytes(hashes[0].tobytes())
        self.completions.frombytes(hashes[1].tobytes())
        self.lines.frombytes(kept.column("line").to_numpy().tobytes())
        report.rows_kept += kept.num_rows
        return kept, hashes[0], dropped

    def nothing_usable(self) -> str:
        report, name = self.report, self.identity["path"]
        if not report.rows_read:
            return f"{name}: has no rows, only blank lines"
        why = ", ".join(f"{count:,} {rule}" for rule, count in report.dropped.items() if count)
        message = f"{name}: no usable row among {report.rows_read:,} ({why})"
        if report.dropped["malformed"] == report.rows_read:
            message += "; one JSON object a line is expected"
        return message

    # --- splitting

    def split(self) -> None:
        """Deal the clean rows out and write the sides."""
        import numpy as np

        from engine.data.tables import SplitWriters, read_batches

        self.watch.tell("splitting")
        report, recipe = self.report, self.recipe
        prompts = np.frombuffer(self.prompts, dtype=np.uint64)
        completions = np.frombuffer(self.completions, dtype=np.uint64)
        lines = np.frombuffer(self.lines, dtype=np.int64)
        clean = recipe.clean
        sides = assign(
            recipe.split,
            prompts,
            completions,
            lines,
            unique_completions=clean.has("duplicates") and clean.duplicates.by == "completion",
        )
        report.leakage_before = sides.leakage_before
        report.leakage_after = leaks(sides.side, prompts, completions)
        if report.leakage_after:
            raise AssertionError(f"{report.leakage_after} rows of the other splits are in train")
        report.near_leakage = self.near_leakage(sides)
        for name in SIDES:
            setattr(report, name, sides.count(name))
        self.warn(sides)
        if self.at_once:
            return
        with SplitWriters(*self.split_files()) as writers:
            done = 0
            for batch in read_batches(self.path("cleaned")):
                writers.add(batch, sides.side[done : done + batch.num_rows])
                done += batch.num_rows
                self.watch.tell("splitting", done, done / report.rows_kept)

    @property
    def at_once(self) -> bool:
        """Whether a row's side is known as soon as the row is clean.

        By shares it is decided by its title alone, unless a completion may be there twice.
        """
        clean = self.recipe.clean
        unique = clean.has("duplicates") and clean.duplicates.by == "completion"
        return unique and not self.recipe.split.by_count

    def split_files(self) -> "tuple[dict[str, Path], pa.Schema]":
        from engine.data.tables import ROW_SCHEMAS

        return {name: self.path(name) for name in SIDES}, ROW_SCHEMAS[self.report.shape]

    def near_leakage(self, sides: Sides) -> int:
        """Rows of validation and test whose completion is nearly one of train.

        Rows that are near to the same earlier row count as near to each other: that one may be on
        their side of the border, or in no split.
        """
        import numpy as np

        pairs = np.array(self.repeats.near_pairs, dtype=np.int64).reshape(-1, 2)
        lines = np.frombuffer(self.lines, dtype=np.int64)
        near, first = (np.searchsorted(lines, pairs[:, column]) for column in (0, 1))
        family = np.arange(len(lines))
        family[near] = first
        in_train = family[sides.side == 0]
        return int(np.isin(family[sides.side > 0], in_train).sum())

    def warn(self, sides: Sides) -> None:
        report = self.report
        if sides.left_out:
            report.warnings.append(
                f"{sides.left_out:,} rows are in no split: another split has the same completion"
            )
        for name in SIDES:
            if not getattr(report, name):
                report.warnings.append(
                    f"the {name} split is empty: too few clean rows ({report.rows_kept:,})"
                )

    # --- the manifest

    def write_manifest(self) -> None:
        from engine import __version__

        recipe = self.recipe
        manifest = {
            "version": MANIFEST_VERSION,
            "tunebench": __version__,
            "name": self.folder.name,
            "fingerprint": self.report.fingerprint,
            "created": time.time(),
            "shape": self.report.shape,
            "source": self.identity,
            "data": recipe.data.model_dump(),
            "clean": recipe.clean.model_dump(),
            "split": recipe.split.model_dump(),
            "files": {
                file: self.path(what).stat().st_size
                for what, file in FILES.items()
                if what != "manifest"
            },
            "report": asdict(self.report),
        }
        path = self.temporary / MANIFEST
        path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        sync(path)
