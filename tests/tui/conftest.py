"""Frozen runs, a feed that says what a test wants, a clock that stands still.

Everything a screen shows comes from here, so that a snapshot never depends on the machine. Fixtures
for other screens' tests: ``frozen_app`` (an app over frozen data), ``HOSTILE`` (one nasty row).
"""

import asyncio
import contextlib
import gc
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.worker import WorkerCancelled

from engine.history.row import RunRow
from engine.home import Home, open_home
from tui.acts import Reading
from tui.app import WorkbenchApp
from tui.feed import Changed, RunDetail, Snapshot

if TYPE_CHECKING:
    from tests.tui.terminal import Tmux

NOW = 1_763_800_000.0
"""What the frozen clock says."""

REPAINT = 0.02
"""Seconds within which a screen with something new on it is painted."""

SIZES = [(80, 24), (120, 40)]

HOSTILE = (
    "EVIL\x1b]52;c;cHduZWQ=\x07\x1b[2J\x1b[31;5m\x1bc\x9b5n\x00\x08\u202egnp.exe\u2066"
    " [@click=app.quit]go[/] [/red] [bold [/ \\[ {x} \r\n\t\ufdfd"
    " \U0001f468\u200d\U0001f469\u200d\U0001f467 \ud800 " + "A" * 100_000 + "\u0301"
)
"""Escape sequences, C1, bidi controls, markup, a lone surrogate, width traps, 100,000 letters."""

READING = Reading((), "No NVIDIA driver on this machine.", 5 << 30, 16 << 30, 37.0, 90 << 30)
GPU_READING = Reading(((0, "NVIDIA H200", 29 << 30, 139 << 30, 93),), "", 20 << 30, 128 << 30, 9, 0)

RECIPE = "[train]\nlearning_rate = 3e-3\nmax_steps = 120\n\n[lora]\nr = 16\n"


def row(name: str = "demo", state: str = "running", **fields: Any) -> RunRow:
    """A run of the demo recipe that began ten minutes before :data:`NOW`."""
    base: dict[str, Any] = {
        "id": f"20251122-0816-{name}",
        "name": name,
        "created": NOW - 605,
        "started": NOW - 600,
        "state": state,
        "model": "builtin:base",
        "dataset": "catalogue",
        "backend": "transformers",
        "device": "cpu",
        "last_event": NOW - 1,
    }
    return RunRow(**{**base, **fields})


def loss_at(step: int) -> float:
    """A curve as training makes it, without a random generator."""
    return (
        2.3 + 3.2 * math.exp(-step / 22) + 0.12 * math.sin(step * 2.7) + 0.05 * math.sin(step * 9)
    )


def detail(run: RunRow, steps: int, **fields: Any) -> RunDetail:
    """Series, evaluations every 40 steps, two samples and a log, up to ``steps``."""
    import numpy as np

    x = np.arange(1.0, steps + 1)
    loss = np.array([loss_at(int(step)) for step in x])
    evaluations: list[dict[str, Any]] = [
        {"step": 0, "split": "test", "which": "before", "loss": 5.912, "seconds": 2.0},
        *(
            {
                "step": step,
                "split": "validation",
                "which": "during",
                "loss": loss_at(step) + 0.1,
                "seconds": 1.5,
            }
            for step in range(40, steps + 1, 40)
        ),
    ]
    if run.state == "finished":
        evaluations.append(
            {"step": steps, "split": "test", "which": "after", "loss": 2.441, "seconds": 2.0}
        )
    base: dict[str, Any] = {
        "series": {
            "loss": (x, loss),
            "learning_rate": (x, 3e-3 * (1 - (x - 1) / 120)),
            "step_seconds": (x, np.full(steps, 0.8)),
        },
        "evaluations": evaluations,
        "samples": [
            {
                "step": 40,
                "prompt": "Oak bench, 120 cm",
                "text": "A sturdy oak bench that seats two, for hall or garden.",
                "reference": "This oak bench seats two people.",
            }
        ],
        "checkpoints": [
            {"step": step, "path": f"checkpoints/step-{step}", "bytes": 3 << 20, "best": 1}
            for step in range(40, steps + 1, 40)
        ],
        "recipe": RECIPE,
        "log": ["importing torch", "loading the model", "120 steps to go", "step 40: validation"],
    }
    return RunDetail(run, **{**base, **fields})


def running() -> RunDetail:
    run = row(
        "demo-2", step=57, max_steps=120, epoch=0.48, loss=loss_at(57), learning_rate=1.6e-3,
        grad_norm=1.234, tokens_per_second=3120.0, step_seconds=0.8, eval_loss=2.989,
        best_eval_loss=2.989, best_step=40, memory_bytes=812 << 20, peak_memory_bytes=900 << 20,
        checkpoint="checkpoints/step-40",
    )  # fmt: skip
    return detail(run, 57)


def finished() -> RunDetail:
    run = row(
        "demo", "finished", step=120, max_steps=120, epoch=1.0, loss=loss_at(120),
        learning_rate=2.5e-5, grad_norm=0.8, tokens_per_second=3200.0, step_seconds=0.79,
        eval_loss=2.412, best_eval_loss=2.412, best_step=120, test_loss_before=5.912,
        test_loss=2.441, ended=NOW - 300, exit_code=0, reason="all steps done",
        checkpoint="checkpoints/step-120", memory_bytes=812 << 20, peak_memory_bytes=900 << 20,
    )  # fmt: skip
    return detail(run, 120)


def failed() -> RunDetail:
    run = row(
        "big", "killed", step=83, max_steps=120, epoch=0.7, loss=loss_at(83), learning_rate=9e-4,
        grad_norm=1.1, tokens_per_second=900.0, step_seconds=2.9, eval_loss=2.6,
        best_eval_loss=2.6, best_step=80, ended=NOW - 120, signal=9, signal_name="SIGKILL",
        checkpoint="checkpoints/step-80",
        reason="killed by SIGKILL from outside (perhaps for want of host memory)",
    )  # fmt: skip
    log = ["step 82", "step 83", "Traceback (most recent call last):", "MemoryError"]
    return detail(run, 83, log=log)


OUT_OF_MEMORY = {
    "type": "error",
    "kind": "out_of_memory",
    "message": "out of memory on the GPU while training",
    "tried": "training, batch 64 x 512 tokens, at step 42",
    "during": "training",
    "needed_bytes": 12 << 30,
    "free_bytes": 3 << 30,
    "total_bytes": 80 << 30,
    "used_bytes": 61 << 30,
    "others_bytes": 16 << 30,
    "suggestion": {
        "words": "halve the batch and double accumulation: 32 x 2 rows a step instead of 64 x 1",
        "settings": {
            "train.per_device_train_batch_size": 32,
            "train.gradient_accumulation_steps": 2,
        },
    },
}
"""The ``error`` event of a run that wanted more than there is."""


def out_of_memory(**fields: Any) -> RunDetail:
    """A run that ended so, with a checkpoint to go on from."""
    from engine.commands.endings import suggested, what_happened

    run = row(
        "large", "failed", step=42, max_steps=120, epoch=0.35, loss=loss_at(42),
        learning_rate=2e-3, tokens_per_second=5200.0, step_seconds=1.4, eval_loss=3.0,
        best_eval_loss=3.0, best_step=40, ended=NOW - 60, exit_code=1,
        checkpoint="checkpoints/step-40", reason=OUT_OF_MEMORY["message"],
        error_kind="out_of_memory", error=json.dumps(OUT_OF_MEMORY), **fields,
    )  # fmt: skip
    return detail(run, 42, ending=what_happened(run), suggested=bool(suggested(run)))


def on_gpus(count: int) -> RunDetail:
    """The running run on so many GPUs, the fuller the higher their number."""
    shown = running()
    memory = {
        f"cuda:{number}": {
            "device": f"cuda:{number}",
            "used_bytes": (20 + 15 * number) << 30,
            "total_bytes": 140 << 30,
            "utilisation": 90 + number,
        }
        for number in range(count)
    }
    return replace(shown, memory=memory, row=replace(shown.row, num_processes=count))


SAMPLES: list[dict[str, Any]] = [
    {"step": step, "t": NOW + step, "prompt": prompt, "text": text, "reference": reference}
    for prompt, reference, texts in (
        (
            "Oak bench, 120 cm",
            "This oak bench seats two people.",
            {
                20: "A bench bench of oak.",
                40: "A bench of oak that seats people.",
                60: "A bench of solid oak that seats two people.",
            },
        ),
        (
            "Copper kettle",
            "",
            {20: "A kettle.", 40: "A kettle.", 60: "A copper kettle for the stove."},
        ),
    )
    for step, text in texts.items()
]
"""Two prompts, answered three times."""


STATES: dict[str, Callable[[], RunDetail] | None] = {
    "empty": None,
    "running": running,
    "finished": finished,
    "failed": failed,
}


def snapshot_of(*details: RunDetail) -> Snapshot:
    """What the feed would say of these runs, newest first."""
    return Snapshot([one.row for one in details], {one.row.id: one for one in details}, True)


class FrozenFeed:
    """Says one snapshot when the app starts, and another one whenever a test says so."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.watched: frozenset[str] = frozenset()
        self._post: Callable[[Any], Any] | None = None

    def start(self, post: Callable[[Any], Any]) -> None:
        self._post = post
        post(Changed(self.snapshot))

    def say(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        assert self._post is not None, "the app has not started its feed"
        self._post(Changed(snapshot))

    def watch(self, run_ids: frozenset[str]) -> None:
        self.watched = run_ids

    def look_up(self, question: Any) -> None:
        """There is no store to search in."""

    def stop(self) -> None:
        self._post = None


FROZEN_RECIPES = {
    "amazon-titles": 'version = 1\nname = "amazon-titles"\n[data]\nsource = "trn.json.gz"\n',
    "demo": """\
version = 1
name = "demo"
[format]
template = "chat"
[lora]
r = 16
lora_alpha = 32
[train]
max_steps = 120
learning_rate = 3e-3
eval_steps = 40
save_steps = 40
""",
}


@pytest.fixture(autouse=True)
def _frozen_recipes(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in recipes as they were: tuning the demo changes no snapshot."""
    folder = tmp_path_factory.mktemp("recipes")
    paths = {}
    for name, text in FROZEN_RECIPES.items():
        paths[name] = folder / f"{name}.toml"
        paths[name].write_text(text)
    monkeypatch.setattr("engine.recipe.builtin_recipes", lambda: paths)


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The developer's own terminal and locale decide nothing."""
    for name in (
        "NO_COLOR",
        "COLORTERM",
        "TUNEBENCH_CHART",
        "TUNEBENCH_HOME",
        "LC_ALL",
        "LC_CTYPE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert os.environ["TEXTUAL_ANIMATIONS"] == "none"
    yield


async def at_rest(min_sleep: float = 0, max_sleep: float = 1) -> None:
    """Until nothing on the event loop can go on, now or at the next repaint."""
    loop: Any = asyncio.get_running_loop()
    give_up = loop.time() + max_sleep
    while (now := loop.time()) < give_up:
        await asyncio.sleep(0)
        if loop._ready:
            continue
        due = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
        if not due or min(due) > now + REPAINT:
            return
        await asyncio.sleep(max(0, min(due) - now))


@pytest.fixture(autouse=True, scope="session")
def _frozen_once() -> None:
    """What other tests have imported (torch) is not looked through again by every collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual's pilot takes a process for idle that used no processor for 20 ms, and looks twice a
    key: two thirds of these tests' time. The event loop itself knows when there is nothing to do.
    """
    for module in ("app", "pilot"):
        monkeypatch.setattr(f"textual.{module}.wait_for_idle", at_rest)
    # A workbench freezes what lives as long as it does; hundreds of them, one after the other,
    # would keep each other for ever: 1 GB in a worker.
    monkeypatch.setattr("gc.freeze", lambda: None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def write_log(home: Home, run: str, lines: list[str]) -> Path:
    """worker.log of a run that is on no disk otherwise: what of it is looked at is read there."""
    path = home.runs / run / "worker.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    return path


@pytest.fixture
def frozen_app(home: Home) -> Callable[..., WorkbenchApp]:
    """``frozen_app(*details, mode="train")``: an app over frozen data that opens on one screen."""

    def make(
        *details: RunDetail,
        mode: str = "train",
        reading: Reading = READING,
        feed: FrozenFeed | None = None,
    ) -> WorkbenchApp:
        for one in details:
            write_log(home, one.row.id, one.log)
        return WorkbenchApp(
            home,
            feed=feed or FrozenFeed(snapshot_of(*details)),
            clock=lambda: NOW,
            home_words="~/bench",
            read_system=lambda: reading,
            start=mode,
        )

    return make


# --- the Data screen's


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small dirty file; see ``tests.tui.wares``."""
    from tests.tui.wares import lines

    path = tmp_path / "wares.jsonl"
    path.write_bytes(b"\n".join(lines()) + b"\n")
    return path


@pytest.fixture
def filled(home: Home, source: Path) -> Home:
    """A home with one cleaned dataset."""
    from engine.data.prepare import prepare
    from tests.tui.wares import recipe

    prepare(home, recipe(source))
    return home


@pytest.fixture
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews and lengths that depend on no model."""
    from tests.tui.wares import preview, stats
    from tui.rowviews import Rows

    monkeypatch.setattr(Rows, "preview", preview)
    monkeypatch.setattr(Rows, "lengths", stats)


async def settle(pilot: Any) -> None:
    """Wait for workers, for those that they start in turn, and for the screen to come to rest."""
    quiet = 0
    async with asyncio.timeout(60):
        while quiet < 2:
            # A worker whose place another one took is over too.
            with contextlib.suppress(WorkerCancelled):
                await pilot.app.workers.wait_for_complete()
            await pilot.pause()
            quiet = quiet + 1 if all(one.is_finished for one in pilot.app.workers) else 0


@pytest.fixture
def tmux() -> "Iterator[Tmux]":
    from tests.tui.terminal import Tmux

    server = Tmux()
    yield server
    server.run("kill-server")
