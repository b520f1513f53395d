"""What the demo's catalogue knows about each kind of product, from `facts/*.toml` on first use.

Every kind carries three uses, three materials and three parts; its department adds sizes, colours,
the people who buy such things, places and care. Generated titles and descriptions say nothing else.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

COLOURS = (
    "black, white, red, navy blue, forest green, silver, charcoal, cream, sage, copper, teal, "
    "mustard, coral, sand, plum, ivory"
)
# Kinds that end in s and are one thing all the same.
_SINGULAR = re.compile(r"(ss|atlas|compass|harness|press|dress|canvas)$")
_SOUNDS_LIKE_YOU = ("usb", "uku", "uti", "uni", "one ", "eu")
_WORDS = re.compile(r"[^\W_]+")
_ACRONYM = re.compile(r"[AEFHILMNORSX][A-Z]+\b")


@dataclass(frozen=True)
class Kind:
    """One kind of product and the facts a description may use."""

    name: str
    department: str
    plural: bool
    uses: tuple[str, ...]
    materials: tuple[str, ...]
    parts: tuple[str, ...]
    sizes: tuple[str, ...]
    colours: tuple[str, ...]
    people: tuple[str, ...]
    places: tuple[str, ...]
    care: tuple[str, ...]


def with_article(phrase: str) -> str:
    """`a` or `an` before a phrase, by its sound as far as its first letters tell."""
    lower = phrase.lower()
    vowel = lower[0] in "aeiou" and not lower.startswith(_SOUNDS_LIKE_YOU)
    return ("an " if vowel or _ACRONYM.match(phrase) else "a ") + phrase


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, by department and then as their file lists them."""
    found: list[Kind] = []
    folder = resources.files("engine.demo") / "facts"
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".toml") or entry.name == "names.toml":
            continue
        facts = tomllib.loads(entry.read_text(encoding="utf-8"))
        for name, text in facts["kinds"].items():
            uses, materials, parts = (tuple(part.split(", ")) for part in text.split(" | "))
            found.append(
                Kind(
                    name=name,
                    department=entry.name.removesuffix(".toml"),
                    plural=name.endswith("s") and not _SINGULAR.search(name),
                    uses=uses,
                    materials=materials,
                    parts=parts,
                    sizes=tuple(facts["sizes"].split(", ")),
                    colours=tuple(facts.get("colours", COLOURS).split(", ")),
                    people=tuple(facts["people"].split(", ")),
                    places=tuple(facts["places"].split(", ")),
                    care=tuple(facts["care"].split(" | ")),
                )
            )
    return tuple(found)


@cache
def brands_and_series() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Invented brands, and the lines they sell."""
    text = (resources.files("engine.demo") / "facts" / "names.toml").read_text(encoding="utf-8")
    names = tomllib.loads(text)
    brands, series = (names[key].replace("\n", " ").split(",") for key in ("brands", "series"))
    return tuple(name.strip() for name in brands), tuple(name.strip() for name in series)


@cache
def _names() -> tuple[frozenset[str], int]:
    names = frozenset(kind.name for kind in kinds())
    return names, max(name.count(" ") for name in names) + 1


def kind_of(title: str) -> str | None:
    """The kind a title names: the longest match of whole words, whatever their case, or None."""
    # Looking up runs of words takes 8 us a title; one pattern of all the names, hundreds.
    names, most = _names()
    words = _WORDS.findall(title.lower())
    best = ""
    for start in range(len(words)):
        for end in range(start + 1, min(start + most, len(words)) + 1):
            name = " ".join(words[start:end])
            if name not in names:
                name = name.removesuffix("s")
            if len(name) > len(best) and name in names:
                best = name
    return best or None
