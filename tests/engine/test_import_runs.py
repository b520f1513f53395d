"""``runs import`` of output folders: what TRL, LLaMA-Factory and Axolotl leave becomes a run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.history import queries
from engine.history.agreement import disagreements, read_anew
from engine.history.compare import differences
from engine.history.row import seconds
from engine.imports.runs import trainer_log, writing
from engine.jobs import lock
from engine.jobs.folder import RunFolder
from engine.recipe import read_recipe
from engine.words import NOTHING
from tests.engine.importing import MADE, WRITTEN, Imports, Place

NAMES = ("loss", "learning_rate", "grad_norm", "epoch", "mean_token_accuracy")


@pytest.fixture
def imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imports:
    return Imports(tmp_path, capsys)


def of_file(log: list[dict[str, Any]], name: str) -> dict[int, float]:
    """Step -> value, read plainly: of training steps, or of evaluations for ``eval_loss``."""
    rows = [row for row in log if (("loss" in row) or name == "eval_loss")]
    return {row["step"]: row[name] for row in rows if name in row}


@pytest.mark.parametrize(("name", "steps"), [("trl", 40), ("llama-factory", 18)])
def test_the_curves_of_a_real_folder_equal_its_file(
    name: str, steps: int, imports: Imports, tmp_path: Path
) -> None:
    place = Place(tmp_path, name)
    made = imports(place.path)
    log = place.state()["log_history"]
    assert len(of_file(log, "loss")) == steps
    for metric in (*NAMES, "eval_loss"):
        assert imports.curve(made, metric) == of_file(log, metric), metric
    row = imports.row(made)
    assert row.state == made["state"] == "finished"
    assert row.step == row.max_steps == place.state()["global_step"]
    assert row.train_loss == log[-1].get("train_loss", log[-2].get("train_loss"))
    assert row.best_eval_loss == min(of_file(log, "eval_loss").values())
    assert json.loads(row.imported or "")["path"] == str(place.path)
    assert made["already"] is False


def test_what_a_logged_step_says_besides_is_kept(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    [*_, last] = imports.events(imports(place.path), "metrics")
    entry = [row for row in place.state()["log_history"] if "loss" in row][-1]
    assert {key: last[key] for key in entry} == entry
    assert set(last) == {"v", "t", "type", "attempt", *entry}


def test_the_settings_of_a_trl_folder_and_no_others(imports: Imports, tmp_path: Path) -> None:
    made = imports(Place(tmp_path, "trl").path)
    assert made["tool"] == "TRL"
    text = imports.folder(made).recipe_file.read_text()
    assert tomllib.loads(text) == {
        "version": 2,
        "model": {"model_name_or_path": "tiny-llama"},
        "data": {"source": "(not known)"},
        "train": {
            "per_device_train_batch_size": 8, "num_train_epochs": 2.0, "eval_steps": 10,
            "save_steps": 20,
        },
        "lora": {
            "enabled": True, "r": 4, "lora_alpha": 8.0, "lora_dropout": 0.0, "bias": "none",
            "use_rslora": False, "use_dora": False, "init_lora_weights": True,
            "target_modules": ["q_proj", "v_proj"],
        },
    }  # fmt: skip
    assert read_recipe(imports.folder(made).recipe_file).lora.r == 4
    versions = json.loads(imports.row(made).versions or "{}")
    assert versions["trl"] == "1.14.2" and versions["torch"] == "2.13.0+cpu"


def test_a_llama_factory_folder_tells_more(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "llama-factory")
    made = imports(place.path)
    assert made["tool"] == "LLaMA-Factory"
    settings = made["settings"]
    assert settings["train.learning_rate"] == 1e-3
    assert settings["train.lr_scheduler_type"] == "cosine"
    assert settings["train.warmup_steps"] == 2
    assert settings["data.name"] == "products"
    assert settings["train.gradient_accumulation_steps"] == 1  # of the arguments in the event file
    assert "train.max_length" not in settings  # said nowhere in the folder
    # Its event files hold a time for every step, which the files' own times are not asked for.
    assert "TensorBoard" in made["times"]
    first = imports.events(made, "metrics")[0]
    assert first["step"] == 2 and 1_796_071_336 < first["t"] < 1_796_071_345
    # With the recipe that it was trained by, the rest is known as well.
    shutil.copy(MADE.parent / "imports" / "llama-factory-lora.yaml", place.path / "sft.yaml")
    again = imports(place.path, "--again")
    assert again["run"] != made["run"] and again["name"] == "llama-factory-2"
    assert again["settings"]["train.completion_only_loss"] is True
    assert again["settings"]["lora.r"] == 4  # the adapter is what was trained
    given = imports(place.path, "--again", "--recipe", place.path / "sft.yaml", "--name", "mine")
    assert given["name"] == "mine" and given["settings"] == again["settings"]


def test_an_axolotl_folder_is_known_by_its_settings(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    (place.path / "adapter_config.json").unlink()
    text = (MADE.parent / "imports" / "axolotl-lora.yml").read_text()
    card = f"---\ntags: [axolotl]\n---\naxolotl version: `0.12.0`\n```yaml\n{text}```\n"
    (place.path / "README.md").write_text(card)
    made = imports(place.path)
    assert made["tool"] == "Axolotl"
    assert made["settings"]["lora.r"] == 16 and made["settings"]["train.seed"] == 42
    assert made["settings"]["data.source"] == "teknium/GPT4-LLM-Cleaned"
    remarks = imports.folder(made).recipe_file.read_text()
    assert "# " in remarks and "default of Axolotl" in remarks


def test_arguments_as_json_but_never_a_pickle(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    (place.path / "training_args.bin").write_bytes(b"cos\nsystem\n(S'touch boom'\ntR.")
    tree = {"learning_rate": "2e-3", "lr_scheduler_type": "SchedulerType.LINEAR",
            "weight_decay": 0.1, "seed": -4, "optim": "adamw_hf", "bf16": True,
            "hub_token": "secret"}  # fmt: skip
    (place.path / "training_args.json").write_text(json.dumps(tree))
    made = imports(place.path)
    settings = made["settings"]
    assert settings["train.learning_rate"] == 2e-3 and settings["train.optim"] == "adamw_torch"
    assert settings["train.lr_scheduler_type"] == "linear" and settings["model.dtype"] == "bfloat16"
    text = imports.folder(made).recipe_file.read_text()
    assert "train.seed = -4 is left out" in text and "train.seed" not in settings
    assert "secret" not in text
    assert not Path("boom").exists() and not (place.path / "boom").exists()


def test_checkpoints_are_told_but_not_taken(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    (place.path / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    (place.path / "checkpoint-20" / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    made = imports(place.path)
    assert made["weights"] == str(place.path)
    told = imports.events(made, "checkpoint")
    size = (place.path / "checkpoint-20" / "trainer_state.json").stat().st_size
    assert [(event["step"], event["path"], event["best"]) for event in told] == [
        (20, "checkpoint-20", False),
        (40, "checkpoint-40", True),
    ]
    assert told[0]["bytes"] == size + 1000
    assert told[0]["lies"] == str(place.path / "checkpoint-20")
    assert sorted(path.name for path in imports.folder(made).path.iterdir()) == [
        "events.jsonl", "lock", "recipe.toml", "run.json",
    ]  # fmt: skip


def test_times_are_those_of_the_files(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    runtime = place.state()["log_history"][-1]["train_runtime"]
    place.dated(checkpoint_20=10.0, checkpoint_40=1.0)
    made = imports(place.path)
    row = imports.row(made)
    assert (row.created, row.ended) == (WRITTEN - runtime, WRITTEN)
    at = {event["step"]: event["t"] for event in imports.events(made, "metrics")}
    assert at[20] == WRITTEN - 10 and at[40] == WRITTEN - 1
    assert at[30] == pytest.approx(WRITTEN - 5.5)
    assert "spread evenly" in made["times"]
    told = imports.events(made, "imported")
    assert [event["message"] for event in told] == [f"times: {made['times']}"]


def test_times_of_a_run_that_was_resumed(imports: Imports, tmp_path: Path) -> None:
    """Its train_runtime, 30 s, is of the second part: the checkpoint is a day older."""
    place = Place(tmp_path, "trl")
    runtime = place.state()["log_history"][-1]["train_runtime"]
    place.dated(checkpoint_20=86_400.0)
    made = imports(place.path)
    assert "which is of the part since step 20" in made["times"]
    at = {event["step"]: event["t"] for event in imports.events(made, "metrics")}
    assert at[20] == WRITTEN - 86_400 and at[21] == WRITTEN - runtime
    row = imports.row(made)
    assert row.created == pytest.approx(WRITTEN - 86_400 - runtime) and row.ended == WRITTEN


def test_file_times_that_contradict_each_other_tell_nothing(
    imports: Imports, tmp_path: Path
) -> None:
    place = Place(tmp_path, "trl")  # copied: all files have one time
    (place.path / "trainer_state.json").unlink()
    made = imports(place.path)
    assert "no more than when the last was written" in made["times"]
    assert {event["t"] for event in imports.events(made)} == {WRITTEN}


def test_what_no_source_timed_took_no_time_that_is_known(
    imports: Imports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, "trl", "untimed")
    (place.path / "trainer_state.json").unlink()
    untimed, timed = imports(place.path), imports(Place(tmp_path, "trl").path)
    assert seconds(imports.row(untimed)) is None and (seconds(imports.row(timed)) or 0) > 1

    def said(*words: str) -> Any:
        assert main(["runs", *words, "--json", "--home", str(imports.home.path)]) == 0
        return json.loads(capsys.readouterr().out)

    def told(*words: str) -> list[str]:
        assert main(["runs", *words, "--home", str(imports.home.path)]) == 0
        return capsys.readouterr().out.splitlines()

    assert [run["name"] for run in said("list", "took<1h")] == ["trl"]
    assert [run["name"] for run in said("list", "took=none")] == ["untimed"]
    assert said("compare", "untimed", "trl")["metrics"]["seconds"][0] is None
    [line] = [one for one in told("compare", "untimed", "trl") if one.startswith("duration")]
    assert line.split()[1] == NOTHING and "*" not in line
    cells = {one.split()[0]: one.split()[1] for one in told("list", "--columns", "name,took")}
    assert cells["untimed"] == "-" != cells["trl"]
    hours = dict(imports.store().query("SELECT name, hours FROM run_summary"))
    assert hours["untimed"] is None and hours["trl"] > 0
    with read_anew(imports.home) as again:
        assert disagreements(imports.store().connection, again.connection) == []


def test_a_run_that_was_not_done_is_not_finished(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    (place.path / "trainer_state.json").unlink()
    shutil.rmtree(place.path / "checkpoint-40")
    made = imports(place.path)
    assert made["state"] == imports.row(made).state == "stopped"
    assert "step 20 of 40; why it went no further is not known" in made["reason"]
    assert max(imports.curve(made, "loss")) == 20
    early = Place(tmp_path, "trl", "early")
    state = {**early.state(), "max_steps": 400}
    (early.path / "trainer_state.json").write_text(json.dumps(state))
    made = imports(early.path)
    assert made["state"] == "stopped" and "it was told to stop" in made["reason"]
    assert imports.row(made).max_steps == 400


def test_the_newest_state_counts(imports: Imports, tmp_path: Path) -> None:
    """The folder's own is older than the checkpoints of a run that went on and was then killed."""
    place = Place(tmp_path, "trl")
    old = {**place.state("checkpoint-20/trainer_state.json"), "max_steps": 20}
    (place.path / "trainer_state.json").write_text(json.dumps(old))
    shutil.rmtree(place.path / "checkpoint-20")
    made = imports(place.path)
    assert len(imports.curve(made, "loss")) == 40 and made["state"] == "finished"


def test_only_llama_factorys_log(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "llama-factory")
    shutil.rmtree(place.path / "runs")
    (place.path / "trainer_state.json").unlink()
    shutil.rmtree(place.path / "checkpoint-36")
    log = place.path / trainer_log.NAME
    log.write_bytes(log.read_bytes()[:-30] + b"\n[1]\n\xff\n")
    os.utime(log, (WRITTEN, WRITTEN))
    made = imports(place.path)
    lines = [json.loads(line) for line in log.read_bytes().splitlines()[:-3]]
    wanted = {line["current_steps"]: line["loss"] for line in lines if "loss" in line}
    assert imports.curve(made, "loss") == wanted
    rates = {line["current_steps"]: line["lr"] for line in lines if "lr" in line}
    assert imports.curve(made, "learning_rate") == rates
    evaluated = {line["current_steps"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    assert imports.curve(made, "eval_loss") == evaluated
    row = imports.row(made)
    assert row.ended == WRITTEN and row.created == WRITTEN - 36
    assert made["state"] == "finished" and "trainer_log.jsonl" in made["times"]


def written(tmp_path: Path, text: str | bytes, name: str = "odd") -> Path:
    folder = tmp_path / "theirs" / name
    folder.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "trainer_state.json").write_bytes(data)
    return folder


def state(log: list[Any], **header: Any) -> str:
    return json.dumps({"global_step": 40, "max_steps": 40, "log_history": log, **header}, indent=1)


def test_odd_entries(imports: Imports, tmp_path: Path) -> None:
    log = [
        {"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "learning_rate": "1e-3"},
        {"step": 2, "loss": "2.5", "note": "a text", "flag": True, "list": [1], "none": None},
        {"step": 2, "extra": 7},
        {"loss": 3.0},
        {"step": -1, "loss": 3.0},
        {"step": 2.5, "loss": 3.0},
        "no entry",
        {"step": "3", "loss": 10**400, "type": 1, "t": 2, "attempt": 9, "run": 3},
        {"step": 4, "loss": 1, "eval_loss": 2, "eval_runtime": 3, "epoch": 1},
        {"step": 5},
    ]
    made = imports(written(tmp_path, state(log)))
    loss = imports.curve(made, "loss")
    assert loss[1] != loss[1] and loss[3] != loss[3]  # what is not finite is NaN in a series
    assert {step: loss[step] for step in (2, 4)} == {2: 2.5, 4: 1}
    assert imports.curve(made, "learning_rate") == {1: 1e-3}
    assert imports.curve(made, "eval_loss") == {4: 2}
    lines = {event["step"]: event for event in imports.events(made, "metrics")}
    assert lines[2]["extra"] == 7 and set(lines) == {1, 2, 3, 4}
    assert not {"note", "flag", "list", "none"} & lines[2].keys()
    assert (lines[3]["logged_type"], lines[3]["logged_t"], lines[3]["logged_attempt"]) == (1, 2, 9)
    assert lines[3]["attempt"] == 1 and lines[3]["loss"] == "Infinity"
    assert any("4 entries of the log name no step" in note for note in made["notes"])


def test_steps_that_were_done_again_count_once(imports: Imports, tmp_path: Path) -> None:
    log = [{"step": step, "loss": 1.0 * step} for step in range(1, 31)]
    log += [{"step": step, "loss": 100.0 + step} for step in range(21, 41)]
    made = imports(written(tmp_path, state(log)))
    loss = imports.curve(made, "loss")
    assert loss == {step: 1.0 * step if step < 21 else 100.0 + step for step in range(1, 41)}
    row = imports.row(made)
    assert (row.attempt, row.state, row.step) == (2, "finished", 40)
    shorter = written(tmp_path, state(log[:-15], global_step=25), "shorter")
    made = imports(shorter)  # what the first went past is undone
    assert max(imports.curve(made, "loss")) == 25


def test_a_run_without_a_log_is_still_one(imports: Imports, tmp_path: Path) -> None:
    made = imports(written(tmp_path, state([])))
    assert made["state"] == "finished" and imports.curve(made, "loss") == {}
    assert imports.row(made).step == 40


GOOD = [{"step": step, "loss": 2.0 + step} for step in range(1, 6)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the file holds no object"),
        ("[]", "line 1: the file holds no object"),
        ('{"log_history": [{"step": 1, "loss": 2.0', "line 1: "),
        ('{"log_history":\n[\n{"loss": oops', "line 3: Expecting value"),
        ('{"log_history": [' + "[" * 100_000, "not to be read"),
        ('{"global_step": ' + "9" * 5000, "not to be read"),
        (b'{"log_history": [{"step": 1, "\xff\xfe": 2}]}', "not UTF-8"),
        ('{"log_history": {}', "line 1: '}' was expected, not the end of the file"),
        ('{"a": "' + "x" * 5_000_000, "a value of more than"),
        ("\x00" * 1000, "line 1: the file holds no object"),
    ],
    ids=range(10),
)
def test_a_state_of_which_nothing_can_be_read(
    text: str | bytes, words: str, imports: Imports, tmp_path: Path
) -> None:
    folder = written(tmp_path, text)
    assert imports(folder, status=1) is None
    assert f"{folder}/trainer_state.json: " in imports.err
    assert words in imports.err and "nothing of its log can be read" in imports.err
    assert len(imports.err.splitlines()) == 1
    assert imports.runs() == []


@pytest.mark.parametrize("cut", [1, 20, 60, 100, 140])
def test_what_stands_before_a_break_is_imported(cut: int, imports: Imports, tmp_path: Path) -> None:
    text = state(GOOD)
    torn = text[: len(text) - cut]
    made = imports(written(tmp_path, torn))
    whole = torn.count("}")
    assert imports.curve(made, "loss") == {row["step"]: row["loss"] for row in GOOD[:whole]}
    line = torn.count("\n") + 1
    last = GOOD[whole - 1]["step"] if whole else 0
    assert made["state"] == "stopped"
    assert f"breaks off after step {last} of 40: " in made["reason"]
    assert imports.row(made).step == last, "not the step that the file's head names"
    said = f"line {line}: "
    assert any(said in note and f"{whole} logged steps" in note for note in made["notes"])


def test_of_a_broken_state_an_older_checkpoint_tells_the_rest(
    imports: Imports, tmp_path: Path
) -> None:
    place = Place(tmp_path, "trl")
    shutil.rmtree(place.path / "checkpoint-40")
    path = place.path / "trainer_state.json"
    text = path.read_text()
    path.write_text(text[: text.index('"step": 31,')])
    made = imports(place.path)
    assert max(imports.curve(made, "loss")) == 30 and imports.row(made).max_steps == 40
    path.write_text(text[: text.index('"step": 11,')])
    made = imports(place.path, "--again")
    assert max(imports.curve(made, "loss")) == 20, "the checkpoint's tells more"
    path.write_text(text[:30])  # nothing at all: the older one is the newest that can be read
    made = imports(place.path, "--again")
    assert max(imports.curve(made, "loss")) == 20


def test_a_second_import_knows_the_first(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    made = imports(place.path)
    again = imports(place.path)
    assert again["run"] == made["run"] and again["already"] and not again["changed"]
    (tmp_path / "link").symlink_to(place.path)
    assert imports(tmp_path / "link")["run"] == made["run"]
    assert imports(place.path / "trainer_state.json")["run"] == made["run"]
    copy = Place(tmp_path, "trl", "moved")
    assert imports(copy.path)["run"] == made["run"]
    other = imports(place.path, "--again")
    assert other["run"] != made["run"] and other["name"] == "trl-2"
    assert imports(place.path)["run"] == other["run"]
    # The run went on in the meantime.
    log = [{"step": step, "loss": 1.0} for step in range(1, 60)]
    (place.path / "trainer_state.json").write_text(state(log, global_step=59, max_steps=59))
    later = imports(place.path)
    assert later["already"] and later["changed"] and later["run"] == other["run"]
    assert main(["runs", "import", str(place.path), "--home", str(imports.home.path)]) == 0
    said = imports.capsys.readouterr().out
    assert f"was imported already, as trl-2 ({other['run']}); it holds more now: --again" in said


def test_several_paths(imports: Imports, tmp_path: Path) -> None:
    one, two = Place(tmp_path, "trl"), Place(tmp_path, "llama-factory")
    made = imports(one.path, two.path)
    assert [run["name"] for run in made["runs"]] == ["trl", "llama-factory"]
    made = imports(one.path, tmp_path / "none", status=1)
    assert made["runs"][0]["already"] and "no such file or folder" in made["errors"][0]
    assert "no such file or folder" in imports.err


def test_nothing_is_left_of_an_import_that_fails(
    imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, "trl")
    for failure in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def put(*_: Any, failure: BaseException = failure) -> None:
            raise failure

        monkeypatch.setattr(writing, "_put", put)
        assert main(["runs", "import", str(place.path), "--home", str(imports.home.path)]) != 0
        assert imports.runs() == []
    assert "No space left on device" in imports.capsys.readouterr().err


def test_a_file_that_is_written_to_meanwhile(
    imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, "trl")
    line = writing._line

    def meanwhile(event: dict[str, Any]) -> bytes:
        if event.get("step") == 5:
            (place.path / "trainer_state.json").write_text(state(GOOD))
        return line(event)

    monkeypatch.setattr(writing, "_line", meanwhile)
    imports(place.path, status=1)
    assert "is being written to; import it when the run has ended" in imports.err
    assert imports.runs() == []


SLOW = """
import sys, time
from engine.cli import main
from engine.imports.runs import writing
line = writing._line
def slow(event):
    if event.get("step") == 20:
        print("half", flush=True)
        time.sleep(60)
    return line(event)
writing._line = slow
main(["runs", "import", sys.argv[1], "--home", sys.argv[2]])
"""


def test_a_killed_import_leaves_nothing_that_lasts(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    command = [sys.executable, "-c", SLOW, str(place.path), str(imports.home.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        [aside] = imports.runs()
        assert aside.startswith(".importing-")
        assert queries.list_runs(imports.store()) == []  # half a run is none
        assert lock.is_held(imports.home.runs / aside / "lock")
        other = imports(Place(tmp_path, "llama-factory").path)
        assert imports.runs() == [aside, other["run"]]  # one that lives is let alone
        process.send_signal(signal.SIGKILL)
    made = imports(place.path)
    assert imports.runs() == sorted((made["run"], other["run"]))


def test_it_neither_goes_on_nor_answers_here(
    imports: Imports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, "trl")
    (place.path / "trainer_state.json").unlink()
    shutil.rmtree(place.path / "checkpoint-40")
    (place.path / "checkpoint-20" / "adapter_model.safetensors").write_bytes(b"x")
    made = imports(place.path)
    before = imports.folder(made).journal.read_bytes()
    home = ["--home", str(imports.home.path)]
    for words in (["resume", "trl"], ["resume", "trl", "--set", "train.max_steps=9", "--yes"],
                  ["queue", "add", "trl"]):  # fmt: skip
        assert main([*words, *home]) == 1
        assert "was imported from TRL: it cannot go on here" in capsys.readouterr().err
    assert imports.folder(made).journal.read_bytes() == before
    assert main(["export", "trl", "--to", "adapter", "--out", str(tmp_path / "x"), *home]) == 1
    words = f"imported without its weights; they lie in {place.path}/checkpoint-20"
    assert words in capsys.readouterr().err
    assert main(["runs", "show", "trl", *home]) == 0
    shown = capsys.readouterr().out
    assert f"from TRL: {place.path}\n" in shown and f"{place.path}/checkpoint-20\n" in shown
    assert main(["runs", "show", "trl", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["imported"]["from"] == "transformers"


def test_a_difference_claims_nothing_that_is_not_known(
    imports: Imports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports(Place(tmp_path, "trl").path, Place(tmp_path, "llama-factory").path)
    words = ["runs", "diff", "trl", "llama-factory", "--json", "--home", str(imports.home.path)]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    found, some = document["recipe"], document["known_of_some"]
    assert found["train.save_steps"] == [20, 10] and "train.learning_rate" not in found
    assert some["train.learning_rate"] == [None, 1e-3]
    assert not {"train.loss_watchdog", "lora.r", "data.layout"} & (found.keys() | some.keys())
    folders = [RunFolder(imports.home.runs / run) for run in document["runs"]]
    assert differences(folders)["train.learning_rate"] == [None, 1e-3]


def test_a_report_claims_nothing_that_is_not_known(imports: Imports, tmp_path: Path) -> None:
    imports(written(tmp_path, state([])), "--name", "bare")
    imports(Place(tmp_path, "trl").path)
    home = ["--home", str(imports.home.path)]
    for name in ("bare", "trl"):
        to = tmp_path / f"{name}.md"
        assert main(["runs", "export", name, "--to", str(to), *home]) == 0
    bare, trl = ((tmp_path / f"{name}.md").read_text() for name in ("bare", "trl"))
    assert "LoRA" not in bare and "| lora.r |" not in bare and "| method |" not in bare
    assert "| train.learning_rate |" not in bare + trl and "| clean.rules |" not in bare + trl
    assert "| method | LoRA, r=4, lora_alpha=8 |" in trl and "| lora.r | 4 |" in trl
    assert "that are known differ from the defaults" in bare and "| data.source |" not in bare


def test_repeating_says_how_much_of_the_recipe_is_not_known(
    imports: Imports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = imports(Place(tmp_path, "trl").path)
    folder = imports.folder(made)
    unknown = len([key for key in read_recipe(folder.recipe_file).flat() if "." in key])
    unknown -= len(folder.settings()) + 1  # of the known ones data.source is none, one is changed
    words = ["runs", "repeat", "trl", "--set", "train.learning_rate=1e-3", "--dry-run"]
    assert main([*words, "--home", str(imports.home.path)]) == 0
    said = "".join(capsys.readouterr())
    assert f"{unknown} values that its import did not tell: the defaults" in said
    assert "data.source: not known, has to be set" in said


def test_nothing_tells_of_an_adapter_where_there_is_none(imports: Imports, tmp_path: Path) -> None:
    made = imports(written(tmp_path, state([])))
    assert "lora" not in tomllib.loads(imports.folder(made).recipe_file.read_text())


def test_names(imports: Imports, tmp_path: Path) -> None:
    place = Place(tmp_path, "trl")
    assert imports(place.path / "checkpoint-20")["name"] == "trl-checkpoint-20"
    assert imports(place.path, "--name", "mine")["name"] == "mine"
    imports(place.path, "--name", "mine", "--again", status=1)
    assert "a run named 'mine' exists already" in imports.err
    imports(place.path, "--name", "a/b", "--again", status=1)
    assert "use letters, digits" in imports.err


def test_ids_are_of_when_it_began(imports: Imports, tmp_path: Path) -> None:
    made = imports(Place(tmp_path, "trl").path)
    began = imports.row(made).created or 0
    assert made["run"].startswith(time.strftime("%Y%m%d-%H%M%S-", time.localtime(began)))


@pytest.mark.slow
def test_a_hundred_megabytes_take_little_memory(imports: Imports, tmp_path: Path) -> None:
    folder = written(tmp_path, b"")
    names = ("epoch", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy", "num_tokens")
    with (folder / "trainer_state.json").open("w") as file:
        file.write('{"log_history": [\n')
        step = 0
        while file.tell() < 100_000_000:
            step += 1
            values = {name: step / (number + 7) for number, name in enumerate(names)}
            file.write(json.dumps({"loss": 2 + 1 / step, "step": step, **values}, indent=1) + ",\n")
        file.write(json.dumps({"loss": 1.0, "step": step + 1}) + "\n], ")
        file.write(f'"global_step": {step + 1}, "max_steps": {step + 1}}}')
    # Not ru_maxrss: a process has that from the one that started it, and this one may be large.
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom engine.cli import main\n"
        "def peak():\n"
        "    return Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]\n"
        "home = ['--home', sys.argv[2]]\n"
        "assert main(['runs', 'import', sys.argv[3], *home]) == 0\n"
        "before = peak()\n"
        "assert main(['runs', 'import', sys.argv[1], *home]) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, before, peak())"
    )
    small = Place(tmp_path, "trl").path  # what is imported for every run is there before
    command = [sys.executable, "-c", code, str(folder), str(imports.home.path), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, before, after = map(float, done.stdout.splitlines()[-1].split())
    size = (folder / "trainer_state.json").stat().st_size / 1024
    assert seconds < 60 and after - before < size / 4, (before, after)  # KiB
    curves = [imports.curve({"run": run}, "loss") for run in imports.runs() if run[0] != "."]
    loss = max(curves, key=len)
    assert len(loss) == step + 1 and loss[1000] == 2 + 1 / 1000
