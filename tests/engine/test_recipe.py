"""The recipe: what is refused, in which words, and that TOML out is TOML in."""

from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.recipe import Recipe, builtin_recipes, load_recipe


def test_reference_experiment_is_what_it_says() -> None:
    recipe = load_recipe("amazon-titles")
    assert (recipe.data.prompt_column, recipe.data.completion_column) == ("title", "content")
    assert (recipe.split.train, recipe.split.test) == (150_000, 30_000)
    assert recipe.model.load_in_4bit and recipe.model.bnb_4bit_quant_type == "nf4"
    assert recipe.lora.r == 8 and len(recipe.lora.target_modules) == 7
    assert recipe.lora.lora_dropout > 0
    assert recipe.train.max_length == 128
    assert recipe.train.per_device_train_batch_size == 32
    assert recipe.train.num_train_epochs == 1
    assert recipe.train.learning_rate == 3e-4
    assert recipe.train.early_stopping_patience > 0


@pytest.mark.parametrize("name", builtin_recipes())
def test_toml_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "resolved.toml"
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(str(file)) == recipe


def test_every_field_is_documented() -> None:
    def look(section: type, where: str) -> None:
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                assert field.annotation.__doc__
                look(field.annotation, f"{where}{name}.")
            else:
                assert field.description, f"{where}{name}"

    look(Recipe, "")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.learning_rate=abc", "train.learning_rate"),
        ("train.learning_rat=1", "did you mean 'learning_rate'?"),
        ("trian.learning_rate=1", "did you mean 'train'?"),
        ("train=1", "train"),
        ("train.max_length", "section.key=value"),
        ("split.train=10", "all three as counts or all three as shares"),
        ("split.train=0.99", "more than 1"),
        ("train.save_steps=41", "multiple of eval_steps"),
        ("train.learning_rate=inf", "train.learning_rate: Input should be a finite number"),
        ("train.num_train_epochs=nan", "train.num_train_epochs: Input should be a finite number"),
        ("train.seed=4294967296", "train.seed: Input should be less than 4294967296"),
        ("train.max_steps=0", "train.max_steps: at least 1, or -1"),
        ("model.backend=jax", "'auto', 'unsloth' or 'transformers'"),
        ("name=a/b", "name"),
        ("train.optim=nonsense", "train.optim"),
        ("train.max_steps=999999999999999999999999", "train.max_steps"),
        ("train.max_steps=0", "train.max_steps"),
        ("train.lr_scheduler_type=linea", "'linear', 'cosine'"),
    ],
)
def test_bad_settings_name_the_key(setting: str, words: str) -> None:
    with pytest.raises(UsageError) as failure:
        load_recipe("demo", [setting])
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_settings_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(UsageError, match="system is for template"):
        load_recipe("demo", ["format.template=alpaca", "format.system=Be brief."])
    with pytest.raises(UsageError, match=r"--set: model\.load_in_4bit: .* lora\.enabled = true"):
        load_recipe("demo", ["model.load_in_4bit=true", "lora.enabled=false"])


def test_settings_are_toml_values_or_bare_words() -> None:
    recipe = load_recipe(
        "demo",
        ["train.learning_rate=1e-4", "lora.target_modules=['q_proj']", "model.backend=unsloth"],
    )
    assert recipe.train.learning_rate == 1e-4
    assert recipe.lora.target_modules == ["q_proj"]
    assert recipe.model.backend == "unsloth"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nlearning_rte = 1\n", "did you mean 'learning_rate'?"),
        ("[train\n", "not valid TOML"),
        ("[trian]\n", "did you mean 'train'?"),
        ("version = 3\n", "version"),
        ("train = 3\n", "train"),
        ("version = 1\nclean = 5\n", "clean"),
        ("version = 1\ndata = 5\n", "data"),
        ("version = 1\n[clean]\nhtmll = false\n", "clean.htmll: unknown key"),
        ('version = 1\n[clean]\nhtml = "no"\n', "clean.html: must be true or false"),
    ],
)
def test_bad_files_name_the_file(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as failure:
        load_recipe(str(file))
    assert str(file) in str(failure.value) and words in str(failure.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recipe file"):
        load_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="is a directory"):
        load_recipe(str(tmp_path))


def test_a_models_own_code_is_never_run_unless_asked_for() -> None:
    for name in builtin_recipes():
        assert not load_recipe(name).model.trust_remote_code
    assert load_recipe("demo", ["model.trust_remote_code=true"]).model.trust_remote_code
