"""Writes weights whole or not at all, and says in words when the disk is full."""

import errno
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["load_weights", "save_weights", "trained_bytes", "write_whole"]


@contextmanager
def _disk_errors(folder: Path, needed: int, what: str) -> Any:
    """Turns whatever a library raises on a full disk into one OSError(ENOSPC) with figures."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(folder).free
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        # safetensors and torch.save raise errors of their own, torch's without the reason.
        if full or "os error 28" in str(error) or "No space left" in str(error) or free < needed:
            raise disk_full(folder, needed, free, what) from error
        raise


def disk_full(folder: Path, needed: int, free: int, what: str) -> OSError:
    return OSError(
        errno.ENOSPC,
        f"no space left for {what}: it needs about {needed:,} bytes, {free:,} are free",
        str(folder),
    )


def write_whole(
    temporary: Path,
    write: Callable[[Path], None],
    publish: Callable[[Path], int],
    needed: int,
    what: str,
) -> int:
    """Let ``write`` fill ``temporary``, then ``publish`` it; on any failure nothing is left behind.

    Returns what ``publish`` returns: the bytes written. ``needed`` is the expected size in bytes.
    Raises OSError (ENOSPC) naming folder and bytes when the disk is or gets full.
    """
    parent = temporary.parent
    # Not its parents: a run whose folder was removed must not leave a new one behind.
    parent.mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise disk_full(parent, needed, free, what)
    try:
        with _disk_errors(parent, needed, what):
            temporary.mkdir(mode=0o700)
            write(temporary)
            return publish(temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_weights(model: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """A PEFT model's adapter, or a whole model; safetensors, with its configuration.

    ``weights``: what to write when the model itself holds a part of each only.
    """
    if hasattr(model, "peft_config"):
        # False: else PEFT asks the hub whether the base's vocabulary has another size.
        model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(str(folder), state_dict=weights)


def load_weights(model: Any, folder: Path) -> None:
    """Put the weights that :func:`save_weights` wrote into a model of the same make."""
    from safetensors.torch import load_file

    if hasattr(model, "peft_config"):
        from peft.utils import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
        return
    for file in sorted(folder.glob("*.safetensors")):
        model.load_state_dict(load_file(str(file)), strict=False)


def trained_bytes(model: Any, optimizer: Any) -> int:
    """Bytes of the trained weights and of the optimiser's state: what a checkpoint weighs."""
    size = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    state = getattr(optimizer, "state", None) or {}
    for values in state.values():
        for value in values.values():
            if hasattr(value, "element_size"):
                size += value.numel() * value.element_size()
    return size
