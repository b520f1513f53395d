"""What the trainer gets: rows and packed sequences, mapped, and made once for all attempts."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import Dataset
from engine.data.tokenised import split, store
from engine.data.tokens import Formatter
from engine.home import Home, open_home
from engine.jobs.context import RunContext, Stopped
from engine.jobs.journal import Journal
from engine.jobs.launch import create_run
from engine.recipe import Recipe
from engine.train.rows import IGNORED, encode, encode_split, row_lengths
from tests.engine.shaped import rows, write_dataset
from tests.engine.tokenising import SHARD, examples, files, no_tokenizer, small_shards
from tests.engine.training import Attempt, events

Make = Callable[..., Recipe]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def dataset(home: Home) -> Dataset:
    return write_dataset(home, "pair", rows("pair", 300))


def test_the_trainer_maps_its_rows(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    recipe = tiny_recipe("train.max_length=40")
    encoded = encode_split(
        *(home, dataset, "train", Formatter.of(recipe)), completion_only_loss=True
    )
    rows = encoded.dataset
    assert {Path(file["filename"]).name for file in rows.cache_files} == set(files(encoded.made))
    assert rows.column_names == ["input_ids", "labels"]
    assert rows[:] == encoded.made.table.select(["input_ids", "labels"]).to_pydict()
    assert encoded.rows == len(rows) == encoded.made.table.num_rows
    assert encoded.tokens == sum(map(len, rows["input_ids"]))
    # Another process is given names of files, not rows.
    assert len(pickle.dumps(rows)) < 20_000
    assert pickle.loads(pickle.dumps(rows))[:] == rows[:]
    assert row_lengths(rows).tolist() == list(map(len, rows["input_ids"]))


def test_the_longest_come_first_and_few_rows_are_few(
    home: Home, dataset: Dataset, tiny_recipe: Make
) -> None:
    formatter = Formatter.of(tiny_recipe())
    options = {"completion_only_loss": True, "longest_first": True}
    encoded = encode_split(home, dataset, "train", formatter, rows=70, **options)
    table = dataset.split("train").slice(0, 70)
    ids = [example.input_ids for example in formatter.examples(table)]
    assert encoded.dataset["input_ids"][:] == sorted(ids, key=lambda row: -len(row))
    assert row_lengths(encoded.dataset).tolist() == sorted(map(len, ids), reverse=True)
    in_memory = encode(table, formatter, **options)
    assert in_memory.dataset[:] == encoded.dataset[:]
    assert encode(table.slice(0, 0), formatter, **options).rows == 0


def packed_by_hand(dataset: Dataset, recipe: Recipe) -> list[dict[str, list[int]]]:
    from engine.data.packing import pack

    whole = [(e.input_ids, e.trained(True)) for e in examples(dataset, recipe)]
    kept = [(ids, trained) for ids, trained in whole if any(trained)]
    return [
        {
            "input_ids": [token for row in rows for token in kept[row][0]],
            "labels": [
                token if on else IGNORED
                for row in rows
                for token, on in zip(*kept[row], strict=True)
            ],
            "seq_lengths": [len(kept[row][0]) for row in rows],
        }
        for rows in pack([len(ids) for ids, _ in kept], recipe.train.max_length)
    ]


def test_packed_sequences_are_made_once_and_mapped(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    recipe = tiny_recipe("train.packing=true", "train.max_length=150")
    formatter = Formatter.of(recipe)

    def encoded():
        return encode_split(
            *(home, dataset, "train", formatter), completion_only_loss=True, packing=True
        )

    first = encoded()
    by_hand = packed_by_hand(dataset, recipe)
    assert first.dataset.to_list() == by_hand
    assert first.rows == 200 and first.sequences == len(by_hand) < 200
    assert len(first.dataset.cache_files) == -(-len(by_hand) // SHARD) > 1
    lost = first.packed.parts[1][2]
    before = {path.name: path.stat().st_ino for _, _, path in first.packed.parts}
    with monkeypatch.context() as nothing_is_made:
        no_tokenizer(nothing_is_made)
        nothing_is_made.setattr("engine.data.tokenised.packed.pack", None)
        assert encoded().dataset.to_list() == by_hand
    lost.unlink()
    again = encoded()
    assert again.dataset.to_list() == by_hand
    after = {path.name: path.stat().st_ino for _, _, path in again.packed.parts}
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in before if name != lost.name)


def test_batches_of_like_length_are_those_of_the_rows_themselves() -> None:
    """Lengths from the offsets, or from rows: the sampler gives the same order."""
    import pyarrow as pa
    from datasets import Dataset as Rows
    from datasets import concatenate_datasets

    generator = np.random.default_rng(0)
    lists = [list(range(n)) for n in generator.integers(1, 60, 500)]
    table = pa.table({"input_ids": pa.array(lists, pa.large_list(pa.int32()))})
    rows = concatenate_datasets([Rows(table.slice(0, 123)), Rows(table.slice(123))])
    assert row_lengths(rows).tolist() == list(map(len, lists))
    chosen = rows.select([7, 3, 450, 3])
    assert row_lengths(chosen).tolist() == [len(lists[n]) for n in (7, 3, 450, 3)]


def test_a_resumed_run_tokenises_nothing_again(
    home: Home, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(
        home,
        tiny_recipe(
            *("train.max_steps=4", "train.eval_steps=2", "train.save_steps=2"),
            *("train.train_sampling_strategy=group_by_length", "evaluate.before=false"),
        ),
        "again",
    )
    attempt.stop_at = ("metrics", 2)
    with pytest.raises(Stopped):
        attempt.run()
    attempt.stop_at = None
    monkeypatch.setattr(split, "in_order", None)  # the prompts of samples are not of the splits
    assert attempt.run()["steps"] == 4
    assert not events(attempt.folder, "warning")


def test_a_run_says_what_its_next_start_has_to_make_again_and_a_stop_ends_it(
    home: Home, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.data.prepare import prepare
    from engine.train.ahead import Ahead
    from engine.train.session import _Session

    recipe = tiny_recipe("train.packing=true")
    folder = create_run(home, recipe, "told")
    stopping: list[bool] = []
    journal = Journal(folder.journal, 1)
    context = RunContext(
        *(home, folder, recipe, 1, journal, None),
        stop_requested=lambda: bool(stopping),
        take_controls=list,
    )
    session, dataset = _Session(context), prepare(home, recipe)
    monkeypatch.setattr(store, "RESERVE_BYTES", 1 << 60)
    with Ahead(home, recipe, dataset, context.stop_requested) as ahead:
        splits = session._encoded(ahead)
    assert {name: split.rows for name, split in splits.items()} == {
        name: dataset.count(name) for name in splits
    }
    assert [event["message"] for event in events(folder, "warning")] == [
        f"the token ids of {name} are not kept (less than {(1 << 60) / 1e9:.1f} GB are free): the "
        "next start makes them again"
        for name in ("train", "validation", "test")
    ]
    stopping.append(True)
    with pytest.raises(Stopped):  # while it packs
        ahead.splits(lambda words: None)
    journal.close()
