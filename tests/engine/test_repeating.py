"""What counts as an answer that goes round in circles, and what does not."""

import random
import time

import pytest

from engine.generate.repeating import repetition

KETTLE = (
    "The kettle boils water in two minutes and switches itself off. It has a handle that stays "
    "cool, and a lid that opens with one hand. The kettle is made of steel."
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Kettle",
        "A very very very good kettle.",
        "ha ha ha",
        KETTLE,
        "Row row row your boat gently down the stream merrily merrily merrily merrily life is but",
        "Sizes: 10 cm, 20 cm, 30 cm, 40 cm, 50 cm, 60 cm, 70 cm",
        "1. The kettle is blue.\n2. The kettle is red.\n3. The kettle is green.\n4. It is grey.",
        "| a | b | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n| 7 | 8 | 9 |",
        f"Kettle\n{'-' * 80}\n{KETTLE}\n{'=' * 80}\n• • • • • • • • • • • • • •",
        "这个杯子由不锈钢制成，容量为500毫升，适合在办公室和家里使用。",
        "กาต้มน้ำไฟฟ้าสแตนเลสขนาดใหญ่สำหรับใช้ในบ้านและที่ทำงาน",
        "\ud800\x00\U0001f600 \u202e",
        "https://example.com/a/very/long/address/with/many/parts/that/do/not/repeat?and=more",
    ],
)
def test_nothing_to_say(text: str) -> None:
    found = repetition(text)
    assert (found.share, found.words) == (0.0, "")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("ha " * 20, 0.95),
        ("It is the best kettle. " * 10, 0.9),
        (f"{KETTLE} {'and the lid ' * 30}", 0.7),
        ("1. It is a good kettle for you.\n2. It is a good kettle for you.\n" * 8, 0.85),
        ("hahahaha" * 100, 0.98),
        ("!" * 3000, 0.99),
        ("这个产品非常好。" * 8, 0.85),
        ("สินค้านี้ดีมาก" * 8, 0.85),
        ("good kettle 好 " * 20, 0.9),
    ],
)
def test_loops(text: str, share: float) -> None:
    found = repetition(text)
    assert share <= found.share < 1
    assert found.words == f"loops at the end ({found.share:.0%} repeated)"


def test_a_paragraph_said_twice_is_a_repetition() -> None:
    end = "Order it today and have it tomorrow; we pay for its way to you and back again."
    found = repetition(f"{KETTLE}\n\n{KETTLE} {end}")
    assert 0.35 < found.share < 0.5
    assert found.words == f"repeats itself ({found.share:.0%} repeated)"


def test_a_long_answer_that_ends_in_a_loop_is_told() -> None:
    rng = random.Random(3)
    words = [f"word{n}" for n in range(3000)]
    text = " ".join(rng.choices(words, k=2000))
    assert repetition(text).words == ""
    middle = repetition(f"{text} {'over and over ' * 12} {text[::-1]}")
    assert 0 < middle.share < 0.05 and middle.words == ""
    assert repetition(f"{text} {'over and over ' * 12}").words.startswith("loops at the end (2%")


def test_what_is_said_twice_at_the_end_is_no_loop() -> None:
    rng = random.Random(4)
    end = " ".join(f"end{n}" for n in range(40))
    text = " ".join(f"word{rng.randrange(5000)}" for _ in range(400))
    assert repetition(f"{text} {end} {end}").words == ""
    assert repetition(f"{text[:900]} {end} {end}").words.startswith("repeats itself (")
    assert repetition(f"{text} {end} {end} {end}").words.startswith("loops at the end (")


def test_the_first_time_never_counts() -> None:
    unit = " ".join(f"w{n}" for n in range(50))
    for times in (2, 3, 10):
        found = repetition(" ".join([unit] * times))
        assert found.share == pytest.approx((times - 1) / times)


def test_case_and_spaces_do_not_matter() -> None:
    one = repetition("It is the best kettle. " * 6)
    other = repetition("It is the\n\nbest KETTLE. it   IS the best kettle.\t" * 3)
    assert one.share == other.share > 0.8


@pytest.mark.parametrize("kind", ["words", "characters", "one character", "line", "looping"])
def test_a_hundred_thousand_characters_take_a_moment(kind: str) -> None:
    rng = random.Random(1)
    text = {
        "words": lambda: " ".join(f"{rng.getrandbits(24):x}" for _ in range(15_000)),
        "characters": lambda: "".join(chr(rng.randint(0x4E00, 0x9FFF)) for _ in range(100_000)),
        "one character": lambda: "好" * 100_000,
        "line": lambda: "-" * 100_000,
        "looping": lambda: "all of the best " * 6_250,
    }[kind]()
    repetition(text)
    times = []
    for _ in range(7):
        began = time.process_time()
        repetition(text)
        times.append(time.process_time() - began)
    print(f"{kind}: {min(times) * 1e3:.0f} ms")
    assert min(times) < 0.1, times
