"""The store of token ids: a file is whole or not there, made by one, and not kept for ever."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data.dataset import Dataset
from engine.data.progress import Cancelled
from engine.data.tokenised import find_tokenised, split, store
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import Home, open_home
from engine.recipe import Recipe
from engine.train.rows import encode, encode_split
from tests.engine.shaped import rows, write_dataset
from tests.engine.tokenising import PIECE, SHARD, examples, files, key, made, small_shards

Make = Callable[..., Recipe]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def dataset(home: Home) -> Dataset:
    return write_dataset(home, "pair", rows("pair", 300))


# ---- whole or not there ---------------------------------------------------------------------


def another(home: Home, recipe: Path, workers: int = 0, kill_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.engine.tokenising", str(home.path), "pair", str(recipe)]
    return subprocess.Popen(
        [*command, str(workers), str(kill_at)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_recipe: Make) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(tiny_recipe().to_toml())
    return file


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_whole_when_it_was_killed_is_not_made_again(
    home: Home,
    dataset: Dataset,
    tiny_recipe: Make,
    recipe_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    process = another(home, recipe_file, workers, kill_at=130)
    assert process.wait(60) == -9
    (folder,) = (path for path in store.store(home).iterdir() if path.is_dir())
    before = {path.name: path.stat().st_ino for path in folder.glob("*.arrow")}
    assert [name[:5] for name in sorted(before)] == ["00000", "00001", "00002"]
    (folder / "00002.tmp").write_bytes(b"half a file")

    small_shards(monkeypatch)
    told: list[int] = []
    found = made(home, dataset, tiny_recipe(), progress=lambda done, rows: told.append(done))
    assert told == [140, 160, 180, 200]
    after = files(found)
    assert before.items() <= after.items() and len(after) == 5
    assert not list(folder.glob("*.tmp"))
    whole = [example.input_ids for example in examples(dataset, tiny_recipe())]
    assert found.table["input_ids"].to_pylist() == whole


def test_two_at_once_make_it_once(home: Home, dataset: Dataset, recipe_file: Path) -> None:
    both = [another(home, recipe_file) for _ in range(2)]
    outputs = sorted(int(process.communicate(timeout=60)[0]) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [0, 200 // PIECE]


def test_who_waits_for_another_says_so_and_can_be_cancelled(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    recipe = tiny_recipe()
    whole = made(home, dataset, recipe)
    last = whole.parts[-1][2]
    assert last and whole.entry
    last.unlink()
    told: list[int] = []
    with whole.entry.making(lambda: None), pytest.raises(Cancelled):
        made(
            *(home, dataset, recipe),
            progress=lambda done, rows: told.append(done),
            cancelled=lambda: len(told) > 1,
        )
    assert told == [160, 160]  # what the other one has done


def test_cancelling_keeps_what_is_whole(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    told: list[int] = []
    options = {"progress": lambda done, rows: told.append(done)}
    with pytest.raises(Cancelled):
        made(home, dataset, tiny_recipe(), cancelled=lambda: told[-1:] == [100], **options)
    # The piece after that was the last one of a file.
    del told[:]
    made(home, dataset, tiny_recipe(), **options)
    assert told[0] == 3 * SHARD + PIECE


def damage_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 8)


def exchange(file: Path) -> None:
    """Another whole file under this one's number."""
    other = next(path for path in file.parent.glob("*.arrow") if path != file)
    shutil.copyfile(other, file.with_name(file.name[:6] + other.name[6:]))
    file.unlink()


@pytest.mark.parametrize(
    "harm", [damage_byte, truncate, exchange, Path.unlink, lambda file: file.write_bytes(b"")]
)
def test_a_damaged_file_is_made_again_and_never_trained_on(
    home: Home,
    dataset: Dataset,
    tiny_recipe: Make,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], object],
) -> None:
    small_shards(monkeypatch)
    recipe = tiny_recipe()
    first = made(home, dataset, recipe)
    values, before = first.table.to_pylist(), files(first)
    harmed = first.parts[2][2]
    assert harmed
    # Not the file that is mapped: what is done to that one is seen by who maps it.
    shutil.copyfile(harmed, harmed.with_suffix(".copy"))
    harmed.with_suffix(".copy").replace(harmed)
    harm(harmed)
    formatter = Formatter.of(recipe)
    options = {"rows": 200, "completion_only_loss": True}
    assert find_tokenised(home, dataset, "train", formatter, **options) is None
    told: list[int] = []
    again = made(home, dataset, recipe, progress=lambda done, rows: told.append(done))
    assert told == [180, 200]  # that file alone
    assert again.table.to_pylist() == values
    same = files(again).items() & before.items()
    assert len(same) == 4 and harmed.name in files(again)


def test_a_process_that_is_killed_is_told_of_and_what_is_whole_is_kept(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch, 2)
    import psutil

    def kill(done: int, rows: int) -> None:
        if done >= 2 * SHARD:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    child.kill()

    monkeypatch.setattr("engine.data.processes._AHEAD", 0)  # nothing is done before its turn
    with pytest.raises(UserError, match=r"a tokenising process was ended by signal 9.*is kept"):
        made(home, dataset, tiny_recipe(), progress=kill)
    small_shards(monkeypatch)
    told: list[int] = []
    made(home, dataset, tiny_recipe(), progress=lambda done, rows: told.append(done))
    assert told[0] == 2 * SHARD + PIECE


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_without_a_place_is_named_by_its_line(
    home: Home, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    small_shards(monkeypatch, workers)
    dataset = write_dataset(home, "conversation", rows("conversation", 200))
    recipe = tiny_recipe("format.template=alpaca")
    with pytest.raises(UserError, match=r"format.template.*\(row of line 3\)"):
        made(home, dataset, recipe)


# ---- how much is kept -----------------------------------------------------------------------


def test_the_least_recently_used_goes_but_nothing_that_is_in_use(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> set[int]:
        return {length for length in keys if (store.store(home) / keys[length]).exists()}

    recipes = {length: tiny_recipe(f"train.max_length={length}") for length in range(50, 55)}
    keys = {length: key(dataset, recipe) for length, recipe in recipes.items()}
    in_use = made(home, dataset, recipes[50])
    rows_in_use = in_use.table.to_pylist()
    for length in (51, 52, 53):
        made(home, dataset, recipes[length]).close()
        os.utime(store.store(home) / keys[length] / "used", (length, length))
    os.utime(store.store(home) / keys[50] / "used", (1, 1))
    made(home, dataset, recipes[51]).close()  # used again, now
    assert kept() == {50, 51, 52, 53}

    size = sum(file.stat().st_blocks * 512 for file in in_use.entry.folder.iterdir())
    monkeypatch.setattr(store, "MOST_BYTES", int(3.5 * size))
    made(home, dataset, recipes[54]).close()
    assert kept() == {50, 51, 54}
    assert not list(store.store(home).glob(".old-*"))
    in_use.close()
    monkeypatch.setattr(store, "MOST_BYTES", 0)
    last = made(home, dataset, recipes[52])
    assert kept() == {52}
    # Linux keeps what is mapped, removed or not.
    assert in_use.table.to_pylist() == rows_in_use
    assert last.rows == 200 and last.lengths_in_split.any()


def test_a_store_takes_a_quarter_of_the_free_space_at_most(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(home, dataset, tiny_recipe())
    first.close()
    monkeypatch.setattr(store, "MOST_OF_FREE", 0.0)
    made(home, dataset, tiny_recipe("train.max_length=64"))
    assert not first.entry.folder.exists()


@pytest.mark.parametrize("how", ["nearly full", "full", "no folder"])
def test_a_store_that_cannot_be_written_costs_the_next_start_only(
    home: Home,
    dataset: Dataset,
    tiny_recipe: Make,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    small_shards(monkeypatch)
    recipe = tiny_recipe("train.packing=true")
    expected = encode(
        dataset.split("train"), Formatter.of(recipe), completion_only_loss=True, packing=True
    )
    if how == "nearly full":
        monkeypatch.setattr(store, "RESERVE_BYTES", 1 << 60)
    elif how == "full":

        def refuse(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(store, "sync", refuse)
    else:
        (home.path / "cache").mkdir()
        store.store(home).write_text("no folder")
    found = encode_split(
        *(home, dataset, "train", Formatter.of(recipe)), completion_only_loss=True, packing=True
    )
    why = {"nearly full": "are free", "full": "No space left", "no folder": "File exists"}[how]
    assert why in found.not_kept
    assert found.dataset[:] == expected.dataset[:]
    if how != "no folder":
        assert not [*store.store(home).rglob("*.arrow"), *store.store(home).rglob("*.tmp")]


def test_several_processes_only_where_there_is_work_for_them(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    in_order = split.in_order

    def watched(task, items, workers, peaks, look_up):
        asked.append(workers)
        return in_order(task, items, 0, peaks, look_up)

    monkeypatch.setattr(split, "in_order", watched)
    monkeypatch.setattr(split, "cores", lambda: 4)
    text = dataset.split("train").nbytes / 4
    for length, small in ((100, 800_000), (101, text / 3.5), (102, text / 1.5), (103, 1)):
        monkeypatch.setattr(split, "SMALL_TOKENS", small)
        made(home, dataset, tiny_recipe(f"train.max_length={length}"))
    assert asked == [0, 3, 0, 4]


def test_an_entry_in_use_is_locked_and_let_go(
    home: Home, dataset: Dataset, tiny_recipe: Make
) -> None:
    found = made(home, dataset, tiny_recipe())
    assert found.entry

    def removable() -> bool:
        with (found.entry.folder / "used").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    assert not removable()
    found.close()
    assert removable()
