"""What a preflight says without torch: counts, parts, warnings, the batch search, the report."""

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli import main
from engine.data.dataset import Dataset, open_dataset
from engine.data.prepare import prepare
from engine.data.progress import Cancelled
from engine.errors import UserError
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.preflight import warnings
from engine.preflight.finder import MARGIN, Search, batch_choices
from engine.preflight.look import look, quick_look
from engine.preflight.place import find_place
from engine.preflight.report import document, lines
from engine.preflight.resolve import Resolved, resolve
from engine.preflight.special import untrained_tokens
from engine.recipe import Recipe
from engine.system.gpu import Gpu, GpuProcess, GpuState
from tests import tiny

Make = Callable[..., Recipe]
MIB = 1 << 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("preflight") / "home")


@pytest.fixture(scope="module")
def dataset(home: Home, tiny_recipe: Make) -> Dataset:
    return prepare(home, tiny_recipe())


@pytest.fixture
def resolved(home: Home, tiny_recipe: Make, dataset: Dataset) -> Callable[..., Resolved]:
    return lambda *settings: resolve(home, tiny_recipe(*settings), dataset)


def copied_model(tiny_model: Path, folder: Path) -> Path:
    shutil.copytree(tiny_model, folder)
    return folder


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# ---- what a recipe comes to -----------------------------------------------------------------


def test_counts_are_those_of_the_rows_themselves(
    resolved: Callable[..., Resolved], dataset: Dataset
) -> None:
    """Every row counted again, one by one."""
    found = resolved("train.max_length=48")
    formatter = found.formatter
    table = dataset.split("train")
    rows = zip(table["prompt"].to_pylist(), table["completion"].to_pylist(), strict=True)
    examples = [formatter.example(prompt, completion) for prompt, completion in rows]
    lengths = [len(e.input_ids) if any(e.trained(True)) else 0 for e in examples]
    train = found.splits["train"]
    assert train.lengths.tolist() == lengths
    assert found.tokens == round(sum(lengths) * found.epochs)
    assert train.counts["trained_tokens"] == sum(sum(e.trained(True)) for e in examples)
    assert train.counts["answers_cut"] == sum(e.length > 48 for e in examples) > 0
    assert found.longest == max(lengths) == 48


@pytest.mark.parametrize(
    ("settings", "steps", "evaluations"),
    [
        (["train.max_steps=16"], 16, 4),
        (["train.max_steps=17"], 17, 5),  # the last step is evaluated too
        (["train.max_steps=-1"], 45, 12),
        (["train.max_steps=-1", "train.num_train_epochs=2.5"], 113, 29),
        (["train.max_steps=-1", "train.gradient_accumulation_steps=4"], 12, 3),
        (["train.max_steps=-1", "train.num_processes=2"], 23, 6),
    ],
)
def test_steps_as_transformers_counts_them(
    resolved: Callable[..., Resolved], settings: list[str], steps: int, evaluations: int
) -> None:
    found = resolved(*settings)
    assert found.splits["train"].trained_rows == 353  # in batches of 8
    assert (found.steps, found.evaluations) == (steps, evaluations)


def test_longest_rows_come_first_and_the_shortest_last(resolved: Callable[..., Resolved]) -> None:
    found = resolved()
    lengths = found.splits["train"].lengths
    spec = found.probe_spec(Home(Path("/nowhere")), [(8, 4)])
    assert len(spec.longest) == 2 * 8 * 2 + 1
    chosen = lengths[spec.longest[:-1]].tolist()
    assert chosen == sorted(lengths.tolist(), reverse=True)[: len(chosen)]
    assert lengths[spec.longest[-1]] == lengths.min()


def test_counts_are_kept_and_samples_are_estimates(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(tmp_path / "home")
    recipe = tiny_recipe()
    assert quick_look(home, recipe) is None  # nothing is cleaned for a form
    dataset = prepare(home, recipe)
    guessed = resolve(home, recipe, dataset, sample=100)
    assert guessed.is_estimate and guessed.splits["train"].rows == 100
    exact = resolve(home, recipe, dataset)
    assert not exact.is_estimate
    assert guessed.tokens == pytest.approx(exact.tokens, rel=0.05)
    # Kept: the second time no row is looked at, and a sample takes what is kept.
    monkeypatch.setattr("engine.data.tokens.Formatter.examples", None)
    again = resolve(home, recipe, dataset, sample=100)
    assert again.splits["train"].lengths.tolist() == exact.splits["train"].lengths.tolist()
    with pytest.raises(TypeError):  # another length is another count
        resolve(home, tiny_recipe("train.max_length=64"), dataset)


def test_counting_can_be_cancelled(tmp_path: Path, tiny_recipe: Make, dataset: Dataset) -> None:
    told: list[tuple[str, int, int]] = []
    with pytest.raises(Cancelled):
        resolve(
            Home(tmp_path),
            tiny_recipe(),
            dataset,
            progress=lambda *at: told.append(at),
            cancelled=lambda: True,
        )
    assert not told and not (tmp_path / "cache").exists()


# ---- warnings -------------------------------------------------------------------------------


def keys(found: list[warnings.PreflightWarning]) -> set[str]:
    return {warning.key for warning in found}


def test_a_sound_recipe_has_no_warnings(resolved: Callable[..., Resolved]) -> None:
    assert warnings.data_warnings(resolved()) == []


def test_answers_that_are_cut(resolved: Callable[..., Resolved]) -> None:
    found = resolved("train.max_length=48")
    count = found.splits["train"].counts["answers_cut"]
    warning = warnings.answers_cut(found)
    assert warning and warning.severity == "warning"
    assert f"{count:,} rows" in warning.words and "train.max_length = 48" in warning.words
    assert warnings.answers_cut(resolved()) is None


def test_rows_that_are_left_out(tmp_path: Path, tiny_recipe: Make) -> None:
    rows = tiny.rows(300)
    rows[7]["title"] = " ".join(["kettle"] * 300)
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    home = open_home(tmp_path / "home")
    recipe = tiny_recipe(f"data.source={source}")
    found = resolve(home, recipe, prepare(home, recipe))
    warning = warnings.left_out(found)
    split = next(name for name in found.splits if found.splits[name].counts["left_out"])
    assert found.splits[split].counts["left_out"] == 1
    assert (warning is not None) == (split == "train")


def with_counts(found: Resolved, **counts: int) -> Resolved:
    """As if the rows of train had been so: our own formats always write an end of text."""
    train = replace(found.splits["train"], counts=found.splits["train"].counts | counts)
    return replace(found, splits=found.splits | {"train": train})


def test_an_end_of_text_that_is_never_trained(resolved: Callable[..., Resolved]) -> None:
    whole = resolved()
    assert warnings.end_never_trained(whole) is None
    cut = resolved("train.max_length=48")
    warning = warnings.end_never_trained(cut)
    assert warning and warning.key == "end_never_trained"
    assert "every answer is cut" in warning.words and "stop" in warning.words
    rows = whole.splits["train"].rows
    none = warnings.end_never_trained(with_counts(whole, eos_untrained=rows))
    assert none and "format" in none.words
    some = warnings.end_never_trained(with_counts(whole, eos_untrained=rows // 2))
    assert some and some.key == "end_seldom_trained"
    # What is cut is said elsewhere.
    both = with_counts(whole, eos_untrained=rows // 2, answers_cut=rows // 2)
    assert warnings.end_never_trained(both) is None


def test_two_beginnings_of_text(
    tmp_path: Path, home: Home, tiny_recipe: Make, tiny_model: Path, dataset: Dataset
) -> None:
    model = copied_model(tiny_model, tmp_path / "model")
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    recipe = tiny_recipe(f"model.model_name_or_path={model}")
    warning = warnings.double_bos(resolve(home, recipe, dataset))
    assert warning and warning.words.startswith("353 rows")
    assert warnings.double_bos(resolve(home, tiny_recipe(), dataset)) is None


def test_padding_that_is_the_end_of_text(
    tmp_path: Path, home: Home, tiny_recipe: Make, tiny_model: Path, dataset: Dataset
) -> None:
    """Only where the ends are in truth not trained: the mask is by place, not by token."""
    model = copied_model(tiny_model, tmp_path / "model")
    edit_json(model / "tokenizer_config.json", pad_token="<|end|>")
    recipe = tiny_recipe(f"model.model_name_or_path={model}")
    sound = resolve(home, recipe, dataset)
    assert sound.formatter.pad_id == sound.formatter.eos_id
    assert warnings.padding_is_end(sound) is None
    rows = sound.splits["train"].rows
    assert warnings.padding_is_end(with_counts(sound, eos_untrained=rows)) is not None
    own = resolve(home, tiny_recipe(), dataset)  # a pad token of its own
    assert warnings.padding_is_end(with_counts(own, eos_untrained=rows)) is None
    assert warnings.end_masked(0) is None
    assert warnings.end_masked(3) is not None


def plant(model: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change the input embeddings in the model's file; they are float32 there."""
    from safetensors.numpy import load_file, save_file

    file = model / "model.safetensors"
    tensors = load_file(str(file))
    change(tensors["model.embed_tokens.weight"])
    save_file(tensors, str(file), metadata={"format": "pt"})


def zero(rows: np.ndarray) -> None:
    rows[tiny.SPECIAL.index("<|user|>")] = 0


def twins(rows: np.ndarray) -> None:
    rows[tiny.SPECIAL.index("<|user|>")] = rows[tiny.SPECIAL.index("<|system|>")]


def mean(rows: np.ndarray) -> None:
    rows[tiny.SPECIAL.index("<|user|>")] = rows.mean(0) * 1.001


@pytest.mark.parametrize(
    ("change", "why"),
    [(zero, "is zero"), (twins, "is the same"), (mean, "is the mean")],
)
def test_special_tokens_that_nobody_trained(
    tmp_path: Path,
    home: Home,
    tiny_recipe: Make,
    tiny_model: Path,
    dataset: Dataset,
    change: Callable[[np.ndarray], None],
    why: str,
) -> None:
    model = copied_model(tiny_model, tmp_path / "model")
    plant(model, change)
    path = f"model.model_name_or_path={model}"

    def found(*settings: str) -> list[Any]:
        recipe = tiny_recipe(path, *settings)
        return untrained_tokens(recipe, resolve(home, recipe, dataset))

    (token,) = found()
    assert token.token == "<|user|>" and token.why.startswith(why)
    warning = warnings.untrained_special_tokens(resolve(home, tiny_recipe(path), dataset))
    assert warning and 'model.add_tokens = ["<|user|>"]' in warning.words
    # Nothing to warn of where these embeddings are trained, or the format does not use the token.
    assert not found("lora.modules_to_save=['embed_tokens']")
    assert not found("model.add_tokens=['<|user|>']")
    assert not found("lora.enabled=false")
    assert not found("format.template=plain")


def test_test_rows_in_train(resolved: Callable[..., Resolved], dataset: Dataset) -> None:
    found = resolved()
    assert warnings.test_rows_in_train(found) is None
    other = open_dataset(Home(dataset.path.parent.parent), dataset.name)
    other.report = replace(other.report, leakage_after=3, near_leakage=20)
    warning = warnings.test_rows_in_train(replace(found, dataset=other))
    assert warning and warning.severity == "warning"
    assert "3 rows" in warning.words and "20" in warning.words


def test_a_disk_that_is_too_small() -> None:
    assert warnings.disk_too_small(300 * MIB, 1000 * MIB, 3, 100 * MIB) is None
    near = warnings.disk_too_small(300 * MIB, 320 * MIB, 3, 100 * MIB)
    over = warnings.disk_too_small(300 * MIB, 200 * MIB, 3, 100 * MIB)
    assert near and near.severity == "warning"
    assert over and over.severity == "error" and "3 checkpoints of 100 MiB" in over.words


def card(*processes: GpuProcess, used: int = 0, free: int = 80 << 30) -> Gpu:
    return Gpu(0, "GPU-x", "H100", 80 << 30, used, free, processes=processes)


def test_a_gpu_that_is_shared() -> None:
    other = GpuProcess(4242, "python3", 9 << 30)
    assert warnings.gpu_shared(None) is None
    assert warnings.gpu_shared(card()) is None
    assert warnings.gpu_shared(card(GpuProcess(1, "Xorg", 10 * MIB))) is None
    assert warnings.gpu_shared(card(other), own=[4242]) is None
    warning = warnings.gpu_shared(card(other))
    assert warning and "python3 (4242, 9.0 GiB)" in warning.words
    assert warnings.gpu_shared(card(used=5 << 30)) is not None  # its processes are hidden


def test_too_little_memory() -> None:
    assert warnings.memory_too_small(10, 100, 100, measured=False) is None
    guess = warnings.memory_too_small(99, 100, 100, measured=False)
    sure = warnings.memory_too_small(101, 100, 100, measured=True)
    assert guess and guess.severity == "warning"
    assert sure and sure.severity == "error"


def test_modules_that_the_model_has_not(tiny_recipe: Make) -> None:
    weights = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]

    def said(*settings: str) -> str:
        found = warnings.module_missing(tiny_recipe(*settings), weights)
        return found.words if found else ""

    right = 'lora.target_modules=["up_proj"]'
    assert said(right, 'lora.modules_to_save=["lm_head"]') == ""
    assert said('lora.target_modules="all-linear"', "lora.layers_to_transform=[1,7]") == ""
    assert said('lora.target_modules=["q_proj"]', "lora.enabled=false") == ""
    assert "lora.target_modules: the model has no module 'mlp.up'" in said(
        'lora.target_modules=["mlp.up"]'
    )
    assert "modules_to_save: the model has no module 'x'" in said(
        right, 'lora.modules_to_save=["x"]'
    )
    assert "the layers 0 to 1 only" in said(right, "lora.layers_to_transform=[2]")


def test_half_precision_is_not_for_a_cpu(tiny_recipe: Make) -> None:
    with pytest.raises(UserError, match="float16 cannot be trained on a CPU"):
        find_place(tiny_recipe("model.device=cpu", "model.dtype=float16"))


def test_more_tokens_than_the_model_has_places_for(tiny_recipe: Make) -> None:
    assert warnings.context_too_long(tiny_recipe("train.max_length=256"), 256) is None
    assert warnings.context_too_long(tiny_recipe("train.max_length=257"), 256) is not None


# ---- where it runs --------------------------------------------------------------------------


def test_the_card_that_torch_would_take(tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = (card(), replace(card(), index=1, uuid="GPU-y", name="A100"))
    state = GpuState(True, gpus=cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("engine.preflight.place._torch_has_cuda", lambda: True)
    auto = tiny_recipe("model.device=auto")
    assert find_place(auto, state).name == "H100"
    assert find_place(auto, state).setup.dtype == "bfloat16"
    for capability, dtype in (((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        older = GpuState(True, gpus=(replace(card(), capability=capability),))
        assert find_place(auto, older).setup.dtype == dtype
    fused = find_place(tiny_recipe("model.device=auto", "model.kernels=fused"), state).layers
    assert fused.startswith("fused, rows without padding; each batch shape is recorded once")
    assert find_place(tiny_recipe("model.device=cpu"), state).setup.device == "cpu"
    for visible, name in (("1", "A100"), ("GPU-y", "A100"), ("", "the CPU"), ("7", "the CPU")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert find_place(auto, state).name == name
    with pytest.raises(UserError, match=r"model\.device"):
        find_place(tiny_recipe("model.device=cuda"), state)


# ---- the batch search -----------------------------------------------------------------------


def search(start: int, accumulation: int, limit: int, base: int, each: int) -> tuple[int, int]:
    """(largest that fits, attempts) where a batch of n takes ``base + n * each`` bytes."""
    choices = batch_choices(start, accumulation)
    assert all(size * steps == start * accumulation for size, steps in choices)
    looking = Search([size for size, _ in choices], limit)
    size: int | None = start
    best, attempts = 0, 0
    while size is not None:
        attempts += 1
        peak = base + size * each
        if peak <= limit * (1 - MARGIN):
            best = max(best, size)
        size = looking.next(size, min(peak, limit), out_of_memory=peak > limit)
        assert attempts < 20
    return best, attempts


@pytest.mark.parametrize("limit", [50, 100, 150, 250, 500, 1000, 5000, 20_000])
@pytest.mark.parametrize(("start", "accumulation"), [(32, 1), (8, 8), (1, 96), (7, 13), (96, 1)])
def test_the_search_finds_the_largest_batch_that_fits(
    start: int, accumulation: int, limit: int
) -> None:
    base, each = 40, 50
    sizes = [size for size, _ in batch_choices(start, accumulation)]
    true = max((s for s in sizes if base + s * each <= limit * (1 - MARGIN)), default=0)
    best, attempts = search(start, accumulation, limit, base, each)
    assert best == true
    assert attempts <= 1 + len(sizes)


# ---- the whole ------------------------------------------------------------------------------


def test_the_document_and_the_lines(home: Home, resolved: Callable[..., Resolved]) -> None:
    seen = look(home, resolved("train.max_length=48"))
    found = json.loads(json.dumps(document(seen)))
    assert found["steps"] == 16 and found["effective_batch"] == 8
    assert found["data"]["train"]["rows"] == 353
    assert found["model"]["parameters"] > found["model"]["trainable"] > 0
    assert found["hours"] is None and found["probe"] is None  # nothing invented
    parts = found["memory"]["estimate"]
    assert parts["weights"] == 4 * found["model"]["parameters"]
    assert parts["peak"] > sum(parts[name] for name in ("weights", "adapters", "optimizer"))
    assert found["disk"]["kept"] == 4  # two kept, the best, and the one being written
    assert [warning["key"] for warning in found["warnings"]] == [
        *("answers_cut", "left_out", "end_never_trained")
    ]
    shown = lines(seen)
    assert all(len(line) <= 80 for line in shown)
    text = "\n".join(shown)
    assert "16 of 8 rows" in text and "estimated" in text and "not known" in text


def test_a_disk_without_room_and_a_card_without_memory(
    home: Home, resolved: Callable[..., Resolved], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = resolved()
    assert keys(look(home, found).warnings) == set()
    monkeypatch.setattr("engine.preflight.look._free_disk", lambda folder: 1000)
    assert keys(look(home, found).warnings) == {"disk_too_small"}
    monkeypatch.undo()
    place = find_place(found.recipe)
    monkeypatch.setattr(
        "engine.preflight.look.find_place", lambda *a, **k: replace(place, free_bytes=MIB)
    )
    assert keys(look(home, found).warnings) == {"memory_too_small"}


def test_a_model_that_is_not_here_is_a_note(
    tmp_path: Path, home: Home, tiny_recipe: Make, tiny_model: Path, dataset: Dataset
) -> None:
    """A tokenizer without a model: data and steps are known, memory is not."""
    model = copied_model(tiny_model, tmp_path / "model")
    (model / "config.json").unlink()
    recipe = tiny_recipe(f"model.model_name_or_path={model}")
    seen = look(home, resolve(home, recipe, dataset))
    assert document(seen)["memory"]["estimate"] is None
    assert keys(seen.warnings) == {"model_size_unknown"}
    assert all(len(line) <= 80 for line in lines(seen))


def test_the_time_of_a_run_like_it(
    tuned_run: RunFolder, tuned_home: Home, tiny_recipe: Make
) -> None:
    """By the steps that a finished run journaled; of another batch size nothing is known."""
    recipe = tiny_recipe("train.max_steps=1600")
    seen = look(tuned_home, resolve(tuned_home, recipe, prepare(tuned_home, recipe)))
    events = list(read_all(tuned_run.journal))
    steps = [e["step_seconds"] for e in events if e["type"] == "metrics"][8:]
    evaluated = [e["seconds"] for e in events if e["type"] == "evaluation"]
    assert seen.pace and seen.pace.source == "tuned"
    assert seen.pace.step_seconds == pytest.approx(statistics.median(steps))
    assert seen.pace.training_seconds == pytest.approx(1600 * statistics.median(steps))
    assert 0 < seen.pace.evaluation_seconds < 402 * max(evaluated)
    assert document(seen)["hours"] > 0
    assert any("as run tuned took" in line for line in lines(seen))
    other = tiny_recipe("train.per_device_train_batch_size=4")
    dataset = prepare(tuned_home, other)
    assert look(tuned_home, resolve(tuned_home, other, dataset)).pace is None


def test_dry_run_is_one_document(
    tmp_path: Path, tiny_recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.toml"
    file.write_text(tiny_recipe().to_toml())
    home = tmp_path / "home"
    words = ["train", str(file), "--dry-run", "--no-probe", "--home", str(home)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 16 and found["recipe"]["train"]["max_length"] == 128
    assert not list((home / "runs").iterdir()) and not (home / "runs.db").exists()
    assert main(words) == 0
    assert "353 train" in capsys.readouterr().out
    # What cannot work is an error with the key, and no report.
    assert main([*words, "--json", "--set", "train.max_length=8"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "train.max_length" in captured.err
    assert main(["train", str(file), "--probe", "--home", str(home)]) == 2
    assert main([*words, "--find-batch-size"]) == 2
