"""Looks over the machine and the installation and says what to do: ``tunebench doctor``.

Nothing is imported to be checked: versions come from metadata, torch's CUDA build from its version
file, so a broken package cannot break the doctor, and an answer takes well under a second.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from engine.home import Home
from engine.system import surroundings
from engine.system.gpu import GpuState, read_gpus
from engine.system.versions import (
    package_folder,
    python_version,
    requirements,
    torch_cuda,
    version_of,
)

__all__ = ["Check", "checks"]


@dataclass(frozen=True)
class Check:
    """One finding. ``ok`` with an ``advice`` means: works, but could be better."""

    name: str
    ok: bool
    words: str
    """What was found, one sentence."""
    advice: str = ""
    """What to do about it; empty when there is nothing to do."""

    @property
    def mark(self) -> str:
        """ "ok", "note" (works, with advice) or "fail"."""
        return "fail" if not self.ok else "note" if self.advice else "ok"


def checks(home: Home, gpus: GpuState | None = None, full: bool = False) -> list[Check]:
    """Every check, in the order in which people read them. Never raises; about 0.1 s, and up to a
    second more for a large index.

    ``gpus``: a reading that is at hand already. ``full``: the index to its last page, and against
    the journals, as long as reading them all takes.
    """
    from engine.history import examine

    state = read_gpus() if gpus is None else gpus
    questions: list[tuple[str, Callable[[], list[Check]]]] = [
        ("python", lambda: [_python()]),
        ("packages", _packages),
        ("trl", lambda: _trl(state)),
        ("torch", lambda: [_torch(state)]),
        ("torchvision", _torchvision),
        ("bitsandbytes", lambda: [_bitsandbytes()]),
        ("unsloth", lambda: [_unsloth(state)]),
        ("gpu", lambda: [_gpu(state)]),
    ]
    store = examine.THOROUGH if full else examine.QUESTIONS
    for name, ask in {**surroundings.QUESTIONS, **store}.items():
        questions.append((name, partial(_around, name, ask, home)))
    found: list[Check] = []
    for name, question in questions:
        try:
            found += question()
        except Exception as error:  # a doctor that falls ill helps nobody
            found.append(Check(name, False, f"could not be checked: {error!r}"))
    return found


def _around(name: str, ask: surroundings.Question, home: Home) -> list[Check]:
    return [Check(name, *ask(home))]


def _python() -> Check:
    version = python_version()
    if tuple(map(int, version.split("."))) < (3, 11):
        return Check("python", False, f"Python {version}", "tunebench needs Python 3.11 or newer")
    return Check("python", True, f"Python {version} at {sys.executable}")


def _packages() -> list[Check]:
    """Our requirements against what is installed: one line when all fit, else one a misfit."""
    from packaging.requirements import InvalidRequirement, Requirement

    misfits, fitting = [], 0
    for line in requirements():
        try:
            need = Requirement(line)
        except InvalidRequirement:
            continue
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        version = version_of(need.name)
        fix = f"pip install '{need.name}{need.specifier}'"
        if version is None:
            misfits.append(Check(need.name, False, f"{need.name} is not installed", fix))
        elif not need.specifier.contains(version, prereleases=True):
            words = f"{need.name} {version} is installed, {need.specifier} is needed"
            misfits.append(Check(need.name, False, words, fix))
        else:
            fitting += 1
    if misfits:
        return misfits
    if not fitting:
        return [Check("packages", False, "tunebench's own requirements were not found",
                      "install it: pip install . in its folder")]  # fmt: skip
    return [Check("packages", True, f"all {fitting} required packages fit together")]


def _trl(gpus: GpuState) -> list[Check]:
    version = version_of("trl")
    if version is None or (torch_cuda() and gpus.available):
        return []
    if _release(version) >= (1, 15):
        words = f"trl {version} cannot train on a CPU: its loss kernel needs a CUDA driver"
        return [Check("trl", False, words, "pip install 'trl<1.15'")]
    return [Check("trl", True, f"trl {version} can train on a CPU")]


def _torch(gpus: GpuState) -> Check:
    version, cuda = version_of("torch"), torch_cuda()
    if version is None:
        return Check("torch", False, "torch is not installed", "pip install 'torch<2.14'")
    if cuda:
        return Check("torch", True, f"torch {version}, built for CUDA {cuda}")
    if gpus.available:
        return Check(
            "torch",
            False,
            f"torch {version} is a CPU build, but this machine has {len(gpus)} GPU(s)",
            "install a CUDA build: pip install --force-reinstall 'torch<2.14' "
            "--index-url https://download.pytorch.org/whl/cu130",
        )
    return Check("torch", True, f"torch {version}, a CPU build")


def _torchvision() -> list[Check]:
    version, torch = version_of("torchvision"), version_of("torch")
    if version is None:
        return [Check("torchvision", True, "torchvision is not installed, and not needed")]
    if torch is None:
        return []
    if torch_cuda() is None and "+cpu" not in version:
        return [
            Check(
                "torchvision",
                False,
                f"torchvision {version} beside a CPU-only torch: its operators do not load, and "
                "transformers then fails too",
                "pip uninstall torchvision (nothing here needs it)",
            )
        ]
    if torch_cuda() and "+cpu" in version:
        return [
            Check(
                "torchvision",
                False,
                f"torchvision {version} is a CPU build beside a CUDA torch",
                "pip uninstall torchvision, or install the build for the same CUDA",
            )
        ]
    return [Check("torchvision", True, f"torchvision {version} matches torch")]


def _bitsandbytes() -> Check:
    version, folder = version_of("bitsandbytes"), package_folder("bitsandbytes")
    if version is None or folder is None:
        return Check("bitsandbytes", False, "bitsandbytes is not installed: 4-bit loading and "
                     "8-bit AdamW are off", "pip install bitsandbytes")  # fmt: skip
    cuda = torch_cuda()
    wanted = f"cuda{cuda.replace('.', '')}" if cuda else "cpu"
    libraries = sorted(path.name for path in folder.glob("libbitsandbytes_*"))
    if not any(name.startswith(f"libbitsandbytes_{wanted}.") for name in libraries):
        same = wanted[:6]  # "cuda12": another minor version of the same CUDA may do
        if cuda is None or not any(same in name for name in libraries):
            words = f"bitsandbytes {version} has no library for {wanted}: 4-bit will not load"
            return Check("bitsandbytes", False, words, "pip install --upgrade bitsandbytes")
    return Check("bitsandbytes", True, f"bitsandbytes {version} with a library for {wanted}")


def _unsloth(gpus: GpuState) -> Check:
    version = version_of("unsloth")
    if version and gpus.available:
        return Check("unsloth", True, f"unsloth {version}: the fast backend on this GPU")
    if version:
        words = f"unsloth {version} is installed, but needs a GPU: the transformers backend is used"
        return Check("unsloth", True, words)
    if gpus.available:
        words = "unsloth is not installed: runs use the transformers backend"
        return Check("unsloth", True, words, "pip install '.[gpu]' for the faster backend")
    return Check("unsloth", True, "unsloth is not installed, and of no use without a GPU")


def _gpu(gpus: GpuState) -> Check:
    if not gpus.available:
        normal = "No NVIDIA driver" in gpus.reason
        return Check("gpu", normal or "sees no GPU" in gpus.reason, gpus.reason)
    names: dict[str, int] = {}
    for gpu in gpus:
        label = gpu.name
        if gpu.memory_total:
            label += f" ({gpu.memory_total / 2**30:.0f} GiB)"
        names[label] = names.get(label, 0) + 1
    listed = ", ".join(f"{count} x {name}" for name, count in names.items())
    return Check("gpu", True, f"{listed}; driver {gpus.driver or 'unknown'}")


def _release(version: str) -> tuple[int, ...]:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version).release
    except InvalidVersion:
        return ()
