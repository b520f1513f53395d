"""What times a rival's steps: the same for all, and nothing that a step would have to wait for."""

import time
from typing import Any

from engine.bench.telling import Teller

__all__ = ["Clock", "timed"]

PEAK_EVERY = 5


class Clock:
    """Times steps on the GPU's own clock, without a wait for it in between; else on the host's."""

    def __init__(self, teller: Teller, device: str) -> None:
        self.teller = teller
        self.cuda = device != "cpu"
        self._ends: list[Any] = []
        self._told = 0

    def phase(self, words: str) -> None:
        """Say what begins now."""
        self.teller.tell(phase=words)

    def begin(self) -> None:
        """Everything is there: the first step begins."""
        from engine.train.memory import MemoryReader

        self.memory = MemoryReader("cuda:0" if self.cuda else "cpu")
        self.phase("training")
        self._mark()

    def step(self, loss: float | None = None) -> None:
        """A step has ended, or been given to the GPU."""
        self._mark()
        number = len(self._ends) - 1
        if self.cuda and number == 1:
            self._ends[-1].synchronize()  # the first step's time is told as it is
        if loss is not None:
            self.loss(number, loss)
        self._tell()
        if number % PEAK_EVERY == 0:
            self._tell_peak()

    def loss(self, step: int, loss: float) -> None:
        self.teller.tell(step=step, loss=loss)

    def end(self) -> None:
        """No step follows: tell of those that are still under way, and the peak of memory."""
        if self.cuda:
            self._ends[-1].synchronize()
        self._tell()
        self._tell_peak()

    def facts(self, **facts: Any) -> None:
        self.teller.tell(facts=facts)

    def _mark(self) -> None:
        if not self.cuda:
            self._ends.append(time.perf_counter())
            return
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._ends.append(event)

    def _tell(self) -> None:
        for number in range(self._told + 1, len(self._ends)):
            before, after = self._ends[number - 1 : number + 1]
            if self.cuda and not after.query():
                return
            seconds = before.elapsed_time(after) / 1000 if self.cuda else after - before
            self.teller.tell(step=number, seconds=seconds)
            self._told = number

    def _tell_peak(self) -> None:
        self.teller.tell(peak_bytes=self.memory.own()[1])


def timed(clock: Clock, steps: int) -> Any:
    """A callback for Transformers' trainers: times every step, ends after ``steps`` of them.

    Import unsloth before, where that is used.
    """
    from transformers import TrainerCallback

    class Timed(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            clock.step()
            if state.global_step >= steps:
                control.should_training_stop = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                clock.loss(state.global_step, float(logs["loss"]))

    return Timed()
