"""Special tokens that a chat template uses and the model was never trained on. No torch.

A base model's vocabulary often has the tokens of a chat template without having seen one: their
embeddings are zero, all the same, or where they were put at first. With frozen embeddings no LoRA
can tell such tokens apart. The rows are read straight from the safetensors files.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.preflight.shape import stored_tensor
from engine.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from engine.preflight.resolve import Resolved

__all__ = ["Untrained", "untrained_tokens", "used_specials"]

EXAMPLES = 32
SAMPLED_ROWS = 2048
ZERO = 1e-3
"""A row of less than this share of the usual length counts as zero."""
NEAR = 0.1
"""A row that lies nearer to the mean of all than this share of the usual distance was put there."""


@dataclass(frozen=True)
class Untrained:
    token: str
    why: str


def used_specials(resolved: "Resolved") -> dict[int, str]:
    """Id -> spelling of the special tokens that occur in the first examples of train."""
    table = resolved.dataset.split("train").slice(0, EXAMPLES)
    seen: set[int] = set()
    for example in resolved.formatter.examples(table, shape=resolved.dataset.shape, offsets=False):
        seen.update(example.input_ids)
    specials = resolved.formatter.special_tokens
    return {number: text for text, number in specials.items() if number in seen}


def untrained_tokens(recipe: Recipe, resolved: "Resolved") -> list[Untrained]:
    """Special tokens of the examples with an input embedding that nobody trained.

    Empty where the embeddings are trained by this recipe, and where the weights are not here.
    """
    import numpy as np

    if not recipe.lora.enabled or "embed_tokens" in recipe.lora.modules_to_save:
        return []
    used = used_specials(resolved)
    used = {n: text for n, text in used.items() if text not in recipe.model.add_tokens}
    rows = _stored_rows(recipe)
    if not used or rows is None:
        return []
    every = max(1, len(rows) // SAMPLED_ROWS)
    sample = _float(rows[::every])
    mean = sample.mean(0)
    usual = float(np.median(np.linalg.norm(sample - mean, axis=1)))
    size = float(np.median(np.linalg.norm(sample, axis=1)))
    specials = resolved.formatter.special_tokens.values()
    twins = _twins(rows, [number for number in specials if number < len(rows)])
    found = []
    for number, text in sorted(used.items()):
        if number >= len(rows):
            found.append(Untrained(text, "is not in the model's vocabulary"))
            continue
        row = _float(rows[number : number + 1])[0]
        if float(np.linalg.norm(row)) <= ZERO * size:
            found.append(Untrained(text, "is zero"))
        elif number in twins:
            found.append(Untrained(text, "is the same as another special token's"))
        elif float(np.linalg.norm(row - mean)) < NEAR * usual:
            found.append(Untrained(text, "is the mean of all, as new tokens begin"))
    return found


def _stored_rows(recipe: Recipe) -> "np.ndarray | None":
    """The input embeddings as they lie in their file, mapped; None where there are none to read."""
    import numpy as np

    kinds = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}
    tensor = stored_tensor(recipe, "embed_tokens.weight")
    if tensor is None or tensor.dtype not in kinds or len(tensor.shape) != 2:
        return None
    return np.memmap(tensor.path, kinds[tensor.dtype], "r", tensor.start, tensor.shape)


def _float(rows: "np.ndarray") -> "np.ndarray":
    import numpy as np

    if rows.dtype == np.uint16:  # bfloat16 is the upper half of a float32
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)


def _twins(rows: "np.ndarray", numbers: list[int]) -> set[int]:
    """Which of these rows have a twin among them, bit for bit."""
    by_bytes: dict[bytes, list[int]] = {}
    for number in numbers:
        by_bytes.setdefault(rows[number].tobytes(), []).append(number)
    return {number for twins in by_bytes.values() if len(twins) > 1 for number in twins}
