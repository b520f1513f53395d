"""The playground on a GPU: recorded steps answer as they should; a run is not put at risk."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.gpu

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from engine.builtin import BUILTIN_BASE  # noqa: E402
from engine.errors import NeedsConsent  # noqa: E402
from engine.generate.answering import Row, answer  # noqa: E402
from engine.generate.client import GenerationClient  # noqa: E402
from engine.generate.columns import Column, column_for  # noqa: E402
from engine.generate.models import Voice  # noqa: E402
from engine.generate.sampling import Cancelled  # noqa: E402
from engine.home import Home, open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.control import request  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import GenerateSection, load_recipe  # noqa: E402
from tests.bench.first_token import make_adapter  # noqa: E402
from tests.bench.same_answers import builtin_voice, prompts  # noqa: E402
from tests.engine.answered import answers  # noqa: E402

WAYS = {
    "greedy": {},
    "filtered": {"do_sample": True, "temperature": 1.3, "top_p": 0.9, "top_k": 50, "min_p": 0.02},
    "penalty": {"do_sample": True, "temperature": 1.0, "repetition_penalty": 1.3},
}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(BUILTIN_BASE, folder / name, seed) for seed, name in enumerate("ab")]


def voices(device: str, adapters: list[Path], folder: Path) -> list[Voice]:
    home = open_home(folder / device)
    base = builtin_voice(home, f"model.device={device}", "model.dtype=float32")
    found = [base]
    for adapter in adapters:
        name = base.base.load_adapter(adapter)
        found.append(replace(base, column=replace(base.column, id=adapter.name), adapter=name))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_columns_answer_as_alone(way: str, adapters: list[Path], tmp_path: Path) -> None:
    mine = voices("cuda", adapters, tmp_path)
    base = mine[0].base
    for number, text in enumerate(prompts(6, seed=11)):
        settings = {**WAYS[way], "seed": number}
        alone: dict[Any, Any] = {}
        for voice in mine:
            alone |= answers([voice], [text], settings=settings)
        assert answers(mine, [text], settings=settings) == alone
        assert [stepper.replays for stepper in base.steppers] == [True]
    assert base.misfit == "" and len(set(alone.values())) == 3, "the columns all say the same"


def test_probabilities_are_those_of_the_cpu(adapters: list[Path], tmp_path: Path) -> None:
    (text,) = prompts(1, seed=12)
    said: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for device in ("cpu", "cuda"):
        pieces: dict[str, list[tuple[str, float]]] = {}

        def emit(row: Row, new: str, end: Any, some: Any, found: Any = pieces) -> None:
            found.setdefault(row.voice.column.id, []).extend(some or [])

        mine = voices(device, adapters, tmp_path)
        section = GenerateSection(max_new_tokens=30)
        answer(mine, [text], section, emit, Cancelled(), probabilities=True)
        said[device] = pieces
    for name, expected in said["cpu"].items():
        found = said["cuda"][name]
        assert [piece for piece, _ in found] == [piece for piece, _ in expected]
        torch.testing.assert_close(
            torch.tensor([odds for _, odds in found]),
            torch.tensor([odds for _, odds in expected]),
            rtol=1e-2,
            atol=1e-3,
        )


def test_a_training_run_is_asked_for(tmp_path: Path) -> None:
    """A model beside a run of this home is loaded with consent only."""
    home = open_home(tmp_path / "home")
    recipe = load_recipe("demo", ["model.device=cuda", "train.max_steps=20000"])
    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    try:
        while not any(event["type"] == "metrics" for event in read_all(folder.journal)):
            assert not launch.wait_until_dead(folder, 0.2), folder.log_tail(40)
        column = column_for(home, BUILTIN_BASE)
        column = replace(column, recipe=column.recipe.with_settings(["model.device=cuda"]))
        asyncio.run(_ask_beside(home, column))
    finally:
        request(folder, "kill")
        assert launch.wait_until_dead(folder, 60)


async def _ask_beside(home: Home, column: Column) -> None:
    async with GenerationClient.start(home, [column]) as client:
        with pytest.raises(NeedsConsent, match="is training on"):
            await client.ready()
        client.allow_beside_training = True
        said = [chunk async for chunk in client.generate("oak lamp", partial=True)]
        assert said[-1].done and said[-1].error is None and said[-1].tokens
