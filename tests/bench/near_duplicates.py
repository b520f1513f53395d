"""Near-duplicates: how many planted edits are found, what else is flagged, how fast, how large.

    python -m tests.bench.near_duplicates [--rows 20000] [--documents 1350000] [--rivals]

Each corpus gets one edited copy of every fifth text, all six kinds in turn, somewhere behind the
original. "Precision" counts a flagged text as right when it was planted, or when at most an eighth
of its words differ from the line it was said to repeat (the catalogue has such texts of its own).
Seconds are CPU seconds of signing and looking up together, on one core.
"""

import argparse
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import orjson
from isal import igzip

from engine.data.rules.near import NearIndex, Signatures, Signer
from engine.data.rules.text import control, html, whitespace
from engine.demo.catalogue import babble, write_catalogue
from engine.sections.data import NearDuplicatesRule

KINDS = ("case", "space", "punctuation", "word", "insertion", "sentences")
BATCH = 1000


def catalogue_texts(rows: int, seed: int, long: bool) -> list[str]:
    """Different descriptions of a built-in catalogue, cleaned."""
    texts: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalogue.jsonl.gz")
        write_catalogue(path, rows, seed, long=long)
        for line in igzip.open(path, "rb"):
            try:
                content = orjson.loads(line)["content"]
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(content, str) and (text := whitespace(control(html(content)))):
                texts[text] = None
    return list(texts)


def invented_texts(rows: int, seed: int) -> list[str]:
    """Sentences of invented words, some 600 characters a text, no two alike."""
    rng = Random(seed)
    words = babble(rng).split()
    rng.shuffle(words)
    texts = []
    for _ in range(rows):
        sentences = []
        for _ in range(rng.randint(5, 15)):
            start = rng.randrange(len(words) - 20)
            sentence = " ".join(words[start : start + rng.randint(5, 18)])
            sentences.append(f"{sentence.capitalize()}.")
        texts.append(" ".join(sentences))
    return texts


def edit(text: str, kind: str, rng: Random) -> str:
    """The text with one small difference; the same text where the kind does not apply."""
    words = text.split(" ")
    place = rng.randrange(len(words))
    if kind == "case":
        return rng.choice((str.upper, str.lower, str.title, str.swapcase))(text)
    if kind == "space":
        words[place] = f"\n\n {words[place]}"
        return "  ".join(words)
    if kind == "punctuation":
        return rng.choice((text.replace(".", ""), text.replace(".", "!"), text.replace(" ", ", ")))
    if kind == "word":
        words[place] = rng.choice(("really", "quality", "new", "1984"))
    if kind == "insertion":
        words.insert(place, rng.choice(("really", "quality", "new", "1984")))
    if kind == "sentences":
        sentences = text.split(". ")
        sentences[-1] = sentences[-1].removesuffix(".")
        rng.shuffle(sentences)
        return ". ".join(sentences) + "."
    return " ".join(words)


def plant(texts: list[str], seed: int) -> tuple[list[str], dict[int, str]]:
    """The texts with edited copies among them, and the kind of edit by place."""
    rng = Random(seed)
    placed: list[tuple[float, str, str]] = []
    for number, text in enumerate(texts):
        placed.append((number, text, ""))
        if number % 5 == 0:
            kind = KINDS[number // 5 % len(KINDS)]
            copy = edit(text, kind, rng)
            if copy != text:
                placed.append((rng.uniform(number, len(texts)), copy, kind))
    placed.sort()
    return [text for _, text, _ in placed], {
        place: kind for place, (_, _, kind) in enumerate(placed) if kind
    }


def differ(one: str, other: str) -> float:
    """Share of words that differ."""
    a, b = one.lower().split(), other.lower().split()
    same = sum(m.size for m in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
    return 1 - same / max(len(a), len(b))


def ours(texts: Sequence[str]) -> list[int]:
    rule = NearDuplicatesRule()
    signer, index = Signer(rule), NearIndex(rule)
    found: list[int] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        lines = range(start + 1, start + 1 + len(batch))
        found += index.add(lines, signer.sign(batch))
    return found


def _features(text: str) -> list[str]:
    """The same as ours: words and pairs of neighbours."""
    words = re.findall(r"[^\W_]+", text.lower())
    return [*words, *map(" ".join, pairwise(words))]


def rensa_alone(texts: Sequence[str]) -> list[int]:
    from rensa import RMinHashDeduplicator

    index = RMinHashDeduplicator(0.8, 128, True, 16, 42)
    # It does not say of which line a text is a repetition, so its precision is not judged.
    stays = index.add_pairs((str(n), _features(text)) for n, text in enumerate(texts))
    return [0 if stay else -1 for stay in stays]


def datasketch_alone(texts: Sequence[str]) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.8, num_perm=128)
    found = []
    for number, text in enumerate(texts):
        values = MinHash(num_perm=128)
        values.update_batch([feature.encode() for feature in _features(text)])
        near = index.query(values)
        found.append(int(near[0]) + 1 if near else 0)
        if not near:
            index.insert(number, values)
    return found


def measure(name: str, texts: list[str], method: Callable[[Sequence[str]], list[int]]) -> None:
    texts, planted = plant(texts, 1)
    began = time.process_time()
    found = method(texts)
    seconds = time.process_time() - began
    flagged = {place for place, line in enumerate(found) if line}
    kinds = Counter(planted.values())
    recalls = [sum(planted[p] == kind for p in flagged & planted.keys()) for kind in KINDS]
    recall = sum(recalls) / len(planted)
    other = flagged - planted.keys()
    known = [p for p in other if found[p] > 0]
    wrong = sum(differ(texts[found[p] - 1], texts[p]) > 1 / 8 for p in known)
    parts = " ".join(f"{n / max(1, kinds[k]):7.3f}" for n, k in zip(recalls, KINDS, strict=True))
    characters = sum(map(len, texts)) // len(texts)
    precision = f"{1 - wrong / len(flagged):9.3f}" if len(known) == len(other) else f"{'':9}"
    print(
        f"{name:22} {len(texts):7,} {characters:6} {parts} {recall:7.3f} "
        f"{precision} {len(other):6} {wrong:5} {len(texts) / seconds:9,.0f}",
        flush=True,
    )


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size(documents: int) -> None:
    """The index alone, filled with signatures that have nothing in common."""
    rng, index = np.random.default_rng(0), NearIndex(NearDuplicatesRule())
    before, seconds = resident(), 0.0
    for start in range(0, documents, BATCH):
        count = min(BATCH, documents - start)
        signatures = Signatures(
            rng.integers(0, 1 << 64, (count, 13), np.uint64),
            rng.integers(0, 256, (count, 64), np.uint8),
            np.full(count, 100),
        )
        began = time.process_time()
        index.add(range(start + 1, start + count + 1), signatures)
        seconds += time.process_time() - began
    taken = resident() - before
    print(
        f"index of {documents:,} documents: {taken / 1e6:.0f} MB, {taken / documents:.0f} bytes a "
        f"document, {seconds / documents * 1e6:.1f} us a document to look up and add"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=1_350_000)
    parser.add_argument("--rivals", action="store_true", help="rensa's and datasketch's own index")
    arguments = parser.parse_args()
    size(arguments.documents)  # first, while no freed memory can be taken again
    rows = arguments.rows
    corpora = {
        "catalogue, long": catalogue_texts(rows * 3 // 2, 1, long=True),
        "catalogue, short": catalogue_texts(rows * 3 // 2, 1, long=False),
        "invented words": invented_texts(rows, 1),
    }
    ours(corpora["invented words"][:100])  # imports and tables are no part of the rate
    print(f"{'corpus':22} {'texts':>7} {'chars':>6}", *(f"{kind[:7]:>7}" for kind in KINDS), end="")
    print(f" {'recall':>7} {'precision':>9} {'others':>6} {'wrong':>5} {'docs/CPU s':>9}")
    for name, texts in corpora.items():
        measure(name, texts, ours)
    if arguments.rivals:
        for rival in (rensa_alone, datasketch_alone):
            few = corpora["catalogue, long"][: rows // 2]
            measure(rival.__name__, few, rival)


if __name__ == "__main__":
    main()
