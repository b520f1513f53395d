"""Reads another tool's recipe: YAML or JSON, one mapping, nothing that could blow up."""

import json
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from engine.errors import UsageError

__all__ = ["MAX_BYTES", "MAX_NODES", "read_json", "read_mapping", "yaml_mapping"]

MAX_BYTES = 1_000_000
"""The longest of the tools' own example recipes has 5,000."""
MAX_NODES = 50_000
"""Keys and values, with what anchors repeat counted each time."""
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the floats of YAML 1.2: ``2e-4`` is a number, as for all three tools."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_mapping(path: Path) -> dict[str, Any]:
    """The file's mapping, its keys as texts. Raises :class:`UsageError` naming file and line."""
    text = _text(path)
    if path.suffix.lower() == ".toml":
        raise UsageError(f"{path}: is TOML; tunebench's own recipes need no import")
    tree = _json(text, path) if path.suffix.lower() == ".json" else _yaml(text, path)
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: holds no mapping of keys to values, so it is no recipe")
    return {str(key): value for key, value in tree.items()}


def yaml_mapping(text: str, path: Path) -> dict[str, Any]:
    """The mapping of a YAML text that stood in ``path``; raises as :func:`read_mapping` does."""
    tree = _yaml(text, path)
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: holds no mapping of keys to values")
    return {str(key): value for key, value in tree.items()}


def read_json(path: Path) -> Any:
    """The value of a JSON file (dataset_info.json), with the same limits."""
    return _json(_text(path), path)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except ValueError:  # a NUL byte
        raise UsageError(f"{str(path)!r}: not a file name") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: is longer than {MAX_BYTES:,} bytes, so it is no recipe")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text (byte {error.start})") from None


def _yaml(text: str, path: Path) -> Any:
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, path)
        _no_key_twice(node, path)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}: not valid YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # 2026-13-45 is no date
        words = str(error).splitlines()[0]
        raise UsageError(f"{path}: not valid YAML: {words}") from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply to be a recipe") from None
    finally:
        if loader is not None:
            loader.dispose()


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _count(root: yaml.Node, path: Path) -> None:
    """Refuse anchors that repeat themselves a million times over, or hold themselves."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes:
            line = node.start_mark.line + 1
            raise UsageError(f"{path}: the anchor in line {line} holds itself")
        open_nodes.add(id(node))
        sizes[id(node)] = total = 1 + sum(size(child) for child in _children(node))
        open_nodes.discard(id(node))
        return total

    if (total := size(root)) > MAX_NODES:
        raise UsageError(
            f"{path}: has {total:,} keys and values with its anchors written out, more than "
            f"{MAX_NODES:,}, so it is no recipe"
        )


def _no_key_twice(root: yaml.Node, path: Path) -> None:
    done: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        waiting += _children(node)
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            line = key.start_mark.line + 1
            if (before := lines.get((key.tag, key.value))) is not None:
                raise UsageError(
                    f"{path}: line {line}: key {key.value!r} is there twice; it is in line "
                    f"{before} too"
                )
            lines[(key.tag, key.value)] = line


def _json(text: str, path: Path) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise UsageError(f"{path}: key {twice!r} is there twice")
        return made

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}: not valid JSON in line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except ValueError as error:  # a number of more than 4,300 digits
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply to be a recipe") from None
