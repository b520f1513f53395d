"""float16, which cards without bfloat16 (T4, compute capability 7.5) train in; about a minute."""

import pytest

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.gpu

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from engine.home import open_home  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402
from tests.bench.gradients import compare  # noqa: E402
from tests.engine.test_train_fused import build, rows  # noqa: E402
from tests.gpu import half  # noqa: E402


def test_reference_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The reference recipe in float16 and 4 bits on the 1B shape: it learns, by a scaled loss."""
    home = open_home(tmp_path_factory.mktemp("half") / "home")
    result = half.train(home, "1b", 40, [])
    print(half.table(result))
    assert half.wrong(result) == []


@pytest.mark.parametrize("attention", ["flash", "efficient"])
def test_gradients(attention: str) -> None:
    """Also by the attention that cards before compute capability 8.0 have."""
    recipe = load_recipe("demo", ["lora.r=8", "lora.lora_dropout=0"])
    model = build("llama", recipe).cuda().half()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    found = compare(model, recipe, rows(), "float16", "cuda", False, attention)
    assert found["cosine"]["float32 fused"] > 0.9995
    assert abs(found["loss"]["fused"] - found["loss"]["float32"]) < 2e-3
    assert found["cosine"]["fused replayed"] > 0.9999
