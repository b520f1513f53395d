"""What commands print: JSON that every parser takes, nothing that a terminal obeys."""

import json
from pathlib import Path

import pytest

from engine import cli
from engine.commands.output import Output
from tests.engine.test_text import HOSTILE


def refuse(word: str) -> float:
    raise ValueError(f"no such number: {word}")


def test_json_has_no_nan_and_no_controls(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"losses": [1.5, float("nan"), float("-inf")], "text": HOSTILE}
    Output(as_json=True).document(value)
    printed = capsys.readouterr().out
    assert not set(printed) & set("\x1b\x9b\x7f\u202e")
    found = json.loads(printed, parse_constant=refuse)
    assert found == {"losses": [1.5, "NaN", "-Infinity"], "text": HOSTILE}


@pytest.mark.parametrize("words", [["runs", HOSTILE], [HOSTILE], ["demo", "--rows", HOSTILE]])
def test_wrong_usage_repeats_words_safely(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.build_parser().parse_args([word.replace("\x00", "") for word in words])
    assert end.value.code == 2
    assert not set(capsys.readouterr().err) & set("\x1b\x9b\x7f\u202e")


def test_a_system_error_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("engine.commands.listing.list_runs", full)
    assert cli.main(["runs", "--home", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "tunebench: somewhere: No space left on device\n"


def test_generate_takes_settings_of_sampling_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "builtin:base", "--prompt", "p", "--set", "train.max_length=9"]
    assert cli.main([*words, "--home", str(tmp_path)]) == 2
    assert "train.max_length=9" in capsys.readouterr().err
