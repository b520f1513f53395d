"""When the run evaluates, saves and stops, and which rows it keeps for that."""

import math
from dataclasses import dataclass

from engine.imports.draft import Draft

__all__ = ["TEST_SHARE", "Every", "rhythm", "split_shares"]

TEST_SHARE = 0.01
"""tunebench always keeps a test split, the other tools have none: as few rows as make sense."""


@dataclass(frozen=True)
class Every:
    """How often something happens: steps (1 and more), a share of all steps (below 1), or else."""

    key: str
    steps: float | None = None
    words: str = ""
    """What it is when it is not steps, such as "once an epoch"."""
    given: bool = True
    """Whether the file says so; else it is the tool's default."""


def rhythm(draft: Draft, evaluates: Every | None, saves: Every, best: bool, patience: int) -> None:
    """Set ``eval_steps``, ``save_steps``, ``load_best_model_at_end`` and early stopping.

    ``evaluates``: None where the tool evaluates nothing during this run. How many steps a run has
    is not known before its data is prepared, so shares and epochs only become steps where
    ``max_steps`` was put before; else tunebench's own number stands, and that is told.
    """
    _steps(draft, "train.save_steps", saves)
    if evaluates is None:
        draft.put(
            "train.eval_steps",
            draft.get("train.save_steps"),
            f"({draft.tool})",
            "nothing is evaluated there; tunebench always evaluates, here with every checkpoint",
        )
    else:
        _steps(draft, "train.eval_steps", evaluates)
    if patience and not best:
        draft.put(
            "train.load_best_model_at_end",
            True,
            "load_best_model_at_end",
            "early stopping keeps the best weights here; there the last ones",
        )
        best = True
    else:
        draft.put("train.load_best_model_at_end", best, "load_best_model_at_end")
        if not best and not draft.has("load_best_model_at_end"):
            draft.change(
                "load_best_model_at_end",
                "train.load_best_model_at_end",
                best,
                draft.default_words,
            )
    draft.put("train.early_stopping_patience", patience, "early_stopping_patience")
    every, save = draft.get("train.eval_steps"), draft.get("train.save_steps")
    if best and isinstance(every, int) and isinstance(save, int) and every > 0 and save % every:
        draft.put(
            "train.save_steps",
            math.ceil(save / every) * every,
            saves.key,
            f"was {save}; keeping the best weights needs a multiple of eval_steps ({every})",
        )


def _steps(draft: Draft, to: str, every: Every) -> None:
    steps, total = every.steps, draft.get("train.max_steps")
    if steps is not None and steps >= 1 and steps == int(steps):
        if every.given:
            draft.put(to, int(steps), every.key)
        else:
            draft.carry(every.key, to, int(steps))
    elif steps is not None and 0 < steps < 1 and isinstance(total, int) and total > 0:
        draft.put(to, max(1, round(steps * total)), every.key, f"{steps:g} of {total} steps")
    elif steps is not None and (steps < 0 or steps > 1):
        raise draft.wrong(every.key, f"must be whole steps or a share below 1, not {steps:g}")
    else:
        words = every.words or f"{steps:g} of all steps"
        source = "" if every.given else f"{draft.default_words}: "
        draft.put(
            to,
            draft.get(to),
            every.key,
            f"{source}{words}; how many steps that is, is not known before the data is prepared: "
            f"set {to}",
        )


def split_shares(draft: Draft, key: str, share: float, given: bool) -> None:
    """Set the three splits for a validation set of ``share`` of the rows; 0: there is none there.

    ``given``: whether the file says so.
    """
    if not 0 <= share < 1 - TEST_SHARE:
        raise draft.wrong(key, f"must be a share from 0 to below {1 - TEST_SHARE:g}, not {share:g}")
    validation = share or TEST_SHARE
    why = "" if given else f"{draft.default_words}: no validation set; "
    if not share:
        why += "tunebench keeps some rows for validation all the same"
        draft.put("split.validation", validation, key, why)
    else:
        draft.put("split.validation", validation, key)
    draft.put(
        "split.test",
        TEST_SHARE,
        f"({draft.tool})",
        "tunebench keeps rows that are only reported; they are not trained on",
    )
    draft.put(
        "split.train",
        round(1 - validation - TEST_SHARE, 6),
        f"({draft.tool})",
        "what validation and test leave",
    )
