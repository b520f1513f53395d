"""Pre-training pages: seeded, never in the task's layout, names said twice where they should be."""

from collections import Counter
from random import Random

from engine.demo.layouts import Layouts


def test_same_seed_gives_the_same_pages() -> None:
    first, again = (Layouts(Random("a")) for _ in range(2))
    assert [first.text() for _ in range(50)] == [again.text() for _ in range(50)]
    assert Layouts(Random("a")).text() != Layouts(Random("b")).text()


def test_no_page_has_the_format_that_fine_tuning_teaches() -> None:
    layouts = Layouts(Random("format"))
    for _ in range(3_000):
        page = layouts.text().lower()
        assert "product description" not in page
        assert "<|" not in page and "assistant" not in page.split("\n")


def test_a_counted_list_is_checked_title_by_title() -> None:
    layouts = Layouts(Random("lists"), unrelated=0.0, named=0.0, repeated=1.0)
    pages = [page for page in (layouts.text() for _ in range(500)) if page.startswith("COUNTED")]
    assert len(pages) > 50
    for page in pages:
        counted, checked = page.removeprefix("COUNTED\n").split("\nCHECKED\n")
        assert Counter(counted.split("\n")) == Counter(checked.split("\n"))


def test_an_order_names_its_buyer_again() -> None:
    layouts = Layouts(Random("orders"), unrelated=0.0, named=0.0, repeated=1.0)
    pages = [page for page in (layouts.text() for _ in range(500)) if page.startswith("ORDER")]
    assert len(pages) > 50
    for page in pages:
        buyer = page.split(" of ", 1)[1].split(":", 1)[0]
        assert f"\nCONFIRMED for {buyer}: " in page
