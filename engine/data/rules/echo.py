"""Rule ``echo``: the completion only says the prompt once more."""

from engine.data.rows import Row
from engine.data.rules.fold import fold
from engine.data.rules.row import Verdict

__all__ = ["Echo"]


class Echo:
    """Case, white space and punctuation do not count. An empty prompt has no echo."""

    name = "echo"
    reasons = ("echo",)

    def __call__(self, row: Row) -> Row | Verdict:
        if _same(row.prompt or row.instruction, row.completion):
            return Verdict("echo", "")
        return row


def _same(prompt: str, completion: str) -> bool:
    wanted = fold(prompt)
    if not wanted:  # nothing but punctuation
        return bool(words := prompt.split()) and words == completion.split()
    # Most completions differ in their first letters: no need to fold the rest.
    start = fold(completion[:40])
    return wanted.startswith(start[: len(wanted)]) and wanted == fold(completion)
