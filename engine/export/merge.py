"""Merges a run's adapter into its base, as one 16-bit model: an errand.

``python -m engine.export.merge --answers FD RUN_DIR OUT_DIR``
"""

import sys
from pathlib import Path
from typing import Any

from engine.generate.columns import run_column
from engine.generate.errand import Answers, serve_errand
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.train.environment import set_environment

__all__ = ["merge"]


def merge(arguments: list[str], answers: Answers) -> dict[str, Any]:
    """Write the merged model to OUT_DIR, whole or not at all; returns folder, dtype, bytes."""
    folder, out = RunFolder(Path(arguments[0])), Path(arguments[1])
    column = run_column(folder)
    recipe = folder.read_recipe()
    set_environment(Home(folder.path.parent.parent), recipe.model.model_name_or_path)
    answers.status("importing torch")
    import torch

    from engine.train.saving import write_whole
    from engine.train.transformers_backend import load_base

    # Merged into the base as it was published: 4-bit weights would be merged with their errors.
    half = "float16" if recipe.model.dtype == "float16" else "bfloat16"
    unquantised = recipe.model.model_copy(
        update={"load_in_4bit": False, "model_name_or_path": column.model_name_or_path}
    )
    answers.status(f"loading {column.model_name_or_path}")
    # In float32, on the CPU: rounded to 16 bits once, at the end; the GPU may be training.
    model, tokenizer = load_base(recipe.model_copy(update={"model": unquantised}), "cpu", "float32")
    if column.adapter:
        answers.status(f"merging the adapter of {column.label}")
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, column.adapter).merge_and_unload(safe_merge=True)
    model = model.to(getattr(torch, half))
    answers.status(f"writing {out}")

    def write(temporary: Path) -> None:
        model.save_pretrained(str(temporary))
        tokenizer.save_pretrained(str(temporary))

    def publish(temporary: Path) -> int:
        temporary.rename(out)
        return sum(file.stat().st_size for file in out.iterdir())

    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = write_whole(
        out.with_name(f".{out.name}.tmp"), write, publish, needed, "the merged model"
    )
    return {"folder": str(out), "dtype": half, "bytes": size}


if __name__ == "__main__":
    sys.exit(serve_errand(merge))
