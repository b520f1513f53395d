"""A run's model card in the hub's format: YAML about the model, then Markdown for people.

It is made to be published: no path of this machine, no note and no tag of the user's is in it. What
is not known (a licence, a language that no rule looked at) is left out.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import __version__
from engine.charts.series import Series
from engine.data.sources import comes_from_hub
from engine.data.sources.hub import hub_name
from engine.evaluate.metrics import METRICS
from engine.export import answer_parts, parts
from engine.export import blocks as b
from engine.export.figures import RunCurve, figures_of_one
from engine.export.gathered import Gathered
from engine.export.markdown import markdown_of
from engine.export.said import losses, setting
from engine.export.usage import usage
from engine.text import safe_line
from engine.words import NOTHING

__all__ = ["Card", "card_of"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_SNAPSHOT = re.compile(r"/models--([^/]+)--([^/]+)/snapshots/")
_TYPES = {
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
    "bleu": "bleu",
    "chrf": "chrf",
    "exact_match": "exact_match",
}
"""Our metrics -> the hub's names of metrics."""
MOST_LINES = 12
"""Of the table of losses."""


@dataclass(frozen=True)
class Card:
    metadata: dict[str, Any]
    """What the hub reads."""
    blocks: Sequence[b.Block]
    """What people read."""

    @property
    def head(self) -> str:
        """The metadata as the file begins with it."""
        import yaml

        text = yaml.safe_dump(self.metadata, sort_keys=False, allow_unicode=True, width=1000)
        return f"---\n{text}---\n\n"

    @property
    def text(self) -> str:
        """The whole card, without charts."""
        return self.head + markdown_of(self.blocks, None)


def card_of(g: Gathered, curve: RunCurve, *, merged: bool = False) -> Card:
    """``merged``: of the model that the adapter was merged into."""
    adapter = g.recipe is not None and g.recipe.lora.enabled and not merged
    base = base_id(g.row.model or "")
    return Card(_metadata(g, base, adapter), _blocks(g, curve, base, adapter))


def base_id(name: str) -> str:
    """The hub's name of a base model, also of one in the hub's cache; "": it is not known."""
    if found := _SNAPSHOT.search(name):
        return f"{found[1]}/{found[2]}"
    if not _HUB_ID.fullmatch(name) or name.startswith("builtin:") or Path(name).exists():
        return ""
    return name


_PATH = re.compile(r"[/~]|\.{1,2}/|[A-Za-z]:\\")


def published(value: Any) -> str:
    """A recipe's value as text, of paths in it only their last part."""
    return setting(_without_paths(value))


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str) and _PATH.match(value):
        *_, last = re.split(r"[/\\]", value.rstrip("/\\"))
        return f"…/{last}"
    return value


def _metadata(g: Gathered, base: str, adapter: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if base:
        found["base_model"] = base
    found["library_name"] = "peft" if adapter else "transformers"
    found["pipeline_tag"] = "text-generation"
    if hub := _hub_dataset(g):
        found["datasets"] = [hub]
    if g.recipe is not None and "language" in g.recipe.clean.rules:
        found["language"] = [safe_line(code) for code in g.recipe.clean.language.languages]
    tags = ["tunebench", "sft", *(["lora"] if g.recipe and g.recipe.lora.enabled else [])]
    if base and adapter:
        tags.append(f"base_model:adapter:{base}")
    found["tags"] = tags
    if results := _results(g, hub):
        found["model-index"] = [{"name": safe_line(g.row.name), "results": results}]
    return found


def _hub_dataset(g: Gathered) -> str:
    data = g.recipe.data if g.recipe is not None else None
    return (hub_name(data.source) or data.source) if data and comes_from_hub(data) else ""


def _results(g: Gathered, hub: str) -> list[dict[str, Any]]:
    """What was measured on test, as the hub's ``model-index`` has it."""
    metrics: list[dict[str, Any]] = []
    loss = g.row.test_loss
    if isinstance(loss, float) and math.isfinite(loss):
        metrics.append({"type": "loss", "value": round(loss, 6), "name": "test loss"})
        if loss < 50:
            said = {"value": round(math.exp(loss), 4), "name": "test perplexity"}
            metrics.append({"type": "perplexity", **said})
    document = next((one for one in g.answers if one["on"] == "test"), None)
    if document is not None:
        labels = {metric.name: metric.label for metric in METRICS}
        its = document["metrics"].get(document["run"], {})
        for name, type in _TYPES.items():
            value, _, _ = its.get(name, (math.nan, 0.0, 0.0))
            if math.isfinite(value):
                metrics.append({"type": type, "value": round(value, 4), "name": labels[name]})
    if not metrics:
        return []
    dataset: dict[str, Any] = {"name": safe_line(g.row.dataset or "dataset")}
    dataset |= {"type": hub or "custom", "split": "test"}
    if hub and g.recipe is not None and g.recipe.data.revision:
        dataset["revision"] = safe_line(g.recipe.data.revision)
    task = {"type": "text-generation", "name": "Text Generation"}
    return [{"task": task, "dataset": dataset, "metrics": metrics}]


def _blocks(g: Gathered, curve: RunCurve, base: str, adapter: bool) -> list[b.Block]:
    figures = figures_of_one(curve)
    answers = [block for one in g.answers for block in answer_parts.answered(_own(one))]
    found: list[b.Block] = [b.Heading(1, g.row.name), b.Words(_what(g, base, adapter))]
    for title, blocks in (
        ("How to use", usage(g, adapter)),
        ("Training", [parts.trained(g, published(g.row.model or "")), *_recipe(g)]),
        ("Data", parts.data(g, published, warnings=False)),
        ("Curves", [*([b.Pictures(figures)] if figures else []), *_losses(curve)]),
        ("Evaluation", [*parts.evaluation(g), *answers]),
        ("Samples", answer_parts.samples(g)),
        ("Limits", [b.Items(_limits(g, base))]),
        ("Versions", parts.versions(g)),
    ):
        if blocks:
            found += [b.Heading(2, title), *blocks]
    return found


def _recipe(g: Gathered) -> list[b.Block]:
    return parts.recipe(g, published)


def _own(document: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation with the run and its base only: others may be servers of the user's."""
    ids = (document["base"], document["run"])
    return {
        **document,
        "columns": [
            {"id": one["id"], "label": published(one["label"])}
            for one in document["columns"]
            if one["id"] in ids
        ],
        "metrics": {id: its for id, its in document["metrics"].items() if id in ids},
        "differences": {id: its for id, its in document["differences"].items() if id in ids},
        "on": published(document["on"]),
        "failed": {"rows": document["failed"]["rows"], "first": ""},
    }


def _what(g: Gathered, base: str, adapter: bool) -> str:
    """The first sentence."""
    made = "A LoRA adapter" if adapter else "A language model"
    of = base or published(g.row.model or "an unnamed model")
    words = f"{made} {'of' if adapter else 'made from'} {of}, trained by supervised fine-tuning"
    words += f" on {g.row.dataset}" if g.row.dataset else ""
    before, after = g.row.test_loss_before, g.row.test_loss
    if isinstance(after, float):
        words += f"; its test loss is {losses(after)}"
        words += f" ({losses(before)} before)" if isinstance(before, float) else ""
    return f"{words}. Made with tunebench {g.versions.get('tunebench', __version__)}."


def _losses(curve: RunCurve) -> list[b.Block]:
    """The curves as numbers: the mean training loss between validations, and theirs."""
    validation, loss = curve.validation, curve.metrics.get("loss")
    if validation is None:
        return []
    every = max(1, math.ceil(len(validation) / MOST_LINES))
    places = [*range(every - 1, len(validation) - 1, every), len(validation) - 1]
    rows, since = [], 0.0
    for place in places:
        step = float(validation.x[place])
        rows.append((f"{step:.0f}", _mean(loss, since, step), losses(float(validation.y[place]))))
        since = step
    head = ("step", "training loss (mean since the line above)", "validation loss")
    return [b.Table(head, rows, frozenset({0, 1, 2}))]


def _mean(loss: Series | None, after: float, until: float) -> str:
    if loss is None:
        return NOTHING
    values = loss.y[(loss.x > after) & (loss.x <= until)]
    values = values[[math.isfinite(value) for value in values.tolist()]] if len(values) else values
    return losses(float(values.mean())) if len(values) else NOTHING


def _limits(g: Gathered, base: str) -> list[str]:
    found = []
    if g.recipe is not None:
        length = g.recipe.train.max_length
        found.append(f"Trained on at most {length:,} tokens an example; longer ones were cut.")
    if g.row.state != "finished":
        found.append(f"The run did not finish: it ended as {g.row.state}.")
    if g.row.test_loss is None and not g.answers:
        found.append("Nothing was measured on test rows.")
    else:
        found.append(
            "Test rows come from the same source as the training rows: nothing is known about "
            "other texts."
        )
    found.append("It was not examined for facts, bias or safety.")
    if base:
        found.append(f"Licence and limits of {base} apply.")
    else:
        found.append(
            "The base model is not on the hub under a name that is known here: whoever uses this "
            "needs the same base."
        )
    return found
