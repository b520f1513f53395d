"""The fused layers compute what Transformers and PEFT do: here with their operations in torch."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from engine.errors import UserError  # noqa: E402
from engine.home import open_home  # noqa: E402
from engine.recipe import Recipe, load_recipe  # noqa: E402
from engine.train.fused.attach import fuse  # noqa: E402
from engine.train.fused.choice import read_config, why_plain  # noqa: E402
from engine.train.fused.flat import FlatCollator  # noqa: E402
from engine.train.fused.reference import Dropout, dropped  # noqa: E402
from engine.train.fused.sizes import LINE_MULTIPLE  # noqa: E402
from engine.train.fused.stack import Stack  # noqa: E402
from engine.train.rows import IGNORED, TOKENS  # noqa: E402
from tests.engine.training import Attempt, evaluations, losses  # noqa: E402

Make = Callable[..., Recipe]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 200,
    "max_position_embeddings": 256,
}
LENGTHS = (17, 5, 30, 9)


def build(family: str, recipe: Recipe, *, tied: bool = True, **sizes: int) -> Any:
    """A random model of the family with adapters that already do something."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES | sizes, tie_word_embeddings=tied)
    base = AutoModelForCausalLM.from_config(config)
    for name, parameter in base.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter.data += 0.2 * torch.randn_like(parameter)
    lora = recipe.lora
    model = get_peft_model(
        base,
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            target_modules=lora.target_modules,
            layers_to_transform=lora.layers_to_transform or None,
            use_rslora=lora.use_rslora,
        ),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    return model.train()


def rows(seed: int = 1) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in LENGTHS:
        ids = torch.randint(5, SIZES["vocab_size"], (length,), generator=generator).tolist()
        cut = length // 3
        found.append({"input_ids": ids, "labels": [IGNORED] * cut + ids[cut:]})
    return found


def padded(examples: list[dict[str, list[int]]]) -> dict[str, Any]:
    wide = max(len(row["input_ids"]) for row in examples)

    def filled(key: str, value: int) -> Any:
        return torch.tensor([row[key] + [value] * (wide - len(row[key])) for row in examples])

    mask = torch.tensor([[i < len(row["labels"]) for i in range(wide)] for row in examples])
    return {
        "input_ids": filled("input_ids", 0),
        "labels": filled("labels", IGNORED),
        "attention_mask": mask.long(),
    }


def flat(examples: list[dict[str, Any]]) -> dict[str, Any]:
    batch = FlatCollator(0)(examples)
    batch.pop(TOKENS)
    return batch


def gradients(model: Any, batch: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    loss = model(**batch, use_cache=False).loss
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


CASES = {
    "llama": ("llama", []),
    "mistral": ("mistral", []),
    "qwen2, with biases": ("qwen2", []),
    "some linears": ("llama", ['lora.target_modules=["q_proj", "v_proj", "down_proj"]']),
    "one layer": ("llama", ["lora.layers_to_transform=[1]"]),
    "high rank": ("llama", ["lora.r=24", "lora.use_rslora=true"]),
    "checkpointing": ("llama", ["train.gradient_checkpointing=true"]),
}


@pytest.mark.parametrize("case", CASES)
def test_same_loss_and_gradients(case: str) -> None:
    family, settings = CASES[case]
    recipe = load_recipe("demo", ["lora.r=8", "lora.lora_dropout=0", *settings])
    model = build(family, recipe, tied=family == "llama")
    expected_loss, expected = gradients(model, padded(rows()))
    fuse(model, recipe, "float32", "cpu", unpacked=False, graphs=False)
    loss, found = gradients(model, flat(rows()))
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert found.keys() == expected.keys()
    assert len(found) > 3
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-6, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("unpacked", [False, True])
def test_same_loss_and_gradients_in_4_bits(tiny_recipe: Make, unpacked: bool) -> None:
    from engine.train.transformers_backend import TransformersBackend

    plain = tiny_recipe("model.load_in_4bit=true", "model.kernels=plain")
    model = TransformersBackend().load(plain).model.train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    expected_loss, expected = gradients(model, padded(rows()))
    fuse(model, plain, "float32", "cpu", unpacked=unpacked, graphs=False)
    loss, found = gradients(model, flat(rows()))
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_generation_after_fusing_is_as_before() -> None:
    recipe = load_recipe("demo", ["lora.lora_dropout=0"])
    model = build("llama", recipe).eval()
    ids = torch.tensor([[7, 8, 9, 10]])
    before = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    fuse(model, recipe, "float32", "cpu", unpacked=False, graphs=False)
    after = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert after.tolist() == before.tolist()


class _Known(torch.nn.Module):
    """PEFT's dropout, dropping what the fused layers would."""

    def __init__(self, drop: Dropout, number: int) -> None:
        super().__init__()
        self.drop, self.number = drop, number

    def forward(self, x: Any) -> Any:
        return dropped(x[0], self.drop, self.number)[None]


def test_dropout_is_the_same_forwards_and_backwards() -> None:
    recipe = load_recipe("demo", ["lora.r=8", "lora.lora_dropout=0.3"])
    model = build("llama", recipe)
    ids = torch.randint(5, 200, (1, LINE_MULTIPLE))  # one row that fills the line: the same places
    torch.manual_seed(3)
    seed = torch.randint(2**31, (1,), dtype=torch.int32)
    flow = _flow(ends=None, cos=None, longest=0, dropout=0.3, seed=seed)
    groups = ["q_proj k_proj v_proj", "o_proj", "gate_proj up_proj", "down_proj"]
    kept = {}
    for name, module in model.named_modules():
        if not hasattr(module, "lora_dropout"):
            continue
        layer, linear = int(name.split(".")[4]), name.rpartition(".")[2]
        matrix = next(place for place, group in enumerate(groups) if linear in group)
        number = groups[matrix].split().index(linear)
        kept[name] = module.lora_dropout
        module.lora_dropout = torch.nn.ModuleDict(
            {"default": _Known(flow.drop(layer, matrix), number)}
        )
    assert len(kept) == 14
    expected_loss, expected = gradients(model, {"input_ids": ids, "labels": ids})
    fuse(model, recipe, "float32", "cpu", unpacked=False, graphs=False)
    row = {"input_ids": ids[0].tolist(), "labels": ids[0].tolist()}
    torch.manual_seed(3)
    loss, found = gradients(model, flat([row]))
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
    torch.manual_seed(4)
    assert gradients(model, flat([row]))[0] != pytest.approx(loss, abs=1e-4)
    model.eval()
    torch.manual_seed(3)
    undropped = gradients(model, flat([row]))[0]
    torch.manual_seed(4)
    assert gradients(model, flat([row]))[0] == undropped


@pytest.mark.parametrize("probability", [0.05, 0.5])
def test_dropout_keeps_its_share_and_forgets_the_place(probability: float) -> None:
    def kept(seed: int, salt: int, number: int) -> Any:
        drop = Dropout(probability, torch.tensor([seed], dtype=torch.int32), salt)
        return (dropped(torch.ones(1024, 512), drop, number) > 0).double()

    one = kept(1, 77, 0)
    spread = (probability * (1 - probability)) ** 0.5
    assert one.mean().item() == pytest.approx(1 - probability, abs=5 * spread / 724)
    for axis, count in ((0, 1024), (1, 512)):
        assert one.mean(axis).std().item() == pytest.approx(spread / count**0.5, rel=0.15)
    for other in (kept(2, 77, 0), kept(1, 78, 0), kept(1, 77, 1), one.roll(1, 1), one.roll(1, 0)):
        together = ((one - one.mean()) * (other - other.mean())).mean().item()
        assert abs(together / spread**2) < 5 / 724


def test_a_row_sees_no_other_row() -> None:
    recipe = load_recipe("demo", ["lora.lora_dropout=0"])
    model = build("llama", recipe)
    fuse(model, recipe, "float32", "cpu", unpacked=False, graphs=False)
    mine, others = rows(1), rows(2)
    alone = model(**flat(mine[2:3]), use_cache=False).loss
    for neighbours in (mine[:2], others[:2]):
        blind = [row | {"labels": [IGNORED] * len(row["labels"])} for row in neighbours]
        beside = model(**flat([*blind, mine[2]]), use_cache=False).loss
        torch.testing.assert_close(beside, alone)


def test_collator_joins_rows() -> None:
    first = {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]}
    packed = {"input_ids": [4, 5, 6, 7, 8], "labels": [4, 5, 6, 7, 8], "seq_lengths": [2, 3]}
    batch = FlatCollator(9)([first, packed])
    assert batch["input_ids"].shape == (1, LINE_MULTIPLE)
    assert batch["input_ids"][0, :9].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 8, LINE_MULTIPLE]
    assert batch["max_length_q"] == LINE_MULTIPLE - 8
    assert batch["position_ids"][0, :9].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0]
    # No row predicts the first token of the next one.
    assert batch["loss_positions"].tolist() == [0, 1, 3, 5, 6]
    assert batch["loss_targets"].tolist() == [2, 3, 5, 7, 8]
    assert batch["labels"][0, :8].tolist() == [IGNORED, 2, 3, IGNORED, 5, IGNORED, 7, 8]
    assert batch[TOKENS].tolist() == [3, 5]
    full = {"input_ids": [1] * LINE_MULTIPLE, "labels": [1] * LINE_MULTIPLE}
    assert FlatCollator(9)([full])["cu_seq_lens_q"].tolist() == [0, LINE_MULTIPLE]


def test_recorded_shapes_are_few() -> None:
    """Batches of a size share a recording however many rows are in them and how long they are."""
    stack = Stack([], graphs=True, longest=96)
    shapes = set()
    for count in (30, 31, 32):
        batch = FlatCollator(0)([{"input_ids": [1] * 90, "labels": [1] * 90}] * count)
        ends = batch["cu_seq_lens_q"]
        flow = stack._evened(
            _flow(ends=ends, cos=torch.zeros(int(ends[-1]), 4), longest=batch["max_length_q"])
        )
        shapes.add((len(flow.ends), flow.longest))
        assert flow.ends[: len(ends)].tolist() == ends.tolist()
        assert set(flow.ends[len(ends) :].tolist()) <= {int(ends[-1])}
    assert shapes == {(40, 128), (32, 128)}


def test_warming_up_goes_through_every_layer() -> None:
    """Layers without adapters among them; gradients of the model's own parameters stay away."""
    recipe = load_recipe("demo", ["lora.layers_to_transform=[1]", "lora.lora_dropout=0"])
    model = build("llama", recipe)
    stack = fuse(model, recipe, "float32", "cpu", unpacked=False, graphs=False).stack
    ran: list[tuple[int, bool]] = []
    whole = stack._layer

    def seen(x: Any, layer: Any, flow: Any, own: Any) -> Any:
        ran.append((layer.number, x.requires_grad))
        return whole(x, layer, flow, own)

    stack._layer = seen  # type: ignore[method-assign]
    ends = torch.tensor([0, 100, 128], dtype=torch.int32)
    flow = _flow(ends=ends, cos=torch.ones(128, 16), longest=100)
    x = torch.randn(128, SIZES["hidden_size"])
    stack.warm_up(x, flow, [each.detach().requires_grad_() for each in stack.parameters])
    assert ran == [(0, False), (1, False)]
    assert all(parameter.grad is None for parameter in model.parameters())


def _flow(**given: Any) -> Any:
    from engine.train.fused.layer import Flow

    defaults = {"dropout": 0.0, "seed": torch.zeros(1, dtype=torch.int32)}
    return Flow(sin=given["cos"], attention="each", **defaults | given)


# ---- which recipes ------------------------------------------------------------------------------

REASONS = {
    "lora.enabled=false": "every weight is trained",
    "lora.use_dora=true": "lora.use_dora",
    "lora.bias=all": "lora.bias",
    'lora.modules_to_save=["lm_head"]': "lora.modules_to_save",
    'lora.target_modules=["q_proj", "lm_head"]': "lora.target_modules has lm_head",
    'model.add_tokens=["<|x|>"]': "model.add_tokens",
    "model.attn_implementation=eager": "model.attn_implementation",
    "train.neftune_noise_alpha=5": "train.neftune_noise_alpha",
    "train.label_smoothing_factor=0.1": "train.label_smoothing_factor",
}


@pytest.mark.parametrize("setting", REASONS)
def test_what_they_cannot_compute_is_said(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    recipe = load_recipe("demo", [setting])
    assert REASONS[setting] in why_plain(recipe, read_config(recipe), "cuda")
    with pytest.raises(UserError, match=r'model\.kernels: .*set model\.kernels = "auto"'):
        why_plain(load_recipe("demo", [setting, "model.kernels=fused"]), None, "cuda")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "gemma3"}, "gemma3 models"),
        ({"model_type": "mistral", "sliding_window": 64}, "64 tokens only"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "gelu"),
        ({"model_type": "llama", "attention_dropout": 0.1}, "attention has dropout"),
        ({"model_type": "mistral", "sliding_window": 4096}, ""),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False}, ""),
        (None, ""),
    ],
)
def test_which_models(
    config: dict[str, Any] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    why = why_plain(load_recipe("demo"), config, "cuda")
    assert words in why if words else not why


def test_where_and_when_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("demo")
    config = read_config(recipe)
    assert config is not None
    assert config["model_type"] == "llama"
    assert "CUDA" in why_plain(recipe, config, "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "triton is not installed" in why_plain(recipe, config, "cuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert not why_plain(recipe, config, "cuda")
    assert "plain" in why_plain(load_recipe("demo", ["model.kernels=plain"]), config, "cuda")
    assert not why_plain(load_recipe("demo", ["model.kernels=fused"]), config, "cpu")


# ---- a run --------------------------------------------------------------------------------------

SHORT = ["train.max_steps=8", "evaluate.before=true", "evaluate.sample_rows=1"]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["train.packing=true"],
        ["train.per_device_train_batch_size=4", "train.gradient_accumulation_steps=2"],
        ["train.train_sampling_strategy=group_by_length"],
    ],
    ids=["rows", "packed", "accumulated", "by length"],
)
def test_a_run_is_the_same_run(tmp_path: Any, tiny_recipe: Make, settings: list[str]) -> None:
    runs = []
    for kernels in ("plain", "fused"):
        recipe = tiny_recipe(*SHORT, *settings, f"model.kernels={kernels}")
        runs.append(Attempt(open_home(tmp_path), recipe, kernels))
        runs[-1].run()
    plain, fused = (run.folder for run in runs)
    assert losses(fused) == pytest.approx(losses(plain), abs=2e-4)
    assert evaluations(fused) == pytest.approx(evaluations(plain), abs=2e-4)


def test_it_resumes_exactly_with_dropout(tmp_path: Any, tiny_recipe: Make) -> None:
    from tests.engine.test_train_surface import resumed_equals

    settings = ["model.kernels=fused", "lora.lora_dropout=0.1", "evaluate.sample_rows=0"]
    whole, broken = resumed_equals(tmp_path, tiny_recipe(*SHORT[:1], *settings))
    assert losses(broken.folder) == losses(whole.folder)
