"""A log of any size: windows, growth, replacement, progress bars, levels, search, memory."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.jobs import logfile
from engine.jobs.logfile import BLOCK, LONGEST, LogFile
from engine.jobs.loglevels import Level, Marker, suspects
from engine.jobs.logline import SHOWN, Line
from engine.jobs.logsearch import Needle, count, find
from engine.text import safe_line, unstyled


def opened(path: Path, data: bytes | None = None) -> LogFile:
    if data is not None:
        path.write_bytes(data)
    log = LogFile(path)
    log.look()
    return log


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


# --- windows


def test_windows_from_the_end_and_from_the_beginning(path: Path) -> None:
    log = opened(path, b"".join(b"line %d\n" % n for n in range(1000)) + b"no end")
    last = log.before(log.size, 3)
    assert texts(last) == ["line 998", "line 999", "no end"]
    assert texts(log.before(last[0].start, 2)) == ["line 996", "line 997"]
    first = log.after(0, 2)
    assert texts(first) == ["line 0", "line 1"]
    assert texts(log.after(first[-1].end, 1)) == ["line 2"]
    assert log.before(0, 5) == [] and log.after(log.size, 5) == []
    assert len(log.before(log.size, 5000)) == 1001


def test_both_directions_give_the_same_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "LONGEST", 64)
    monkeypatch.setattr(logfile, "STEP", 7)
    sizes = [0, 1, 5, 63, 64, 65, 127, 128, 129, 300, 0, 0, 64, 3]
    log = opened(path, b"\n".join(b"x" * size for size in sizes) + b"\n" + b"y" * 200)
    forward = log.after(0, 1000)
    assert [(line.start, line.end) for line in forward] == [
        (line.start, line.end) for line in log.before(log.size, 1000)
    ]
    assert forward[0].start == 0 and forward[-1].end == log.size
    assert all(a.end == b.start for a, b in itertools.pairwise(forward))
    for at in range(log.size):
        inside = next(line for line in forward if line.start <= at < line.end)
        assert log.start_of(at) == inside.start


def test_a_missing_file_is_empty_until_it_is_there(path: Path) -> None:
    log = opened(path)
    assert log.size == 0 and log.before(0, 5) == []
    path.write_bytes(b"here\n")
    log.look()
    assert texts(log.before(log.size, 5)) == ["here"]
    path.unlink()
    log.look()
    assert log.size == 0


def test_what_is_no_file_does_not_block(path: Path) -> None:
    os.mkfifo(path)
    assert opened(path).size == 0


def test_growth_keeps_offsets(path: Path) -> None:
    log = opened(path, b"one\nhal")
    before, generation = log.before(log.size, 9), log.generation
    with path.open("ab") as file:
        file.write(b"f\nthree\n")
    log.look()
    assert log.generation == generation
    assert texts(log.after(before[-1].start, 9)) == ["half", "three"]
    assert log.ended_between(before[-1].end, log.size) == 2


@pytest.mark.parametrize("how", ["truncated", "replaced", "rewritten as long", "rotated"])
def test_another_file_of_the_same_name_is_noticed(how: str, path: Path) -> None:
    log = opened(path, b"old %d\n" % 1 * 50)
    assert log.before(log.size, 1, Level.WARNING) == []
    generation = log.generation
    if how == "truncated":
        path.write_bytes(b"new\n")
    elif how == "rewritten as long":
        path.write_bytes(b"new\n" * 200)
    elif how == "replaced":
        path.with_suffix(".tmp").write_bytes(b"new\n" * 200)
        path.with_suffix(".tmp").replace(path)
    else:
        path.rename(path.with_suffix(".log.1"))
        path.write_bytes(b"new\n")
    log.look()
    assert log.generation == generation + 1
    assert texts(log.before(log.size, 1)) == ["new"]


# --- what a line shows


def test_progress_bars_show_their_last_state(path: Path) -> None:
    bar = b"\r".join(b"%3d%%|####| %d/100" % (n, n) for n in range(101))
    log = opened(
        path, b"start\r\n" + bar + b"\n" + bar + b"\r        \r\n" + b"\rdone\nx\r\x1b[K\n"
    )
    assert texts(log.before(log.size, 9)) == [
        "start", "100%|####| 100/100", "100%|####| 100/100", "done", "x",
    ]  # fmt: skip
    assert all(not line.cut for line in log.before(log.size, 9))


def test_a_bar_of_megabytes_shows_its_last_state(path: Path) -> None:
    bar = b"\r".join(b"%06d/999999 %s" % (n, b"#" * 40) for n in range(100_000))
    assert len(bar) > LONGEST
    log = opened(path, b"before\n" + bar)
    shown = log.before(log.size, 50)
    assert shown[-1].text.startswith("099999/999999") and shown[-1].cut == 0
    assert len(shown) <= 1 + 1 + len(bar) // LONGEST


def test_a_long_line_is_cut_and_says_by_how_much(path: Path) -> None:
    log = opened(path, b"a\n" + b"x" * (1 << 20) + b"\nb\n")
    a, long, b = log.before(log.size, 9)
    assert (a.text, b.text) == ("a", "b")
    assert long.text == "x" * SHOWN and long.cut == (1 << 20) - SHOWN


def test_a_window_of_long_lines_reads_little(path: Path) -> None:
    log = opened(path, (b"x" * (1 << 20) + b"\n") * 40)
    assert 1 <= len(log.before(log.size, 40)) <= 10
    assert 1 <= len(log.after(0, 40)) <= 10


def test_bytes_that_are_no_utf8_and_colours(path: Path) -> None:
    log = opened(path, b"\xff\xfe caf\xc3\xa9 \x1b[31;1mred\x1b[0m \x1b]52;c;x\x07\x9b\n")
    [line] = log.before(log.size, 1)
    assert line.text == "\ufffd\ufffd café red \x1b]52;c;x\x07\ufffd"
    assert safe_line(line.text) == "\ufffd\ufffd café red ␛]52;c;x␇\ufffd"
    assert unstyled("a\x1b[38;5;1mb\x1b[2Kc\x1b[?25ld") == "abcd"


# --- levels

LEVELS = [
    ("2025-11-24 19:41:40,123 - trainer - WARNING - low on memory", Level.WARNING),
    ("2025-11-24 19:41:40,123 INFO loading", Level.INFO),
    ("[INFO|trainer.py:123] 2025-11-24 >> saving", Level.INFO),
    ("[WARNING|modeling.py:9] 2025 >> not used", Level.WARNING),
    ("WARNING:root:careful", Level.WARNING),
    ("DEBUG:urllib3:GET", Level.DEBUG),
    ("/a/b.py:12: UserWarning: old", Level.WARNING),
    ("FutureWarning: old", Level.WARNING),
    ("W1124 19:41:40.123456 139 socket.cpp:12] no IPv6", Level.WARNING),
    ("[W1124 19:41:40.123456789 ProcessGroupNCCL.cpp:45] late", Level.WARNING),
    ("[rank1]:[E1124 19:41:40.123 ProcessGroupNCCL.cpp:45] timeout", Level.ERROR),
    ("F1124 19:41:40.123456 139 file.cc:12] Check failed", Level.CRITICAL),
    ("I1124 19:41:40.123456 139 file.cc:12] fine", Level.INFO),
    ("node1:12:12 [0] NCCL WARN Call to bind failed", Level.WARNING),
    ('{"level": "error", "msg": "x"}', Level.ERROR),
    ("time=1 level=warn msg=x", Level.WARNING),
    ("torch.OutOfMemoryError: CUDA out of memory.", Level.ERROR),
    ("KeyboardInterrupt", Level.ERROR),
    ("error: unknown option", Level.ERROR),
    ("ld: warning: old object", Level.WARNING),
    ("CRITICAL:root:the end", Level.CRITICAL),
    ("{'loss': 2.31, 'eval_error': 0.2}", Level.NONE),
    ("step 40: validation", Level.NONE),
    ("the error was small", Level.NONE),
    (" 10%|█ | 3/30 [00:01<00:09]WARNING:root:in a bar", Level.WARNING),
]


@pytest.mark.parametrize(("text", "level"), LEVELS)
def test_levels(text: str, level: Level) -> None:
    assert Marker().next(text) == (level, False)
    # The quick look for suspects misses nothing that the slow one marks.
    assert bool(suspects(b"x\n" + text.encode())) or level < Level.WARNING


TRACEBACK = """\
before
[rank0]: Traceback (most recent call last):
[rank0]:   File "a.py", line 3, in <module>
[rank0]:     main()
[rank0]: my.own.Thing: it broke
after
a.py:3: UserWarning: old
  warnings.warn("old")
INFO:root:fine
  more of it
end
"""


def test_a_traceback_is_one_error(path: Path) -> None:
    log = opened(path, TRACEBACK.encode())
    error, warning, info = (Level.ERROR, True), (Level.WARNING, True), (Level.INFO, True)
    assert [(line.level, line.goes_on) for line in log.before(log.size, 99)] == [
        (Level.NONE, False), (Level.ERROR, False), error, error, error, (Level.NONE, False),
        (Level.WARNING, False), warning, (Level.INFO, False), info, (Level.NONE, False),
    ]  # fmt: skip
    # Also where the window begins in the middle of it.
    assert [line.level for line in log.before(log.size, 8)] == [
        Level.ERROR, Level.ERROR, *[line.level for line in log.before(log.size, 6)],
    ]  # fmt: skip
    assert len(log.before(log.size, 99, Level.WARNING)) == 6
    assert texts(log.before(log.size, 99, Level.ERROR))[-1] == "[rank0]: my.own.Thing: it broke"


def large(blocks: int) -> tuple[bytes, list[int]]:
    """Lines over several blocks, some of them errors, and where those begin."""
    lines, errors, at = [], [], 0
    number = 0
    while at < blocks * BLOCK:
        line = b"{'loss': %d.5, 'note': 'no error'} step %d\n" % (number % 7, number)
        if number % 9973 == 5:
            line = b"ERROR:root:number %d\n" % number
            errors.append(at)
        lines.append(line)
        at += len(line)
        number += 1
    return b"".join(lines), errors


def test_the_filter_finds_every_error_from_both_ends_and_skips_what_it_knows(path: Path) -> None:
    data, errors = large(5)
    log = opened(path, data)
    assert [line.start for line in log.before(log.size, 10**6, Level.ERROR)] == errors
    assert [line.start for line in log.after(0, 10**6, Level.ERROR)] == errors
    assert [line.start for line in log.before(errors[3], 2, Level.ERROR)] == errors[1:3]
    assert [line.start for line in log.after(errors[3], 2, Level.ERROR)] == errors[3:5]
    read = log.read
    got: list[int] = []
    log.read = lambda at, size: got.append(size) or read(at, size)  # type: ignore[method-assign]
    assert log.before(log.size, 9, Level.CRITICAL) == []
    assert sum(got) < 2.2 * BLOCK, "blocks without any are known"


def test_a_scan_can_be_stopped_and_says_how_far_it_is(path: Path) -> None:
    log = opened(path, b"nothing to see\n" * (BLOCK // 5))
    heard: list[int] = []
    assert log.before(log.size, 1, Level.ERROR, lambda at: heard.append(at) or len(heard) < 2) == []
    assert heard == [2 * BLOCK, 1 * BLOCK]


# --- search


def test_search_goes_both_ways_and_shows_only_what_lines_show(path: Path) -> None:
    log = opened(path, b"Alpha\nneedle 1\rneedle 2\rother\nbeta needle\nNEEDLE\nend\n")
    small, exact = Needle("needle"), Needle("NEEDLE")
    first = find(log, small, 0)
    assert first is not None and first.text == "beta needle"
    second = find(log, small, first.end)
    assert second is not None and second.text == "NEEDLE"
    assert find(log, small, second.end) is None
    assert find(log, small, second.start, back=True) == first
    assert find(log, small, first.start, back=True) is None
    assert find(log, exact, 0) == second
    assert list(count(log, small))[-1] == 2 and list(count(log, exact))[-1] == 1
    assert find(log, Needle("Alpha"), log.size, back=True) is not None
    assert small.spans("a needle, Needle") == [(2, 8), (10, 16)]


def test_counting_takes_no_longer_with_long_lines(path: Path) -> None:
    """A pattern that looks for the last carriage return anew at every byte takes minutes here."""
    log = opened(path, (b"A" * 100_000 + b"\r\n") * 20 + b"A\r" * 50_000 + b"\n")
    begun = time.perf_counter()
    assert list(count(log, Needle("aaa")))[-1] == 20
    assert time.perf_counter() - begun < 2


def test_search_across_blocks_and_by_level(path: Path) -> None:
    data, errors = large(4)
    log = opened(path, data)
    lines = data.decode().splitlines(keepends=True)
    wanted = Needle("99")
    starts, at = [], 0
    for line in lines:
        if "99" in line:
            starts.append(at)
        at += len(line)
    assert list(count(log, wanted))[-1] == len(starts)
    found, at = [], 0
    while (line := find(log, wanted, at)) is not None and len(found) < 300:
        found.append(line.start)
        at = line.end
    assert found == starts[:300]
    found, at = [], log.size
    while (line := find(log, wanted, at, back=True)) is not None and len(found) < 300:
        found.append(line.start)
        at = line.start
    assert found == starts[::-1][:300]
    only = [at for at in errors if at in set(starts)]
    hit = find(log, wanted, 0, level=Level.ERROR)
    assert (hit.start if hit else None) == (only[0] if only else None)
    assert list(count(log, wanted, level=Level.ERROR))[-1] == len(only)


def test_search_over_the_border_of_a_block(path: Path) -> None:
    for before in range(-8, 3):
        log = opened(path, b"x" * (BLOCK + before - 1) + b"\nneedle\n" + b"y" * BLOCK)
        for back in (False, True):
            line = find(log, Needle("needle"), log.size if back else 0, back=back)
            assert line is not None and line.text == "needle", (before, back)


def test_a_match_far_to_the_right_of_a_long_line_is_found(path: Path) -> None:
    log = opened(path, b"a\n" + b"x" * (2 << 20) + b"needle" + b"x" * 99 + b"\nb\n")
    line = find(log, Needle("needle"), 0)
    assert line is not None and line.start == 2 and line.cut
    assert find(log, Needle("needle"), line.end) is None
    assert find(log, Needle("needle"), line.start, back=True) is None


def test_search_can_be_stopped(path: Path) -> None:
    log = opened(path, b"nothing to see\n" * (BLOCK // 5))
    heard: list[int] = []
    for back in (False, True):
        heard.clear()
        at = log.size if back else 0
        told = lambda at: heard.append(at) or False  # noqa: E731
        assert find(log, Needle("none"), at, back=back, told=told) is None
        assert len(heard) == 1
    assert len(list(count(log, Needle("none"), told=told))) == 1


# --- numbers


def test_lines_are_counted_in_the_background(path: Path) -> None:
    data, errors = large(3)
    log = opened(path, data)
    assert log.number(errors[-1]) is None
    while not log.count_ahead(0.0):
        pass
    for at in (0, *errors, log.size):
        assert log.number(at) == data[:at].count(b"\n")


# --- cost

OPENS = """
import resource, sys, time
from pathlib import Path
from engine.jobs.logfile import LogFile
from engine.jobs.loglevels import Level
from engine.jobs.logline import SHOWN, Line
from engine.jobs.logsearch import Needle, find
LogFile(Path("/dev/null")).look()
def held():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, begun = held(), time.perf_counter()
log = LogFile(Path(sys.argv[1]))
log.look()
assert log.before(log.size, 400)
seconds = time.perf_counter() - begun
assert find(log, Needle("nowhere in it"), 0) is None
assert log.before(log.size, 10, Level.ERROR) == []
print(seconds, (held() - start) // 1024)
"""


def test_a_log_of_200_mb_opens_at_once_and_takes_no_memory(path: Path) -> None:
    line = b"{'loss': 2.3141, 'grad_norm': 0.8123, 'learning_rate': 0.0002, 'epoch': 0.31} step\n"
    with path.open("wb") as file:
        piece = line * (BLOCK // len(line))
        while file.tell() < 200_000_000:
            file.write(piece)
    done: Any = subprocess.run(
        [sys.executable, "-c", OPENS, str(path)],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds, mib = map(float, done.stdout.split())
    assert seconds < 0.1
    assert mib < 30
