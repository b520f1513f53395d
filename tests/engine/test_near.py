"""Near-duplicates: what is found, what is left alone, and that batches make no difference."""

import pickle
import time
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.rules import near
from engine.data.rules.near import NearIndex, Signatures, Signer
from engine.data.rules.near_table import KeyTable
from engine.data.rules.near_words import hash_words, mix
from engine.sections.data import NearDuplicatesRule

TEXT = (
    "This steel frying pan spreads the heat evenly. It is suitable for all kinds of stoves and may "
    "go into the dishwasher. The handle stays cool. A lid of glass is part of the set."
)
OTHER = (
    "Our wool blanket keeps a family warm on long evenings. Wash it by hand in cold water only. "
    "It comes in four colors and two sizes, and every one of them is woven by hand."
)
PINNED = [
    824926139950237965,
    "83f521be1d7f8f2f60446a2152f22ebfbac4d21146b9ea00f2174a553d7f0c82"
    "baab699daac8a9f19cce419c9fe4893c7a4c7b15e7a070db8db649014449445f",
]
VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrst"]


def invented(count: int, seed: int, words: int = 40) -> list[str]:
    rng = Random(seed)
    return [" ".join(rng.choices(VOCABULARY, k=words)) for _ in range(count)]


def found(texts: list[str], batch: int = 1000, **options) -> list[int]:
    rule = NearDuplicatesRule(**options)
    signer, index = Signer(rule), NearIndex(rule)
    lines: list[int] = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        lines += index.add(range(start + 1, start + 1 + len(part)), signer.sign(part))
    return lines


@pytest.mark.parametrize(
    "edited",
    [
        TEXT.upper(),
        TEXT.replace(" ", "\n  "),
        TEXT.replace(".", " !"),
        TEXT.replace("steel", "iron"),
        TEXT.replace("frying pan", "big frying pan"),
        TEXT.replace("may go", "go"),
        f"{TEXT} New!",
        "A lid of glass is part of the set. " + TEXT[: TEXT.index(" A lid of glass")],
        TEXT.replace("dishwasher", "dish\u2019washer"),
    ],
    ids=range(9),
)  # fmt: skip
def test_small_edits_are_found(edited: str) -> None:
    assert found([OTHER, TEXT, edited, TEXT]) == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXT, OTHER),
        (TEXT, TEXT[: len(TEXT) // 2] + OTHER[len(OTHER) // 2 :]),
        ("Made of steel.", "Made of brass."),
        ("", ""),
        ("!!!", "!!!"),
        ("", TEXT),
    ],
)
def test_other_texts_are_left_alone(one: str, other: str) -> None:
    assert found([one, other]) == [0, 0]


def test_scripts_without_spaces() -> None:
    chinese = (
        "这款不锈钢煎锅受热均匀，适用于各种炉灶，可放入洗碗机清洗，经久耐用，是厨房的理想之选。"
    )
    assert found([chinese, chinese.replace("煎锅", "大煎锅"), chinese[:20] + "另外一种"]) == [
        0,
        1,
        0,
    ]


def test_the_most_similar_one_is_named() -> None:
    farther = TEXT.replace("steel", "iron").replace("glass", "wood").replace("cool", "cold")
    assert found([farther, TEXT, TEXT.upper()], threshold=0.95) == [0, 0, 2]


def test_threshold() -> None:
    rng, words = Random(0), TEXT.split()
    for place in rng.sample(range(len(words)), 6):
        words[place] = VOCABULARY[place]
    assert found([TEXT, " ".join(words)]) == [0, 0]
    assert found([TEXT, " ".join(words)], threshold=0.45) == [0, 1]


def with_repeats(seed: int) -> list[str]:
    rng, texts = Random(seed), invented(500, seed)
    for _ in range(200):
        words = rng.choice(texts).split()
        words[rng.randrange(len(words))] = "new"
        texts.append(" ".join(words))
    rng.shuffle(texts)
    return texts


@pytest.fixture
def small_tables(monkeypatch) -> None:
    """So that young texts join tables, and tables fill, within a few hundred."""
    monkeypatch.setattr(near, "_YOUNG", 32)
    monkeypatch.setattr(near, "_FIRST_TABLE", 64)


@pytest.mark.usefixtures("small_tables")
def test_batches_make_no_difference() -> None:
    texts = with_repeats(1)
    whole = found(texts)
    assert 150 < sum(map(bool, whole)) <= 200
    assert all(line < number for number, line in enumerate(whole, 1))
    assert found(texts, batch=1) == found(texts, batch=7) == found(texts, batch=33) == whole


@pytest.mark.usefixtures("small_tables")
def test_what_stays_has_no_near_pair() -> None:
    texts = with_repeats(2)
    kept = [text for text, line in zip(texts, found(texts), strict=True) if not line]
    assert not any(found(kept))


def test_the_same_with_and_without_tables(monkeypatch) -> None:
    texts = with_repeats(3)
    young = found(texts)
    monkeypatch.setattr(near, "_YOUNG", 16)
    monkeypatch.setattr(near, "_FIRST_TABLE", 32)
    assert found(texts) == young


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40) | st.sampled_from([TEXT, OTHER, "a b c"]), max_size=12))
def test_any_text_is_survived_and_what_stays_stays(texts: list[str]) -> None:
    lines = found(texts)
    assert found(texts, batch=1) == lines
    kept = [text for text, line in zip(texts, lines, strict=True) if not line]
    assert not any(found(kept))


def test_signatures_are_plain_and_each_its_texts_own() -> None:
    signer = pickle.loads(pickle.dumps(Signer(NearDuplicatesRule())))
    texts = ["", TEXT, OTHER, "one", "", *invented(50, 4), ""]
    together = pickle.loads(pickle.dumps(signer.sign(texts)))
    assert isinstance(together, Signatures)
    for number, text in enumerate(texts):
        alone = signer.sign([text])
        for one, many in zip(alone, together, strict=True):
            assert np.array_equal(one[0], many[number])
    assert len(signer.sign([]).keys) == 0


def test_signatures_never_change() -> None:
    """They are part of what a fingerprint promises: a change here is a new RULES_VERSION."""
    signatures = Signer(NearDuplicatesRule()).sign([TEXT])
    checks = [int(np.bitwise_xor.reduce(signatures.keys[0])), signatures.sketch[0].tobytes().hex()]
    assert checks == PINNED


def test_words() -> None:
    words, counts = hash_words(["The pan's lid, 4.5in", "", "THE\tpans  LID 4 5IN!", "x" * 70_000])
    assert counts.tolist() == [5, 0, 5, 1]
    assert np.array_equal(words[:5], words[5:10])
    assert len(set(words.tolist())) == 6


def test_keys_lead_to_every_document_that_has_them() -> None:
    rng = np.random.default_rng(0)
    table = KeyTable(64, 3)
    keys = mix(rng.integers(0, 40, (64, 3), np.uint64))
    table.add(keys[:10])
    table.add(keys[10:])
    places, documents = table.candidates(keys)
    flat = keys.ravel()
    for place in range(len(flat)):
        expected = {document for document in range(64) if flat[place] in keys[document]}
        assert set(documents[places == place].tolist()) >= expected
    # Strangers in the same slot are few.
    assert sum(flat[p] not in keys[d] for p, d in zip(places, documents, strict=True)) < 20


def test_planted_edits_and_speed() -> None:
    """A small version of tests/bench/near_duplicates.py; the rate there is 30,000 a second."""
    texts, rng = invented(2000, 5, words=100), Random(5)
    edited = []
    for number, text in enumerate(texts[:400]):
        words = text.split()
        place = rng.randrange(1, len(words))
        kinds = (
            lambda w, p: [*w[:p], "new", *w[p:]],
            lambda w, p: [*w[:p], "new", *w[p + 1 :]],
            lambda w, p: [*w[p:], *w[:p]],
            lambda w, p: [word.title() + "," for word in w],
        )
        edited.append(" ".join(kinds[number % 4](words, place)))
    took = []
    for _ in range(3):  # the collector may be at work on what earlier tests left: 0.4 s once
        began = time.thread_time()
        lines = found(texts + edited)
        took.append(time.thread_time() - began)
    assert 2400 / min(took) > 5000
    assert not any(lines[:2000])
    assert lines[2000:] == list(range(1, 401))
