"""The model and its adapters: names of Transformers and PEFT."""

from typing import Annotated, Literal

from pydantic import Field

from engine.builtin import BUILTIN_BASE
from engine.sections import Section

__all__ = ["LoraSection", "ModelSection"]

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class ModelSection(Section):
    """Which model, and how it is loaded."""

    model_name_or_path: str = Field(
        BUILTIN_BASE, description=f"hub id, folder, or {BUILTIN_BASE!r} for the built-in model"
    )
    revision: str = Field("", description="hub revision; default: the main branch")
    backend: Literal["auto", "unsloth", "transformers"] = Field(
        "auto",
        description="auto: transformers where the fused layers can compute the model, else unsloth "
        "where it is installed and a CUDA GPU is there",
    )
    kernels: Literal["auto", "fused", "plain"] = Field(
        "auto",
        description="of the transformers backend. fused: layers in few passes over memory, rows "
        "without padding, for LoRA on Llama-like models; plain: Transformers' own; auto: fused on "
        "CUDA where they can",
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto: CUDA where there is one"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the GPU has it, else float16; float32 on a CPU"
    )
    load_in_4bit: bool = Field(False, description="hold the base weights in 4 bits (bitsandbytes)")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="4-bit data type")
    unpack_4bit: Literal["auto"] | bool = Field(
        "auto",
        description="fused layers also hold 4-bit weights unpacked in 16 bits: the same numbers, "
        "faster, two bytes a weight more; auto: where there is plenty of memory",
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="auto: Transformers' choice; packing needs one that keeps rows apart"
    )
    bnb_4bit_use_double_quant: bool = Field(True, description="quantise the constants too")
    add_tokens: list[Annotated[str, Field(min_length=1)]] = Field(
        [],
        description="special tokens added to the vocabulary, such as those of a chat template; "
        "their embeddings are trained",
    )
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
    target_modules: list[str] | Literal["all-linear"] = Field(
        LINEARS, min_length=1, description='modules with adapters, or "all-linear"'
    )
    modules_to_save: list[str] = Field(
        [], description="modules trained and saved whole, such as embed_tokens and lm_head"
    )
    bias: Literal["none", "all", "lora_only"] = Field("none", description="biases that are trained")
    layers_to_transform: list[Annotated[int, Field(ge=0)]] = Field(
        [], description="layers (from 0) with adapters; empty: all"
    )
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = Field(
        True, description="first values of the adapters; true: PEFT's own"
    )
    use_rslora: bool = Field(False, description="scale by lora_alpha / sqrt(r)")
    use_dora: bool = Field(False, description="weight-decomposed adapters")
