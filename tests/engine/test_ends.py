"""What ended a run: its kind, its figures, and what to do next."""

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import Diverged, UserError
from engine.jobs import ends, out_of_memory
from engine.jobs.host_memory import OomKills, read_oom_kills
from engine.jobs.suggestions import settings_words, suggest
from engine.recipe import Recipe, load_recipe
from engine.system.gpu import Gpu, GpuProcess, GpuState
from engine.system.xid import HARDWARE, Evidence, find_xids

MIB, GIB = 1 << 20, 1 << 30


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def linked(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause
    except BaseException as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (UserError("data.source: nothing there"), "user", "data.source"),
        (Diverged("diverged", step=3, loss=9.0), "nan", "diverged"),
        (MemoryError(), "out_of_memory", "MemoryError"),
        (OutOfMemoryError("CUDA out of memory."), "out_of_memory", "CUDA"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory", ""),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            "out_of_memory",
            "cublasCreate",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 64 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "out_of_memory",
            "",
        ),
        (RuntimeError("NCCL error: Cuda failure 'out of memory'"), "out_of_memory", ""),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory", ""),
        (linked(RuntimeError("it failed"), MemoryError("deep")), "out_of_memory", "it failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full", ""),
        (RuntimeError("PytorchStreamWriter failed: file write failed"), "disk_full", ""),
        (Exception("I/O error: No space left on device (os error 28)"), "disk_full", ""),
        (OSError(errno.EROFS, "Read-only file system"), "read_only", "mount it for writing"),
        (Exception("Read-only file system (os error 30)"), "read_only", ""),
        (RuntimeError("CUDA error: unspecified launch failure"), "gpu_lost", "nvidia-smi"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "gpu_lost", "ECC"),
        (RuntimeError("Unable to determine the device handle: GPU is lost"), "gpu_lost", ""),
        (
            RuntimeError("CUDA error: device-side assert triggered"),
            "crash",
            "beyond the vocabulary",
        ),
        (RuntimeError("boom"), "crash", "RuntimeError: boom"),
        (SystemExit(3), "crash", r"exit(3)"),
    ],
)
def test_every_end_has_its_kind(error: BaseException, kind: str, words: str) -> None:
    found, line, _ = ends.classify(error)
    assert found == kind and words in line and "\n" not in line


def test_what_was_handled_before_does_not_decide() -> None:
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise RuntimeError("boom") from None
    except RuntimeError as error:
        assert ends.classify(error)[0] == "crash"


def test_a_removed_folder_is_what_it_is(tmp_path: Path) -> None:
    kind, line, _ = ends.classify(FileNotFoundError(2, "No such file"), tmp_path / "gone")
    assert kind == "crash" and line.endswith("the run's folder was removed while it ran")


def test_a_driver_that_reports_broken_hardware_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert ends.classify(error)[0] == "crash"
    monkeypatch.setattr(ends, "gpu_evidence", lambda: Evidence(True, "Xid 79 on PCI:0000:19:00"))
    kind, line, _ = ends.classify(error)
    assert kind == "gpu_lost" and "Xid 79" in line


def test_xids_of_a_kernel_log() -> None:
    log = (
        "[   10.000001] NVRM: Xid (PCI:0000:19:00): 79, pid=1, GPU has fallen off the bus.\n"
        "[  500.250000] NVRM: Xid (PCI:0000:19:00): 13, pid=77, Graphics Exception\n"
        "[  600.250000] host kernel: NVRM: Xid (PCI:0000:19:00): 94, Contained ECC\n"
        "[  601.000000] usb 1-1: new device\n"
    )
    found = find_xids(log, 100.0)
    assert [number for number, _ in found] == [13, 94]
    assert found[1][1] == "Xid 94 on PCI:0000:19:00: Contained ECC"
    assert 94 in HARDWARE and 13 not in HARDWARE


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["Error out of memory at line 380 in file /src/csrc/ops.cu"], "out_of_memory"),
        (["terminate called after ...", "  what():  CUDA error: unspecified launch failure"],
         "gpu_lost"),
        (["a note on how to avoid an out of memory", "bye"], None),
        ([], None),
    ],
)  # fmt: skip
def test_last_lines_of_a_log(lines: list[str], kind: str | None) -> None:
    found = ends.classify_log(lines)
    assert (found and found[0]) == kind


TORCH = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.19 GiB of "
    "which 11.50 GiB is free. Process 4242 has 30.00 GiB memory in use. Including non-PyTorch "
    "memory, this process has 37.19 GiB memory in use. Of the allocated memory 35.00 GiB is "
    "allocated by PyTorch, and 1.69 GiB is reserved by PyTorch but unallocated. If reserved but "
    "unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
)


def test_figures_of_torch() -> None:
    assert out_of_memory.parse(TORCH) == {
        "needed_bytes": 20 * GIB,
        "total_bytes": round(79.19 * GIB),
        "free_bytes": round(11.5 * GIB),
        "used_bytes": round(37.19 * GIB),
        "allocated_bytes": 35 * GIB,
        "cached_bytes": round(1.69 * GIB),
        "processes": [{"pid": 4242, "bytes": 30 * GIB}],
    }


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456 bytes.", 123456),
        ("Unable to allocate 7.45 GiB for an array with shape (1000000000,)", round(7.45 * GIB)),
        ("malloc of size 640 failed", 640),
        ("nothing of the kind", None),
    ],
)
def test_figures_of_the_host(text: str, needed: int | None) -> None:
    assert out_of_memory.parse(text).get("needed_bytes") == needed


def test_the_event_of_a_gpu() -> None:
    error = OutOfMemoryError(TORCH)
    event = out_of_memory.read(error, error, "")
    assert event["during"] == "training" and event["device"] == "cuda"
    assert event["others_bytes"] == pytest.approx(30.5 * GIB, abs=2)
    assert out_of_memory.message(event) == (
        "out of memory in training, 20.0 GiB more asked of the GPU, 11.5 GiB free of 79.2 GiB, "
        "8.5 GiB missing"
    )


def test_a_limit_on_this_process_counts_as_what_is_free() -> None:
    text = TORCH.replace("11.50 GiB is free.", "11.50 GiB is free. 40.00 GiB allowed;")
    error = OutOfMemoryError(text)
    event = out_of_memory.read(error, error, "")
    assert event["free_bytes"] == pytest.approx((40 - 37.19) * GIB, abs=2)


def test_the_event_of_the_host() -> None:
    error = MemoryError()
    event = out_of_memory.read(error, error, "tokenising")
    assert (event["device"], event["during"], event["needed_bytes"]) == ("host", "tokenising", None)
    assert 0 < event["used_bytes"] < event["total_bytes"]


def split_loss() -> None:
    raise MemoryError


def training_step() -> None:
    raise MemoryError


def measure() -> None:
    split_loss()


@pytest.mark.parametrize(
    ("run", "phase", "during"),
    [
        (measure, "", "evaluation"),
        (training_step, "", "training"),
        (lambda: [][0], "loading the model", "loading the model"),
        (lambda: [][0], "test loss before training: 3 of 9 batches", "evaluation"),
        (lambda: [][0], "", "training"),
    ],
)
def test_where_it_happened(run: Any, phase: str, during: str) -> None:
    with pytest.raises((MemoryError, IndexError)) as caught:
        run()
    assert out_of_memory.during(caught.value, phase) == during


BATCH, ACCUMULATION = "train.per_device_train_batch_size", "train.gradient_accumulation_steps"
EVAL, LENGTH = "train.per_device_eval_batch_size", "train.max_length"
CHECKPOINTING, FOUR_BITS = "train.gradient_checkpointing", "model.load_in_4bit"
ONE = {BATCH: 1, ACCUMULATION: 1}
CHECKPOINTED = {**ONE, CHECKPOINTING: True}


def gpu(needed: float, free: float, allocated: float = 60, **more: float) -> dict[str, Any]:
    """An event; sizes in GiB on a GPU of 80."""
    sizes = {"needed": needed, "free": free, "allocated": allocated, "total": 80, **more}
    return {"device": "cuda", **{f"{key}_bytes": int(size * GIB) for key, size in sizes.items()}}


@pytest.mark.parametrize(
    ("settings", "during", "event", "expected"),
    [
        # Halving the batch suffices: the least change.
        ({}, "training", gpu(2, 0.5), {BATCH: 16, ACCUMULATION: 2}),
        ({}, "training", {}, {BATCH: 16, ACCUMULATION: 2}),
        ({ACCUMULATION: 4}, "training", gpu(2, 0.5), {BATCH: 16, ACCUMULATION: 8}),
        # Odd batches: the effective batch stays.
        ({BATCH: 9}, "training", gpu(2, 0.5), {BATCH: 3, ACCUMULATION: 3}),
        ({BATCH: 7}, "training", gpu(2, 0.5), {BATCH: 1, ACCUMULATION: 7}),
        ({BATCH: 5, ACCUMULATION: 2}, "training", gpu(2, 0.5), {BATCH: 2, ACCUMULATION: 5}),
        # Much more was asked for than half would free.
        ({}, "training", gpu(100, 20, 60), {BATCH: 8, ACCUMULATION: 4}),
        ({}, "training", gpu(30, 2, 70, held=60), {BATCH: 8, ACCUMULATION: 4}),
        # No batch is small enough: the activations of one row are made smaller too.
        ({BATCH: 4}, "training", gpu(300, 2, 70, held=60),
         {BATCH: 1, ACCUMULATION: 4, CHECKPOINTING: True}),
        # One row at a time already.
        (ONE, "training", gpu(2, 0.5), {CHECKPOINTING: True}),
        (CHECKPOINTED, "training", gpu(2, 0.5), {LENGTH: 48}),
        ({**CHECKPOINTED, LENGTH: 9}, "training", gpu(2, 0.5), {LENGTH: 8}),
        ({**CHECKPOINTED, LENGTH: 8}, "training", gpu(2, 0.5), {FOUR_BITS: True}),
        ({**CHECKPOINTED, LENGTH: 8, FOUR_BITS: True}, "training", gpu(2, 0.5), None),
        ({**CHECKPOINTED, LENGTH: 8, "lora.enabled": False}, "training", gpu(2, 0.5), None),
        # The weights alone fill the GPU: no batch helps.
        ({}, "training", gpu(2, 0.1, 79, held=79), {FOUR_BITS: True}),
        ({}, "evaluation", gpu(2, 0.5), {EVAL: 16}),
        ({EVAL: 7}, "evaluation", gpu(2, 0.5), {EVAL: 3}),
        ({EVAL: 64}, "evaluation", gpu(100, 10, 60, held=50), {EVAL: 8}),
        ({EVAL: 1}, "evaluation", gpu(2, 0.5), {FOUR_BITS: True}),
        ({EVAL: 1, FOUR_BITS: True}, "evaluation", gpu(2, 0.5), {LENGTH: 48}),
        ({}, "generation", gpu(2, 0.5), {"evaluate.sample_max_new_tokens": 32}),
        ({"evaluate.sample_max_new_tokens": 16}, "generation", gpu(2, 0.5),
         {"evaluate.sample_prompts": [], "evaluate.sample_rows": 0}),
        ({}, "loading the model", gpu(2, 0.5), {FOUR_BITS: True}),
        ({FOUR_BITS: True}, "loading the model", gpu(2, 0.5), {}),
        ({}, "tokenising", {"device": "host"}, None),
        ({}, "training", {"device": "host", "trains_on": "cpu"}, {BATCH: 16, ACCUMULATION: 2}),
        ({}, "training", {"device": "host", "trains_on": "cuda:0"}, None),
    ],
)  # fmt: skip
def test_suggestions(
    settings: dict[str, Any], during: str, event: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    recipe = load_recipe("demo", settings_words(settings).replace("--set ", "").split())
    found = suggest(recipe, {"during": during, **event})
    assert (found and found.settings) == expected
    if found and found.settings:
        made = recipe.with_settings(settings_words(found.settings).replace("--set ", "").split())
        before, after = recipe.train, made.train
        assert (
            before.per_device_train_batch_size * before.gradient_accumulation_steps
            == after.per_device_train_batch_size * after.gradient_accumulation_steps
        )


def test_an_estimate_finds_the_batch_at_once() -> None:
    """Figures of a GPU with 8 GiB to spare; what was in use tells of the first rows only."""
    event = {
        "during": "training",
        "needed_bytes": 486539264,
        "free_bytes": 301528515,
        "total_bytes": 150109106995,
        "used_bytes": 8278549463,
        "others_bytes": 141529029017,
        "allocated_bytes": 7473243095,
        "cached_bytes": 93522493,
        "held_bytes": 2550986752,
    }
    recipe = load_recipe("demo", [f"{BATCH}=64"])

    def peak(variant: Recipe) -> int:
        train = variant.train
        row = 1_330_000_000 // (10 if train.gradient_checkpointing else 1)
        return 2_550_000_000 + row * train.per_device_train_batch_size

    blind, seeing = suggest(recipe, event), suggest(recipe, event, peak)
    assert blind and blind.settings == {BATCH: 32, ACCUMULATION: 2}
    assert seeing and seeing.settings == {BATCH: 2, ACCUMULATION: 32}
    none_fits = suggest(recipe, event, lambda variant: 10 * peak(variant))
    assert none_fits and none_fits.settings[BATCH] == 1
    assert none_fits.settings["train.gradient_checkpointing"] is True


def test_others_on_the_gpu_are_named_first() -> None:
    event = {
        "during": "training",
        **gpu(2, 0.5, 20, others=50),
        "processes": [{"pid": 77, "name": "python", "bytes": 49 * GIB}],
    }
    found = suggest(load_recipe("demo"), event)
    assert found is not None
    assert found.words.startswith(
        "other work holds 50.0 GiB of this GPU (pid 77 python, 49.0 GiB): wait until it is gone"
    )
    assert found.settings == {BATCH: 16, ACCUMULATION: 2}
    loading = suggest(
        load_recipe("demo", [f"{FOUR_BITS}=true", "train.max_length=8"]),
        {**event, "during": "training", "others_bytes": 100 * MIB},
    )
    assert loading is not None and not loading.words.startswith("other work")


def test_kernel_counters_of_both_kinds_of_cgroups(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "vmstat").write_text("pgfault 7\noom_kill 5\n")
    assert read_oom_kills("self", proc, cgroups) == OomKills(None, 5)
    new = cgroups / "user.slice" / "a:b"
    new.mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/user.slice/a:b\n")
    assert read_oom_kills("self", proc, cgroups) == OomKills(None, 5)
    (new / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n")
    assert read_oom_kills("self", proc, cgroups) == OomKills(2, 5)
    old = cgroups / "memory" / "box"
    old.mkdir(parents=True)
    (old / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    (proc / "self" / "cgroup").write_text("4:memory:/box\n1:cpu,cpuacct:/\n0::/\n")
    assert read_oom_kills("self", proc, cgroups) == OomKills(3, 5)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (OomKills(1, 4), OomKills(2, 5), True),
        (OomKills(1, 4), OomKills(1, 5), False),  # somebody else's
        (OomKills(None, 4), OomKills(None, 5), True),
        (OomKills(None, 4), OomKills(None, 4), False),
        (OomKills(None, None), OomKills(None, None), None),
    ],
)
def test_counters_before_and_after(before: OomKills, after: OomKills, expected: bool) -> None:
    assert after.since(before) is expected


def test_the_real_counters_can_be_read() -> None:
    found = read_oom_kills(os.getpid())
    assert found == read_oom_kills() and (found.machine is None or found.machine >= 0)


class Tensor:
    """Something that a step makes; ``alive`` counts those that are still held."""

    alive = 0

    def __init__(self) -> None:
        Tensor.alive += 1

    def __del__(self) -> None:
        Tensor.alive -= 1


class Cuda:
    """What torch.cuda tells of a GPU of 80 GiB with one GiB a tensor."""

    is_available = is_initialized = staticmethod(lambda: True)
    current_device = staticmethod(lambda: 0)
    memory_allocated = staticmethod(lambda device: Tensor.alive * GIB)
    memory_reserved = staticmethod(lambda device: 60 * GIB)
    max_memory_reserved = staticmethod(lambda device: 61 * GIB)
    mem_get_info = staticmethod(lambda device: (5 * GIB, 80 * GIB))
    get_device_properties = staticmethod(lambda device: SimpleNamespace(uuid="abc"))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda))
    others = (GpuProcess(os.getpid(), "python", 61 * GIB), GpuProcess(77, "other", 14 * GIB))
    gpus = (Gpu(0, "GPU-xyz", "A"), Gpu(1, "GPU-abc", "B", processes=others))
    monkeypatch.setattr("engine.system.gpu.read_gpus", lambda: GpuState(True, gpus=gpus))


def test_what_stays_whatever_the_batch_is_measured(cuda: None) -> None:
    """The step's tensors go, those of the frames around it stay."""

    def forward() -> None:
        activations = [Tensor() for _ in range(30)]
        try:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has")
        except OutOfMemoryError as error:
            raise RuntimeError(f"in a layer of {len(activations)}") from error

    def training_step() -> None:
        inputs = [Tensor(), Tensor()]
        forward()
        del inputs

    def train() -> BaseException:
        weights = [Tensor() for _ in range(4)]
        try:
            training_step()
        except RuntimeError as error:
            kind, _, link = ends.classify(error)
            assert kind == "out_of_memory" and Tensor.alive == 36
            event = out_of_memory.read(error, link, "")
            assert len(weights) == 4
            expected = {"allocated": 36, "held": 4, "needed": 9, "free": 5, "used": 60}
            for name, size in {**expected, "total": 80, "cached": 24, "others": 15}.items():
                assert event[f"{name}_bytes"] == size * GIB, name
            assert event["processes"] == [{"pid": 77, "name": "other", "bytes": 14 * GIB}]
            assert (event["during"], event["device"]) == ("training", "cuda")
        return link

    train()


def test_a_gpu_that_does_not_answer_leaves_the_figures_of_the_text(
    cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: int) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(Cuda, "mem_get_info", staticmethod(refuse))
    error = OutOfMemoryError(TORCH)
    event = out_of_memory.read(error, error, "loading the model")
    assert event["needed_bytes"] == 20 * GIB and event["during"] == "loading the model"
