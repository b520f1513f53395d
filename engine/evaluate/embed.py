"""Embeds predictions and references: an errand, torch lives here.

``python -m engine.evaluate.embed --answers FD HOME MODEL FILE``
"""

import json
import sys
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.generate.errand import Answers, serve_errand
from engine.home import Home
from engine.train.environment import set_environment

__all__ = ["embed"]

BATCH_TOKENS = 16_384
MOST_TOKENS = 512
"""Of a text, when neither tokenizer nor model says less."""
SPARE_BYTES = 4 << 30
"""Of a GPU's memory, free besides the weights: others may be training there."""


def embed(arguments: list[str], answers: Answers) -> dict[str, Any]:
    """``similarity``: the cosine of each pair of FILE, in order."""
    home, name, file = arguments
    set_environment(Home(Path(home)), name)
    pairs = json.loads(Path(file).read_text(encoding="utf-8"))
    answers.status("importing torch")
    import torch

    encoder = _Encoder(name, answers)
    texts = list(dict.fromkeys([*pairs["predictions"], *pairs["references"]]))
    vectors = encoder.vectors(texts)
    place = {text: number for number, text in enumerate(texts)}
    ours, theirs = (
        vectors[[place[text] for text in pairs[side]]] for side in ("predictions", "references")
    )
    found = torch.nn.functional.cosine_similarity(ours, theirs)
    return {"similarity": torch.nan_to_num(found).tolist()}


class _Encoder:
    """A Transformers encoder with its tokenizer."""

    def __init__(self, name: str, answers: Answers) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        self.answers = answers
        answers.status(f"loading {name}")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            # Never a pickle: use_safetensors.
            self.model = AutoModel.from_pretrained(name, use_safetensors=True).eval()
        except Exception as error:  # whatever a folder or the hub has instead of a model
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"--embedding-model {name}: cannot be loaded: {why}") from None
        self.device = "cpu"
        if torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info()
            weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
            self.device = "cuda" if free > weights + SPARE_BYTES else "cpu"
        self.model.to(self.device)
        config = self.model.config
        context = getattr(config, "max_position_embeddings", None) or MOST_TOKENS
        self.most = min(self.tokenizer.model_max_length, context, MOST_TOKENS)

    def vectors(self, texts: list[str]) -> Any:
        """Shape (texts, hidden), float32."""
        import torch

        ids = self.tokenizer(texts, truncation=True, max_length=self.most)["input_ids"]
        found = torch.zeros(len(texts), self.model.config.hidden_size)
        order = sorted(range(len(texts)), key=lambda number: -len(ids[number]))
        order = [number for number in order if ids[number]]
        start = 0
        while start < len(order):
            size = max(1, BATCH_TOKENS // len(ids[order[start]]))
            batch = order[start : start + size]
            found[batch] = self._of_batch([ids[number] for number in batch])
            start += size
            self.answers.status(f"embedding {start:,} of {len(order):,} texts")
        return found

    def _of_batch(self, rows: list[list[int]]) -> Any:
        import torch

        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.inference_mode():
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1)
        return ((hidden * weights).sum(1) / weights.sum(1)).float().cpu()


if __name__ == "__main__":
    sys.exit(serve_errand(embed))
