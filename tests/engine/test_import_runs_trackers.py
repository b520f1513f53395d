"""``runs import`` of TensorBoard's event files and W&B's offline runs, really written by them."""

import json
import random
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.imports.runs import event_files, finding, wandb_file
from engine.imports.runs.event_files import Read, masked_crc32c, values_of
from engine.imports.runs.places import Place as Folder
from engine.imports.runs.wandb_file import records_of
from tests.engine.importing import MADE, Imports

WANDB = MADE / "wandb" / "offline-run-20261130_205411-qlygg3bx" / "run-qlygg3bx.wandb"


@pytest.fixture
def imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imports:
    return Imports(tmp_path, capsys)


def single(value: float) -> float:
    """As a float32 holds it."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def test_scalars_of_tensorboardx(imports: Imports) -> None:
    made = imports(MADE / "tensorboardx")
    assert imports.curve(made, "loss") == {s: single(5 / s + 0.001 * s) for s in range(1, 13)}
    rates = {s: single(3e-4 * (1 - s / 12)) for s in range(1, 13)}
    assert imports.curve(made, "learning_rate") == rates
    assert imports.curve(made, "eval_loss") == {s: single(5.5 / s) for s in (4, 8, 12)}
    assert [event["seconds"] for event in imports.events(made, "evaluation")] == [0.25] * 3
    assert made["settings"]["train.learning_rate"] == 3e-4  # of the text ``args``
    assert made["state"] == "stopped" and "do not say how a run ends" in made["reason"]
    assert imports.row(made).created == pytest.approx(1_796_071_293, abs=1)


def test_scalars_of_pytorch_and_a_resume(imports: Imports) -> None:
    """New-style tensors of doubles; what a second file does again counts as it is there."""
    made = imports(MADE / "torch")
    loss = {s: 5 / s + 0.001 * s for s in range(1, 5)}
    assert imports.curve(made, "loss") == loss | {s: single(3 / s) for s in range(5, 8)}


def test_a_trainers_event_files_are_its_log(imports: Imports, tmp_path: Path) -> None:
    made = imports(MADE / "llama-factory" / "runs")
    log = json.loads((MADE / "llama-factory" / "trainer_state.json").read_text())["log_history"]
    loss = {row["step"]: single(row["loss"]) for row in log if "loss" in row}
    assert len(loss) == 18 and imports.curve(made, "loss") == loss
    evaluated = {row["step"]: single(row["eval_loss"]) for row in log if "eval_loss" in row}
    assert imports.curve(made, "eval_loss") == evaluated
    assert made["state"] == "finished"  # the arguments are there, and their two epochs were done
    row = imports.row(made)
    assert row.max_steps == row.step == 36
    assert row.train_loss == single(next(r["train_loss"] for r in log if "train_loss" in r))
    assert made["settings"]["train.learning_rate"] == 1e-3


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    crc, own = masked_crc32c(head), masked_crc32c(data)
    return head + struct.pack("<I", crc) + data + struct.pack("<I", own)


def scalar(tag: str, step: int, value: float, wall: float = 1.79e9) -> bytes:
    name = tag.encode()
    inner = b"\x0a" + bytes([len(name)]) + name + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(inner)]) + inner
    number = b""
    while step > 0x7F:
        number, step = number + bytes([step & 0x7F | 0x80]), step >> 7
    head = b"\x09" + struct.pack("<d", wall) + b"\x10" + number + bytes([step])
    return record(head + b"\x2a" + bytes([len(summary)]) + summary)


def test_the_checksum_is_castagnolis() -> None:
    """Of RFC 3720, section B.4: 32 bytes of zeros, of ones, and the numbers from 0 to 31."""
    for data, crc in (
        (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)
    ):  # fmt: skip
        turned = (crc >> 15 | crc << 17) & 0xFFFFFFFF
        assert masked_crc32c(data) == (turned + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("tags", "metric"),
    [
        (["loss"], "loss"), (["Loss/train"], "loss"), (["train_loss"], "loss"),
        (["val_loss"], "eval_loss"), (["Loss/val"], "eval_loss"), (["lr"], "learning_rate"),
        (["train/loss", "train_loss"], "loss"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)  # fmt: skip
def test_other_names_of_the_same(
    tags: list[str], metric: str, imports: Imports, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    data = b"".join(
        scalar(tag, step, step + place) for step in (1, 300) for place, tag in enumerate(tags)
    )
    (folder / "events.out.tfevents.1790000000.host").write_bytes(data)
    assert imports.curve(imports(folder), metric) == {1: 1.0, 300: 300.0}


def test_a_folder_of_runs_is_a_run_each(imports: Imports, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(MADE / "torch", tmp_path / "logs" / name)
    (tmp_path / "logs" / "two" / "events.out.tfevents.1796072099.host.1").write_bytes(
        scalar("train/loss", 9, 0.5)
    )
    made = imports(tmp_path / "logs")
    assert [run["name"] for run in made["runs"]] == ["one", "two"]
    assert imports.curve(made["runs"][1], "loss")[9] == 0.5
    assert all(run["already"] for run in imports(tmp_path / "logs")["runs"])


def test_event_files_that_break_off(imports: Imports, tmp_path: Path) -> None:
    whole = b"".join(scalar("train/loss", step, step) for step in range(1, 11))
    each = len(whole) // 10
    folder = tmp_path / "logs"
    folder.mkdir()
    file = folder / "events.out.tfevents.1790000000.host"
    flipped = bytearray(whole)
    flipped[4 * each + 14] ^= 1
    for data, last, words in (
        (whole[:-5], 9, f"ends within a record, at byte {9 * each}"),
        (whole[: 3 * each + 5], 3, f"ends within a record, at byte {3 * each}"),
        (bytes(flipped), 4, f"the checksum of the record at byte {4 * each} does not match"),
        (whole[: 2 * each] + bytes(each), 2, f"checksum of the record at byte {2 * each} does"),
        (whole[: 2 * each] + record(b"\x0b\x01"), 2, "its record 3 is no event of TensorBoard"),
    ):
        file.write_bytes(data)
        made = imports(folder, "--again")
        assert set(imports.curve(made, "loss")) == set(range(1, last + 1))
        assert any(words in note for note in made["notes"]), (words, made["notes"])
    for data in (b"", whole[: each - 1], record(b""), b"no event file at all"):
        file.write_bytes(data)
        imports(folder, "--again", status=1)
        assert "so there is nothing to import" in imports.err


def test_long_records_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "events.out.tfevents.1790000000.host"
    picture = record(bytes(event_files.MOST_BYTES + 1))
    file.write_bytes(scalar("a", 1, 1) + picture + scalar("a", 2, 2))
    read = Read()
    assert [value.step for value in values_of(file, read)] == [1, 2] and not read.broken
    file.write_bytes(scalar("a", 1, 1) + picture[:12] + b"short")
    assert [value.step for value in values_of(file, read)] == [1]
    assert "ends within a record" in read.broken


def test_the_history_of_wandb(imports: Imports) -> None:
    made = imports(MADE / "wandb")
    log = json.loads((MADE / "wandb-state.json").read_text())["log_history"]
    for name in ("loss", "learning_rate", "grad_norm", "epoch"):
        wanted = {row["step"]: row[name] for row in log if "loss" in row}
        assert len(wanted) == 12 and imports.curve(made, name) == wanted, name
    evaluated = {row["step"]: row["eval_loss"] for row in log if "eval_loss" in row}
    assert imports.curve(made, "eval_loss") == evaluated
    assert (made["name"], made["state"], made["tool"]) == ("products-r-4", "finished", "W&B")
    row = imports.row(made)
    assert (row.step, row.max_steps, row.exit_code) == (12, 12, 0)
    assert row.train_loss == next(r["train_loss"] for r in log if "train_loss" in r)
    settings = made["settings"]
    assert settings["train.learning_rate"] == 1e-3 and settings["lora.r"] == 4
    assert settings["lora.target_modules"] == ["q_proj", "v_proj"]
    assert settings["model.model_name_or_path"] == "../tiny-llama"
    times = [event["t"] for event in imports.events(made, "metrics")]
    assert times == sorted(times) and 1_796_072_051 < times[0] < times[-1] < 1_796_072_070
    assert imports(WANDB)["already"]  # by its file, as by the folder


def pieces(data: bytes) -> list[int]:
    """Where each piece of a ``.wandb`` file of one block begins, and where the last one ends."""
    at, found = 7, [7]
    while at < len(data):
        at += 7 + struct.unpack("<H", data[at + 4 : at + 6])[0]
        found.append(at)
    return found


def test_a_wandb_run_without_an_end_is_lost(imports: Imports, tmp_path: Path) -> None:
    data = WANDB.read_bytes()
    file = tmp_path / "run-cut.wandb"
    kinds = [number for number, _ in records_of(WANDB, [])]
    assert kinds.count(wandb_file.EXIT) == 1
    cut = next(at for at in reversed(pieces(data)[:-1]) if not _holds_exit(data[:at]))
    file.write_bytes(data[: cut - 3])
    made = imports(file)
    assert made["state"] == imports.row(made).state == "lost"
    assert "vanished after step" in made["reason"]
    assert any("ends within a record, at byte" in note for note in made["notes"])


def _holds_exit(data: bytes) -> bool:
    """Whether an exit record (field 18, wire type 2) is among the whole pieces."""
    starts = pieces(data)[:-1]
    return any(b"\x92\x01" in data[at + 7 : at + 14] for at in starts)


def test_a_wandb_run_that_failed(imports: Imports, tmp_path: Path) -> None:
    data = WANDB.read_bytes()
    at = next(at for at in pieces(data)[:-1] if b"\x92\x01" in data[at + 7 : at + 14])
    body = b"\x92\x01\x02\x08\x01"  # Record.exit: RunExitRecord.exit_code = 1
    piece = struct.pack("<IHB", zlib.crc32(b"\x01" + body), len(body), 1) + body
    (tmp_path / "run-bad.wandb").write_bytes(data[:at] + piece)
    made = imports(tmp_path / "run-bad.wandb")
    assert made["state"] == "failed" and "exit status 1 after step 12" in made["reason"]
    assert imports.row(made).exit_code == 1


def test_records_of_wandb_over_several_blocks(imports: Imports, tmp_path: Path) -> None:
    """A record longer than a block comes in pieces; blocks end with up to six bytes of nothing."""
    body = b"\x12" + varint(len(item := history(1, "x" * 70_000))) + item
    data = blocks([body] + [b"\x12" + varint(len(h := history(s, ""))) + h for s in range(2, 2000)])
    assert len(data) > 4 * wandb_file.BLOCK
    (tmp_path / "run-long.wandb").write_bytes(data)
    made = imports(tmp_path / "run-long.wandb")
    assert imports.curve(made, "loss") == {step: 1 / step for step in range(1, 2000)}


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def history(step: int, text: str) -> bytes:
    items = b""
    for key, value in (("loss", 1 / step), ("_step", step), ("note", text)):
        item = b"\x0a" + varint(len(key)) + key.encode()
        encoded = json.dumps(value).encode()
        item += b"\x82\x01" + varint(len(encoded)) + encoded
        items += b"\x0a" + varint(len(item)) + item
    return items


def blocks(records: list[bytes]) -> bytes:
    data = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for body in records:
        first = True
        while True:
            left = wandb_file.BLOCK - len(data) % wandb_file.BLOCK
            if left < 7:
                data += bytes(left)
                continue
            part, body = body[: left - 7], body[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[
                (first, not body)
            ]
            data += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not body:
                break
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b":W&B", "does not begin as a run of W&B"),
        (struct.pack("<4sHB", b":W&B", 0xBEE1, 9), "is of version 9 of W&B's format"),
        (struct.pack("<4sHB", b":W&B", 0xBEE1, 0), "no run and no history is in it"),
        (struct.pack("<4sHB", b":W&B", 0xBEE1, 0) + b"abc", "ends within a record, at byte 7"),
        (struct.pack("<4sHB", b":W&B", 0xBEE1, 0) + b"abcdefghi", "ends within a record"),
        (b"no such file", "does not begin as a run of W&B"),
    ],
    ids=range(6),
)
def test_files_that_are_no_runs_of_wandb(
    data: bytes, words: str, imports: Imports, tmp_path: Path
) -> None:
    (tmp_path / "run-odd.wandb").write_bytes(data)
    imports(tmp_path / "run-odd.wandb", status=1)
    assert f"{tmp_path}/run-odd.wandb: " in imports.err and words in imports.err


def test_several_kinds_in_one_folder_must_be_told_apart(imports: Imports, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(MADE / "torch", folder)
    shutil.copy(WANDB, folder)
    imports(folder, status=2)
    assert "several kinds of history (wandb, tensorboard): say which with --from" in imports.err
    assert imports(folder, "--from", "wandb")["from"] == "wandb"
    assert imports(folder, "--from", "tensorboard")["from"] == "tensorboard"
    imports(folder, "--from", "studio", status=1)
    assert "nothing of studio is found there" in imports.err


@pytest.mark.parametrize("kind", ["events", "wandb"])
def test_no_change_of_a_file_does_more_than_an_error(kind: str, tmp_path: Path) -> None:
    """Flipped, cut and doubled bytes: a run of what can be read, or a UserError."""
    source = next((MADE / "torch").iterdir()) if kind == "events" else WANDB
    name = source.name if kind == "events" else "run-x.wandb"
    chance = random.Random(8)
    file = tmp_path / name
    for _ in range(150):
        data = bytearray(source.read_bytes())
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data))
            what = chance.randrange(3)
            if what == 0:
                data[at] ^= 1 << chance.randrange(8)
            elif what == 1:
                del data[at : at + chance.randrange(1, 200)]
            else:
                data[at:at] = data[at : at + 50]
            if not data:
                data = bytearray(b"x")
        file.write_bytes(_mended(bytes(data), kind) if chance.random() < 0.5 else bytes(data))
        _read_all(file)


def _mended(data: bytes, kind: str) -> bytes:
    """With right checksums, so that what they guard is read: they keep no attacker out."""
    made = bytearray(data)
    at = 0 if kind == "events" else 7
    while at + 12 < len(made):
        if kind == "events":
            length = int.from_bytes(made[at : at + 8], "little")
            if at + 16 + length > len(made):
                break
            made[at + 8 : at + 12] = struct.pack("<I", masked_crc32c(bytes(made[at : at + 8])))
            body = bytes(made[at + 12 : at + 12 + length])
            crc = struct.pack("<I", masked_crc32c(body))
            made[at + 12 + length : at + 16 + length] = crc
            at += 16 + length
        else:
            length, piece = struct.unpack("<HB", made[at + 4 : at + 7])
            body = bytes(made[at + 7 : at + 7 + length])
            made[at : at + 4] = struct.pack("<I", zlib.crc32(bytes([piece]) + body))
            at += 7 + length
    return bytes(made)


def _read_all(file: Path) -> None:
    try:
        for past in finding.pasts_at(str(file)):
            for event in past.events():
                assert isinstance(event["step"], int) or event["type"] == "state"
    except UserError as error:
        assert str(file) in str(error)


def test_event_files_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("events.out.tfevents.1790000002.b", "events.out.tfevents.1790000001.z"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "events.out.tfevents.1.x").write_bytes(b"")
    found: list[Any] = event_files.event_files_in(Folder(tmp_path), deep=True)
    assert [path.name[-1] for path in found] == ["z", "b"]
