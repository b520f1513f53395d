"""Unsloth: fused kernels for LoRA on one CUDA GPU."""

import importlib

from engine.builtin import model_path
from engine.errors import UserError
from engine.recipe import Recipe
from engine.train.backend import Loaded, choose_device
from engine.train.transformers_backend import compute_dtype, unloadable

__all__ = ["UnslothBackend"]


class UnslothBackend:
    name = "unsloth"

    def import_libraries(self) -> None:
        # Unsloth patches TRL and Transformers: it must be imported before either.
        for library in ("unsloth", "trl"):
            importlib.import_module(library)

    def load(self, recipe: Recipe) -> Loaded:
        import torch
        import transformers
        from unsloth import FastLanguageModel

        device = choose_device(recipe)
        dtype = compute_dtype(recipe, device)
        section, lora, train = recipe.model, recipe.lora, recipe.train
        if lora.use_dora and lora.enabled:
            raise UserError(
                'lora.use_dora: unsloth has no DoRA kernels; set model.backend = "transformers"'
            )
        if section.load_in_4bit and section.bnb_4bit_quant_type != "nf4":
            raise UserError(
                "model.bnb_4bit_quant_type: unsloth holds 4-bit weights as nf4 only; "
                'set it to "nf4", or model.backend = "transformers"'
            )
        if section.load_in_4bit and not section.bnb_4bit_use_double_quant:
            raise UserError(
                "model.bnb_4bit_use_double_quant: unsloth always quantises the constants too; "
                'set it to true, or model.backend = "transformers"'
            )
        transformers.set_seed(train.seed)
        checkpointing = "unsloth" if train.gradient_checkpointing else False
        try:
            model, tokenizer = FastLanguageModel.from_pretrained(
                model_name=model_path(section.model_name_or_path),
                revision=section.revision or None,
                max_seq_length=train.max_length,
                dtype=getattr(torch, dtype),
                load_in_4bit=section.load_in_4bit,
                full_finetuning=not lora.enabled,
                use_gradient_checkpointing=checkpointing,
                # Else a hub id is swapped for another repository, with pre-quantised weights.
                use_exact_model_name=True,
                trust_remote_code=section.trust_remote_code,
                use_safetensors=True,
                random_state=train.seed,
            )
        except OSError as error:
            raise unloadable(recipe, error) from error
        if lora.enabled:
            model = FastLanguageModel.get_peft_model(
                model,
                r=lora.r,
                lora_alpha=lora.lora_alpha,
                lora_dropout=lora.lora_dropout,
                target_modules=list(lora.target_modules),
                use_rslora=lora.use_rslora,
                bias="none",
                use_gradient_checkpointing=checkpointing,
                random_state=train.seed,
                max_seq_length=train.max_length,
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return Loaded(
            model=model,
            tokenizer=tokenizer,
            device=device,
            dtype=dtype,
            # One shape for every batch: measured 0.214 s a step against 0.330 s with moving shapes.
            pad_to_multiple_of=train.max_length,
            loss_type="nll",
            notes=[f"padding every batch to {train.max_length} tokens"],
        )
