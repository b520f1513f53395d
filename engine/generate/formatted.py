"""What a column's model will really be given for a prompt: text and tokens. No torch."""

import json
from dataclasses import dataclass

from engine.data.tokens import Formatter
from engine.generate.columns import Column, loaded_recipe
from engine.generate.wire import Messages
from engine.model_files import find_file
from engine.recipe import Recipe

__all__ = ["Formatted", "formatted"]


@dataclass(frozen=True)
class Formatted:
    """A prompt in the format of one column. All of it may come from outside."""

    text: str
    """With the special tokens of the format; without a beginning-of-text that is only added."""
    tokens: list[tuple[int, str]]
    """Id, and the text that it stands for; empty where a server counts them, not we."""
    context: int | None
    """Tokens that the model has room for, the answer's included; None: nobody says."""

    @property
    def room(self) -> int | None:
        """Tokens that are left for the answer; below 1 the prompt is too long."""
        return None if self.context is None else self.context - len(self.tokens)


def formatted(column: Column, prompt: str | Messages) -> Formatted:
    """The prompt as the model gets it, tokenised as in training; takes a moment the first time.

    A server puts turns into its own format: of these there are only the turns themselves. Raises
    :class:`UserError` where the column's format has no place for the prompt.
    """
    if column.endpoint is not None or column.is_gguf:
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        lines = (f"[{turn['role']}]\n{turn['content']}" for turn in turns)
        return Formatted("\n\n".join(lines), [], None)
    recipe = loaded_recipe(column)
    formatter = Formatter.of(recipe)
    tokens = formatter.prompt_tokens(prompt)
    return Formatted(formatter.prompt(prompt), tokens, _context(recipe))


def _context(recipe: Recipe) -> int | None:
    """``max_position_embeddings`` of the model's configuration."""
    file = find_file(recipe.model.model_name_or_path, "config.json", recipe.model.revision)
    if file is None:
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        found = config.get("text_config", config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, int) else None
