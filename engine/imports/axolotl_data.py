"""The rows of an Axolotl recipe: ``datasets``, their types and their columns."""

from collections.abc import Callable
from typing import Any

from engine.data.sources.layout import ROLES
from engine.imports.convert import mapping, names
from engine.imports.draft import Draft
from engine.imports.rows import chat, hub, local_or_hub, needs_source

__all__ = ["dataset"]

_LOADERS = ("json", "csv", "parquet", "arrow", "text")
"""Names of readers that stand in place of a path, with the files in data_files."""
_OURS = ("tokenizer_default", "chat_template.default")
_CONTENT = {"role": ("role", "from"), "content": ("content", "value")}
_WORDS = {
    "ds_type": "the kind of file is recognised",
    "shards": "the whole dataset is read; set split.* to counts",
    "shards_idx": "the whole dataset is read; set split.* to counts",
    "preprocess_shards": "speed and memory only",
    "trust_remote_code": "loading scripts are not run",
    "train_on_eos": "the token that ends every trained answer is trained",
    "field_tools": "the chat template gets no tools",
    "field_thinking": "turns have role and content only",
    "template_thinking_key": "turns have role and content only",
    "split_thinking": "turns have role and content only",
    "message_field_training": "every answer of the assistant is trained",
    "message_field_training_detail": "every answer of the assistant is trained",
    "drop_system_message": "a row's system message is kept",
    "conversation": "the tokenizer's own chat template",
}


def dataset(draft: Draft) -> None:
    """Set ``data.*`` and ``format.*``. Raises :class:`UsageError` naming file and key."""
    key = "datasets" if draft.has("datasets") else "pretraining_dataset"
    found = draft.take(key)
    if isinstance(found, str | dict):
        found = [found]
    if not found:
        needs_source(draft, "datasets", "is not there")
        return
    if not isinstance(found, list):
        raise draft.wrong(key, "must be a list of datasets")
    entries = [{"path": entry} if isinstance(entry, str) else entry for entry in found]
    if not all(isinstance(entry, dict) for entry in entries):
        raise draft.wrong(key, "must be a list of mappings with path and type")
    for number, other in enumerate(entries[1:], 1):
        draft.leave(
            f"{key}[{number}]",
            f"tunebench trains on one dataset, {len(entries)} are named: put the files in a folder "
            "and name that in data.source",
            other,
        )
    if key == "pretraining_dataset":
        entries[0] = {"type": "completion", "field": entries[0].get("text_column"), **entries[0]}
        entries[0].pop("text_column", None)
    _Entry(draft, f"{key}[0]", {k: v for k, v in entries[0].items() if v is not None}).build()


class _Entry:
    """One dataset: takes its keys one by one, tells the rest."""

    def __init__(self, draft: Draft, where: str, keys: dict[str, Any]) -> None:
        self.draft, self.where, self.keys = draft, where, keys

    def build(self) -> None:
        self._source()
        self._layout()
        self._templates()
        roles = self.keys.pop("roles_to_train", ["assistant"])
        if roles not in (["assistant"], ["gpt"], ["assistant", "gpt"], ["gpt", "assistant"]):
            self.leave("roles_to_train", "the answers of the assistant are trained", roles)
        for name, value in self.keys.items():
            self.leave(name, _WORDS.get(name, "not known here"), value)

    def put(self, to: str, value: Any, key: str, why: str = "") -> None:
        self.draft.put(to, value, f"{self.where}.{key}", why)

    def pop(self, key: str, into: Callable[[Any], Any], default: Any) -> Any:
        return self.draft.converted(f"{self.where}.{key}", self.keys.pop(key, default), into)

    def leave(self, key: str, why: str, value: Any) -> None:
        self.draft.leave(f"{self.where}.{key}", why, value)

    def _source(self) -> None:
        path, files = self.keys.pop("path", None), self.pop("data_files", names, [])
        if path is None and not files:
            needs_source(self.draft, f"{self.where}.path", "is not there")
            return
        if files and (path is None or path in _LOADERS):
            self.put("data.source", files[0], "data_files")
        elif files:
            source = f"{path}/{files[0]}" if local_or_hub(str(path)) == path else hub(str(path))
            why = "" if source == f"{path}/{files[0]}" else "all files of the split are read"
            self.put("data.source", source, "data_files", why)
        else:
            self.put("data.source", local_or_hub(str(path)), "path")
        for number, file in enumerate(files[1:], 1):
            self.leave(
                f"data_files[{number}]",
                "one source is read: put the files in a folder and name that",
                file,
            )
        for key, to in (("name", "subset"), ("split", "hub_split"), ("revision", "revision")):
            if key in self.keys:
                self.put(f"data.{to}", self.keys.pop(key), key)

    def _layout(self) -> None:
        kind = self.keys.pop("type", None)
        if isinstance(kind, dict):
            return self._own(kind)
        name = str(kind or "")
        base = name.split(":")[0].split(".")[0]
        if base == "alpaca" or base.startswith("alpaca_"):
            self.put("data.layout", "alpaca", "type")
            why = "" if name == "alpaca" else f"was {name!r}; compare with tunebench preview"
            self.put("format.template", "alpaca", "type", why)
        elif base in ("completion", "pretrain"):
            self.put("data.layout", "text", "type", "the whole text is trained")
            self.put("format.template", "plain", "type")
            if field := self.keys.pop("field", None):
                self.put("data.completion_column", field, "field")
        elif base in ("chat_template", "sharegpt"):
            self._conversation(base)
        else:
            self.put(
                "data.layout",
                "auto",
                "type",
                f"was {name!r}, which tunebench does not know: recognised by the columns",
            )
        return None

    def _own(self, kind: dict[str, Any]) -> None:
        """A layout of the file's own: columns, and a format with their names in braces."""
        prompt = kind.pop("field_instruction", None) or "instruction"
        answer = kind.pop("field_output", None) or "output"
        self.put("data.layout", "columns", "type", "two columns")
        self.put("data.prompt_column", prompt, "type.field_instruction")
        self.put("data.completion_column", answer, "type.field_output")
        self.put(
            "format.template",
            "plain",
            "type.format",
            "the prompt on lines of its own; compare with tunebench preview",
        )
        for key, value in kind.items():
            if value is not None:
                self.leave(
                    f"type.{key}",
                    "no layouts of one's own: format.template is alpaca, chat or plain",
                    value,
                )

    def _conversation(self, base: str) -> None:
        usual = "messages" if base == "chat_template" else "conversations"
        self.put("data.layout", "messages" if base == "chat_template" else "sharegpt", "type")
        field = self.keys.pop("field_messages", usual)
        if field != usual:
            self.put("data.completion_column", field, "field_messages")
        mapped = self.pop("message_property_mappings", mapping, {})
        for name in ("role", "content"):
            if old := self.keys.pop(f"message_field_{name}", None):
                mapped.setdefault(name, old)
        for name, value in mapped.items():
            if value not in _CONTENT.get(name, (name,)):
                self.leave(
                    f"message_property_mappings.{name}",
                    "turns say who speaks as role or "
                    "from, and what as content or value; rename it in the data",
                    value,
                )
        for role, others in self.pop("roles", mapping, {}).items():
            sources = self.draft.converted(f"{self.where}.roles.{role}", others, names)
            strange = [name for name in sources if ROLES.get(name.lower()) != role]
            if strange:
                self.leave(
                    f"roles.{role}",
                    f"{', '.join(strange)} in the data is not known as {role} here",
                    strange,
                )

    def _templates(self) -> None:
        """The chat template: the dataset's, or else the recipe's."""
        draft, its_own = self.draft, self.keys.pop("chat_template", None)
        everyones = draft.take("chat_template")
        where = f"{self.where}.chat_template" if its_own else "chat_template"
        name = str(its_own or everyones or "tokenizer_default")
        jinja = self.keys.pop("chat_template_jinja", None)
        jinja_key = f"{self.where}.chat_template_jinja" if jinja else "chat_template_jinja"
        jinja = jinja or draft.take("chat_template_jinja")
        if draft.get("data.layout") not in ("messages", "sharegpt"):
            if its_own or everyones:
                draft.leave(
                    where, 'rows are not conversations; format.template = "chat" uses it', name
                )
            return
        if jinja:
            draft.put("format.template", "chat", where)
            draft.put("format.chat_template", str(jinja), jinja_key)
        elif name in _OURS:
            draft.put("format.template", "chat", where)
        else:
            chat(draft, where, name)
