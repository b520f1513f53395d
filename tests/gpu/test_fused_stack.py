"""Passes recorded as CUDA graphs give what the same kernels give one by one."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

pytestmark = pytest.mark.gpu

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from engine.recipe import load_recipe  # noqa: E402
from engine.train.fused.attach import fuse  # noqa: E402
from tests.engine.test_train_fused import build, flat, gradients, rows  # noqa: E402


def fused(*, graphs: bool) -> tuple[Any, Any]:
    recipe = load_recipe("demo", ["lora.r=8", "lora.lora_dropout=0"])
    model = build("llama", recipe).cuda().bfloat16()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    stack = fuse(model, recipe, "bfloat16", "cuda", unpacked=False, graphs=graphs).stack
    return model, stack


def on_gpu(seed: int) -> dict[str, Any]:
    batch = flat(rows(seed))
    return {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


@pytest.mark.parametrize("held", [False, True])
def test_recorded_passes_are_equal(held: bool) -> None:
    """Also where somebody holds the nodes that add gradients up, as DDP does."""
    plain, _ = fused(graphs=False)
    model, stack = fused(graphs=True)
    nodes = []
    if held:
        for parameter in model.parameters():
            if parameter.requires_grad:
                nodes.append(parameter.expand_as(parameter).grad_fn.next_functions[0][0])
    for seed in (1, 2, 1):
        loss, found = gradients(model, on_gpu(seed))
        expected_loss, expected = gradients(plain, on_gpu(seed))
        assert stack.why_not == ""
        assert loss == expected_loss
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-2, atol=1e-3)
    assert len(stack.graphs) == 1
