"""A worker without torch: does what ``script.json`` in the home tells it to.

Steps are quick; a file ``gate`` in the run's folder (or the one that the script names), where the
script asks for it, is waited for, so that tests decide when the run goes on.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.jobs import checkpoints, worker
from engine.jobs.context import RunContext, Stopped


def wait_for(path: Path, context: RunContext) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        if context.stop_requested() or time.monotonic() > deadline:
            return
        time.sleep(0.005)


def save(context: RunContext, step: int) -> None:
    folder = context.folder.checkpoints
    folder.mkdir(exist_ok=True)
    temporary = folder / f".step-{step}"
    temporary.mkdir()
    (temporary / "state.json").write_text(json.dumps({"step": step}))
    size = checkpoints.publish(temporary, folder / f"step-{step}", step=step)
    context.journal.append(
        "checkpoint", step=step, path=f"checkpoints/step-{step}", bytes=size, seconds=0.0, best=True
    )


def train(context: RunContext) -> dict[str, Any]:
    folder, journal = context.folder, context.journal
    try:
        script = json.loads((context.home.path / "script.json").read_text())
    except FileNotFoundError:
        script = {}
    steps = script.get("steps", 20)
    first = checkpoints.step_of(context.resume_from) if context.resume_from else 0
    context.phase("importing nothing")
    if script.get("gate_at") == "starting":
        wait_for(folder.path / "gate", context)
    if script.get("fork"):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        (folder.path / "forked").write_text(str(pid))
    journal.append(
        "state",
        state="running",
        max_steps=steps,
        total_parameters=1000,
        trainable_parameters=10,
        train_rows=100,
        validation_rows=10,
        test_rows=10,
        resume_step=first,
        backend="scripted",
        device="cpu",
        dtype="float32",
        optim="none",
        versions={"python": "3"},
        gpu=None,
        dataset="catalogue",
        fingerprint="abc",
        git_commit=None,
    )
    for step in range(first + 1, steps + 1):
        if script.get("gate_at") == step:
            wait_for(Path(script.get("gate", folder.path / "gate")), context)
        if script.get("fail_at") == step and context.attempt == 1:
            fail(script["fail"])
        context.take_controls()
        journal.append(
            "metrics",
            step=step,
            epoch=step / steps,
            loss=float("nan") if script.get("nan_at") == step else 4.0 / step,
            learning_rate=1e-3,
            grad_norm=1.0,
            step_seconds=0.001,
            tokens=100,
            tokens_per_second=1e5,
            memory_bytes=1 << 20,
            peak_memory_bytes=2 << 20,
        )
        if step % 5 == 0:
            journal.append(
                "evaluation",
                step=step,
                split="validation",
                which="during",
                loss=4.0 / step,
                rows=10,
                tokens=100,
                seconds=0.1,
            )
            save(context, step)
        if context.stop_requested():
            save(context, step)
            raise Stopped
    return {
        "steps": steps,
        "train_loss": 1.0,
        "eval_loss": 4.0 / steps,
        "best_checkpoint": f"checkpoints/step-{steps}",
        "adapter": "adapter",
        "reason": "all steps done",
    }


def fail(how: str) -> None:
    if how == "user":
        raise UserError("data.source: nothing there; name another file")
    if how == "memory":
        raise MemoryError("no memory")
    if how == "disk":
        raise OSError(28, "No space left on device")
    if how == "crash":
        raise RuntimeError("boom \x1b[31m")
    if how == "exit":
        os._exit(7)
    if how == "silent":
        os._exit(0)
    os.kill(os.getpid(), getattr(signal, how))


if __name__ == "__main__":
    sys.exit(worker.main(train=train))
