"""Splits as token ids: the right ones, made once for everything that they depend on."""

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data.dataset import Dataset, open_dataset
from engine.data.tables import ROW_SCHEMAS
from engine.data.tokenised import find_tokenised, split, store, tokenise
from engine.data.tokenised.key import VERSION
from engine.data.tokenised.work import Tokenising
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import Home, open_home
from engine.recipe import Recipe, load_recipe
from engine.train.rows import IGNORED, encode_split
from engine.whole import put_in_place
from tests.engine.shaped import rows, write_dataset
from tests.engine.tokenising import PIECE, examples, files, key, made, no_tokenizer, small_shards

Make = Callable[..., Recipe]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def dataset(home: Home) -> Dataset:
    return write_dataset(home, "pair", rows("pair", 300))


# ---- the right ones -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "completion_only", "workers"),
    [
        *((shape, only, 0) for shape in ROW_SCHEMAS for only in (True, False)),
        *(("pair", True, 2), ("conversation", True, 2)),
    ],
)
def test_rows_are_those_of_the_formatter_and_so_are_the_counts(
    home: Home,
    tiny_recipe: Make,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    completion_only: bool,
    workers: int,
) -> None:
    small_shards(monkeypatch, workers)
    only = str(completion_only).lower()
    # Prompts that fill it, answers that are cut, turns that are never reached.
    length = 100 if shape == "pair" else 40
    recipe = tiny_recipe(f"train.max_length={length}", f"train.completion_only_loss={only}")
    dataset = write_dataset(home, shape, rows(shape, 200))
    found = made(home, dataset, recipe)
    formatter = Formatter.of(recipe)
    whole = examples(dataset, recipe)
    trained = [example.trained(completion_only) for example in whole]
    kept = [number for number, mask in enumerate(trained) if any(mask)]
    table = found.table
    assert table["row"].to_pylist() == kept
    assert table["input_ids"].to_pylist() == [whole[n].input_ids for n in kept]
    assert table["labels"].to_pylist() == [
        [token if on else IGNORED for token, on in zip(whole[n].input_ids, trained[n], strict=True)]
        for n in kept
    ]
    assert found.counts == {
        "left_out": len(whole) - len(kept),
        "answers_cut": sum(sum(e.completion_mask) < e.answer_length for e in whole),
        "eos_untrained": sum(
            not (formatter.ends(e) and mask[-1]) for e, mask in zip(whole, trained, strict=True)
        ),
        "double_bos": 0,
        "tokens": sum(len(whole[n].input_ids) for n in kept),
        "trained_tokens": sum(map(sum, trained)),
    }
    assert 0 < found.counts["answers_cut"] < len(whole)
    lengths = [len(e.input_ids) if any(m) else 0 for e, m in zip(whole, trained, strict=True)]
    assert found.lengths_in_split.tolist() == lengths
    assert found.lengths.tolist() == [lengths[n] for n in kept]
    assert found.not_kept == "" and len(found.parts) == 4


def test_a_row_of_whose_conversation_only_the_questions_fit_has_its_answers_cut(
    home: Home, tiny_recipe: Make
) -> None:
    """Text behind ``max_length`` is not tokenised: that an answer follows has to be found out."""
    recipe = tiny_recipe("train.max_length=20")
    dataset = write_dataset(home, "conversation", rows("conversation", 200))
    found = made(home, dataset, recipe)
    whole = examples(dataset, recipe)
    unseen = [e for e in whole if e.truncated_at and not any(e.completion_mask)]
    assert len(unseen) > 5
    cut = sum(sum(e.completion_mask) < e.answer_length for e in whole)
    assert found.counts["answers_cut"] == cut >= len(unseen)


def test_the_version_is_raised_when_rows_become_other_tokens(home: Home) -> None:
    """Files of an older tunebench would be trained on: raise ``VERSION``, then this digest."""
    told = hashlib.sha256()
    for shape in ("pair", "text", "instruction", "conversation"):
        dataset = write_dataset(home, shape, rows(shape, 60), f"for-{shape}")
        for template in ("chat", "alpaca", "plain"):
            if shape == "conversation" and template != "chat":
                continue
            for length in (24, 96):
                recipe = load_recipe(
                    "demo", [f"format.template={template}", f"train.max_length={length}"]
                )
                found = made(home, dataset, recipe)
                told.update(repr([*found.table.to_pylist(), sorted(found.counts.items())]).encode())
    assert (VERSION, told.hexdigest()[:16]) == (1, "d77eca7b979ab349")


# ---- made once ------------------------------------------------------------------------------


def test_what_was_tokenised_once_takes_no_tokenizer_again(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch)
    recipe = tiny_recipe()
    told: list[tuple[int, int]] = []
    first = made(home, dataset, recipe, progress=lambda *at: told.append(at))
    assert told == [(min(done, 200), 200) for done in range(PIECE, 201, PIECE)]
    no_tokenizer(monkeypatch)
    again = made(home, open_dataset(home, "pair"), recipe, progress=lambda *at: told.append(at))
    assert again.table.equals(first.table) and again.counts == first.counts
    assert files(again) == files(first) and len(files(first)) == 5
    assert len(told) == 200 // PIECE
    found = find_tokenised(
        *(home, dataset, "train", Formatter.of(recipe)), rows=200, completion_only_loss=True
    )
    assert found and found.table.equals(first.table)
    with pytest.raises(TypeError):  # of other rows it would have been called
        made(home, dataset, tiny_recipe("train.max_length=64"))


def test_a_second_run_tokenises_nothing(
    tuned_home: Home, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch, tuned_run: object
) -> None:
    """All three splits as the session asks for them, in the home of a run that is finished."""
    dataset = open_dataset(tuned_home, "tiny")
    recipe = tiny_recipe()
    no_tokenizer(monkeypatch)
    for name, limit in (("train", 0), ("validation", 256), ("test", 256)):
        encoded = encode_split(
            *(tuned_home, dataset, name, Formatter.of(recipe)),
            rows=limit,
            completion_only_loss=True,
            longest_first=name != "train",
        )
        assert encoded.rows == dataset.count(name) and not encoded.not_kept


CHANGES = {
    "length": ["train.max_length=64"],
    "loss": ["train.completion_only_loss=false"],
    "template": ["format.template=alpaca"],
    "instruction": ["format.instruction=Sell this."],
    "system": ["format.system=You keep a shop."],
    "added token": ['model.add_tokens=["<|new|>"]'],
    "own template": [
        "format.chat_template={{ bos_token }}{% for m in messages %}{{ m['role'] }}: "
        "{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    ],
}


def test_everything_that_rows_depend_on_is_in_the_key_and_nothing_else(
    home: Home, dataset: Dataset, tiny_recipe: Make, tiny_model: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    keys = {"own": key(dataset, recipe)}
    keys |= {what: key(dataset, tiny_recipe(*settings)) for what, settings in CHANGES.items()}
    keys["split"] = key(dataset, recipe, "test")
    keys["rows"] = key(dataset, recipe, count=100)
    dataset.fingerprint = "another"
    keys["dataset"] = key(dataset, recipe)
    dataset.fingerprint = "pair-by-hand"
    assert len(set(keys.values())) == len(keys)

    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    there = tiny_recipe(f"model.model_name_or_path={moved}")
    assert key(dataset, there) == keys["own"]
    assert key(dataset, tiny_recipe("train.learning_rate=1", "lora.r=2")) == keys["own"]
    template, vocabulary = moved / "chat_template.jinja", moved / "tokenizer.json"
    old = vocabulary.read_bytes()
    vocabulary.write_bytes(old + b"\n")
    assert key(dataset, there) != keys["own"]
    vocabulary.write_bytes(old)
    assert key(dataset, there) == keys["own"]
    template.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert key(dataset, there) != keys["own"]


def test_the_date_counts_where_a_template_writes_it(dataset: Dataset, tiny_recipe: Make) -> None:
    dated = (
        "{{ strftime_now('%d %b %Y') }}" + "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )

    def on(day: str, *settings: str) -> str:
        return key(dataset, tiny_recipe(f"format.date='{day}'", *settings))

    assert on("2026-01-01") == on("2026-01-02")
    own = f"format.chat_template={dated}"
    assert on("2026-01-01", own) != on("2026-01-02", own)


def test_a_tokenizer_that_changes_meanwhile_is_told_of(
    home: Home, dataset: Dataset, tiny_recipe: Make, tiny_model: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(tiny_model, copied)
    recipe = tiny_recipe(f"model.model_name_or_path={copied}")
    formatter = Formatter.of(recipe)
    task = Tokenising(
        *(dataset.split("train"), formatter),
        shape=dataset.shape,
        completion_only_loss=True,
        file=dataset.file("train"),
    )
    sent = pickle.dumps(task)
    assert pickle.loads(sent).start()
    os.utime(copied / "tokenizer.json", (1, 1))
    with pytest.raises(UserError, match="changed while they were used"):
        pickle.loads(sent).start()
    with pytest.raises(UserError, match="changed while they were used"):
        tokenise(home, dataset, "train", formatter, rows=200, completion_only_loss=True)


def test_a_dataset_that_another_run_replaces_meanwhile_is_told_of(
    home: Home, dataset: Dataset, tiny_recipe: Make, tmp_path: Path
) -> None:
    """Its rows would be kept, and trained on, as those of the one that is gone."""
    formatter = Formatter.of(tiny_recipe())
    task = Tokenising(
        *(dataset.split("train"), formatter),
        shape=dataset.shape,
        completion_only_loss=True,
        file=dataset.file("train"),
    )
    sent = pickle.dumps(task)
    other = write_dataset(home, "pair", rows("pair", 90), "other")
    put_in_place(other.path, dataset.path)
    manifest = dataset.file("manifest")
    manifest.write_text(manifest.read_text().replace("pair-by-hand", "another"))
    with pytest.raises(UserError, match="made anew by another run"):
        pickle.loads(sent).start()
    with pytest.raises(UserError, match="made anew by another run"):
        tokenise(home, dataset, "train", formatter, rows=200, completion_only_loss=True)
    assert not list(store.store(home).rglob("*.arrow"))


def test_an_errand_that_counts_finds_them_made_and_a_run_after_it_too(
    home: Home, dataset: Dataset, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.preflight.counting import count_split

    recipe = tiny_recipe("train.max_length=40")
    formatter = Formatter.of(recipe)
    sample = count_split(home, dataset, formatter, recipe, "train", sample=50)
    assert sample.rows == 50 and not (home.path / "cache").exists()
    counted = count_split(home, dataset, formatter, recipe, "train")
    no_tokenizer(monkeypatch)
    found = made(home, dataset, recipe)
    assert counted.lengths.tolist() == found.lengths_in_split.tolist()
    assert counted.counts == found.counts
    # The other way round: what a run made is counted without being made again.
    shutil.rmtree(home.path / "cache" / "preflight")
    again = count_split(home, dataset, formatter, recipe, "train", sample=50)
    assert not again.is_estimate and again.counts == counted.counts
    shutil.rmtree(store.store(home))  # and what was counted is kept by itself
    monkeypatch.setattr(split, "tokenise", None)
    assert count_split(home, dataset, formatter, recipe, "train").counts == counted.counts
