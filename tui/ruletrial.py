"""What every rule does to the first rows of a source, for the Rules screen. Called in threads."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.recipe import Recipe
from tui.rulesheet import READING, rule_of

if TYPE_CHECKING:
    from engine.data.trial import Trial, Tried, TriedRow

__all__ = ["Touch", "Tryout", "try_rules"]


@dataclass
class Touch:
    """What one rule did."""

    rows: "list[TriedRow]" = field(default_factory=list)
    changed: int = 0
    dropped: int = 0
    found: int = 0
    """Rows that it only counts."""


@dataclass
class Tryout:
    """One trial: its outcome, and what each rule had a part in."""

    tried: "Tried"
    touched: dict[str, Touch]

    def touch(self, rule: str) -> Touch:
        return self.touched.get(rule) or Touch()


def try_rules(trial: "Trial", recipe: Recipe) -> Tryout:
    """Try a recipe's rules. Raises :class:`UserError` when a rule cannot work here.

    The trial says what each rule changed and dropped. What a rule only counts is found by a second
    trial in which it drops.
    """
    tried = trial.run(recipe)
    touched: dict[str, Touch] = {}
    for row in tried.rows:
        for rule in row.changed:
            touch = touched.setdefault(rule, Touch())
            touch.changed += 1
            touch.rows.append(row)
        if row.reason is not None:
            touch = touched.setdefault(rule_of(row.reason), Touch())
            touch.dropped += 1
            touch.rows.append(row)
    clean = recipe.clean
    personal, near = clean.personal_data, clean.near_duplicates
    if clean.has("personal_data") and personal.action == "flag":
        found = _instead(trial, tried, recipe, "personal_data", {"action": "drop"})
        touched["personal_data"] = Touch(found, found=len(found))
    if clean.has("near_duplicates") and near.action == "count":
        found = _instead(trial, tried, recipe, "near_duplicates", {"action": "drop"})
        touched["near_duplicates"] = Touch(found, found=len(found))
    for repair in tried.repairs:
        touched.setdefault(READING, Touch()).changed += tried.repairs[repair]
    return Tryout(tried, touched)


def _instead(
    trial: "Trial", tried: "Tried", recipe: Recipe, rule: str, options: dict[str, object]
) -> "list[TriedRow]":
    """The rows, as tried, that ``rule`` would drop with these options."""
    clean = recipe.clean
    other = getattr(clean, rule).model_copy(update=options)
    changed = recipe.model_copy(update={"clean": clean.model_copy(update={rule: other})})
    dropped = trial.run(changed).rows
    return [
        row
        for row, would in zip(tried.rows, dropped, strict=True)
        if would.reason is not None and rule_of(would.reason) == rule
    ]
