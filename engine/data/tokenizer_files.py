"""Finds and reads a tokenizer's files: a folder, the built-in one, or the hub's local cache."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.builtin import model_path
from engine.errors import UserError
from engine.model_files import find_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "TokenizerFiles",
    "chat_template",
    "load_tokenizer_files",
    "tokenizer_digests",
    "tokenizer_state",
]

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass
class TokenizerFiles:
    """A tokenizer and what its configuration says beside it."""

    where: str
    """For messages: the folder, or the hub id."""
    tokenizer: "Tokenizer"
    chat_template: str | None
    special_tokens: dict[str, str]
    """bos_token, eos_token, pad_token, ... -> text."""

    def add(self, tokens: Sequence[str]) -> None:
        """Give the vocabulary these special tokens, in order, as Transformers does."""
        from tokenizers import AddedToken

        self.tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in tokens]
        )

    def token_id(self, name: str) -> int | None:
        """The id of ``bos_token``, ``eos_token`` or ``pad_token``; None when there is none."""
        token = self.special_tokens.get(name)
        return None if token is None else self.tokenizer.token_to_id(token)

    def unknown_id(self) -> int | None:
        """The id of what stands for text without tokens of its own; None when there is none.

        Configurations name one also where it never occurs (GPT-2's is its eos_token), so the
        tokenizer's own model is asked; only Unigram models do not tell.
        """
        model = self.tokenizer.model
        if type(model).__name__ == "Unigram":
            return self.token_id("unk_token")
        token = getattr(model, "unk_token", None)
        return None if token is None else self.tokenizer.token_to_id(token)


def load_tokenizer_files(name: str, revision: str = "") -> TokenizerFiles:
    """Read ``tokenizer.json`` and its companions. Nothing is downloaded.

    Raises :class:`UserError` when the tokenizer is not there or cannot be read.
    """
    from tokenizers import Tokenizer

    where = model_path(name)
    file = find_file(where, "tokenizer.json", revision)
    if file is None:
        if Path(where).expanduser().is_dir():
            raise UserError(f"{where}: there is no tokenizer.json in this folder")
        raise UserError(
            f"{where}: no such folder, and the hub's cache has no tokenizer.json of that id; "
            f"fetch it with: hf download {where} tokenizer.json tokenizer_config.json"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{file}: not a tokenizer that can be read: {error}") from None
    config = _json(find_file(where, "tokenizer_config.json", revision))
    special = _special_tokens(_json(find_file(where, "special_tokens_map.json", revision)))
    special |= _special_tokens(config)
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    if (beside := find_file(where, "chat_template.jinja", revision)) is not None:
        template = beside.read_text(encoding="utf-8")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return TokenizerFiles(
        where, tokenizer, template if isinstance(template, str) else None, special
    )


def chat_template(value: str) -> str:
    """The Jinja text that ``format.chat_template`` stands for.

    That is itself when it holds Jinja, else the text of the file, or the template of the tokenizer
    in the folder, that it names. Raises :class:`UserError` naming the key.
    """
    if "{{" in value or "{%" in value:
        return value
    path = Path(value).expanduser()
    if path.is_dir():
        template = load_tokenizer_files(value).chat_template
        if template is None:
            raise UserError(f"format.chat_template: the tokenizer in {value} has no chat template")
        return template
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            f"format.chat_template: {value}: cannot be read ({why}); write Jinja, or name a .jinja "
            "file or a tokenizer's folder"
        ) from None


def tokenizer_state(name: str, revision: str = "") -> list[tuple[str, int, int]]:
    """Path, size and time of change of each file that is read: the same state, the same tokens."""
    found = (find_file(name, file, revision) for file in _FILES)
    infos = [(str(path), path.stat()) for path in found if path is not None]
    return [(path, info.st_size, info.st_mtime_ns) for path, info in infos]


def tokenizer_digests(state: list[tuple[str, int, int]]) -> dict[str, str]:
    """File name -> SHA-256 of files in this state: equal wherever a tokenizer lies."""
    return {Path(file[0]).name: _digest(*file) for file in state}


@lru_cache(maxsize=32)
def _digest(path: str, size: int, changed: int) -> str:
    """Remembered for a file in one state: forms ask at every key, and a tokenizer has 17 MB."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return value if isinstance(value, dict) else {}


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in config.items():
        if key.endswith("_token"):
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[key] = text
    return found
