"""Slots answer what Transformers' ``generate`` answers: the built-in model, on the CPU."""

import re
from typing import Any

import pytest

from engine.generate import answering, batching
from engine.generate.answering import Row, answer
from engine.generate.batching import Asked
from engine.generate.mixing import BASE
from engine.generate.models import Base, Voice
from engine.generate.sampling import Cancelled
from engine.generate.slots import ATTENTION
from engine.home import open_home
from engine.recipe import GenerateSection
from tests.bench.same_answers import ask, builtin_voice, generated, in_slots, prompts
from tests.engine.answered import SAMPLED, answers


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    home = open_home(tmp_path_factory.mktemp("slots") / "home")
    return builtin_voice(home, "model.device=cpu")


@pytest.fixture
def asked(voice: Voice) -> list[Asked]:
    """60 prompts of 10 to 120 tokens: more than there are slots, so that they are refilled."""
    found = ask(voice, prompts(60, seed=3))
    assert len({len(one.prompt) for one in found}) > 30
    return found


def test_greedy_answers_are_those_of_generate(voice: Voice, asked: list[Asked]) -> None:
    alone = [generated(voice.base, [one])[0] for one in asked]
    assert in_slots(voice.base, asked) == alone
    assert voice.base.misfit == ""
    assert len({len(answer) for answer in alone}) > 5, "all end together: nothing was refilled"


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_the_number_of_slots_changes_no_answer(
    voice: Voice, asked: list[Asked], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = in_slots(voice.base, asked)
    monkeypatch.setattr(batching, "MOST_ROWS_CPU", rows)
    monkeypatch.setattr(batching, "PREFILL_TOKENS", 200)
    assert in_slots(voice.base, ask(voice, prompts(60, seed=3))) == want


@pytest.mark.parametrize("settings", [{}, SAMPLED, {**SAMPLED, "repetition_penalty": 1.4}])
def test_an_answer_depends_on_its_number_not_on_its_neighbours(
    voice: Voice, settings: dict[str, Any]
) -> None:
    texts = prompts(50, seed=4)
    together = answers([voice], texts, settings=settings)
    whole = answers([voice], texts, settings=settings, stream=False)
    assert whole == together
    for number in (0, 17, 49):
        alone = answers([voice], [texts[number]], settings=settings, indices=[number])
        assert alone["base", number] == together["base", number]
    if settings:
        other = answers([voice], texts, settings={**settings, "seed": 8})
        assert sum(other[key] != together[key] for key in other) > 25


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.4}, SAMPLED])
def test_penalty_and_sampling_are_those_of_the_plain_way(
    voice: Voice, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prompt at a time: ``generate`` punishes the padding of a batch as well."""
    texts = prompts(12, seed=5)
    ours = [answers([voice], [text], settings=settings) for text in texts]
    monkeypatch.setattr(voice.base, "misfit", "for this test")
    assert [answers([voice], [text], settings=settings) for text in texts] == ours
    assert voice.base.bare.config._attn_implementation != ATTENTION
    assert "for this test" in answering.notes([voice])[0]


def test_any_token_may_end_an_answer(voice: Voice, asked: list[Asked]) -> None:
    full = in_slots(voice.base, asked)
    stop = max({t for a in full for t in a}, key=lambda t: sum(t in a[3:] for a in full))
    again = [Asked(o.prompt, BASE, 0, o.room, o.ends | {stop}) for o in asked]
    cut = [a[: a.index(stop)] if stop in a else a for a in full]
    assert in_slots(voice.base, again) == cut != full


def test_an_answer_ends_with_its_room_and_at_the_context(voice: Voice) -> None:
    (text,) = prompts(1, seed=6)
    text_answer, reason, tokens = answers([voice], [text], settings={"max_new_tokens": 3})[
        "base", 0
    ]
    assert (reason, tokens) == ("length", 3) and text_answer
    context = voice.base.context
    assert context == 512
    long = "lamp " * 100
    while len(voice.formatter.prompt_ids(long + "lamp ")) < context - 4:
        long += "lamp "
    left = context - len(voice.formatter.prompt_ids(long))
    found = answers([voice], [long, text], settings={"max_new_tokens": 60})
    assert found["base", 0][2] <= left < 60


def test_a_prompt_longer_than_the_context_ends_alone(voice: Voice) -> None:
    ends: dict[int, dict[str, Any]] = {}

    def emit(row: Row, text: str, end: dict[str, Any] | None, odds: Any) -> None:
        if end:
            ends[row.prompt_index] = end

    texts = [prompts(1, seed=6)[0], "lamp " * 600]
    answer([voice], texts, GenerateSection(max_new_tokens=3), emit, Cancelled())
    assert ends[0]["stop_reason"] == "length" and ends[1]["stop_reason"] == "error"
    assert re.search(r"prompt 2 has [\d,]+ tokens, .* context only 512", ends[1]["error"])


def test_cancelling_ends_all_and_the_next_prompt_works(voice: Voice) -> None:
    texts = prompts(60, seed=7)
    want = answers([voice], texts[:2])
    cancelled, seen = Cancelled(), []
    settings = GenerateSection(max_new_tokens=200, do_sample=True, temperature=50.0)
    ends: list[str] = []

    def emit(row: Row, text: str, end: dict[str, Any] | None, pieces: Any) -> None:
        seen.append(text)
        cancelled.requested = len(seen) >= 100
        if end:
            ends.append(end["stop_reason"])

    answer([voice], texts, settings, emit, cancelled)
    assert len(ends) == 60 and ends.count("cancelled") > 20
    assert len(seen) < 200, "it went on after the request"
    assert answers([voice], texts[:2]) == want


def test_answering_goes_on_in_the_room_that_there_is(
    voice: Voice, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    want = in_slots(voice.base, asked)
    rows: list[int] = []
    real = batching.Stepper

    def counted(base: Base, count: int, *more: Any) -> Any:
        rows.append(count)
        return real(base, count, *more)

    monkeypatch.setattr(batching, "Stepper", counted)
    monkeypatch.setattr(batching, "free_memory", lambda device: 8 << 20)
    assert in_slots(voice.base, ask(voice, prompts(60, seed=3))) == want
    assert max(rows) < batching.MOST_ROWS_CPU


# ---- a GPU's order of things, without one ---------------------------------------------------


class Scripted:
    """A stepper that says what its script says, as late as a GPU would let one read it."""

    device = "cuda:0"

    def __init__(self, rows: int, scripts: dict[int, list[int]]) -> None:
        self.rows, self.scripts = rows, scripts
        self.slots: list[list[int]] = [[] for _ in range(rows)]
        self.steps = self.read = self.fills = 0

    def fill(self, slots: Any, prompts: Any, adapters: Any, seeds: Any) -> None:
        self.fills += 1
        for slot, prompt in zip(slots, prompts, strict=True):
            self.slots[slot] = list(self.scripts[prompt[0]])

    def step(self) -> Any:
        self.steps += 1
        made = [slot.pop(0) if slot else 99 for slot in self.slots]

        def read() -> list[int]:
            self.read += 1
            assert self.steps - self.read <= 1, "read more than a step behind"
            return made, None

        return read


def test_reading_a_step_behind_loses_and_adds_no_token() -> None:
    lengths = [1, 7, 2, 2, 9, 3, 1, 5, 4, 6, 8]
    scripts = {n: [10 * n + 100 + k for k in range(count)] for n, count in enumerate(lengths)}
    asked = [
        Asked([n], BASE, 0, count + (n % 2), frozenset({99})) for n, count in enumerate(lengths)
    ]
    stepper = Scripted(4, scripts)
    ends: dict[int, str] = {}

    def on_token(one: Asked, token: int | None, end: str | None) -> None:
        assert one.prompt[0] not in ends
        if end:
            ends[one.prompt[0]] = end

    for _ in batching._Batch(stepper, asked, on_token, Cancelled()).steps():  # type: ignore
        pass
    assert [one.ids for one in asked] == list(scripts.values())
    assert ends == {n: "eos" if n % 2 else "length" for n in scripts}
    assert stepper.read == stepper.steps < sum(lengths)
    assert 1 < stepper.fills < len(lengths)
