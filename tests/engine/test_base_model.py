"""The built-in base model: small, loadable by plain `from_pretrained`, speaking product prose."""

import json
import math
import struct
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engine.builtin import BUILTIN_BASE, model_path

BASE = Path(model_path(BUILTIN_BASE))
TITLE = "Write a product description for this title.\n\nCafé Lumière Skillet, 10 inch"


def safetensors_header() -> dict[str, dict[str, object]]:
    """What the weights' file says about its tensors, without torch."""
    with (BASE / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header


def test_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in BASE.iterdir()) <= 8_000_000
    header = safetensors_header()
    parameters = sum(math.prod(tensor["shape"]) for tensor in header.values())  # type: ignore[arg-type]
    assert 3_000_000 < parameters <= 4_000_000
    assert {tensor["dtype"] for tensor in header.values()} == {"BF16"}


def test_config_agrees_with_the_tokenizer() -> None:
    config = json.loads((BASE / "config.json").read_text())
    generation = json.loads((BASE / "generation_config.json").read_text())
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    eos = tokenizer.token_to_id("<|eot_id|>")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == tokenizer.get_vocab_size()
    assert config["max_position_embeddings"] >= 512
    assert config["eos_token_id"] == eos
    assert generation["eos_token_id"] == [eos, tokenizer.token_to_id("<|end_of_text|>")]
    assert config["pad_token_id"] == tokenizer.token_to_id("<|pad|>") != eos
    assert config["bos_token_id"] == tokenizer.token_to_id("<|begin_of_text|>")


@pytest.mark.parametrize(
    "text",
    [
        "The Harlow skillet, 10 inch.",
        "naïve café 日本語 🍳 \u0000\t\n",
        "  two  spaces ",
        "'s & <b>",
    ],
)
def test_tokenizer_gives_back_every_text(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.encode(text).ids == [tokenizer.token_to_id("<|begin_of_text|>"), *ids]


def test_tokenizer_knows_the_catalogue() -> None:
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    sentence = "The Harlow skillet is made for searing steaks and frying eggs."
    assert len(tokenizer.encode(sentence, add_special_tokens=False).ids) <= 22


def test_chat_template_ends_the_assistants_turn_with_eos() -> None:
    settings = json.loads((BASE / "tokenizer_config.json").read_text())
    template = ImmutableSandboxedEnvironment().from_string(
        (BASE / "chat_template.jinja").read_text()
    )
    user = {"role": "user", "content": TITLE}
    prompt = template.render(
        messages=[user], bos_token=settings["bos_token"], add_generation_prompt=True
    )
    whole = template.render(
        messages=[user, {"role": "assistant", "content": "A skillet."}],
        bos_token=settings["bos_token"],
    )
    assert prompt.startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWrite")
    assert whole == prompt + "A skillet." + settings["eos_token"]
    tokenizer = Tokenizer.from_file(str(BASE / "tokenizer.json"))
    assert tokenizer.encode(whole, add_special_tokens=False).tokens[0] == settings["bos_token"]
    assert tokenizer.encode(whole, add_special_tokens=False).tokens[-1] == settings["eos_token"]


def test_it_loads_and_writes_about_products() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from engine.demo.catalogue import KINDS

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    text = "The Harlow skillet is made for searing steaks. A great gift for home cooks."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss < 2.5, "untrained, it would be about 8"

    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": TITLE}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=32, do_sample=False)
    written = tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert any(kind in written.lower() for kind in KINDS), "it speaks of some product"
    assert "skillet" not in written.lower(), "the instruction is what fine-tuning must teach"


def test_it_copies_an_invented_brand_from_its_own_page_layout() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    page = tokenizer("NAME: Veltrasa Smart Watch, Black\nABOUT:", return_tensors="pt")
    with torch.no_grad():
        answer = model.generate(**page, max_new_tokens=16, do_sample=False)
    written = tokenizer.decode(answer[0, page["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "Veltrasa smart watch" in written
