"""The whole bench: device, card, model, rows, then one contestant after the other."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.bench.contestants import Entrant, bench_recipe, choose, planned_steps, select
from engine.bench.device import BenchDevice, have_device
from engine.bench.document import describe
from engine.bench.job import Job
from engine.bench.measured import Measured, result, with_ratios
from engine.bench.models import BenchModel, find_model
from engine.bench.ours import run_ours
from engine.bench.process import Ended, run_process
from engine.bench.rows import ROW_SETS, RowSet, make_rows
from engine.bench.theirs import run_theirs
from engine.bench.wish import Wish
from engine.data.progress import Cancelled, Progress
from engine.errors import UserError
from engine.home import Home, open_home
from engine.jobs.lock import acquire
from engine.recipe import Recipe, load_recipe
from engine.words import duration

__all__ = ["Bench"]

STEPS, QUICK_STEPS = 40, 20
QUICK_SECONDS = 290.0
CONTESTANT_SECONDS, QUICK_CONTESTANT_SECONDS = 900.0, 110.0
LEAST_SECONDS = 20.0
"""Less than this no contestant needs on a GPU: with less left, none is started."""
BUILD_SECONDS = 900.0
SPARE_ROWS = 1.15
"""A tenth of the rows goes to the other splits."""
MOST_ROWS = 20_000
"""More steps go over the same rows again."""


@dataclass
class Bench:
    """One bench. :meth:`run` gives its document; what happens meanwhile is told to the callbacks.

    ``on_status`` gets what is going on (often), ``on_note`` a line that stays, ``on_change`` the
    document as it is whenever something was measured. ``interrupted()`` is asked ten times a
    second: once it is true, what runs is killed, and what was measured is returned.
    """

    home: Home
    wish: Wish
    on_status: Callable[[str], None] = lambda words: None
    on_note: Callable[[str], None] = lambda words: None
    on_change: Callable[[dict[str, Any]], None] = lambda document: None
    interrupted: Callable[[], bool] = lambda: False
    document: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Measure everything.

        Raises :class:`UserError` when not even a beginning can be made, and
        :class:`engine.data.progress.Cancelled` when it is interrupted before that.
        """
        self.began = time.monotonic()
        wish = self.wish
        contestants = select(wish.only)  # wrong words are told before anything is done
        if wish.recipe:
            load_recipe(wish.recipe, wish.settings)
        self.scratch = open_home(self.home.path / "cache" / "bench")
        with _alone(self.scratch), have_device(self.home, wish.device, wish.anyway) as device:
            kept = self._clear()
            card = self._measure_card(device)
            recipe, model, notes = self._settle(card["device"])
            if kept:
                notes.insert(0, "what libraries compiled for an earlier bench was there to be used")
            self._build(model)
            entrants, left_out = choose(contestants, recipe, card["device"])
            if not entrants:
                raise UserError(f"nothing to measure: {left_out[0].id}: {left_out[0].why}")
            self.document = describe(device, card, recipe, model, self.steps)
            self.document |= {"quick": wish.quick, "settings": list(wish.settings)}
            self.document["notes"] = device.notes + notes
            for one in left_out:
                self._leave_out(None, one.id, one.why)
            self._measure(device, recipe, entrants, model)
        return self.document

    # ---- before -----------------------------------------------------------------------------

    def _clear(self) -> bool:
        """Forget the last bench's runs and rows; whether compiled code of it is still there."""
        for folder in (self.scratch.runs, self.scratch.datasets):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        compiled = (self.scratch.path / "cache", self._work / "unsloth" / "unsloth_compiled_cache")
        return any(folder.is_dir() for folder in compiled)

    @property
    def _work(self) -> Path:
        return self.scratch.path / "rivals"

    def _process(self, module: str, *arguments: str) -> dict[str, Any]:
        """All that a short process tells, together."""
        told: dict[str, Any] = {}

        def take(message: dict[str, Any]) -> None:
            if "phase" in message:
                self.on_status(message["phase"])
            told.update(message)

        name = module.rpartition(".")[2]
        ended = run_process(
            module,
            list(arguments),
            take,
            folder=self._work / name,
            log=self._work / f"{name}.log",
            deadline=time.monotonic() + BUILD_SECONDS,
            interrupted=self.interrupted,
        )
        if ended.end == "interrupted":
            raise Cancelled("interrupted before anything was measured")
        if ended.end != "finished":
            raise UserError(f"{name}: {ended.reason or 'took too long'} ({self._work}/{name}.log)")
        return told

    def _measure_card(self, device: BenchDevice) -> dict[str, Any]:
        wanted = "cpu" if device.gpu is None else "auto"
        card: dict[str, Any] = self._process("engine.bench.card", wanted)["card"]
        if device.gpu is not None and card["device"] == "cpu":
            self.on_note(f"torch {card['torch']} sees no GPU: 'tunebench doctor' says why")
            device.gpu, device.name = None, "the CPU"
        return card

    def _settle(self, device: str) -> tuple[Recipe, BenchModel, list[str]]:
        wish = self.wish
        self.own_rows = any(setting.startswith("data.") for setting in wish.settings)
        name = wish.recipe or ("demo" if device == "cpu" else "amazon-titles")
        recipe = load_recipe(name, [*wish.settings, f"model.device={device}"])
        self.steps = wish.steps or (QUICK_STEPS if wish.quick else STEPS)
        self.planned = planned_steps(recipe, self.steps)
        model = find_model(self.scratch, recipe, wish.shape, device)
        recipe, notes = bench_recipe(model.recipe, self.steps)
        return recipe, model, notes

    def _build(self, model: BenchModel) -> None:
        if not model.is_there:
            assert model.shape is not None
            self._process("engine.bench.shapes", str(model.folder), model.shape)

    # ---- measuring --------------------------------------------------------------------------

    def _measure(
        self, device: BenchDevice, recipe: Recipe, entrants: list[Entrant], model: BenchModel
    ) -> None:
        train = recipe.train
        batch = train.per_device_train_batch_size * train.gradient_accumulation_steps
        quick = self.wish.quick and not self.wish.only
        most = QUICK_CONTESTANT_SECONDS if self.wish.quick else CONTESTANT_SECONDS
        state = "finished"
        took: dict[str, float] = {}
        for name in [name for name in ROW_SETS if name in self.wish.rows]:
            skipped = [e for e in entrants if quick and not e.contestant.quick]
            if quick and self.document["rows"]:
                self._leave_out(name, None, "not with --quick")
                continue
            for entrant in skipped:
                self._leave_out(name, entrant.contestant.id, "not with --quick")
            chosen = [entrant for entrant in entrants if entrant not in skipped]
            try:
                count = min(int(self.steps * batch * SPARE_ROWS), MOST_ROWS)
                rows = self._rows(name, recipe, count)
            except Cancelled:
                state = "interrupted"
                break
            except UserError as error:
                if not self.document["results"]:
                    raise
                self._leave_out(name, None, str(error))
                continue
            for place, entrant in enumerate(chosen):
                if self.interrupted():
                    break
                left = self._seconds_left()
                if left < max(LEAST_SECONDS, took.get(entrant.contestant.id, 0.0)):
                    for late in chosen[place:]:
                        self._leave_out(name, late.contestant.id, "no time was left")
                    break
                began = time.monotonic()
                self._one(device, entrant, rows, model, min(left, most))
                took[entrant.contestant.id] = time.monotonic() - began
            if self.interrupted():
                state = "interrupted"
                break
        self._changed(state)

    def _seconds_left(self) -> float:
        """For the next contestant, and all that come after it."""
        spent = time.monotonic() - self.began
        return QUICK_SECONDS - spent if self.wish.quick else float("inf")

    def _rows(self, name: str, recipe: Recipe, count: int) -> RowSet:
        def tell(now: Progress) -> None:
            self.on_status(f"rows: {now.phase} {now.fraction:.0%}")

        rows = make_rows(
            name,
            self.home,
            self.scratch,
            recipe,
            count,
            own=self.own_rows,
            progress=tell,
            cancelled=self.interrupted,
        )
        facts = {"words": rows.words, "rows": rows.rows}
        facts |= {"tokens": rows.tokens, "trained_tokens": rows.trained}
        self.document["rows"][name] = facts
        return rows

    def _one(
        self,
        device: BenchDevice,
        entrant: Entrant,
        rows: RowSet,
        model: BenchModel,
        seconds: float,
    ) -> None:
        """Measure one contestant; whatever becomes of it is a line of results."""
        name = f"{entrant.contestant.id}-{rows.name}"

        def tell(words: str) -> None:
            self.on_status(f"{entrant.label}, {rows.name} rows: {words}")

        began = time.time()
        ends: dict[str, Any] = {"interrupted": self.interrupted}
        ends["deadline"] = time.monotonic() + seconds
        recipe = entrant.recipe.model_copy(
            update={key: getattr(rows.recipe, key) for key in ("data", "clean", "split")}
        )
        with device.watched() as others:
            try:
                if entrant.contestant.kind == "tunebench":
                    measured, ended = run_ours(self.scratch, name, recipe, self.steps, tell, **ends)
                else:
                    job = Job(
                        kind=entrant.contestant.kind,
                        recipe=recipe.model_dump(),
                        model=str(model.folder),
                        rows=str(rows.file),
                        steps=self.steps,
                        planned_steps=self.planned,
                        device=self.document["device"],
                    )
                    folder, log = self._work / entrant.contestant.id, self._work / f"{name}.log"
                    measured, ended = run_theirs(job, folder, log, tell, began=began, **ends)
            except UserError as error:
                measured, ended = Measured(began), Ended("failed", str(error))
        found = result(entrant, rows, measured, ended, self.steps, "; ".join(others))
        self.document["results"].append(found)
        self._changed("running")
        rate = found["step_seconds"]
        told = f"{rate:.4g} s a step" if rate else found["reason"] or found["state"]
        spent = duration(time.time() - began)
        self.on_note(f"{entrant.label}, {rows.name} rows: {told} ({spent})")

    def _leave_out(self, rows: str | None, contestant: str | None, why: str) -> None:
        """None: on no rows at all; all contestants."""
        left_out = {"contestant": contestant, "rows": rows, "why": why}
        self.document["left_out"].append(left_out)

    def _changed(self, state: str) -> None:
        document = self.document
        document["state"] = state
        document["seconds"] = time.monotonic() - self.began
        limit = document["limit_tokens_per_second"]
        document["results"] = with_ratios(document["results"], limit)
        if document["results"]:
            self.on_change(document)


@contextlib.contextmanager
def _alone(scratch: Home) -> Iterator[None]:
    """Hold the lock of the home's bench. Raises :class:`UserError` while another one runs."""
    lock = acquire(scratch.path / "lock", 0.3)
    if lock is None:
        raise UserError(f"another bench of this home runs ({scratch.path}); wait for its end")
    try:
        yield
    finally:
        os.close(lock)
