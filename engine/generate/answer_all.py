"""Every prompt answered by every column, and waited for: for commands."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from engine.generate.columns import Column
from engine.generate.prompt_files import with_system
from engine.generate.session import Session
from engine.generate.wire import Chunk, Messages
from engine.home import Home
from engine.recipe import GenerateSection

__all__ = ["generate_all"]


def generate_all(
    home: Home,
    columns: Sequence[Column],
    prompts: Sequence[str],
    sampling: GenerateSection | dict[str, Any] | None = None,
    *,
    on_status: Callable[[str], None] | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
    system: str = "",
    stay: float = 0.0,
    allow_beside_training: bool = False,
) -> list[dict[str, Any]]:
    """Blocking; ``on_chunk`` is told what comes as it comes.

    ``sampling``: settings of ``[generate]``; missing ones are the first column's. ``system``: a
    message before every prompt. ``stay``: seconds that the worker stays warm afterwards.
    ``allow_beside_training``: also on a GPU that a run of this home trains on.

    Returns one dict for each prompt and column, in that order: prompt, column, label, text,
    stop_reason, tokens, seconds; and error, in words, where a column could not answer a prompt.
    Raises :class:`UserError` when a model cannot be loaded.
    """
    if not isinstance(sampling, GenerateSection):
        given = columns[0].recipe.generate.model_dump() | (sampling or {})
        sampling = GenerateSection.model_validate(given)
    asked = [with_system(prompt, system) for prompt in prompts]
    answers: dict[tuple[int, str], dict[str, Any]] = {
        (index, column.id): {
            "prompt": prompt,
            "column": column.id,
            "label": column.label,
            "text": "",
            "stop_reason": None,
            "tokens": 0,
            "seconds": 0.0,
        }
        for index, prompt in enumerate(prompts)
        for column in columns
    }

    def say(column: str | None, words: str) -> None:
        if on_status is not None and words:
            on_status(words)

    session = Session.open(
        home, columns, say, warm_up=False, allow_beside_training=allow_beside_training
    )
    asyncio.run(_all(session, asked, sampling, answers, on_chunk, stay))
    return list(answers.values())


async def _all(
    session: Session,
    prompts: Sequence[str | Messages],
    sampling: GenerateSection,
    answers: dict[tuple[int, str], dict[str, Any]],
    on_chunk: Callable[[Chunk], None] | None,
    stay: float,
) -> None:
    async with session:
        await session.ready()
        if stay:
            await session.stay(stay)
        settings = dict.fromkeys(session.columns, sampling)
        async for chunk in session.ask_many(prompts, settings, stream=on_chunk is not None):
            if on_chunk is not None:
                on_chunk(chunk)
            answer = answers[chunk.prompt, chunk.column]
            answer["text"] += chunk.text_delta
            if chunk.error is not None:
                answer["error"] = chunk.error
            if chunk.done:
                answer["stop_reason"] = chunk.stop_reason
                answer["tokens"] = chunk.tokens
                answer["seconds"] = chunk.seconds
