"""``tunebench clean`` and ``tunebench preview``: documents, tables, and one clear line of error."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cli import main

KEYS = {
    "rows_read", "rows_kept", "dropped", "changed", "repaired", "repairs", "train", "validation",
    "test", "leakage_before", "leakage_after", "seconds", "peak_rss_bytes", "fingerprint", "paths",
    "name", "layout", "shape", "mapping", "flagged", "examples", "near_leakage", "file_repairs",
    "warnings",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [{"title": f"t{n}", "content": f"<b>c{n}</b>" if n % 2 else f"c{n}"} for n in range(99)]
    rows += [{"title": "t", "content": "c1"}, {"title": "t", "content": ""}]
    path = tmp_path / "my rows.v2.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\nbroken\n")
    return path


def failing(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    status = main(list(argv))
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("tunebench: ")
    return status, error


def test_clean_as_json(home: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", str(source), "--home", home, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == KEYS
    assert document["name"] == "my-rows.v2"
    assert document["rows_read"] == 102
    assert document["rows_kept"] == 99
    assert document["dropped"] == {
        "malformed": 1,
        "missing_field": 0,
        "not_text": 0,
        "empty_prompt": 0,
        "empty_completion": 1,
        "duplicate_completion": 1,
    }
    assert document["changed"]["html"] == 49
    assert document["peak_rss_bytes"] > 1 << 20
    for path in document["paths"].values():
        assert os.path.exists(path)
    assert oct(os.stat(document["paths"]["train"]).st_mode & 0o777) == "0o600"


def test_clean_as_a_table(home: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["clean", str(source), "--home", home, "--name", "mine", "--set"]
    argv.append('clean.rules=["whitespace", "empty", "duplicates"]')
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(0) == "layout columns: title -> prompt, content -> completion"
    rows = [line.split() for line in lines]
    assert rows[0][:2] == ["rows_read", "102"]
    assert ["dropped.malformed", "1"] in [row[:2] for row in rows]
    assert not any("changed.html" in line for line in lines)
    counts = [line.index(f" {line.split()[1]} ") + len(line.split()[1]) for line in lines[:-1]]
    assert len(set(counts)) == 1  # right-aligned
    assert "dataset mine" in lines[-1]
    assert "prepared in" in lines[-1]
    assert str(Path(home) / "datasets" / "mine") in lines[-1]
    assert main(argv) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[1:-1] == lines[:-1]
    assert "reused as it was" in again[-1]


def test_clean_with_a_recipe_and_too_few_rows(
    home: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["clean", str(source), "--home", home, "--recipe", "amazon-titles"]
    status, error = failing(capsys, *argv)
    assert status == 1
    assert "99 in all" in error
    assert "train 150,000 of" in error
    settings = ["--set", "split.train=20", "--set", "split.validation=3", "--set", "split.test=5"]
    assert main([*argv, *settings, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["train"], document["validation"], document["test"]) == (20, 3, 5)
    assert document["name"] == "my-rows.v2"


def test_a_dry_run_says_how_the_rows_are_read(
    home: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", str(source), "--home", home, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"][0]["format"] == "jsonl"
    assert (document["layout"], document["shape"]) == ("columns", "pair")
    assert document["mapping"] == "title -> prompt, content -> completion"
    assert document["rows"][1] == {
        "line": 2, "reason": None, "evidence": "", "prompt": "t1", "completion": "c1"
    }  # fmt: skip
    assert document["dropped"]["duplicate_completion"] == 1
    assert main(["clean", str(source), "--home", home, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "of the first 102 rows 99 stay" in " ".join(lines)
    assert "nothing was written" in lines[-1]
    assert not [p for p in (Path(home) / "datasets").glob("*") if not p.name.startswith(".")]


def test_warnings_go_to_stderr(
    home: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"title": "t", "content": "c"}')
    assert main(["clean", str(path), "--home", home, "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["rows_kept"] == 1
    assert error.count("split is empty") == 2


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["no-such-file"], 1, "no-such-file: no such file"),
        (["{folder}"], 1, "has no data file in it"),
        (["/dev/null"], 1, "not a regular file"),
        (["a\0b"], 1, "cannot be read"),
        (["builtin:nothing"], 1, "no built-in"),
        (["{source}", "--name", "../escape"], 2, "--name"),
        (["{source}", "--set", "data.name=.."], 1, "begins with a dot"),
        (["{source}", "--set", "data.prompt_column=x"], 1, "there are: title, content"),
        (["{source}", "--set", "clean.html=false"], 2, "html is a rule: name it in clean.rules"),
        (["{source}", "--set", "clean.lenght.max=9"], 2, "did you mean 'length'"),
        (["{source}", "--recipe", "no-such-recipe"], 2, "no-such-recipe"),
    ],
)
def test_bad_input_is_one_line(
    home: str,
    source: Path,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    status: int,
    words: str,
) -> None:
    (source.parent / "empty").mkdir()
    places = {"{source}": str(source), "{folder}": str(source.parent / "empty")}
    argv = [places.get(word, word) for word in argv]
    found, error = failing(capsys, "clean", *argv, "--home", home)
    assert found == status
    assert words in error
    assert not [p for p in (Path(home) / "datasets").glob("*") if not p.name.startswith(".")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_file(home: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.chmod(0)
    assert "Permission denied" in failing(capsys, "clean", str(source), "--home", home)[1]


def test_an_unreadable_file_for_root_too(
    home: str, source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    status, error = failing(capsys, "clean", str(source), "--home", home)
    assert status == 1
    assert f"{source}: cannot be read (Permission denied)" in error


def test_preview(
    home: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<end>"])
    model = tmp_path / "model"
    model.mkdir()
    tokenizer.save(str(model / "tokenizer.json"))
    (model / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    assert main(["clean", str(source), "--home", home, "--json"]) == 0
    capsys.readouterr()
    argv = ["preview", "my-rows.v2", "--home", home, "--set", "format.template=plain"]
    argv += ["--set", "format.instruction=", "--set", f"model.model_name_or_path={model}"]
    assert main([*argv, "--row", "2", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert {"text", "tokens", "truncated_at", "eos_trained", "bos_count"} <= set(seen)
    assert "".join(token["text"] for token in seen["tokens"]) == seen["text"]
    prompt, _, completion = seen["text"].partition("\n")
    assert [token["trained"] for token in seen["tokens"]] == [False] * (len(prompt) + 1) + [
        True
    ] * (len(completion) - 4)
    assert main([*argv, "--row", "2"]) == 0
    assert seen["text"] in capsys.readouterr().out
    assert main([*argv, "--stats", "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["truncated"] == 0
    status, error = failing(capsys, *argv, "--row", "99999")
    assert status == 1
    assert "has rows 0 to" in error
    status, error = failing(capsys, *argv, "--line", "9" * 20)
    assert "no row of my-rows.v2 came from it" in error
    assert main([*argv, "--stats", "--sample", "9" * 20]) == 0
    capsys.readouterr()
    status, error = failing(capsys, "preview", "nothing", "--home", home)
    assert "no such dataset; there is my-rows.v2" in error


@pytest.mark.parametrize("what", ["source", "home", "model"])
def test_a_name_that_is_no_text_is_one_line(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = str(tmp_path / os.fsdecode(b"od\xffd"))
    home = odd if what == "home" else str(tmp_path / "home")
    words = {
        "source": ["clean", odd],
        "home": ["clean", "builtin:catalogue"],
        "model": ["train", "demo", "--set", f"model.model_name_or_path={odd}"],
    }
    Path(odd).write_text('{"title": "a", "content": "b"}\n') if what == "source" else None
    assert main([*words[what], "--json", "--home", home]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "not UTF-8" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_made(
    home: str, source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """A closed terminal left a hidden folder of the size of the source."""
    rule, called = tmp_path / "rule.py", tmp_path / "called"
    rule.write_text(
        "import pathlib, time\ndef rule(p, c):\n"
        f"    pathlib.Path({str(called)!r}).touch()\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "engine.cli", "--home", home, "clean", str(source)]
    command += ["--set", 'clean.rules=["python"]', "--set", f"clean.python.file={rule}"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not called.exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and not errors
    assert [path.name for path in Path(home, "datasets").iterdir() if path.suffix == ".tmp"] == []
