"""The cleaning rules in their order: which are on, and what each did to the first rows."""

from rich.segment import Segment

from tui.rulesheet import READING, RuleSheet
from tui.ruletrial import Touch, Tryout
from tui.widgets.lines import BOLD, PLAIN, QUIET, WARM, Line
from tui.widgets.namedlines import Named, NamedLines

__all__ = ["RuleList", "rule_lines"]


def rule_lines(sheet: RuleSheet, seen: Tryout | None, width: int) -> list[Named]:
    """One line a rule under the heading of its stage, in at most ``width`` cells."""
    lines: list[Named] = []
    if seen is not None:
        kept, rows = seen.tried.kept, len(seen.tried.rows)
        lines.append(("", _spread(f"kept {kept:,}", f"of {rows:,}", BOLD, width)))
    lines.append((READING, _spread("    reading", _did(seen, READING), PLAIN, width)))
    for heading, rules in sheet.stages:
        lines.append(("", Line([Segment(heading, QUIET)])))
        for rule in rules:
            on = rule in sheet.on
            words = f"[{'x' if on else ' '}] {rule}"
            did = _did(seen, rule) if on else ""
            lines.append((rule, _spread(words, did, PLAIN if on else QUIET, width)))
    lines.append(("", Line([Segment("~changed -dropped !found", QUIET)])))
    return lines


def _did(seen: Tryout | None, rule: str) -> str:
    if seen is None:
        return "…"
    touch: Touch = seen.touch(rule)
    parts = (("~", touch.changed), ("-", touch.dropped), ("!", touch.found))
    return " ".join(f"{sign}{count:,}" for sign, count in parts if count) or "0"


def _spread(words: str, number: str, look: object, width: int) -> Line:
    space = " " * max(1, width - len(words) - len(number))
    numbers = WARM if "-" in number else QUIET
    return Line([Segment(words, look), Segment(space), Segment(number, numbers)])  # type: ignore[arg-type]


class RuleList(NamedLines):
    """A pane with all rules, a cursor among them."""

    KEEP_CURSOR = True

    def show_rules(self, sheet: RuleSheet, seen: Tryout | None) -> None:
        """``seen``: what came of the last trial, None while there is none."""
        self.show_named(lambda width: rule_lines(sheet, seen, width), keep=True)
