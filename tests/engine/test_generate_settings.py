"""Sampling settings: min-p, stop strings, each column its own; and how likely tokens were."""

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.builtin import BUILTIN_BASE
from engine.errors import UsageError
from engine.generate.answer_file import AnswerFile
from engine.generate.answer_text import AnswerText, GrowingText, Stopping
from engine.generate.answering import Row, answer
from engine.generate.columns import column_for
from engine.generate.fit import leave_slots
from engine.generate.mixing import BASE
from engine.generate.models import Voice
from engine.generate.sampling import Cancelled, draw
from engine.generate.slots import ATTENTION
from engine.home import open_home
from engine.recipe import GenerateSection, load_recipe
from tests.bench.first_token import make_adapter
from tests.bench.same_answers import builtin_voice, prompts
from tests.engine.answered import SAMPLED, answers

GREEDY = GenerateSection(max_new_tokens=30)
DIFFERENT = {
    "base": GenerateSection(max_new_tokens=25, do_sample=True, temperature=1.3, seed=5),
    "a": GREEDY,
    "b": GenerateSection(max_new_tokens=40, do_sample=True, min_p=0.1, top_p=1.0, seed=9),
    "c": GenerateSection(max_new_tokens=35, repetition_penalty=1.5),
}


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[Voice]:
    """The built-in model, two random adapters on the same copy of it, and the base once more."""
    folder = tmp_path_factory.mktemp("settings")
    own = builtin_voice(open_home(folder / "home"), "model.device=cpu")
    found = [own]
    for seed, name in enumerate("ab"):
        adapter = own.base.load_adapter(make_adapter(BUILTIN_BASE, folder / name, seed))
        found.append(replace(own, column=replace(own.column, id=name), adapter=adapter))
    return [*found, replace(own, column=replace(own.column, id="c"))]


@pytest.fixture(params=["slots", "generate"])
def way(
    request: pytest.FixtureRequest, voices: list[Voice], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Both ways of answering."""
    if request.param == "generate":
        monkeypatch.setattr(voices[0].base, "misfit", "for this test")
    return str(request.param)


def said(
    voices: list[Voice], texts: list[str], settings: Any, **more: Any
) -> dict[tuple[str, int], dict[str, Any]]:
    """(column, number) -> the answer's end, with its text, what came piece by piece, and odds."""
    found: dict[tuple[str, int], dict[str, Any]] = {}

    def emit(row: Row, text: str, end: dict[str, Any] | None, odds: Any) -> None:
        key = (row.voice.column.id, row.prompt_index)
        one = found.setdefault(key, {"text": "", "chunks": [], "pieces": []})
        assert "stop_reason" not in one
        one["text"] += text
        one["chunks"].append(text)
        one["pieces"] += odds or []
        assert odds is None or "".join(piece for piece, _ in odds) == text
        one.update(end or {})

    answer(voices, texts, settings, emit, Cancelled(), **more)
    assert all("stop_reason" in one for one in found.values())
    return found


# ---- each column its own ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
def test_columns_with_settings_of_their_own_answer_as_alone(
    voices: list[Voice], way: str, count: int
) -> None:
    """A few in one batch, slot by slot; many sorted by their settings."""
    texts = prompts(count, seed=21)
    together = said(voices, texts, DIFFERENT)
    if way == "slots":
        assert voices[0].base.bare.config._attn_implementation == ATTENTION
    assert all(one["first_seconds"] <= one["seconds"] for one in together.values())
    for voice in voices:
        alone = said([voice], texts, DIFFERENT[voice.column.id])
        for key, one in alone.items():
            assert (one["text"], one["tokens"]) == (together[key]["text"], together[key]["tokens"])
            assert together[key]["tokens"] <= DIFFERENT[key[0]].max_new_tokens
    for number in range(len(texts)):
        assert len({together[voice.column.id, number]["text"] for voice in voices}) >= 3


def test_one_prompt_to_columns_of_other_settings_streams_side_by_side(voices: list[Voice]) -> None:
    seen: list[str] = []

    def emit(row: Row, text: str, end: Any, odds: Any) -> None:
        seen.append(row.voice.column.id)

    answer(voices, prompts(1, seed=22), DIFFERENT, emit, Cancelled())
    assert len(set(seen[:6])) == 4, "one column after the other"


def test_few_are_one_batch_whatever_their_settings(
    voices: list[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.generate import batching

    made: list[int] = []
    real = batching.Stepper

    def counted(base: Any, rows: int, *more: Any) -> Any:
        made.append(rows)
        return real(base, rows, *more)

    monkeypatch.setattr(batching, "Stepper", counted)
    voices[0].base.steppers = []
    # The room of an answer, its seed and what it stops at are no reason for other slots.
    more = {
        "base": GREEDY,
        "a": GenerateSection(max_new_tokens=20, seed=4),
        "b": GenerateSection(max_new_tokens=30, stop_strings=["."]),
    }
    said(voices[:3], prompts(1, seed=23), more)
    assert made == [3]
    said(voices[:3], prompts(1, seed=24), more)
    assert made == [3], "the slots are kept for the next prompt"
    said(voices, prompts(1, seed=23), DIFFERENT)
    assert made == [3, 4]
    said(voices, prompts(3, seed=23), DIFFERENT)
    assert made[2:] == [3, 3, 3, 3], "many: a batch for each way of picking"


def test_a_few_without_room_for_all_are_answered_all_the_same(
    voices: list[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.generate import batching

    texts = prompts(2, seed=28)
    want = said(voices, texts, DIFFERENT)
    slot = batching._slot_bytes(voices[0].base, 64)
    monkeypatch.setattr(batching, "free_memory", lambda device: 2 * slot)  # of which half
    found = said(voices, texts, DIFFERENT)
    assert {k: v["text"] for k, v in found.items()} == {k: v["text"] for k, v in want.items()}


# ---- stop strings -----------------------------------------------------------------------------


def test_an_answer_ends_before_its_stop_string(voices: list[Voice], way: str) -> None:
    texts = prompts(6, seed=24)
    whole = said(voices[:2], texts, GREEDY)
    stops = [" a", ". ", "with"]
    settings = GREEDY.model_copy(update={"stop_strings": stops})
    cut = said(voices[:2], texts, settings)
    kinds = set()
    for key, one in cut.items():
        full = whole[key]["text"]
        ends = [full.find(stop) + len(stop) for stop in stops if stop in full]
        kinds.add(one["stop_reason"])
        if not ends:
            assert (one["text"], one["stop_reason"]) == (full, whole[key]["stop_reason"])
            continue
        first = min(stops, key=lambda s: (full.find(s) + len(s)) if s in full else len(full) + 9)
        assert one["text"] == full[: full.find(first)] and one["stop_reason"] == "stop"
        assert one["tokens"] < whole[key]["tokens"] or full.endswith(first)
        assert "".join(one["chunks"]) == one["text"]
    assert "stop" in kinds
    assert {k: v["text"] for k, v in said(voices[:2], texts, settings, stream=False).items()} == {
        k: v["text"] for k, v in cut.items()
    }


def test_a_special_token_can_be_stopped_at(voices: list[Voice], way: str) -> None:
    """Although it has no text: here the one that would end the answer anyhow, were it not taken."""
    own = voices[0]
    ends = own.base.ends
    name = next(text for text, id in own.formatter.special_tokens.items() if id in ends)
    base, formatter = copy.copy(own.base), copy.copy(own.formatter)
    base.ends, formatter.stop_ids = frozenset(), set()
    voice = replace(own, base=base, formatter=formatter)
    texts = prompts(4, seed=25)
    found = said([voice], texts, GenerateSection(max_new_tokens=60, stop_strings=[name]))
    ended = said([own], texts, GenerateSection(max_new_tokens=60))
    assert {one["stop_reason"] for one in found.values()} == {"stop"}
    assert [one["text"] for one in found.values()] == [one["text"] for one in ended.values()]


@pytest.mark.parametrize("seed", range(30))
def test_a_stopped_text_does_not_depend_on_its_pieces(seed: int) -> None:
    random_ = random.Random(seed)
    text = "".join(random_.choices("ab\n.", k=40))
    stops = ["".join(random_.choices("ab\n.", k=random_.randint(1, 5))) for _ in range(3)]
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    want = text[: min(ends)[1]] if ends else text
    for with_odds in (False, True):
        growing = GrowingText(stops, with_odds=with_odds)
        shown, pieces, done = "", [], 0
        while done < len(text) and not growing.stopped:
            size = random_.randint(0, 4)
            more, its = growing.add(text[done : done + size], 0.5)
            shown, pieces, done = shown + more, pieces + its, done + size
            assert want.startswith(shown), "a part of a stop string was shown"
        more, its = growing.end()
        assert shown + more == want and growing.stopped == bool(ends)
        if with_odds:
            assert "".join(piece for piece, _ in pieces + its) == want


def test_text_that_began_like_a_stop_string_comes_in_the_end() -> None:
    stopping = Stopping(["\nUser:"])
    assert stopping.take(stopping.push("Hello\nUs")) == "Hello"
    assert stopping.take(stopping.push("ual")) == "\nUsual"
    growing = GrowingText(["\nUser:"])
    assert growing.add("so\nUser") == ("so", []) and growing.end() == ("\nUser", [])


def test_characters_of_several_tokens_keep_their_odds() -> None:
    letters = "naïve 😀".encode()
    text = AnswerText(lambda ids: bytes(ids).decode("utf-8", "replace"), ["x"], with_odds=True)
    said, pieces = "", []
    for number, byte in enumerate(letters):
        more = text.push(byte, number / 100)
        said, pieces = said + more[0], pieces + more[1]
    more = text.flush()
    assert said + more[0] == "naïve 😀"
    assert [odds for _, odds in pieces + more[1]] == [n / 100 for n in range(len(letters))]


def test_an_empty_stop_string_is_refused_in_a_recipe() -> None:
    with pytest.raises(UsageError, match=r"generate\.stop_strings.*empty text"):
        load_recipe("demo", ['generate.stop_strings=[""]'])
    assert load_recipe("demo", ['generate.stop_strings=["\\n\\n"]']).generate.stop_strings == [
        "\n\n"
    ]
    with pytest.raises(UsageError, match=r"generate\.min_p"):
        load_recipe("demo", ["generate.min_p=1.5"])


# ---- min-p ------------------------------------------------------------------------------------


def test_min_p_is_that_of_transformers() -> None:
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    torch.manual_seed(0)
    logits = 3 * torch.randn(200, 60)
    settings = GenerateSection(do_sample=True, min_p=0.15, top_p=0.97, top_k=40, temperature=1.4)
    scores = logits
    for warper in (
        TemperatureLogitsWarper(1.4),
        TopKLogitsWarper(40),
        TopPLogitsWarper(0.97),
        MinPLogitsWarper(0.15),
    ):
        scores = warper(None, scores)
    allowed = torch.isfinite(scores)
    hits = torch.zeros_like(allowed)
    for step in range(400):
        chosen = draw(logits, settings, torch.full((200,), step / 400))
        hits.scatter_(1, chosen, True)
    assert not (hits & ~allowed).any(), "a token that min-p forbids was drawn"
    odds = scores.softmax(-1)
    assert hits[odds > 0.01].all(), "a token that is likely enough was never drawn"
    everything = settings.model_copy(update={"min_p": 0.0})
    assert (draw(logits, everything, torch.full((200,), 0.999)) != chosen).any()


def test_sampled_answers_with_min_p_are_those_of_the_plain_way(
    voices: list[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = prompts(6, seed=26)
    settings = {**SAMPLED, "min_p": 0.2}
    ours = [answers(voices[:1], [text], settings=settings) for text in texts]
    assert ours != [answers(voices[:1], [text], settings=SAMPLED) for text in texts]
    monkeypatch.setattr(voices[0].base, "misfit", "for this test")
    assert [answers(voices[:1], [text], settings=settings) for text in texts] == ours


# ---- how likely tokens were -------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {**SAMPLED, "repetition_penalty": 1.4}])
def test_probabilities_are_the_models_own(
    voices: list[Voice], way: str, settings: dict[str, Any]
) -> None:
    """Whatever the sampling: the softmax of the logits as the model gives them."""
    texts = prompts(2, seed=27)
    section = GenerateSection(**{"max_new_tokens": 12, **settings})
    found = said(voices[:1], texts, section, probabilities=True)
    plain = said(voices[:1], texts, section)
    base, tokenizer = voices[0].base, voices[0].base.tokenizer
    for number, text in enumerate(texts):
        one = found["base", number]
        assert one["text"] == plain["base", number]["text"] and not plain["base", number]["pieces"]
        assert len(one["pieces"]) == one["tokens"]
        prompt = voices[0].formatter.prompt_ids(text)
        ids = tokenizer(one["text"], add_special_tokens=False)["input_ids"]
        assert [tokenizer.decode([id]) for id in ids] == [piece for piece, _ in one["pieces"]]
        leave_slots(base)
        with base.only(BASE), torch.no_grad():
            logits = base.bare(torch.tensor([prompt + ids])).logits[0]
        odds = logits[len(prompt) - 1 : -1].float().softmax(-1)
        want = odds.gather(1, torch.tensor(ids)[:, None]).squeeze(1)
        got = torch.tensor([p for _, p in one["pieces"]])
        assert torch.allclose(got, want, atol=1e-4)


# ---- the answer file ----------------------------------------------------------------------------


def test_answers_of_other_stop_strings_are_not_mixed_in(tmp_path: Path) -> None:
    column = column_for(open_home(tmp_path / "home"), BUILTIN_BASE)
    stops = GREEDY.model_copy(update={"stop_strings": ["."]})
    files = {
        name: AnswerFile(tmp_path / "x", ["p"], [column], settings).digests[column.id]
        for name, settings in (
            ("greedy", GREEDY),
            ("stops", stops),
            ("min_p", GREEDY.model_copy(update={"min_p": 0.1})),
        )
    }
    assert len(set(files.values())) == 3
