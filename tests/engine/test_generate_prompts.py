"""Prompts as the model gets them: turns, templates, special tokens, and who can take what."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.builtin import BUILTIN_BASE
from engine.data.rows import Message, Row
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.generate.columns import (
    Column,
    base_column,
    checkpoint_column,
    column_for,
    run_column,
)
from engine.generate.formatted import formatted
from engine.generate.prompt_files import with_system
from engine.generate.wire import Messages
from engine.home import Home, open_home
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_all
from engine.recipe import FormatSection, Recipe

TURNS: Messages = [
    {"role": "user", "content": "oak lamp"},
    {"role": "assistant", "content": "A lamp of oak."},
    {"role": "user", "content": "and in red?"},
]
SYSTEM: Messages = [{"role": "system", "content": "Be brief."}, *TURNS]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def no_template(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model without its chat template."""
    folder = tmp_path / "bare"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


# ---- turns ----------------------------------------------------------------------------------


@pytest.mark.parametrize("instruction", ["", "Describe it."])
@pytest.mark.parametrize("turns", [TURNS, SYSTEM], ids=["turns", "system"])
def test_turns_are_tokenised_as_they_are_trained(
    tiny_model: Path, turns: Messages, instruction: str
) -> None:
    """What comes before the last answer of a conversation, as training has it."""
    section = FormatSection(template="chat", instruction="", date="2026-01-01")
    formatter = Formatter.load(str(tiny_model), section, 512)
    answer = Message("assistant", "It is red.")
    row = Row("", "", messages=(*(Message(**turn) for turn in turns), answer))
    (example,) = formatter.examples([row], shape="conversation")
    given = formatter.prompt_ids(turns)
    assert given == example.input_ids[: len(given)]
    assert example.completion_mask[len(given)] == 1 and example.completion_mask[len(given) - 1] == 0
    if instruction:  # the first turn stays as it was when it was asked
        section = section.model_copy(update={"instruction": instruction})
        formatter = Formatter.load(str(tiny_model), section, 512)
        one = formatter.prompt("oak lamp").removesuffix("<|assistant|>\n")
        assert formatter.prompt(TURNS).startswith(one)


def test_one_turn_is_a_prompt(tiny_model: Path) -> None:
    for template in ("chat", "alpaca", "plain"):
        kind = "Be kind." if template == "chat" else ""
        section = FormatSection(template=template, system=kind)
        formatter = Formatter.load(str(tiny_model), section, 512)
        assert formatter.prompt_ids(TURNS[:1]) == formatter.prompt_ids("oak lamp")
        told = [{"role": "system", "content": "Be brief."}, TURNS[0]]
        assert "Be brief." in formatter.prompt(told) and "Be kind." not in formatter.prompt(told)
        none = [{"role": "system", "content": ""}, TURNS[0]]
        assert "Be kind" not in formatter.prompt(none)


def test_a_format_without_turns_says_so(no_template: Path, home: Home) -> None:
    column = column_for(home, str(no_template))
    assert column.recipe.format.template == "alpaca"
    assert "### Input:\noak lamp" in formatted(column, "oak lamp").text
    with pytest.raises(UserError, match=r'"alpaca" has a place for one question only'):
        formatted(column, TURNS)
    told = formatted(column, with_system("oak lamp", "Be brief."))
    assert told.text.startswith("Be brief.\n\n")


@pytest.mark.parametrize(
    "turns", [[], TURNS[1:], TURNS[:2], [TURNS[0], TURNS[0]], [*TURNS, SYSTEM[0], TURNS[0]]]
)
def test_turns_in_another_order_are_refused_in_words(home: Home, turns: Messages) -> None:
    with pytest.raises(UserError, match="ends with the user's; this one has: "):
        formatted(column_for(home, BUILTIN_BASE), turns)


# ---- what people write ------------------------------------------------------------------------


@pytest.mark.parametrize("as_turns", [False, True])
def test_special_tokens_in_a_prompt_stay_text(home: Home, as_turns: bool) -> None:
    column = column_for(home, BUILTIN_BASE)
    special = Formatter.of(column.recipe).special_tokens
    spelled = " ".join(special) + " <|eot_id|> שלום עולם ‏مرحبا"
    prompt = [{"role": "user", "content": spelled}] if as_turns else spelled
    found, plain = formatted(column, prompt), formatted(column, "x")
    ids = [number for number, _ in found.tokens]
    count = sum(number in special.values() for number in ids)
    assert count == sum(number in special.values() for number, _ in plain.tokens)
    assert spelled in found.text
    assert ids == Formatter.of(column.recipe).prompt_ids(prompt)


def test_tokens_have_the_text_that_they_stand_for(home: Home) -> None:
    found = formatted(column_for(home, BUILTIN_BASE), "copper kettle")
    assert "".join(text for _, text in found.tokens).endswith(found.text)
    assert found.context == 512 and found.room == 512 - len(found.tokens)
    long = formatted(column_for(home, BUILTIN_BASE), "copper kettle " * 400)
    assert long.room is not None and long.room < 1
    assert formatted(column_for(home, BUILTIN_BASE), "").tokens, "the template is there"


def test_a_server_has_its_own_format(home: Home) -> None:
    found = formatted(column_for(home, "http://localhost:1/v1#m"), SYSTEM)
    assert found.text.startswith("[system]\nBe brief.\n\n[user]\noak lamp")
    assert found.tokens == [] and found.context is found.room is None


# ---- columns by name ----------------------------------------------------------------------------


def test_checkpoints_by_name(tuned_home: Home, tuned_run: RunFolder, tiny_model: Path) -> None:
    steps = [checkpoints.step_of(path) for path in checkpoints.whole(tuned_run)]
    best = [
        event["step"]
        for event in read_all(tuned_run.journal)
        if event["type"] == "checkpoint" and event["best"]
    ][-1]
    last = column_for(tuned_home, "tuned@last")
    assert last.adapter == str(tuned_run.checkpoints / f"step-{max(steps)}")
    assert last.id == f"{tuned_run.id}@{max(steps)}" == column_for(tuned_home, last.id).id
    assert last.label == f"tuned (last, step {max(steps)})"
    found = column_for(tuned_home, "tuned@best")
    assert found.adapter == str(tuned_run.checkpoints / f"step-{best}")
    assert column_for(tuned_home, f"{tuned_run.id}@{steps[0]}").label == f"tuned (step {steps[0]})"
    assert column_for(tuned_home, "tuned").adapter == str(tuned_run.adapter)
    assert base_column(found).model_name_or_path == str(tiny_model)
    for ref, words in {
        "tuned@9999": rf"run tuned: step 9,999 is not among its whole checkpoints: .*{steps[-1]}",
        "nobody@best": "no run",
        "tuned@first": "neither a run nor a model folder",
    }.items():
        with pytest.raises(UserError, match=words):
            column_for(tuned_home, ref)


def test_only_whole_checkpoints_answer_and_the_best_is_the_journals(
    tuned_run: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "runs" / "copy")
    shutil.copytree(tuned_run.path, run.path)
    kept = checkpoints.whole(run)
    assert len(kept) >= 2
    step = checkpoints.step_of(kept[0])
    journal = Journal(run.journal)
    journal.append("checkpoint", step=step, path="x", bytes=1, seconds=1, best=True)
    journal.close()
    assert checkpoint_column(run, "best").id == f"copy@{step}"
    weights = kept[0] / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=rf"the best one, of step {step}, is not among its whole"):
        checkpoint_column(run, "best")
    assert checkpoint_column(run, "last").id.endswith(f"@{checkpoints.step_of(kept[-1])}")
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match="run tuned has no whole checkpoint"):
        checkpoint_column(run, "last")
    assert run_column(run).adapter == str(run.adapter)


def test_without_a_word_in_the_journal_the_lowest_loss_is_the_best(
    tuned_run: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "runs" / "copy")
    shutil.copytree(tuned_run.path, run.path)
    first, *_, last = [checkpoints.step_of(path) for path in checkpoints.whole(run)]
    run.journal.unlink()
    with pytest.raises(UserError, match="has no best checkpoint"):
        checkpoint_column(run, "best")
    journal = Journal(run.journal)
    for step, loss in ((first, 2.0), (last, 3.0)):
        journal.append("evaluation", step=step, split="validation", which="during", loss=loss)
        journal.append("checkpoint", step=step, path="x", bytes=1, seconds=1, best=False)
    journal.close()
    assert checkpoint_column(run, "best").id == f"copy@{first}"


def test_a_run_on_conversations_is_asked_without_the_instruction(
    tuned_home: Home, tuned_run: RunFolder, home: Home
) -> None:
    """Its rows were trained as they are; a run on pairs had the instruction before each."""
    shutil.copytree(tuned_run.path, home.runs / "copy")
    shutil.copytree(tuned_home.datasets / "tiny", home.datasets / "tiny")
    manifest = home.datasets / "tiny" / "dataset.json"
    instruction = tuned_run.read_recipe().format.instruction
    assert instruction and instruction in formatted(column_for(home, "copy"), "oak lamp").text
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"shape": "conversation"}))
    column = column_for(home, "copy")
    assert instruction not in formatted(column, "oak lamp").text
    assert formatted(base_column(column), "oak lamp") == formatted(column, "oak lamp")
    shutil.rmtree(home.datasets / "tiny")
    assert instruction in formatted(column_for(home, "copy"), "oak lamp").text


def test_a_gguf_file_needs_llama_cpp(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    with pytest.raises(UserError, match="there is no such file"):
        column_for(home, "model.gguf")
    file = home.path / "model.Q4_0.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install llama-cpp-python; or start its server"):
        column_for(home, str(file))


def test_every_column_says_what_makes_it_again(tuned_home: Home, tuned_run: RunFolder) -> None:
    """So that a vote, say, can name what it was about."""
    refs = ["tuned", "tuned@last", "tuned@base", BUILTIN_BASE, "http://localhost:1/v1#m key=K"]
    columns = [column_for(tuned_home, ref) for ref in refs]
    columns += [base_column(columns[0]), base_column(columns[1]), base_column(columns[3])]
    for column in columns:
        again = column_for(tuned_home, column.ref)
        label = column.label.replace("(last, ", "(")
        assert again == replace(column, label=label, id=again.id)
    assert replace(columns[2], id="base") == columns[5] == columns[6]
    assert columns[2].ref == f"{tuned_run.id}@base"


def test_columns_travel_to_the_worker(tuned_home: Home, tuned_run: RunFolder) -> None:
    column = column_for(tuned_home, "tuned@last")
    assert Column.from_json(json.loads(json.dumps(column.to_json()))) == column


def test_a_chat_run_of_a_model_without_a_template_says_what_to_do(
    no_template: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(f"model.model_name_or_path={no_template}", "format.template=chat")
    column = Column("x", "x", str(no_template), None, recipe)
    with pytest.raises(UserError, match=r"has no chat template; set format.template to alpaca"):
        formatted(column, "oak lamp")
