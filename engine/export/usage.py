"""Code that uses a run's result with Transformers and PEFT, prompted as it was trained."""

from engine.data.formats import ALPACA, ALPACA_BARE
from engine.export import blocks as b
from engine.export.gathered import Gathered
from engine.recipe import Recipe

__all__ = ["code", "usage"]

EXAMPLE = "a prompt"
LONGEST = 500
"""Characters of the example."""


def usage(g: Gathered, adapter: bool) -> list[b.Block]:
    """How to load and ask it; nothing for a run whose recipe is gone."""
    if g.recipe is None:
        return []
    prompt = str(g.samples[0]["prompt"])[:LONGEST] if g.samples else EXAMPLE
    shape = str(g.dataset_row.get("shape") or "pair")
    return [b.Code(code(g.recipe, shape, prompt, adapter), "python")]


def code(recipe: Recipe, shape: str, prompt: str, adapter: bool) -> str:
    """``shape``: of the rows it was trained on, one of :data:`engine.data.rows.SHAPES`.

    Texts are written as Python literals: nothing of them is code.
    """
    model = "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"
    imports = (
        [f"from peft import {model}", "from transformers import AutoTokenizer"]
        if adapter
        else [f"from transformers import {model}, AutoTokenizer"]
    )
    room = recipe.generate.max_new_tokens
    lines = [
        *imports,
        "",
        'folder = "."  # the folder of this card, or its name on the hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {model}.from_pretrained(folder)",
        "",
        f"prompt = {prompt!r}",
        *_inputs(recipe, shape),
        f"output = model.generate(**inputs, max_new_tokens={room}, do_sample=False)",
        'answer = output[0, inputs["input_ids"].shape[1] :]',
        "print(tokenizer.decode(answer, skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def _inputs(recipe: Recipe, shape: str) -> list[str]:
    """Lines that make ``inputs`` of ``prompt``."""
    section = recipe.format
    if shape == "text":
        return ['inputs = tokenizer(prompt, return_tensors="pt")']
    # Conversations were trained as they are: the instruction stood before other rows only.
    instruction = "" if shape == "conversation" else section.instruction
    if section.template == "chat":
        before = f"{instruction}\n\n"
        asked = f"{before!r} + prompt" if instruction else "prompt"
        messages = [f'    {{"role": "user", "content": {asked}}},']
        if section.system:
            messages.insert(0, f'    {{"role": "system", "content": {section.system!r}}},')
        return [
            "messages = [",
            *messages,
            "]",
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
        ]
    before, after = _around(recipe, instruction)
    text = f"{before!r} + prompt" if before else "prompt"
    return [f"text = {text} + {after!r}", 'inputs = tokenizer(text, return_tensors="pt")']


def _around(recipe: Recipe, instruction: str) -> tuple[str, str]:
    """What stood before and behind a prompt."""
    system = recipe.format.system
    if recipe.format.template == "alpaca":
        template = ALPACA if instruction else ALPACA_BARE
        before, after = template.rsplit("{prompt}", 1)
        before = before.replace("{instruction}", instruction, 1)
        return (f"{system}\n\n{before}" if system else before), after
    return "".join(f"{line}\n" for line in (system, instruction) if line), "\n"
