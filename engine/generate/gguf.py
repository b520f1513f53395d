"""GGUF files, answered by llama.cpp: its weights and tokenizer, our sampling, seeds and stops.

Needs llama-cpp-python, which nothing else here does. One answer at a time, in a thread of its own,
so that columns of other kinds stream beside it.
"""

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.data.formats import ALPACA_BARE
from engine.data.templates import ChatTemplate
from engine.errors import UserError
from engine.generate.batching import Asked, OnToken
from engine.generate.sampling import Cancelled, TokenPicker, odds_of
from engine.generate.wire import Messages

__all__ = ["GgufBase", "GgufFormatter", "needed_bytes", "uses_gpu"]

MOST_CONTEXT = 8192
"""Tokens at most: memory for all of them is taken at once, and models name up to a million."""


def uses_gpu() -> bool:
    """Whether this build of llama.cpp puts its layers on a GPU."""
    import llama_cpp

    return bool(llama_cpp.llama_supports_gpu_offload())


def needed_bytes(path: Path) -> int:
    """What a file takes once it is loaded: itself, and a share for its context."""
    return int(1.2 * path.stat().st_size) + (64 << 20)


class GgufBase:
    """A loaded file; to the rest what :class:`engine.generate.models.Base` is."""

    aside = True
    """It is answered in a thread of its own."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self.path, self.note, self.misfit, self.device = path, "", "", "cpu"
        try:
            known = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
            trained = known.metadata.get(f"{known.metadata['general.architecture']}.context_length")
            self.context = min(int(trained or MOST_CONTEXT), MOST_CONTEXT)
            known.close()
            self.llama = llama_cpp.Llama(
                str(path),
                n_ctx=self.context,
                n_gpu_layers=-1 if uses_gpu() else 0,
                verbose=False,
            )
        except (ValueError, KeyError, RuntimeError, AssertionError) as error:
            words = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: llama.cpp cannot load this file ({words})") from None
        vocabulary = self.llama._model.vocab
        numbers = range(self.llama.n_vocab())
        self.ends = frozenset(n for n in numbers if llama_cpp.llama_vocab_is_eog(vocabulary, n))
        self.special = {
            text: n
            for n in numbers
            if llama_cpp.llama_vocab_is_control(vocabulary, n)
            and (text := llama_cpp.llama_vocab_get_text(vocabulary, n).decode("utf-8", "replace"))
        }
        self.tokenizer = self  # of which only ``decode`` is used

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """The text of tokens; control tokens have none."""
        text: bytes = self.llama.detokenize(list(ids), special=False)
        return text.decode("utf-8", "replace")

    def answer(self, asked: Sequence[Asked], on_token: OnToken, cancelled: Cancelled) -> None:
        """One after the other, as :func:`engine.generate.plain.answer_by_generate`."""
        for one in asked:
            self._answer(one, on_token, cancelled)

    def _answer(self, one: Asked, on_token: OnToken, cancelled: Cancelled) -> None:
        picker = TokenPicker(one.settings, 1, self.llama.n_vocab(), "cpu")
        picker.begin(torch.tensor([0]), [one.prompt], [one.seed])
        self.llama.reset()
        step = list(one.prompt)
        while not cancelled.requested:
            self.llama.eval(step)
            logits = self._logits()
            chosen = picker.pick(logits)
            token = int(chosen)
            if token in one.ends:
                on_token(one, None, "eos")
                return
            one.ids.append(token)
            if one.probabilities:
                one.odds.append(float(odds_of(logits, chosen)))
            end = "length" if len(one.ids) >= one.room else None
            if on_token(one, token, end) or end:
                return
            step = [token]
        on_token(one, None, "cancelled")

    def _logits(self) -> torch.Tensor:
        """After the last token (1 x vocabulary)."""
        import llama_cpp

        address = llama_cpp.llama_get_logits_ith(self.llama.ctx, -1)
        count = self.llama.n_vocab()
        values = ctypes.cast(address, ctypes.POINTER(ctypes.c_float * count)).contents
        return torch.from_numpy(np.frombuffer(values, dtype=np.float32).copy())[None]

    def close(self) -> None:
        """Give its memory back; llama.cpp does not wait for the garbage collector."""
        self.llama.close()


class GgufFormatter:
    """Prompts by the file's own chat template; the bare instruction layout where it has none."""

    def __init__(self, base: GgufBase) -> None:
        self.base, self.llama = base, base.llama
        self.special_tokens, self.stop_ids = base.special, base.ends
        source = base.llama.metadata.get("tokenizer.chat_template")
        names = {number: text for text, number in base.special.items()}
        special = {
            "bos_token": names.get(base.llama.token_bos(), ""),
            "eos_token": names.get(base.llama.token_eos(), ""),
        }
        self._template = ChatTemplate(source, special, str(base.path)) if source else None
        longest_first = sorted(base.special, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def prompt_ids(self, prompt: str | Messages) -> list[int]:
        """The tokens that the model is given; special ones come from the template only."""
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        # Where a turn spells special tokens out, it is tokenised apart, as plain text.
        hidden: dict[str, str] = {}
        for number, message in enumerate(messages):
            if self._spelled.search(message["content"]):
                mark = f"\ue000{number}\ue001"
                hidden[mark], message["content"] = message["content"], mark
        if self._template is not None:
            text = self._template.render(messages, add_generation_prompt=True)
        else:
            text = self._bare(messages)
        ids: list[int] = []
        for piece in re.split("(\ue000[0-9]+\ue001)", text):
            whole = hidden.get(piece)
            if piece:
                ids += self.llama.tokenize(
                    (piece if whole is None else whole).encode("utf-8", "replace"),
                    add_bos=self._template is None and not ids,
                    special=whole is None,
                )
        return ids

    def _bare(self, messages: list[dict[str, str]]) -> str:
        system = ""
        if messages[:1] and messages[0]["role"] == "system":
            system, messages = messages[0]["content"] + "\n\n", messages[1:]
        if [message["role"] for message in messages] != ["user"]:
            raise UserError(
                f"{self.base.path}: the file has no chat template, so there is a place for one "
                "question only"
            )
        return system + ALPACA_BARE.replace("{prompt}", messages[0]["content"])
