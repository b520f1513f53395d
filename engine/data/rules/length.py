"""Rules ``empty`` and ``length``: rows with too little or too much in them."""

from collections.abc import Callable

from engine.data.rows import Row, given
from engine.data.rules.row import Verdict
from engine.sections.data import LengthRule

__all__ = ["Empty", "Length"]


class Empty:
    """Rule ``empty``: nothing but white space to answer, or in the answer.

    Rows of shape "text" have no prompt, so none can be missing.
    """

    name = "empty"
    reasons = ("empty_prompt", "empty_completion")

    def __init__(self, shape: str = "pair") -> None:
        self._prompt = shape != "text"

    def __call__(self, row: Row) -> Row | Verdict:
        if self._prompt and _blank(row.prompt) and _blank(given(row)):
            return Verdict("empty_prompt", "")
        if _blank(row.completion):
            return Verdict("empty_completion", "")
        return row


def _blank(text: str) -> bool:
    return not text or text.isspace()


class Length:
    """Rule ``length``. The prompt's length is that of all that is given, system message aside.

    Raises:
        UserError: tokens are to be counted and the model's tokenizer cannot be read.
    """

    name = "length"
    reasons = ("too_short", "too_long")

    def __init__(self, rule: LengthRule, model_name_or_path: str, shape: str = "pair") -> None:
        self._min, self._max = rule.min, rule.max
        self._unit = rule.unit.removesuffix("s")
        self._completion = rule.of != "prompt"
        self._prompt = rule.of != "completion" and shape != "text"
        self._both = rule.of == "both"
        self._count: Callable[[str], int] = len
        if rule.unit == "tokens":
            self._count = _token_counter(model_name_or_path)

    def __call__(self, row: Row) -> Row | Verdict:
        if self._prompt and (verdict := self._look("prompt", given(row))):
            return verdict
        if self._completion and (verdict := self._look("completion", row.completion)):
            return verdict
        return row

    def _look(self, which: str, text: str) -> Verdict | None:
        count = self._count(text)
        if count < self._min:
            reason = "too_short"
        elif self._max and count > self._max:
            reason = "too_long"
        else:
            return None
        evidence = f"{count} {self._unit}{'' if count == 1 else 's'}"
        return Verdict(reason, f"{which}: {evidence}" if self._both else evidence)


def _token_counter(model_name_or_path: str) -> Callable[[str], int]:
    from engine.data.tokenizer_files import load_tokenizer_files

    tokenizer = load_tokenizer_files(model_name_or_path).tokenizer

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count
