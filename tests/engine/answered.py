"""What tests of answering share: the built-in model's answers, by text, end and tokens."""

from typing import Any

from engine.generate.answering import Row, answer
from engine.generate.models import Voice
from engine.generate.sampling import Cancelled
from engine.recipe import GenerateSection

SAMPLED = {"do_sample": True, "temperature": 1.5, "seed": 7}


def answers(
    voices: list[Voice], texts: list[str], cancelled: Cancelled | None = None, **more: Any
) -> dict[tuple[str, int], tuple[str, str, int]]:
    """(column, number) -> text, reason of the end, tokens; every answer ends exactly once."""
    pieces: dict[tuple[str, int], str] = {}
    ends: dict[tuple[str, int], dict[str, Any]] = {}

    def emit(row: Row, text: str, end: dict[str, Any] | None, odds: Any) -> None:
        key = (row.voice.column.id, row.prompt_index)
        assert key not in ends
        pieces[key] = pieces.get(key, "") + text
        if end:
            ends[key] = end

    settings = GenerateSection(**{"max_new_tokens": 40, **more.pop("settings", {})})
    answer(voices, texts, settings, emit, cancelled or Cancelled(), **more)
    assert len(ends) == len(texts) * len(voices)
    return {key: (pieces[key], end["stop_reason"], end["tokens"]) for key, end in ends.items()}
