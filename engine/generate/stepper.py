"""One token for every slot at a time, with everything prepared so that the GPU never waits.

``generate`` launches a few thousand kernels for each token and is bound by that. Here the step has
fixed shapes and addresses, so that it is captured once as a CUDA graph and then replayed.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from engine.generate.mixing import Mixture
from engine.generate.sampling import Pickers, odds_of
from engine.generate.slots import SlotCache
from engine.recipe import GenerateSection
from engine.train.aside import stream_aside

if TYPE_CHECKING:
    from engine.generate.models import Base

__all__ = ["Made", "Stepper"]

Made = tuple[list[int], list[float] | None]
"""A token for every slot, and how likely the model found each, where that is kept."""

WARM_UPS = 2
"""Steps before the capture: libraries allocate what they need at first use."""


class Stepper:
    """``rows`` slots of ``capacity`` tokens for one base and one mixture of adapters.

    ``settings`` say how tokens are picked, for all slots or for each of them.
    The base's attention must be :data:`engine.generate.slots.ATTENTION` and gradients off
    (``base.without_gradients()``) whenever it is used.
    """

    def __init__(
        self,
        base: "Base",
        rows: int,
        capacity: int,
        settings: GenerateSection | Sequence[GenerateSection],
        mixture: Mixture,
        probabilities: bool = False,
    ) -> None:
        self.model, self.device, self.mixture = base.bare, base.device, mixture
        self.rows, self.capacity = rows, capacity
        each = [settings] * rows if isinstance(settings, GenerateSection) else settings
        config = self.model.config.get_text_config()
        self.tokens = torch.zeros(rows, dtype=torch.long, device=self.device)
        """What each slot reads next."""
        self.positions = torch.zeros(rows, dtype=torch.long, device=self.device)
        """Where it reads it."""
        self.cache = SlotCache(config.num_hidden_layers, rows, capacity, self.positions)
        self.picker = Pickers(each, config.vocab_size, self.device)
        self.how = [(*how, probabilities) for how in self.picker.how]
        """What cannot be changed: for other settings there are other slots."""
        self.odds: torch.Tensor | None = None
        """How likely each of the tokens was (shape: rows)."""
        if probabilities:
            self.odds = torch.zeros(rows, device=self.device)
        self._places = torch.arange(capacity, device=self.device)
        self._dtype = self.model.get_input_embeddings().weight.dtype
        self._graph: torch.cuda.CUDAGraph | None = None

    def fill(
        self,
        slots: Sequence[int],
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[str],
        seeds: Sequence[int],
    ) -> None:
        """Give ``slots`` to new answers: reads each prompt but its last token.

        The last one is read by the first :meth:`step`, which so gives the answer's first token.
        Prompts are padded to the longest.
        """
        self._read(slots, prompts, adapters)
        where = self._put(slots)
        self.tokens[where] = self._put([prompt[-1] for prompt in prompts])
        self.positions[where] = self._put([len(prompt) - 1 for prompt in prompts])
        self.picker.begin(slots, prompts, seeds)
        self.mixture.assign(where, adapters)

    def _put(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long).to(self.device)

    def _read(
        self, slots: Sequence[int], prompts: Sequence[Sequence[int]], adapters: Sequence[str]
    ) -> None:
        longest = max(len(prompt) for prompt in prompts) - 1
        if not longest:
            return
        ids = torch.zeros((len(prompts), longest), dtype=torch.long)
        for number, prompt in enumerate(prompts):  # padding on the right is never looked at
            ids[number, : len(prompt) - 1] = torch.tensor(prompt[:-1], dtype=torch.long)
        reading = self.cache.reading(self._put(slots)), self.mixture.reading(adapters)
        with reading[0], reading[1], self.mixture.active():
            self.model(
                input_ids=ids.to(self.device),
                position_ids=self._places[None, :longest].expand(len(prompts), -1),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )

    def logits(self) -> torch.Tensor:
        """What follows in every slot (rows x vocabulary); the next :meth:`step` chooses of it."""
        seen = self._places[None, :] <= self.positions[:, None]
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self.device)
        with self.mixture.active():
            out = self.model(
                input_ids=self.tokens[:, None],
                position_ids=self.positions[:, None],
                attention_mask=mask.masked_fill(~seen, -torch.inf)[:, None, None, :],
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _step(self) -> None:
        logits = self.logits()
        chosen = self.picker.pick(logits)
        self.tokens.copy_(chosen)
        if self.odds is not None:
            self.odds.copy_(odds_of(logits, chosen))
        # An answer that has ended goes on until its slot is refilled, at the last place for good.
        self.positions.add_(1).clamp_(max=self.capacity - 1)

    def capture(self) -> None:
        """Record the step for replaying; on a CPU nothing. To be called before any :meth:`fill`.

        A model that cannot be recorded (it waits for the GPU somewhere) answers all the same, its
        kernels launched one by one.
        """
        if not self.device.startswith("cuda"):
            return
        with self.mixture.active():
            self._record()

    def _record(self) -> None:
        self._step()  # the cache is made where it will be used, not on a stream of its own
        aside = stream_aside(self.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads of this process may go on using the GPU.
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                self._step()
            self._graph = graph
        except RuntimeError as error:
            print(f"steps are not replayed: {error}", file=sys.stderr, flush=True)

    @property
    def replays(self) -> bool:
        """Whether steps are replayed, not launched kernel by kernel."""
        return self._graph is not None

    def step(self) -> Callable[[], Made]:
        """Begin one token for every slot; what is returned waits for them and tells them."""
        if self._graph is not None:
            self._graph.replay()
        else:
            self._step()
        if not self.device.startswith("cuda"):
            return lambda: (self.tokens.tolist(), _numbers(self.odds))
        landing = _landing(self.tokens)
        odds = None if self.odds is None else _landing(self.odds)
        landed = torch.cuda.Event()
        landed.record()

        def read() -> Made:
            landed.synchronize()
            return landing.tolist(), _numbers(odds)

        return read


def _landing(source: torch.Tensor) -> torch.Tensor:
    """Where a tensor of the GPU will be, once what was asked of it so far is done."""
    landing = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
    landing.copy_(source, non_blocking=True)
    return landing


def _numbers(odds: torch.Tensor | None) -> list[float] | None:
    return None if odds is None else odds.tolist()
