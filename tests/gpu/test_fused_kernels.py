"""The Triton kernels against the same operations in torch (``engine.train.fused.reference``).

On a CUDA GPU. Without one: ``TRITON_INTERPRET=1 python -m pytest -m gpu`` runs them in
Triton's interpreter, where triton is installed.
"""

import os
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

pytestmark = pytest.mark.gpu

if torch.cuda.is_available():
    DEVICE = "cuda"
elif os.environ.get("TRITON_INTERPRET") == "1":
    DEVICE = "cpu"
else:
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from engine.train.fused import kernels, reference  # noqa: E402

DTYPES = [torch.float32] if DEVICE == "cpu" else [torch.bfloat16, torch.float16]
M, K, WIDE = 70, 96, 16
"""Tokens, features, and what lies behind them in a row: no kernel may touch it."""


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param


def random(*shape: int, dtype: Any) -> Any:
    return torch.randn(*shape, device=DEVICE).to(dtype)


def view(rows: int, columns: int, dtype: Any) -> Any:
    """A matrix whose rows are longer than what it shows."""
    return random(rows, columns + WIDE, dtype=dtype)


def close(one: Any, other: Any) -> None:
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[one.dtype]
    largest = other.float().abs().max().item()
    torch.testing.assert_close(one.float(), other.float(), rtol=tolerance, atol=tolerance * largest)


def drop(probability: float) -> reference.Dropout:
    return reference.Dropout(
        probability, torch.tensor([123457], dtype=torch.int32, device=DEVICE), 77777
    )


def both(name: str, changed: list[Any], call: Any) -> None:
    """Run an operation by both, on copies of what it changes; compare that and its result."""
    copies = [[whole.clone() for whole in changed] for _ in range(2)]
    results = [
        call(getattr(module, name), *copy)
        for module, copy in zip((kernels, reference), copies, strict=True)
    ]
    for mine, theirs in zip(*copies, strict=True):
        close(mine, theirs)
    if results[1] is not None:
        pairs = zip(*results, strict=True) if isinstance(results[1], tuple) else [results]
        for mine, theirs in pairs:
            close(mine, theirs)


def test_norm(dtype: Any) -> None:
    x, weight = random(M, K, dtype=dtype), 0.5 + torch.rand(K, device=DEVICE).to(dtype)
    both("rms_norm", [view(M, K, dtype)], lambda f, o: f(x, weight, 1e-5, o[:, :K]))
    grad, beside = view(M, K, dtype)[:, :K], random(M, K, dtype=dtype)
    for aside in (None, beside):
        both("rms_norm_backward", [], lambda f, a=aside: f(grad, x, weight, 1e-5, a))


@pytest.mark.parametrize("back", [False, True])
def test_rotation(dtype: Any, back: bool) -> None:
    heads, size = 3, 16
    angle = torch.rand(M, size // 2, device=DEVICE)
    cos, sin = (torch.cat([each] * 2, -1).to(dtype) for each in (angle.cos(), angle.sin()))
    both(
        "rotate",
        [view(M, heads * size, dtype)],
        lambda f, x: f(x, cos, sin, heads, x, back=back),
    )


def test_activation(dtype: Any) -> None:
    gate_up = random(M, 2 * K, dtype=dtype)
    both("swiglu", [view(M, K, dtype)], lambda f, o: f(gate_up, o[:, :K]))
    both(
        "swiglu_backward",
        [gate_up, view(M, K, dtype)],
        lambda f, g, grad: f(g, grad[:, :K]),
    )


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.6])
@pytest.mark.parametrize(("count", "rank"), [(1, 16), (3, 16), (2, 32)])
def test_adapters(dtype: Any, count: int, rank: int, probability: float) -> None:
    x, a = view(M, K, dtype)[:, :K], random(count * rank, K, dtype=dtype)
    ranks, dropped = count * rank, drop(probability)
    both(
        "adapter_input",
        [view(M, ranks, dtype), random(M, ranks, dtype=dtype)],
        lambda f, into, kept: f(x, a, count, dropped, into[:, :ranks], kept),
    )
    grad = view(M, ranks, dtype)[:, :ranks]
    both("adapter_gradient", [], lambda f: f(grad, x, count, dropped))
    both(
        "add_adapter_gradient",
        [view(M, K, dtype)],
        lambda f, into: f(into[:, :K], grad, a, count, dropped),
    )


def test_copies_of_adapters(dtype: Any) -> None:
    sources = [torch.randn(8, 40, device=DEVICE), torch.randn(33, 8, device=DEVICE)]
    both(
        "copy_scaled",
        [random(8, 40, dtype=dtype), random(33, 64, dtype=dtype)],
        lambda f, a, b: f(sources, [a, b[:, 16:24]], [1.0, 2.5]),
    )


@pytest.mark.parametrize("nested", [False, True])
def test_unpacking(dtype: Any, nested: bool) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = random(64, 128, dtype=dtype)
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=nested)
    mine = view(64, 128, dtype)
    theirs = mine.clone()
    kernels.unpack_4bit(packed, state, mine[:, :128])
    reference.unpack_4bit(packed, state, theirs[:, :128])
    assert torch.equal(mine, theirs)  # the very numbers that bitsandbytes gives


def test_loss(dtype: Any) -> None:
    logits = 3 * random(9, 5000, dtype=dtype)
    targets = torch.randint(0, 5000, (9,), device=DEVICE)
    targets[3] = -100
    targets[4] = logits[4].argmax()
    both("accuracy_and_gradient", [logits], lambda f, x: f(x, targets))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA GPU")
@pytest.mark.parametrize("way", ["flash", "efficient"])
def test_attention(dtype: Any, way: Any) -> None:
    from engine.train.fused.attention import attend

    ends = torch.tensor([0, 40, 41, 128, 128], dtype=torch.int32, device=DEVICE)
    found = []
    for each in (way, "each"):
        torch.manual_seed(1)
        q, k, v = (random(128, heads, 64, dtype=dtype).requires_grad_() for heads in (4, 2, 2))
        result = attend(q, k, v, ends, 128, each)
        result.float().square().sum().backward()
        found.append([result.detach(), q.grad, k.grad, v.grad])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)
