"""Metrics side by side, the best of each; everything that differs; samples and votes beside."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.commands import difference_words, parallel_words, side_tables
from engine.history import queries
from engine.history.beside import evaluations_beside, samples_beside, votes_between
from engine.history.compare import MEASURES, METRICS, best_of, compare, number_named, yardstick
from engine.history.differing import Differences, differ
from engine.history.evaluated import add_evaluation
from engine.history.ingest import ingest_all
from engine.history.parallel import by_value, metrics_of, parameters_of, points
from engine.history.row import RunRow
from engine.history.store import Store, open_store
from engine.history.votes import Side, add_vote
from engine.home import Home, open_home
from tests.compared import GRID, grid_losses, write, write_grid

HOSTILE = "EVIL\x1b[31m[red]\u202egnp\n=1+1" + "界" * 40


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def opened(home: Home) -> Store:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return store


def rows_of(store: Store, *ids: str) -> list[RunRow]:
    return [queries.get_run(store, id) for id in ids]


# --- the best of each metric


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("best_eval_loss", [2.3, 2.1, 2.2], (1,)),
        ("tokens_per_second", [900.0, 1200.0, None], (1,)),
        ("best_eval_loss", [2.1, 2.3, 2.1], (0, 2)),
        ("best_eval_loss", [2.1, 2.1], ()),
        ("best_eval_loss", [2.1, None, None], ()),
        ("best_eval_loss", [math.nan, 2.1, 2.2], (1,)),
        ("best_eval_loss", [math.nan, 2.1], ()),
        ("tokens_per_second", [math.inf, 5.0, 4.0], (1,)),
        ("peak_memory_bytes", [3, 2, 2], (1, 2)),
        ("test_loss_before", [5.0, 4.0], ()),
        ("best_eval_loss", [None, None], ()),
        ("best_eval_loss", [], ()),
        ("step", [1, 2], ()),
    ],
)
def test_the_best_by_direction_ties_and_what_is_missing(
    name: str, values: list[Any], best: tuple[int, ...]
) -> None:
    assert best_of(name, values) == best


def test_every_measure_is_a_run_s_and_the_losses_have_a_direction() -> None:
    fields = {field.name for field in dataclasses.fields(RunRow)} | {"seconds"}
    assert set(METRICS) <= fields
    assert {one.name for one in MEASURES if one.of_rows} == {
        "train_loss", "best_eval_loss", "test_loss",
    }  # fmt: skip
    assert all(one.better for one in MEASURES if one.of_rows)
    assert max(len(one.label) for one in MEASURES) < side_tables.LABEL


def run(name: str, **fields: Any) -> RunRow:
    return RunRow(id=f"id-{name}", name=name, best_eval_loss=2.0, **fields)


def test_losses_of_other_rows_are_not_compared() -> None:
    same = yardstick([run("a", fingerprint="f"), run("b", fingerprint="f")])
    assert same.same_rows and same.words == []
    other = yardstick([run("a", fingerprint="f"), run("b", fingerprint="g")])
    assert not other.same_rows and "fingerprints differ" in other.words[0]
    assert best_of("best_eval_loss", [1.0, 2.0], other) == ()
    assert best_of("seconds", [1.0, 2.0], other) == (0,), "time is time"
    unknown = yardstick([run("a", fingerprint="f"), run("b")])
    assert not unknown.same_rows and "b was judged is not known" in unknown.words[0]
    fewer = [run("a", fingerprint="f", validation_rows=10), run("b", fingerprint="f")]
    assert yardstick(fewer).same_rows
    fewer[1].validation_rows = 20
    assert "number of validation rows" in yardstick(fewer).words[0]
    waiting = RunRow(id="w", name="w", state="queued")
    assert yardstick([run("a", fingerprint="f"), waiting]).same_rows, "it has no loss yet"


def test_settings_that_change_what_a_loss_counts_are_told() -> None:
    runs = [run("a", fingerprint="f"), run("b", fingerprint="f"), run("c", fingerprint="f")]
    settings = [
        {"train.max_length": 96, "format.template": "chat", "lora.r": 8},
        {"train.max_length": 128, "format.template": "chat", "lora.r": 16},
        None,
    ]
    assert yardstick(runs, settings).cautions == ("train.max_length",)
    assert yardstick(runs, settings).same_rows


# --- what differs


def differences(home: Home, *ids: str) -> Differences:
    return differ(store := opened(home), rows_of(store, *ids))


def test_only_what_differs_with_both_values_in_groups(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4}, number=1)
    b = write(
        *(home, "b", {"lora.r": 16, "generate.temperature": 0.9, "model.load_in_4bit": True}),
        number=2,
        fingerprint="another",
        facts={
            "train_rows": 900, "gpu": "NVIDIA H200", "device": "cuda:0", "git_commit": "beef",
            "versions": {"python": "3.12.1", "torch": "2.10.0", "unsloth": "1.2"},
        },
    )  # fmt: skip
    found = differences(home, a, b)
    told = {group: {one.key: one.values for one in its} for group, its in found.groups().items()}
    assert told == {
        "model": {"model.load_in_4bit": (False, True)},
        "lora": {"lora.r": (4, 16)},
        "data": {"fingerprint": ("f00d5eed0badcafe", "another"), "train_rows": (1000, 900)},
        "generation": {"generate.temperature": (0.7, 0.9)},
        "versions": {
            "versions.torch": ("2.9.0", "2.10.0"), "versions.unsloth": (None, "1.2"),
            "git_commit": ("c0ffee", "beef"),
        },
        "machine": {"device": ("cpu", "cuda:0")},
    }  # fmt: skip
    assert found.words == []
    assert list(told) == ["model", "lora", "data", "generation", "versions", "machine"]


def test_nothing_differs_between_a_run_and_its_twin_but_their_names(home: Home) -> None:
    a, b = (write(home, name, {"lora.r": 4}, number=n) for n, name in enumerate(("a", "b")))
    assert differences(home, a, b).found == ()


def test_options_of_a_table_are_keys_of_their_own(home: Home) -> None:
    toml = (
        'version = 2\nname = "x"\n[clean]\nrules = ["length"]\n'
        "[clean.length]\nmin = 1\nmax = {}\n[lora]\nr = 8\n"
    )
    a = write(home, "a", toml=toml.format(10), number=1)
    b = write(home, "b", toml=toml.format(20), number=2)
    assert [(one.key, one.values) for one in differences(home, a, b).found] == [
        ("clean.length.max", (10, 20))
    ]


@pytest.mark.parametrize("text", ["", "not = [toml", "[lora]\nr = "])
def test_a_run_without_a_readable_recipe_is_named_and_the_rest_compared(
    home: Home, text: str
) -> None:
    a = write(home, "a", {"lora.r": 4}, number=1)
    b = write(home, "b", {"lora.r": 8}, number=2)
    c = write(home, "c", toml=text, number=3, fingerprint=None, facts={"device": "cuda:0"})
    found = differences(home, a, b, c)
    assert [(one.key, one.values) for one in found.found] == [
        ("lora.r", (4, 8, None)), ("device", ("cpu", "cpu", "cuda:0")),
    ]  # fmt: skip
    assert list(found.problems) == [c] and "c: its recipe is not compared" in found.words[0]
    lines = difference_words.difference_lines(found, 80)
    assert any("c: its recipe is not compared" in line for line, _ in lines)


def test_keys_that_only_some_of_the_recipes_have_are_not_called_different(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4}, number=1)
    b = write(home, "b", toml='version = 2\nname = "b"\n[lora]\nr = 8\n', number=2)
    found = differences(home, a, b)
    assert [one.key for one in found.found] == ["lora.r"]
    assert found.of_some["train.learning_rate"] == (0.004, None)
    assert "are known of some of the runs only" in found.words[0]


def test_a_recipe_of_the_first_schema_is_compared_under_today_s_keys(home: Home) -> None:
    old = 'version = 1\nname = "old"\n[clean]\nlowercase = true\n[lora]\nr = 8\n'
    new = 'version = 2\nname = "new"\n[clean]\nrules = ["empty"]\n[lora]\nr = 8\n'
    a, b = write(home, "a", toml=old, number=1), write(home, "b", toml=new, number=2)
    found = differences(home, a, b)
    assert [one.key for one in found.found] == ["clean.rules"]
    assert "lowercase" in found.found[0].values[0]


def test_the_rules_that_made_a_dataset_are_told_where_the_recipes_are_silent(home: Home) -> None:
    a, b = (
        write(home, name, {"data.source": name}, number=n, fingerprint=f"print-{name}")
        for n, name in enumerate(("a", "b"))
    )
    store = opened(home)
    for name, rules in (("a", ["html", "length"]), ("b", ["html"])):
        clean = {"rules": rules, "length": {"max": 90}}
        store.connection.execute(
            "UPDATE datasets SET clean = ? WHERE fingerprint = ?",
            (json.dumps(clean), f"print-{name}"),
        )
    found = {one.key: one.values for one in differ(store, rows_of(store, a, b)).found}
    assert found["cleaning"] == ('html, length {"max": 90}', "html")
    assert found["data.source"] == ("a", "b")


# --- by parameter


def test_the_best_and_the_median_of_each_value(home: Home) -> None:
    ids = write_grid(home)
    runs = rows_of(opened(home), *ids.values())
    assert parameters_of(runs) == list(GRID)
    assert metrics_of(runs)[0] == "best_eval_loss" and "tokens_per_second" in metrics_of(runs)
    assert "model" not in metrics_of(runs) and "max_steps" not in metrics_of(runs), "all the same"
    losses = grid_losses()
    found = by_value(runs, "lora.r", "best_eval_loss")
    for one, r in zip(found, GRID["lora.r"], strict=True):
        its = sorted(loss for (rank, _), loss in losses.items() if rank == r)
        assert (one.value, one.runs, one.best, one.median) == (r, 3, its[0], its[1])
        assert one.best_run is not None and one.best_run.id == ids[int(r), 3e-3]
    assert [one.leads for one in found] == [False, True, False]
    fastest = by_value(runs, "train.learning_rate", "tokens_per_second")
    assert [one.best for one in fastest] == [1106.0, 1107.0, 1108.0], "higher is better here"
    assert [one.leads for one in fastest] == [False, False, True]
    assert len(points(runs, "lora.r", "best_eval_loss")) == 9
    other = yardstick([*runs[:1], dataclasses.replace(runs[1], fingerprint="other")])
    assert not any(one.leads for one in by_value(runs, "lora.r", "best_eval_loss", other))


def test_a_run_without_a_loss_counts_as_a_run_and_not_as_a_value(home: Home) -> None:
    runs = [
        RunRow(id=str(n), name=str(n), best_eval_loss=loss, sweep_values=json.dumps({"k": value}))
        for n, (value, loss) in enumerate([(1, 2.0), (1, None), (2, math.nan), ("x", 3.0), (10, 1)])
    ]
    found = by_value(runs, "k", "best_eval_loss")
    told = [(one.value, one.runs, one.measured, one.best) for one in found]
    assert told == [(1, 2, 1, 2.0), (2, 1, 0, None), (10, 1, 1, 1.0), ("x", 1, 1, 3.0)]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("height", [5, 8, 16])
def test_the_chart_of_a_parameter_keeps_its_size_and_shows_every_run(
    home: Home, width: int, height: int
) -> None:
    ids = write_grid(home)
    runs = rows_of(opened(home), *ids.values())
    lines = parallel_words.scatter_lines(runs, "lora.r", "best_eval_loss", width, height)
    assert len(lines) <= max(height, 6) and max(map(len, lines)) <= width
    body = "".join(line.partition("|")[2] for line in lines)
    letters = {chr(97 + n) for n in range(9)}
    assert letters & set(body) or "+" in body
    if height == 16:
        assert letters <= set(body), body
    assert [word for word in lines[-2].split() if word] == ["4", "8", "16"]
    assert "lora.r" in lines[-1]


def test_the_chart_puts_the_better_lower_and_the_values_in_order() -> None:
    runs = [
        RunRow(id=str(n), name=str(n), best_eval_loss=loss, sweep_values=json.dumps({"k": value}))
        for n, (value, loss) in enumerate([(10, 1.0), (2, 3.0), (1, 2.0)])
    ]
    lines = parallel_words.scatter_lines(runs, "k", "best_eval_loss", 60, 12)
    where = {
        mark: (row, line.index(mark, 11))
        for row, line in enumerate(lines[:-3])
        for mark in "abc"
        if mark in line[11:]
    }
    assert where["a"][0] > where["c"][0] > where["b"][0], "1.0 at the bottom"
    assert where["c"][1] < where["b"][1] < where["a"][1], "1, 2, 10 from the left"
    assert lines[0].split()[0] == "3.0000"


# --- samples, votes, evaluations beside


def test_the_last_answers_to_the_same_prompts_stand_together(home: Home) -> None:
    a = write(home, "a", number=1, samples=[("p", "a's"), ("only a", "x")])
    b = write(home, "b", number=2, samples=[("p", "b's")])
    c = write(home, "c", number=3)
    store = opened(home)
    found = samples_beside(store, rows_of(store, a, b, c))
    assert [(one.prompt, one.answers) for one in found] == [
        ("p", ((20, "a's"), (20, "b's"), None)),
        ("only a", ((20, "x"), None, None)),
    ]
    assert found[0].reference == "As it should be."


def vote(home: Home, left: str, right: str, verdict: str) -> None:
    sides = [Side(column, column, f"text of {column}") for column in (left, right)]
    add_vote(home, prompt="p", prompt_set="", left=sides[0], right=sides[1], verdict=verdict)


def test_votes_between_runs_count_whatever_checkpoint_and_none_of_the_base(home: Home) -> None:
    a, b, c = (write(home, name, number=n) for n, name in enumerate(("run-a", "run-b", "run-c")))
    vote(home, f"{a}@20", f"{b}@20", "left")
    vote(home, f"{b}@20", f"{a}@20", "left")
    vote(home, f"{a}@20", f"{b}@20", "tie")
    vote(home, "run-a", "run-c", "right")
    vote(home, a, f"{a}@base", "left")
    vote(home, f"{a}@20", f"{b}@base", "left")
    vote(home, f"{a}@20", f"{a}@10", "left")
    vote(home, a, "some/model", "left")
    store = opened(home)
    runs = rows_of(store, a, b, c)
    found = {(runs[p].name, runs[q].name): rate for p, q, rate in votes_between(store, runs)}
    assert {pair: (one.a_wins, one.b_wins, one.ties) for pair, one in found.items()} == {
        ("run-a", "run-b"): (1, 1, 1),
        ("run-a", "run-c"): (0, 1, 0),
    }
    lines = [text for text, _ in side_tables.vote_lines(votes_between(store, runs), runs, 80)]
    assert any(line.startswith("a 1 : 1 b") for line in lines)
    assert any("c wins 100%" in line for line in lines)


def evaluation(run: str, chrf: float, rows: int = 100, pairs: str = "p1") -> dict[str, Any]:
    own = {"chrf": chrf, "chrf_ci": [chrf - 1, chrf + 1]}
    return {
        "id": f"e-{run}-{chrf}", "run": run, "on": "test", "rows": rows, "base": "base",
        "columns": [{"id": "base", "label": "base"}, {"id": run, "label": run}],
        "metrics": {"base": {"chrf": 1.0, "chrf_ci": [0.0, 2.0]}, run: own},
        "better": {"chrf": "higher"}, "pairs": f"runs/{run}/evaluations/{pairs}.jsonl",
    }  # fmt: skip


def test_the_newest_evaluations_with_intervals_and_only_on_the_same_rows_a_best(
    home: Home,
) -> None:
    a, b = (write(home, name, number=n) for n, name in enumerate(("a", "b")))
    for document in (evaluation(a, 20.0), evaluation(a, 30.0), evaluation(b, 25.0)):
        add_evaluation(home, document, [], [])
    store = opened(home)
    store.connection.execute("INSERT INTO evaluated VALUES ('x', ?, 9e9, 'test', 1, '{}')", (a,))
    runs = rows_of(store, a, b)
    found = evaluations_beside(store, runs)
    assert [(one.run, one.metrics["chrf"]) for one in found] == [
        (a, (30.0, 29.0, 31.0)), (b, (25.0, 24.0, 26.0)),
    ]  # fmt: skip
    lines = [text for text, _ in side_tables.evaluation_lines(found, runs, 80)]
    assert any("30.00 [29.00, 31.00]*" in line and "25.00" in line for line in lines), lines
    add_evaluation(home, evaluation(b, 28.0, pairs="other"), [], [])
    ingest_all(home, store, live=False)
    lines = [
        text for text, _ in side_tables.evaluation_lines(evaluations_beside(store, runs), runs, 80)
    ]
    assert any("not on the same rows" in line for line in lines)
    assert not any("]*" in line for line in lines)


# --- the commands


def ran(capsys: pytest.CaptureFixture[str], home: Home, *argv: str) -> Any:
    assert main(["runs", *argv, "--home", str(home.path), "--json"]) == 0, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def told(capsys: pytest.CaptureFixture[str], home: Home, *argv: str) -> str:
    assert main(["runs", *argv, "--home", str(home.path)]) == 0, capsys.readouterr()
    return capsys.readouterr().out


def failed(capsys: pytest.CaptureFixture[str], home: Home, *argv: str) -> str:
    assert main(["runs", *argv, "--home", str(home.path)]) == 2
    return capsys.readouterr().err


METRIC_WORDS = {
    "train": "train_loss", "valid.": "best_eval_loss",
    "peak": "peak_memory_bytes", "best": "best_eval_loss", "test": "test_loss", "took": "seconds",
    "speed": "tokens_per_second", "duration": "seconds", "steps": "max_steps",
}  # fmt: skip


def test_compare_tells_metrics_the_best_and_the_parameters(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = write_grid(home)
    document = ran(capsys, home, "compare", "tune", "--samples", "1")
    assert len(document["runs"]) == 9 and document["runs"][0] == ids[8, 3e-3]
    losses = dict(zip(document["runs"], document["metrics"]["best_eval_loss"], strict=True))
    assert {ids[key]: loss for key, loss in grid_losses().items()} == losses
    assert document["best"]["best_eval_loss"] == [ids[8, 3e-3]]
    assert document["better"]["tokens_per_second"] == "higher"
    assert document["same_rows"] is True and document["notes"] == []
    assert [one["value"] for one in document["parameters"]["lora.r"]] == [4, 8, 16]
    assert [one["leads"] for one in document["parameters"]["lora.r"]] == [False, True, False]
    assert len(document["samples"]) == 1 and len(document["samples"][0]["answers"]) == 9
    words = told(capsys, home, "compare", "tune", "--by", "lora.r", "--metric", "tokens_per_second")
    assert "tokens/s by parameter (higher is better)" in words and "lora.r" in words
    for word, name in METRIC_WORDS.items():
        assert number_named(word).name == name
        whole, short = (
            told(capsys, home, "compare", "tune", "--metric", one) for one in (name, word)
        )
        assert whole == short
    for short, key in (("r", "lora.r"), ("lr", "train.learning_rate")):
        assert told(capsys, home, "compare", "tune", "--by", short).split()[-1] == key


def test_diff_tells_only_what_differs_with_both_values(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = write_grid(home)
    a, b = ids[4, 1e-3], ids[16, 6e-3]
    document = ran(capsys, home, "diff", a, b)
    wanted = {"lora.r": [4, 16], "train.learning_rate": [1e-3, 6e-3]}
    assert document["recipe"] == wanted
    assert document["differences"] == {
        "lora": {"lora.r": [4, 16]}, "train": {"train.learning_rate": [1e-3, 6e-3]},
    }  # fmt: skip
    assert document["unreadable"] == {} and document["known_of_some"] == {}
    assert ran(capsys, home, "diff", "tune", a)["runs"].count(a) == 1, "each run once"
    twin = write(home, "twin", {"lora.r": 4, "train.learning_rate": 1e-3})
    assert "nothing that is known of them differs" in told(capsys, home, "diff", a, twin)


def test_wrong_usage_is_said(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    ids = write_grid(home)
    a = ids[4, 1e-3]
    assert "name at least two runs" in failed(capsys, home, "diff", a)
    assert "name at least two runs" in failed(capsys, home, "diff", a, a)
    assert "the same run" in failed(capsys, home, "why", a, a)
    error = failed(capsys, home, "compare", "tune", "--by", "lora.alpha")
    assert "lora.r, train.learning_rate" in error
    assert "no metric; there are" in failed(capsys, home, "compare", "tune", "--metric", "model")
    for word, meant in (("peek", "peak"), ("tst_loss", "test_loss")):
        said = failed(capsys, home, "compare", "tune", "--metric", word)
        assert f"--metric {word}: no metric" in said and f"did you mean {meant}?" in said
    single = write(home, "single")
    assert "none: name a sweep" in failed(capsys, home, "compare", single, "--by", "lora.r")


@pytest.mark.parametrize("count", [2, 3, 6, 9])
def test_tables_fit_eighty_columns_whatever_the_names(
    home: Home, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    from rich.cells import cell_len

    ids = [
        write(
            *(home, f"{HOSTILE}-{n}", {"lora.r": 4 + n, "format.instruction": HOSTILE[:9] * n}),
            number=n, loss=2.0 + n / 10, samples=[(HOSTILE, HOSTILE)], fingerprint=f"{HOSTILE}{n}",
            facts={"versions": {HOSTILE: str(n)}, "gpu": HOSTILE * n, "total_parameters": 10**9},
        )
        for n in range(count)
    ]  # fmt: skip
    vote(home, ids[0], ids[1], "left")
    for argv in (["compare", *ids, "--samples", "2"], ["diff", *ids], ["why", *ids[:2]]):
        out = told(capsys, home, *argv)
        assert "EVIL" in out and "\x1b" not in out and "\u202e" not in out
        wide = [line for line in out.splitlines() if cell_len(line) > 80]
        assert not wide, wide
    assert compare(rows_of(opened(home), *ids))["best_eval_loss"] == [
        2.0 + n / 10 for n in range(count)
    ]
