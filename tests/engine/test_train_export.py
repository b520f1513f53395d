"""What leaves the home: adapter and merged model; and the commands that ask a tuned model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.data.prepare import prepare
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.launch import create_run
from engine.recipe import Recipe
from tests.engine.training import Attempt, events


@pytest.fixture
def command(
    tuned_home: Home, tuned_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any, str]]:
    """Runs ``tunebench ... --json``; returns (exit status, document, stderr)."""

    def run(*arguments: str) -> tuple[int, Any, str]:
        status = main([*arguments, "--json", "--home", str(tuned_home.path)])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    return run


def test_adapter(command: Any, tuned_run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "adapter"
    status, document, _ = command("export", "tuned", "--to", "adapter", "--out", str(out))
    assert status == 0 and document["folder"] == str(out)
    names = {path.name for path in out.iterdir()}
    assert names >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"}
    assert "manifest.json" not in names
    assert document["bytes"] == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())


def test_the_exported_adapter_has_a_card_whose_code_works(
    command: Any,
    tuned_home: Home,
    tuned_run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import ModelCard

    out = tmp_path / "adapter"
    status, _, told = command("export", "tuned", "--to", "adapter", "--out", str(out))
    assert status == 0 and f"{out}/README.md: the model card" in told
    card = ModelCard((out / "README.md").read_text())
    measured = {e["which"]: e["loss"] for e in events(tuned_run, "evaluation")}
    [loss] = [r for r in card.data.eval_results or [] if r.metric_type == "loss"]
    assert loss.metric_value == pytest.approx(measured["after"], abs=1e-5)
    assert str(tuned_home.path) not in card.content and str(tmp_path) not in card.content
    assert (out / "README_files" / "loss.svg").is_file()
    monkeypatch.chdir(out)
    names: dict[str, Any] = {}
    exec(card.text.partition("```python\n")[2].partition("\n```")[0], names)
    assert type(names["model"]).__name__ == "PeftModelForCausalLM"
    printed = capsys.readouterr().out.strip()
    prompt = names["prompt"]
    _, document, _ = command("generate", "tuned", "--prompt", prompt)
    assert printed == document["answers"][0]["text"].strip() != ""


def test_a_readme_of_ones_own_stays(command: Any, tuned_run: RunFolder, tmp_path: Path) -> None:
    own = tuned_run.adapter / "README.md"
    own.write_text("mine")
    try:
        status, _, told = command(
            "export", "tuned", "--to", "adapter", "--out", str(tmp_path / "a")
        )
    finally:
        own.unlink()
    assert status == 0 and "kept as it was" in told
    assert (tmp_path / "a" / "README.md").read_text() == "mine"


def test_merged_answers_as_the_adapter_on_its_base(
    command: Any, tuned_run: RunFolder, tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = tmp_path / "merged"
    status, document, _ = command("export", "tuned", "--to", "merged", "--out", str(out))
    assert status == 0 and document["dtype"] == "bfloat16"
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert merged.dtype == torch.bfloat16
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.arange(10, 60).unsqueeze(0)
    with torch.no_grad():
        plain = base(ids).logits
        tuned = PeftModel.from_pretrained(base, str(tuned_run.adapter))(ids).logits
        ours = merged.float()(ids).logits
    assert (tuned - plain).abs().max() > 1.0, "the adapter does nothing: nothing was tested"
    # 8 bits of mantissa.
    assert (ours - tuned).abs().max() < 0.05 * (tuned - plain).abs().max()
    assert (out / "tokenizer.json").is_file()


def test_never_over_something_else(command: Any, tmp_path: Path) -> None:
    status, document, words = command("export", "tuned", "--to", "merged", "--out", str(tmp_path))
    assert status == 2 and document is None and "exists already" in words


def test_evaluate_reports_what_the_run_measured(command: Any, tuned_run: RunFolder) -> None:
    status, document, _ = command("evaluate", "tuned")
    measured = {e["which"]: e["loss"] for e in events(tuned_run, "evaluation")}
    assert status == 0 and document["source"] == "journal"
    assert document["before"] == measured["before"] and document["after"] == measured["after"]
    assert document["fall"] == pytest.approx(1 - measured["after"] / measured["before"])


def test_evaluate_measures_what_the_run_did_not(
    command: Any, tuned_home: Home, tuned_run: RunFolder, tiny_recipe: Callable[..., Recipe]
) -> None:
    attempt = Attempt(tuned_home, tiny_recipe("evaluate.before=false"), "unmeasured")
    attempt.run()
    status, document, _ = command("evaluate", "unmeasured")
    assert status == 0 and document["source"] == "measured now"
    measured = {e["which"]: e for e in events(tuned_run, "evaluation")}
    assert document["tokens"] == measured["after"]["tokens"]
    assert document["before"] == pytest.approx(measured["before"]["loss"], abs=1e-5)
    assert document["after"] == pytest.approx(measured["after"]["loss"], abs=1e-5)


def test_evaluate_refuses_other_rows_than_the_run_was_trained_with(
    command: Any, tuned_home: Home, tiny_recipe: Callable[..., Recipe]
) -> None:
    folder = create_run(tuned_home, tiny_recipe(), "elsewhere")
    journal = Journal(folder.journal)
    journal.append("state", state="running", max_steps=4, fingerprint="0123abcd")
    journal.close()
    status, _, told = command("evaluate", "elsewhere")
    assert status == 1
    now = prepare(tuned_home, tiny_recipe()).fingerprint
    assert "dataset 0123abcd" in told and f"now {now}" in told


def test_generate_from_a_file_with_base_beside(command: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red oak kettle\n\nblue clay lamp\n")
    status, document, _ = command(
        *("generate", "tuned", "--base", "--prompts", str(prompts)),
        *("--set", "generate.max_new_tokens=5"),
    )
    assert status == 0
    asked = [(answer["prompt"], answer["label"]) for answer in document["answers"]]
    labels = [column["label"] for column in document["columns"]]
    assert labels[1] == "tuned"
    assert asked == [
        (prompt, label) for prompt in ("red oak kettle", "blue clay lamp") for label in labels
    ]
    assert all(0 < answer["tokens"] <= 5 for answer in document["answers"])
    assert document["sampling"]["max_new_tokens"] == 5


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["generate", "tuned"], 2, "nothing to answer"),
        (["generate", "tuned", "--prompts", "/nowhere"], 2, "--prompts /nowhere"),
        (["generate", "nobody", "--prompt", "x"], 1, "neither a run nor a model folder"),
        (["generate", "tuned", "--prompt", "x", "--set", "generate.seed=x"], 2, "generate.seed"),
        (["evaluate", "nobody"], 1, "no run 'nobody'"),
    ],
)
def test_wrong_usage(command: Any, arguments: list[str], status: int, words: str) -> None:
    found, document, told = command(*arguments)
    assert found == status and document is None and words in told
    assert len(told.strip().splitlines()) == 1
