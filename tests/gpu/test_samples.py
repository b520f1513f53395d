"""A training model's samples on a GPU: from a recorded step, and nothing of it stays."""

import gc
from typing import Any

import pytest

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.gpu

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from engine.data.tokens import Formatter  # noqa: E402
from engine.generate.models import Base  # noqa: E402
from engine.generate.stepper import Stepper  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402
from engine.train.samples import Prompt, Sampling, generate  # noqa: E402
from engine.train.transformers_backend import TransformersBackend  # noqa: E402
from tests.bench.same_answers import prompts  # noqa: E402
from tests.engine.test_train_samples import condition  # noqa: E402

HELD = {
    "float32": (["model.dtype=float32"], True),
    "float32 4-bit": (["model.dtype=float32", "model.load_in_4bit=true"], False),
    "bfloat16": (["model.dtype=bfloat16"], False),
    "bfloat16 4-bit": (["model.dtype=bfloat16", "model.load_in_4bit=true"], False),
    "full, autocast": (["model.dtype=bfloat16", "lora.enabled=false"], False),
}
"""Settings, and whether the text must be that of ``generate``."""


@pytest.mark.parametrize("held", HELD)
def test_samples_are_replayed_and_leave_nothing(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, exact = HELD[held]
    where = ["model.model_name_or_path=builtin:base", "model.device=cuda"]
    recipe = load_recipe("demo", [*where, "model.backend=transformers", *settings])
    loaded = TransformersBackend().load(recipe)
    model, formatter = loaded.model, Formatter.of(recipe)
    trained = [each for each in model.parameters() if each.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    sampling = Sampling(
        [Prompt("", formatter.prompt_ids(text), None) for text in prompts(4, seed=5)],
        sorted(formatter.stop_ids),
        formatter.pad_id,
    )
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    base = Base(bare, loaded.tokenizer, loaded.device, borrowed=True)
    dtype = getattr(torch, loaded.dtype)
    replays, capture = [], Stepper.capture

    def watched(stepper: Stepper) -> None:
        capture(stepper)
        replays.append(stepper.replays)

    def say(base: Base | None) -> list[str]:
        return generate(
            *(model, sampling, loaded.tokenizer),
            max_new_tokens=30,
            autocast=lambda: torch.autocast("cuda", dtype, enabled=dtype is not torch.float32),
            base=base,
        )

    def state() -> dict[str, Any]:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        memory = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        return condition(model) | {
            "memory": memory,
            "random on the GPU": torch.cuda.get_rng_state().tolist(),
        }

    monkeypatch.setattr(Stepper, "capture", watched)
    torch.manual_seed(0)
    said = []
    for number in range(3):
        if number:  # as an optimiser does: in place, between two samplings
            with torch.no_grad():
                for parameter in trained:
                    parameter.add_(torch.randn_like(parameter), alpha=0.01)
        plain, ours = say(None), say(base)  # the libraries have allocated what they keep
        before = state()
        assert say(base) == ours
        after = state()
        assert {key for key in before if before[key] != after[key]} == set()
        if exact:
            assert ours == plain
        said.append(ours)
    assert base.misfit == "" and replays and all(replays)
    assert said[0] != said[1] != said[2]
