"""Votes of the Play screen: cast, taken back, and counted in words."""

from typing import TYPE_CHECKING, Any

from engine.text import clip
from tui.lineup import Seat

if TYPE_CHECKING:
    from engine.home import Home
    from engine.recipe import GenerateSection

__all__ = ["VERDICTS", "cast_vote", "note_vote", "take_back", "win_rate_lines"]

VERDICTS = {
    "left": "left is better",
    "right": "right is better",
    "tie": "a tie",
    "both bad": "both are bad",
}


def cast_vote(
    home: "Home",
    prompt: Any,
    prompt_set: str,
    pair: tuple[Seat, Seat],
    verdict: str,
    *,
    blind: bool,
    reference: str,
    sampling: "GenerateSection",
) -> str:
    """Keep a vote with everything that repeats the answers; returns its id.

    Raises :class:`UserError` when it cannot be written.
    """
    from engine.history.votes import Side, add_vote

    def side(seat: Seat) -> Side:
        answer = seat.answer
        return Side(
            column=getattr(seat.column, "ref", "") or seat.ref,  # by the run's id, if by its name
            label=seat.label,
            text=answer.text,
            sampling=seat.settings(sampling).model_dump(),
            stop_reason=answer.stop_reason,
            tokens=answer.tokens,
        )

    left, right = map(side, pair)
    return add_vote(
        home,
        prompt=prompt,
        prompt_set=prompt_set,
        left=left,
        right=right,
        verdict=verdict,
        blind=blind,
        reference=reference or None,
    )


def note_vote(home: "Home", id: str, note: str) -> None:
    from engine.history.votes import set_vote_note

    set_vote_note(home, id, note)


def take_back(home: "Home", id: str) -> None:
    from engine.history.votes import withdraw_vote

    withdraw_vote(home, id)


def win_rate_lines(home: "Home") -> list[str]:
    """Every pair that was voted on: who won how often, and how sure that is. In a thread."""
    from engine.history.votes import win_rates
    from tui.looking import looking

    with looking(home) as store:
        found = [*win_rates(store), *win_rates(store, by_set=True)]
    lines: list[str] = []
    for one in found:
        heading = f"{clip(one.b_label, 30)} against {clip(one.a_label, 30)}"
        if one.prompt_set is not None:
            heading += f", on {clip(one.prompt_set, 40) or 'prompts of no set'}"
        decided = one.a_wins + one.b_wins
        lines.append(heading)
        if one.rate is None:
            lines.append("  no vote decided between them")
        else:
            lines.append(
                f"  wins {one.rate:.0%} of {decided} decided "
                f"(95 %: {one.low:.0%} to {one.high:.0%})"
            )
        lines.append(
            f"  {one.b_wins} won, {one.a_wins} lost, {one.ties} tie{'s' * (one.ties != 1)}, "
            f"{one.both_bad} both bad"
        )
        lines.append("")
    return lines or ["No votes yet: b begins a blind round."]
