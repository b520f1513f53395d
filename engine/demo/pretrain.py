"""Makes the demo's base model from nothing.

On a GPU: `python -m engine.demo.pretrain OUT --device cuda`; on a CPU: without `--device`. The
command behind `base/`, its versions and measured seconds are in `base/pretrain.json`. On two CPU
cores only a few steps were tried: from those the whole is estimated at 5 to 20 hours.

Trains a byte-level BPE tokenizer and a Llama of 3.2 million parameters on the texts of
`engine.demo.layouts`. Everything is seeded: on a CPU the same versions and thread count give the
same weights again; on a GPU they differ in the last bits. Nothing at run time imports this module.
"""

import argparse
import copy
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
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


def make_model(tokenizer: Any, seed: int, layers: int, width: int) -> Any:
    """A Llama with heads of 32, tied embeddings and random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    end, eos = (tokenizer.convert_tokens_to_ids(token) for token in (END, EOS))
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
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


def _encode(work: tuple[str, str, float]) -> bytes:
    """The token ids of one seeded run of pages, each between BOS and END, as int16."""
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(work[0])
    layouts = Layouts(Random(work[1]), unrelated=work[2])
    end = tokenizer.token_to_id(END)
    pages = tokenizer.encode_batch([layouts.text() for _ in range(8192)])
    return np.array([t for page in pages for t in [*page.ids, end]], dtype=np.int16).tobytes()


def make_batches(
    tokenizer: Any, seed: int, unrelated: float, steps: int, batch: int, processes: int
) -> Any:
    """Packed token ids of shape (steps, batch, CONTEXT + 1), whatever the number of processes."""
    import numpy as np

    total = steps * batch * (CONTEXT + 1)
    source = tokenizer.backend_tokenizer.to_str()
    parts: list[Any] = []
    with get_context("spawn").Pool(processes) as pool:
        while (missing := total - sum(map(len, parts))) > 0:
            # 8,192 pages are some 600,000 tokens.
            more = range(len(parts), len(parts) + 1 + missing // 600_000)
            works = [(source, f"pretrain {seed} {part}", unrelated) for part in more]
            parts += [np.frombuffer(b, np.int16) for b in pool.imap(_encode, works)]
    return np.concatenate(parts)[:total].reshape(steps, batch, CONTEXT + 1)


def pretrain(
    model: Any,
    batches: Any,
    device: str,
    learning_rate: float,
    checkpoint: Callable[[int], None],
    graph: bool = True,
) -> None:
    """AdamW with warm-up and a cosine, next-token loss on packed texts.

    Args:
        model: trained in place, moved to `device`.
        batches: int16 token ids of shape (steps, batch, CONTEXT + 1).
        device: `cpu` or `cuda`.
        learning_rate: at the end of the warm-up.
        checkpoint: called with the steps done, about once a minute and at the end.
        graph: replay one captured step on CUDA: launching, not arithmetic, takes the time there.
    """
    import torch

    cuda = device != "cpu"
    model.to(device).train()
    parameters = list(model.parameters())
    rate: Any = torch.tensor(learning_rate, device=device) if cuda else learning_rate
    decayed = {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.05}
    plain = {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW(
        [decayed, plain], lr=rate, betas=(0.9, 0.98), fused=cuda, capturable=cuda
    )
    data = torch.from_numpy(batches).to(device)
    steps, size = data.shape[:2]
    warmup = max(1, steps // 20)
    tokens = torch.zeros((size, CONTEXT + 1), dtype=torch.int64, device=device)
    # Given ready-made, or Transformers looks for packed rows, which a graph cannot capture.
    mask = torch.ones((CONTEXT, CONTEXT), dtype=torch.bool, device=device).tril()[None, None]

    def step() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=cuda, cache_enabled=False):
            output = model(input_ids=tokens[:, :-1], attention_mask=mask, use_cache=False)
        loss = torch.nn.functional.cross_entropy(
            output.logits.float().flatten(0, 1), tokens[:, 1:].flatten()
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def prepare(done: int) -> None:
        share = (done + 1) / warmup
        if done >= warmup:
            turn = math.pi * (done - warmup) / max(1, steps - warmup)
            share = 0.02 + 0.49 * (1 + math.cos(turn))
        for group in optimizer.param_groups:
            if cuda:
                group["lr"].fill_(learning_rate * share)
            else:
                group["lr"] = learning_rate * share
        tokens.copy_(data[done])

    captured: Any = None
    started = saved = time.monotonic()
    for done in range(steps):
        prepare(done)
        if not (cuda and graph):
            loss = step()
        elif done < 3:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                loss = step()
            torch.cuda.current_stream().wait_stream(side)
        else:
            if captured is None:
                captured = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured):
                    loss = step()
            captured.replay()
        now = time.monotonic()
        if done % 100 == 0 or done == steps - 1:
            print(
                f"step {done + 1}/{steps}  loss {loss.item():.3f}  {now - started:.0f} s",
                flush=True,
            )
        if now - saved > 60 or done == steps - 1:
            checkpoint(done + 1)
            saved = time.monotonic()


def save(model: Any, tokenizer: Any, out: Path, notes: dict[str, object]) -> None:
    """The folder as `from_pretrained` reads it, the weights in bfloat16."""
    import torch

    copy.deepcopy(model).to("cpu", torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "pretrain.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1_000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=224, help="a multiple of 32")
    parser.add_argument("--unrelated", type=float, default=0.15, help="see `Layouts`")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--no-graph", action="store_true", help="no CUDA graph")
    args = parser.parse_args(argv)
    import tokenizers
    import torch
    import transformers

    started = time.monotonic()
    # Seeds of its own: the catalogue's texts come from `Random("catalogue N")`.
    sample = Layouts(Random(f"tokenizer {args.seed}"), invented=0.0)
    tokenizer = make_tokenizer([sample.text() for _ in range(30_000)])
    model = make_model(tokenizer, args.seed, args.layers, args.width)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(tokenizer):,} tokens", flush=True)
    batches = make_batches(
        tokenizer, args.seed, args.unrelated, args.steps, args.batch, args.processes
    )
    text_seconds = round(time.monotonic() - started)
    print(f"{batches.size:,} tokens of text in {text_seconds} s", flush=True)
    words = sys.argv[1:] if argv is None else argv
    notes: dict[str, object] = {
        "command": " ".join(["python -m engine.demo.pretrain", *words]),
        **{name: value for name, value in vars(args).items() if name != "out"},
        "parameters": parameters,
        "tokens": int(batches.size),
        "text_seconds": text_seconds,
        "hardware": torch.cuda.get_device_name() if args.device == "cuda" else platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }

    def checkpoint(done: int) -> None:
        seconds = {"seconds": round(time.monotonic() - started)}
        save(model, tokenizer, args.out, notes | {"steps_done": done} | seconds)

    pretrain(model, batches, args.device, args.learning_rate, checkpoint, not args.no_graph)


if __name__ == "__main__":
    main()
