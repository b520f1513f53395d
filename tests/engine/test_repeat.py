"""A run's recipe again with a change, and the tree of who came from whom."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.history.lineage import lineage
from engine.history.row import RunRow
from engine.home import Home, open_home
from engine.jobs import launch
from engine.jobs.create import create_run, numbered, refuse_bad_name
from engine.recipe import load_recipe
from tests.engine.fakes import runs


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


class Shell:
    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys
        self.err = ""

    def __call__(self, *words: str, status: int = 0) -> Any:
        got = main(["runs", *words, "--json", "--home", str(self.home.path)])
        out, self.err = self.capsys.readouterr()
        assert got == status, self.err
        return json.loads(out) if out else None


@pytest.fixture
def say(home: Home, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(home, capsys)


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    file = tmp_path / "editor with a space.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"'{file}' -x")


def test_a_repeated_run_is_made_with_the_change_and_knows_its_origin(
    say: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_start", lambda folder, attempt, locks, devices: devices.close())
    old = runs.write_run(say.home, "one", steps=2)
    dry = say("repeat", "one", "--set", "lora.r=32", "--dry-run")
    assert dry == {
        "repeats": old.id,
        "changes": [{"key": "lora.r", "before": 16, "after": 32}],
    }
    assert "lora.r: 16 -> 32" in say.err
    made = say("repeat", "one", "--set", "lora.r=32", "--detach", "--name", "two")
    folder = launch.find_run(say.home, "two")
    assert made["run"] == folder.id and folder.read_identity()["repeats"] == old.id
    assert folder.read_recipe().lora.r == 32 and old.read_recipe().lora.r == 16
    tree = say("tree", "one")
    assert [(line["name"], line["depth"], line["how"]) for line in tree] == [
        ("one", 0, None),
        ("two", 1, "repeats"),
    ]
    assert tree[1]["changes"] == {"lora.r": {"before": 16, "after": 32}}
    made = say("repeat", "two", "--set", "lora.r=8", "--detach")
    again = launch.find_run(say.home, made["run"])
    assert again.name == "two-2", "after the run that it repeats, not after their recipe"
    assert again.read_recipe().name == old.read_recipe().name
    for expected in ("new-word", "new-word-2"):
        made = say("repeat", "two", "--set", "name=new-word", "--detach")
        assert launch.find_run(say.home, made["run"]).name == expected
    say("repeat", "one", "--set", "lora.no=1", status=2)
    assert "lora.no" in say.err
    say("repeat", "nobody", status=1)


def test_the_editor_changes_the_recipe_and_a_wrong_one_is_kept(
    say: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write_run(say.home, "one", steps=2)
    editor(tmp_path, monkeypatch, "sed -i 's/^r = 16$/r = 4/' \"$2\"")
    before = set(os.listdir("/tmp"))
    assert say("repeat", "one", "--edit", "--dry-run")["changes"] == [
        {"key": "lora.r", "before": 16, "after": 4}
    ]
    assert set(os.listdir("/tmp")) == before, "no file is left"
    editor(tmp_path, monkeypatch, "sed -i 's/^r = 16$/r = many/' \"$2\"")
    say("repeat", "one", "--edit", "--dry-run", status=2)
    kept = Path(say.err.split("tunebench train ")[1].split()[0])
    assert "r = many" in kept.read_text()
    editor(tmp_path, monkeypatch, "exit 3")
    say("repeat", "one", "--edit", status=1)
    assert "exit status 3" in say.err
    monkeypatch.setenv("VISUAL", "/no/such/editor")
    say("repeat", "one", "--edit", status=1)
    assert "/no/such/editor: cannot be started" in say.err
    monkeypatch.setenv("VISUAL", "'half")
    say("repeat", "one", "--edit", status=1)
    assert "$VISUAL" in say.err


def test_a_number_fits_behind_the_longest_name() -> None:
    name = "n" * 64
    assert numbered(name, {name}) == "n" * 62 + "-2"
    assert numbered(name, {name, "n" * 62 + "-2"}) == "n" * 62 + "-3"
    refuse_bad_name(numbered(name, {name}))


def test_the_queue_keeps_the_origin(say: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engine.commands.queue.dispatch", lambda home: type("O", (), {"paused": ""})
    )
    old = runs.write_run(say.home, "one", steps=2)
    made = say("repeat", "one", "--queue")
    assert made["position"] == 1
    queued = launch.find_run(say.home, made["run"])
    assert queued.read_identity()["repeats"] == old.id and queued.name == "one-2"


def test_an_imported_run_is_repeated_only_with_what_it_lacks(
    say: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_start", lambda folder, attempt, locks, devices: devices.close())
    say("import", str(Path(__file__).parent / "fixtures" / "past" / "trl"))
    model = ("--set", "model.model_name_or_path=builtin:base")
    data = ("--set", "data.source=builtin:catalogue")
    say("repeat", "trl", *model, status=1)
    assert "data.source: the run was imported without it; set it" in say.err
    say("repeat", "trl", *data, "--set", "model.model_name_or_path='(not known)'", status=1)
    assert "model.model_name_or_path: the run was imported without it; set it" in say.err
    made = say("repeat", "trl", *model, *data, "--detach")
    assert launch.find_run(say.home, made["run"]).name == "trl-2"


def row(id: str, parent: str = "", repeats: str = "", **more: Any) -> RunRow:
    return RunRow(id, f"run-{id}", parent=parent or None, repeats=repeats or None, **more)


def drawn(rows: list[RunRow], only: str | None = None) -> list[str]:
    return [line.branch + line.row.name for line in lineage(rows, lambda run: {}, only)]


def test_the_tree_is_drawn_with_the_newest_first() -> None:
    rows = [
        row("f", repeats="gone"),
        row("e", parent="c"),
        row("d", repeats="a"),
        row("c", parent="a"),
        row("b"),
        row("a"),
    ]
    tree = ["run-a", "├─ > run-c", "│  └─ > run-e", "└─ = run-d"]
    assert drawn(rows) == ["run-f", *tree, "run-b"]
    assert drawn(rows, "e") == tree and drawn(rows, "b") == ["run-b"]


def test_circles_and_long_chains_end() -> None:
    rows = [row("a", parent="b"), row("b", parent="a"), row("c", repeats="c"), row("d", parent="a")]
    assert sorted(line.row.id for line in lineage(rows, lambda run: {})) == ["a", "b", "c", "d"]
    chain = [row(f"{n:05}", parent=f"{n - 1:05}") for n in range(5000, 0, -1)]
    assert [line.depth for line in lineage(chain, lambda run: {})] == list(range(5000))


def test_what_changed_is_said_along_the_tree(home: Home) -> None:
    recipe = load_recipe("demo")
    one = create_run(home, recipe, "one")
    create_run(home, recipe.with_settings(["lora.r=2"]), "two", more={"repeats": one.id})
    settings = {"a": {"lora.r": 8, "name": "x"}, "b": {"lora.r": 2, "name": "y"}}
    [_, line] = lineage([row("b", repeats="a", sweep="grid"), row("a")], settings.__getitem__)
    assert line.what == "sweep grid, r 8 → 2" and line.changes == [("lora.r", 8, 2)]
