"""All decoder layers, one after the other; recorded once per shape and replayed where that pays.

A step of 28 layers launches some 2,000 kernels. That took 100 ms of the processor's time on the
machine measured, for 100 ms of work on its H200: the GPU waits for the processor as soon as that is
a little slower. A CUDA graph is launched as one.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engine.train.aside import stream_aside
from engine.train.fused.layer import Flow, Layer, run_layer

__all__ = ["Stack"]

MOST_GRAPHS = 32
"""Shapes that are recorded, 0.3 s each; others are launched kernel by kernel."""
ROWS_MULTIPLE = 8


class Stack:
    """(M, H) -> (M, H). ``graphs``: record training passes on a GPU."""

    def __init__(self, layers: list[Layer], *, graphs: bool, longest: int) -> None:
        self.layers = layers
        self.longest = max(longest, 128)
        self.parameters = [each for layer in layers for each in layer.parameters]
        self.graphs: dict[tuple[int, int], _Recorded] = {}
        self.recording = graphs
        self.checkpointing = False
        self.why_not = ""
        """Why nothing is recorded any more, where that failed."""
        self.pool: Any = None
        self.buffers: dict[str, Tensor] = {}
        self.grads: list[Tensor] = []

    def run(self, x: Tensor, flow: Flow, trained: Sequence[Tensor] | None = None) -> Tensor:
        """Kernel by kernel. ``trained``: leaves that stand in for the parameters."""
        leaves = iter(self.parameters if trained is None else trained)
        for layer in self.layers:
            x = self._layer(x, layer, flow, list(islice(leaves, len(layer.parameters))))
        return x

    def _layer(self, x: Tensor, layer: Layer, flow: Flow, own: list[Tensor]) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return run_layer(x, layer, flow, own)
        # Dropout needs no generator's state: it is drawn from flow.seed.
        y: Tensor = checkpoint(
            run_layer, x, layer, flow, own, use_reentrant=False, preserve_rng_state=False
        )
        return y

    def warm_up(self, x: Tensor, flow: Flow, trained: Sequence[Tensor]) -> None:
        """Each layer forwards and backwards by itself: what is compiled or allocated once, is,
        and no more is held than one layer keeps."""
        leaves = iter(trained)
        for layer in self.layers:
            own = list(islice(leaves, len(layer.parameters)))
            y = self._layer(x, layer, flow, own)
            if y.requires_grad:
                torch.autograd.grad(y, [x, *own] if x.requires_grad else own, torch.zeros_like(y))
            x = y.detach().requires_grad_(y.requires_grad)

    def rows_of(self, name: str, like: Tensor) -> Tensor:
        """(M, H): memory that all recordings share, as only one of them runs at a time."""
        held = self.buffers.get(name)
        if held is None or len(held) < len(like):
            # An outgrown one lives on in the recordings that use it: grow by leaps.
            rows = max(len(like), 0 if held is None else len(held) * 5 // 4)
            held = self.buffers[name] = like.new_zeros((rows, *like.shape[1:]))
        return held[: len(like)]

    def __call__(self, x: Tensor, flow: Flow) -> Tensor:
        if not (self.recording and torch.is_grad_enabled() and x.is_cuda):
            return self.run(x, flow)
        flow = self._evened(flow)
        key = (x.shape[0], len(flow.ends))
        if key not in self.graphs:
            if len(self.graphs) >= MOST_GRAPHS:
                return self.run(x, flow)
            try:
                self.graphs[key] = _Recorded(self, x, flow)
            except RuntimeError as error:  # what torch raises when a recording is not possible
                self.recording = False
                first: BaseException = error
                while first.__context__:  # torch tells of the recording's end, not of its cause
                    first = first.__context__
                words = str(first).strip().splitlines()
                self.why_not = f"passes cannot be recorded ({words[0] if words else first!r})"
                torch.cuda.synchronize()
                return self.run(x, flow)
        result: Tensor = _Replay.apply(self.graphs[key], x, flow, *self.parameters)
        return result

    def _evened(self, flow: Flow) -> Flow:
        """Few shapes: as if every row could be the longest, and empty rows at the end."""
        missing = -len(flow.ends) % ROWS_MULTIPLE
        ends = torch.nn.functional.pad(flow.ends, (0, missing), value=flow.cos.shape[0])
        return Flow(flow.cos, flow.sin, ends, self.longest, flow.attention, flow.dropout, flow.seed)


class _Recorded:
    """Forward and backward pass of one shape. What is kept in between stays in the graphs' pool."""

    def __init__(self, stack: Stack, x: Tensor, flow: Flow) -> None:
        self.x = stack.rows_of("x", x)
        self.x.copy_(x.detach())
        self.flow = Flow(
            flow.cos.clone(), flow.sin.clone(), flow.ends.clone(), flow.longest, flow.attention,
            flow.dropout, flow.seed.clone(),
        )  # fmt: skip
        self.out, self.grad = stack.rows_of("out", x), stack.rows_of("grad", x)
        # Not the parameters: who holds on to the node that adds up a parameter's gradient, as DDP
        # does, ties the recording to the stream it was made on, which may not be recorded.
        leaves = [each.detach().requires_grad_() for each in stack.parameters]
        if not stack.grads:
            stack.grads = [torch.empty_like(each) for each in leaves]
        self.grads = stack.grads
        here = torch.cuda.current_stream()
        aside = stream_aside(x.device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            stack.warm_up(self.x, self.flow, leaves)
        here.wait_stream(aside)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        if stack.pool is None:
            stack.pool = torch.cuda.graph_pool_handle()
        # Other threads of this process may go on using the GPU.
        how = {"pool": stack.pool, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(self.forward, **how):
            out = stack.run(self.x, self.flow, leaves)
            self.out.copy_(out.detach())
        with torch.cuda.graph(self.backward, **how):
            grads = torch.autograd.grad(out, leaves, self.grad)
            # Out of the pool, which the next shape's recording then has to itself again.
            torch._foreach_copy_(self.grads, list(grads))

    def fill(self, x: Tensor, flow: Flow) -> None:
        self.x.copy_(x)
        self.flow.cos.copy_(flow.cos)
        self.flow.sin.copy_(flow.sin)
        self.flow.ends.copy_(flow.ends)
        self.flow.seed.copy_(flow.seed)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, x: Tensor, flow: Flow, *_: Tensor) -> Tensor:
        recorded.fill(x, flow)
        recorded.forward.replay()
        ctx.recorded = recorded
        return recorded.out.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        recorded = ctx.recorded
        recorded.grad.copy_(grad)
        recorded.backward.replay()
        # Copies: with accumulation the next replay would write over what .grad holds.
        return (None, None, None, *torch._foreach_add(list(recorded.grads), 0.0))
