"""What the Play screen keeps and finds again: prompts, sets, votes, evaluations."""

import re
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.history.ingest import reindex
from engine.history.store import open_store
from engine.home import Home, open_home
from engine.recipe import GenerateSection
from engine.text import UNSAFE
from tests.tui.test_play import HOSTILE
from tui import ballot, closely, evaluated, promptrows
from tui.answertext import Answer
from tui.lineup import Seat


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def seat(ref: str, text: str) -> Seat:
    return Seat(ref, f"label of {ref}", answer=Answer("", text, stop_reason="eos", tokens=3))


def test_win_rates_are_the_votes_whatever_side_they_stood_on(home: Home) -> None:
    a, b = seat("one", "A text."), seat("two", "Another.")
    own = seat("one", "Hot.")
    own.sampling = {"temperature": 1.5}
    cast = [((a, b), "left"), ((b, a), "right"), ((a, b), "right"), ((b, a), "tie"),
            ((own, b), "both bad")]  # fmt: skip
    ids = [
        ballot.cast_vote(
            home, "Oak", "wares:test", pair, verdict,
            blind=True, reference="r", sampling=GenerateSection(),
        )
        for pair, verdict in cast
    ]  # fmt: skip
    ballot.note_vote(home, ids[0], "shorter")
    text = "\n".join(ballot.win_rate_lines(home))
    assert "1 won, 2 lost, 1 tie, 1 both bad" in text and "33%" in text
    assert "on wares:test" in text
    ballot.take_back(home, ids[2])
    assert "0 won, 2 lost, 1 tie" in "\n".join(ballot.win_rate_lines(home))
    store = open_store(home)
    reindex(home, store)
    from engine.history.votes import votes

    newest = {vote.id: vote for vote in votes(store)}
    assert newest[ids[0]].note == "shorter" and ids[2] not in newest
    assert newest[ids[4]].left.sampling["temperature"] == 1.5, "what repeats the answer"
    assert newest[ids[4]].right.sampling["temperature"] == 0.7
    store.close()


def test_prompts_are_found_again_and_kept_in_sets(home: Home) -> None:
    turns = [{"role": "user", "content": "Red lamp"}]
    for prompt in ("Oak bench", HOSTILE[:100], turns, "Oak bench"):
        promptrows.remember(home, prompt, "typed")
    found = promptrows.asked_before(home)
    assert found[0] == "Oak bench" and turns in found and len(found) == 3
    assert not any(re.search(f"[{UNSAFE}]", promptrows.in_a_line(one)) for one in found)
    assert promptrows.asked_before(home, "lamp") == [turns]
    assert promptrows.keep_in_set(home, "mine", "Oak bench", "oiled") == 1
    assert promptrows.keep_in_set(home, "mine", turns, "") == 2
    assert promptrows.set_names(home) == [("mine", 2)]
    row = promptrows.set_row(home, "mine", 2)
    assert (row.number, row.count, row.prompt, row.reference) == (0, 2, "Oak bench", "oiled")
    assert row.source == "mine" and promptrows.set_row(home, "mine", 1).reference == ""
    with pytest.raises(UserError, match="no saved prompts"):
        promptrows.set_row(home, "other", 0)


def test_a_close_look_without_an_index(home: Home) -> None:
    assert closely.open_copies(home, None) is None
    assert closely.open_copies(home, "no-such-run") is None
    loops = Answer("", "a good item for the home and " * 20)
    fine, failed = Answer("", "One sentence."), Answer("", "x " * 100, error="cut")
    closely.look([loops, fine, failed], None)
    assert loops.repeats and not fine.repeats and not failed.repeats and fine.copied is None


def evaluation(label: str) -> dict[str, Any]:
    value = {"rouge1": 0.5, "rouge1_ci": [0.4, 0.6], "rows": 2}
    return {
        "id": "e1",
        "run": "r",
        "on": label,
        "rows": 2,
        "columns": [{"id": "base", "label": label}, {"id": "r", "label": label}],
        "base": "base",
        "metrics": {"base": value, "r": value},
        "differences": {"r": {"rouge1": {"difference": 0.1, "ci": [0.0, 0.2], "p": 0.03}}},
        "definitions": {"rouge1": label},
        "better": {"rouge1": "higher"},
    }


def test_an_evaluation_is_a_table_and_samples(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.history import evaluated as kept

    with pytest.raises(UserError, match="nothing was evaluated yet: tunebench evaluate r"):
        evaluated.evaluation_runs(home, "r", "")
    scores = [[[10.0, 0.1, 0.0, 4], [20.0, 0.2, 0.0, 5]], [[30.0, 0.1, 0.0, 4], [5.0, 0.2, 0.0, 5]]]
    kept.add_evaluation(home, evaluation(HOSTILE[:200]), [0, 1], scores)
    _, runs = evaluated.evaluation_runs(home, "r", "")
    text = "".join(part for part, _ in runs)
    assert "0.500 [0.400, 0.600]" in text and "p=0.030 better" in text
    assert "\x1b" not in text and "\x9b" not in text
    answer = {"label": HOSTILE[:50], "text": HOSTILE[:300], "scores": {"row_chrf": 5.0}}
    sample = {"row": 1, "prompt": [{"role": "user", "content": HOSTILE[:100]}],
              "reference": HOSTILE[:100], "answers": [answer]}  # fmt: skip
    monkeypatch.setattr(kept, "samples_of", lambda *asked: [sample])
    title, runs = evaluated.evaluation_runs(home, "r", "worst")
    text = "".join(part for part, _ in runs)
    assert "score worst" in title and "row 2" in text and "chrF 5.0" in text
    assert "\x1b" not in text and "\x9b" not in text and title.isprintable()
