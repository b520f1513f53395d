"""Fixed prompts that are answered at every evaluation, so that one sees the text change."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.data.tokens import Formatter
from engine.recipe import Recipe

if TYPE_CHECKING:
    from engine.generate.models import Base
    from engine.generate.sampling import Cancelled

__all__ = ["Prompt", "Sampling", "generate", "sample_prompts"]


@dataclass(frozen=True)
class Prompt:
    """One fixed prompt, tokenised as in training."""

    text: str
    """What a person would call the prompt: the row's own, or the last turn before the answer."""
    ids: list[int]
    reference: str | None
    """The row's own answer; None for a prompt of the recipe's."""


@dataclass(frozen=True)
class Sampling:
    """What is answered at every evaluation, and which tokens end an answer."""

    prompts: list[Prompt]
    stop_ids: list[int]
    pad_id: int


def sample_prompts(
    recipe: Recipe, formatter: Formatter, validation: pa.Table, shape: str
) -> list[Prompt]:
    """``evaluate.sample_prompts``, or the first ``evaluate.sample_rows`` rows of validation.

    A bare text has no prompt, so rows of that shape give none.
    """
    section = recipe.evaluate
    if section.sample_prompts:
        return [Prompt(p, formatter.prompt_ids(p), None) for p in section.sample_prompts]
    table = validation.slice(0, section.sample_rows)
    if not table.num_rows or shape == "text":
        return []
    found = []
    for number, example in enumerate(formatter.examples(table, shape=shape)):
        start = _last_answer(example.completion_mask)
        if start is None:
            continue
        row = table.slice(number, 1)
        prompt, reference = _words(row)
        found.append(Prompt(prompt, example.input_ids[:start], reference))
    return found


def _last_answer(mask: list[int]) -> int | None:
    """Where the last run of ones begins; None when there is none, or nothing before it."""
    end = len(mask)
    while end and not mask[end - 1]:
        end -= 1
    start = end
    while start and mask[start - 1]:
        start -= 1
    return start or None


def _words(row: pa.Table) -> tuple[str, str]:
    if "messages" in row.schema.names:
        messages = row.column("messages").to_pylist()[0]
        turns = [m["content"] for m in messages]
        return (turns[-2] if len(turns) > 1 else ""), turns[-1]
    first = row.to_pylist()[0]
    own = str(first.get("prompt") or first.get("instruction") or "")
    return own, str(first["completion"])


@contextlib.contextmanager
def _answering(model: Any, for_generation: Callable[[Any], Any] | None) -> Iterator[None]:
    """The model in evaluation mode with its cache, and as it was afterwards."""
    was_training, cached = model.training, model.config.use_cache
    undo = for_generation(model) if for_generation else None
    model.eval()
    model.config.use_cache = True
    try:
        yield
    finally:
        model.config.use_cache = cached
        if undo:
            undo()
        model.train(was_training)


def generate(
    model: Any,
    sampling: Sampling,
    tokenizer: Any,
    *,
    max_new_tokens: int,
    autocast: Callable[[], Any],
    base: "Base | None" = None,
    for_generation: Callable[[Any], Any] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[str]:
    """The model's greedy answers (the most likely token each time), one a prompt.

    ``base`` is the model once more, borrowed: it then answers from slots if they fit it, else all
    prompts are one batch of Transformers' ``generate``. ``cancelled()`` is asked after every token;
    the answers then end early. ``for_generation(model)`` may change the model and returns what
    undoes it. The model is afterwards as it was; draws no random numbers.
    """
    from engine.generate.sampling import Cancelled

    stop = Cancelled(cancelled)
    with _answering(model, for_generation), autocast():
        rows = _in_slots(base, sampling, max_new_tokens, stop) if base else None
        if rows is None:
            rows = _by_generate(model, sampling, max_new_tokens, stop)
    return [
        tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row in rows
    ]


def _in_slots(
    base: "Base", sampling: Sampling, room: int, stop: "Cancelled"
) -> list[list[int]] | None:
    """Token ids of the answers without what ended them; None where slots do not fit the model.

    The step is recorded anew each time: weights may lie elsewhere by the next (a best checkpoint
    was loaded), and what a recording holds would be missing in training.
    """
    import torch

    from engine.generate.batching import Asked, answer_in_slots, most_room
    from engine.generate.fit import leave_slots, take_slots
    from engine.generate.mixing import BASE

    ends = frozenset(sampling.stop_ids)
    asked = [Asked(prompt.ids, BASE, 0, room, ends) for prompt in sampling.prompts]
    if not all(one.prompt for one in asked):
        return None
    try:
        if take_slots(base, most_room(base, asked), asked[0].prompt):
            return None
        answer_in_slots(base, asked, lambda *_: None, stop)
    except RuntimeError as error:  # no fast way of sampling is worth a run
        base.misfit = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        print(f"samples are answered the slow way: {base.misfit}", file=sys.stderr)
        return None
    finally:
        leave_slots(base)
        if base.device.startswith("cuda"):
            torch.cuda.empty_cache()  # a recording's memory is nobody else's until then
    return [one.ids for one in asked]


def _by_generate(model: Any, sampling: Sampling, room: int, stop: "Cancelled") -> list[list[int]]:
    """The same by Transformers' ``generate``, padded on the left."""
    import torch
    from transformers import GenerationConfig

    prompts, ends, pad = sampling.prompts, sampling.stop_ids, sampling.pad_id
    device = model.get_input_embeddings().weight.device
    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, prompt in enumerate(prompts):
        ids[number, longest - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[number, longest - len(prompt.ids) :] = 1
    config = GenerationConfig(
        max_new_tokens=room,
        do_sample=False,
        repetition_penalty=1.0,  # else the model's own
        pad_token_id=pad,
        eos_token_id=ends,
        use_cache=True,
    )
    with torch.no_grad():
        made = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=config,
            stopping_criteria=[stop],
        )
    rows = [list(row) for row in made[:, longest:].tolist()]
    return [
        row[: next((place for place, token in enumerate(row) if token in ends), len(row))]
        for row in rows
    ]
