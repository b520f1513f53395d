"""Weights sharded over the processes (FSDP2): collected for files, and handed out again.

Every process calls these at the same time. Files are those of one process: whole weights, whole
optimiser state, so that a run goes on, and its result loads, whatever the number of processes.
"""

from typing import Any

__all__ = ["load_whole", "mixed_precision", "whole_optimizer", "whole_weights"]


def mixed_precision(dtype: str) -> Any:
    """Multiply in ``dtype``, add gradients up in float32 as one process does; None: all float32."""
    if dtype == "float32":
        return None
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(param_dtype=getattr(torch, dtype), reduce_dtype=torch.float32)


def whole_weights(model: Any) -> dict[str, Any]:
    """Name -> weight in the host's memory; empty on all ranks but the first. Tied ones once."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if getattr(model.config, "tie_word_embeddings", False):
        for name in getattr(model, "all_tied_weights_keys", None) or {}:
            weights.pop(name, None)
    return weights


def whole_optimizer(model: Any, optimizer: Any) -> dict[str, Any]:
    """The optimiser's state by weights' names, likewise."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    inner = getattr(optimizer, "optimizer", optimizer)
    return get_optimizer_state_dict(model, inner, options=options)


def load_whole(model: Any, weights: dict[str, Any]) -> None:
    """Give every process its shards of whole weights, which all of them have read."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    # Not strict: tied weights are in the file once.
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(model, weights, options=options)
