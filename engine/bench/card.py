"""What the card can do at most: the rate of one big matrix product, measured.

``python -m engine.bench.card --tell FD PARENT DEVICE`` (auto, cuda or cpu) tells ``device``,
``dtype``, ``size`` (of the square matrices), ``flops_per_second`` and torch's ``name`` of the card.
"""

import statistics
import sys
import time
from typing import Any

from engine.bench.telling import Teller, serve
from engine.recipe import load_recipe

__all__ = ["measure"]

GPU_SIZE, CPU_SIZE = 8192, 1024
WARM_SECONDS, SECONDS = 0.5, 1.5
MOST = 400


def measure(device: str, dtype: str) -> dict[str, Any]:
    """FLOP/s of a square matrix product in ``dtype``: the median over about 1.5 s."""
    import torch

    size = CPU_SIZE if device == "cpu" else GPU_SIZE
    kind = getattr(torch, dtype)
    one = torch.randn(size, size, device=device, dtype=torch.float32).to(kind)
    other = torch.randn(size, size, device=device, dtype=torch.float32).to(kind)
    result = torch.empty(size, size, device=device, dtype=kind)

    def seconds() -> float:
        if device == "cpu":
            began = time.perf_counter()
            torch.mm(one, other, out=result)
            return time.perf_counter() - began
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        torch.mm(one, other, out=result)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    began = time.perf_counter()
    while time.perf_counter() - began < WARM_SECONDS:
        seconds()
    taken: list[float] = []
    while len(taken) < MOST and time.perf_counter() - began < WARM_SECONDS + SECONDS:
        taken.append(seconds())
    return {"size": size, "flops_per_second": 2.0 * size**3 / statistics.median(taken)}


def _work(arguments: list[str], teller: Teller) -> None:
    (wanted,) = arguments
    teller.tell(phase="importing torch")
    import torch

    from engine.train.backend import choose_device
    from engine.train.transformers_backend import compute_dtype

    recipe = load_recipe("demo", [f"model.device={wanted}"])
    device = choose_device(recipe)
    dtype = compute_dtype(recipe, device)
    teller.tell(phase="measuring the matrix rate")
    name = None if device == "cpu" else torch.cuda.get_device_name(device)
    facts = measure(device, dtype) | {"device": device.partition(":")[0], "dtype": dtype}
    teller.tell(card={**facts, "name": name, "torch": torch.__version__})


if __name__ == "__main__":
    sys.exit(serve(_work))
