"""Titles and descriptions of invented products: a small grammar over `engine.demo.kinds`.

A description opens with a sentence that (nearly always) names the kind, then takes sentences from
several groups in a drawn order. All text is clean: NFC, single spaces, no markup, no `<` or `>`.
"""

from collections.abc import Callable
from functools import cache
from random import Random

from engine.demo.kinds import Kind, brands_and_series, kind_of, kinds, with_article

_TITLES = (
    "{brand} {Mat} {Kind}, {Size}, {Colour}",
    "{brand} {Mat} {Kind}, {Size}",
    "{brand} {series} {Kind} {Size} {Colour}",
    "{Kind} by {brand} - {size}",
    "{Kind} by {brand}, {Mat}, {Size}",
    "{brand} {model} {Kind} ({Colour})",
    "{Mat} {Kind} - {brand} {series}",
    "{brand} {Kind}",
    "{brand} {Kind}, {Colour}",
    "{Colour} {Kind}, {Size} - {brand}",
    "{brand} {series} {Mat} {Kind} {model}",
    "{series} {Kind} by {brand} ({Size}, {Colour})",
    "{brand} {series} {Kind}",
    "{brand} {Kind} with {T1}",
    "{brand} {Mat} {Kind} with {T1} - {Colour}",
    "{Colour} {Mat} {Kind} from {brand}",
    "{brand} | {Kind} | {Mat} | {Size}",
    "New {brand} {Kind} ({Mat}, {Colour})",
)
_OPENINGS = (
    "The {brand} {kind} {is_} made for {u1} and {u2}.",
    "The {brand} {kind} {is_} ideal for {u1}.",
    "The {brand} {kind} turn{s} {u1} into a pleasure.",
    "The {brand} {series} {kind} {is_} built for {who}.",
    "The {brand} {series} {kind} bring{s} {p1} and {p2} together.",
    "This {mat} {kind_one} from {brand} is made for {u1}.",
    "{A_mat_kind} for {u1}, made by {brand}.",
    "{A_mat_kind} with {p1} and {p2}.",
    "{A_kind} from {brand}, made of {mat}, for {u1} and {u2}.",
    "{This_kind} by {brand} {is_} designed for {u1}.",
    "{This_kind} help{s} with {u1}, {u2} and {u3}.",
    "{This_kind} {is_} made of {mat} and come{s} with {p1}.",
    "{This_kind} {has} {p1} and {is_} perfect for {u1}.",
    "Looking for {a_kind} for {u1}? {brand} has made one for {who}.",
    "Meet the {kind} that {who} have been waiting for.",
    "Meet the {brand} {kind}: {mat}, {p1} and {p2}.",
    "Enjoy {u1} with the {brand} {kind}.",
    "Enjoy {u1} with this {mat} {kind_one}.",
    "Made of {mat}, this {kind_one} is ready for {u1} and {u2}.",
    "Made for {who}, the {brand} {kind} {has} {p1}.",
    "With {p1} and {p2}, the {brand} {kind} {is_} a fine choice for {u1}.",
    "With {p1}, this {kind_one} makes {u1} easy.",
    "Whether for {u1} or {u2}, {this_kind} will serve you for years.",
    "For {u1} or {u2}, choose the {brand} {kind} in {colour}.",
    "Our {kind} in {mat} {is_} a favorite for {u1}.",
    "Our {brand} {kind} {has} {p1}, {p2} and {p3}.",
    "{brand} makes {a_kind} for {who} who enjoy {u1}.",
    "{brand} presents {a_kind} made of {mat}.",
    "Every {kind_one} by {brand} is checked by hand before it leaves the workshop.",
    "{Colour} and made of {mat}, the {kind} by {brand} {is_} right for {where}.",
    "{U1} and {u2} are easy with {this_kind}.",
    "Nothing beats a good {kind_one} for {u1}.",
    "Give {who} {a_kind} they will use every day.",
    "If you love {u1}, you will love {this_kind}.",
)
_PLAIN_OPENINGS = (
    "From the {brand} {series} line.",
    "Great for {u1}, {u2} and {u3}.",
    "{brand} quality for {where}.",
    "Made of {mat} with {p1}.",
)
_GROUPS: tuple[tuple[str, ...], ...] = (
    (  # uses
        "Use {it_o} for {u1}, {u2} or {u3}.",
        "Perfect for {u2} and {u3}.",
        "{It} {is_} also handy for {u3}.",
        "Great for {u2}, and just as good for {u1}.",
        "Ideal for {u1} and {u3}.",
        "You can rely on {it_o} for {u2}.",
        "{U2} will never be a chore again.",
        "Many customers use {this_kind} for {u3}.",
        "Take your time with {u2}: {this_kind} will not let you down.",
        "Try {it_o} for {u3} too.",
        "When it comes to {u1}, the right {kind_one} makes all the difference.",
        "From {u1} to {u3}, {it} do{es} it all.",
    ),
    (  # parts
        "{It} {has} {p1}, {p2} and {p3}.",
        "{It} come{s} with {p1} and {p3}.",
        "Features include {p2} and {p3}.",
        "{P1} and {p2} make {it_o} a pleasure to use.",
        "Details such as {p2} and {p3} show the care of the maker.",
        "You also get {p3}.",
        "Thanks to {p1}, {it} {is_} easy to use.",
        "Note {p2}, a detail that {who} will like.",
        "The {kind} also {has} {p2}.",
        "With {p3} and {p1}, nothing is missing.",
        "There is {p2} for extra comfort, and {p3} as well.",
    ),
    (  # material
        "The {mat} is strong and lasts for years.",
        "Made of {mat} for long life.",
        "{It} {is_} made from quality {mat}.",
        "We chose {mat} because it is tough and looks good.",
        "The {mat} feels good in the hand.",
        "{Mat_s} gives {this_kind} {its} look.",
        "Only the best {mat} is used.",
        "{brand} works with {mat} from trusted suppliers.",
        "Also available in {m2}.",
        "Unlike {m2}, {mat} keeps its shape.",
        "Solid {mat}, no shortcuts.",
    ),
    (  # size and colour
        "Size: {size}.",
        "Color: {colour}.",
        "This is the {size} version in {colour}.",
        "The color is {colour}.",
        "The {colour} finish fits any style.",
        "Comes in {colour}, size {size}.",
        "Choose {size} for most needs.",
        "In {colour}, {it} look{s} right at home in {where}.",
        "Available in {colour} and other colors.",
        "Size and color: {size}, {colour}.",
    ),
    (  # people and places
        "A great gift for {who}.",
        "{It} {is_} a favorite of {who}.",
        "Just right for {where}.",
        "Fits well in {where}.",
        "{Who} love {it_o}.",
        "Loved by {who} everywhere.",
        "At home in {where}, and easy to take along.",
        "Designed with {who} in mind.",
        "Take {it_o} to {where}.",
        "{Who} and beginners alike will enjoy this {kind_one}.",
    ),
    ("{care}", "{care}", "Care: {care}", "{care} That is all the care {it} need{s}."),
    (  # brand and specification
        "Model {model}.",
        "Part of the {series} series by {brand}.",
        "The {series} line is the best of {brand}.",
        "{brand} has made {many} like this since 19{year}.",
        "{brand} stands behind every {kind_one} with a full warranty.",
        "Weight: {weight} pounds.",
        "Ask for model {model} by {brand}.",
        "Brand: {brand}. Kind: {kind}.",
        "From {brand}, a name you can trust.",
        "It is no crème de la crème price, but {brand} quality.",
    ),
    (  # closing words
        "Order yours today.",
        "You will wonder how you did without {it_o}.",
        "A {kind_one} like this makes a fine present.",
        "Satisfaction guaranteed.",
        "Simple, sturdy and good looking.",
        "Add this {kind_one} to your cart now.",
        "Ships in a plain box.",
        "A classic choice at a fair price.",
        "Made to be used every day.",
        "Your new favorite {kind_one} is here.",
    ),
)


def _forms(kind: Kind) -> dict[str, str]:
    """The words that depend on the kind alone, singular or plural."""
    name = kind.name
    forms = {"kind": name, "Kind": _title(name)}
    if kind.plural:
        forms |= {"a_kind": name, "A_kind": name.capitalize(), "this_kind": f"these {name}"}
        forms |= {"This_kind": f"These {name}", "is_": "are", "has": "have", "s": "", "es": ""}
        forms |= {"it": "they", "It": "They", "it_o": "them", "its": "their", "many": name}
        forms["kind_one"] = f"set of {name}"
    else:
        article = with_article(name)
        forms |= {"a_kind": article, "A_kind": article[0].upper() + article[1:], "kind_one": name}
        forms |= {"this_kind": f"this {name}", "This_kind": f"This {name}", "is_": "is"}
        forms |= {"has": "has", "s": "s", "es": "es", "it": "it", "It": "It", "it_o": "it"}
        forms |= {"its": "its", "many": "things"}
    return forms


def _title(text: str) -> str:
    """Each word with a capital; acronyms as they are (`str.title` would write `Tpe Foam`)."""
    return " ".join(word[0].upper() + word[1:] for word in text.split(" "))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def _orders() -> tuple[tuple[int, ...], ...]:
    """Drawn orders of the sentence groups: picking one is cheaper than shuffling for each row."""
    rng = Random(7)
    groups = range(len(_GROUPS))
    return tuple(tuple(rng.sample(groups, len(groups))) for _ in range(256))


class Writer:
    """Draws products and writes their titles and descriptions.

    Args:
        rng: the only source of randomness; the same state gives the same texts.
    """

    def __init__(self, rng: Random) -> None:
        self._random: Callable[[], float] = rng.random
        self._brands, self._series = brands_and_series()
        self._kinds = [
            (kind, _forms(kind), tuple(p for p in kind.parts if kind_of(p) is None) or ("Case",))
            for kind in kinds()
        ]

    def product(self) -> dict[str, str]:
        """One product: every fact and word form that the patterns name."""
        rand = self._random
        kind, forms, title_parts = self._kinds[int(rand() * len(self._kinds))]
        turn = int(rand() * 3)
        u1, u2, u3 = (kind.uses * 2)[turn : turn + 3]
        turn = int(rand() * 3)
        p1, p2, p3 = (kind.parts * 2)[turn : turn + 3]
        turn = int(rand() * 3)
        mat, m2 = (kind.materials * 2)[turn : turn + 2]
        who = kind.people[int(rand() * len(kind.people))]
        size = kind.sizes[int(rand() * len(kind.sizes))]
        colour = kind.colours[int(rand() * len(kind.colours))]
        number = int(rand() * 676_000)
        letters, digits = divmod(number, 1000)
        part = title_parts[int(rand() * len(title_parts))]
        mat_kind = f"{mat} {forms['kind']}" if kind.plural else with_article(f"{mat} {kind.name}")
        product = forms.copy()
        product |= {
            "brand": self._brands[int(rand() * len(self._brands))],
            "series": self._series[int(rand() * len(self._series))],
            "u1": u1, "u2": u2, "u3": u3, "U1": _capital(u1), "U2": _capital(u2),
            "p1": p1, "p2": p2, "p3": p3, "P1": _capital(p1),
            "T1": _title(part.removeprefix("a ").removeprefix("an ")),
            "mat": mat, "m2": m2, "Mat": _title(mat), "Mat_s": _capital(mat),
            "A_mat_kind": _capital(mat_kind),
            "size": size, "Size": _title(size) if size[0].isalpha() else size,
            "colour": colour, "Colour": _title(colour),
            "who": who, "Who": _capital(who),
            "where": kind.places[int(rand() * len(kind.places))],
            "care": kind.care[int(rand() * len(kind.care))],
            "model": f"{chr(65 + letters // 26)}{chr(65 + letters % 26)}-{digits + 100}",
            "year": str(20 + number % 79),
            "weight": str(1 + number % 29),
        }  # fmt: skip
        return product

    def title(self, product: dict[str, str]) -> str:
        """A title; it always contains the kind's name."""
        rand = self._random
        text = _TITLES[int(rand() * len(_TITLES))].format_map(product)
        style = rand()
        if style < 0.04:
            return text.lower()
        return text.upper() if style < 0.06 else text

    def sentences(self, product: dict[str, str], extra: int | None = None) -> list[str]:
        """A description's sentences: an opening, then `extra` more (drawn when None)."""
        rand = self._random
        if extra is None:
            share = rand()
            if share < 0.12:
                extra = 0
            elif share < 0.62:
                extra = 1 + int(rand() * 4)
            else:
                extra = 5 + int(rand() * rand() * 16)
        openings = _PLAIN_OPENINGS if rand() < 0.05 else _OPENINGS
        written = [openings[int(rand() * len(openings))].format_map(product)]
        orders = _orders()
        order = orders[int(rand() * len(orders))]
        for index in range(extra):
            group = _GROUPS[order[index % len(order)]]
            sentence = group[int(rand() * len(group))].format_map(product)
            if sentence not in written:
                written.append(sentence)
        return written
