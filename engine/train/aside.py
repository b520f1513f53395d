"""The CUDA stream on which passes and steps are warmed up and recorded, beside the current one."""

import functools

import torch

__all__ = ["stream_aside"]


def stream_aside(device: torch.device | str) -> torch.cuda.Stream:
    """One a device and process: cuBLAS keeps a workspace (28 to 32 MB on an H200) for every stream
    that it has seen."""
    index = torch.device(device).index
    return _stream(torch.cuda.current_device() if index is None else index)


@functools.cache
def _stream(index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(index)
