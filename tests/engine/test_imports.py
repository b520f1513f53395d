"""Recipes of Unsloth Studio, LLaMA-Factory and Axolotl become tunebench's: nothing gets lost."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine import cli
from engine.errors import UsageError
from engine.imports import KINDS, Imported, import_recipe, reading, to_toml
from engine.recipe import Recipe

FOLDER = Path(__file__).parent / "fixtures" / "imports"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
NEEDS_MODEL = "studio-web.yaml"
MODEL = "model.model_name_or_path=some/model"
DATA = "data.source=rows.jsonl"


def imported(name: str) -> Imported:
    settings = [MODEL, DATA] if name == NEEDS_MODEL else []
    return import_recipe(FOLDER / name, settings=settings)


def values(recipe: Recipe, *keys: str) -> dict[str, Any]:
    tree = recipe.model_dump()
    return {key: tree[key.split(".")[0]][key.split(".")[1]] for key in keys}


def left(made: Imported) -> dict[str, str]:
    return {key: why for key, _, why in made.without_counterpart}


def changed(made: Imported) -> dict[str, str]:
    return {key: f"{to}: {why}" for key, to, why in made.changed}


def write(tmp_path: Path, text: str, name: str = "theirs.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


EXPECTED: dict[str, dict[str, Any]] = {
    "axolotl-lora.yml": {
        "data.source": "teknium/GPT4-LLM-Cleaned",
        "data.layout": "alpaca",
        "format.template": "alpaca",
        "format.instruction": "",
        "clean.rules": [],
        "split.validation": 0.1,
        "lora.target_modules": "all-linear",
        "lora.r": 16,
        "model.add_tokens": ["<|item|>", "<|aside|>"],
        "train.learning_rate": 2e-4,
        "train.warmup_steps": 0.1,
        "train.completion_only_loss": True,
        "train.packing": True,
        "train.train_sampling_strategy": "group_by_length",
        "train.neftune_noise_alpha": 5,
        "train.loss_watchdog_threshold": 5,
        "train.loss_watchdog_patience": 4,
        "train.per_device_eval_batch_size": 2,
        "train.report_to": ["wandb"],
        "train.seed": 42,
        "train.load_best_model_at_end": False,
    },
    "axolotl-qlora.yml": {
        "data.source": "shop/products.jsonl",
        "data.layout": "text",
        "data.completion_column": "body",
        "clean.rules": ["duplicates"],
        "model.load_in_4bit": True,
        "model.bnb_4bit_quant_type": "fp4",
        "model.bnb_4bit_use_double_quant": False,
        "model.revision": "refs/pr/1",
        "model.dtype": "bfloat16",
        "lora.modules_to_save": ["embed_tokens", "lm_head"],
        "lora.use_rslora": True,
        "train.lr_scheduler_type": "cosine_with_min_lr",
        "train.lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "train.per_device_eval_batch_size": 4,
        "train.save_steps": 100,
        "train.eval_steps": 100,
        "train.adam_beta2": 0.95,
    },
    "axolotl-full.yml": {
        "lora.enabled": False,
        "model.load_in_4bit": False,
        "model.dtype": "float16",
        "model.attn_implementation": "sdpa",
        "train.eval_steps": 100,
        "train.save_steps": 200,
        "train.warmup_steps": 12,
        "train.gradient_checkpointing": True,
        "train.fsdp": True,
        "train.report_to": ["tensorboard"],
        "train.train_sampling_strategy": "sequential",
    },
    "axolotl-many.yml": {"data.source": "./rows/first.jsonl", "train.warmup_steps": 0.03},
    "axolotl-chat.yml": {
        "data.layout": "messages",
        "data.completion_column": "conversations",
        "format.template": "chat",
        "model.add_tokens": [],
        "train.eval_steps": 50,
    },
    "axolotl-early.yml": {
        "train.early_stopping_patience": 3,
        "train.load_best_model_at_end": True,
        "train.eval_steps": 40,
        "train.save_steps": 120,
        "train.lr_scheduler_type": "cosine",
        "train.optim": "adamw_torch_fused",
        "evaluate.sample_max_new_tokens": 99,
    },
    "llama-factory-lora.yaml": {
        "data.source": str(FOLDER / "data" / "products.json"),
        "data.layout": "alpaca",
        "data.prompt_column": "title",
        "data.completion_column": "content",
        "format.template": "alpaca",
        "model.trust_remote_code": True,
        "model.dtype": "bfloat16",
        "lora.r": 8,
        "lora.lora_alpha": 16,
        "lora.target_modules": "all-linear",
        "train.max_length": 2048,
        "train.warmup_steps": 0.1,
        "train.optim": "adamw_torch",
        "train.gradient_checkpointing": True,
        "train.per_device_eval_batch_size": 8,
        "train.seed": 42,
    },
    "llama-factory-qlora.yaml": {
        "model.load_in_4bit": True,
        "model.bnb_4bit_use_double_quant": False,
        "model.backend": "unsloth",
        "model.attn_implementation": "flash_attention_2",
        "model.add_tokens": ["<|aside|>", "<|item|>"],
        "model.dtype": "float16",
        "lora.lora_alpha": 32,
        "lora.target_modules": ["q_proj", "v_proj"],
        "lora.modules_to_save": ["embed_tokens", "lm_head"],
        "lora.use_dora": True,
        "train.packing": True,
        "train.report_to": ["wandb"],
        "train.learning_rate": 1e-4,
    },
    "llama-factory-full.yaml": {
        "lora.enabled": False,
        "train.completion_only_loss": False,
        "train.gradient_checkpointing": False,
        "train.lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "model.dtype": "bfloat16",
    },
    "llama-factory-many.yaml": {"data.source": str(FOLDER / "data" / "products.json")},
    "llama-factory-chat.json": {
        "data.layout": "messages",
        "data.completion_column": "dialogue",
        "format.template": "chat",
        "lora.lora_alpha": 32,
        "train.warmup_steps": 20,
    },
    "llama-factory-early.yaml": {
        "data.source": "llamafactory/demo",
        "data.subset": "en",
        "split.validation": 0.1,
        "train.early_stopping_patience": 5,
        "train.eval_steps": 100,
        "train.save_steps": 300,
    },
    "studio-lora.yaml": {
        "data.source": "rows/alpaca.jsonl",
        "data.layout": "alpaca",
        "format.template": "alpaca",
        "model.load_in_4bit": False,
        "lora.use_rslora": True,
        "train.completion_only_loss": True,
        "train.max_steps": -1,
        "train.optim": "adamw_8bit",
        "train.report_to": ["wandb"],
    },
    "studio-qlora.yaml": {
        "model.load_in_4bit": True,
        "lora.r": 64,
        "lora.use_dora": True,
        "train.completion_only_loss": False,
        "train.max_steps": 60,
        "train.gradient_accumulation_steps": 4,
        "train.weight_decay": 0.01,
        "train.warmup_steps": 5,
        "train.max_length": 2048,
    },
    "studio-full.yaml": {
        "lora.enabled": False,
        "model.load_in_4bit": False,
        "train.gradient_checkpointing": False,
        "train.save_steps": 50,
        "train.packing": True,
    },
    "studio-many.yaml": {"data.source": "rows/a.jsonl", "data.layout": "text"},
    "studio-chat.yaml": {
        "data.layout": "sharegpt",
        "format.template": "chat",
        "generate.top_k": 0,
        "generate.top_p": 0.95,
    },
    NEEDS_MODEL: {
        "model.model_name_or_path": "some/model",
        "data.source": "rows.jsonl",
        "train.eval_steps": 20,
        "train.save_steps": 30,
        "train.save_total_limit": 5,
        "train.lr_scheduler_type": "cosine",
        "split.validation": 0.05,
    },
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_real_recipe_trains_as_it_did_there(path: Path) -> None:
    made = imported(path.name)
    assert path.name.startswith(made.kind)
    expected = EXPECTED[path.name]
    assert values(made.recipe, *expected) == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_key_of_a_real_recipe_is_lost(path: Path) -> None:
    """Every key that says something is put somewhere or told to be left out; none is unknown."""
    made = imported(path.name)
    assert not [key for key, why in left(made).items() if why.startswith("not known")]
    module = KINDS[made.kind]
    tree = reading.read_mapping(path)
    if made.kind == "studio":
        tree = module.flat(tree)
    told = {*left(made), *changed(made)}
    for key, value in tree.items():
        known = key in module.ALIASES or key in module.RULES
        said = any(each == key or each.startswith((f"{key}[", f"{key}.")) for each in told)
        dealt_with = key in ("datasets", "dataset", "dataset_dir", "stage", "chat_template",
                             "data.dataset", "data.local_dataset", "data.format_type",
                             "eval_strategy", "save_strategy", "evals_per_epoch",
                             "saves_per_epoch", "dataset_exact_deduplication",
                             "excess_length_strategy", "val_set_size")  # fmt: skip
        assert value is None or known or said or dealt_with, key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_toml_is_the_same_recipe_and_says_where_it_came_from(path: Path) -> None:
    made = imported(path.name)
    text = to_toml(made)
    assert Recipe.model_validate(tomllib.loads(text)) == made.recipe
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments[0] == f"# Imported from {made.tool}: {path.name}"
    for key in left(made):
        assert any(line.startswith(f"#   {key}: ") for line in comments), key


def test_what_was_left_out_is_told_with_what_it_did() -> None:
    axolotl = imported("axolotl-lora.yml")
    assert left(axolotl)["logging_steps"] == "every step is journaled anyway"
    assert left(axolotl)["wandb_project"] == "set by WANDB_PROJECT"
    assert "padding" in left(axolotl)["special_tokens.pad_token"]
    assert "wandb_entity" not in left(axolotl)  # empty: it does nothing there either
    assert changed(axolotl)["warmup_ratio"] == "train.warmup_steps = 0.1: a share of all steps"
    assert changed(axolotl)["seed"] == "train.seed = 42: default of Axolotl"
    assert "train.save_steps" in changed(axolotl)["saves_per_epoch"]
    assert "multiple" in changed(imported("axolotl-early.yml"))["save_steps"]
    factory = imported("llama-factory-lora.yaml")
    assert "twice lora_rank" in changed(factory)["lora_alpha"]
    assert "counts" in left(factory)["max_samples"]
    assert "llama3" in changed(imported("llama-factory-qlora.yaml"))["template"]
    assert "default of Unsloth Studio" in changed(imported("studio-qlora.yaml"))["lora.lora_r"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("axolotl-many.yml", "datasets[1]"),
        ("llama-factory-many.yaml", "dataset[1]"),
        ("studio-many.yaml", "data.local_dataset[1]"),
    ],
)
def test_of_several_datasets_the_others_are_told(name: str, key: str) -> None:
    assert "in a folder" in left(imported(name))[key]


def test_secrets_are_written_nowhere() -> None:
    for name in ("llama-factory-qlora.yaml", "studio-lora.yaml"):
        made = imported(name)
        assert "verysecret" not in to_toml(made) + repr(made)
    assert left(imported("studio-lora.yaml"))["logging.wandb_token"] == "set by WANDB_API_KEY"


OURS_ONLY = {
    "model.backend",
    "model.kernels",
    "model.unpack_4bit",
    "model.device",
    "lora.bias",
    "train.num_processes",
    "train.early_stopping_threshold",
    "train.stop_at_loss",
    "train.loss_watchdog",
    "train.loss_watchdog_spike",
    "train.loss_watchdog_factor",
}
"""Keys that no other tool has, or that mean this machine."""


def test_every_key_of_ours_has_an_alias_or_is_ours_alone() -> None:
    """A new key of the recipe must be looked up in the other tools, or be listed above."""
    reached = {rule.to for module in KINDS.values() for rule in module.ALIASES.values()}
    reached |= {to for module in KINDS.values() for to in module.RULES.values()}
    for section in ("model", "lora", "train"):
        for key in type(Recipe.model_fields[section].default).model_fields:
            assert f"{section}.{key}" in reached | OURS_ONLY, f"{section}.{key}"
    for to in reached:
        section, _, key = to.partition(".")
        assert key in type(Recipe.model_fields[section].default).model_fields, to


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage: dpo\nmodel_name_or_path: m\ndataset: d\n", "stage: 'dpo': only supervised"),
        ("rl: dpo\nbase_model: m\ndatasets: []\n", "rl: 'dpo': only supervised"),
        ("finetuning_type: freeze\nmodel_name_or_path: m\n", "finetuning_type: 'freeze'"),
        ("adapter: llama-adapter\nbase_model: m\nlearning_rate: 1\n", "adapter: 'llama-adapter'"),
        ("adapter: qlora\nload_in_4bit: false\nbase_model: m\nlearning_rate: 1\n", "load_in_4bit"),
        ("base_model: m\nadapter: lora\n", "learning_rate: is not there"),
        (
            "base_model: m\nadapter: lora\nlearning_rate: 1e-4\nlora_r: 0\n"
            "datasets: [{path: a.json, type: alpaca}]\n",
            "lora_r -> lora.r: Input should be greater than or equal to 1 (given: 0)",
        ),
        (
            "base_model: m\noptimizer: muon\nlearning_rate: 1e-4\n"
            "datasets: [{path: a.json, type: alpaca}]\nsequence_len: 512\n",
            "optimizer -> train.optim",
        ),
        ("model_name_or_path: m\nstage: sft\ndataset: nobody_knows\n", "dataset_info.json"),
        ("model_name_or_path: m\nstage: sft\nlearning_rate: fast\ndataset_dir: ONLINE\n"
         "dataset: org/d\n", "learning_rate -> train.learning_rate"),
        ("training: {training_type: lora}\nlora: {lora_r: 8}\n", "--set model.model_name"),
        ("a: 1\nb: 2\n", "not recognised: at least two keys of one tool were looked for"),
        ("base_model: m\nadapter: lora\nmodel_name_or_path: m\nstage: sft\n", "several tools"),
        ("- a\n- b\n", "holds no mapping"),
        ("base_model: m\nadapter: lora\nbase_model: n\n", "line 3: key 'base_model' is there"),
        ("{base_model: m, base_model: n}", "line 1: key 'base_model' is there twice"),
        ("a: &a\n  b: *a\n", "holds itself"),
        ("a: [\n", "not valid YAML in line"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML in line 1"),
        ("a: 2026-99-99\n", "not valid YAML"),
        ("[" * 3000, "nested too deeply"),
        ("a: 1\n---\nb: 2\n", "not valid YAML in line 2"),
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_errors_name_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as error:
        import_recipe(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)


def test_rows_that_compare_answers_are_refused(tmp_path: Path) -> None:
    text = "model_name_or_path: m\nstage: sft\ndataset: pairs\n"
    (tmp_path / "dataset_info.json").write_bytes((FOLDER / "data/dataset_info.json").read_bytes())
    with pytest.raises(UsageError, match="only supervised"):
        import_recipe(write(tmp_path, text))


def test_anchors_are_read_but_not_a_bomb(tmp_path: Path) -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))
    with pytest.raises(UsageError, match="anchors written out"):
        import_recipe(write(tmp_path, f"l0: &l0 [x]\n{levels}\n"))
    text = (FOLDER / "axolotl-early.yml").read_text()
    shared = "rate: &rate 5e-5\n" + text.replace("learning_rate: 0.0001", "learning_rate: *rate")
    made = import_recipe(write(tmp_path, shared))
    assert made.recipe.train.learning_rate == 5e-5
    assert left(made)["rate"].startswith("not known")


def test_files_that_are_none(tmp_path: Path) -> None:
    big = write(tmp_path, "a: 1\n" * (reading.MAX_BYTES // 5 + 1))
    for path, words in (
        (tmp_path / "none.yml", "no such file"),
        (tmp_path, "cannot be read"),
        (big, "is longer than"),
        (write(tmp_path, "a = 1\n", "ours.toml"), "own recipes need no import"),
        (write(tmp_path, '{"a": 1, "a": 2}', "two.json"), "key 'a' is there twice"),
        (write(tmp_path, '{"a": 1,}', "comma.json"), "not valid JSON in line 1"),
        (Path("nul\0.yml"), "not a file name"),
    ):
        with pytest.raises(UsageError, match=words):
            import_recipe(path)
    (tmp_path / "latin.yml").write_bytes(b"base_model: caf\xe9\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        import_recipe(tmp_path / "latin.yml")


ODD: tuple[Any, ...] = (True, False, 0, -1, 0.5, 7, "x", "no", "a,b", "", [], ["a"], [1], {},
                        {"a": 1}, {"a": [None]}, 10**30, float("nan"), float("inf"),
                        "two\nlines\x1b[31m")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_odd_values_are_refused_in_one_line_or_told(kind: str, tmp_path: Path) -> None:
    """Whatever a key holds: an error that names it, or a recipe that TOML can hold."""
    base = {
        "axolotl": "axolotl-early.yml",
        "llama-factory": "llama-factory-early.yaml",
        "studio": "studio-lora.yaml",
    }[kind]
    module, tree = KINDS[kind], reading.read_mapping(FOLDER / base)
    (tmp_path / "dataset_info.json").write_bytes((FOLDER / "data/dataset_info.json").read_bytes())
    extra = ("datasets", "dataset", "stage", "data.dataset", "data.format_type", "chat_template",
             "unheard_of")  # fmt: skip
    path = tmp_path / "odd.json"
    for number, key in enumerate((*module.ALIASES, *module.RULES, *extra)):
        for turn, value in enumerate(ODD):
            section, dot, name = key.partition(".")
            changed_tree = (
                {**tree, section: {**tree.get(section, {}), name: value}}
                if dot and kind == "studio"
                else {**tree, key: value}
            )
            path.write_text(json.dumps(changed_tree))
            try:
                made = import_recipe(path, kind)
            except UsageError as error:
                assert str(error).startswith(f"{path}: "), (key, value)
                continue
            if (number + turn) % 20 == 0:
                assert Recipe.model_validate(tomllib.loads(to_toml(made))) == made.recipe


def test_values_cannot_break_out_of_a_comment(tmp_path: Path) -> None:
    text = (FOLDER / "axolotl-early.yml").read_text()
    path = write(tmp_path, text + 'surprise: "x\\n[train]\\nseed = 1\\x1b[2J"\n')
    toml = to_toml(import_recipe(path))
    assert tomllib.loads(toml)["train"]["seed"] == 42
    assert "\x1b" not in toml


@pytest.mark.parametrize("kind", ["json", "file", "screen"])
def test_the_command(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(FOLDER / "axolotl-lora.yml"), tmp_path / "mine.toml"
    if kind == "json":
        assert cli.main(["recipes", "import", "--json", source, "--name", "mine"]) == 0
        printed = capsys.readouterr()
        document = json.loads(printed.out)
        assert set(document) == {"kind", "recipe", "changed", "without_counterpart"}
        assert document["kind"] == "axolotl" and document["recipe"]["name"] == "mine"
        assert {"key": "logging_steps", "value": 1, "why": "every step is journaled anyway"} in (
            document["without_counterpart"]
        )
        assert all(set(change) == {"key", "to", "why"} for change in document["changed"])
    elif kind == "screen":
        assert cli.main(["recipes", "import", source]) == 0
        printed = capsys.readouterr()
        assert Recipe.model_validate(tomllib.loads(printed.out)).name == "axolotl-lora"
        assert "recognised as a recipe of Axolotl" in printed.err
        assert "logging_steps: 1: every step is journaled anyway" in printed.err
    else:
        words = ["recipes", "import", source, "--out", str(target), "--set", "train.seed=9"]
        assert cli.main(words) == 0
        assert Recipe.model_validate(tomllib.loads(target.read_text())).train.seed == 9
        target.write_text("mine")
        assert cli.main(words) == 1
        assert "--force" in capsys.readouterr().err and target.read_text() == "mine"
        assert cli.main([*words, "--force"]) == 0
        assert "Imported from Axolotl" in target.read_text()
        assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_from_overrides_and_the_other_forms_of_the_verb_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unclear = write(
        tmp_path,
        yaml.safe_dump({"base_model": "m", "learning_rate": 1e-4, "adam_beta1": 0.8}),
        "unclear.yml",
    )
    words = ["recipes", "import", str(unclear), "--set", DATA]
    assert cli.main(words) == 2
    assert cli.main([*words, "--from", "axolotl"]) == 0
    capsys.readouterr()
    assert cli.main(["recipes", "demo"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["name"] == "demo"
    assert cli.main(["recipes", "--json", "demo"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "demo"
    assert cli.main(["recipes"]) == 0
    assert "amazon-titles" in capsys.readouterr().out
