"""A home with something of everything that a history can hold."""

from typing import Any

from engine.history.benches import add_bench
from engine.history.evaluated import add_evaluation
from engine.history.marks import archive, rename_run, star
from engine.history.notes import add_note, add_tag, remove_tag
from engine.history.prompts import add_prompt, save_prompt_set
from engine.history.votes import Side, add_vote, set_vote_note, withdraw_vote
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.launch import create_run
from engine.recipe import load_recipe
from tests.engine.fakes.runs import write_run

__all__ = ["fill", "what_people_said"]

EVALUATION: dict[str, Any] = {
    "id": "e1",
    "on": "test",
    "rows": 2,
    "columns": [{"id": "base", "label": "base"}, {"id": "r", "label": "tuned"}],
    "base": "base",
    "metrics": {"base": {"rouge1": 0.5}, "r": {"rouge1": 0.6}},
}


def fill(home: Home, steps: int = 6) -> list[RunFolder]:
    """Three runs: one finished, one of a sweep that failed, one that went on in a second attempt;
    and every kind of event that the home's journal knows."""
    one = write_run(home, "first", steps)
    sweep = {"sweep": {"id": "sizes", "values": {"lora.r": 8}}}
    two = create_run(home, load_recipe("demo", ["lora.r=8"]), "second", more=sweep)
    journal = Journal(two.journal)
    journal.append("state", state="running", max_steps=steps, estimated_peak_bytes=9)
    journal.append("metrics", step=1, loss=float("nan"), peak_memory_bytes=12)
    journal.append("warning", message="a warning with its words")
    journal.append("error", kind="out_of_memory", message="no memory", needed_bytes=5)
    journal.append("state", state="failed", step=1, reason="no memory")
    journal.append("exit", exit_code=1, signal=None)
    journal.close()
    three = create_run(home, load_recipe("demo"), "third", parent=one.id)
    for attempt in (1, 2):
        journal = Journal(three.journal, attempt)
        journal.append("state", state="running", max_steps=9, resume_step=3 * (attempt - 1))
        for step in range(3 * attempt - 2, 3 * attempt + 2):
            journal.append("metrics", step=step, loss=1.0 / step, tokens=7)
        journal.append("state", state="stopped" if attempt == 1 else "finished", steps=step)
        journal.close()
    _annotate(home, one.id, two.id, three.id)
    return [one, two, three]


def _annotate(home: Home, one: str, two: str, three: str) -> None:
    add_note(home, one, "kept for its loss")
    add_note(home, three, "quotes \" and '; DROP TABLE notes; -- ünïcode")
    for tag in ("good", "bad", "again"):
        add_tag(home, one, tag)
    remove_tag(home, one, "bad")
    star(home, one)
    star(home, two)
    star(home, two, False)
    archive(home, two)
    rename_run(home, three, "third-renamed")
    sides = (Side(f"{one}@4", "first", "An answer."), Side("base", "base", "Another."))
    keep, gone = (
        add_vote(
            home, prompt="A prompt?", prompt_set="kettles", left=left, right=right, verdict="left"
        )
        for left, right in (sides, sides[::-1])
    )
    set_vote_note(home, keep, "shorter")
    withdraw_vote(home, gone)
    for _ in range(2):
        add_prompt(home, "Describe a kettle")
    save_prompt_set(home, "kettles", [{"prompt": "A prompt?", "reference": "A kettle."}])
    add_bench(home, {"id": "b1", "t": 1.0, "host": "h", "gpu": None, "state": "finished"})
    scores = [[[10.0, 0.1, 0.0, 4], [20.0, 0.2, 0.0, 5]], [[30.0, 0.1, 0.0, 4], [5.0, 0.2, 0.0, 5]]]
    add_evaluation(home, {**EVALUATION, "run": one}, [0, 1], scores)


def what_people_said(query: Any) -> dict[str, list[Any]]:
    """Notes, tags, votes and the like, by ``query`` (SQL -> rows): what must never be lost."""
    questions = {
        "notes": "SELECT run, text FROM notes ORDER BY id",
        "tags": "SELECT run, tag FROM tags ORDER BY run, tag",
        "names": "SELECT run, name FROM names ORDER BY run",
        "stars": "SELECT run FROM stars ORDER BY run",
        "archived": "SELECT run FROM archived ORDER BY run",
        "votes": "SELECT id, choice, note, document FROM votes ORDER BY id",
        "prompts": "SELECT key, times, words FROM prompts ORDER BY key",
        "prompt sets": "SELECT name, count FROM prompt_sets ORDER BY name",
        "set prompts": "SELECT place, prompt, reference FROM set_prompts ORDER BY set_id, place",
        "evaluated": "SELECT id, run, document FROM evaluated ORDER BY id",
    }
    return {name: query(sql) for name, sql in questions.items()}
