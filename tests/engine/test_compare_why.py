"""Why one run is better: ranked differences, evidence of other pairs, and chance."""

import itertools
import json
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.commands import difference_words
from engine.history import queries
from engine.history.evidence import Evidences
from engine.history.ingest import ingest_all
from engine.history.store import Store, open_store
from engine.history.why import CONVENTION, Why, why
from engine.home import Home, open_home
from tests.compared import write, write_grid


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def asked(home: Home, a: str, b: str) -> Why:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return why(store, queries.get_run(store, a), queries.get_run(store, b))


def told(found: Why) -> str:
    lines = [text for text, _ in difference_words.why_lines(found, 80)]
    assert all(len(line) <= 80 for line in lines)
    return " ".join(" ".join(lines).split())


def keys(found: Why) -> list[tuple[str, str]]:
    return [(one.key, one.basis) for one in found.ranked]


def test_a_grid_tells_which_of_two_changes_other_pairs_bear_out(home: Home) -> None:
    ids = write_grid(home)
    found = asked(home, ids[4, 1e-3], ids[16, 3e-3])
    assert found.change == pytest.approx(2.01 - 2.42)
    assert found.better is not None and found.better.id == ids[16, 3e-3]
    assert keys(found) == [("train.learning_rate", "evidence"), ("lora.r", "evidence")]
    rate, rank = (one.evidence for one in found.ranked)
    assert rate is not None and rank is not None
    assert (rate.pairs, rate.falls, rate.rises, rate.same_values) == (3, 3, 0, True)
    assert rate.median == pytest.approx(-0.4)
    assert (rank.pairs, rank.falls) == (3, 3) and rank.median == pytest.approx(-0.01)
    words = told(found)
    assert "B is better than A: its best validation loss is 0.4100 lower (16.9%)" in words
    assert "These are differences, not causes." in words
    assert "3 other pairs differ in this alone: lower in 3 of 3, median change -0.4000" in words
    assert "No run on these rows was repeated with another seed: chance is not known" in words


def test_what_other_pairs_contradict_comes_after_what_nobody_knows(home: Home) -> None:
    ids = write_grid(home)
    # Rank 8 -> 16 makes it worse in the grid; nothing is known about the two others.
    others = {"train.warmup_steps": 9, "lora.lora_dropout": 0.1}
    b = write(home, "b", {"lora.r": 16, "train.learning_rate": 3e-3, **others}, loss=1.5)
    found = asked(home, ids[8, 3e-3], b)
    assert keys(found) == [
        ("lora.lora_dropout", "convention"),
        ("train.warmup_steps", "convention"),
        ("lora.r", "against"),
    ]
    assert found.ranked[0].evidence is None
    words = told(found)
    assert "none of 10 finished runs on these rows tells of it alone" in words
    assert "Other pairs of runs went the other way" in words
    assert "higher in 3 of 3" in words


def test_the_very_pair_is_no_evidence_about_itself_but_its_repetition_is(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4}, loss=2.5, number=1)
    b = write(home, "b", {"lora.r": 8}, loss=2.3, number=2)
    found = asked(home, a, b)
    assert keys(found) == [("lora.r", "convention")]
    assert found.ranked[0].evidence is None
    for number, loss in enumerate((2.6, 2.7, 2.8)):
        write(home, f"a{number}", {"lora.r": 4}, loss=loss, number=10 + number)
    write(home, "b1", {"lora.r": 8}, loss=2.4, number=20)
    evidence = asked(home, a, b).ranked[0].evidence
    assert evidence is not None
    assert evidence.pairs == 1, "four with the same recipe count by their median"
    assert evidence.median == pytest.approx(2.4 - 2.7)


def test_numbers_in_the_same_direction_stand_in_for_the_same_numbers(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4, "train.warmup_steps": 1}, loss=2.5, number=1)
    b = write(home, "b", {"lora.r": 64, "train.warmup_steps": 2}, loss=2.3, number=2)
    for number, (r, loss) in enumerate([(8, 2.9), (16, 2.6), (32, 2.7)]):
        write(home, f"c{number}", {"lora.r": r}, loss=loss, number=10 + number)
    by_key = {one.key: one.evidence for one in asked(home, a, b).ranked}
    evidence = by_key["lora.r"]
    assert evidence is not None and not evidence.same_values
    assert (evidence.pairs, evidence.falls, evidence.rises) == (2, 1, 1)
    back = {one.key: one.evidence for one in asked(home, b, a).ranked}["lora.r"]
    assert back is not None and back.median == pytest.approx(-evidence.median)
    assert by_key["train.warmup_steps"] is None
    assert "between other values, the same direction" in told(asked(home, a, b))


def test_runs_that_are_not_comparable_are_no_evidence(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4}, loss=2.5, number=1)
    b = write(home, "b", {"lora.r": 8}, loss=2.3, number=2)
    for number, (name, its) in enumerate(
        {
            "other data": {"fingerprint": "another"},
            "stopped": {"state": "stopped"},
            "no loss": {"loss": None},
            "NaN": {"loss": "NaN"},
        }.items()
    ):
        for r, loss in ((4, 3.0), (8, 2.0)):
            write(
                home, f"{name}{r}", {"lora.r": r}, **{"loss": loss, **its}, number=10 * number + r
            )  # type: ignore[arg-type]
    write(home, "longer", {"lora.r": 8, "train.max_steps": 999}, loss=1.0, number=90)
    write(home, "larger", {"lora.r": 4, "model.model_name_or_path": "x"}, loss=1.0, number=91)
    found = asked(home, a, b)
    assert found.ranked[0].evidence is None, "of each only one half is left"


def test_data_of_its_own_means_no_verdict_by_loss(home: Home) -> None:
    a = write(home, "a", {"data.source": "x", "lora.r": 4}, loss=2.5, number=1)
    b = write(home, "b", {"data.source": "y"}, loss=2.3, number=2, fingerprint="another")
    found = asked(home, a, b)
    assert found.change is None and found.better is None
    assert [basis for _, basis in keys(found)] == ["convention"] * 3
    assert keys(found)[0][0] in ("fingerprint", "data.source"), "data before the rank"
    words = told(found)
    assert "cannot be told by their losses" in words
    assert "not judged on the same validation rows" in words
    assert "other data are judged on other rows" in words


def test_the_order_of_convention_versions_last_and_what_decides_nothing(home: Home) -> None:
    a = write(home, "a", number=1)
    b = write(
        *(home, "b"),
        {
            "generate.temperature": 0.1, "train.save_steps": 44, "train.seed": 1, "lora.r": 8,
            "train.max_steps": 99, "train.learning_rate": 1e-4, "model.attn_implementation": "sdpa",
            "format.template": "text", "model.model_name_or_path": "other", "train.adam_beta1": 0.8,
        },
        loss=2.0, number=2, facts={"git_commit": "beef", "device": "cuda:0"},
    )  # fmt: skip
    assert keys(asked(home, a, b)) == [
        ("model.model_name_or_path", "convention"),
        ("format.template", "convention"),
        ("train.learning_rate", "convention"),
        ("train.max_steps", "convention"),
        ("lora.r", "convention"),
        ("train.adam_beta1", "convention"),
        ("model.attn_implementation", "convention"),
        ("train.seed", "convention"),
        ("train.save_steps", "none"),
        ("generate.temperature", "none"),
        ("device", "last"),
        ("git_commit", "last"),
    ]
    known = [pattern.partition("*")[0] for place in CONVENTION for pattern in place]
    assert len(known) == len(set(known))


@pytest.mark.parametrize(("loss", "beyond"), [(2.30, True), (2.495, False)])
def test_the_spread_by_the_seed_alone_says_what_is_chance(
    home: Home, loss: float, beyond: bool
) -> None:
    a = write(home, "a", {"train.seed": 1}, loss=2.5, number=1)
    for seed, its in ((2, 2.51), (3, 2.52)):
        write(home, f"a{seed}", {"train.seed": seed}, loss=its, number=seed)
    b = write(home, "b", {"train.seed": 1, "lora.r": 4}, loss=loss, number=9)
    found = asked(home, a, b)
    assert found.seeds is not None and found.seeds.runs == 3 and found.seeds.of == (a,)
    assert found.seeds.width == pytest.approx(0.02)
    assert found.beyond_seeds is beyond
    words = told(found)
    assert (
        "Larger than" if beyond else "Not larger than"
    ) + " the spread of 3 runs like A" in words


def test_other_runs_repetitions_count_where_neither_was_repeated(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4}, loss=2.5, number=1)
    b = write(home, "b", {"lora.r": 8}, loss=2.3, number=2)
    for seed, its in ((2, 2.1), (3, 2.14)):
        write(home, f"c{seed}", {"lora.r": 32, "train.seed": seed}, loss=its, number=10 + seed)
    found = asked(home, a, b)
    assert found.seeds is not None and found.seeds.of == ()
    assert "the spread of 2 runs on the same rows" in told(found)


def test_two_that_differ_by_their_seed_alone_differ_by_chance(home: Home) -> None:
    a = write(home, "a", {"train.seed": 1, "train.save_steps": 44}, loss=2.5, number=1)
    b = write(home, "b", {"train.seed": 2}, loss=2.4, number=2, facts={"git_commit": "beef"})
    found = asked(home, a, b)
    assert found.only_seed
    assert "what is left is chance" in told(found)
    assert not asked(home, a, write(home, "c", {"train.seed": 1, "lora.r": 4})).only_seed


def test_without_losses_or_recipes_it_says_so_and_goes_on(home: Home) -> None:
    a = write(home, "a", {"lora.r": 4}, loss=None, number=1)
    b = write(home, "b", {"lora.r": 8}, loss=2.0, number=2)
    found = asked(home, a, b)
    assert found.change is None and keys(found) == [("lora.r", "convention")]
    assert "not both have a validation loss" in told(found)
    c = write(home, "c", toml="", number=3, fingerprint=None, facts={"device": "cuda:0"})
    found = asked(home, b, c)
    assert keys(found) == [("device", "last")]
    assert "c: its recipe is not compared" in told(found)
    twin = write(home, "twin", {"lora.r": 8}, loss=2.0, number=4)
    assert "Neither is better" in told(asked(home, b, twin))


def test_the_command_tells_what_the_screen_does(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = write_grid(home)
    argv = ["runs", "why", "tune-r4-lr0.001", ids[16, 3e-3], "--home", str(home.path)]
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["better"] == ids[16, 3e-3] and document["same_rows"] is True
    assert document["these_are"] == "differences, not causes"
    first = document["differences"][0]
    assert (first["rank"], first["key"], first["values"]) == (
        1,
        "train.learning_rate",
        [1e-3, 3e-3],
    )
    assert first["evidence"]["pairs"] == first["evidence"]["falls"] == 3
    assert document["seed_spread"] is None and document["finished_runs_on_these_rows"] == 9
    assert main(argv) == 0
    assert "1 train.learning_rate: 0.001 -> 0.003" in capsys.readouterr().out


# --- against the plain way to find pairs

AXES: dict[str, list[Any]] = {
    "lora.r": [4, 8, 16],
    "train.learning_rate": [1e-4, 3e-4],
    "lora.target_modules": [["q_proj", "k_proj"], ["q_proj"]],
    "format.instruction": ['Say, "it": [1]', "Schreib’s auf"],
    "train.seed": [1, 2],
}


def plainly(store: Store, a: str, b: str, key: str) -> tuple[int, float] | None:
    """(pairs, median change) from A's value to B's, by parsing every recipe."""
    settings = queries.settings_of(store)
    runs = {row.id: row for row in queries.list_runs(store)}
    groups: dict[str, dict[str, list[str]]] = {}
    for id, values in settings.items():
        if runs[id].fingerprint != runs[a].fingerprint:
            continue
        rest = {k: v for k, v in values.items() if k not in (key, "name")}
        own = groups.setdefault(json.dumps(rest), {})
        own.setdefault(json.dumps(values[key]), []).append(id)
    old, new = (json.dumps(settings[id][key]) for id in (a, b))
    changes = []
    for its in groups.values():
        before, after = its.get(old, []), its.get(new, [])
        if a in before and b in after:
            before, after = [x for x in before if x != a], [x for x in after if x != b]
        if before and after:
            was, now = (
                statistics.median(runs[id].best_eval_loss or 0.0 for id in ids)
                for ids in (before, after)
            )
            changes.append(now - was)
    return (len(changes), statistics.median(changes)) if changes else None


@pytest.mark.parametrize("seed", range(4))
def test_evidence_is_what_comparing_every_pair_gives(home: Home, seed: int) -> None:
    chance = random.Random(seed)
    points = list(itertools.product(*AXES.values())) * 2
    ids = [
        write(
            *(home, f"run-{number}", dict(zip(AXES, point, strict=True))),
            loss=chance.choice([2.0, 2.1, chance.random()]), number=number, steps=1,
            fingerprint=chance.choice(["f", "f", "g"]),
        )
        for number, point in enumerate(chance.sample(points, 60))
    ]  # fmt: skip
    store = open_store(home)
    ingest_all(home, store, live=False)
    settings = queries.settings_of(store)
    seen = 0
    for a, b in (chance.sample(ids, 2) for _ in range(25)):
        one, two = (queries.get_run(store, id) for id in (a, b))
        if one.fingerprint != two.fingerprint:
            continue
        for key in AXES:
            if settings[a][key] == settings[b][key]:
                continue
            differing = [k for k in AXES if settings[a][k] != settings[b][k]]
            found = Evidences(store, one, two, differing).of(
                key, settings[a][key], settings[b][key]
            )
            wanted = plainly(store, a, b, key)
            if wanted is None:
                assert found is None or not found.same_values
            else:
                seen += 1
                assert found is not None and found.same_values
                assert (found.pairs, found.median) == (wanted[0], pytest.approx(wanted[1]))
    assert seen > 10
