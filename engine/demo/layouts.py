"""The texts the demo's base model is pre-trained on: the same facts in other layouts than the task.

No text here has the chat format or asks for a description. Pages that put a name before its text
teach copying; pages whose heading has nothing to do with what follows, and plain descriptions, keep
the base from copying unless the page calls for it: that is what the fine-tuning has to teach.
"""

from collections.abc import Callable
from random import Random

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


class Layouts:
    """Draws pre-training texts.

    Args:
        rng: the only source of randomness.
        unrelated: the share of pages whose heading has nothing to do with their description.
        named: the share of pages on which a product's name comes before its description.
    """

    def __init__(self, rng: Random, unrelated: float = 0.25, named: float = 0.25) -> None:
        self._rng = rng
        self._writer = Writer(rng)
        self._unrelated = unrelated
        self._named = named
        self._others: tuple[Callable[[], str], ...] = (
            self._description,
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
        return self._rng.choice(self._others)()

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
        title, description = self._pair()
        way = self._rng.randrange(4)
        if way == 0:
            return f"NAME: {title}\nABOUT: {description}"
        if way == 1:
            return f"== {title} ==\n{description}"
        if way == 2:
            return f"NAME: {title.upper()}\nABOUT: {description}"
        other, _ = self._pair(0)
        return f"NAMES: {other}; {title}\nABOUT THE LAST: {description}"

    def _unrelated_heading(self) -> str:
        heading = self._rng.choice(_HEADINGS)
        product = self._writer.product()
        top = heading.format_map(product | {"title": self._writer.title(product)})
        return f"{top}\n\n{self._pair()[1]}"

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
