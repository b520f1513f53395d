"""Transformers + PEFT: CUDA or CPU, whole weights or 4 bits."""

import functools
import importlib
import sys
from typing import Any

from engine.builtin import model_path
from engine.data.tokenizer_files import chat_template
from engine.errors import UserError
from engine.jobs.check import NO_HALF_ON_CPU
from engine.jobs.ranks import is_sharded
from engine.preflight.memory import Setup, fits_unpacked
from engine.preflight.shape import read_shape
from engine.recipe import Recipe
from engine.train.backend import Loaded, choose_device
from engine.train.fused.choice import why_plain
from engine.train.vocabulary import add_tokens, new_token_ids

__all__ = ["TransformersBackend", "compute_dtype", "load_base", "quantization", "unloadable"]


class TransformersBackend:
    name = "transformers"

    def import_libraries(self) -> None:
        unusable_bitsandbytes()
        for library in ("transformers", "peft", "trl"):
            importlib.import_module(library)

    def load(self, recipe: Recipe) -> Loaded:
        import transformers

        device = choose_device(recipe)
        dtype = compute_dtype(recipe, device)
        transformers.set_seed(recipe.train.seed)
        # Weights that are trained are kept in float32; autocast multiplies in `dtype`.
        held_in = dtype if recipe.lora.enabled else "float32"
        # Sharded weights go to the GPUs a block at a time, once they are divided.
        model, tokenizer = load_base(recipe, "cpu" if is_sharded(recipe) else device, held_in)
        if recipe.lora.enabled:
            model = _attach_lora(model, tokenizer, recipe)
        notes = ["base weights in 4 bits"] if recipe.model.load_in_4bit else []
        config = model.config.to_dict()
        if not why_plain(recipe, config, device.partition(":")[0]):
            return _fused(recipe, model, tokenizer, device, dtype, notes)
        return Loaded(
            model=model,
            tokenizer=tokenizer,
            device=device,
            dtype=dtype,
            # Tensor cores want multiples of 8; a CPU wants as few tokens as possible.
            pad_to_multiple_of=None if device == "cpu" else 8,
            loss_type="chunked_nll",
            notes=notes,
        )


def _fused(
    recipe: Recipe, model: Any, tokenizer: Any, device: str, dtype: str, notes: list[str]
) -> Loaded:
    from engine.train.fused.attach import fuse

    unpacked = recipe.model.load_in_4bit and unpacks(recipe, device, dtype)
    fused = fuse(model, recipe, dtype, device, unpacked=unpacked, graphs=device.startswith("cuda"))
    notes = [*notes, *(["held unpacked as well"] if unpacked else [])]
    notes.append(f"fused layers: rows without padding, {fused.attention} attention")
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        pad_to_multiple_of=None,
        loss_type="nll",  # the fused layers compute it themselves
        notes=notes,
        flat=True,
        unpacked=unpacked,
        slower_because=lambda: fused.stack.why_not,
    )


def unpacks(recipe: Recipe, device: str, dtype: str) -> bool:
    """``model.unpack_4bit``; auto: by the memory that is free before anything is unpacked."""
    wanted = recipe.model.unpack_4bit
    if wanted != "auto":
        return wanted
    if not device.startswith("cuda"):
        return False
    import torch

    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    try:
        shape = read_shape(recipe)
    except UserError:
        return False
    setup = Setup(backend="transformers", device="cuda", dtype=dtype, fused=True)
    return fits_unpacked(recipe, shape, setup, free)


def compute_dtype(recipe: Recipe, device: str) -> str:
    """``model.dtype``; auto: float32 on a CPU, bfloat16 where the GPU has it, else float16."""
    if recipe.model.dtype != "auto":
        if device == "cpu" and recipe.model.dtype == "float16":
            raise UserError(NO_HALF_ON_CPU)
        return recipe.model.dtype
    if device == "cpu":
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


@functools.cache
def unusable_bitsandbytes() -> str:
    """Why bitsandbytes cannot be imported; "" when it can. Call it before PEFT is imported.

    PEFT imports it wherever it is installed, with or without 4 bits, so one that is broken would
    stop every training: it is made to look as if it were not installed.
    """
    try:
        importlib.import_module("bitsandbytes")
    except Exception as error:  # whatever a half-installed native library raises
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
        return first_line(error)
    return ""


def first_line(error: Exception) -> str:
    """What an error says first, or its name when it says nothing."""
    words = str(error).strip().splitlines()
    return words[0].strip() if words else type(error).__name__


def quantization(recipe: Recipe, device: str, dtype: str) -> Any:
    """The ``BitsAndBytesConfig`` for 4 bits, or None. Raises where bitsandbytes cannot do it."""
    if not recipe.model.load_in_4bit:
        return None
    import torch
    from transformers import BitsAndBytesConfig

    why = unusable_bitsandbytes()
    if not why:
        try:
            import bitsandbytes.functional as functional

            probe = torch.randn(64, 64, dtype=getattr(torch, dtype), device=device)
            packed, state = functional.quantize_4bit(
                probe, quant_type=recipe.model.bnb_4bit_quant_type, compress_statistics=True
            )
            functional.dequantize_4bit(packed, state)
        except Exception as error:
            why = first_line(error)
    if why:
        raise UserError(
            f"model.load_in_4bit: bitsandbytes cannot hold weights in 4 bits on this {device} "
            f"({why}); install bitsandbytes for this machine, or set model.load_in_4bit = false"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=recipe.model.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=recipe.model.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def load_base(recipe: Recipe, device: str, dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer of ``model.model_name_or_path``, no adapter; safetensors only."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    unusable_bitsandbytes()
    section = recipe.model
    tokenizer = load_tokenizer(recipe)
    quantization_config = quantization(recipe, device, dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            model_path(section.model_name_or_path),
            revision=section.revision or "main",
            dtype=getattr(torch, dtype),
            quantization_config=quantization_config,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=section.trust_remote_code,
            **attention(recipe),
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise unloadable(recipe, error) from error
    keep_4bit_as_loaded(model)
    add_tokens(model, tokenizer, section.add_tokens)
    return model, tokenizer


def attention(recipe: Recipe) -> dict[str, str]:
    """``attn_implementation`` as an argument of ``from_pretrained``; auto: Transformers' choice."""
    wanted = recipe.model.attn_implementation
    return {} if wanted == "auto" else {"attn_implementation": wanted}


def load_tokenizer(recipe: Recipe) -> Any:
    """The base's tokenizer; its pad token falls back to the end-of-text token."""
    from transformers import AutoTokenizer

    section = recipe.model
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            model_path(section.model_name_or_path),
            revision=section.revision or "main",
            trust_remote_code=section.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise unloadable(recipe, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if recipe.format.chat_template:
        tokenizer.chat_template = chat_template(recipe.format.chat_template)
    return tokenizer


def keep_4bit_as_loaded(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights to bfloat16 at the first evaluation on a CPU.

    It does so for good on CPUs with AVX512-BF16, and a resumed run then differs by 4.9e-3.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _attach_lora(model: Any, tokenizer: Any, recipe: Recipe) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    lora = recipe.lora
    saved_whole = set(lora.modules_to_save)
    new_rows = {
        name: ids
        for name, ids in new_token_ids(model, tokenizer, recipe.model.add_tokens).items()
        if name not in saved_whole
    }
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
        modules_to_save=lora.modules_to_save or None,
        layers_to_transform=lora.layers_to_transform or None,
        init_lora_weights=lora.init_lora_weights,
        trainable_token_indices=new_rows or None,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        bias=lora.bias,
        task_type=TaskType.CAUSAL_LM,
    )
    known = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    for key in ("modules_to_save", "target_modules"):
        names = getattr(lora, key)
        # PEFT says nothing of a module to save, or of one target among several, that is not there.
        if not isinstance(names, str) and (missing := [n for n in names if not _is_in(n, known)]):
            raise UserError(
                f"lora.{key}: the model has no module {missing[0]!r}; it has "
                f"{', '.join(sorted(_linears(model)))}"
            )
    try:
        return get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise UserError(f"lora: {first_line(error)}") from error


def _is_in(name: str, known: set[str]) -> bool:
    """Whether a module of this name is there: its last part, or a path to it, or a pattern."""
    return name.rpartition(".")[2] in known or not name.replace("_", "").replace(".", "").isalnum()


def _linears(model: Any) -> set[str]:
    import torch

    kinds = (torch.nn.Linear, torch.nn.Embedding)
    return {n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, kinds)}


def unloadable(recipe: Recipe, error: Exception) -> UserError:
    return UserError(
        f"model.model_name_or_path: {recipe.model.model_name_or_path} cannot be loaded: "
        f"{first_line(error)}"
    )
