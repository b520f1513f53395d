"""Models with random weights in the exact shapes of Llama 3.2: for time and memory, not for losses.

``python -m engine.bench.shapes --tell FD PARENT FOLDER SHAPE`` builds one in a process that ends,
so that nobody else holds its memory.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from engine.bench.telling import Teller, serve
from engine.data.formats import ALPACA
from engine.home import open_home
from engine.recipe import load_recipe

__all__ = ["SHAPES", "build_model"]

SHAPES = {
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128_256,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 9000,
    },
}
"""Name -> fields of Transformers' ``LlamaConfig``; 3b has 3,212,749,824 parameters."""
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
TOKENIZER_ROWS = 2000


def build_model(folder: Path, shape: str) -> int:
    """Write weights in bfloat16 and a tokenizer of the same vocabulary size; returns parameters.

    The folder appears when it is whole. Needs torch, and room for the weights (3b: 6.4 GB) on the
    GPU, or in memory where there is none.
    """
    fields: dict[str, Any] = SHAPES[shape]
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        return _build(temporary, folder, fields)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # a disk that it filled is free again
        raise


def _build(temporary: Path, folder: Path, fields: dict[str, Any]) -> int:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    _build_tokenizer(temporary, fields["vocab_size"])
    config = LlamaConfig(
        **fields,
        max_position_embeddings=131_072,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(temporary, max_shard_size="2GB")
    temporary.rename(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _build_tokenizer(folder: Path, size: int) -> None:
    """BPE trained on the catalogue, filled up with names that no text produces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        # Small, so that rows have about as many tokens as the corpus's have with the real one.
        vocab_size=min(size, 8000),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_catalogue_texts(folder), trainer)
    tree = json.loads(tokenizer.to_str())
    vocabulary = tree["model"]["vocab"]
    for number in range(len(vocabulary), size):
        vocabulary[f"<|unused_{number}|>"] = number
    tokenizer = Tokenizer.from_str(json.dumps(tree))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[2],
    ).save_pretrained(folder)


def _catalogue_texts(folder: Path) -> list[str]:
    """Examples of 2,000 catalogue lines, cleaned, in the layout that the reference recipe has.

    With that layout's own words, which every tokenizer knows: they would fill 100 tokens.
    """
    from engine.data.prepare import prepare

    settings = [f"data.catalogue_rows={TOKENIZER_ROWS}", "data.name=tokenizer"]
    recipe = load_recipe("demo", settings)
    scratch = open_home(folder / "scratch")
    table = prepare(scratch, recipe).split("train")
    texts = [
        ALPACA.format(instruction=recipe.format.instruction, prompt=prompt) + completion
        for prompt, completion in zip(
            table["prompt"].to_pylist(), table["completion"].to_pylist(), strict=True
        )
    ]
    shutil.rmtree(scratch.path)
    return texts


def _work(arguments: list[str], teller: Teller) -> None:
    folder, shape = arguments
    teller.tell(phase=f"building a model of Llama 3.2's {shape} shape with random weights")
    teller.tell(parameters=build_model(Path(folder), shape))


if __name__ == "__main__":
    sys.exit(serve(_work))
