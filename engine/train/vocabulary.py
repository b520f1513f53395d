"""Special tokens that a recipe adds to a model's vocabulary, and whose embeddings are trained."""

from collections.abc import Sequence
from typing import Any

__all__ = ["add_tokens", "new_token_ids"]


def add_tokens(model: Any, tokenizer: Any, tokens: Sequence[str]) -> None:
    """Give tokenizer and model these tokens; new embeddings begin as the mean of all others.

    The mean, because random rows get the first answers wrong and draw random numbers. Tokens that
    are there already are left as they are.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    if not new:
        return
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in new], special_tokens=True
    )
    before = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(new)
    for layer in _embeddings(model):
        weight = layer.weight.data
        weight[ids] = weight[: min(ids)].float().mean(0).to(weight.dtype)


def new_token_ids(model: Any, tokenizer: Any, tokens: Sequence[str]) -> dict[str, list[int]]:
    """PEFT's ``trainable_token_indices``: the rows to train, by the module that holds them."""
    if not tokens:
        return {}
    ids = tokenizer.convert_tokens_to_ids(list(dict.fromkeys(tokens)))
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return {names[id(layer)]: ids for layer in _embeddings(model)}


def _embeddings(model: Any) -> list[Any]:
    """The input's embeddings, and the output's where they are weights of their own."""
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    return [first] if last is None or last.weight is first.weight else [first, last]
