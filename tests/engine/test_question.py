"""Questions to the history: what they find, what is wrong with them, how they are completed."""

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli import main
from engine.errors import UsageError, UserError
from engine.history import marks
from engine.history.completion import complete
from engine.history.fields import FIELDS, Facts, field_named
from engine.history.question import parse
from engine.history.row import RunRow
from engine.history.settings import Settings
from engine.home import open_home
from engine.jobs.create import create_run
from engine.jobs.journal import Journal
from engine.recipe import load_recipe

NOW = 1_764_000_000.0
BASE = '{"train.learning_rate": 0.0003, "lora.r": 8, "model.load_in_4bit": true, "data.seed": 1}'
ROWS = [
    RunRow("a", "amazon-1", state="finished", model="meta-llama/Llama-3.2-3B", dataset="amazon",
           best_eval_loss=2.25, test_loss=2.3, peak_memory_bytes=13 << 30, created=NOW - 86400 * 9,
           started=NOW - 86400 * 9, ended=NOW - 86400 * 9 + 7200, tokens_per_second=14_800.0),
    RunRow("b", "amazon-2", state="failed", model="meta-llama/Llama-3.2-1B", dataset="amazon",
           error_kind="out_of_memory", reason="out of memory", created=NOW - 3600, parent="a"),
    RunRow("c", "demo", state="running", model="builtin:base", dataset="catalogue", sweep="grid",
           best_eval_loss=float("nan"), loss=3.0, created=NOW - 60, started=NOW - 50,
           max_steps=400),
    RunRow("d", "old", state="finished", model="gpt2", dataset="amazon", best_eval_loss=2.1),
]  # fmt: skip
FACTS = Facts(
    Settings().updated([
        ("a", BASE),
        ("b", BASE.replace("0.0003", "0.001")),
        ("c", BASE.replace('"lora.r": 8', '"lora.r": 16').replace("true", "false")),
    ]),
    tags={"a": ("keep", "paper"), "c": ("Keep-it",)},
    starred={"a"},
    archived={"d"},
    noted={"b"},
    now=NOW,
)  # fmt: skip
KEYS = FACTS.settings.keys


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("", "abc"),
        ("   ", "abc"),
        ("best_eval_loss<2.3", "a"),
        ("best < 2.3 and is:archived", "d"),
        ("best<2.3 or is:archived", "ad"),
        ("eval_loss<2.3", ""),
        ("model~llama and tag:keep", "a"),
        ("model~llama tag:keep", "a"),
        ("MODEL~LLAMA AND NOT Tag:KEEP", "b"),
        ("not (model~llama or state=running)", ""),
        ("tag~keep", "ac"),
        ("tag!=keep", "bc"),
        ("tag=none", "b"),
        ("llama", "ab"),
        ("amazon finished", "a"),
        ("keep-", "c"),
        ("lora.r=16", "c"),
        ("r>8", "c"),
        ("r!=8", "c"),
        ("lr=3e-4", "ac"),
        ("learning_rate>=1e-3", "b"),
        ("load_in_4bit=true", "ab"),
        ("load_in_4bit:no", "c"),
        ("peak<16gib", "a"),
        ("peak>=13GiB", "a"),
        ("took>90min", "a"),
        ("took<1h", "c"),
        ("age<2h", "bc"),
        ("created<2025-11-20", "a"),
        ("tokens_per_second>14k", "a"),
        ("best=nan", "c"),
        ("best!=none", "ac"),
        ("best=none", "b"),
        ("is:starred or is:live", "ac"),
        ("is:failed", "b"),
        ("has:notes", "b"),
        ("has:parent and has:error", "b"),
        ("reason:'out of'", "b"),
        ('reason="out of memory"', "b"),
        ('"llama-3.2-1b"', "b"),
        ("sweep:grid", "c"),
        ("id=a or (id=b and not id=b)", "a"),
        ("https://example.org/x", ""),
        ("state:FIN", "a"),
        ("state!=finished", "bc"),
        ("state~finshed", ""),
        ("state!=none", "abc"),
        ("lora.lora_alpha=16", ""),
        ("neftune_noise_alpha>1", ""),
        ("lora_alpha!=16", "abc"),
        ("steps<500", "c"),
        ("alpha=16", ""),
        ("steps>=400 or valid.<2.3", "ac"),
        ("train>2", "c"),
        ("run=b or begun>2025-11-24T15:58", "bc"),
    ],
)
def test_what_is_found(question: str, found: str) -> None:
    assert "".join(row.id for row in parse(question, KEYS).select(ROWS, FACTS)) == found


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("eval_los<2", "did you mean eval_loss"),
        ("seed=1 or data.sed=2", "did you mean data.seed"),
        ("best<", "a value is missing"),
        ("best<low", "a number is wanted"),
        ("peak<16xib", "a size as 16gib"),
        ("created>yesterday", "a date"),
        ("(a or b", "without ')'"),
        ("a)", "without '('"),
        ("a and", "missing at the end"),
        ("or a", "without something before"),
        ("not", "missing at the end"),
        ("is:great", "there are starred"),
        ("has:fun", "there are note"),
        ("tag<b", "no order"),
        ('name:"half', "quotation mark"),
        ("text:--", "write a word"),
        ("state=finshed", "did you mean finished?"),
        ("state!=faild", "did you mean failed?"),
        ("state:runing", "there are queued, starting, running"),
        ("lora_alhpa=16", "did you mean lora_alpha"),
        ("layout=1 or target=2", "no field 'target'"),
    ],
)
def test_what_is_wrong_is_said(question: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse(question, KEYS)
    assert words in str(error.value)


def test_a_name_that_several_keys_end_with_is_not_guessed() -> None:
    with pytest.raises(UsageError, match=r"data\.seed, train\.seed; write which"):
        parse("seed=1", {"data.seed", "train.seed"})
    with pytest.raises(UsageError, match=r"data\.revision, model\.revision; write"):
        parse("revision=main")


@pytest.mark.parametrize("keys", [set(), {"train.learning_rate"}])
def test_a_key_that_no_run_here_has_finds_nothing(keys: set[str]) -> None:
    """As in a home of imported runs, or without any."""
    for question in ("r=8", "lora.r=8", "rank>4", "learning_rate>1e-4", "max_length~1"):
        assert parse(question, keys).select(ROWS[3:], replace(FACTS, archived=())) == []
    with pytest.raises(UsageError):
        field_named("lora.r", keys, of_runs=True)


def test_the_words_of_the_tables_headings_are_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = open_home(tmp_path)
    folder = create_run(home, load_recipe("demo"), "one")
    with contextlib.closing(Journal(folder.journal)) as journal:
        journal.append("state", state="running", max_steps=30)
        journal.append("metrics", step=3, loss=2.5)
    assert main(["runs", "list", "--home", str(tmp_path)]) == 0
    heads = capsys.readouterr().out.splitlines()[0].split()
    assert {"run", "name", "state", "steps", "train", "valid.", "begun"} <= {*heads}
    for word in heads:
        assert main(["runs", "list", f"{word}!=none", "--home", str(tmp_path)]) == 0, word
        assert main(["runs", "list", "--sort", word, "--home", str(tmp_path)]) == 0, word
    for question in ("steps=30", "train=2.5", "valid.=none", "step<4 steps>4"):
        capsys.readouterr()
        assert main(["runs", "list", question, "--json", "--home", str(tmp_path)]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 1, question


def test_searches_are_looked_up_once_and_combined() -> None:
    question = parse('text:"out of memory" and not note:batch', KEYS)
    assert question.searches == (("text", "out of memory"), ("note", "batch"))
    assert question.select(ROWS, FACTS) == []
    question.found[("text", "out of memory")] = {"a", "b"}
    question.found[("note", "batch")] = {"a"}
    assert [row.id for row in question.select(ROWS, FACTS)] == ["b"]


@given(st.text(max_size=40) | st.from_regex(r'[a-z]{1,4}([<>=~:!]{1,2}[ ()"a-z0-9]{0,6}){0,4}'))
def test_no_question_breaks_it(text: str) -> None:
    try:
        parse(text, KEYS).select(ROWS, FACTS)
    except UserError as error:
        assert str(error)
    for way in complete(text, ROWS, FACTS):
        assert way.text != text


def test_ways_to_go_on() -> None:
    def words(text: str) -> list[str]:
        return [one.word for one in complete(text, ROWS, FACTS)]

    assert words("best_e")[0] == "best_eval_loss" and "learning_rate" in words("learn")
    assert words("state=fi") == ["finished"] and words("tag:") == ["Keep-it", "keep", "paper"]
    assert words("model~llama")[0].startswith("meta-llama/")
    assert words("best<2 ") == ["and", "or"] and words("") == []
    assert words("best<2 and is:st")[0] == "starred"
    assert complete("a (stat", ROWS, FACTS)[0].text == "a (state"
    assert "reason" in words("r") and words("nonsense:") == []
    for one in FIELDS:
        assert complete(one.name[:-1], ROWS, FACTS), one.name


def test_ten_thousand_runs_are_asked_in_a_tenth_of_a_second() -> None:
    rows = [replace(ROWS[n % 4], id=f"{n}", name=f"run-{n}") for n in range(10_000)]
    texts = [(row.id, BASE.replace("0.0003", f"{n % 50}")) for n, row in enumerate(rows)]
    facts = replace(FACTS, settings=Settings().updated(texts))
    question = "best_eval_loss<2.3 and model~llama and learning_rate>20 and not tag:old"
    began = time.process_time()
    found = parse(question, facts.settings.keys).select(rows, facts)
    spent = time.process_time() - began
    assert len(found) == 1400 and spent < 0.1, spent
    assert facts.settings.differing(row.id for row in rows) == ["train.learning_rate"]


def test_settings_tell_what_differs() -> None:
    settings = Settings().updated([("a", '{"x.a": 1, "x.b": [1]}'), ("b", '{"x.a": 2, "x.c": 3}')])
    assert settings.differing(["a", "b"]) == ["x.a", "x.b", "x.c"]
    assert settings.differing(["a"]) == [] and settings.differing([]) == []
    assert (settings.get("b", "x.b"), settings.get("a", "x.b"), settings.get("b", "x.c")) == (
        None, [1], 3,
    )  # fmt: skip
    assert settings.keys == {"x.a", "x.b", "x.c"} and settings.get("no", "x.a") is None
    later = settings.updated([("c", '{"x.a": 1, "x.b": [1]}')], gone={"a"})
    assert "a" in settings and "a" not in later and later.differing(["b", "c"]) != []
    assert later.differing(["c"]) == []


def test_the_command_lists_what_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = open_home(tmp_path)
    recipe = load_recipe("demo")
    for name, rank, loss in (("one", 8, 2.5), ("two", 16, 2.25), ("three", 32, None)):
        changed = [f"lora.r={rank}", f"train.seed={3000 + rank}"]
        folder = create_run(home, recipe.with_settings(changed), name)
        with contextlib.closing(Journal(folder.journal)) as journal:
            if loss:
                journal.append("evaluation", step=3, split="validation", which="during", loss=loss)
            journal.append("state", state="finished" if loss else "failed", reason="memory is full")
        marks.archive(home, folder.id, on=name == "three")

    def say(*words: str, status: int = 0) -> str:
        assert main(["runs", "list", *words, "--home", str(tmp_path)]) == status
        found = capsys.readouterr()
        return found.err if status else found.out

    def names(*words: str) -> list[str]:
        return [run["name"] for run in json.loads(say(*words, "--json"))]

    assert names() == ["two", "one"] and names("--archived") == ["three", "two", "one"]
    assert names("best<2.4") == ["two"] and names("r>8", "and", "is:finished") == ["two"]
    assert names("--sort", "r") == ["one", "two"] and names("--sort", "best") == ["two", "one"]
    assert names("--sort", "r-", "--archived", "--limit", "2") == ["three", "two"]
    assert names("text:one or text:two") == ["two", "one"]
    assert names("text:memory", "is:archived") == []
    text = say()
    assert "r=16 " in text and "learning_rate" not in text, "only what differs"
    assert "seed=3016" in text and "3016" in say("--columns", "train.seed")
    table = say("--columns", "name,r,best_eval_loss,tag,took,peak,created").splitlines()
    assert table[0].split() == ["name", "r", "best_eval_loss", "tag", "took", "peak", "created"]
    assert table[1].split()[:4] == ["two", "16", "2.25", "-"]
    assert "state finished: 2 runs  best 2.2500 two" in say("--group", "state")
    assert "none of 3 runs is asked for" in say("name:nobody")
    assert "did you mean" in say("besteval<2", status=2)
    assert "no field 'hope'" in say("--columns", "hope", status=2)
    assert names("lora.r=none") == [] and names("neftune_noise_alpha=7") == []
    assert "at least 1" in say("--limit", "0", status=2)


@pytest.mark.parametrize("deep", ["({}", "({})", "not {}"])
def test_a_question_deeper_than_anybody_asks_is_refused_in_words(deep: str) -> None:
    with pytest.raises(UsageError, match="more than 50"):
        parse("".join(part * 5000 for part in deep.partition("{}")).replace("{}" * 5000, "a"))


def test_parentheses_within_reason_are_read() -> None:
    parse("(" * 20 + "not name~a" + ")" * 20)
    parse("(a) or " * 200 + "b")
