"""What matrices are multiplied in when the recipe leaves it open."""

import pytest

torch = pytest.importorskip("torch")

from engine.recipe import load_recipe  # noqa: E402
from engine.train.transformers_backend import compute_dtype  # noqa: E402


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_a_card_that_only_emulates_bfloat16(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    """torch says of a T4 too that bfloat16 is supported, and computes it many times slower."""

    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert compute_dtype(load_recipe("demo"), "cuda:0") == expected
    assert compute_dtype(load_recipe("demo"), "cpu") == "float32"
