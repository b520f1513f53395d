"""The preview shows what the trainer feeds, token for token and mask for mask, in every format.

Batches are caught on their way into the model, in real runs of the tiny Llama.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.preview import preview_pack, preview_row, preview_stats
from engine.data.tokens import Formatter
from engine.home import open_home
from engine.recipe import Recipe
from tests.engine.shaped import rows, write_dataset
from tests.engine.training import Attempt, events

Make = Callable[..., Recipe]

FORMATS = {
    "pair, chat": ("pair", ["format.template=chat"]),
    "pair, alpaca": ("pair", ["format.template=alpaca", "train.max_length=400"]),
    "pair, alpaca, all trained": ("pair", ["format.template=alpaca", "train.max_length=400"]),
    "pair, plain, cut": ("pair", ["format.template=plain", "train.max_length=90"]),
    "alpaca rows": ("instruction", ["format.template=alpaca", "train.max_length=400"]),
    "alpaca rows, chat": ("instruction", ["format.template=chat"]),
    "messages": ("conversation", ["format.template=chat", "train.max_length=256"]),
    "messages, cut": ("conversation", ["format.template=chat", "train.max_length=96"]),
    "messages, all trained": ("conversation", ["format.template=chat"]),
    "text": ("text", ["format.template=chat"]),
    "pair, packed": ("pair", ["format.template=chat", "train.packing=true"]),
    "alpaca rows, packed": (
        "instruction",
        ["format.template=alpaca", "train.packing=true", "train.max_length=600"],
    ),
    "messages, packed, all trained": (
        "conversation",
        ["format.template=chat", "train.packing=true", "train.max_length=200"],
    ),
    "text, packed": ("text", ["train.packing=true"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_preview_shows_what_the_trainer_feeds(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from transformers import LlamaForCausalLM

    import engine.data.prepare

    shape, settings = FORMATS[name]
    completion_only, packing = "all trained" not in name, "packed" in name
    recipe = tiny_recipe(
        *settings,
        *("train.max_steps=-1", "train.num_train_epochs=1", "evaluate.before=false"),
        f"train.completion_only_loss={str(completion_only).lower()}",
    )
    home = open_home(tmp_path)
    dataset = write_dataset(home, shape, rows(shape))
    monkeypatch.setattr(engine.data.prepare, "prepare", lambda *_, **__: dataset)
    fed: dict[str, list[tuple[Any, ...]]] = {"train": [], "evaluation": []}

    def catch(model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        which = "train" if model.training else "evaluation"
        fed[which] += _lines(kwargs)

    original = LlamaForCausalLM.__init__

    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.register_forward_pre_hook(catch, with_kwargs=True)

    monkeypatch.setattr(LlamaForCausalLM, "__init__", watched)
    attempt = Attempt(home, recipe, "caught")
    attempt.run()

    formatter = Formatter.load(
        recipe.model.model_name_or_path, recipe.format, recipe.train.max_length
    )
    stats = preview_stats(dataset, formatter, completion_only=completion_only)
    running = next(s for s in events(attempt.folder, "state") if "train_rows" in s)
    metrics = events(attempt.folder, "metrics")
    size = recipe.train.per_device_train_batch_size

    def row_lines(split: str) -> list[tuple[Any, ...]]:
        seen = [
            preview_row(dataset, formatter, split, n, completion_only=completion_only)
            for n in range(dataset.count(split))
        ]
        return [_seen(row["tokens"]) for row in seen if row["trained"]]

    if packing:
        packs = stats["packing"]["sequences"]
        seen = [
            preview_pack(dataset, formatter, "train", n, completion_only=completion_only)
            for n in range(packs)
        ]
        shown = [_seen(one["tokens"]) for one in seen]
        members = sorted(row["row"] for one in seen for row in one["rows"])
        assert len(members) == len(set(members)) == stats["packing"]["rows"] > packs
        assert running["train_sequences"] == packs and running["train_rows"] == len(members)
    else:
        shown = row_lines("train")
        assert running["train_rows"] == running["train_sequences"] == len(shown)
    assert Counter(fed["train"]) == Counter(shown)
    assert len(metrics) == -(-len(shown) // size)
    # Padding is not counted, whatever the batch looks like.
    assert sum(line["tokens"] for line in metrics) == sum(len(line[0]) for line in shown)
    assert running["train_tokens"] == stats["packing"]["tokens"]
    evaluated = Counter(fed["evaluation"])
    validation, test = row_lines("validation"), row_lines("test")
    assert set(evaluated) - set(shown) <= {*validation, *test} <= set(evaluated)
    (after,) = (e for e in events(attempt.folder, "evaluation") if e["split"] == "test")
    assert after["tokens"] == sum(sum(line[1]) for line in test)


def _seen(tokens: list[dict[str, Any]]) -> tuple[Any, ...]:
    """(ids, trained, position ids) of what the preview shows."""
    places = tuple(token.get("position", place) for place, token in enumerate(tokens))
    return tuple(t["id"] for t in tokens), tuple(t["trained"] for t in tokens), places


def _lines(batch: dict[str, Any]) -> list[tuple[Any, ...]]:
    """(ids, trained, position ids) of each line of a batch, without its padding."""
    if batch.get("labels") is None:
        return []
    found = []
    for number, (ids, labels) in enumerate(
        zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
    ):
        if batch.get("attention_mask") is not None:
            length = int(batch["attention_mask"][number].sum())
            places = list(range(length))
        else:
            # Padding is the pad token, with no label, from a place 0 on.
            length, places = len(ids), batch["position_ids"][number].tolist()
            while ids[length - 1] == 0:
                length -= 1
            assert length == len(ids) or places[length] == 0
        trained = tuple(label != -100 for label in labels[:length])
        assert all(i == label for i, label, on in zip(ids, labels, trained, strict=False) if on)
        assert all(label == -100 for label in labels[length:])
        found.append((tuple(ids[:length]), trained, tuple(places[:length])))
    return found
