"""The one typed description of an experiment: TOML in, checked, TOML out.

Field names are those of Transformers, TRL and PEFT wherever they have one. Every field says its
unit and default; unknown keys are refused with the nearest known one.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.builtin import BUILTIN_BASE, BUILTIN_CATALOGUE
from engine.errors import UsageError

__all__ = [
    "CleanSection",
    "DataSection",
    "EvaluateSection",
    "FormatSection",
    "GenerateSection",
    "LoraSection",
    "ModelSection",
    "Recipe",
    "SplitSection",
    "TrainSection",
    "builtin_recipes",
    "load_recipe",
    "read_recipe",
]

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class DataSection(Section):
    """Where the rows come from and which two columns make an example."""

    source: str = Field(
        BUILTIN_CATALOGUE,
        description="a JSON Lines file (.jsonl, .json, optionally .gz), relative to the current "
        f"folder, or {BUILTIN_CATALOGUE!r}",
    )
    name: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        description="name of the cleaned dataset; default: the source's file name",
    )
    catalogue_rows: int = Field(
        20_000, ge=1, le=100_000_000, description="lines the built-in catalogue is made with"
    )
    catalogue_seed: int = Field(0, ge=0, description="seed of the built-in catalogue")
    prompt_column: str = Field("title", description="column that the model is given")
    completion_column: str = Field("content", description="column that the model shall write")


class CleanSection(Section):
    """Rules in the order in which they run; each counts what it changed and dropped."""

    html: bool = Field(True, description="unescape entities and remove tags")
    unicode: Literal["NFC", "NFKC", "none"] = Field("NFC", description="Unicode normal form")
    control: bool = Field(
        True, description="remove control, zero-width and bidirectional-override characters"
    )
    whitespace: bool = Field(True, description="every run of white space becomes one space")
    lowercase: bool = Field(False, description="lower-case prompt and completion")
    drop_empty: bool = Field(True, description="drop rows with an empty prompt or completion")
    drop_duplicates: Literal["completion", "prompt", "both", "none"] = Field(
        "completion", description="what makes two rows duplicates; the first one stays"
    )


class SplitSection(Section):
    """Sizes of the three splits: all three shares (below 1) or all three counts; none is 0."""

    train: float = Field(0.9, gt=0, description="rows (a whole number) or share of the clean rows")
    validation: float = Field(0.05, gt=0, description="rows or share; early stopping uses it")
    test: float = Field(0.05, gt=0, description="rows or share; only ever reported")
    seed: int = Field(3407, ge=0, description="seed of the hash that decides a title's side")

    @property
    def by_count(self) -> bool:
        return self.train >= 1

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        if len({size >= 1 for size in sizes.values()}) > 1:
            raise ValueError(f"give all three as counts or all three as shares, not {sizes}")
        if self.by_count:
            if broken := [name for name, size in sizes.items() if size != int(size)]:
                raise ValueError(f"{broken[0]} is a count and must be a whole number")
        elif sum(sizes.values()) > 1.000001:
            raise ValueError(f"the shares add up to {sum(sizes.values()):g}, more than 1")
        return self


class FormatSection(Section):
    """How a row becomes the text that the model sees."""

    template: Literal["alpaca", "chat", "plain"] = Field(
        "alpaca",
        description="alpaca: the instruction-following layout; chat: the tokenizer's own chat "
        "template; plain: instruction, prompt and completion on lines of their own",
    )
    instruction: str = Field(
        "Write a product description for this title.",
        description="the instruction that goes before every prompt; may be empty",
    )
    system: str = Field("", description="system message (chat template only); may be empty")

    @model_validator(mode="after")
    def _system_is_used(self) -> Self:
        if self.system and self.template != "chat":
            raise ValueError(f'system is for template = "chat" only, not {self.template!r}')
        return self


class ModelSection(Section):
    """Which model, and how it is loaded."""

    model_name_or_path: str = Field(
        BUILTIN_BASE, description=f"hub id, folder, or {BUILTIN_BASE!r} for the built-in model"
    )
    revision: str = Field("", description="hub revision; default: the main branch")
    backend: Literal["auto", "unsloth", "transformers"] = Field(
        "auto", description="auto: unsloth where it is installed and a CUDA GPU is there"
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto: CUDA where there is one"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the GPU has it, else float16; float32 on a CPU"
    )
    load_in_4bit: bool = Field(False, description="hold the base weights in 4 bits (bitsandbytes)")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="4-bit data type")
    bnb_4bit_use_double_quant: bool = Field(True, description="quantise the constants too")
    trust_remote_code: bool = Field(
        False,
        description="run the Python code that a model brings along, on this machine, as you: only "
        "for models whose code you have read",
    )


class LoraSection(Section):
    """Low-rank adapters (PEFT's LoraConfig)."""

    enabled: bool = Field(True, description="false: full fine-tuning of every weight")
    r: int = Field(8, ge=1, le=4096, description="rank")
    lora_alpha: float = Field(16, gt=0, description="scale is lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapters' input")
    target_modules: list[str] = Field(LINEARS, min_length=1, description="modules with adapters")
    use_rslora: bool = Field(False, description="scale by lora_alpha / sqrt(r)")
    use_dora: bool = Field(False, description="weight-decomposed adapters")


class TrainSection(Section):
    """Hyperparameters, under the names of Transformers' TrainingArguments and TRL's SFTConfig."""

    max_length: int = Field(128, ge=8, description="tokens; longer examples are cut at the end")
    per_device_train_batch_size: int = Field(32, ge=1, description="examples a step and device")
    per_device_eval_batch_size: int = Field(32, ge=1, description="examples an evaluation step")
    gradient_accumulation_steps: int = Field(1, ge=1, description="batches an optimiser step")
    num_train_epochs: float = Field(1, gt=0, description="passes over the train split")
    max_steps: int = Field(
        -1, ge=-1, le=10**9, description="optimiser steps; -1: by num_train_epochs"
    )
    learning_rate: float = Field(3e-4, ge=0, description="peak learning rate")
    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
    ] = Field("linear", description="Transformers' schedules that need no further settings")
    warmup_steps: float = Field(0, ge=0, description="steps, or below 1 a share of all steps")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    optim: Literal[
        "auto",
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_8bit",
        "adamw_bnb_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "adafactor",
        "ademamix",
        "ademamix_8bit",
        "paged_ademamix_8bit",
        "paged_ademamix_32bit",
        "lion_8bit",
        "lion_32bit",
        "paged_lion_8bit",
        "paged_lion_32bit",
        "sgd",
        "adagrad",
        "rmsprop",
    ] = Field("auto", description="auto: adamw_8bit on a GPU, adamw_torch on a CPU")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0: none")
    completion_only_loss: bool = Field(True, description="train on the completion's tokens only")
    gradient_checkpointing: bool = Field(False, description="less memory, slower steps")
    seed: int = Field(
        3407, ge=0, lt=2**32, description="data order, adapters' first values, dropout"
    )
    eval_steps: int = Field(250, ge=1, description="optimiser steps between evaluations")
    save_steps: int = Field(250, ge=1, description="optimiser steps between checkpoints")
    save_total_limit: int = Field(2, ge=1, description="checkpoints kept; the best one always is")
    load_best_model_at_end: bool = Field(
        True, description="keep the weights with the lowest validation loss, not the last ones"
    )
    early_stopping_patience: int = Field(
        0, ge=0, description="evaluations without improvement before the run ends; 0: never"
    )
    early_stopping_threshold: float = Field(
        0.0, ge=0, description="smallest fall of the validation loss that counts"
    )

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, steps: int) -> int:
        if steps == 0:  # Transformers would make one step all the same, and report none
            raise ValueError("at least 1, or -1 for as many as num_train_epochs asks for")
        return steps

    @model_validator(mode="after")
    def _best_needs_checkpoints(self) -> Self:
        if self.load_best_model_at_end and self.save_steps % self.eval_steps:
            raise ValueError(
                f"load_best_model_at_end needs save_steps ({self.save_steps}) to be a multiple of "
                f"eval_steps ({self.eval_steps})"
            )
        if self.early_stopping_patience and not self.load_best_model_at_end:
            raise ValueError("early_stopping_patience needs load_best_model_at_end = true")
        return self


class EvaluateSection(Section):
    """What is measured on the splits that are not trained on."""

    validation_rows: int = Field(0, ge=0, description="rows of validation at a time; 0: all")
    test_rows: int = Field(0, ge=0, description="rows of test in the report; 0: all")
    before: bool = Field(True, description="report the untrained model on the test split too")


class GenerateSection(Section):
    """How answers are sampled (names of Transformers' GenerationConfig)."""

    max_new_tokens: int = Field(128, ge=1, description="tokens")
    do_sample: bool = Field(False, description="false: always the most likely token")
    temperature: float = Field(0.7, gt=0, description="used when do_sample is true")
    top_p: float = Field(0.9, gt=0, le=1, description="used when do_sample is true")
    top_k: int = Field(50, ge=0, description="used when do_sample is true; 0: off")
    repetition_penalty: float = Field(1.0, gt=0, description="1: none")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampling")


class Recipe(Section):
    """A whole experiment. Frozen; change one with :meth:`with_settings`."""

    version: Literal[1] = Field(1, description="schema version of the recipe")
    name: str = Field(pattern=r"^[\w.-]+$", max_length=64, description="short name; names the runs")
    description: str = Field("", description="one sentence for the list of recipes")
    data: DataSection = DataSection()
    clean: CleanSection = CleanSection()
    split: SplitSection = SplitSection()
    format: FormatSection = FormatSection()
    model: ModelSection = ModelSection()
    lora: LoraSection = LoraSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    generate: GenerateSection = GenerateSection()

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.model.load_in_4bit and not self.lora.enabled:
            raise ValueError(
                "model.load_in_4bit: weights held in 4 bits cannot be trained themselves; "
                "set lora.enabled = true, or model.load_in_4bit = false"
            )
        return self

    def with_settings(self, settings: Sequence[str]) -> "Recipe":
        """A copy with ``section.key=value`` settings (TOML values; bare words are strings)."""
        tree = self.model_dump()
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise UsageError(f"--set {setting}: write it as section.key=value")
            _put(tree, key.strip(), _toml_value(value.strip()), f"--set {setting}")
        return _validate(tree, "--set")

    def to_toml(self) -> str:
        """The recipe with every value, defaults too, as TOML."""
        import tomlkit

        return tomlkit.dumps(self.model_dump())


def builtin_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that ship with tunebench."""
    folder = Path(__file__).parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """A built-in recipe by name, or one from a TOML file, with ``--set`` settings on top.

    Raises :class:`UsageError` naming the file and the key.
    """
    path = builtin_recipes().get(name) or Path(name)
    return read_recipe(path, name).with_settings(settings)


def read_recipe(path: Path, name: str = "") -> Recipe:
    """The recipe of a TOML file; ``name``: what the user called it, for messages.

    Raises :class:`UsageError` naming the file and the key.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = f", and no built-in one ({', '.join(builtin_recipes())})" if name else ""
        raise UsageError(f"{name or path}: no such recipe file{known}") from None
    except IsADirectoryError:
        raise UsageError(f"{name or path}: is a directory, not a recipe file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL byte, or what no file name can hold
        raise UsageError(f"{name!r}: not a file name") from None
    tree.setdefault("name", path.stem)
    return _validate(tree, str(path))


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *sections, field = key.split(".")
    for section in sections:
        inner = tree.get(section)
        if not isinstance(inner, dict):
            raise UsageError(f"{where}: unknown key {section!r}{_did_you_mean(section, tree)}")
        tree = inner
    if field not in tree:
        raise UsageError(f"{where}: unknown key {key!r}{_did_you_mean(field, tree)}")
    tree[field] = value


def _did_you_mean(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _validate(tree: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as failure:
        error = failure.errors()[0]
        path = [str(part) for part in error["loc"]]
        key = ".".join(path)
        if error["type"] == "extra_forbidden":
            known: Any = Recipe
            for part in path[:-1]:
                known = known.model_fields[part].annotation
            hint = _did_you_mean(path[-1], known.model_fields)
            raise UsageError(f"{where}: unknown key {key!r}{hint}") from None
        message = error["msg"].removeprefix("Value error, ")
        given = "" if isinstance(error["input"], dict) else f" (given: {error['input']!r})"
        named = f"{key}: {message}" if key else message
        raise UsageError(f"{where}: {named}{given}") from None
