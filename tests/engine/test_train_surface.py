"""Every usual hyperparameter does what its name says, and a resumed run still trains the same."""

import math
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import open_home
from engine.jobs.context import Stopped
from engine.recipe import Recipe
from tests.engine.training import Attempt, evaluations, events, losses

Make = Callable[..., Recipe]
ROOT = Path(__file__).parents[2]
SHORT = ["train.max_steps=8", "evaluate.before=false", "evaluate.sample_rows=0"]


def resumed_equals(home: Path, recipe: Recipe) -> tuple[Attempt, Attempt]:
    """Train whole, and stopped after step 5 and resumed; returns both, every step's loss equal."""
    whole, broken = (Attempt(open_home(home), recipe, name) for name in ("whole", "broken"))
    whole.run()
    broken.stop_at = ("metrics", 5)
    with pytest.raises(Stopped):
        broken.run()
    broken.stop_at = None
    broken.run()
    mine, theirs = losses(broken.folder), losses(whole.folder)
    assert mine == pytest.approx(theirs, abs=1e-5)
    assert evaluations(broken.folder) == pytest.approx(evaluations(whole.folder), abs=1e-5)
    return whole, broken


CHANGES = {
    "rslora": ["lora.use_rslora=true"],
    "dora": ["lora.use_dora=true"],
    "all-linear": ['lora.target_modules="all-linear"', "lora.init_lora_weights=gaussian"],
    "modules_to_save": ['lora.modules_to_save=["lm_head"]', "lora.bias=lora_only"],
    "layers": ["lora.layers_to_transform=[1]"],
    "add_tokens": ['model.add_tokens=["<|title|>", "<|text|>"]'],
    "neftune": ["train.neftune_noise_alpha=5"],
    "label_smoothing": ["train.label_smoothing_factor=0.1"],
    "by_length": [
        "train.train_sampling_strategy=group_by_length",
        *("train.max_steps=-1", "train.num_train_epochs=0.2"),
    ],
    "sequential": ["train.train_sampling_strategy=sequential"],
    "min_lr": [
        "train.lr_scheduler_type=cosine_with_min_lr",
        "train.lr_scheduler_kwargs={min_lr_rate = 0.1}",
    ],
    "plateau": [
        "train.lr_scheduler_type=reduce_lr_on_plateau",
        "train.lr_scheduler_kwargs={patience = 0, factor = 0.5}",
    ],
    "adam": ["train.adam_beta1=0.8", "train.adam_beta2=0.95", "train.adam_epsilon=1e-6"],
    # Of tensors below 4,096 values bitsandbytes keeps all 32 bits: the adapters here are.
    "8bit": ["train.optim=adamw_8bit", "lora.enabled=false", "train.learning_rate=1e-3"],
    "lion": ["train.optim=lion_32bit", "train.learning_rate=1e-3"],
    "accumulation": [
        "train.per_device_train_batch_size=4",
        "train.gradient_accumulation_steps=2",
        "train.full_determinism=true",
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_changes_the_run_and_resumes_exactly(
    tmp_path: Path, tiny_recipe: Make, plain_losses: dict[int, float], change: str
) -> None:
    whole, _ = resumed_equals(tmp_path, tiny_recipe(*SHORT, *CHANGES[change]))
    made = losses(whole.folder)
    if change == "accumulation":  # the same rows a step
        assert made == pytest.approx(plain_losses, abs=1e-5)
    else:
        assert made != pytest.approx(plain_losses, abs=1e-5)


@pytest.fixture(scope="module")
def plain_losses(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Make) -> dict[int, float]:
    attempt = Attempt(open_home(tmp_path_factory.mktemp("plain")), tiny_recipe(*SHORT), "plain")
    attempt.run()
    return losses(attempt.folder)


def test_length_groups_are_the_same_in_a_later_epoch(tmp_path: Path, tiny_recipe: Make) -> None:
    """The order of an epoch depends on seed and epoch alone, wherever the run was stopped."""
    from engine.train.sampler import GroupedByLength

    lengths = [number % 37 for number in range(400)]
    first, second = (GroupedByLength(lengths, 8, seed=1) for _ in range(2))
    list(first)
    for sampler in (first, second):
        sampler.set_epoch(3)
    assert list(first) == list(second)
    assert sorted(first) == list(range(400))
    batches = [list(first)[start : start + 8] for start in range(0, 400, 8)]
    spread = [max(lengths[n] for n in b) - min(lengths[n] for n in b) for b in batches]
    assert sum(spread) / len(spread) < 5, "rows of a batch are about as long"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["train.lr_scheduler_type=warmup_stable_decay"], "train.lr_scheduler_kwargs"),
        (["train.lr_scheduler_kwargs={no_such = 1}"], "train.lr_scheduler_kwargs"),
        (['lora.modules_to_save=["no_such_head"]'], "lora.modules_to_save"),
        (['lora.target_modules=["q_proj", "no_such_proj"]'], "lora.target_modules"),
        (["lora.layers_to_transform=[9]"], "lora"),
    ],
)
def test_what_does_not_fit_names_its_key(
    tmp_path: Path, tiny_recipe: Make, settings: list[str], key: str
) -> None:
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*SHORT, *settings), "wrong")
    with pytest.raises(UserError, match=f"^{key}"):
        attempt.run()


def test_added_tokens_are_one_token_and_learned(tmp_path: Path, tiny_recipe: Make) -> None:
    """Preview, trainer and result agree on a token's id; its row of the embeddings is trained."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    recipe = tiny_recipe(
        *SHORT,
        'model.add_tokens=["<|title|>"]',
        "format.template=chat",
        "format.chat_template={% for m in messages %}<|title|>{{ m['content'] }}{% endfor %}",
    )
    formatter = Formatter.of(recipe)
    ids = formatter.prompt_ids("a lamp")
    (new,) = [number for number in set(ids) if formatter.token(number) == "<|title|>"]
    assert new == 512
    attempt = Attempt(open_home(tmp_path), recipe, "added")
    attempt.run()
    tokenizer = AutoTokenizer.from_pretrained(str(attempt.folder.adapter))
    assert tokenizer.convert_tokens_to_ids("<|title|>") == new
    saved = load_file(str(attempt.folder.adapter / "adapter_model.safetensors"))
    (name,) = [key for key in saved if "trainable_tokens" in key or "token_adapter" in key]
    assert saved[name].shape[0] == 1


def test_the_chat_template_is_kept_with_the_run_and_its_result(
    tmp_path: Path, tiny_recipe: Make
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    recipe = tiny_recipe(*SHORT, "format.template=chat", f"format.chat_template={file}")
    attempt = Attempt(open_home(tmp_path / "home"), recipe, "templated")
    kept = attempt.folder.read_recipe()
    assert kept.format.chat_template == file.read_text()
    file.unlink()  # the run has its own
    attempt.recipe = kept
    attempt.run()
    saved = (attempt.folder.adapter / "chat_template.jinja").read_text()
    assert saved == kept.format.chat_template
    assert Formatter.of(kept).prompt("x").endswith("<|assistant|>")


def test_two_runs_of_one_recipe_are_equal(tmp_path: Path, tiny_recipe: Make) -> None:
    home, recipe = open_home(tmp_path), tiny_recipe(*SHORT, "lora.lora_dropout=0.1")
    first, second = (Attempt(home, recipe, name) for name in ("first", "second"))
    first.run()
    second.run()
    assert losses(first.folder) == losses(second.folder)


# ---- the watchdog ---------------------------------------------------------------------------


def test_a_loss_that_is_no_number_is_skipped_at_a_lower_rate(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_loss(monkeypatch, {3: float("nan")})
    recipe = tiny_recipe(*SHORT, "train.loss_watchdog=lower_rate")
    attempt = Attempt(open_home(tmp_path), recipe, "skips")
    result = attempt.run()
    made = losses(attempt.folder)
    assert made[3] == "NaN" and all(math.isfinite(made[step]) for step in made if step != 3)
    (warning,) = events(attempt.folder, "warning")
    assert "the loss is nan" in warning["message"] and "step 4" in warning["message"]
    rates = {e["step"]: e["learning_rate"] for e in events(attempt.folder, "metrics")}
    assert rates[4] == pytest.approx(1e-2 * 0.5 * 5 / 8) and rates[2] == pytest.approx(1e-2 * 7 / 8)
    assert math.isfinite(result["train_loss"])


def test_a_night_of_skipped_steps_is_no_finished_run(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.errors import Diverged

    _break_loss(monkeypatch, dict.fromkeys(range(3, 40), float("nan")))
    recipe = tiny_recipe(*SHORT, "train.loss_watchdog=lower_rate", "train.max_steps=30")
    attempt = Attempt(open_home(tmp_path), recipe, "never")
    with pytest.raises(Diverged, match="20 steps in a row, none of which counts, at step 22"):
        attempt.run()


def test_the_watchdog_stops_before_broken_weights_are_saved(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.errors import Diverged

    _break_loss(monkeypatch, {6: float("inf")})
    attempt = Attempt(open_home(tmp_path), tiny_recipe(*SHORT), "stops")
    with pytest.raises(Diverged, match=r"the loss is inf at step 6.*less than 0\.01") as caught:
        attempt.run()
    assert caught.value.step == 6
    assert caught.value.suggestion["settings"] == {"train.learning_rate": 0.005}
    assert attempt.latest().name == "step-4"


def test_a_spike_is_told_from_noise(tiny_recipe: Make) -> None:
    from engine.train.watchdog import Watchdog

    train = tiny_recipe("train.loss_watchdog_spike=2", "train.loss_watchdog_patience=2").train
    dog = Watchdog()
    assert not any(dog.look(2.0 + number % 3 / 10, train) for number in range(20))
    assert dog.look(5.0, train) == ""  # once is noise
    assert dog.look(2.0, train) == ""
    assert dog.look(5.0, train) == ""
    assert "2 times the median of 2.1" in dog.look(5.0, train)
    restored = Watchdog()
    for name, value in dog.state()["attributes"].items():
        setattr(restored, name, value)
    assert restored.look(5.0, train) == "" and "median" in restored.look(5.0, train)
    limit = tiny_recipe("train.loss_watchdog_threshold=3", "train.loss_watchdog_patience=1").train
    assert "loss_watchdog_threshold = 3" in Watchdog().look(3.5, limit)


def _break_loss(monkeypatch: pytest.MonkeyPatch, broken: dict[int, float]) -> None:
    """Multiply the loss of some steps (1 is the first) by a number."""
    from engine.train.trainer import RunTrainer

    real = RunTrainer.compute_loss

    def compute_loss(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = real(self, model, *args, **kwargs)
        return loss * broken.get(self.state.global_step + 1, 1.0) if model.training else loss

    monkeypatch.setattr(RunTrainer, "compute_loss", compute_loss)


def test_it_ends_when_the_loss_is_low_enough(tmp_path: Path, tiny_recipe: Make) -> None:
    home, settings = open_home(tmp_path), ["train.eval_steps=2", "train.save_steps=2", *SHORT]
    before = Attempt(home, tiny_recipe(*settings), "before")
    before.run()
    target = evaluations(before.folder)["during", 4]
    attempt = Attempt(home, tiny_recipe(f"train.stop_at_loss={target}", *settings), "enough")
    result = attempt.run()
    assert result["steps"] == 4
    assert result["reason"] == f"validation loss {target:.4f} reached stop_at_loss"


# ---- samples --------------------------------------------------------------------------------


def test_samples_show_the_text_change_and_change_nothing(tmp_path: Path, tiny_recipe: Make) -> None:
    home = open_home(tmp_path)
    full = [*SHORT, "lora.enabled=false", "evaluate.sample_max_new_tokens=12"]
    plain = Attempt(home, tiny_recipe(*full), "plain")
    plain.run()
    attempt = Attempt(home, tiny_recipe(*full, "evaluate.sample_rows=2"), "sampled")
    attempt.requests = {6: ["sample"]}
    attempt.run()
    samples = events(attempt.folder, "sample")
    assert [(s["step"], s["which"]) for s in samples] == [
        *[(4, "during")] * 2,
        *[(6, "asked")] * 2,
        *[(8, "during")] * 2,
    ]
    prompts = {s["prompt"] for s in samples}
    assert len(prompts) == 2 and all(s["reference"] and s["seconds"] > 0 for s in samples)
    assert len({s["text"] for s in samples}) > 2, "training changes what is said"
    assert losses(attempt.folder) == losses(plain.folder)


def test_a_sample_is_what_the_saved_model_says(tmp_path: Path, tiny_recipe: Make) -> None:
    """The last sample equals the answer of the result, asked by the playground's own code."""
    from engine.generate.answering import answer
    from engine.generate.columns import run_column
    from engine.generate.models import Models
    from engine.generate.sampling import Cancelled
    from engine.recipe import GenerateSection

    recipe = tiny_recipe(
        *SHORT, 'evaluate.sample_prompts=["red oak lamp 7"]', "evaluate.sample_max_new_tokens=16"
    )
    attempt = Attempt(open_home(tmp_path), recipe, "said")
    attempt.run()
    last = events(attempt.folder, "sample")[-1]
    assert last["prompt"] == "red oak lamp 7" and last["reference"] is None
    voice = Models(lambda words: None).voice(run_column(attempt.folder))
    pieces: list[str] = []
    answer(
        [voice],
        ["red oak lamp 7"],
        GenerateSection(max_new_tokens=16),
        lambda row, text, end, odds: pieces.append(text),
        Cancelled(),
    )
    assert "".join(pieces) == last["text"]


# ---- trackers -------------------------------------------------------------------------------


def test_a_tracker_is_told_and_one_that_fails_ends_nothing(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.train import trackers

    told: list[tuple[str, dict[str, Any]]] = []

    class Works(trackers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            told.append((str(state.global_step), kwargs["logs"]))

    class Breaks(trackers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise ConnectionError("no route to the tracker")

    kinds = {"tensorboard": Works, "wandb": Breaks}
    monkeypatch.setattr(
        trackers, "get_reporting_integration_callbacks", lambda names: [kinds[names[0]]]
    )
    recipe = tiny_recipe(*SHORT, 'train.report_to=["tensorboard", "wandb", "mlflow"]')
    attempt = Attempt(open_home(tmp_path), recipe, "tracked")
    attempt.run()
    messages = [event["message"] for event in events(attempt.folder, "warning")]
    assert len(messages) == 2 and "wandb failed" in messages[1] and "no route" in messages[1]
    assert "mlflow failed" in messages[0]
    steps = [logs["loss"] for _, logs in told if "loss" in logs]
    assert steps == list(losses(attempt.folder).values())
    assert [logs["eval_loss"] for _, logs in told if "eval_loss" in logs] == [
        event["loss"]
        for event in events(attempt.folder, "evaluation")
        if event["which"] == "during"
    ]


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(["lora.lora_dropout=0.1"], marks=pytest.mark.slow, id="lora"),
        pytest.param(
            ["lora.enabled=false", "train.learning_rate=1e-3"], marks=pytest.mark.slow, id="full"
        ),
        pytest.param(
            ["model.load_in_4bit=true", "lora.lora_dropout=0.1"], marks=pytest.mark.slow, id="nf4"
        ),
    ],
)
def test_killed_five_times_equals_uninterrupted(
    tmp_path: Path, tiny_recipe: Make, mode: list[str]
) -> None:
    """SIGKILL after five random steps, each attempt resumed by the next."""
    home, recipe = open_home(tmp_path), tiny_recipe(*mode)
    whole, broken = Attempt(home, recipe, "whole"), Attempt(home, recipe, "broken")
    whole.run()
    steps = sorted(random.Random().sample(range(1, 16), 5))
    for number, at in enumerate(steps, 1):
        command = [sys.executable, "-m", "tests.engine.killed", str(broken.folder.path), str(at)]
        killed = subprocess.run(
            [*command, str(number)], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        broken.number = number
    broken.run()
    mine, theirs = losses(broken.folder), losses(whole.folder)
    assert mine == pytest.approx(theirs, abs=1e-5), f"killed after {steps}"
    worst = max(abs(mine[step] - theirs[step]) for step in mine)
    print(f"killed after {steps}: steps differ by up to {worst}")
    ends = [events(run.folder, "state")[-1] for run in (whole, broken)]
    assert ends[0]["best_checkpoint"] == ends[1]["best_checkpoint"]
