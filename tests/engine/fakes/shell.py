"""Verbs of the command line, run in the test's own process on one home."""

import json
from typing import Any

import pytest

from engine import cli
from engine.home import Home


class Shell:
    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """(exit status, stdout, stderr)."""
        try:
            status = cli.main([*words, "--home", str(self.home.path)])
        except SystemExit as exit:
            status = int(str(exit.code))
        out, err = self.capsys.readouterr()
        return status, out, err

    def json(self, *words: str, status: int = 0) -> Any:
        """The document of a verb that must end with this status."""
        got, out, err = self(*words, "--json")
        assert got == status, err
        return json.loads(out)
