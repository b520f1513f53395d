"""What LoRA and 4-bit weights add to ``kernels``: the adapters' operations, copies, unpacking."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.train.fused.reference import APART as BETWEEN_SEEDS
from engine.train.fused.reference import Dropout

__all__ = [
    "adapter_gradient",
    "adapter_input",
    "add_adapter_gradient",
    "copy_scaled",
    "unpack_4bit",
]

APART = tl.constexpr(BETWEEN_SEEDS)
SHARES = 8
"""Parts of the tokens that are added up side by side for the gradient of an adapter."""


# ---- adapters -----------------------------------------------------------------------------------


def _block(rank: int) -> int:
    """Columns at a time: up to a rank of 256 what a block shares fits the 64 KiB of a T4."""
    return max(16, min(128, 8192 // rank))


@triton.jit
def _keep(values, places, seed, salt, threshold):
    """``reference.dropped`` without its scale: zero or as it is, by a hash of the place."""
    bits = (places.to(tl.uint32) ^ (tl.load(seed) ^ salt).to(tl.uint32)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    return tl.where(bits >= threshold.to(tl.uint32), values, 0.0)


@triton.jit(do_not_specialize=["salt", "threshold"])
def _adapter_input(
    x, a, into, kept, x_row, a_row, into_row, kept_row, rows, columns,
    seed, salt, threshold, scale,
    DROP: tl.constexpr, R: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    number = tl.program_id(1)
    rank = number * R + tl.arange(0, R)
    total = tl.zeros((ROWS, R), tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        there = (row[:, None] < rows) & (at[None, :] < columns)
        values = tl.load(x + row[:, None] * x_row + at[None, :], there, 0.0)
        if DROP:
            places = row[:, None] * columns + at[None, :]
            values = _keep(values, places, seed, salt + number * APART, threshold)
        first = tl.load(a + rank[None, :] * a_row + at[:, None], at[:, None] < columns, 0.0)
        total = tl.dot(values, first, total)
    total *= scale
    tl.store(into + row[:, None] * into_row + rank[None, :], total, row[:, None] < rows)
    tl.store(kept + row[:, None] * kept_row + rank[None, :], total, row[:, None] < rows)


def adapter_input(
    x: Tensor, a: Tensor, count: int, drop: Dropout, into: Tensor, kept: Tensor
) -> None:
    rows, columns = x.shape
    tall = 16 if count == 1 else 32  # 4,096 tokens: at least 256 programs either way
    rank = a.shape[0] // count
    _adapter_input[(triton.cdiv(rows, tall), count)](
        x, a, into, kept, x.stride(0), a.stride(0), into.stride(0), kept.stride(0), rows, columns,
        *_numbers(drop), R=rank, ROWS=tall, BLOCK=_block(rank),
        num_warps=4, num_stages=4,
    )  # fmt: skip


def _numbers(drop: Dropout) -> tuple[Any, ...]:
    """(seed, salt, threshold, scale, DROP)"""
    p = drop.probability
    return drop.seed, drop.salt, int(p * 2**32), 1 / (1 - p), p > 0


@triton.jit(do_not_specialize=["salt", "threshold"])
def _adapter_gradient(
    grad, x, into, grad_row, x_row, rows, columns, ranks, share, seed, salt, threshold, scale,
    DROP: tl.constexpr, R: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    number, part = tl.program_id(1), tl.program_id(2)
    rank = number * R + tl.arange(0, R)
    total = tl.zeros((R, BLOCK), tl.float32)
    for start in range(part * share, tl.minimum((part + 1) * share, rows), ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        there = (row[:, None] < rows) & (at[None, :] < columns)
        values = tl.load(x + row[:, None] * x_row + at[None, :], there, 0.0)
        if DROP:
            places = row[:, None] * columns + at[None, :]
            values = _keep(values, places, seed, salt + number * APART, threshold)
        g = tl.load(grad + row[None, :] * grad_row + rank[:, None], row[None, :] < rows, 0.0)
        total = tl.dot(g, values, total)
    place = (part * ranks + rank[:, None]).to(tl.int64) * columns + at[None, :]
    tl.store(into + place, total * scale, at[None, :] < columns)


def adapter_gradient(grad: Tensor, x: Tensor, count: int, drop: Dropout) -> Tensor:
    rows, columns = x.shape
    ranks = grad.shape[1]
    parts = torch.empty((SHARES, ranks, columns), dtype=torch.float32, device=x.device)
    share = triton.cdiv(triton.cdiv(rows, SHARES), 64) * 64
    rank = ranks // count
    block = _block(rank)
    _adapter_gradient[(triton.cdiv(columns, block), count, SHARES)](
        grad, x, parts, grad.stride(0), x.stride(0), rows, columns, ranks, share,
        *_numbers(drop), R=rank, ROWS=64, BLOCK=block,
        num_warps=4, num_stages=3,
    )  # fmt: skip
    return parts.sum(0)


@triton.jit(do_not_specialize=["salt", "threshold"])
def _add_adapter_gradient(
    into, grad, a, into_row, grad_row, a_row, rows, columns, seed, salt, threshold, scale,
    DROP: tl.constexpr, COUNT: tl.constexpr, R: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = (row[:, None] < rows) & (at[None, :] < columns)
    here = into + row[:, None] * into_row + at[None, :]
    total = tl.load(here, there, 0.0).to(tl.float32)
    places = row[:, None] * columns + at[None, :]
    for number in tl.static_range(COUNT):
        rank = number * R + tl.arange(0, R)
        g = tl.load(grad + row[:, None] * grad_row + rank[None, :], row[:, None] < rows, 0.0)
        first = tl.load(a + rank[:, None] * a_row + at[None, :], at[None, :] < columns, 0.0)
        back = tl.dot(g, first)
        if DROP:
            back = _keep(back, places, seed, salt + number * APART, threshold) * scale
        total += back
    tl.store(here, total, there)


def add_adapter_gradient(into: Tensor, grad: Tensor, a: Tensor, count: int, drop: Dropout) -> None:
    rows, columns = into.shape
    rank = a.shape[0] // count
    block = _block(rank)
    _add_adapter_gradient[(triton.cdiv(rows, 64), triton.cdiv(columns, block))](
        into, grad, a, into.stride(0), grad.stride(0), a.stride(0), rows, columns,
        *_numbers(drop), COUNT=count, R=rank, ROWS=64, BLOCK=block,
        num_warps=4,
    )  # fmt: skip


@triton.jit
def _copy_scaled(
    sources, targets, rows, columns, target_rows, scales,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0)
    wide = tl.load(columns + number)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.load(rows + number) * wide
    source = tl.load(sources + number).to(tl.pointer_type(tl.float32))
    target = tl.load(targets + number).to(tl.pointer_type(DTYPE))
    values = tl.load(source + at, inside, 0.0) * tl.load(scales + number)
    place = (at // wide) * tl.load(target_rows + number) + at % wide
    tl.store(target + place, values.to(DTYPE), inside)


_DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class _Table:
    """The arguments of ``_copy_scaled`` on the GPU, made again only when a tensor has moved."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.arguments: tuple[Tensor, ...] = ()
        self.largest = 0

    def of(self, sources: list[Tensor], targets: list[Tensor], scales: list[float]) -> None:
        places = [each.data_ptr() for each in (*sources, *targets)]
        if places == self.places:
            return
        self.places = places
        self.largest = max(source.numel() for source in sources)
        kinds: list[tuple[list[Any], torch.dtype]] = [
            (places[: len(sources)], torch.int64),
            (places[len(sources) :], torch.int64),
            ([source.shape[0] for source in sources], torch.int32),
            ([source.shape[1] for source in sources], torch.int32),
            ([target.stride(0) for target in targets], torch.int32),
            (list(scales), torch.float32),
        ]
        device = sources[0].device
        self.arguments = tuple(torch.tensor(v, dtype=t, device=device) for v, t in kinds)


_TABLE = _Table()


def copy_scaled(sources: list[Tensor], targets: list[Tensor], scales: list[float]) -> None:
    """One launch for the adapters of all layers: one each took 2.5 ms a step for 392 of them."""
    if any(each.dtype != torch.float32 or not each.is_contiguous() for each in sources):
        sources = [each.float().contiguous() for each in sources]
    _TABLE.of(sources, targets, scales)
    _copy_scaled[(len(sources), triton.cdiv(_TABLE.largest, 1024))](
        *_TABLE.arguments, DTYPE=_DTYPES[targets[0].dtype], BLOCK=1024
    )


# ---- 4 bits -------------------------------------------------------------------------------------


@triton.jit
def _unpack_4bit(
    packed, into, pairs, absmax, code2, absmax2, offset, into_row, columns, total,
    NESTED: tl.constexpr, GROUP: tl.constexpr, GROUP2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = byte < total
    pair = tl.load(pairs + tl.load(packed + byte, inside, 0).to(tl.int32))
    group = (byte * 2) // GROUP
    if NESTED:
        index = tl.load(absmax + group, inside, 0).to(tl.int32)
        scale = tl.load(code2 + index) * tl.load(absmax2 + group // GROUP2, inside, 0.0)
        scale += tl.load(offset)
    else:
        scale = tl.load(absmax + group, inside, 0.0)
    first = pair.to(tl.int32).to(tl.float32, bitcast=True) * scale
    second = (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True) * scale
    row, column = (byte * 2) // columns, (byte * 2) % columns
    place = (row * into_row + column)[:, None] + tl.arange(0, 2)[None, :]
    tl.store(into + place, tl.join(first, second), inside[:, None])


def _pairs(code: Tensor) -> Tensor:
    """Both values of every byte as one int64 (256,): one look-up instead of two."""
    byte = torch.arange(256, device=code.device)
    both = torch.stack([code.float()[byte >> 4], code.float()[byte & 15]], 1)
    return both.contiguous().view(torch.int64)[:, 0].contiguous()


_PAIRS: dict[tuple[torch.device, int], Tensor] = {}


def unpack_4bit(weight: Tensor, state: Any, into: Tensor) -> None:
    key = (weight.device, state.code.data_ptr())
    if key not in _PAIRS:
        _PAIRS[key] = _pairs(state.code)
    nested = state.state2
    columns = into.shape[1]
    total = into.shape[0] * columns // 2
    absmax2, code2, offset, group2 = state.absmax, state.code, state.absmax, 1
    if nested is not None:
        absmax2, code2, group2 = nested.absmax, nested.code, nested.blocksize
        offset = state.offset
    _unpack_4bit[(triton.cdiv(total, 1024),)](
        weight, into, _PAIRS[key], state.absmax, code2, absmax2, offset, into.stride(0), columns,
        total, NESTED=nested is not None, GROUP=state.blocksize, GROUP2=group2, BLOCK=1024,
    )  # fmt: skip
