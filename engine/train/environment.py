"""Environment variables that must be set before torch and friends are imported."""

import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from engine.builtin import model_path
from engine.home import Home

__all__ = ["is_folder", "set_environment"]


COMPILED = {
    "UNSLOTH_COMPILE_LOCATION": "unsloth",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
"""Where libraries keep what they compile: the next start finds it in the home's cache."""


def is_folder(model: str) -> bool:
    """Whether ``model.model_name_or_path`` names a folder here, not a hub id."""
    return Path(model_path(model)).is_dir()


def set_environment(
    home: Home, model: str, *, hub_data: bool = False, report_to: Sequence[str] = ()
) -> None:
    """No statistics, no telemetry, no progress bars; no network unless something is on the hub.

    That is ``model`` when it is a hub id, or the data (``hub_data``).

    Unsloth fetches a statistics file at import, bitsandbytes asks a kernel hub, TRL
    reports its use.
    """
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1",
        DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        UNSLOTH_DISABLE_STATISTICS="1",
        # Padding-free batches are 2x to 3x slower where no variable-length attention kernel loads.
        UNSLOTH_DISABLE_AUTO_PADDING_FREE="1",
        TOKENIZERS_PARALLELISM="true",
        WANDB_SILENT="true",
    )
    if "wandb" not in report_to:
        os.environ["WANDB_DISABLED"] = "true"
    for name, place in COMPILED.items():
        os.environ.setdefault(name, str(home.path / "cache" / place))
    _keep_bytecode(home)
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # Threads that spin while they wait take the CPU from those they wait for: beside three busy
    # processes on two cores a step took 212 to 356 ms, with this 51 to 72 ms; alone 28 and 30 ms.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not hub_data and (not model or is_folder(model)):
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _keep_bytecode(home: Home) -> None:
    """Keep compiled Python under the home, where none is kept beside the libraries.

    Images often forbid it (``PYTHONDONTWRITEBYTECODE``) or own the libraries' folders, and some
    installers compile nothing. Importing torch and Transformers took 14 s then instead of 4.7 s, at
    every start; what is kept are 110 MB.
    """
    if sys.pycache_prefix or all(map(_kept_beside, ("torch", "transformers", "trl"))):
        return
    sys.pycache_prefix = str(home.path / "cache" / "python")
    sys.dont_write_bytecode = False


def _kept_beside(library: str) -> bool:
    """Whether compiled files are beside a library's source, or will be once it is imported."""
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        return True
    if Path(importlib.util.cache_from_source(spec.origin)).is_file():
        return True
    return not sys.dont_write_bytecode and os.access(Path(spec.origin).parent, os.W_OK)
