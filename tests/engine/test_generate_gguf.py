"""A GGUF file of the built-in model answers through llama.cpp what Transformers answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.builtin import BUILTIN_BASE, model_path
from engine.errors import UserError
from engine.generate.columns import Column, column_for
from engine.home import Home, open_home

llama_cpp = pytest.importorskip("llama_cpp", reason="GGUF files need llama-cpp-python")
gguf = pytest.importorskip("gguf", reason="to write a GGUF file")

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from engine.generate.models import Models, Voice  # noqa: E402
from engine.recipe import GenerateSection  # noqa: E402
from tests.bench.same_answers import builtin_voice, prompts  # noqa: E402
from tests.engine.answered import SAMPLED, answers  # noqa: E402

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(folder: Path, file: Path) -> Path:
    """A Llama with a byte-level BPE tokenizer, as llama.cpp's own converter writes it (F32)."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = json.loads((folder / "tokenizer_config.json").read_text())
    template = folder / "chat_template.jinja"
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    words = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    words |= {number: token["content"] for number, token in added.items()}
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]

    def id_of(name: str) -> int:
        found = special[name]
        found = found["content"] if isinstance(found, dict) else found
        return next(number for number, text in words.items() if text == found)

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    count = config["vocab_size"]
    writer.add_token_list([words.get(n, f"[unused{n}]") for n in range(count)])
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if n in added else normal for n in range(count)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(id_of("bos_token"))
    writer.add_eos_token_id(id_of("eos_token"))
    writer.add_chat_template(
        template.read_text() if template.is_file() else special["chat_template"]
    )
    for name, weight in load_file(folder / "model.safetensors").items():
        values = weight.float()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp turns other pairs
            count = heads if "q_proj" in name else shared
            values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2)
            values = values.reshape(weight.shape)
        parts = name.split(".")
        if parts[1] == "layers":
            new = f"blk.{parts[2]}.{NAMES['.'.join(parts[3:-1])]}.weight"
        else:
            new = {"embed_tokens": "token_embd.weight", "norm": "output_norm.weight"}[parts[1]]
        writer.add_tensor(new, values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("gguf") / "home")


@pytest.fixture(scope="module")
def file(home: Home) -> Path:
    return write_gguf(Path(model_path(BUILTIN_BASE)), home.path / "base.F32.gguf")


@pytest.fixture(scope="module")
def models(home: Home) -> Models:
    return Models(lambda words: None, home)


@pytest.fixture(scope="module")
def voices(home: Home, file: Path, models: Models) -> list[Voice]:
    """The file by llama.cpp, and the model itself with the file's way of asking."""
    column = column_for(home, str(file))
    assert column.label == "base.F32.gguf" and column.is_gguf
    own = builtin_voice(home, "model.device=cpu", 'format.instruction=""')
    return [replace(models.voice(column), column=replace(column, id="gguf")), own]


def test_prompts_are_tokenised_alike(voices: list[Voice]) -> None:
    by_llama, own = voices
    turns = [
        {"role": "user", "content": "oak lamp"},
        {"role": "assistant", "content": "A lamp."},
        {"role": "user", "content": "and red?"},
    ]
    spelled = " ".join(own.formatter.special_tokens) + " <|eot_id|> שלום"
    assert by_llama.formatter.prompt_ids(turns)[:5] == own.formatter.prompt_ids(turns)[:5]
    for prompt in (*prompts(20, seed=3), "", spelled):
        assert by_llama.formatter.prompt_ids(prompt) == own.formatter.prompt_ids(prompt)
    assert by_llama.base.ends == own.base.ends | frozenset(own.formatter.stop_ids)


@pytest.mark.parametrize("settings", [{}, SAMPLED, {"repetition_penalty": 1.3}])
def test_it_answers_as_transformers_does(voices: list[Voice], settings: dict[str, Any]) -> None:
    texts = prompts(8, seed=41)
    found = answers(voices, texts, settings={"max_new_tokens": 30, **settings})
    same = sum(found["gguf", n] == found["base", n] for n in range(8))
    assert same >= 7, [(found["gguf", n][0], found["base", n][0]) for n in range(8)]
    again = answers(voices[:1], texts, settings={"max_new_tokens": 30, **settings})
    assert all(found[key] == end for key, end in again.items())


def test_probabilities_and_stop_strings(voices: list[Voice]) -> None:
    from tests.engine.test_generate_settings import said

    section = GenerateSection(max_new_tokens=20, stop_strings=["."])
    found = said(voices, prompts(3, seed=42), section, probabilities=True)
    for number in range(3):
        one, other = found["gguf", number], found["base", number]
        assert one["text"] == other["text"] and "." not in one["text"]
        mine, its = (torch.tensor([p for _, p in end["pieces"]]) for end in (one, other))
        assert torch.allclose(mine, its, atol=1e-2)


def test_it_can_be_loaded_again_and_says_what_it_cannot(
    home: Home, file: Path, tmp_path: Path
) -> None:
    models = Models(lambda words: None, home)
    column = column_for(home, str(file))
    first = answers([models.voice(column)], ["oak lamp"])
    assert models.free() and not models.free()
    assert answers([models.voice(column)], ["oak lamp"]) == first
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"broken\.gguf: llama\.cpp cannot load this file"):
        models.voice(column_for(home, str(broken)))
    gone = Column("x", "x", str(tmp_path / "gone.gguf"), None, column.recipe)
    with pytest.raises(UserError, match=r"gone\.gguf: cannot be read"):
        models.voice(gone)
