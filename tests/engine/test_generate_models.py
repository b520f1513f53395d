"""Adapters in one batch, models that the slots do not fit, 4 bits: on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.builtin import BUILTIN_BASE
from engine.generate.batching import Asked
from engine.generate.fit import leave_slots, misfit, take_slots
from engine.generate.mixing import BASE, can_mask
from engine.generate.models import Base, Voice
from engine.generate.slots import ATTENTION
from engine.home import open_home
from tests.bench.first_token import make_adapter
from tests.bench.same_answers import ask, builtin_voice, generated, prompts
from tests.engine.answered import SAMPLED, answers


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    home = open_home(tmp_path_factory.mktemp("slots") / "home")
    return builtin_voice(home, "model.device=cpu")


# ---- adapters -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> list[Voice]:
    """The base and two random adapters on another copy of it."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("adapters")
    own = builtin_voice(open_home(folder / "home"), "model.device=cpu")
    found = [own]
    for seed, name in enumerate("ab"):
        name_ = own.base.load_adapter(make_adapter(BUILTIN_BASE, folder / name, seed))
        found.append(replace(own, column=replace(own.column, id=name), adapter=name_))
    return found


@pytest.mark.parametrize("settings", [{}, SAMPLED], ids=["greedy", "seeded"])
def test_adapters_in_one_batch_answer_as_alone(
    mixed: list[Voice], voice: Voice, settings: dict[str, Any]
) -> None:
    texts = prompts(15, seed=8)
    together = answers(mixed, texts, settings=settings)
    assert mixed[0].base.bare.config._attn_implementation == ATTENTION, "not by slots"
    for one in mixed:
        alone = answers([one], texts, settings=settings)
        assert alone == {key: end for key, end in together.items() if key[0] == one.column.id}
    untouched = answers([voice], texts, settings=settings)
    assert all(together[key] == end for key, end in untouched.items())
    differ = [len({together[name, n] for name in ("base", "a", "b")}) for n in range(15)]
    assert sum(differ) >= 30, "the adapters do not differ: nothing was tested"


def test_a_mixed_batch_is_what_peft_makes_of_it(
    mixed: list[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = prompts(6, seed=9)
    ours = answers(mixed, texts)
    monkeypatch.setattr(mixed[0].base, "misfit", "for this test")
    assert answers(mixed, texts) == ours


@pytest.mark.parametrize(
    "made",
    [{"use_dora": True}, {"modules_to_save": ["norm"]}, {"target_modules": ["embed_tokens"]}],
    ids=["dora", "saved", "embedding"],
)
def test_adapters_that_do_more_than_add_are_not_masked(
    made: dict[str, Any], tmp_path: Path, voice: Voice
) -> None:
    """They still answer side by side: through PEFT, or one after the other."""
    from dataclasses import replace

    from peft import LoraConfig, get_peft_model

    own = builtin_voice(open_home(tmp_path), "model.device=cpu")
    torch.manual_seed(0)
    config = LoraConfig(r=4, **{"target_modules": ["q_proj"], "init_lora_weights": False, **made})
    own.base.model = get_peft_model(own.base.bare, config, adapter_name="x").eval()
    own.base.adapters["x", 0] = "x"
    if "modules_to_save" in made:
        own.base.bare.model.norm.modules_to_save["x"].weight.data.mul_(1.5)
    tuned = replace(own, column=replace(own.column, id="x"), adapter="x")
    assert not can_mask(own.base.model, [BASE, "x"])
    texts = prompts(4, seed=10)
    both = answers([own, tuned], texts)
    assert {k: v for k, v in both.items() if k[0] == "base"} == answers([voice], texts)
    assert {k: v for k, v in both.items() if k[0] == "x"} == answers([tuned], texts)
    assert any(both["base", n] != both["x", n] for n in range(4))


# ---- models that do not fit, and 4 bits -----------------------------------------------------


def other_base(voice: Voice, model: Any) -> Base:
    return Base(model.eval(), voice.base.tokenizer, "cpu")


def small(kind: str, **more: Any) -> Any:
    """A random model of a kind, as small as they come."""
    import transformers

    sizes = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=3584,
        max_position_embeddings=512,
    )
    if kind == "Bloom":
        sizes = dict(hidden_size=32, n_layer=2, n_head=4, vocab_size=3584)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes, **more)
    return getattr(transformers, f"{kind}ForCausalLM")(config)


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("Llama", {}, ""),
        ("Qwen2", {}, ""),
        ("Qwen3", {"head_dim": 8}, ""),
        ("Mistral", {"sliding_window": 4096}, ""),
        ("Mistral", {"sliding_window": 16}, "not all of its layers look at the whole text"),
        ("Gemma2", {"head_dim": 8}, "not all of its layers look at the whole text"),
        ("Bloom", {}, "cannot be replaced"),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rotary embedding"),
    ],
)
def test_models_fit_or_are_answered_for_by_generate(
    voice: Voice, kind: str, more: dict[str, Any], why: str
) -> None:
    if "rope_parameters" in more:
        more["rope_parameters"]["rope_theta"] = 10000.0
    base = other_base(voice, small(kind, **more))
    own = Voice(voice.column, base, BASE, voice.formatter)
    asked = [Asked(o.prompt, BASE, 0, 20, frozenset()) for o in ask(own, prompts(6, seed=11))]
    found = take_slots(base, 200, asked[0].prompt)
    assert (why in found) if why else found == ""
    leave_slots(base)
    want = [generated(base, [one], whole=True)[0] for one in asked]
    texts = answers([own], prompts(6, seed=11), settings={"max_new_tokens": 20})
    decode = base.tokenizer.decode
    assert [texts["base", n][0] for n in range(6)] == [
        decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in want
    ]


def test_a_model_of_its_own_code_is_not_trusted(voice: Voice) -> None:
    from transformers import LlamaForCausalLM

    class Mine(LlamaForCausalLM):
        pass

    assert "not Transformers' own" in misfit(Mine(small("Llama").config), 64)


def test_a_model_that_answers_otherwise_in_slots_is_found_out(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attention scales by something that the slots' attention does not hear of."""
    base = other_base(voice, small("Llama"))
    prompt = ask(voice, prompts(1))[0].prompt
    rotary = base.bare.model.rotary_emb.forward
    base.bare.model.rotary_emb.forward = lambda x, position_ids: rotary(
        x, position_ids if x.shape[1] > 1 else position_ids + 3
    )
    assert "of its logits' spread off" in take_slots(base, 200, prompt)
    assert base.bare.config._attn_implementation != ATTENTION


@pytest.mark.slow
def test_4_bit_weights_are_held_whole_where_there_is_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.generate import weights

    settings = ["model.device=cpu", "model.load_in_4bit=true"]
    texts = prompts(20, seed=12)
    whole = builtin_voice(open_home(tmp_path), *settings)
    assert "4-bit weights are held in float32" in whole.base.note
    assert not [m for m in whole.base.bare.modules() if type(m).__name__ == "Linear4bit"]
    monkeypatch.setattr(weights, "free_memory", lambda device: 1 << 20)
    packed = builtin_voice(open_home(tmp_path), *settings)
    assert "weights stay in 4 bits" in packed.base.note
    assert [m for m in packed.base.bare.modules() if type(m).__name__ == "Linear4bit"]
    found, kept = answers([whole], texts), answers([packed], texts)
    assert sum(found[key] == kept[key] for key in found) >= 18
    full = answers([builtin_voice(open_home(tmp_path), "model.device=cpu")], texts)
    assert full != kept, "4 bits change nothing: nothing was tested"


def test_a_model_without_room_is_not_loaded_and_what_nobody_uses_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.errors import UserError
    from engine.generate import models as module
    from engine.generate.columns import Column, column_for
    from engine.generate.models import Models

    recipe = column_for(open_home(tmp_path), BUILTIN_BASE).recipe
    wide = Column("wide", "wide", BUILTIN_BASE, None, recipe.with_settings(["model.device=cpu"]))
    other = ["model.device=cpu", "model.attn_implementation=eager"]
    also = Column("also", "also", BUILTIN_BASE, None, recipe.with_settings(other))
    models = Models(lambda words: None)
    first = models.voice(wide)
    monkeypatch.setattr(module, "free_memory", lambda device: 0 if models.bases else 1 << 40)
    with pytest.raises(UserError, match=r"builtin:base needs about .* this machine has 0 B free"):
        models.voice(also, used=[first.base])
    assert models.voice(wide).base is first.base, "what is there needs no room"
    second = models.voice(also)
    assert list(models.bases.values()) == [second.base]
    assert models.free() and models.bases == {} and not models.free()
