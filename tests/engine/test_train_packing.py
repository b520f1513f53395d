"""Packed rows: none sees another, none is lost or split, and a model that cannot is refused."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.packing import pack
from engine.errors import UserError
from engine.home import open_home
from engine.recipe import Recipe
from tests.engine.shaped import rows, write_dataset
from tests.engine.training import Attempt, events, losses

Make = Callable[..., Recipe]


def test_every_row_is_in_one_sequence_and_none_is_too_long() -> None:
    rng = random.Random(3)
    for _ in range(50):
        size = rng.randrange(8, 200)
        lengths = [rng.randint(1, size) for _ in range(rng.randrange(300))]
        sequences = pack(lengths, size)
        assert sorted(row for rows in sequences for row in rows) == list(range(len(lengths)))
        used = [sum(lengths[row] for row in rows) for rows in sequences]
        assert all(tokens <= size for tokens in used)
        # No two sequences would fit into one: best fit leaves at most one that is half empty.
        assert sum(2 * tokens <= size for tokens in used) <= 1
        assert pack(lengths, size) == sequences
    assert pack([], 8) == []
    assert pack([3, 5, 8, 2, 6], 8) == [[2], [3, 4], [0, 1]]
    with pytest.raises(ValueError, match="row 1 has 9 tokens"):
        pack([1, 9], 8)


def test_as_many_sequences_as_trl_makes() -> None:
    from datasets import Dataset
    from trl import pack_dataset

    rng = random.Random(5)
    lengths = [rng.randint(1, 100) for _ in range(900)]
    theirs = pack_dataset(Dataset.from_dict({"input_ids": [[1] * n for n in lengths]}), 128, "bfd")
    assert len(pack(lengths, 128)) == len(theirs)


def load(folder: Path, attention: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32
    )
    return model.eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_do_not_see_each_other(tiny_model: Path, attention: str) -> None:
    import torch

    from engine.train.packed import PackedCollator, check_rows_apart

    model = load(tiny_model, attention)
    rng = random.Random(1)
    alone = [[rng.randrange(6, 500) for _ in range(n)] for n in (20, 7, 1, 30, 12, 9)]
    sequences = [[0, 1, 2], [3], [4, 5]]
    collate = PackedCollator(pad_token_id=0)
    batch = collate(
        [
            {
                "input_ids": [token for row in rows_ for token in alone[row]],
                "labels": [token for row in rows_ for token in alone[row]],
                "seq_lengths": [len(alone[row]) for row in rows_],
            }
            for rows_ in sequences
        ]
    )
    assert batch.pop("row_tokens").tolist() == [28, 30, 21]
    assert "attention_mask" not in batch and batch["input_ids"].shape == (3, 30)
    batch.pop("labels")
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits
        spilt = model(input_ids=batch["input_ids"], use_cache=False).logits
        for number, rows_ in enumerate(sequences):
            start = 0
            for row in rows_:
                own = model(input_ids=torch.tensor([alone[row]])).logits[0]
                end = start + len(alone[row])
                assert torch.allclose(packed[number, start:end], own, atol=1e-5)
                if start:  # the test can tell: without the positions rows do see each other
                    assert not torch.allclose(spilt[number, start:end], own, atol=1e-3)
                start = end
    check_rows_apart(model)


def test_a_model_in_which_rows_see_each_other_is_refused(
    tiny_model: Path, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import masking_utils

    import engine.data.prepare
    from engine.train.packed import check_rows_apart

    # As an attention that knows nothing of positions that restart.
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda _: None)
    with pytest.raises(UserError, match=r"^train\.packing: .*sdpa attention.*train\.packing = fal"):
        check_rows_apart(load(tiny_model, "sdpa"))
    home = open_home(tmp_path)
    dataset = write_dataset(home, "pair", rows("pair"))
    monkeypatch.setattr(engine.data.prepare, "prepare", lambda *_, **__: dataset)
    attempt = Attempt(home, tiny_recipe("train.packing=true"), "leaking")
    with pytest.raises(UserError, match=r"^train\.packing:"):
        attempt.run()
    assert not events(attempt.folder, "metrics")


def test_unsloth_is_not_asked_to_pack(tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from engine.train.backend import choose_backend

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choose_backend(tiny_recipe("train.packing=true")).name == "transformers"
    with pytest.raises(UserError, match=r"^train\.packing:"):
        choose_backend(tiny_recipe("train.packing=true", "model.backend=unsloth"))


def test_packed_and_alone_one_step_over_all_rows_has_the_same_loss(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way through TRL: a leak, or a row that is trained on another's start, shows."""
    import engine.data.prepare

    home = open_home(tmp_path)
    dataset = write_dataset(home, "conversation", rows("conversation", 60))
    monkeypatch.setattr(engine.data.prepare, "prepare", lambda *_, **__: dataset)
    first, norms, tokens = [], [], []
    for packing in ("false", "true"):
        recipe = tiny_recipe(
            *(f"train.packing={packing}", "train.max_length=200", "evaluate.before=false"),
            *("train.per_device_train_batch_size=64", "train.max_steps=1"),
            *("train.completion_only_loss=false", "train.eval_steps=1", "train.save_steps=1"),
        )
        attempt = Attempt(home, recipe, f"packing-{packing}")
        attempt.run()
        (line,) = events(attempt.folder, "metrics")
        first.append(line["loss"])
        norms.append(line["grad_norm"])
        tokens.append(line["tokens"])
    assert first[0] == pytest.approx(first[1], rel=1e-6)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert tokens[0] == tokens[1]


def test_a_packed_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import engine.data.prepare
    from engine.jobs.context import Stopped

    home = open_home(tmp_path)
    dataset = write_dataset(home, "conversation", rows("conversation", 120))
    monkeypatch.setattr(engine.data.prepare, "prepare", lambda *_, **__: dataset)
    recipe = tiny_recipe(
        *("train.packing=true", "lora.lora_dropout=0.1", "train.max_length=200"),
        *("train.per_device_train_batch_size=4", "evaluate.before=false"),
    )
    whole = Attempt(home, recipe, "whole")
    whole.run()
    broken = Attempt(home, recipe, "broken")
    broken.stop_at = ("metrics", 6)
    with pytest.raises(Stopped):
        broken.run()
    broken.stop_at = None
    broken.run()
    assert losses(broken.folder) == losses(whole.folder)
    tokens = [[m["tokens"] for m in events(run.folder, "metrics")] for run in (whole, broken)]
    assert tokens[0] == tokens[1]
