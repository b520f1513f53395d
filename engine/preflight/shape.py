"""A model's shape from its files: ``config.json`` and the headers of its safetensors. No torch."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.model_files import find_file
from engine.recipe import Recipe

__all__ = ["ModelShape", "StoredTensor", "read_shape", "stored_tensor"]

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MAX_HEADER_BYTES = 100 << 20


@dataclass
class ModelShape:
    """Sizes of a decoder-only model, in elements."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """Input and output embeddings are one matrix."""
    matrices: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Name -> shape of every weight: (out, in) for a linear layer."""
    max_positions: int = 0
    model_type: str = ""
    stored_bytes: int = 0
    """What the weight files hold; 0 where there are none to look at."""

    @property
    def parameters(self) -> int:
        return sum(_product(shape) for shape in self.matrices.values())

    @property
    def embeddings(self) -> int:
        """Elements of the input embeddings and of an output projection of its own."""
        return sum(_product(s) for name, s in self.matrices.items() if _is_embedding(name))

    def linears(self) -> dict[str, tuple[int, int]]:
        """Name -> (out, in) of the linear layers inside the decoder layers."""
        return {
            name.removesuffix(".weight"): (shape[0], shape[1])
            for name, shape in self.matrices.items()
            if len(shape) == 2 and name.endswith(".weight") and not _is_embedding(name)
        }

    def trainable(self, recipe: Recipe) -> int:
        """Elements that are trained: adapters and what is saved whole, or everything."""
        lora = recipe.lora
        if not lora.enabled:
            return self.parameters
        return sum(self.adapters(recipe).values()) + self.saved_whole(recipe)

    def adapters(self, recipe: Recipe) -> dict[str, int]:
        """Linear layer -> elements of its LoRA matrices (DoRA's magnitudes and biases too)."""
        lora = recipe.lora
        if not lora.enabled:
            return {}
        found = {}
        for name, (out, into) in self.linears().items():
            if not self._has_adapter(name, recipe):
                continue
            found[name] = lora.r * (out + into) + (out if lora.use_dora else 0)
            if lora.bias != "none" and (bias := self.matrices.get(f"{name}.bias")):
                found[name] += bias[0]
        return found

    def _has_adapter(self, name: str, recipe: Recipe) -> bool:
        lora = recipe.lora
        parts = name.split(".")
        if lora.layers_to_transform:
            numbers = [int(part) for part in parts if part.isdigit()]
            if numbers and numbers[0] not in lora.layers_to_transform:
                return False
        if lora.target_modules == "all-linear":
            return True
        return any(name == t or name.endswith(f".{t}") for t in lora.target_modules)

    def saved_whole(self, recipe: Recipe) -> int:
        """Elements of ``lora.modules_to_save``, and of the rows that ``model.add_tokens`` adds."""
        wanted = recipe.lora.modules_to_save
        size = 0
        for name, shape in self.matrices.items():
            module = name.rpartition(".")[0].rpartition(".")[2]
            if module in wanted:
                size += _product(shape)
        if "lm_head" in wanted and self.tied:
            size += self.vocabulary * self.hidden
        added = len(dict.fromkeys(recipe.model.add_tokens)) * self.hidden
        trained = [self.tied or "lm_head" in wanted, "embed_tokens" in wanted]
        return size + added * (2 - sum(trained))


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file."""

    path: Path
    dtype: str
    """As safetensors calls it: BF16, F16, F32, ..."""
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""


def stored_tensor(recipe: Recipe, ending: str) -> StoredTensor | None:
    """The first tensor of the model's files whose name ends so; None when none is here."""
    name, revision = recipe.model.model_name_or_path, recipe.model.revision
    for file in _weight_files(name, revision):
        path = find_file(name, file, revision)
        if path is None:
            continue
        for tensor, described in _header(path).items():
            if tensor.endswith(ending):
                with path.open("rb") as opened:
                    (length,) = struct.unpack("<Q", opened.read(8))
                return StoredTensor(
                    path,
                    described["dtype"],
                    tuple(map(int, described["shape"])),
                    8 + length + int(described["data_offsets"][0]),
                )
    return None


def read_shape(recipe: Recipe) -> ModelShape:
    """The shape of the recipe's model: a folder, or a hub id in the local cache.

    Raises :class:`UserError` when it is not there or is no decoder whose configuration says its
    sizes.
    """
    name, revision = recipe.model.model_name_or_path, recipe.model.revision
    file = find_file(name, "config.json", revision)
    if file is None:
        raise UserError(
            f"model.model_name_or_path: {name} is not on this machine yet, so its size is not "
            f"known; fetch it with: hf download {name}"
        )
    config = _json(file)
    config = config.get("text_config", config)
    try:
        heads = int(config["num_attention_heads"])
        shape = ModelShape(
            hidden=int(config["hidden_size"]),
            intermediate=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", True)),
            max_positions=int(config.get("max_position_embeddings") or 0),
            model_type=str(config.get("model_type", "")),
        )
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{file}: does not tell the sizes of a decoder-only model") from None
    shape.matrices, shape.stored_bytes = _stored(name, revision)
    if not shape.matrices:
        shape.matrices = _by_config(shape, config)
    elif shape.tied:
        shape.matrices = {n: s for n, s in shape.matrices.items() if n != "lm_head.weight"}
    return shape


def _stored(name: str, revision: str) -> tuple[dict[str, tuple[int, ...]], int]:
    """Name -> shape of all weights in the model's files, and their bytes; nothing without files."""
    found: dict[str, tuple[int, ...]] = {}
    size = 0
    for file in _weight_files(name, revision):
        path = find_file(name, file, revision)
        if path is None:
            return {}, 0
        for tensor, described in _header(path).items():
            if tensor != "__metadata__":
                shape = tuple(map(int, described["shape"]))
                found[tensor] = shape
                size += _product(shape) * _BYTES.get(described["dtype"], 2)
    return found, size


def _weight_files(name: str, revision: str) -> list[str]:
    index = find_file(name, "model.safetensors.index.json", revision)
    if index is None:
        return ["model.safetensors"]
    return sorted(set(map(str, _json(index).get("weight_map", {}).values())))


def _header(path: Path) -> dict[str, Any]:
    """The names, types and shapes that a safetensors file begins with."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError
            header = json.loads(file.read(length))
    except (OSError, ValueError, struct.error):
        raise UserError(f"{path}: is no safetensors file; download the model again") from None
    return header


def _by_config(shape: ModelShape, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights of a model of Llama's build, where there are no files to look at."""
    h, f = shape.hidden, shape.intermediate
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    linears = {
        "self_attn.q_proj": (q, h),
        "self_attn.k_proj": (kv, h),
        "self_attn.v_proj": (kv, h),
        "self_attn.o_proj": (h, q),
        "mlp.gate_proj": (f, h),
        "mlp.up_proj": (f, h),
        "mlp.down_proj": (h, f),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, h)}
    biased: tuple[str, ...] = ("q_proj", "k_proj", "v_proj") if shape.model_type == "qwen2" else ()
    biased += LINEARS[:4] if config.get("attention_bias") else ()
    biased += LINEARS[4:] if config.get("mlp_bias") else ()
    for number in range(shape.layers):
        layer = f"model.layers.{number}"
        for name, size in linears.items():
            found[f"{layer}.{name}.weight"] = size
            if name.endswith(biased):
                found[f"{layer}.{name}.bias"] = size[:1]
        found[f"{layer}.input_layernorm.weight"] = (h,)
        found[f"{layer}.post_attention_layernorm.weight"] = (h,)
        if shape.model_type.startswith("qwen3"):
            found[f"{layer}.self_attn.q_norm.weight"] = (shape.head_dim,)
            found[f"{layer}.self_attn.k_norm.weight"] = (shape.head_dim,)
    found["model.norm.weight"] = (h,)
    if not shape.tied:
        found["lm_head.weight"] = (shape.vocabulary, h)
    return found


def _is_embedding(name: str) -> bool:
    return name.endswith(("embed_tokens.weight", "lm_head.weight", "wte.weight", "embed_in.weight"))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: cannot be read; download the model again") from None
    return value if isinstance(value, dict) else {}


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
