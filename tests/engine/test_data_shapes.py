"""Rows of every shape as text and tokens, the figures of a split, and ``tunebench preview``."""

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.data.dataset import Dataset
from engine.data.preview import preview_pack, preview_row, preview_stats, row_of_line
from engine.data.progress import Cancelled
from engine.data.rows import Message, Row
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import open_home
from engine.jobs.launch import create_run
from engine.recipe import FormatSection, Recipe
from tests.engine.shaped import rows, write_dataset
from tests.engine.test_data_tokens import BOS, CHATML, EOS, HOSTILE, write_tokenizer

ROOT = Path(__file__).parents[2]
SHAPES = ("pair", "instruction", "conversation", "text")
TALK = (
    Message("system", "You keep a shop."),
    Message("user", "A banjo?"),
    Message("assistant", "This steel banjo is for bluegrass."),
    Message("user", "Any other?  "),
    Message("assistant", "Café tasse."),
)
DATED = (
    "{{ bos_token }}{{ strftime_now('%d %B %Y') }}{% for m in messages %}"
    "[{{ m.role }}]{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}[{{ m.role }}]"
    "{{ m.content if loop.last or m.role != 'assistant' else m.content.split('|')[-1] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "small")


def load(folder: Path, max_length: int = 10_000, **section: str) -> Formatter:
    return Formatter.load(str(folder), FormatSection(**section), max_length)


def one(formatter: Formatter, row: Row, shape: str = "") -> Any:
    return next(formatter.examples([row], shape=shape))


@pytest.mark.parametrize("template", ["llama", "chatml"])
def test_a_conversation_equals_apply_chat_template(
    small: Path, tmp_path: Path, template: str
) -> None:
    from transformers import AutoTokenizer

    folder = small if template == "llama" else write_tokenizer(tmp_path / "chatml", CHATML)
    theirs = AutoTokenizer.from_pretrained(str(folder))
    messages = [message._asdict() for message in TALK]
    whole = theirs.apply_chat_template(messages, return_dict=True)["input_ids"]
    formatter = load(folder, template="chat")
    example = one(formatter, Row("", "", messages=TALK))
    assert example.input_ids == whole[: len(example.input_ids)]
    assert not theirs.decode(whole[len(example.input_ids) :]).strip()
    # Every answer with its end of turn, and nothing else.
    spans = "".join(
        theirs.decode([n]) if on else "\0"
        for n, on in zip(example.input_ids, example.completion_mask, strict=True)
    )
    assert [span for span in spans.split("\0") if span] == [
        f"This steel banjo is for bluegrass.{EOS}",
        f"Café tasse.{EOS}",
    ]
    if template == "chatml":  # has marks of its own for what is trained
        mask = theirs.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True
        )["assistant_masks"]
        assert mask[: len(example.input_ids)] == example.completion_mask
    pair = Row("A banjo?", "Yes.", system="s")
    talk = Row("", "", messages=(Message("user", "A banjo?"), Message("assistant", "Yes.")))
    with_system = load(folder, template="chat", instruction="", system="s")
    assert one(with_system, talk) == one(load(folder, template="chat", instruction=""), pair)


def test_conversations_where_they_have_no_place(small: Path, tmp_path: Path) -> None:
    for template in ("alpaca", "plain"):
        formatter = load(small, template=template, instruction="Sell.")
        with pytest.raises(UserError, match=r'^format\.template: .*set format\.template = "chat"'):
            one(formatter, Row("", "", messages=TALK))
        single = one(formatter, Row("", "", messages=TALK[1:3]))
        assert single == one(formatter, Row(TALK[1].content, TALK[2].content))
        system = one(formatter, Row("", "", messages=TALK[:3]))
        assert system.text == "You keep a shop.\n" + "\n" * (template == "alpaca") + single.text
    forgetful = load(write_tokenizer(tmp_path / "forgetful", FORGETFUL), template="chat")
    thinking = [*TALK[:2], Message("assistant", "let me see|yes"), *TALK[3:]]
    assert one(forgetful, Row("", "", messages=TALK))
    with pytest.raises(UserError, match="writes earlier turns in another way when more follow"):
        one(forgetful, Row("", "", messages=tuple(thinking)))


def test_a_row_that_has_no_place_is_named_by_its_line(small: Path, tmp_path: Path) -> None:
    dataset = write_dataset(open_home(tmp_path), "conversation", rows("conversation"))
    with pytest.raises(UserError, match=r"\(row of line 3\)$"):
        preview_stats(dataset, load(small, template="alpaca"), "train")


def test_instruction_rows_bring_their_own(small: Path) -> None:
    for template, words in (
        ("alpaca", "### Instruction:\n{}\n\n### Input:\np\n\n### Response:\n"),
        ("plain", "{}\np\n"),
        ("chat", "{}\n\np"),
    ):
        formatter = load(small, template=template, instruction="recipe's")
        own = one(formatter, Row("p", "c", instruction="row's"), "instruction")
        assert words.format("row's") in own.text and "recipe's" not in own.text
        assert words.format("recipe's") in one(formatter, Row("p", "c"), "instruction").text
        bare = one(formatter, Row("", "c", instruction="row's"), "instruction").text
        assert "row's" in bare and "Input:" not in bare and "row's\n\n\n" not in bare
        if template != "chat":
            system = one(formatter, Row("p", "c", "row's", "system's"), "instruction").text
            assert system.startswith("system's\n") and system.endswith(own.text)
    chat = load(small, template="chat", system="recipe's", instruction="")
    assert "system<|end_header_id|>\n\nrow's" in one(chat, Row("p", "c", "i", "row's")).text
    assert "system<|end_header_id|>\n\nrecipe's" in one(chat, Row("p", "c", "i")).text


def test_a_text_is_trained_whole_whatever_the_template(small: Path) -> None:
    examples = [
        one(load(small, template=template), Row("", "Tune it."), "text")
        for template in ("chat", "alpaca", "plain")
    ]
    formatter = load(small)
    assert all(example == examples[0] for example in examples)
    assert examples[0].text == f"Tune it.{EOS}"
    assert examples[0].input_ids[0] == formatter.bos_id
    assert examples[0].input_ids[-1] == formatter.eos_id
    assert set(examples[0].completion_mask) == {1}
    # Nothing comes before the first token to predict it from.
    assert examples[0].trained(True) == [False] + [True] * (examples[0].length - 1)
    # Only a dataset of texts has rows without a prompt that are texts.
    assert one(formatter, Row("", "Tune it."), "pair").text != examples[0].text


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("max_length", [8, 60, 200])
def test_fast_and_whole_are_the_same_and_nothing_is_smuggled(
    small: Path, tmp_path: Path, shape: str, max_length: int
) -> None:
    values = rows(shape)
    for number, value in enumerate(values):
        for key in ("prompt", "completion", "instruction", "system"):
            if number % 3 == 0 and value.get(key):
                value[key] += f" {HOSTILE}" * (number % 5)
        for message in value.get("messages", ()):
            message["content"] += f"{HOSTILE} " * (number % 4) + "the banjo " * 40 * (number % 2)
    dataset = write_dataset(open_home(tmp_path), shape, values)
    formatter = load(small, max_length, template="chat")
    table = dataset.split("train")
    whole = list(formatter.examples(table, shape=shape))
    fast = list(formatter.examples(table, shape=shape, whole=False))
    for shown, trained, value in zip(whole, fast, values, strict=False):
        assert trained.input_ids == shown.input_ids
        assert trained.completion_mask == shown.completion_mask
        assert trained.truncated_at == shown.truncated_at
        assert trained.text == shown.text
        assert trained.length <= shown.length
        turns = value.get("messages") or ([] if shape == "text" else [0, 1])
        turns = len(turns) + (shape == "instruction" and bool(value["system"]))
        ends = sum(n == formatter.eos_id for n in shown.input_ids)
        # One end for every turn (a text has one), and not one of those that the row spells.
        assert ends <= (turns or 1)
        if shown.truncated_at is None:
            assert ends == (turns or 1)
        assert sum(n == formatter.bos_id for n in shown.input_ids) == 1
    seen = preview_row(dataset, formatter, "train", 0)
    joined = "".join(token["text"] for token in seen["tokens"])
    assert seen["text"].startswith(joined.removeprefix(BOS) if shape == "text" else joined)
    assert seen["shape"] == shape
    assert seen["answer_cut"] == whole[0].answer_length - sum(whole[0].completion_mask)


def test_figures_of_a_split(small: Path, tmp_path: Path) -> None:
    home = open_home(tmp_path)
    dataset = write_dataset(home, "conversation", rows("conversation", 90))
    formatter = load(small, 100, template="chat")
    told: list[tuple[int, int]] = []
    stats = preview_stats(dataset, formatter, progress=lambda *at: told.append(at))
    seen = [preview_row(dataset, formatter, "train", row) for row in range(60)]
    assert told == [(60, 60)]
    assert stats["rows"] == 60 and not stats["estimate"]
    assert stats["truncated"] == sum(row["truncated_at"] is not None for row in seen) > 0
    assert stats["answers_cut"] == sum(row["answer_cut"] > 0 for row in seen) > 0
    assert stats["untrained"] == sum(row["trained"] == 0 for row in seen)
    assert stats["eos_untrained"] == sum(not row["eos_trained"] for row in seen) > 0
    assert stats["trained_tokens"] == sum(row["trained"] for row in seen)
    assert stats["tokens"] == sum(len(row["tokens"]) for row in seen)
    lengths = sorted(row["length"] for row in seen)
    for key, share in (("fits_95", 0.05), ("fits_99", 0.01)):
        fits = stats[key]
        assert sum(length > fits for length in lengths) < share * len(lengths)
        assert fits % 64 == 0 or fits & (fits - 1) == 0
    cut = 100 * stats["answers_cut_share"]
    assert stats["sentence"].startswith(f"at max_length 100, {cut:.0f} % of answers are cut; 200 ")
    tiny = preview_stats(dataset, load(small, 8, template="chat"))
    assert tiny["answers_lost"] == tiny["untrained"] == 60 and tiny["packing"]["sequences"] == 0
    quick = preview_stats(dataset, formatter, sample=10)
    assert (quick["rows"], quick["rows_in_split"], quick["estimate"]) == (10, 60, True)
    with pytest.raises(Cancelled):
        preview_stats(dataset, formatter, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        preview_pack(dataset, formatter, "train", 0, cancelled=lambda: True)
    pair = write_dataset(home, "pair", rows("pair", 90))
    assert " of descriptions are cut" in preview_stats(pair, load(small, 100))["sentence"]


def test_what_is_wrong_with_a_template_or_vocabulary_shows(small: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    dataset = write_dataset(open_home(tmp_path), "pair", rows("pair", 30))
    twice = "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    formatter = load(write_tokenizer(tmp_path / "twice", twice), template="chat")
    assert preview_row(dataset, formatter, "train", 0)["double_bos"]
    assert preview_stats(dataset, formatter)["double_bos"] == 20
    assert not preview_row(dataset, load(small), "train", 0)["double_bos"]
    words = Tokenizer(models.WordLevel({"?": 0, "<end>": 1, "red": 2, "oak": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<end>"])
    folder = tmp_path / "words"
    folder.mkdir()
    words.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>", "unk_token": "<end>"}')
    formatter = load(folder, template="plain", instruction="red oak")
    seen = preview_row(dataset, formatter, "train", 0)
    assert seen["unknown_tokens"] == sum(token["id"] == 0 for token in seen["tokens"]) > 0
    assert preview_stats(dataset, formatter)["unknown_rows"] == 20
    assert preview_row(dataset, load(small), "train", 0)["unknown_tokens"] == 0


def test_the_date_in_a_prompt_is_the_runs(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "dated", DATED)
    formatter = load(folder, template="chat", date="2026-02-28")
    assert formatter.example("p", "c").text.startswith(f"{BOS}28 February 2026[user]")
    today = datetime.date.today()
    assert f"{today:%d %B %Y}" in load(folder, template="chat").example("p", "c").text
    home = open_home(tmp_path / "home")
    recipe = Recipe(name="r").with_settings(["format.template=chat"])
    pinned = create_run(home, recipe).read_recipe().format.date
    assert pinned in {today.isoformat(), datetime.date.today().isoformat()}
    kept = recipe.with_settings(["format.date='2020-01-31'"])
    assert create_run(home, kept).read_recipe().format.date == "2020-01-31"
    assert create_run(home, Recipe(name="alpaca")).read_recipe().format.date == ""
    with pytest.raises(UserError, match=r"format\.date: write it as year-month-day"):
        recipe.with_settings(["format.date=yesterday"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_dataset(open_home(folder), "conversation", rows("conversation", 90))
    return folder


def test_the_verb(small: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["preview", "conversation", "--home", str(home), "--set", "format.template=chat"]
    argv += ["--set", f"model.model_name_or_path={small}", "--set", "train.max_length=100"]

    def document(*more: str) -> dict[str, Any]:
        assert main([*argv, *more, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def lines(*more: str) -> list[str]:
        assert main([*argv, *more]) == 0
        return capsys.readouterr().out.splitlines()

    seen = document("--row", "3")
    assert seen["line"] == 7 and document("--line", "7") == seen
    assert {"text", "tokens", "truncated_at", "answer_cut"} <= set(seen)
    assert set(seen["tokens"][0]) == {"id", "text", "trained"}
    stats = document("--stats")
    assert stats["truncated"] and "sentence" in stats
    text = lines("--stats")
    assert max(map(len, text)) <= 80 and stats["sentence"] in text
    assert any("█" in line for line in text)
    assert "the first of 60: estimates" in lines("--stats", "--sample", "20")[0]
    packed = document("--pack", "1")
    assert [token["position"] for token in packed["tokens"]].count(0) == len(packed["rows"])
    assert f"sequence 1 of {packed['packs']}" in lines("--pack", "1")[-1]
    for more, words in (
        (["--line", "2"], "no row of conversation came from it"),
        (["--line", "179"], "add --split test"),
        (["--pack", "999"], "makes sequences 0 to"),
        (["--pack", "0", "--split", "test"], "only the train split is packed"),
    ):
        assert main([*argv, *more]) == 1
        assert words in capsys.readouterr().err


def test_previewing_imports_no_torch(small: Path, home: Path) -> None:
    code = (
        "import sys\n"
        "from engine.cli import main\n"
        f"argv = ['preview', 'conversation', '--home', {str(home)!r}, '--json', '--set',\n"
        f"  'model.model_name_or_path={small}', '--set', 'format.template=chat']\n"
        "for what in (['--row', '1'], ['--stats'], ['--pack', '0']): main([*argv, *what])\n"
        "names = ('torch', 'transformers', 'datasets', 'trl')\n"
        "print('LOADED', [name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert done.stdout.count('"tokens"') >= 3


def test_a_dataset_tells_its_shape(tmp_path: Path) -> None:
    dataset = write_dataset(open_home(tmp_path), "instruction", rows("instruction", 9))
    assert dataset.shape == "instruction"
    assert row_of_line(dataset, "train", 5) == 2
    old = Dataset(dataset.path, {k: v for k, v in dataset.manifest.items() if k != "shape"})
    assert old.shape == "pair"
