"""Samples answered from slots: the text is that of ``generate``, and training never notices."""

import gc
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.tokens import Formatter
from engine.generate import batching, fit
from engine.generate.models import Base
from engine.generate.sampling import Cancelled
from engine.generate.slots import ATTENTION
from engine.home import open_home
from engine.recipe import Recipe
from engine.train import measuring, samples
from engine.train.samples import Prompt, Sampling, generate
from engine.train.transformers_backend import TransformersBackend
from tests.bench.same_answers import prompts
from tests.engine.training import Attempt, events, losses
from tests.variants import slow_but

Make = Callable[..., Recipe]
BUILTIN = [
    "model.model_name_or_path=builtin:base",
    *("train.max_steps=6", "train.eval_steps=3", "train.save_steps=3", "evaluate.before=false"),
    *("evaluate.sample_max_new_tokens=40", "train.learning_rate=2e-3"),
]
HELD = {
    "lora": ["lora.lora_dropout=0.1"],
    "4-bit": ["model.load_in_4bit=true"],
    "fused": ["model.kernels=fused", "lora.lora_dropout=0.1"],
    "fused 4-bit": ["model.kernels=fused", "model.load_in_4bit=true"],
    "full": ["lora.enabled=false"],
    "dora": ["lora.use_dora=true"],
    "saved and biased": ['lora.modules_to_save=["lm_head"]', "lora.bias=lora_only"],
    "checkpointing": ["train.gradient_checkpointing=true", "lora.enabled=false"],
    "new tokens": ['model.add_tokens=["<|title|>", "<|text|>"]'],
    "autocast": ["model.dtype=bfloat16", "lora.enabled=false"],
    "autocast lora": ["model.dtype=bfloat16"],
}


def condition(model: Any) -> dict[str, Any]:
    """All that answering could have left behind in a model, and in the random generators."""
    modules = list(model.modules())
    tensors = [*model.parameters(), *model.buffers()]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "attention": model.config._attn_implementation,
        "use_cache": model.config.use_cache,
        "training": [module.training for module in modules],
        "hooks": [len(getattr(module, name)) for module in modules for name in hooks],
        "adapters": [getattr(module, "active_adapters", None) for module in modules],
        "attributes": [sorted(vars(module)) for module in modules],
        "places": [tensor.data_ptr() for tensor in tensors],
        "trained": [tensor.requires_grad for tensor in tensors],
        "inference": any(tensor.is_inference() for tensor in tensors),
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "gradients": torch.is_grad_enabled(),
    }


def worst_choice(base: Base, sampling: Sampling, tokenizer: Any, **how: Any) -> float:
    """How far below the most likely token's logit a chosen one's is, by the model as it is.

    In bfloat16 texts differ wherever two tokens are about as likely, as those of a batch and of a
    prompt alone do; but what is chosen must be one of these.
    """
    asked = Cancelled()
    with torch.no_grad(), how["autocast"]():
        rows = samples._in_slots(base, sampling, how["max_new_tokens"], asked)
        assert rows and all(rows)
        worst = 0.0
        for prompt, row in zip(sampling.prompts, rows, strict=True):
            start = len(prompt.ids) - 1
            logits = base.bare(torch.tensor([prompt.ids + row])).logits[0, start:-1].float()
            chosen = logits.gather(1, torch.tensor(row)[:, None])[:, 0]
            worst = max(worst, (logits.max(1).values - chosen).max().item())
    return worst


@pytest.mark.parametrize("held", slow_but(HELD, "lora", "full"))
def test_a_run_says_what_generate_says_and_trains_as_without_samples(
    held: str, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, said = open_home(tmp_path), []

    def both(model: Any, *args: Any, base: Base, **how: Any) -> list[str]:
        before = condition(model)
        ours = generate(model, *args, base=base, **how)
        after = condition(model)
        assert {k for k in before if before[k] != after[k]} == set()
        assert base.misfit == "" and not base.steppers
        if "autocast" in held:
            assert worst_choice(base, *args, **how) < 0.5
        said.extend(zip(ours, generate(model, *args, **how), strict=True))
        return ours

    monkeypatch.setattr(measuring, "generate", both)
    settings = [*BUILTIN, *HELD[held]]
    silent = Attempt(home, tiny_recipe(*settings, "evaluate.sample_rows=0"), "silent")
    silent.run()
    attempt = Attempt(
        home, tiny_recipe(*settings, f"evaluate.sample_prompts={prompts(10)}"), "sampled"
    )
    attempt.run()
    assert losses(attempt.folder) == losses(silent.folder)
    texts = [event["text"] for event in events(attempt.folder, "sample")]
    assert texts == [ours for ours, _ in said] and len(texts) == 20
    assert len(set(texts)) > 5
    assert "autocast" in held or all(ours == plain for ours, plain in said)


# ---- without a run --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The built-in model with an adapter of random weights, one that changes what is said."""
    from engine.recipe import load_recipe

    recipe = load_recipe("demo", [*BUILTIN, "model.device=cpu"])
    loaded = TransformersBackend().load(recipe)
    torch.manual_seed(0)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.01)
    formatter = Formatter.of(recipe)
    texts = prompts(4, seed=5)
    sampling = Sampling(
        [Prompt(text, formatter.prompt_ids(text), None) for text in texts],
        sorted(formatter.stop_ids),
        formatter.pad_id,
    )
    return SimpleNamespace(model=loaded.model, tokenizer=loaded.tokenizer, sampling=sampling)


def say(loaded: Any, base: Base | None, sampling: Sampling | None = None, **how: Any) -> list[str]:
    return generate(
        loaded.model,
        sampling or loaded.sampling,
        loaded.tokenizer,
        **{"max_new_tokens": 30, "autocast": torch.no_grad, "base": base, **how},
    )


def borrowed(loaded: Any) -> Base:
    return Base(loaded.model.get_base_model(), loaded.tokenizer, "cpu", borrowed=True)


def test_slots_see_weights_that_were_replaced(loaded: Any) -> None:
    """Where they lie is not remembered: a best checkpoint's may lie elsewhere."""
    base, weights = borrowed(loaded), dict(loaded.model.named_parameters())
    first = say(loaded, base)
    with torch.no_grad():
        for name, parameter in weights.items():
            if "lora_B" in name:
                parameter.data = -parameter.data
    second = say(loaded, base)
    assert first != second == say(loaded, None)


def test_what_was_made_for_answers_is_gone_afterwards(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the collector of cycles; also after an error."""
    made: list[weakref.ref[Any]] = []
    real = batching.Stepper

    def kept_an_eye_on(*args: Any) -> Any:
        stepper = real(*args)
        made.extend([weakref.ref(stepper), weakref.ref(stepper.cache)])
        return stepper

    monkeypatch.setattr(batching, "Stepper", kept_an_eye_on)
    gc.disable()
    try:
        say(loaded, borrowed(loaded))
        assert len(made) == 2 and not any(ref() for ref in made)
    finally:
        gc.enable()

    tried: list[int] = []

    def fails(self: Any) -> Any:
        tried.append(1)
        raise RuntimeError("out of memory, say")

    base, want = borrowed(loaded), say(loaded, None)  # generate leaves attributes of its own
    before = condition(loaded.model)
    assert say(loaded, base) == want
    monkeypatch.setattr(real, "step", fails)
    assert say(loaded, base) == want, "by generate: no fast way of sampling is worth a run"
    assert not base.steppers and condition(loaded.model) == before
    assert say(loaded, base) == want and len(tried) == 1, "and not tried again"


def test_a_model_that_slots_do_not_fit_is_asked_as_ever(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    want, seen, real = say(loaded, None), [], type(loaded.model).generate

    def watched(model: Any, *args: Any, **how: Any) -> Any:
        seen.append(model.config._attn_implementation)
        return real(model, *args, **how)

    monkeypatch.setattr(fit, "misfit", lambda model, capacity: "for this test")
    monkeypatch.setattr(type(loaded.model), "generate", watched)
    assert say(loaded, borrowed(loaded)) == want
    assert seen and ATTENTION not in seen


@pytest.mark.parametrize("way", ["slots", "generate"])
def test_whether_it_is_cancelled_is_asked_at_every_token(loaded: Any, way: str) -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(len(asked))
        return len(asked) > 8

    base = borrowed(loaded) if way == "slots" else None
    full = say(loaded, base)
    cut = say(loaded, base, cancelled=cancelled)
    tokens = [len(loaded.tokenizer(text, add_special_tokens=False).input_ids) for text in cut]
    assert 6 <= max(tokens) <= 9 and len(asked) <= 10
    assert all(whole.startswith(part) for whole, part in zip(full, cut, strict=True))


def test_prompts_of_one_token_and_of_none(loaded: Any) -> None:
    ids = loaded.sampling.prompts[0].ids
    short = Sampling(
        [Prompt("", some, None) for some in (ids[:1], ids)],
        loaded.sampling.stop_ids,
        loaded.sampling.pad_id,
    )
    assert say(loaded, borrowed(loaded), short) == say(loaded, None, short)
    none = Sampling([Prompt("", [], None), *short.prompts], short.stop_ids, short.pad_id)
    assert say(loaded, borrowed(loaded), none) == say(loaded, None, none)


def test_a_penalty_of_the_models_own_changes_no_sample(loaded: Any) -> None:
    """They are the most likely tokens, as the playground's are."""
    want = say(loaded, borrowed(loaded))
    own = loaded.model.generation_config
    own.repetition_penalty = 3.0
    try:
        assert say(loaded, borrowed(loaded)) == say(loaded, None) == want
    finally:
        own.repetition_penalty = None


def test_sharded_weights_and_other_libraries_kernels_are_not_borrowed() -> None:
    borrow: Any = measuring.Measuring._borrowed
    for sharded, kernels in ((True, None), (False, lambda model: None)):
        trainer = SimpleNamespace(sharded=sharded, for_generation=kernels)
        assert borrow.func(trainer) is None
