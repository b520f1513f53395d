"""One row in words: why it was dropped, what it says, what the model sees of it."""

from typing import Any

from engine.text import safe_line, steady
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, WARM, Run

__all__ = ["example_runs", "row_runs", "why"]

WHY = {
    "malformed": "not readable",
    "missing_field": "column missing",
    "not_text": "column is not text",
    "empty_prompt": "empty prompt",
    "empty_completion": "empty completion",
    "duplicate_completion": "completion again",
    "duplicate_prompt": "prompt again",
    "duplicate_both": "both again",
    "near_duplicate": "nearly again",
    "echo": "repeats the prompt",
    "placeholder": "says nothing",
    "wrong_language": "another language",
    "python": "own rule",
}
"""Dropping rules in words short enough for a column; the rule's own name stands in the row."""


def why(rule: str) -> str:
    return WHY.get(rule, rule.replace("_", " "))


def row_runs(view: str, row: dict[str, Any]) -> list[Run]:
    """One row whole, as runs for a text pane. Outside text is made safe here."""
    runs: list[Run] = [(f"line {row['line']:,} of the source", QUIET)]
    if view == "dropped":
        evidence = f": {_line(row['evidence'])}" if row.get("evidence") else ""
        runs += [
            ("\n\ndropped  ", QUIET),
            (f"{why(row['rule'])}{evidence}", BOLD),
            (f"  (rule {_line(row['rule'])})", QUIET),
        ]
    if row.get("file"):
        runs.append((f"  {_line(row['file'])}, line {row['file_line']:,} of it", QUIET))
    if "raw" in row:
        runs += [("\n\nas it is in the file\n", ACCENT), (steady(_short(row["raw"])), PLAIN)]
        return runs
    if row.get("messages"):
        parts = [(message["role"], message["content"]) for message in row["messages"]]
    else:
        names = ("system", "instruction", "prompt", "completion")
        parts = [(name, row.get(name) or "") for name in names]
    for name, text in parts:
        if text:
            runs += [(f"\n\n{_line(name[:40])}\n", ACCENT), (steady(_short(text)), PLAIN)]
    return runs


def _line(text: str) -> str:
    return steady(safe_line(text))


def _short(text: str, limit: int = 400_000) -> str:
    """Wrapping more than this would hold up the screen."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} more characters are not shown"


def example_runs(seen: dict[str, Any]) -> list[Run]:
    """The formatted text of one row, with what is worth knowing about its tokens above it."""
    tokens = seen["tokens"]
    trained = sum(bool(token["trained"]) for token in tokens)
    runs: list[Run] = [(f"{len(tokens)} tokens, {trained} of them trained", QUIET)]
    if seen["truncated_at"] is not None:
        runs.append((f"\n✂ cut at {seen['truncated_at']} of {seen['length']} tokens", WARM))
        if lost := seen.get("answer_cut"):
            runs.append((f"; {lost} tokens of the answer are never seen", WARM))
    if not trained:
        runs.append(("\n! nothing of it is trained", WARM))
    elif not seen["eos_trained"]:
        runs.append(("\n! the end of the text is not trained", WARM))
    if seen.get("double_bos", seen["bos_count"] > 1):
        runs.append((f"\n! {seen['bos_count']} beginning-of-text tokens", WARM))
    if unknown := seen.get("unknown_tokens"):
        runs.append((f"\n! {unknown} tokens that the model does not know", WARM))
    return [*runs, ("\n\n", PLAIN), (steady(_short(seen["text"])), PLAIN)]
