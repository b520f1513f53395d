"""Which packages are installed, from their metadata alone: importing torch costs seconds."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

__all__ = [
    "PACKAGES",
    "python_version",
    "read_versions",
    "requirements",
    "torch_cuda",
    "version_of",
]

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "bitsandbytes",
    "unsloth",
    "torchvision",
    "triton",
    "textual",
    "pyarrow",
    "numpy",
    "nvidia-ml-py",
)
"""What decides how a run behaves, in the order in which it is shown."""


def version_of(package: str) -> str | None:
    """The installed version, or None. Never raises."""
    try:
        return metadata.version(package)
    except Exception:
        return None


def read_versions() -> dict[str, str | None]:
    """Version of every package of :data:`PACKAGES`; None: not installed. About 10 ms."""
    return {package: version_of(package) for package in PACKAGES}


def python_version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def package_folder(package: str) -> Path | None:
    """Where the package's modules lie, found without importing it."""
    try:
        folder = Path(str(metadata.distribution(package).locate_file(package)))
    except Exception:
        return None
    return folder if folder.is_dir() else None


def torch_cuda() -> str | None:
    """CUDA version that the installed torch is built for; None: a CPU build, or no torch."""
    folder = package_folder("torch")
    try:
        text = (folder / "version.py").read_text("utf-8") if folder else ""
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(r"^cuda\b[^=\n]*=\s*(.+)$", text, re.MULTILINE)
    try:
        value = ast.literal_eval(match.group(1).strip()) if match else None
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str) else None


def requirements() -> list[str]:
    """Our own requirement lines ("trl>=1.14,<1.15"): of the installed package, else pyproject's.

    Those of extras are left out. Empty when neither is there.
    """
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        import tomllib

        try:
            return tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]
        except (OSError, ValueError, KeyError):
            return []
    try:
        listed = metadata.requires("tunebench") or []
    except metadata.PackageNotFoundError:
        return []
    return [line for line in listed if "extra ==" not in line]
