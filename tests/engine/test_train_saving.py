"""A checkpoint that cannot be written leaves nothing behind, and figures say why."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engine.whole
from engine.home import open_home
from engine.jobs import checkpoints
from engine.jobs.launch import create_run, launch, resume, wait_until_dead
from engine.recipe import Recipe
from engine.train import saving
from tests.engine.training import events, losses


def publish(final: Path) -> Callable[[Path], int]:
    return lambda temporary: checkpoints.publish(temporary, final)


def test_whole(tmp_path: Path) -> None:
    final = tmp_path / "step-1"
    size = saving.write_whole(
        tmp_path / ".tmp", lambda folder: _fill(folder, 100), publish(final), 100, "it"
    )
    assert size == 100 and checkpoints.is_whole(final)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_step_published_again_is_there_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    final, temporary = tmp_path / "step-1", tmp_path / ".tmp"
    for folder, size in ((final, 100), (temporary, 200)):
        folder.mkdir()
        _fill(folder, size)
    checkpoints.write_manifest(final)
    real, missing = os.rename, []

    def rename(one: Path, other: Path) -> None:
        real(one, other)
        missing.append(not checkpoints.is_whole(final))

    monkeypatch.setattr(os, "rename", rename)
    if not can_exchange:
        monkeypatch.setattr(engine.whole, "_exchange", lambda one, other: False)
    assert checkpoints.publish(temporary, final) == 200
    assert checkpoints.is_whole(final) and os.listdir(tmp_path) == ["step-1"]
    assert (final / "weights").stat().st_size == 200
    if can_exchange:
        assert not any(missing)


def test_not_even_begun_without_room(tmp_path: Path) -> None:
    begun: list[Path] = []
    needed = shutil.disk_usage(tmp_path).total + 1  # other tests free some of it meanwhile
    words = rf"no space left for it: it needs about {needed:,} bytes"
    with pytest.raises(OSError, match=words) as caught:
        saving.write_whole(tmp_path / ".tmp", begun.append, publish(tmp_path / "x"), needed, "it")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path)
    assert not begun and not list(tmp_path.iterdir())


def test_a_library_that_hides_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save says "unexpected pos 704 vs 598" when the disk gets full on its way."""

    def write(folder: Path) -> None:
        _fill(folder, 10)
        usage = shutil.disk_usage(folder)._replace(free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        import torch

        torch.save({"a": torch.zeros(100_000)}, "/dev/full")

    with pytest.raises(OSError, match="no space left for it") as caught:
        saving.write_whole(tmp_path / ".tmp", write, publish(tmp_path / "x"), 10, "it")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        saving.write_whole(tmp_path / ".tmp", write, publish(tmp_path / "x"), 10, "it")
    assert not list(tmp_path.iterdir())


def _fill(folder: Path, size: int) -> None:
    (folder / "weights").write_bytes(b"x" * size)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mounted)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


@pytest.mark.slow
def test_a_run_on_a_disk_that_gets_full(
    small_disk: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    """It fails saying so, keeps its checkpoints whole, and goes on once there is room."""
    home = open_home(small_disk / "home")
    settings = ["train.save_total_limit=9", "lora.r=32", "train.max_steps=8", "data.name=small"]
    folder = create_run(home, tiny_recipe(*settings, "train.eval_steps=1", "train.save_steps=1"))
    launch(folder)
    assert wait_until_dead(folder, 120)
    end = events(folder, "state")[-1]
    assert end["state"] == "failed", folder.log_tail()
    assert "the disk is full" in end["reason"] and str(folder.checkpoints) in end["reason"]
    assert "bytes" in end["reason"]
    assert events(folder, "error")[-1]["kind"] == "disk_full"
    left = [path for path in folder.checkpoints.iterdir() if path.is_dir()]
    assert left and all(checkpoints.is_whole(path) for path in left)
    steps = max(losses(folder))
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    resume(home, folder)
    assert wait_until_dead(folder, 120)
    assert events(folder, "state")[-1]["state"] == "finished", folder.log_tail()
    assert sorted(losses(folder)) == list(range(1, 9)) and steps < 8
