"""GPU readings on a fake driver, host readings, and the doctor's findings."""

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine import cli
from engine.home import Home, home_at
from engine.system import doctor, gpu, gpu_health, host, surroundings, versions
from engine.system.forecast import DiskForecast
from engine.system.gpu_health import GpuHealth, throttle_words

Memory = namedtuple("Memory", "total used free")
Rates = namedtuple("Rates", "gpu memory")
Process = namedtuple("Process", "pid usedGpuMemory")
Field = namedtuple("Field", "nvmlReturn value")
Value = namedtuple("Value", "ullVal")


class NVMLError(Exception):
    """Stands for pynvml's errors, whose class names gpu.py goes by."""


class FakeNvml(ModuleType):
    """pynvml with two cards; ``broken`` names the questions that fail, with their error."""

    nvmlMemory_v2 = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, count: int = 2) -> None:
        super().__init__("pynvml")
        self.count = count
        self.broken: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.processes = [Process(4242, 13 * 2**30), Process(77, None)]

    def _answer(self, question: str, value: Any) -> Any:
        self.calls.append(question)
        if question in self.broken:
            raise self.broken[question]
        return value

    def __getattr__(self, question: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": b"570.1",
            "nvmlDeviceGetCount": self.count,
            "nvmlDeviceGetName": b"NVIDIA H200",
            "nvmlDeviceGetUtilizationRates": Rates(87, 40),
            "nvmlDeviceGetPowerUsage": 412_500,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetCudaComputeCapability": [9, 0],
            "nvmlDeviceGetTotalEccErrors": 0,
            "nvmlDeviceGetComputeRunningProcesses": self.processes,
            "nvmlDeviceGetGraphicsRunningProcesses": [],
        }
        if question.startswith("nvml") and question in answers:
            return lambda *_: self._answer(question, answers[question])
        raise AttributeError(question)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return self._answer("nvmlDeviceGetHandleByIndex", index)

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return self._answer("nvmlDeviceGetUUID", f"GPU-{handle:04d}")

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int = 1) -> Memory:
        reserved = 0 if version == 2 else 2**30
        return self._answer(
            f"nvmlDeviceGetMemoryInfo{version}",
            Memory(140 * 2**30, 14 * 2**30 + reserved, 126 * 2**30 - reserved),
        )

    def nvmlDeviceGetClockInfo(self, handle: int, which: int) -> int:
        return self._answer("nvmlDeviceGetClockInfo", {1: 1755, 2: 3201}[which])

    def nvmlDeviceGetPcieThroughput(self, handle: int, direction: int) -> int:
        return self._answer("nvmlDeviceGetPcieThroughput", {0: 2, 1: 1}[direction])

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        return self._answer("nvmlSystemGetProcessName", f"/usr/bin/python{pid} -m x")


def error(name: str, words: str = "it broke") -> Exception:
    return type(name, (NVMLError,), {})(words)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(gpu, "_started", False)
    return fake


def test_readings_of_two_cards(nvml: FakeNvml) -> None:
    state = gpu.read_gpus()
    assert state.available and len(state) == 2 and state.driver == "570.1" and not state.reason
    first, second = state
    assert (first.uuid, second.uuid) == ("GPU-0000", "GPU-0001")
    assert first.name == "NVIDIA H200"
    assert first.memory_used == 14 * 2**30, "as nvidia-smi counts: without the driver's reserve"
    assert (first.utilisation, first.temperature) == (87, 61)
    assert (first.power, first.power_limit) == (412.5, 700.0)
    assert first.processes is not None
    assert [(p.pid, p.name, p.memory) for p in first.processes] == [
        (4242, "python4242", 13 * 2**30),
        (77, "python77", None),
    ]


def test_driver_is_initialised_once(nvml: FakeNvml) -> None:
    gpu.read_gpus()
    gpu.read_gpus()
    assert nvml.calls.count("nvmlInit") == 1


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilisation"),
        ("nvmlDeviceGetPowerUsage", "power"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit"),
        ("nvmlDeviceGetTemperature", "temperature"),
    ],
)
def test_one_failing_reading_spoils_no_other(nvml: FakeNvml, question: str, field: str) -> None:
    nvml.broken[question] = error("NVMLError_NotSupported")
    card = gpu.read_gpus().gpus[0]
    assert getattr(card, field) is None
    others = {"utilisation", "power", "power_limit", "temperature", "memory_total"} - {field}
    assert all(getattr(card, other) is not None for other in others)


def test_compute_capability(nvml: FakeNvml) -> None:
    assert gpu.read_gpus().gpus[0].capability == (9, 0)
    nvml.broken["nvmlDeviceGetCudaComputeCapability"] = error("NVMLError_NotSupported")
    assert gpu.read_gpus().gpus[0].capability is None


def test_old_driver_without_the_second_memory_reading(nvml: FakeNvml) -> None:
    nvml.broken["nvmlDeviceGetMemoryInfo2"] = error("NVMLError_FunctionNotFound")
    assert gpu.read_gpus().gpus[0].memory_used == 15 * 2**30
    nvml.broken["nvmlDeviceGetMemoryInfo1"] = error("NVMLError_NotSupported")
    assert gpu.read_gpus().gpus[0].memory_total is None


def test_processes_that_are_not_told(nvml: FakeNvml) -> None:
    nvml.broken["nvmlDeviceGetComputeRunningProcesses"] = error("NVMLError_NoPermission")
    nvml.broken["nvmlDeviceGetGraphicsRunningProcesses"] = error("NVMLError_NoPermission")
    assert gpu.read_gpus().gpus[0].processes is None


def test_no_memory_of_a_process_stays_unknown_with_both_lists(nvml: FakeNvml) -> None:
    nvml.processes = [Process(1, None), Process(1, 5)]
    processes = gpu.read_gpus().gpus[0].processes
    assert processes is not None and [(p.pid, p.memory) for p in processes] == [(1, 5)]


def test_what_holds_a_card_back_is_asked_for_only_where_wanted(nvml: FakeNvml) -> None:
    assert gpu.read_gpus().gpus[0].health is None
    assert "nvmlDeviceGetPcieThroughput" not in nvml.calls, "it takes 20 ms"
    health = gpu.read_gpus(health=True).gpus[0].health
    assert health == GpuHealth(1755, 1980, 3201, "power limit", 2048, 1024, 0)


def test_a_card_that_tells_little(nvml: FakeNvml) -> None:
    for question in ("CurrentClocksEventReasons", "CurrentClocksThrottleReasons", "ClockInfo",
                     "MaxClockInfo", "PcieThroughput", "TotalEccErrors"):  # fmt: skip
        nvml.broken[f"nvmlDeviceGet{question}"] = error("NVMLError_NotSupported")
    assert gpu.read_gpus(health=True).gpus[0].health == GpuHealth()


def test_a_driver_that_knows_the_older_name(nvml: FakeNvml) -> None:
    nvml.broken["nvmlDeviceGetCurrentClocksEventReasons"] = error("NVMLError_FunctionNotFound")
    health = gpu.read_gpus(health=True).gpus[0].health
    assert health is not None and health.throttled == "too hot"


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0, ""),
        (0x1, ""),
        (0x2 | 0x100, ""),
        (0x4, "power limit"),
        (0x48, "too hot"),
        (0x8, "hardware slowdown"),
        (0x24, "near its heat limit, power limit"),
        (0x1000, "reason 0x1000"),
    ],
)
def test_why_the_clocks_are_down(reasons: int, words: str) -> None:
    assert throttle_words(reasons) == words


def test_when_the_disk_is_full() -> None:
    disk, total = DiskForecast(), 100 * 2**30
    assert disk.full_in(total) is None
    for second in range(0, 60, 2):
        disk.add(float(second), total - second * 2**20)
        assert disk.full_in(total) is None, "too short to say"
    for second in range(60, 121, 2):
        disk.add(float(second), total - second * 2**20)
    assert disk.full_in(total) == pytest.approx(100 * 1024 - 120)
    disk.add(122.0, total)
    assert disk.full_in(total) is None, "files were deleted: it begins anew"
    for second in range(124, 4000, 2):
        disk.add(float(second), total)
    assert disk.full_in(total) is None
    assert len(disk.readings) < 500


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NVMLError_LibraryNotFound", "No NVIDIA driver"),
        ("NVMLError_DriverNotLoaded", "kernel module is not"),
        ("NVMLError_LibRmVersionMismatch", "restart the machine"),
        ("NVMLError_NoPermission", "/dev/nvidia"),
        ("NVMLError_SomethingNew", "does not answer: it broke"),
    ],
)
def test_states_without_a_gpu_are_one_sentence(nvml: FakeNvml, name: str, words: str) -> None:
    nvml.broken["nvmlInit"] = error(name)
    state = gpu.read_gpus()
    assert not state.available and not len(state)
    assert words in state.reason and "\n" not in state.reason
    nvml.broken.clear()
    assert gpu.read_gpus().available, "a driver that comes back is found"


def test_a_driver_without_a_card(nvml: FakeNvml) -> None:
    nvml.count = 0
    state = gpu.read_gpus()
    assert state.reason == "The NVIDIA driver 570.1 runs, but sees no GPU."


def test_a_driver_that_dies_later(nvml: FakeNvml) -> None:
    assert gpu.read_gpus().available
    nvml.broken["nvmlDeviceGetCount"] = error("NVMLError_Uninitialized")
    assert not gpu.read_gpus().available
    assert "nvmlShutdown" in nvml.calls
    nvml.broken.clear()
    assert gpu.read_gpus().available


def test_a_lost_card_does_not_hide_the_others(nvml: FakeNvml) -> None:
    lost = iter([error("NVMLError_GpuIsLost"), None])
    handle = nvml.nvmlDeviceGetHandleByIndex

    def sometimes(index: int) -> int:
        if problem := next(lost):
            raise problem
        return handle(index)

    nvml.nvmlDeviceGetHandleByIndex = sometimes  # type: ignore[method-assign]
    state = gpu.read_gpus()
    assert [card.index for card in state] == [1] and state.lost == (0,)


def test_a_card_that_may_be_cut_up_and_is_not(nvml: FakeNvml) -> None:
    nvml.nvmlDeviceGetMigMode = lambda handle: (handle == 1, 0)  # type: ignore[attr-defined]
    first, second = gpu.read_gpus()
    assert (first.mig, second.mig) == (False, True) and not second.parts


def test_traffic_over_nvlink_is_counted_between_two_readings(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, counters = iter([10.0, 12.0, 14.0]), iter([(0, 0, 0), (0, 4096, 1024), (3, 0, 0)])
    monkeypatch.setattr(gpu_health, "_links", {})
    monkeypatch.setattr(gpu_health.time, "monotonic", lambda: next(clock))

    def values(handle: int, fields: list[tuple[int, int]]) -> list[Any]:
        assert [field for field, _ in fields] == [138, 139]
        failed, *counts = next(counters)
        return [Field(failed, Value(count)) for count in counts]

    nvml.count = 1
    nvml.nvmlDeviceGetFieldValues = values  # type: ignore[attr-defined]

    def read() -> tuple[int | None, int | None]:
        health = gpu.read_gpus(health=True).gpus[0].health
        assert health is not None
        return health.nvlink_sent, health.nvlink_received

    assert read() == (None, None), "the first one has nothing to count from"
    assert read() == (2048 * 1024, 512 * 1024)
    assert read() == (None, None), "a card without links"


def test_host_readings(tmp_path: Path) -> None:
    found = host.read_host(tmp_path / "not" / "there")
    assert 0 < found.memory_used < found.memory_total
    assert found.cpu_count >= 1 and found.disk_path == str(tmp_path)
    assert found.disk_free is not None and found.disk_total is not None
    assert 0 < found.disk_free <= found.disk_total


def test_container_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    monkeypatch.setattr(host, "CGROUP", tmp_path)
    found = host.read_host(tmp_path)
    assert (found.memory_total, found.memory_used, found.limited) == (1_000_000, 500_000, True)
    (tmp_path / "memory.max").write_text("max\n")
    assert not host.read_host(tmp_path).limited


def test_our_processes_are_found_by_their_command_line(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20261122-abc"
    script = (
        "import subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "
        "print(child.pid, flush=True); input(); child.communicate(b'x')"
    )
    command = [sys.executable, "-c", script, "-m", "engine.jobs.worker", str(run)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        child = int(worker.stdout.readline())
        found = {process.pid: process for process in host.our_processes()}
        worker.stdin.write("\n")
    assert (found[worker.pid].kind, found[worker.pid].run) == ("worker", "20261122-abc")
    assert (found[child].kind, found[child].run) == ("child", "20261122-abc")
    assert found[worker.pid].memory > 0


def test_versions_come_from_metadata() -> None:
    found = versions.read_versions()
    assert found["textual"] and list(found) == list(versions.PACKAGES)
    assert versions.version_of("no-such-package-at-all") is None
    assert any(line.startswith("trl>=") for line in versions.requirements())


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"),
        ("cuda = '12.8'\n", "12.8"),
        ("cuda: Optional[str] = None\n", None),
        ("__all__ = ['cuda']\n", None),
        ("cuda = open('/etc/passwd')\n", None),
    ],
)
def test_cuda_build_of_torch(
    text: str, cuda: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(text)
    monkeypatch.setattr(versions, "package_folder", lambda _: tmp_path)
    assert versions.torch_cuda() == cuda


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """A made-up set of installed packages; "cuda" is torch's build."""
    found: dict[str, str | None] = {"torch": "2.13.0+cpu", "trl": "1.14.2", "cuda": None}
    monkeypatch.setattr(doctor, "version_of", found.get)
    monkeypatch.setattr(doctor, "torch_cuda", lambda: found["cuda"])
    monkeypatch.setattr(doctor, "requirements", lambda: ["trl>=1.14,<1.15", "torch>=2.8"])
    return found


NO_GPU = gpu.GpuState(False, "No NVIDIA driver on this machine: runs train on the CPU.")
H200 = gpu.GpuState(
    True, gpus=(gpu.Gpu(0, "GPU-1", "NVIDIA H200", memory_total=140 * 2**30),), driver="570.1"
)


def find(name: str, home: Path, gpus: gpu.GpuState = NO_GPU) -> doctor.Check:
    return {check.name: check for check in doctor.checks(Home(home), gpus)}[name]


def test_pins_that_do_not_hold(installed: dict[str, str | None], tmp_path: Path) -> None:
    assert find("packages", tmp_path).ok
    installed["torch"] = "2.7.1"
    installed["trl"] = None
    words = [check.words for check in doctor.checks(Home(tmp_path), NO_GPU)]
    assert "trl is not installed" in words
    assert "torch 2.7.1 is installed, >=2.8 is needed" in words


def test_trl_on_a_cpu(installed: dict[str, str | None], tmp_path: Path) -> None:
    assert find("trl", tmp_path).ok
    installed["trl"] = "1.15.0"
    found = [check for check in doctor.checks(Home(tmp_path), NO_GPU) if check.name == "trl"]
    assert any("cannot train on a CPU" in check.words and not check.ok for check in found)
    assert found[-1].advice == "pip install 'trl<1.15'"


@pytest.mark.parametrize(
    ("torchvision", "cuda", "ok"),
    [
        (None, None, True),
        ("0.28.0", None, False),
        ("0.28.0+cu130", None, False),
        ("0.28.0+cpu", None, True),
        ("0.28.0+cpu", "13.0", False),
        ("0.28.0", "13.0", True),
    ],
)
def test_torchvision_beside_torch(
    torchvision: str | None,
    cuda: str | None,
    ok: bool,
    installed: dict[str, str | None],
    tmp_path: Path,
) -> None:
    installed.update(torchvision=torchvision, cuda=cuda)
    check = find("torchvision", tmp_path)
    assert check.ok is ok
    assert ok or "pip uninstall torchvision" in check.advice


def test_cpu_torch_on_a_gpu_machine(installed: dict[str, str | None], tmp_path: Path) -> None:
    check = find("torch", tmp_path, H200)
    assert not check.ok and "CPU build" in check.words
    assert find("gpu", tmp_path, H200).words == "1 x NVIDIA H200 (140 GiB); driver 570.1"
    assert find("unsloth", tmp_path, H200).mark == "note"


@pytest.mark.parametrize(
    ("libraries", "cuda", "ok"),
    [
        (["cpu"], None, True),
        (["cuda130"], None, False),
        (["cpu", "cuda130"], "13.0", True),
        (["cpu", "cuda128"], "12.6", True),
        (["cpu", "cuda128"], "13.0", False),
    ],
)
def test_bitsandbytes_libraries(
    libraries: list[str],
    cuda: str | None,
    ok: bool,
    installed: dict[str, str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in libraries:
        (tmp_path / f"libbitsandbytes_{library}.so").touch()
    installed.update(bitsandbytes="0.50.2", cuda=cuda)
    monkeypatch.setattr(doctor, "package_folder", lambda _: tmp_path)
    assert find("bitsandbytes", tmp_path).ok is ok


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(home: Home) -> surroundings.Answer:
        raise RuntimeError("boom")

    monkeypatch.setitem(surroundings.QUESTIONS, "disk", broken)
    check = find("disk", tmp_path)
    assert not check.ok and "boom" in check.words


def test_home_that_cannot_be_used(tmp_path: Path) -> None:
    assert surroundings.home_writable(Home(tmp_path))[0]
    assert surroundings.home_writable(Home(tmp_path / "new"))[0]
    (tmp_path / "file").touch()
    assert not surroundings.home_writable(Home(tmp_path / "file"))[0]
    assert not (tmp_path / "new").exists(), "looking makes nothing"


@pytest.mark.parametrize(
    ("kind", "network"), [("ext4", False), ("nfs4", True), ("fuse.sshfs", True), ("9p", True)]
)
def test_network_disks(
    kind: str, network: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(surroundings, "file_system", lambda _: kind)
    ok, words, advice = surroundings.network_disk(Home(tmp_path))
    assert ok and kind in words and bool(advice) is network


def test_little_disk_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = host.read_host(tmp_path)
    for free, ok, advice in ((2**30, False, True), (5 * 2**30, True, True), (2**40, True, False)):
        made = host.Host(**{**real.__dict__, "disk_free": free})
        monkeypatch.setattr(surroundings, "read_host", lambda _, made=made: made)
        answer = surroundings.disk_space(Home(tmp_path))
        assert (answer[0], bool(answer[2])) == (ok, advice)


@pytest.mark.parametrize(
    ("environment", "ok"),
    [
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False),
        ({}, False),
    ],
)
def test_locale(
    environment: dict[str, str], ok: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("LANG", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert surroundings.locale(Home(tmp_path))[0] is ok


def test_logind_settings(tmp_path: Path) -> None:
    main, late = tmp_path / "logind.conf", tmp_path / "logind.conf.d"
    late.mkdir()
    assert not surroundings._kills_user_processes((str(main), str(late)))
    main.write_text("[Login]\n#KillUserProcesses=yes\n")
    assert not surroundings._kills_user_processes((str(main), str(late)))
    main.write_text("[Login]\nKillUserProcesses=yes\n")
    assert surroundings._kills_user_processes((str(main), str(late)))
    (late / "50-keep.conf").write_text("[Login]\nKillUserProcesses=no\n")
    assert not surroundings._kills_user_processes((str(main), str(late)))


def test_doctor_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["doctor", "--json", "--home", str(tmp_path)])
    document = json.loads(capsys.readouterr().out)
    assert status == (0 if document["ok"] else 1)
    assert {"python", "home", "locale", "logout"} <= {each["name"] for each in document["checks"]}
    assert all(set(each) == {"name", "ok", "words", "advice"} for each in document["checks"])


def test_doctor_tells_failures_by_its_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["doctor", "--home", str(tmp_path / "file")]) == 1
    assert "fail  home" in capsys.readouterr().out


def test_recipes_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes", "--json"]) == 0
    names = [recipe["name"] for recipe in json.loads(capsys.readouterr().out)]
    assert {"amazon-titles", "demo"} <= set(names)
    assert cli.main(["recipes", "demo"]) == 0
    assert 'name = "demo"' in capsys.readouterr().out
    assert cli.main(["recipes", "no-such"]) == 2


def test_looking_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from engine import cli; "
        f"cli.main(['doctor', '--home', {str(tmp_path)!r}]); cli.main(['recipes']); "
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'bitsandbytes', 'textual', 'pandas', "
        "'numpy', 'pyarrow', 'unsloth'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_home_at_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEBENCH_HOME", str(tmp_path / "x"))
    assert home_at().path == tmp_path / "x"
    assert not (tmp_path / "x").exists()
