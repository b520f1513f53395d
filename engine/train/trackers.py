"""Trackers (TensorBoard, W&B, MLflow, Trackio) through Transformers' callbacks, kept at a distance.

A tracker that fails is told once in the journal and left out from then on; the run goes on.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from engine.home import Home
from engine.jobs.folder import RunFolder

__all__ = ["Trackers"]

PROJECT = "tunebench"
"""What runs are filed under, unless the tracker's own environment variable says otherwise."""

Warn = Callable[[str], None]


class Trackers(TrainerCallback):
    """Hands every event of the trainer to the trackers that still work."""

    def __init__(self, names: Sequence[str], home: Home, folder: RunFolder, warn: Warn) -> None:
        # TensorBoard shows all runs of `--logdir HOME/runs`; a resumed run goes on in W&B's.
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(folder.path / "tensorboard"))
        os.environ.setdefault("WANDB_DIR", str(folder.path))
        os.environ.setdefault("WANDB_RUN_ID", folder.id)
        os.environ.setdefault("WANDB_RESUME", "allow")
        os.environ.setdefault("WANDB_PROJECT", PROJECT)
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", PROJECT)
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{home.path / 'mlflow.db'}")
        self.warn = warn
        self.living: dict[str, TrainerCallback] = {}
        for name in names:
            with self._guarded(name):
                self.living[name] = get_reporting_integration_callbacks([name])[0]()

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Any:
        try:
            yield
        except Exception as error:  # whatever a tracker raises: a run is worth more
            self.living.pop(name, None)
            words = " ".join(str(error).split())[:300] or type(error).__name__
            self.warn(f"train.report_to: {name} failed and is left out from here on: {words}")

    def tell(self, event: str, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Call ``event`` (a method of ``TrainerCallback``) of every tracker."""
        for name, callback in list(self.living.items()):
            with self._guarded(name):
                getattr(callback, event)(args, state, control, **kwargs)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell("on_train_begin", args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell("on_log", args, state, control, **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell("on_train_end", args, state, control, **kwargs)
