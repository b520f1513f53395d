"""The bench's processes, its figures and its table, without torch."""

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.cells import cell_len

from engine.bench.contestants import CONTESTANTS, Entrant
from engine.bench.measured import Measured, result, warm_up, with_ratios
from engine.bench.process import Ended, run_process
from engine.bench.rows import RowSet
from engine.bench.table import WIDTH, table
from engine.history.benches import add_bench, latest_bench, latest_benches
from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import Home, open_home
from engine.recipe import load_recipe
from tests.engine.fakes import runs

LINGERING = "tests.engine.fakes.lingering"


def run(
    tmp_path: Path, *arguments: str, seconds: float = 30, interrupted: Any = lambda told: False
) -> tuple[Ended, list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    ended = run_process(
        LINGERING,
        arguments,
        told.append,
        folder=tmp_path / "work",
        log=tmp_path / "work.log",
        deadline=time.monotonic() + seconds,
        interrupted=lambda: interrupted(told),
    )
    return ended, told


def gone(told: list[dict[str, Any]]) -> None:
    runs.wait(lambda: not psutil.pid_exists(told[0]["child"]), "the end of what it left behind")


def test_a_process_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    ended, told = run(tmp_path, seconds=3)
    assert ended == Ended("cut") and time.monotonic() - began < 15
    gone(told)


def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    ended, told = run(tmp_path, interrupted=bool)
    assert ended == Ended("interrupted")
    gone(told)


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    ended, told = run(tmp_path, "fail")
    assert ended == Ended("failed", "ValueError: no such luck")
    assert "Traceback" in (tmp_path / "work.log").read_text()
    gone(told)


def test_what_a_finished_process_left_behind_ends_too(tmp_path: Path) -> None:
    ended, told = run(tmp_path, "leave")
    assert ended == Ended("finished")
    gone(told)


def test_a_death_without_a_word_is_told(tmp_path: Path) -> None:
    def kill(told: list[dict[str, Any]]) -> bool:
        if told:
            psutil.Process(told[0]["child"]).parent().kill()
        return False

    ended, told = run(tmp_path, interrupted=kill)
    assert ended == Ended("failed", "killed by SIGKILL from outside")
    gone(told)


# ---- figures --------------------------------------------------------------------------------

RECIPE = load_recipe("amazon-titles", ["train.gradient_accumulation_steps=2"])
ROWS = RowSet("corpus", "rows: 100 of 128 tokens", RECIPE, Path("x"), 1000, 100.0, 40.0)


def entrant(id: str) -> Entrant:
    contestant = next(one for one in CONTESTANTS if one.id == id)
    return Entrant(contestant, RECIPE, contestant.label.format(bits="16-bit"))


def measured(seconds: dict[int, float]) -> Measured:
    return Measured(
        began=1000.0,
        seconds=seconds,
        losses={1: 9.0, 12: float("nan")},
        phases={"importing torch": 2.0, "importing trl": 3.0, "loading the model": 4.0},
        first_step=1020.0,
        peak_bytes=14_100_000_000,
    )


def test_the_first_steps_do_not_count() -> None:
    assert [warm_up(steps) for steps in (1, 5, 20, 40, 1000)] == [0, 2, 8, 10, 10]
    steps = {step: 5.0 if step <= 10 else 0.5 for step in range(1, 41)} | {20: 9.0}
    found = result(entrant("tunebench"), ROWS, measured(steps), Ended("finished"), 40, "")
    assert found["step_seconds"] == 0.5 and found["counted_steps"] == 30
    assert found["step_seconds_max"] == 9.0 and found["step_seconds_mean"] > 0.5
    assert found["padded_tokens_per_second"] == 2 * 32 * 128 / 0.5
    assert found["tokens_per_second"] == 2 * 32 * 100 / 0.5
    assert found["trained_tokens_per_second"] == 2 * 32 * 40 / 0.5
    assert found["importing_seconds"] == 5.0 and found["loading_seconds"] == 4.0
    assert found["first_step_after_seconds"] == 20.0 and found["first_step_seconds"] == 5.0
    assert found["warm_up_extra_seconds"] == 45.0
    assert (found["first_loss"], found["last_loss"]) == (9.0, "nan")


def test_cut_before_the_first_counted_step_is_a_failure() -> None:
    early = {step: 1.0 for step in range(1, 11)}
    found = result(entrant("bare"), ROWS, measured(early), Ended("cut"), 40, "")
    assert found["state"] == "failed" and "after 10 of 40 steps" in found["reason"]
    later = result(entrant("bare"), ROWS, measured(early | {11: 2.0}), Ended("cut"), 40, "")
    assert later["state"] == "cut" and later["step_seconds"] == 2.0


def test_ratios_are_to_the_fastest_on_the_same_rows() -> None:
    results = [
        {"rows": "corpus", "tokens_per_second": 100.0},
        {"rows": "corpus", "tokens_per_second": 400.0},
        {"rows": "corpus", "tokens_per_second": None},
        {"rows": "full", "tokens_per_second": 50.0},
    ]
    found = with_ratios(results, 1000.0)
    assert [one["to_best"] for one in found] == [0.25, 1.0, None, 1.0]
    assert [one["to_limit"] for one in found] == [0.1, 0.4, None, 0.05]
    assert with_ratios(results, None)[0]["to_limit"] is None


def document(**fields: Any) -> dict[str, Any]:
    """A bench on a GPU, with everything that makes lines long."""
    steps = {step: 0.154 for step in range(1, 41)}
    one = result(entrant("tunebench"), ROWS, measured(steps), Ended("finished"), 40, "")
    slow = {step: 123.4 for step in range(1, 41)}
    two = result(entrant("unsloth"), ROWS, measured(slow), Ended("cut"), 40, "")
    two["others"] = "GPU 0 is also used by process 4711 python (12.0 GiB)"
    words = "out of memory (\x1b[31mCUDA" + " out of memory" * 20 + ")\u202e漢字"
    three = result(entrant("trl-4bit"), ROWS, Measured(0.0), Ended("failed", words), 40, "")
    return {
        "id": "a",
        "t": 1_795_000_000.0,
        "state": "interrupted",
        "quick": True,
        "host": "here",
        "device": "cuda",
        "device_name": "NVIDIA H200 " * 9,
        "gpu": "NVIDIA H200",
        "recipe": "amazon-titles",
        "model": "unsloth/Llama-3.2-3B is not on this machine: random weights",
        "random_weights": True,
        "parameters": 3_212_749_824,
        "lora_r": 8,
        "per_device_train_batch_size": 32,
        "gradient_accumulation_steps": 2,
        "max_length": 128,
        "steps": 40,
        "warm_up_steps": 10,
        "card": {"dtype": "bfloat16", "size": 8192, "flops_per_second": 788e12},
        "limit_factor": 4,
        "limit_tokens_per_second": 61_300.0,
        "rows": {"corpus": {"words": ROWS.words, "trained_tokens": 40.0}},
        "results": with_ratios([one, two, three], 61_300.0),
        "left_out": [{"contestant": None, "rows": "full", "why": "not with --quick"}],
        "notes": ["x" * 200],
        **fields,
    }


def test_the_table_fits_80_columns_whatever_it_tells() -> None:
    lines = table(document())
    assert max(map(cell_len, lines)) <= WIDTH
    text = "\n".join(lines)
    assert "\x1b" not in text and "\u202e" not in text
    (ours,) = (line for line in lines if line.startswith("tunebench  ") and "1.00" in line)
    assert ours.split() == [
        *("tunebench", "0.1540", "53,195", "41,558", "16,623", "1.00", "68", "%", "14.10")
    ]
    assert any(line.startswith("unsloth 4-bit*") and " 123.4 " in line for line in lines)
    assert "process 4711 python" in text and "after 40 of 40 steps" in text
    assert "788 TFLOP/s measured" in text and "61,300" in text
    assert "the losses are not" in text and "Left out: all on full rows: not with --quick" in text
    assert "Interrupted: what was measured until then is kept." in text


def test_nothing_measured_is_told_too() -> None:
    lines = table(document(results=[], rows={}))
    assert "Interrupted before anything was measured." in lines


# ---- the history ----------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def kept(home: Home, id: str, t: float, **fields: Any) -> None:
    add_bench(home, document(id=id, t=t, **fields))


def test_the_latest_bench_of_a_device(home: Home) -> None:
    kept(home, "old", 1.0)
    kept(home, "new", 2.0, state="running", notes=["first"])
    kept(home, "new", 2.0, notes=["last"])
    kept(home, "empty", 3.0, results=[])
    kept(home, "cpu", 4.0, gpu=None)
    kept(home, "elsewhere", 5.0, host="there")
    store = open_store(home)
    ingest_all(home, store, live=False)
    assert len(store.query("SELECT * FROM benches")) == 5
    assert [bench["id"] for bench in latest_benches(store, "here")] == ["cpu", "new"]
    found = latest_bench(store, "here", {"NVIDIA H200"})
    assert found is not None and found["id"] == "new" and found["notes"] == ["last"]
    for gpus, id in (((), "cpu"), (("Tesla T4",), "cpu")):
        found = latest_bench(store, "here", gpus)
        assert found is not None and found["id"] == id, "of the CPU; else the newest there is"
    assert latest_bench(store, "nowhere", ()) is None


def test_a_line_that_somebody_wrote_by_hand_breaks_nothing(home: Home) -> None:
    kept(home, "one", 1.0)
    with home.journal.open("a") as journal:
        journal.write('{"type":"bench","document":{"id":"x","host":"here","results":[1,null]}}\n')
        journal.write('{"type":"bench","document":[1]}\n{"type":"bench"}\n')
        journal.write('{"type":"bench","document":{"id":"y","host":"here","t":"?","gpu":{}}}\n')
    store = open_store(home)
    ingest_all(home, store, live=False)
    found = latest_bench(store, "here", {"NVIDIA H200"})
    assert found is not None and found["id"] == "one"
    assert os.path.getsize(home.journal)
