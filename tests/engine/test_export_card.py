"""The model card: what the hub reads of it, and what must not be in it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard

from engine import cli
from engine.builtin import BUILTIN_BASE, model_path
from engine.export.card import base_id, published
from engine.export.usage import code
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe
from tests.engine import exporting
from tests.engine.fakes import runs as fakes

ONE = "20251122-000000-run"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return exporting.hostile_home(tmp_path)


def card(home: Home, *words: str) -> int:
    return cli.main(["runs", "show", *words, "--card", "--home", str(home.path)])


def change_recipe(home: Home, *settings: str) -> None:
    file = RunFolder(home.runs / ONE).recipe_file
    file.write_text(load_recipe(str(file), settings).to_toml())


def results(parsed: ModelCard) -> dict[str, EvalResult]:
    return {str(one.metric_name): one for one in parsed.data.eval_results or []}


def test_the_hub_reads_what_was_measured(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    change_recipe(
        home, "model.model_name_or_path=meta-llama/Llama-3.2-3B", "data.source=hub:org/rows",
        "data.revision=abc", 'clean.rules=["empty", "language"]', 'clean.language.languages=["de"]',
    )  # fmt: skip
    assert card(home, ONE) == 0
    parsed = ModelCard(capfd.readouterr().out)
    data = parsed.data
    assert data.base_model == "meta-llama/Llama-3.2-3B" and data.library_name == "peft"
    assert data.pipeline_tag == "text-generation" and data.datasets == ["org/rows"]
    assert data.language == ["de"] and data.license is None
    assert {"lora", "sft", "base_model:adapter:meta-llama/Llama-3.2-3B"} <= {*(data.tags or ())}
    found = results(parsed)
    loss = found["test loss"]
    assert (loss.task_type, loss.dataset_type) == ("text-generation", "org/rows")
    assert (loss.dataset_split, loss.dataset_revision) == ("test", "abc")
    assert found["test perplexity"].metric_value == pytest.approx(
        math.exp(loss.metric_value), rel=1e-4
    )
    assert (found["BLEU"].metric_type, found["BLEU"].metric_value) == ("bleu", 9.0)
    assert (found["ROUGE-L"].metric_type, found["ROUGE-L"].metric_value) == ("rouge", 0.25)
    assert parsed.data.model_name == exporting.TRAVERSAL
    for part in ("How to use", "Training", "Data", "Curves", "Evaluation", "Samples", "Limits"):
        assert f"\n## {part}\n" in parsed.text
    assert "AutoPeftModelForCausalLM" in parsed.text and "Licence and limits of meta" in parsed.text


def test_nothing_private_is_in_it(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    change_recipe(home, f"clean.python.file={home.path}/rules/secret.py")
    assert card(home, ONE) == 0
    text = capfd.readouterr().out
    assert str(home.path) not in text and "secret-folder" not in text and "rules/" not in text
    assert "10.0.0.5" not in text and "m at" not in text
    for tag in ("keep", "../up"):
        assert tag not in text
    assert "rows.jsonl" in text and "secret.py" in text
    parsed = ModelCard(text)
    assert parsed.data.base_model is None and parsed.data.language is None


def test_it_says_what_is_known_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home = fakes.make_home(tmp_path / "home")
    folder = fakes.write_run(home, "bare", 3, end=None)
    assert card(home, "bare") == 0
    parsed = ModelCard(capfd.readouterr().out)
    assert not parsed.data.eval_results and "Nothing was measured on test rows." in parsed.text
    folder.recipe_file.unlink()
    assert card(home, "bare") == 0
    parsed = ModelCard(capfd.readouterr().out)
    assert "## How to use" not in parsed.text


def test_written_with_its_charts_never_over_another(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    readme = out / "README.md"
    readme.write_text("mine")
    assert card(home, ONE, "--to", str(readme)) == 1 and readme.read_text() == "mine"
    assert {*out.iterdir()} == {readme}
    assert card(home, ONE, "--to", str(readme), "--force") == 0
    text = readme.read_text()
    assert ModelCard(text).data.eval_results and "](README_files/loss.svg)" in text
    assert (out / "README_files" / "loss.svg").is_file()


def test_as_a_document(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    assert card(home, ONE, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert document["run"] == ONE and document["card"].startswith("---\nlibrary_name: peft\n")
    assert document["metadata"]["model-index"][0]["name"] == exporting.TRAVERSAL


def test_wrong_usage(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "show", ONE, "--to", "x", "--home", str(home.path)]) == 2
    assert "say --card too" in capfd.readouterr().err


def test_which_names_are_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "here").mkdir(parents=True)
    assert base_id("org/model-1.5B") == "org/model-1.5B" and base_id("gpt2") == "gpt2"
    cached = "/root/.cache/hub/models--unsloth--Llama-3.2-1B/snapshots/0123abc"
    assert base_id(cached) == "unsloth/Llama-3.2-1B"
    for name in ("org/here", "builtin:base", "/models/x", "./x/y", "a/b/c", "", "a b/c", "x:\n- y"):
        assert base_id(name) == "", name


def test_paths_are_told_by_their_end() -> None:
    assert published("/home/me/rows.jsonl") == "…/rows.jsonl" == published("~/a/rows.jsonl")
    assert published("C:\\me\\rows.jsonl") == "…/rows.jsonl"
    assert published({"file": "/home/me/x.py", "n": 1}) == '{"file": "…/x.py", "n": 1}'
    assert published("org/rows") == "org/rows" and published(3e-4) == "0.0003"


@pytest.mark.parametrize("template", ["chat", "alpaca", "plain"])
@pytest.mark.parametrize("system", ["", 'Be "brief".\n{prompt}'])
@pytest.mark.parametrize("shape", ["pair", "conversation", "text"])
def test_the_code_asks_as_the_run_was_trained(template: str, system: str, shape: str) -> None:
    from transformers import AutoTokenizer

    from engine.data.tokens import Formatter

    recipe = load_recipe("demo", [f"format.template={template}"])
    section = recipe.format.model_copy(update={"instruction": "Say {prompt}:", "system": system})
    recipe = recipe.model_copy(update={"format": section})
    prompt = "red 'oak' \"kettle\"\n\\n{prompt}\u202e"
    names: dict[str, Any] = {"tokenizer": AutoTokenizer.from_pretrained(model_path(BUILTIN_BASE))}
    lines = code(recipe, shape, prompt, adapter=True).split("\n")
    begin, end = (next(i for i, line in enumerate(lines) if line.startswith(start))
                  for start in ("prompt = ", "output = "))  # fmt: skip
    exec("\n".join(lines[begin:end]), names)
    asked = names["inputs"]["input_ids"][0].tolist()
    if shape == "text":
        assert asked == names["tokenizer"](prompt)["input_ids"]
        return
    if shape == "conversation":
        section = section.model_copy(update={"instruction": ""})
    formatter = Formatter.load(BUILTIN_BASE, section, recipe.train.max_length)
    assert asked == formatter.prompt_ids(prompt)
