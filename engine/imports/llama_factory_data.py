"""The rows of a LLaMA-Factory recipe: ``dataset:`` names entries of a dataset_info.json."""

from pathlib import Path
from typing import Any

from engine.data.sources.layout import ROLES
from engine.imports.convert import names
from engine.imports.draft import Draft
from engine.imports.reading import read_json
from engine.imports.rows import hub, needs_source

__all__ = ["dataset"]

_FILE = "dataset_info.json"
_READ = (
    "hf_hub_url",
    "file_name",
    "formatting",
    "columns",
    "tags",
    "subset",
    "split",
    "revision",
    "ranking",
)
_WORDS = {
    "ms_hub_url": "ModelScope is not read",
    "om_hub_url": "Modelers is not read",
    "script_url": "loading scripts are not run",
    "cloud_file_name": "cloud storage is not read",
    "folder": "all files of the hub dataset's split are read",
    "num_samples": "the first rows only; set split.* to counts",
    "file_sha1": "the dataset's own fingerprint is journaled",
}


def dataset(draft: Draft, stage: str) -> None:
    """Set ``data.*`` from the first dataset. Raises :class:`UsageError` naming file and key."""
    found = draft.convert("dataset", names, [])
    folder = draft.take("dataset_dir")
    if not found:
        needs_source(draft, "dataset", "is not there")
        return
    for number, name in enumerate(found[1:], 1):
        draft.leave(
            f"dataset[{number}]",
            f"tunebench trains on one dataset, {len(found)} are named: put the files in a folder "
            "and name that in data.source",
            name,
        )
    if folder == "ONLINE":
        draft.put("data.source", hub(found[0]), "dataset", "a hub dataset")
        return
    at = _info(draft.path, folder)
    if at is None:
        needs_source(
            draft,
            "dataset",
            f"{found[0]!r} is the name of an entry of {_FILE}, which is "
            f"neither beside the recipe nor in {folder or 'data'}; put it beside "
            "it",
        )
        return
    entries = read_json(at)
    entry = entries.get(found[0]) if isinstance(entries, dict) else None
    if not isinstance(entry, dict):
        needs_source(draft, "dataset", f"{at} has no entry {found[0]!r}")
        return
    _entry(draft, found[0], entry, at, stage)


def _info(recipe: Path, folder: Any) -> Path | None:
    """The list of datasets: beside the recipe, or in ``dataset_dir`` from there or here."""
    places = [recipe.parent, recipe.parent / str(folder or "data"), Path(str(folder or "data"))]
    return next((place / _FILE for place in places if (place / _FILE).is_file()), None)


def _entry(draft: Draft, name: str, entry: dict[str, Any], at: Path, stage: str) -> None:
    where = f"{_FILE}:{name}"
    if entry.get("ranking") or "kto_tag" in _part(draft, entry, "columns", where):
        raise draft.wrong(
            where, "its rows compare answers; only supervised fine-tuning (sft) is done here"
        )
    if url := entry.get("hf_hub_url"):
        draft.put("data.source", hub(str(url)), where, f"dataset {name!r}")
    elif file := entry.get("file_name"):
        draft.put("data.source", str(at.parent / str(file)), where, f"dataset {name!r}")
    else:
        needs_source(draft, where, "is neither a file nor a hub dataset")
    for key, to in (("subset", "subset"), ("split", "hub_split"), ("revision", "revision")):
        if entry.get(key):
            draft.put(f"data.{to}", entry[key], f"{where}.{key}")
    columns = _part(draft, entry, "columns", where)
    formatting = entry.get("formatting", "alpaca")
    if stage == "pt":
        draft.put("data.layout", "text", where, "the text alone, as stage pt trains it")
        draft.put("data.completion_column", columns.get("prompt", "instruction"), where)
    elif formatting == "sharegpt":
        _sharegpt(draft, where, columns, _part(draft, entry, "tags", where))
    elif formatting == "alpaca":
        _alpaca(draft, where, columns)
    elif formatting == "openai":
        draft.put("data.layout", "messages", f"{where}.formatting", 'was "openai"')
    else:
        raise draft.wrong(f"{where}.formatting", f"{formatting!r} is neither alpaca nor sharegpt")
    for key, value in entry.items():
        if key not in _READ and value is not None:
            draft.leave(f"{where}.{key}", _WORDS.get(key, "not known here"), value)


def _part(draft: Draft, entry: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = entry.get(key) or {}
    if not isinstance(value, dict):
        raise draft.wrong(f"{where}.{key}", "must be a mapping")
    return value


def _alpaca(draft: Draft, where: str, columns: dict[str, Any]) -> None:
    """Columns that are not named do not count there, unless none is named."""
    usual = {"prompt": "instruction", "query": "input", "response": "output"}
    named = {key: str(columns[key]) for key in usual if columns.get(key)} or usual
    prompt, query, response = (named.get(key, "") for key in usual)
    if prompt == "instruction":
        draft.put("data.layout", "alpaca", f"{where}.formatting")
        if query not in ("", "input"):
            draft.put("data.prompt_column", query, f"{where}.columns.query")
        if response not in ("", "output"):
            draft.put("data.completion_column", response, f"{where}.columns.response")
    else:
        draft.put("data.layout", "columns", f"{where}.columns", "two columns")
        draft.put("data.prompt_column", prompt, f"{where}.columns.prompt")
        draft.put("data.completion_column", response or "output", f"{where}.columns.response")
        if query:
            draft.leave(
                f"{where}.columns.query",
                "goes below the prompt there; name the prompt's column instruction to have both",
                query,
            )
    _others(
        draft, where, columns, {*usual, *(("history",) if "history" in columns.values() else ())}
    )


def _sharegpt(draft: Draft, where: str, columns: dict[str, Any], tags: dict[str, Any]) -> None:
    roles = tags.get("role_tag", "from") == "role"
    draft.put("data.layout", "messages" if roles else "sharegpt", f"{where}.formatting")
    name, usual = columns.get("messages", "conversations"), "messages" if roles else "conversations"
    if name != usual:
        draft.put("data.completion_column", name, f"{where}.columns.messages")
    kinds = {
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
        "observation_tag": "tool",
        "function_tag": "assistant",
    }
    for key, value in tags.items():
        known = {
            "role_tag": value in ("role", "from"),
            "content_tag": value in ("content", "value"),
        }.get(key, ROLES.get(str(value).lower()) == kinds.get(key, ""))
        if not known:
            draft.leave(
                f"{where}.tags.{key}",
                "turns say who speaks as role or from, and what as "
                "content or value; rename it in the data",
                value,
            )
    _others(draft, where, columns, {"messages"})


def _others(draft: Draft, where: str, columns: dict[str, Any], known: set[str]) -> None:
    for key, value in columns.items():
        if key in known or (key == "system" and value == "system") or value is None:
            continue
        why = "only a column system is read as such" if key == "system" else "not read"
        draft.leave(f"{where}.columns.{key}", why, value)
