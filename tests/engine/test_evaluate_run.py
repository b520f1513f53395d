"""``evaluate RUN``: base and tuned answer the same rows; kept, gone on with, browsed, rebuilt."""

import asyncio
import hashlib
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from engine.data.dataset import open_dataset
from engine.errors import UserError
from engine.evaluate.answers import Answers
from engine.evaluate.copied import copy_rate
from engine.evaluate.embed import embed
from engine.evaluate.evaluation import evaluate_answers
from engine.evaluate.judge import rating
from engine.evaluate.rows import EvaluationRows, rows_for, trained_dataset
from engine.evaluate.statistics import COLUMNS, statistics
from engine.generate.columns import base_column, run_column
from engine.generate.copying import CopyIndex
from engine.generate.errand import Answers as ErrandAnswers
from engine.history.evaluated import SCORES, evaluations_of, samples_of
from engine.history.ingest import ingest_all
from engine.history.prompts import save_prompt_set
from engine.history.store import Store, open_store
from engine.home import Home
from engine.jobs.folder import RunFolder
from tests.engine.fakes.shell import Shell
from tests.engine.servers import Asked, serving, told


@pytest.fixture
def shell(tuned_home: Home, tuned_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tuned_home, capsys)


@pytest.fixture
def store(tuned_home: Home) -> Any:
    store = open_store(tuned_home)
    ingest_all(tuned_home, store)
    yield store
    store.close()


def answers(home: Home, document: dict[str, Any], store: Store) -> dict[str, list[str]]:
    """Column -> its texts, from the files that the evaluation names."""
    found = {}
    for column in evaluations_of(store, document["run"])[0]["columns"]:
        lines = (home.path / column["answers"]).read_text("utf-8").split("\n")[:-1]
        found[column["id"]] = [json.loads(line)["text"] for line in lines]
    return found


def test_base_and_tuned_in_one_document(
    shell: Shell, tuned_home: Home, tuned_run: RunFolder, tuned_model: None
) -> None:
    document = shell.json("evaluate", "tuned", "--rows", "12")
    assert document["split"] == "test" and document["source"] == "journal"
    assert document["perplexity"]["after"] == pytest.approx(math.exp(document["after"]))
    assert [column["id"] for column in document["columns"]] == ["base", tuned_run.id]
    test = open_dataset(tuned_home, "tiny").count("test")
    assert (document["answered_rows"], document["of_rows"]) == (12, test) and test > 12

    store = open_store(tuned_home)
    ingest_all(tuned_home, store)
    texts = answers(tuned_home, document, store)
    rows = rows_for(tuned_home, tuned_run, "test", 12)
    for column, its in texts.items():
        assert len(its) == 12
        found = statistics(its, rows.references, workers=0)
        wanted = found.of("rougeL").mean()
        assert document["metrics"][column]["rougeL"] == pytest.approx(wanted)
    difference = document["differences"][tuned_run.id]["chrf"]
    values = [document["metrics"][column]["chrf"] for column in ("base", tuned_run.id)]
    assert difference["difference"] == pytest.approx(values[1] - values[0])
    assert difference["ci"][0] <= difference["difference"] <= difference["ci"][1]
    assert 0 < difference["p"] <= 1
    store.close()


@pytest.fixture(scope="module")
def tuned_model(tuned_home: Home, tuned_run: RunFolder) -> Any:
    """A viewer that stays, so that torch is imported once."""
    from engine.generate.client import GenerationClient

    loop = asyncio.new_event_loop()
    tuned = run_column(tuned_run)
    client = GenerationClient.start(tuned_home, [base_column(tuned), tuned])
    loop.run_until_complete(client.__aenter__())
    loop.run_until_complete(asyncio.wait_for(client.ready(), 120))
    yield
    loop.run_until_complete(client.__aexit__())
    loop.close()


def test_a_second_evaluation_asks_nobody_and_journals_nothing(
    shell: Shell, tuned_home: Home, tuned_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shell.json("evaluate", "tuned", "--rows", "9")
    before = tuned_home.journal.read_bytes()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("engine.generate.answer_prompts.GenerationClient.start", never)
    assert shell.json("evaluate", "tuned", "--rows", "9") == first
    assert tuned_home.journal.read_bytes() == before
    alone = shell.json("evaluate", "tuned", "--rows", "9", "--no-base")
    assert list(alone["metrics"]) == [first["run"]] and alone["differences"] == {}
    assert alone["metrics"][first["run"]] == first["metrics"][first["run"]]


def test_an_interrupted_evaluation_goes_on(
    shell: Shell, tuned_home: Home, tuned_run: RunFolder, tuned_model: None
) -> None:
    words = ["evaluate", "tuned", "--on", "tiny:train", "--rows", "0", "--no-base"]
    words += ["--set", "generate.seed=1"]
    folder = tuned_run.path / "evaluations"
    known = set(folder.glob("answers-*"))
    command = [sys.executable, "-m", "engine.cli", *words, "--home", str(tuned_home.path)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (
        not (new := set(folder.glob("answers-*")) - known)
        or min(path.read_bytes().count(b"\n") for path in new) < 5
    ):
        assert worker.poll() is None and time.monotonic() < deadline, worker.communicate()
        time.sleep(0.005)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=30)
    (path,) = new
    held = path.read_bytes()
    total = open_dataset(tuned_home, "tiny").count("train")
    assert worker.returncode == 130 and "the same command goes on with it" in errors
    assert 5 <= held.count(b"\n") < total
    status, _, errors = shell(*words)
    assert status == 0 and f"{total - held.count(chr(10).encode()):,} new answers" in errors
    assert path.read_bytes().count(b"\n") == total
    assert set(held.splitlines()) <= set(path.read_bytes().splitlines())


def test_samples_are_ordered_and_survive_a_reindex(
    shell: Shell, tuned_home: Home, tuned_run: RunFolder, tuned_model: None, store: Store
) -> None:
    document = shell.json("evaluate", "tuned", "--rows", "20", "--samples", "worst", "--show", "3")
    assert len(document["samples"]) == 3
    ingest_all(tuned_home, store)
    own = document["evaluation"]
    everything = samples_of(store, own, "rows", 100)
    assert [sample["row"] for sample in everything] == list(range(20))
    rows = rows_for(tuned_home, tuned_run, "test", 20)
    texts = answers(tuned_home, document, store)
    tuned = statistics(texts[tuned_run.id], rows.references, workers=0)
    for sample in everything:
        number = sample["row"]
        base, own_answer = sample["answers"]
        assert sample["prompt"] == rows.prompts[number]
        assert sample["reference"] == rows.references[number]
        assert own_answer["text"] == texts[tuned_run.id][number]
        for name in SCORES:
            wanted = tuned.rows[number, COLUMNS.index(name)]
            assert own_answer["scores"][name] == pytest.approx(wanted, abs=1e-4)
        change = own_answer["scores"]["row_chrf"] - base["scores"]["row_chrf"]
        assert sample["change"] == pytest.approx(change, abs=1e-6)

    def key(order: str, sample: dict[str, Any]) -> float:
        score, change = sample["answers"][-1]["scores"]["row_chrf"], sample["change"]
        return {"best": -score, "worst": score, "changed": -abs(change), "gained": -change,
                "lost": change}[order]  # fmt: skip

    pages = {}
    for order in ("best", "worst", "changed", "gained", "lost"):
        pages[order] = [s for at in (0, 7, 14) for s in samples_of(store, own, order, 7, at)]
        assert pages[order] == sorted(everything, key=lambda one: (key(order, one), one["row"]))
    assert document["samples"] == pages["worst"][:3]

    shell.json("reindex")
    assert evaluations_of(store, tuned_run.id)[0]["id"] == own
    assert samples_of(store, own, "changed", 20) == pages["changed"]


def test_rows_that_a_column_could_not_answer_are_left_out_of_all(
    tuned_home: Home, tuned_run: RunFolder, store: Store, tmp_path: Path
) -> None:
    tuned = run_column(tuned_run)
    columns = [base_column(tuned), tuned]
    rows = EvaluationRows(["a", "b", "c", "d"], ["x y", "b", "c", "d"], "some", 4)

    def answered(place: int, texts: list[str], failed: dict[int, str]) -> Answers:
        path = tuned_run.path / "evaluations" / f"made-{place}.jsonl"
        lines = [{"text": text, "stop_reason": "eos"} for text in texts]
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        return Answers(columns[place], path, texts, failed, {"eos": len(texts)}, 9, digest)

    base = answered(0, ["x y", "", "c", "q"], {1: "too long"})
    own = answered(1, ["x", "b", "", "d"], {2: "timed out"})
    sampling = tuned.recipe.generate
    document = evaluate_answers(
        tuned_home, store, tuned_run.id, rows, [base, own], sampling, base="base"
    )
    assert document["rows"] == 2
    assert document["failed"] == {"rows": 2, "first": f"{base.column.label}: too long"}
    wanted = statistics(["x y", "q"], ["x y", "d"], workers=0).of("rouge1").mean()
    assert document["metrics"]["base"]["rouge1"] == pytest.approx(wanted)
    found = samples_of(store, document["id"], "rows")
    assert [(one["row"], one["prompt"], one["answers"][1]["text"]) for one in found] == [
        (0, "a", "x"),
        (3, "d", "d"),
    ]
    every = answered(1, ["", "", "", ""], dict.fromkeys(range(4), "401"))
    with pytest.raises(UserError, match=r"no row was answered by every column; .*401"):
        evaluate_answers(
            tuned_home, store, tuned_run.id, rows, [base, every], sampling, base="base"
        )


def test_texts_that_are_gone_or_changed_are_said_to_be(
    shell: Shell, tuned_home: Home, tuned_run: RunFolder, tuned_model: None, store: Store
) -> None:
    document = shell.json("evaluate", "tuned", "--rows", "7")
    ingest_all(tuned_home, store)
    path = tuned_home.path / evaluations_of(store, tuned_run.id)[0]["columns"][0]["answers"]
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'"text": "', b'"text": "x', 1))
    with pytest.raises(UserError, match="has changed since it was evaluated"):
        samples_of(store, document["evaluation"])
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        samples_of(store, document["evaluation"])
    again = shell.json("evaluate", "tuned", "--rows", "7")
    assert again["evaluation"] == document["evaluation"] and path.read_bytes() == kept
    with pytest.raises(UserError, match="no evaluation 'x'"):
        samples_of(store, "x")


def test_other_rows_and_other_columns(shell: Shell, tmp_path: Path, tuned_model: None) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text('title,content\nred oak lamp,"A red\nlamp"\nblue kettle,A blue kettle\n')
    document = shell.json("evaluate", "tuned", "--on", str(path), "--with", "builtin:base")
    assert [column["label"] for column in document["columns"]][1:] == ["builtin:base", "tuned"]
    assert set(document["differences"]) == {"builtin:base", document["run"]}
    assert document["answered_rows"] == 2 and "before" not in document
    status, shown, errors = shell("evaluate", "tuned", "--on", str(path), "--samples", "best")
    assert status == 0 and "[reference] A red␤lamp" in shown and "'title' for the prompts" in errors
    lines = [line for line in shown.split("\n") if line.startswith(" ")]
    count = len(lines)
    assert count >= 12 and all(len(line) <= 79 for line in lines)
    status, shown, _ = shell("evaluate", "tuned", "--on", str(path), "--with", "builtin:base")
    lines = [line for line in shown.split("\n") if line.startswith(" ")]
    assert len(lines) == 2 * count and all(len(line) <= 79 for line in lines)
    assert lines[count].split() == ["builtin:base", "-", "base", "tuned", "-", "base"]


def test_a_saved_set_and_what_is_copied(
    shell: Shell, tuned_run: RunFolder, tuned_model: None
) -> None:
    row = open_dataset(shell.home, "tiny").split("train").slice(0, 1).to_pylist()[0]
    save_prompt_set(
        shell.home,
        "mine",
        [{"prompt": "red oak lamp", "reference": "A red lamp"}, {"prompt": "x", "reference": "y"}],
    )
    document = shell.json("evaluate", "tuned", "--on", "set:mine")
    assert document["answered_rows"] == 2 and document["on"] == "set:mine"
    assert 0 <= document["metrics"]["base"]["copied"] <= 1
    assert "literally in the train split" in document["definitions"]["copied"]
    index = CopyIndex.open(shell.home, trained_dataset(shell.home, tuned_run))
    assert index is not None and copy_rate(index.rate).rates([""], [row["completion"]], [""]) == [
        1.0
    ]
    save_prompt_set(shell.home, "half", [{"prompt": "red oak lamp", "reference": None}])
    status, _, errors = shell("evaluate", "tuned", "--on", "set:half")
    assert status == 1 and "prompt 1 has no reference" in errors


def test_the_loss_alone(shell: Shell) -> None:
    document = shell.json("evaluate", "tuned", "--no-answers")
    assert "metrics" not in document and document["before"] > document["after"]


def test_rows_are_drawn_the_same_and_of_the_runs_own_dataset(
    tuned_home: Home, tuned_run: RunFolder
) -> None:
    every = rows_for(tuned_home, tuned_run, "test", 0)
    some = rows_for(tuned_home, tuned_run, "test", 10)
    assert some == rows_for(tuned_home, tuned_run, "test", 10) and len(some.prompts) == 10
    table = dict(zip(every.prompts, every.references, strict=True))
    assert [table[prompt] for prompt in some.prompts] == some.references
    assert some.prompts != every.prompts[:10]
    # The source may be gone: the dataset is enough.
    assert trained_dataset(tuned_home, tuned_run).fingerprint == tuned_run.fingerprint()


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("8", 8), (" 10\n", 10), ("Rating: 7/10", 7), ("I give it 6 out of 10.", 6), ("7.5", 7.5),
        ("<think>surely 3, no, 4</think>\n9", 9), ("Of 2 faults one is grave: 3", 3),
        ("<think>3", None), ("none", None), ("0", None), ("11", None), ("", None), ("2024", None),
    ],
)  # fmt: skip
def test_a_rating_is_what_a_reply_ends_with(reply: str, wanted: float | None) -> None:
    found = rating(reply)
    assert math.isnan(found) if wanted is None else found == wanted


def test_a_judge_is_asked_about_every_answer(
    shell: Shell, tuned_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "red lamp", "reference": "A red lamp"}\n' * 3)
    words = ["evaluate", "tuned", "--on", str(path), "--judge", "builtin:base"]
    status, _, errors = shell(*words)
    # The built-in model knows products only.
    assert status == 1 and "--judge builtin:base: gave no rating at all; it said: '" in errors
    asked: list[list[str]] = []

    def answer(home: Home, columns: Any, prompts: list[str], *_: Any) -> tuple[list[Answers], None]:
        asked.append(prompts)
        replies = ["4/10", "no", "9"] if len(asked) == 1 else ["1"] * 3
        return [Answers(columns[0], path, replies, {}, {}, 0, "")], None

    monkeypatch.setattr("engine.evaluate.judge.answer_all", answer)
    document = shell.json(*words)
    base, own = (document["metrics"][column["id"]] for column in document["columns"])
    assert (base["judge"], base["judge_rows"], own["judge"], own["judge_rows"]) == (6.5, 2, 1, 3)
    reference = "red lamp\n\n### Reference\nA red lamp"
    assert all(reference in text for texts in asked for text in texts)
    assert asked[0] != asked[1] and "1 (useless) to 10" in document["definitions"]["judge"]
    assert shell.json(*words) == document and len(asked) == 2


async def test_a_server_is_a_column_and_a_judge(
    shell: Shell, tuned_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"lamp {n}", "reference": "A red lamp"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("JUDGE_KEY", "secret-4711")

    async def handler(asked: Asked) -> None:
        prompt = asked.body["messages"][-1]["content"]
        if "### Rating" in prompt:
            await asked.say("8" if "### Answer\nA red lamp" in prompt else "2")
        elif "lamp 2" in prompt:
            await asked.answer(400, told("no lamps here"))
        else:
            await asked.say("A red ", "lamp")

    async with serving(handler) as server:
        ref = f"{server.url}#m key=JUDGE_KEY"
        words = ["evaluate", "tuned", "--on", str(path), "--with", ref, "--judge", ref]
        document = await asyncio.to_thread(shell.json, *words)
        asked = len(server.asked)
        assert {one.headers["authorization"] for one in server.asked} == {"Bearer secret-4711"}
        assert await asyncio.to_thread(shell.json, *words) == document
        # The prompt that failed is asked again, and nothing else.
        assert len(server.asked) == asked + 1
    _, other, own = (document["metrics"][column["id"]] for column in document["columns"])
    assert document["failed"]["rows"] == 1 and "no lamps here" in document["failed"]["first"]
    assert (other["rows"], other["exact_match"], other["judge"]) == (3, 1, 8)
    assert own["judge"] == 2 and own["rows"] == 3
    written = [file for file in shell.home.path.rglob("*") if file.is_file()]
    assert all(b"secret-4711" not in file.read_bytes() for file in written)


class SilentAnswers(ErrandAnswers):
    """Tells nobody, instead of the process that asked."""

    def __init__(self) -> None:
        pass

    def status(self, words: str) -> None:
        pass


def test_meaning_is_compared_by_the_encoder_that_is_named(
    shell: Shell, tmp_path: Path, tiny_model: Path, tuned_model: None
) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "encoder"
    shutil.copytree(
        tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    config = BertConfig(
        vocab_size=600, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    model = BertModel(config)
    model.save_pretrained(folder)
    document = shell.json("evaluate", "tuned", "--rows", "6", "--embedding-model", str(folder))
    values = document["metrics"][document["run"]]
    assert -1 <= values["similarity"] <= 1 and len(values["similarity_ci"]) == 2
    assert "mean-pooled" in document["definitions"]["similarity"]

    def rates(model: Path, *pairs: tuple[str, str]) -> list[float]:
        file = tmp_path / "pairs.json"
        ours, theirs = zip(*pairs, strict=True)
        file.write_text(json.dumps({"predictions": ours, "references": theirs}))
        return embed([str(shell.home.path), str(model), str(file)], SilentAnswers())["similarity"]

    found = rates(folder, ("a red lamp", "a red lamp"), ("x", "y z"), ("", "a"))
    assert found[0] == pytest.approx(1, abs=1e-5) and abs(found[1]) < 1 and found[2] == 0
    with pytest.raises(UserError, match=r"--embedding-model .*: cannot be loaded"):
        rates(tmp_path, ("a", "b"))


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["tuned", "--on", "/nowhere.jsonl"], 2, "--on /nowhere.jsonl: no such file"),
        (["tuned", "--on", "nothing:test"], 1, "nothing: no such dataset"),
        (["tuned", "--rows", "-1"], 2, "--rows -1"),
        (["tuned", "--set", "train.seed=1"], 2, "only settings of [generate]"),
        (["tuned", "--with", "nobody"], 1, "neither a run nor a model folder"),
        (["tuned", "--on", "tiny:test", "--no-answers"], 2, "on test and validation only"),
        (["nobody"], 1, "no run 'nobody'"),
        (["--predictions", "x", "--samples", "best"], 2, "--samples needs a RUN"),
    ],
)
def test_wrong_usage(shell: Shell, words: list[str], status: int, told: str) -> None:
    found, out, errors = shell("evaluate", *words, "--json")
    assert found == status and out == "" and told in errors


def test_events_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    home = Home(tmp_path)
    events = [
        {"type": "evaluated", "id": "a"},
        {"type": "evaluated", "id": "b", "run": "r", "t": 1.0, "document": {"columns": 3}},
        {"type": "evaluation_rows", "evaluation": "b", "numbers": [0], "scores": [[]]},
        {"type": "evaluation_rows", "evaluation": "b", "numbers": [0, 1], "scores": [[[1]]]},
        {"type": "evaluation_rows", "evaluation": ["b"], "numbers": ["x"], "scores": [[[1]]]},
        {"type": "note", "id": "n", "run": "r", "t": 2.0, "text": "after"},
    ]
    home.journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    store = open_store(home)
    ingest_all(home, store)
    assert evaluations_of(store, "r") == []
    assert store.query("SELECT text FROM notes") == [("after",)]
    store.close()
