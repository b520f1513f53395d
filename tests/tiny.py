"""A really tiny Llama and a few hundred product rows, made in a second, for quick tests."""

import json
import random
from pathlib import Path

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]

KINDS = [
    "kettle",
    "lamp",
    "chair",
    "backpack",
    "teapot",
    "drill",
    "notebook",
    "scarf",
    "mirror",
    "bicycle",
]
COLOURS = ["red", "blue", "green", "black", "white", "amber", "copper", "silver"]
STUFFS = ["steel", "oak", "cotton", "leather", "glass", "bamboo", "linen", "clay"]


def rows(count: int = 400, seed: int = 0) -> list[dict[str, str]]:
    """Product rows as ``{"title", "content"}``; no two contents are equal."""
    random_ = random.Random(seed)
    made = []
    for number in range(count):
        kind, colour = random_.choice(KINDS), random_.choice(COLOURS)
        stuff, size = random_.choice(STUFFS), random_.randint(1, 99)
        made.append(
            {
                "title": f"{colour} {stuff} {kind} {number}",
                "content": f"A {colour} {kind} of {stuff}, {size} cm. Model {number} is made to "
                f"{random_.choice(['last', 'please', 'travel', 'be given away'])}.",
            }
        )
    return made


def write_rows(path: Path, count: int = 400, seed: int = 0) -> Path:
    """Write :func:`rows` as JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows(count, seed):
            file.write(json.dumps(row) + "\n")
    return path


def build_model(
    folder: Path, *, layers: int = 2, hidden: int = 64, vocabulary: int = 512, seed: int = 0
) -> Path:
    """Write a random Llama with its own BPE tokenizer and chat template to ``folder``."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f"{row['title']}\n{row['content']}" for row in rows()]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    folder.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
