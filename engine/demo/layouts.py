"""The texts the demo's base model is pre-trained on: the catalogue's facts in other layouts.

No text here has the chat format or asks for a description. Pages that say the same names twice,
many invented on the spot, leave no way but copying; pages whose heading has nothing to do with what
follows, and plain descriptions, keep the base from copying unless the page calls for it: that is
what the fine-tuning has to teach.
"""

from collections.abc import Callable
from random import Random

from engine.demo.kinds import with_article
from engine.demo.prose import Writer

_REVIEWS = (
    "I bought the {brand} {kind} for {u1}. The {kind} {has} {p1} and {p2}, just as promised.",
    "We use {a_kind} for {u2} every week, and this {kind_one} by {brand} is the best so far.",
    "Four stars for the {kind} by {brand}. The {mat} is good, {p3} could be better.",
    "My old {kind_one} broke, so I ordered one in {mat}. Now {u1} is fun again.",
    "Do not buy this {kind_one} if you only want it for {u3}. For {u1} the {kind} {is_} fine.",
)
_QUESTIONS = (
    ("What {is_} the {Kind} made of?", "The {kind} {is_} made of {mat}."),
    ("What can I do with {a_kind}?", "Use {it_o} for {u1}, {u2} and {u3}."),
    ("Does the {kind} by {brand} come with {p1}?", "Yes, the {kind} {has} {p1} and {p2}."),
    ("Who makes this {kind_one}?", "This {kind_one} is made by {brand}."),
    ("Which color is it?", "This {kind_one} comes in {colour}."),
    ("Would {who} like it?", "Yes, {who} love this {kind_one}."),
)
_HEADINGS = (
    "Page {weight}.",
    "Seen last week: {title}",
    "Next to it on the shelf: {title}",
    "Sold out: {title}",
    "Customers also looked at {title}",
    "{title}",
    "Returned: {title}. No reason was given.",
    "Write to us for a list of all our goods.\n{title}",
)
_NAMED = (
    "NAME: {title}\nABOUT: {text}",
    "== {title} ==\n{text}",
    "NAMES: {other}; {title}\nABOUT THE LAST: {text}",
    "[{title}] {text}",
    "{title} | {text}",
    "Entry {number}: {title}. Text: {text}",
    "<name>{title}</name>\n<text>{text}</text>",
    "# {title}\n{text}\n-- {title}",
)
_LABELS = (
    "BRAND {brand}", "KIND {kind}", "OF {mat}", "COLOR {colour}", "SIZE {size}", "MODEL {model}",
    "SERIES {series}", "FOR {who}", "WITH {p1}, {p2}",
)  # fmt: skip
_FACTS = (
    "The {brand} {kind} {is_} made of {mat}.",
    "{brand} makes this {kind_one} in {colour}, size {size}.",
    "The {kind} by {brand} {has} {p1} and {p2}.",
    "It is the {series} by {brand}, model {model}.",
    "{brand} {series} {kind}, {size}: {colour} {mat} for {who}.",
    "In {colour}, the {brand} {kind} {is_} for {who}.",
)
_STARTS = (*"bcdfghklmnprstvw", "", "br", "gl", "st")
_MIDDLES = (*"aeiou", "ai", "ea", "oo")
_ENDS = (*"lnrsmx", "", "", "nd", "rt", "ck", "th")
_BORROWED = (("colour", "Colour"), ("size", "Size"), ("model",), ("mat", "Mat", "Mat_s"))


class Layouts:
    """Draws pre-training texts.

    Args:
        rng: the only source of randomness.
        unrelated: the share of pages whose heading has nothing to do with their description.
        named: the share of pages on which a product's name comes before its description.
        repeated: the share of pages that say the same names again: lists, orders, labels.
        invented: the share of the products on such pages that have a made-up brand.
    """

    def __init__(
        self,
        rng: Random,
        unrelated: float = 0.15,
        named: float = 0.35,
        repeated: float = 0.25,
        invented: float = 0.5,
    ) -> None:
        self._rng = rng
        self._writer = Writer(rng)
        self._unrelated = unrelated
        self._named = named
        self._repeated = repeated
        self._invented = invented
        self._repeats: tuple[Callable[[], str], ...] = (
            self._counted,
            self._order,
            self._labels,
            self._comparison,
            self._makers,
        )
        self._others: tuple[Callable[[], str], ...] = (
            self._description,
            self._name_last,
            self._review,
            self._question,
            self._card,
            self._list,
        )

    def text(self) -> str:
        """One page of the pre-training corpus."""
        share = self._rng.random()
        if share < self._unrelated:
            return self._unrelated_heading()
        if share < self._unrelated + self._named:
            return self._named_page()
        if share < self._unrelated + self._named + self._repeated:
            return self._rng.choice(self._repeats)()
        return self._rng.choice(self._others)()

    def _name(self) -> str:
        """A made-up name that nothing but its first mention on a page can tell."""
        rng = self._rng
        words = []
        for _ in range(2 if rng.random() < 0.15 else 1):
            syllables = 2 + int(rng.random() * 2)
            parts = [
                part
                for _ in range(syllables)
                for part in (rng.choice(_STARTS), rng.choice(_MIDDLES), rng.choice(_ENDS))
            ]
            words.append("".join(parts).capitalize())
        return " ".join(words)

    def _product(self) -> dict[str, str]:
        """A product of which no detail can be guessed from another one."""
        rng = self._rng
        product = self._writer.product()
        if rng.random() >= self._invented:
            return product
        product["brand"] = self._name()
        if rng.random() < 0.3:
            product["series"] = self._name()
        other = self._writer.product()
        for names in _BORROWED:
            if rng.random() < 0.4:
                product |= {name: other[name] for name in names}
        mat_kind = f"{product['mat']} {product['kind']}"
        if product["is_"] == "is":
            mat_kind = with_article(mat_kind)
        product["A_mat_kind"] = mat_kind[0].upper() + mat_kind[1:]
        return product

    def _pair(self, extra: int | None = None) -> tuple[str, str]:
        product = self._writer.product()
        title = self._writer.title(product)
        return title, " ".join(self._writer.sentences(product, extra))

    def _description(self) -> str:
        return self._pair()[1]

    def _name_last(self) -> str:
        title, description = self._pair()
        return f"{description}\n-- {title}"

    def _named_page(self) -> str:
        product = self._product()
        title = self._writer.title(product)
        # Short ones mostly: the first sentences are those that repeat the name.
        extra = self._rng.randrange(4) if self._rng.random() < 0.8 else None
        text = " ".join(self._writer.sentences(product, extra))
        other = self._writer.title(self._product())
        number = 1 + self._rng.randrange(999)
        page = self._rng.choice(_NAMED)
        if self._rng.random() < 0.1:
            title = title.upper()
        return page.format(title=title, text=text, other=other, number=number)

    def _unrelated_heading(self) -> str:
        heading = self._rng.choice(_HEADINGS)
        product = self._writer.product()
        top = heading.format_map(product | {"title": self._writer.title(product)})
        return f"{top}\n\n{self._pair()[1]}"

    def _titles(self) -> list[str]:
        return [self._writer.title(self._product()) for _ in range(2 + self._rng.randrange(3))]

    def _counted(self) -> str:
        titles = self._titles()
        again = titles if self._rng.random() < 0.5 else self._rng.sample(titles, len(titles))
        lines = ["COUNTED", *(f"* {title}" for title in titles)]
        return "\n".join([*lines, "CHECKED", *(f"* {title}" for title in again)])

    def _order(self) -> str:
        product = self._product()
        title, buyer, maker = self._writer.title(product), self._name(), product["brand"]
        number, count = self._rng.randrange(10_000), 1 + self._rng.randrange(20)
        return (
            f"ORDER {number} of {buyer}: {count} x {title}\n"
            f"CONFIRMED for {buyer}: {count} x {title}, made by {maker}, as in order {number}."
        )

    def _labels(self) -> str:
        product = self._product()
        labels = self._rng.sample(_LABELS, len(_LABELS))
        facts = self._rng.sample(_FACTS, 2)
        text = " ".join([*facts, *self._writer.sentences(product, self._rng.randrange(3))])
        return ("\n".join(labels) + "\nIN WORDS ").format_map(product) + text.format_map(product)

    def _comparison(self) -> str:
        products = [self._product() for _ in range(2 + self._rng.randrange(2))]
        lines = [f"{n}. {self._writer.title(product)}" for n, product in enumerate(products, 1)]
        for name in self._rng.sample(("brand", "kind"), 2):
            answers = [f"{n} {product[name]}" for n, product in enumerate(products, 1)]
            lines.append(f"{name.upper()}: {', '.join(answers)}")
        return "\n".join(lines)

    def _makers(self) -> str:
        products = [self._product() for _ in range(3)]
        lines = ["{brand} sells the {series} {kind} in {colour}.".format_map(p)
                 for p in products]  # fmt: skip
        asked = self._rng.sample(products, 2)
        lines += ["Who has the {kind} in {colour}? {brand}, the {series} {kind}.".format_map(p)
                  for p in asked]  # fmt: skip
        return "\n".join(lines)

    def _review(self) -> str:
        product = self._writer.product()
        sentences = self._rng.sample(_REVIEWS, 1 + self._rng.randrange(3))
        text = " ".join(sentence.format_map(product) for sentence in sentences)
        return f"REVIEW {1 + self._rng.randrange(5)} of 5\n{text}"

    def _question(self) -> str:
        product = self._writer.product()
        pairs = self._rng.sample(_QUESTIONS, 2)
        return "\n".join(f"Q: {q}\nA: {a}".format_map(product) for q, a in pairs)

    def _card(self) -> str:
        product = self._writer.product()
        return (
            "{kind} | uses: {u1}, {u2}, {u3} | of: {mat}, {m2} | with: {p1}, {p2}, {p3}\n"
            "{title} -> {kind}"
        ).format_map(product | {"title": self._writer.title(product)})

    def _list(self) -> str:
        titles = [self._pair(0)[0] for _ in range(2 + self._rng.randrange(4))]
        return "IN STOCK\n" + "\n".join(f"* {title}" for title in titles)
