"""Whether the slots of ``engine.generate`` answer what Transformers' ``generate`` answers.

Of the trained built-in model, greedily: random weights choose between nearly equal tokens, so that
agreement means little there. Used by ``tests.bench.generation --check`` and by the tests.
"""

import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from engine.builtin import BUILTIN_BASE
from engine.generate.answering import Row, answer
from engine.generate.batching import Asked, answer_in_slots
from engine.generate.columns import Column, column_for
from engine.generate.fit import leave_slots, take_slots
from engine.generate.mixing import BASE
from engine.generate.models import Base, Models, Voice
from engine.generate.sampling import Cancelled
from engine.home import Home
from engine.recipe import GenerateSection
from tests import tiny
from tests.bench.first_token import make_adapter

BATCH = 32
NEW_TOKENS = 60


def prompts(count: int, seed: int = 0) -> list[str]:
    """Titles of one to eight products, so that lengths differ."""
    random_ = random.Random(seed)
    titles = [row["title"] for row in tiny.rows(400, seed)]
    return [" with ".join(random_.choices(titles, k=random_.randint(1, 8))) for _ in range(count)]


def builtin_voice(home: Home, *settings: str) -> Voice:
    """The built-in model, loaded."""
    recipe = column_for(home, BUILTIN_BASE).recipe.with_settings(list(settings))
    return Models(lambda phase: None).voice(Column("base", "base", BUILTIN_BASE, None, recipe))


def generated(base: Base, batch: list[Asked], *, whole: bool = False) -> list[list[int]]:
    """One batch by ``generate``, padded on the left; ``whole``: nothing ends an answer early."""
    leave_slots(base)
    longest = max(len(one.prompt) for one in batch)
    pad = base.tokenizer.pad_token_id
    ids = torch.full((len(batch), longest), pad, dtype=torch.long)
    for number, one in enumerate(batch):
        ids[number, longest - len(one.prompt) :] = torch.tensor(one.prompt)
    lengths = torch.tensor([len(one.prompt) for one in batch])
    room = batch[0].room
    config = GenerationConfig(
        max_new_tokens=room,
        min_new_tokens=room if whole else None,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=sorted(base.ends),
    )
    with torch.inference_mode():
        made = base.bare.generate(
            input_ids=ids.to(base.device),
            attention_mask=(torch.arange(longest) >= longest - lengths[:, None]).to(base.device),
            generation_config=config,
        )
    answers = [list(row) for row in made[:, longest:].tolist()]
    return answers if whole else [_until_the_end(answer, base.ends) for answer in answers]


def _until_the_end(answer: list[int], ends: frozenset[int]) -> list[int]:
    end = next((n for n, token in enumerate(answer) if token in ends), len(answer))
    return answer[:end]


def in_slots(base: Base, asked: list[Asked]) -> list[list[int]]:
    """The same by slots."""
    if why := take_slots(base, max(one.need for one in asked), asked[0].prompt):
        raise RuntimeError(why)
    answer_in_slots(base, asked, lambda *_: None, Cancelled())
    return [one.ids for one in asked]


def ask(voice: Voice, texts: list[str]) -> list[Asked]:
    ids = [voice.formatter.prompt_ids(text) for text in texts]
    return [Asked(one, BASE, 0, NEW_TOKENS, voice.base.ends) for one in ids]


def same_answers(home: Home, device: str, count: int) -> list[dict[str, Any]]:
    """For each dtype how many answers are those of each prompt alone: by slots, and in batches."""
    found = []
    for dtype in ("float32", "bfloat16") if device == "cuda" else ("float32",):
        voice = builtin_voice(home, f"model.device={device}", f"model.dtype={dtype}")
        asked = ask(voice, prompts(count, 1))
        alone = [generated(voice.base, [one])[0] for one in asked]
        parts = [asked[start : start + BATCH] for start in range(0, count, BATCH)]
        padded = [answer for part in parts for answer in generated(voice.base, part)]
        slots = in_slots(voice.base, asked)
        found.append(
            {
                "dtype": dtype,
                "prompts": count,
                "by_slots": sum(a == b for a, b in zip(slots, alone, strict=True)),
                "by_generate_at_batch_32": sum(a == b for a, b in zip(padded, alone, strict=True)),
                **columns_as_alone(home, device, dtype, count),
            }
        )
    return found


def columns_as_alone(home: Home, device: str, dtype: str, count: int) -> dict[str, int]:
    """Base and two random adapters in one batch: how many answers are those of each column alone.

    Greedily and sampled; and one prompt at a time to all columns, as the playground asks.
    """
    voice = builtin_voice(home, f"model.device={device}", f"model.dtype={dtype}")
    voices = [voice]
    for seed, name in enumerate("ab"):
        folder = make_adapter(BUILTIN_BASE, Path(tempfile.mkdtemp()) / name, seed)
        column = replace(voice.column, id=name)
        adapter = voice.base.load_adapter(folder)
        voices.append(replace(voice, column=column, adapter=adapter))
    texts = prompts(count, 2)
    greedy = GenerateSection(max_new_tokens=NEW_TOKENS)
    seeded = greedy.model_copy(update={"do_sample": True, "temperature": 1.0, "seed": 5})
    found = {"answers_of_columns": len(voices) * count}
    for way, settings in (("greedy", greedy), ("seeded", seeded)):
        alone = {k: v for one in voices for k, v in _answers([one], texts, settings).items()}
        together = _answers(voices, texts, settings)
        one_by_one: dict[tuple[str, int], str] = {}
        for index, text in enumerate(texts):
            one_by_one |= _answers(voices, [text], settings, indices=[index])
        found[f"{way}_mixed"] = sum(together[key] == alone[key] for key in alone)
        found[f"{way}_side_by_side"] = sum(one_by_one[key] == alone[key] for key in alone)
    return found


def _answers(
    voices: list[Voice], texts: list[str], settings: GenerateSection, **more: Any
) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}

    def emit(row: Row, text: str, end: Any, pieces: Any) -> None:
        key = row.voice.column.id, row.prompt_index
        found[key] = found.get(key, "") + text

    answer(voices, texts, settings, emit, Cancelled(), **more)
    return found
