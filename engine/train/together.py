"""What several processes add to TRL's trainer: one course, one journal, one checkpoint.

With one process every method here does what is done without it.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, send_to_device
from safetensors.torch import load_file
from trl import SFTTrainer

from engine.errors import UserError
from engine.jobs.context import RunContext
from engine.jobs.ranks import RankFiles
from engine.train.memory import MemoryReader
from engine.train.ranks import Ranks
from engine.train.saving import load_weights
from engine.train.sharded import load_whole, whole_optimizer, whole_weights
from engine.train.shares import Shared, forget_repeats

__all__ = ["EVALUATE", "MEMORY", "SAMPLE", "SAVE", "STOP", "Step", "Together", "wishes"]

SAVE, EVALUATE, SAMPLE, STOP, MEMORY = (1 << bit for bit in range(5))
"""What the first process wants done after a step, told to all as one number."""

WHOLE_STATE, SHARDED_STATE, SCHEDULE = "optimizer.pt", "optimizer.bin", "scheduler.pt"
"""Transformers' names in a checkpoint. The first lists weights by number, the second by name."""


def wishes(**wanted: bool) -> int:
    """``save``, ``evaluate``, ``sample``, ``stop``, ``memory`` as one number."""
    bits = {"save": SAVE, "evaluate": EVALUATE, "sample": SAMPLE, "stop": STOP, "memory": MEMORY}
    return sum(bits[name] for name, is_wanted in wanted.items() if is_wanted)


@dataclass(frozen=True)
class Step:
    """One optimiser step of all processes."""

    loss: Any
    """Over all trained tokens of the step, in nats; may be on the GPU still."""
    tokens: Any
    memory: int
    """Bytes that the process with most of it holds."""
    peak: int


class Together(SFTTrainer):
    """The parts that need all processes at the same time.

    A subclass sets ``context``, ``memory``, ``ranks``, ``sharded``, ``_step_loss`` and
    ``_step_tokens``, and writes a checkpoint with :meth:`write_checkpoint`.
    """

    context: RunContext
    memory: MemoryReader
    ranks: Ranks
    sharded: bool
    step: Step
    collected: "tuple[dict[str, Any], dict[str, Any]] | None" = None
    """While a checkpoint of sharded weights is written: them, and the optimiser's state, whole."""
    measure_first: Callable[[], None] | None = None
    """Called before the first step of all: sharded weights can be used from then on only."""
    _step_loss: Any
    _step_tokens: Any

    def create_accelerator_and_postprocess(self) -> None:
        state = PartialState()
        if self.sharded and state.distributed_type == DistributedType.MULTI_CPU:
            # Accelerate passes over sharding on CPUs without a word; torch can do it, by gloo.
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()
        if self.sharded and not self.is_fsdp_enabled:
            raise RuntimeError("the weights are not sharded: accelerate left its FSDP plugin out")

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        name = self.model._get_name()
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.sharded:
            # Sharding gives the class another name, by which Transformers would not know a causal
            # model and smooth its labels without shifting them.
            self.model._get_name = lambda: name
        return prepared

    # ---- one step ---------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        count, ends = self.ranks.count, self.accelerator.gradient_state.end_of_dataloader
        if count > 1 and batch_samples and ends:
            rows = len(self.train_dataset) % (self._train_batch_size * count)
            if rows:
                forget_repeats(batch_samples[-1], rows, self.ranks.index, count)
        return super()._get_num_items_in_batch(batch_samples, device)

    def exchange(self, wanted: int) -> int:
        """Sets ``step`` from what every process saw of it; returns what the first one wants.

        What must be known at once is said from host to host: 0.1 ms between two processes. The loss
        stays on the GPU until somebody reads it.
        """
        used, peak = self.memory.own()
        if self.ranks.count == 1:
            self.step = Step(self._step_loss, self._step_tokens, used, peak)
            return wanted
        rows = self.ranks.tell([used, peak, wanted])
        loss, tokens = self.ranks.total([self._step_loss, self._step_tokens])
        used_bytes, peaks, _ = zip(*rows, strict=True)
        # A process's loss is its share of the sum over all tokens, times the number of processes.
        self.step = Step(loss / self.ranks.count, tokens, int(max(used_bytes)), int(max(peaks)))
        return int(rows[0][-1])

    def stop_agreed(self) -> bool:
        """Whether the first process was told to stop."""
        return bool(self.ranks.agree(self.context.stop_requested()))

    def tell_memory(self) -> None:
        """A ``memory`` event for every device."""
        own = self.memory.whole()
        names = ("used_bytes", "total_bytes", "peak_bytes", "utilisation")
        rows = self.ranks.gather([-1 if own[name] is None else own[name] for name in names])
        if own["device"] == "host":  # all processes share it
            rows = [[*rows[0][:2], max(row[2] for row in rows), rows[0][3]]]
        for rank, row in enumerate(rows):
            fields = {n: None if v < 0 else int(v) for n, v in zip(names, row, strict=True)}
            device = own["device"] if self.ranks.count == 1 else own["device"].split(":")[0]
            if self.ranks.count > 1 and device != "host":
                device = f"{device}:{rank}"
            self.context.journal.append("memory", device=device, **fields)

    # ---- evaluation -------------------------------------------------------------------------

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        if self.ranks.count == 1:
            return super().get_eval_dataloader(eval_dataset)
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return Shared(
            self._remove_unused_columns(dataset, description="Evaluation"),
            self.args.eval_batch_size,
            self.data_collator,
            self.ranks,
            lambda batch: send_to_device(batch, self.accelerator.device),
        )

    # ---- checkpoints ------------------------------------------------------------------------

    def write_checkpoint(self) -> None:
        """The first process writes the checkpoint of this step."""
        raise NotImplementedError

    def _settle_weights(self) -> None:
        """Before weights are judged or saved."""

    def _checkpoint(self, step: int) -> Path:
        raise NotImplementedError

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        self._settle_weights()
        if self.sharded:
            self.collected = self.collect()
        files = RankFiles(self.context.folder)
        if self.ranks.count > 1:
            self._save_rng_state(str(files.path))
            self.ranks.wait()
        if self.ranks.first:
            self.write_checkpoint()
        self.collected = None
        self.ranks.wait()
        best = self.state.best_global_step
        if not self.ranks.first and best and self._checkpoint(best).is_dir():
            self.state.best_model_checkpoint = str(self._checkpoint(best))

    def collect(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Whole weights and optimiser state of a sharded model, in the first process's memory."""
        return whole_weights(self.model), whole_optimizer(self.model, self.optimizer)

    def save_optimizer(self, folder: Path) -> None:
        """Optimiser, schedule and every process's random state; the first process calls it."""
        if self.collected:
            torch.save(self.collected[1], folder / SHARDED_STATE)
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULE)
        else:
            self._save_optimizer_and_scheduler(str(folder))
        if self.ranks.count == 1:
            self._save_rng_state(str(folder))
        else:
            for rank in range(self.ranks.count):
                name = f"rng_state_{rank}.pth"
                shutil.copyfile(RankFiles(self.context.folder).path / name, folder / name)

    def put_weights(self, folder: Path) -> None:
        """Load the weights of a checkpoint into the model."""
        if not self.sharded:
            load_weights(self.model, folder)
            return
        weights: dict[str, Any] = {}
        for file in sorted(folder.glob("*.safetensors")):
            weights |= load_file(str(file))
        load_whole(self.model, weights)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.sharded:
            self.put_weights(Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            folder = Path(checkpoint)
            if not (folder / (SHARDED_STATE if self.sharded else WHOLE_STATE)).is_file():
                raise UserError(
                    f"{checkpoint}: the optimiser's state was written by a run whose weights were "
                    f"{'not ' if self.sharded else ''}sharded; go on with the train.fsdp and "
                    "train.num_processes that it had, or start a new run"
                )
            if self.ranks.count > 1 and not self.sharded:
                # Transformers would load it to "cpu:0", which torch does not know.
                state = torch.load(folder / WHOLE_STATE, map_location="cpu", weights_only=True)
                self.optimizer.load_state_dict(state)
                schedule = torch.load(folder / SCHEDULE, weights_only=True)
                self.lr_scheduler.load_state_dict(schedule)
                return
        super()._load_optimizer_and_scheduler(checkpoint)

    def differ(self) -> None:
        """Give every process random numbers of its own: dropout is not the same on all rows."""
        if self.ranks.count > 1 and not self.state.global_step:
            torch.manual_seed(self.args.seed + self.ranks.index)
