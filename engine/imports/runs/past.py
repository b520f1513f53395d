"""A run of another program, as far as what it left behind tells; one for every source."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["End", "Event", "Past"]

Event = dict[str, Any]


@dataclass(frozen=True)
class End:
    """How a run ended, as far as its source says so."""

    state: str
    """One of ``engine.history.row.ENDS``; "finished" only where the source says that all steps
    were done."""
    reason: str = ""
    """In words, for every state but "finished"."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """``train_loss``, ``exit_code``: what else the journal's last lines tell."""


@dataclass(frozen=True)
class Past:
    """What an importer hands over. Texts are outside text: nothing of them names a file here."""

    source: str
    """Word of ``--from``."""
    tool: str
    """For people: "TRL", "LLaMA-Factory", "Unsloth Studio", ..."""
    path: Path
    """Absolute, links resolved."""
    name: str
    """What the run could be called."""
    began: float
    """Unix seconds, as all times."""
    ended: float
    times: str
    """Where the times come from."""
    events: Callable[[], Iterator[Event]]
    """``metrics``, ``evaluation``, ``checkpoint`` and, where steps were done again, ``state``
    events in order, each with ``t`` and ``attempt``. Raises UserError naming file and place."""
    end: End
    fingerprint: str
    """Of the history's file: a folder that was copied is known again, one that went on is not."""
    key: str = ""
    """Which run it is of a source that holds several."""
    parent_key: str = ""
    """The one that it goes on from."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``section.key`` of a recipe -> value, as far as known."""
    remarks: tuple[str, ...] = ()
    """About the settings: what is another value here, what was left out."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the journal's ``running`` line: ``max_steps``, ``versions``, ``gpu``, ..."""
    notes: tuple[str, ...] = ()
    """What did not come along, and why."""
    weights: str = ""
    """Where the weights lie; they are not copied."""
