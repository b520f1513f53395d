"""Makes the demo's base model from nothing: `python -m engine.demo.pretrain OUT`.

Trains a byte-level BPE tokenizer and a Llama of 3.3 million parameters on the texts of
`engine.demo.layouts`. Everything is seeded: on a CPU the same versions and thread count give the
same weights again; on a GPU they differ in the last bits. Nothing at run time imports this module.
"""

import argparse
import json
import time
from pathlib import Path
from random import Random
from typing import Any

from engine.demo.layouts import Layouts

BOS, EOS, END, PAD = "<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", "<|pad|>"
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")
VOCABULARY = 3_584
CONTEXT = 256
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{%- endif %}"
)


def make_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE tokenizer trained on the texts, with Llama 3's chat tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, END, *HEADERS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: Any, seed: int) -> Any:
    """A Llama of six layers with tied embeddings and random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    end, eos = (tokenizer.convert_tokens_to_ids(token) for token in (END, EOS))
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        initializer_range=0.04,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=eos,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [eos, end]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def make_batches(tokenizer: Any, layouts: Layouts, steps: int, batch: int) -> Any:
    """Packed token ids of shape (steps, batch, CONTEXT + 1), each text between BOS and END."""
    import numpy as np

    length = CONTEXT + 1
    ids = np.empty(steps * batch * length, dtype=np.int16)
    end = tokenizer.convert_tokens_to_ids(END)
    filled = 0
    while filled < len(ids):
        encoded = tokenizer.backend_tokenizer.encode_batch([layouts.text() for _ in range(4096)])
        for item in encoded:
            piece = [*item.ids, end][: len(ids) - filled]
            ids[filled : filled + len(piece)] = piece
            filled += len(piece)
    return ids.reshape(steps, batch, length)


def pretrain(model: Any, batches: Any, device: str, learning_rate: float) -> None:
    """AdamW with warm-up and a cosine, next-token loss on packed texts."""
    import torch

    model.to(device).train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    steps = len(batches)
    warmup = max(1, steps // 20)
    half = 0.5 * torch.pi

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return 0.02 + 0.98 * float(torch.cos(torch.tensor(half * done))) ** 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    started = time.monotonic()
    for step in range(steps):
        tokens = torch.from_numpy(batches[step].astype("int64")).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tokens[:, 1:].flatten()
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - started
            print(f"step {step + 1}/{steps}  loss {loss.item():.3f}  {seconds:.0f} s", flush=True)


def save(model: Any, tokenizer: Any, out: Path, notes: dict[str, object]) -> None:
    """The folder as `from_pretrained` reads it, the weights in bfloat16."""
    import torch

    model.to("cpu").to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "pretrain.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2_500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1_000)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    import torch
    import transformers

    # Seeds of its own: the catalogue's texts come from `Random("catalogue N")`.
    sample = Layouts(Random(f"tokenizer {args.seed}"))
    tokenizer = make_tokenizer([sample.text() for _ in range(30_000)])
    model = make_model(tokenizer, args.seed)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(tokenizer):,} tokens", flush=True)
    layouts = Layouts(Random(f"pretrain {args.seed}"))
    started = time.monotonic()
    batches = make_batches(tokenizer, layouts, args.steps, args.batch)
    print(f"{batches.size:,} tokens of text in {time.monotonic() - started:.0f} s", flush=True)
    pretrain(model, batches, args.device, args.learning_rate)
    notes: dict[str, object] = {k: v for k, v in vars(args).items() if k != "out"}
    notes |= {"parameters": parameters, "seconds": round(time.monotonic() - started)}
    notes |= {"torch": torch.__version__, "transformers": transformers.__version__}
    save(model, tokenizer, args.out, notes)


if __name__ == "__main__":
    main()
