"""Recipes of the history, read by sections."""

import tomllib

import pytest

from engine.history import toml_sections
from engine.recipe import load_recipe

PLAIN = 'version = 2\n\n[data]\nname = "a"  # [model]\n\n[model]\nr = [1,\n2]\n'
TEXT = "[data]\nsystem = '''\n[model]\nr = 1\n'''\n\n[lora]\nr = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a = 1\n",
        PLAIN,
        TEXT,
        '[data]\nsystem = """\n[model]\n"""\n[model]\nx = """\n[data]\n"""\n',
        "[data]\na = 1\n[data.more]\nb = 2\n[model]\nc = 3\n[[data.rules]]\nd = 4\n",
        "[model]\nc = 3\r\n[data]\r\na = 1\r\n",
        "[model.x]\na = 1\n[model]\nb = 2\n",
        *(load_recipe(name).to_toml() for name in ("demo", "amazon-titles")),
    ],
)
def test_what_tomllib_reads_of_the_whole(text: str) -> None:
    for _ in range(2):  # again from what was kept
        assert toml_sections.loads(text) == tomllib.loads(text)


@pytest.mark.parametrize("text", ["[a]\nx = 1\n[a]\ny = 2\n", "[a\n", "[a]\nx = \n[b]\ny = 1\n"])
def test_what_is_no_toml_is_refused_as_tomllib_does(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as expected:
        tomllib.loads(text)
    with pytest.raises(tomllib.TOMLDecodeError) as found:
        toml_sections.loads(text)
    assert str(found.value) == str(expected.value)
