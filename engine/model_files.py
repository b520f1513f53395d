"""Finds a file of a model: in its folder, the built-in one, or the hub's local cache."""

from pathlib import Path

from engine.builtin import model_path

__all__ = ["find_file"]


def find_file(name: str, file: str, revision: str = "") -> Path | None:
    """The file of a model's folder, or of a hub id in the cache; None when it is not there.

    Nothing is downloaded.
    """
    where = model_path(name)
    folder = Path(where).expanduser()
    try:
        if folder.is_dir():
            return folder / file if (folder / file).is_file() else None
    except OSError:  # a name longer than a file can have
        return None
    if where.count("/") > 1 or where.startswith((".", "~", "/")):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(where, file, revision=revision or None)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
