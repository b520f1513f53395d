"""``runs import`` of folders that mean harm: nothing is read or written beside them."""

import ctypes
import json
import os
import shutil
import socket
import sqlite3
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.imports.runs import finding, places, values
from engine.imports.runs.places import Place as Folder
from engine.imports.runs.settings import arguments, checked
from engine.imports.runs.trainer_state import STATE
from engine.recipe import Recipe
from engine.text import safe
from tests.engine.importing import MADE, WRITTEN, Imports, Place
from tests.engine.test_import_runs import state, written

EVIL = "\x1b[31m\x1b]0;owned\x07[bold]<script>alert(1)</script>\u202e=cmd()'\";DROP TABLE runs"


@pytest.fixture
def imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imports:
    return Imports(tmp_path, capsys)


def everything(root: Path, but: Path) -> dict[str, bytes]:
    """Content of every regular file below ``root`` outside of ``but``."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(but):
            found[str(path)] = path.read_bytes()
    return found


NAMES = [
    f"run {EVIL}".replace("/", ""),
    "...",
    "-rf",
    "name\nwith\nlines",
    "\u202egnp.exe",
    "x" * 200,
    "日本語",
    ".importing-x",
    "=HYPERLINK(1)",
    b"latin-\xe9\xff".decode("utf-8", "surrogateescape"),
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_folders_name_is_only_a_name(name: str, imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl", name)
    before = everything(tmp_path, imports.home.path)
    made = imports(place.path)
    row = imports.row(made)
    assert row.name == made["name"] and 0 < len(row.name) <= 64
    assert all(each.isalnum() or each in "_.-" for each in row.name)
    assert row.name[0] not in "-." and row.state == "finished"
    assert imports.runs() == [made["run"]]
    assert everything(tmp_path, imports.home.path) == before
    assert imports(place.path)["already"]
    home = ["--home", str(imports.home.path)]
    for words in (["runs", "show", made["run"]], ["runs", "import", str(place.path)],
                  ["runs", "import", str(place.path), "--again"], ["runs"]):  # fmt: skip
        assert main([*words, *home]) == 0
        shown = imports.capsys.readouterr()
        assert not set(shown.out + shown.err) & {"\x1b", "\x07", "\u202e"}


def test_texts_inside_are_only_texts(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": f"../../../etc/{EVIL}",
              "target_modules": [EVIL, "q_proj"], "bias": EVIL, "revision": "../x"}  # fmt: skip
    (place.path / "adapter_config.json").write_text(json.dumps(config))
    card = f"---\nbase_model: x\ntags: [trl]\ndatasets: ['{'../' * 9}etc']\n---\n"
    (place.path / "README.md").write_text(card + f"# {EVIL}\n### Framework versions\n- TRL: 1.0\n")
    log = [{"step": 1, "loss": 1.0, EVIL: 2.0, "type": 3, "../../x": 4, "": 5, "v": 6}]
    header = {"best_model_checkpoint": f"../../{EVIL}", "best_metric": EVIL, "epoch": EVIL}
    (place.path / STATE).write_text(state(log, **header))
    for name in ("checkpoint-20", "checkpoint-40"):
        shutil.rmtree(place.path / name)
    before = everything(tmp_path, imports.home.path)
    made = imports(place.path)
    assert everything(tmp_path, imports.home.path) == before
    text = imports.folder(made).recipe_file.read_text()
    assert "\x1b" not in text and "\u202e" not in text
    recipe = tomllib.loads(text)
    assert recipe["model"]["model_name_or_path"] == safe(config["base_model_name_or_path"])
    assert "bias" not in recipe["lora"] and "lora.bias = " in text
    [event] = imports.events(made, "metrics")
    names = event.keys() - {"t", "type", "attempt", "step", "v", "loss"}
    assert {"../../x", "logged_type", "logged_v", "(no name)"} < names
    assert not any("\x1b" in name or "\u202e" in name for name in names)
    assert (event["v"], event["type"]) == (1, "metrics")
    home = ["--home", str(imports.home.path)]
    for words in (["runs", "show", made["run"]], ["runs"], ["runs", "diff", made["run"], "trl"]):
        main([*words, *home])
        shown = imports.capsys.readouterr()
        assert not set(shown.out + shown.err) & {"\x1b", "\x07", "\u202e"}


def test_links_that_lead_out_are_not_followed(imports: Imports, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    shutil.copytree(MADE / "trl", secret)
    (secret / "README.md").write_text("---\nbase_model: top-secret\n---\n")
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / STATE).symlink_to(secret / STATE)
    imports(folder, status=1)
    assert "nothing to import is found there" in imports.err
    (folder / STATE).unlink()
    (folder / STATE).write_bytes((MADE / "trl" / STATE).read_bytes())
    for name in ("README.md", "adapter_config.json", "checkpoint-20", "checkpoint-99"):
        (folder / name).symlink_to(secret / name.replace("99", "40"))
    (folder / "x.yaml").symlink_to(MADE.parent / "imports" / "axolotl-lora.yml")
    (folder / "loop").symlink_to(folder)
    (folder / "checkpoint-1").symlink_to(folder / "checkpoint-1")
    (folder / "runs").symlink_to(MADE / "llama-factory" / "runs")
    made = imports(folder)
    assert made["tool"] == "Transformers" and imports.events(made, "checkpoint") == []
    assert made["settings"]["model.model_name_or_path"] == "(not known)"
    text = (imports.folder(made).path / "events.jsonl").read_text()
    assert "secret" not in text.replace(str(folder), "")
    passed = [note for note in made["notes"] if "a link out of the folder, passed over" in note]
    assert {note.partition(":")[0] for note in passed} >= {"README.md", "checkpoint-20", "x.yaml"}


def test_links_that_stay_inside_are(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    (place.path / "checkpoint-40").rename(place.path / "kept")
    (place.path / "checkpoint-40").symlink_to("kept")
    assert len(imports.events(imports(place.path), "checkpoint")) == 2


def in_time(call: Any, seconds: float = 20.0) -> None:
    """What opens a FIFO without care waits for ever."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()


def test_what_would_wait_for_ever(imports: Imports, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        for path in (fifo, tmp_path / "sock", Path("/dev/zero")):
            in_time(lambda path=path: imports(path, status=1))
            assert f"{path}: is neither a folder nor a regular file" in imports.err
    folder = tmp_path / "theirs"
    shutil.copytree(MADE / "trl", folder)
    names = ("README.md", "adapter_config.json", "a.yaml", "training_args.json", "config.json",
             "studio.db", "run-a.wandb", "events.out.tfevents.1790000000.x", "trainer_log.jsonl",
             "dataset_info.json")  # fmt: skip
    for name in names:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    (folder / "checkpoint-50").mkdir()
    os.mkfifo(folder / "checkpoint-50" / STATE)
    in_time(lambda: imports(folder))
    assert len(imports.runs()) == 1
    for name in (STATE, "checkpoint-20/" + STATE, "checkpoint-40/" + STATE):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    in_time(lambda: imports(folder, "--again", status=1))
    assert "nothing to import is found there" in imports.err
    with pytest.raises(places.UserError, match="is no regular file"):
        places.open_file(fifo)


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def without_rights(call: Any) -> str:
    """The UserError of a call by somebody for whom files' modes count: root's thread gives up its
    capabilities, which are a thread's own."""
    said: list[str] = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        held = (_Capabilities * 2)()
        assert libc.capget(header, held) == 0
        for one in held:
            one.effective = 0
        assert libc.capset(header, held) == 0
        try:
            call()
        except places.UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return said[0] if said else ""


def test_what_may_not_be_read(tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    (place.path / STATE).chmod(0)
    said = without_rights(lambda: finding.pasts_at(str(place.path)))
    assert said == f"{place.path / STATE}: cannot be read (Permission denied)"
    place.path.chmod(0)
    try:
        for path in (place.path, place.path / STATE):
            said = without_rights(lambda path=path: finding.pasts_at(str(path)))
            assert said == f"{path}: cannot be read (Permission denied)"
        assert without_rights(lambda: Folder(place.path).names()) != ""
    finally:
        place.path.chmod(0o700)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda at: at.mkdir(), "nothing to import is found there"),
        (lambda at: at.write_bytes(b""), "is no trainer_state.json, event file"),
        (lambda at: at.write_bytes(os.urandom(1000)), "is no trainer_state.json, event file"),
        (lambda at: at.symlink_to(at), "cannot be read (Too many levels"),
        (lambda at: at.symlink_to("nowhere"), "no such file or folder"),
        (lambda at: None, "no such file or folder"),
    ],
    ids=range(6),
)
def test_places_without_history(make: Any, words: str, imports: Imports, tmp_path: Path) -> None:
    make(tmp_path / "at")
    imports(tmp_path / "at", status=1)
    assert f"{tmp_path}/at: " in imports.err and words in imports.err
    assert imports.runs() == []


def test_names_that_are_none(imports: Imports, tmp_path: Path) -> None:
    imports("a\0b", status=1)
    assert "not a file name" in imports.err
    imports("", status=0 if list(Path().glob(STATE)) else 1)
    shutil.copytree(MADE / "trl", tmp_path / "outputs" / "one")
    imports(tmp_path / "outputs", status=1)
    assert "is no run itself, but folders in it are: name them (one)" in imports.err
    imports(tmp_path / "outputs" / "one", "--recipe", tmp_path / "none.yaml", status=2)
    assert "none.yaml: no such file" in imports.err
    imports(MADE / "torch", "--recipe", tmp_path / "none.yaml", status=2)
    assert "--recipe is for output folders" in imports.err


def test_a_file_named_like_another_kind(imports: Imports, tmp_path: Path) -> None:
    database = tmp_path / "run-x.wandb"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE a (b)")
    connection.close()
    imports(database, status=1)
    assert "has no table training_runs" in imports.err
    (tmp_path / "d.db").write_bytes((MADE / "wandb-state.json").read_bytes())
    imports(tmp_path / "d.db", status=1)
    assert "is no trainer_state.json" in imports.err


def test_a_hostile_log_is_done_in_time(imports: Imports, tmp_path: Path) -> None:
    many = {f"name {number}": number for number in range(5000)}
    made = imports(written(tmp_path, state([{"step": 1, "loss": 2.0, **many}]), "many"))
    [event] = imports.events(made, "metrics")
    assert len(event) <= values.MOST_NAMES + 5 and event["loss"] == 2.0
    began = time.monotonic()
    backwards = [{"step": step, "loss": 1.0} for step in range(2000, 0, -1)]
    made = imports(written(tmp_path, state(backwards), "backwards"))
    assert imports.row(made).attempt == 2000 and time.monotonic() - began < 20
    huge = [{"step": 2**62, "loss": 1.0}, {"step": 2**63, "loss": 2.0}, {"step": 10**30, "loss": 3}]
    made = imports(written(tmp_path, state(huge, max_steps=10**30), "huge"))
    assert list(imports.curve(made, "loss").values()) == [1.0]


def test_odd_headers(imports: Imports, tmp_path: Path) -> None:
    odd: tuple[Any, ...] = (None, True, "x", "", [], {}, -1, 0, 1e400, 2**70, "40", [1], {"a": 1})
    keys = ("global_step", "max_steps", "num_train_epochs", "train_batch_size", "eval_steps",
            "save_steps", "best_global_step", "best_model_checkpoint", "epoch")  # fmt: skip
    log = [{"step": 1, "loss": 1.0}, {"step": 2, "train_loss": "x", "train_runtime": 1e300}]
    folder = written(tmp_path, "")
    for turn, value in enumerate(odd):
        (folder / STATE).write_text(state(log, **dict.fromkeys(keys, value)))
        os.utime(folder / STATE, (WRITTEN, WRITTEN + turn))
        [past] = finding.pasts_at(str(folder))
        assert [event["type"] for event in past.events()] == ["metrics"]
        assert past.end.state in ("finished", "stopped")
        tree = {"name": "x"}
        made, _ = checked(past.settings)
        assert made == past.settings and tree
        if value == "40":
            assert past.facts["max_steps"] == 40


def test_no_value_of_an_argument_makes_a_recipe_that_is_none() -> None:
    odd: tuple[Any, ...] = (True, False, 0, -1, 0.5, 7, "x", "no", "", [], ["a"], [1], {},
                            {"a": 1}, 10**30, float("nan"), float("inf"), "two\nlines\x1b[31m",
                            "7")  # fmt: skip
    names = ("learning_rate", "per_device_train_batch_size", "optim", "lr_scheduler_type", "seed",
             "warmup_ratio", "warmup_steps", "max_steps", "eval_steps", "save_steps", "lora_r",
             "lora_alpha", "load_in_4bit", "base_model", "max_seq_length", "bf16", "optim_args",
             "neftune_noise_alpha", "lr_scheduler_kwargs", "attn_implementation",
             "load_best_model_at_end", "save_total_limit", "dataset_name")  # fmt: skip
    good = {"learning_rate": 1e-3, "eval_steps": 3, "save_steps": 7, "seed": 1}
    for name in names:
        for value in odd:
            made, _ = checked(arguments({**good, name: value}))
            tree: dict[str, Any] = {"name": "x"}
            for key, one in made.items():
                section, _, inner = key.partition(".")
                tree.setdefault(section, {})[inner] = one
            recipe = Recipe.model_validate(tree).flat()
            assert all(recipe[key] == one for key, one in made.items()), (name, value)
