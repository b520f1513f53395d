"""Sources that are no single file: folders, standard input, hub datasets, the catalogue."""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.data.rows import RawRow
from engine.data.sources import (
    RawRecords,
    Source,
    check_source,
    dataset_name,
    identity,
    locate_source,
    look,
    open_source,
    source_sha256,
    where,
)
from engine.data.sources.hub import choose, is_hub_id
from engine.errors import UserError
from engine.home import Home, open_home
from engine.recipe import DataSection, Recipe

ROOT = Path(__file__).parents[2]


def lines(count: int, first: int = 0) -> bytes:
    rows = [{"title": f"t{n}", "content": f"c{n}"} for n in range(first, first + count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(home: Home, source: Path | str, **settings: str) -> tuple[list[RawRow], Source]:
    opened = open_source(home, DataSection(source=str(source), **settings))
    parser = opened.parser()
    return [row for chunk in opened.chunks() for row in parser.rows(chunk)], opened


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pile"
    put(folder / "b.csv", b"title,content\nt2,c2\n\nt3,c3\n")
    put(folder / "a.jsonl", lines(2))
    put(folder / "more" / "c.json.gz", gzip.compress(b"[" + lines(1, 4).strip() + b"]"))
    put(folder / "README.md", b"# a pile")
    put(folder / ".hidden.jsonl", b"{}")
    put(folder / ".git" / "x.jsonl", b"{}")
    put(folder / "dataset_info.json", b'{\n"features": {}\n}')
    put(folder / "empty.jsonl", b"")
    return folder


def test_a_folder_is_read_in_the_order_of_names(home: Home, folder: Path) -> None:
    rows, source = read(home, folder)
    assert [row.row and row.row.prompt for row in rows] == ["t0", "t1", "t2", "t3", "t4"]
    assert [row.line for row in rows] == [1, 2, 4, 6, 7]
    assert [source.where(row.line) for row in rows] == [
        (folder / "a.jsonl", 1),
        (folder / "a.jsonl", 2),
        (folder / "b.csv", 2),
        (folder / "b.csv", 4),
        (folder / "more" / "c.json.gz", 1),
    ]
    records = RawRecords(source.index)
    assert records.several
    assert [raw for _, raw in records.records(0, 9)] == [row.raw for row in rows]
    assert where(source.index, 6) == (folder / "b.csv", 4)
    notes = look(home, DataSection(source=str(folder))).notes
    assert any("README.md" in note and "not data files" in note for note in notes)
    assert any("dataset_info.json: is one JSON object" in note for note in notes)
    assert any("empty.jsonl: is empty" in note for note in notes)
    assert not any("hidden" in note or ".git" in note for note in notes)


def test_files_of_another_layout_are_named(home: Home, folder: Path) -> None:
    put(folder / "z.jsonl", b'{"question": "q", "answer": "a"}\n')
    with pytest.raises(UserError, match=r"z\.jsonl: no column 'title', unlike .* question, answer"):
        look(home, DataSection(source=str(folder)))


def test_folders_named_after_splits_are_one_pile(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "pile"
    put(folder / "train-00000-of-00001.jsonl", lines(2))
    put(folder / "validation.jsonl", lines(1, 2))
    put(folder / "test" / "data.jsonl", lines(1, 3))
    found = look(home, DataSection(source=str(folder)))
    assert len(found.files) == 3
    assert any("named after splits" in note and "one pile" in note for note in found.notes)


def test_folders_without_data(home: Home, tmp_path: Path) -> None:
    put(tmp_path / "pile" / "picture.png", b"x")
    recipe = Recipe(name="r", data=DataSection(source=str(tmp_path / "pile")))
    with pytest.raises(UserError, match="has no data file in it"):
        check_source(recipe)
    put(tmp_path / "pile" / "rows.jsonl", b"")
    with pytest.raises(UserError, match="no file with rows"):
        look(home, recipe.data)


def test_a_folder_is_identified_by_its_content(home: Home, folder: Path, tmp_path: Path) -> None:
    first = source_sha256(home, folder)
    folder.rename(tmp_path / "elsewhere")
    assert source_sha256(home, tmp_path / "elsewhere") == first
    put(tmp_path / "elsewhere" / "b.csv", b"title,content\nt2,c2\n\nt3,c4\n")
    assert source_sha256(home, tmp_path / "elsewhere") != first


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/rows.jsonl.gz", "rows"),
        ("rows.csv.zst", "rows"),
        ("data/x y.parquet", "x-y"),
        ("org/some-set", "some-set"),
        ("hub:squad", "squad"),
        ("-", "stdin"),
        ("builtin:catalogue", "catalogue"),
        ("/data/pile/", "pile"),
    ],
)
def test_names(source: str, name: str) -> None:
    assert dataset_name(DataSection(source=source)) == name


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("org/name", True),
        ("hub:squad", True),
        ("tatsu-lab/alpaca", True),
        ("data/rows.jsonl", False),
        ("data/rows.csv.gz", False),
        ("../name", False),
        ("/org/name", False),
        ("a/b/c", False),
        ("name", False),
        ("tests/nothing", False),  # there is such a folder here
    ],
)
def test_what_is_taken_for_a_hub_dataset(
    source: str, hub: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert is_hub_id(source, Path(source).absolute()) is hub


def test_sources_that_are_not_there(home: Home, tmp_path: Path) -> None:
    for source in (str(tmp_path / "nothing"), str(tmp_path / "no" / "rows.jsonl"), "a/b/c"):
        recipe = Recipe(name="r", data=DataSection(source=source))
        with pytest.raises(UserError, match="no such file"):
            check_source(recipe)
        with pytest.raises(UserError, match="no such file"):
            look(home, recipe.data)
    with pytest.raises(UserError, match="no built-in 'builtin:x'"):
        check_source(Recipe(name="r", data=DataSection(source="builtin:x")))


READ = """
import json, sys
from engine.data.sources import check_source, locate_source, open_source
from engine.errors import UserError
from engine.home import open_home
from engine.recipe import DataSection, Recipe
home = open_home(sys.argv[1])
data = DataSection(**json.loads(sys.argv[2]))
try:
    check_source(Recipe(name="r", data=data))
    place = locate_source(home, data)
    source = open_source(home, data)
    rows = [row for chunk in source.chunks() for row in source.parser().rows(chunk)]
except UserError as error:
    print(json.dumps({"error": str(error)}))
else:
    titles = [row.row and row.row.prompt for row in rows]
    print(json.dumps({"place": str(place), "titles": titles}))
"""


def in_process(home: Home, stdin: bytes | int = b"", **data: str) -> dict[str, object]:
    given = {"stdin": stdin} if isinstance(stdin, int) else {"input": stdin}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(home.path), json.dumps(data)],
        cwd=ROOT, capture_output=True, timeout=60, env=os.environ, **given,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_standard_input_is_kept_by_its_content(home: Home) -> None:
    answer = in_process(home, gzip.compress(lines(3), mtime=0), source="-")
    assert answer["titles"] == ["t0", "t1", "t2"]
    place = Path(str(answer["place"]))
    assert place.parent == home.datasets / ".sources"
    assert place.stat().st_mode & 0o077 == 0
    again = in_process(home, gzip.compress(lines(3), mtime=0), source="-")
    assert again["place"] == answer["place"]
    assert in_process(home, b"", source="-")["error"] == "-: standard input is empty"
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_a_terminal_is_no_source(home: Home) -> None:
    ours, theirs = os.openpty()
    try:
        assert "is a terminal" in str(in_process(home, theirs, source="-")["error"])
    finally:
        os.close(ours)
        os.close(theirs)


# The hub

CARD = """---
configs:
- config_name: small
  data_files:
  - split: train
    path: small/train-*
- config_name: large
  data_files: {train: [large/a.jsonl, large/b.jsonl], test: large/t.jsonl}
---
# Text
"""


@pytest.mark.parametrize(
    ("names", "settings", "chosen"),
    [
        (["data/train-0.parquet", "data/test-0.parquet", "x.py"], {}, ["data/train-0.parquet"]),
        (["data/train-0.parquet", "data/val-0.parquet"], {"split": "validation"},
         ["data/val-0.parquet"]),
        (["a.jsonl", "b.csv", "README.md", "dataset_infos.json"], {}, ["a.jsonl", "b.csv"]),
        (["en/train.jsonl", "de/train.jsonl"], {"subset": "de"}, ["de/train.jsonl"]),
        (["trainer.jsonl"], {}, ["trainer.jsonl"]),
    ],
)  # fmt: skip
def test_the_files_of_a_split(
    names: list[str], settings: dict[str, str], chosen: list[str]
) -> None:
    assert choose(names, "", "org/name", **settings) == chosen


def test_the_files_of_a_split_by_the_card() -> None:
    names = ["small/train-0.parquet", "small/train-1.parquet", "large/a.jsonl", "large/b.jsonl"]
    assert choose(names, CARD, "n", subset="small") == names[:2]
    assert choose(names, CARD, "n", subset="large") == names[2:]
    for words, settings in (
        ("several: small, large", {}),
        ("no subset 'x'; there are: small, large", {"subset": "x"}),
        ("no split 'dev'; there are: train, test", {"subset": "large", "split": "dev"}),
        ("no data file that can be read matches large/t", {"subset": "large", "split": "test"}),
    ):
        with pytest.raises(UserError, match=words):
            choose(names, CARD, "n", **settings)
    with pytest.raises(UserError, match="no split 'test'; there are: train"):
        choose(["train.csv"], "", "n", "test")
    with pytest.raises(UserError, match="no data files that can be read"):
        choose(["load.py"], "", "n")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"# no configuration",
    "data/train-00000-of-00002.jsonl": lines(2),
    "data/train-00001-of-00002.jsonl": lines(1, 2),
    "data/test-00000-of-00001.jsonl": lines(1, 9),
}


class FakeHub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a download of one dataset asks for."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        name = path.partition(f"/resolve/{COMMIT}/")[2] or path.partition("/resolve/main/")[2]
        if path.startswith("/datasets/org/name/resolve/") and name in FILES:
            content = FILES[name]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(content) & 0xFFFFFFFF:x}"'}
        elif path.startswith("/api/datasets/org/name/tree/"):
            content = json.dumps(
                [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40}
                 for p, c in FILES.items()]
            ).encode()  # fmt: skip
            headers = {"Content-Type": "application/json"}
        elif path.startswith("/api/datasets/org/name"):
            siblings = [{"rfilename": name} for name in FILES]
            content = json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode()
            headers = {"Content-Type": "application/json"}
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    yield server
    server.shutdown()
    server.server_close()


def test_a_hub_dataset_is_fetched_and_then_found_without_the_hub(
    home: Home, hub: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = in_process(home, source="org/name")
    assert answer.get("titles") == ["t0", "t1", "t2"], answer
    assert COMMIT[:12] in str(answer["place"])
    assert in_process(home, source="hub:org/name", hub_split="test")["titles"] == ["t9"]
    error = str(in_process(home, source="org/other")["error"])
    assert "no such dataset on the hub" in error
    error = str(in_process(home, source="org/name", hub_split="dev")["error"])
    assert "no split 'dev'; there are: test, train" in error
    hub.shutdown()
    hub.server_close()
    assert in_process(home, source="org/name") == answer
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert in_process(home, source="org/name") == answer
    error = str(in_process(home, source="org/other")["error"])
    assert "the hub cannot be reached" in error and "name their folder" in error


def test_a_cache_that_is_not_whole_is_no_dataset(home: Home, hub: http.server.HTTPServer) -> None:
    assert "titles" in in_process(home, source="org/name")
    cached = next(Path(os.environ["HF_HOME"]).rglob("train-00001-of-00002.jsonl"))
    cached.unlink()
    hub.shutdown()
    hub.server_close()
    assert "only 1 of 2 files" in str(in_process(home, source="org/name")["error"])


def test_the_catalogue_is_made_once(home: Home) -> None:
    data = DataSection(catalogue_rows=50)
    heard: list[int] = []
    path = locate_source(home, data, heard.append)
    stamp = path.stat().st_mtime_ns
    assert locate_source(home, data) == path
    assert path.stat().st_mtime_ns == stamp
    rows, _ = read(home, "builtin:catalogue")
    assert rows


def test_the_hashes_of_a_folder_are_written_down_once(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a file, 10,000 files took minutes: each time all known ones were written again."""
    times: list[Path] = []
    real = identity.locked

    def counted(path: Path):
        times.append(path)
        return real(path)

    monkeypatch.setattr(identity, "locked", counted)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.jsonl").write_text(f'{{"title": "{number}", "content": "c"}}\n')
    first = source_sha256(home, folder)
    assert len(times) == 1
    assert source_sha256(home, folder) == first
    assert len(times) == 1, "remembered"
