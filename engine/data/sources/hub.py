"""A dataset of the Hugging Face hub as a source: its data files of one split, fetched or cached."""

import fnmatch
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.sources.recognise import DATA_ENDINGS, PACKED_ENDINGS
from engine.errors import UserError
from engine.home import Home

if TYPE_CHECKING:
    from engine.sections.data import DataSection

__all__ = ["choose", "fetch", "hub_name", "is_hub_id"]

PREFIX = "hub:"
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")
_TOKEN = re.compile(r"[^A-Za-z0-9]+")
_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NOT_DATA = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")


def hub_name(source: str) -> str:
    """What follows ``hub:``, or nothing."""
    return source.removeprefix(PREFIX) if source.startswith(PREFIX) else ""


def is_hub_id(source: str, path: Path) -> bool:
    """Whether a source names a dataset on the hub and nothing on this machine."""
    if source.startswith(PREFIX):
        return True
    if not _ID.fullmatch(source) or _is_data(source):
        return False
    return not path.exists() and not path.parent.exists()


def fetch(home: Home, data: "DataSection") -> Path:
    """A folder of links to the files of a split, fetched first when they are not cached.

    Raises :class:`UserError` that says what to do when the hub cannot be asked or has no such
    dataset.
    """
    name = hub_name(data.source) or data.source
    snapshot, chosen = _snapshot(name, data)
    for file in chosen:
        _check_whole(file, chosen, name)
    what = "-".join(
        _TOKEN.sub("-", part)
        for part in (name.replace("/", "--"), data.subset, data.hub_split, snapshot.name[:12])
        if part
    )
    folder = home.datasets / ".sources" / f"hub-{what}"
    links = {folder / file: snapshot / file for file in chosen}
    if folder.is_dir() and {path for path in folder.rglob("*") if path.is_file()} == set(links):
        return folder
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    for link, target in links.items():
        link = temporary / link.relative_to(folder)
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.symlink_to(target)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return folder


def _snapshot(name: str, data: "DataSection") -> tuple[Path, list[str]]:
    import httpx
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    revision = data.revision or None
    try:
        try:
            info = HfApi().dataset_info(name, revision=revision)
        except (
            httpx.HTTPError,
            OfflineModeIsEnabled,
            HfHubHTTPError,
            ConnectionError,
        ) as error:
            if isinstance(error, (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError)):
                raise
            return _cached(name, data, _first_line(error))
        names = [sibling.rfilename for sibling in info.siblings or ()]
        readme = ""
        if "README.md" in names:
            card = hf_hub_download(name, "README.md", repo_type="dataset", revision=revision)
            readme = Path(card).read_text(encoding="utf-8", errors="replace")
        chosen = choose(names, readme, name, data.hub_split, data.subset)
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[*map(_literal, chosen), "README.md"],
        )
        return Path(folder), chosen
    except GatedRepoError:
        raise UserError(
            f"{name}: access to this dataset must be asked for on the hub; then set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"data.revision: {name} has no revision {data.revision!r}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{name}: no such file or folder here, and no such dataset on the hub; check the name, "
            "or set HF_TOKEN for a private one"
        ) from None
    except HFValidationError:
        raise UserError(f"{name!r}: not the name of a hub dataset; write org/name") from None
    except (httpx.HTTPError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: cannot be fetched from the hub ({_first_line(error)}); try again"
        ) from None


def _cached(name: str, data: "DataSection", why: str) -> tuple[Path, list[str]]:
    """The same from the cache, when the hub cannot be asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                name,
                repo_type="dataset",
                revision=data.revision or None,
                allow_patterns=["README.md"],
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        raise UserError(
            f"{name}: no such file or folder here, and the hub cannot be reached ({why}); connect, "
            "set HF_ENDPOINT to a mirror, or copy the files here and name their folder"
        ) from None
    names = [
        path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    card = folder / "README.md"
    readme = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return folder, choose(names, readme, name, data.hub_split, data.subset)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _literal(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def _is_data(name: str) -> bool:
    plain = name.lower()
    for ending in PACKED_ENDINGS:
        plain = plain.removesuffix(ending)
    return plain.endswith(DATA_ENDINGS) and Path(plain).name not in _NOT_DATA


def _check_whole(file: str, chosen: Sequence[str], name: str) -> None:
    if match := _SHARD.search(file):
        stem = file[: match.start()]
        there = sum(other.startswith(stem) and _SHARD.search(other) is not None for other in chosen)
        if there < int(match[2]):
            raise UserError(
                f"{name}: only {there} of {int(match[2])} files of {stem} are in the cache; "
                "connect to the hub once to fetch the others"
            )


def choose(
    names: Sequence[str], readme: str, name: str, split: str = "train", subset: str = ""
) -> list[str]:
    """The data files of a split among the files of a dataset: as its README says, or by name."""
    data = sorted(
        file
        for file in names
        if _is_data(file) and not any(part.startswith(".") for part in file.split("/"))
    )
    if not data:
        raise UserError(f"{name}: has no data files that can be read ({', '.join(DATA_ENDINGS)})")
    configs = _configs(readme)
    if configs:
        return _by_config(data, configs, name, split, subset)
    if subset:
        inside = [file for file in data if subset in file.split("/")[:-1]]
        inside = inside or [file for file in data if subset in _TOKEN.split(Path(file).name)]
        if not inside:
            raise UserError(f"data.subset: {name} has no subset {subset!r}")
        data = inside
    wanted = _ALIASES.get(split, (split,))
    known = {alias: side for side, aliases in _ALIASES.items() for alias in aliases}
    sides: dict[str, list[str]] = {}
    for file in data:
        words = _TOKEN.split(file.lower())
        if split in file.split("/") or any(word in words for word in wanted):
            sides.setdefault(split, []).append(file)
        else:
            side = next((known[word] for word in words if word in known), "")
            sides.setdefault(side, []).append(file)
    if split in sides:
        return sides[split]
    if list(sides) == [""] and split == "train":
        return data
    there = ", ".join(side for side in sides if side) or "train"
    raise UserError(f"data.hub_split: {name} has no split {split!r}; there are: {there}")


def _configs(readme: str) -> list[dict[str, Any]]:
    """The configurations in a dataset card's head."""
    match = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", readme, re.DOTALL)
    if not match:
        return []
    import yaml

    try:
        head = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return []
    configs = head.get("configs") if isinstance(head, dict) else None
    return [
        config for config in configs or () if isinstance(config, dict) and config.get("data_files")
    ]


def _by_config(
    data: list[str], configs: list[dict[str, Any]], name: str, split: str, subset: str
) -> list[str]:
    named = {str(config.get("config_name", "default")): config for config in configs}
    if subset and subset not in named:
        raise UserError(
            f"data.subset: {name} has no subset {subset!r}; there are: {', '.join(named)}"
        )
    if not subset:
        first = [key for key, config in named.items() if config.get("default")]
        first = first or [key for key in named if key == "default" or len(named) == 1]
        if not first:
            raise UserError(f"data.subset: {name} has several: {', '.join(named)}; name one")
        subset = first[0]
    patterns = _patterns(named[subset])
    if split not in patterns:
        raise UserError(
            f"data.hub_split: {name} has no split {split!r}; there are: {', '.join(patterns)}"
        )
    base = str(named[subset].get("data_dir") or "").strip("/")
    wanted = [f"{base}/{pattern}" if base else pattern for pattern in patterns[split]]
    found = [file for file in data if any(fnmatch.fnmatchcase(file, p) for p in wanted)]
    if not found:
        raise UserError(f"{name}: no data file that can be read matches {', '.join(wanted)}")
    return found


def _patterns(config: dict[str, Any]) -> dict[str, list[str]]:
    """Split -> patterns of its files."""
    files = config["data_files"]
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    if isinstance(files, str) or not all(isinstance(item, dict) for item in files):
        files = [{"split": "train", "path": files}]
    found: dict[str, list[str]] = {}
    for item in files:
        path = item.get("path", [])
        paths = [path] if isinstance(path, str) else list(path)
        split = str(item.get("split", "train"))
        found.setdefault(split, []).extend(str(p).removeprefix("./") for p in paths)
    return found
