"""Personal data: what is found, and the many numbers of a product text that are not."""

import time
import timeit

import pytest

from engine.data.rows import Message, Row, from_messages
from engine.data.rules.personal_data import PersonalData, personal_data
from engine.data.rules.row import Verdict
from engine.sections.data import PersonalDataRule

EMAILS = (
    "write to jane.doe+shop@example.co.uk today",
    "a@b.de",
    "<info@shop.example.com>.",
    "Mail: müller@exämple.de",
    "(x_y@foo-bar.org)",
    "contact:sales@acme.com, or visit",
)
PHONES = (
    "call (212) 555-0123 now",
    "212-555-0123",
    "1-800-555-0199",
    "Toll free 800.555.0199.",
    "customer care  18005550199 or our page",
    "+49 30 901820",
    "+49 (0)30 901820",
    "+1 (212) 555-0123",
    "+442071234567",
    "+33 1 23 45 67 89",
    "tel: 020 7946 0958",
    "Tel. 030/1234567",
    "Telefon: 089 / 123456",
    "(020) 7946 0958",
    "0171/1234567",
    "call us at 5551234567",
    "Call us now on 0800 123 4567",
    "phone number: 555-1234",
    "fax 212 555 0123",
    "whatsapp +91 98765 43210",
    "mobile: 0171 2345678",
    "questions? call 212.555.0123",
)
CARDS = (
    "4111 1111 1111 1111",
    "card 4111111111111111.",
    "5500-0000-0000-0004",
    "3782 822463 10005",
    "378282246310005",
    "6011 1111 1111 1117",
    "3056 930902 5904",
    "my visa is 4012-8888-8888-1881, thanks",
)
NOTHING = """
ISBN 978-0-306-40615-7 | ISBN-13: 978-0306406157 | ISBN 0-306-40615-2 | ISBN: 0306406152
isbn 030640615X | ISBN-10: 0-8044-2957-X | 978-3-16-148410-0 | 9783161484100
UPC 036000291452 | 036000291452 | EAN 4006381333931 | 4006381333931 barcode | GTIN 00012345600012
NSN 8465-01-538-1523 | nsn 8465015381523gps insert | ASIN B000123456
model 415-555-2671 | Model: 800-123-4567 | part no. 310-555-0199 | P/N 212-555-1234
SKU 2125550123 | item #2125550123 | Item number 212-555-0123 | order code 212.555.0123
part 06A-115-561-B | OEM 16546-ED000 | 11127-501-810 | catalog 555-1234 | serial 123456789012
toner TN-450 2130 2220 2230 | for HP 564 564XL 920 920XL | fits iPhone 4 4s 5 5c
12 x 24 x 36 inches | 4.375 w x 4.5 h x 1.5 d | dimensions: 100 x 200 x 300 mm | 1920 x 1080
800 600 1024 | 2560 1440 | resolution 1920x1080, 2560x1440 | 12.5 in. x 8.25 in. x 3.75 in.
3-1/2 x 4-1/4 | 1/4 in. 3/8 in. 1/2 in. 5/16 in. | 1-2-3-4567 | M6 x 1.0 x 20 (100) 500
$1,299.99 or $2,499.00 | price 1299.99 | 1.299,99 EUR | USD 1 299 000 | 10,000,000 units
5,000 mAh, 10000mAh, 20000 mAh | 1000000 | +10000000 | contrast 1000000:1 | 100-240V 50/60 Hz
2019-03-12 | 12/03/2019 10:30 | 03-12-2019 | 20190312 | 2019-03-12T10:30:00 | 01-02-2003
1999-2000-2001 | from 1914 to 1918 and 1939 to 1945 | 2011-2012-2013-2014 | 2003 2004 2005 2006
January 15, 2003 10:15:30 | lot 2003010101 exp 2005-01-01 | (2003) 1234567
192.168.100.200 | version 10.0.19041.1234 | DIN 912 4762 | ISO 9001:2015, ISO 14001:2015
fits 2003-2007 Honda Accord 2.4L | BMW 325 328 330 335 | tire 205-55-16 215/45/17
mobile phone 2560 1440 display | phone 12 128 256 | phone case 1234567890 | the 1-800 number
Call of Duty 2 2005 2010 | text 2000 3000 4000 5000 | cell battery 1234567 | AA cell 3000 mah 1500
1 2 3 4 5 6 7 8 9 10 | 0123456789 | 1234567890 | 10 20 30 40 50 60 70 80 | RGB 255-255-255
us patent 5,123,456 and 6,234,567 | Patent No. 7123456 | tracking 9400110200881234567890
100-200-300-400 grit | grits 120 180 240 320 400 600 800 | 10-12-14 AWG 300-500-1000
weight 0.123456789 | pi 3.14159265358979 | lens 70-200 24-70 | wheels 5x114.3 5x112 4x100
4111111111111112 | 1234 5678 9012 3456 | 0000 0000 0000 0000 | 16 digits 1234567812345678
4000 5000 6000 7000 | ram 4096 8192 1024 2048 | 5 @ $10 | 2 packs @ 19.99 | follow @shop
""".replace("\n", " | ").split(" | ")  # fmt: skip
KINDS = frozenset(("email", "phone", "card"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [("email", t) for t in EMAILS] + [("phone", t) for t in PHONES] + [("card", t) for t in CARDS],
)
def test_found(kind: str, text: str) -> None:
    found: dict[str, str] = {}
    masked = personal_data(text, KINDS, found)
    assert list(found) == [kind]
    assert masked.count(f"[{kind.upper()}]") == 1
    # Nothing is left of it: what remains has no digit and no @.
    assert not any(character.isdigit() or character == "@" for character in masked)


@pytest.mark.parametrize("text", [text for text in NOTHING if text])
def test_left_alone(text: str) -> None:
    found: dict[str, str] = {}
    assert personal_data(text, KINDS, found) == text
    assert personal_data(f"It says {text}, new.", KINDS, found) == f"It says {text}, new."
    assert not found


def test_actions() -> None:
    row = Row("Call 212-555-0123", "jane@example.com or joe@example.com")
    flag = PersonalData(PersonalDataRule())
    assert flag(row) is row and flag(Row("a", "b")) == Row("a", "b")
    assert flag.flagged == {"phone": 1, "email": 1}
    mask = PersonalData(PersonalDataRule(action="mask"))
    assert mask(row) == Row("Call [PHONE]", "[EMAIL] or [EMAIL]")
    drop = PersonalData(PersonalDataRule(action="drop"))
    assert drop(row) == Verdict("personal_data", "email jan…")
    only = PersonalData(PersonalDataRule(action="mask", kinds=["phone"]))
    assert only(row).completion == row.completion and only.flagged == {"phone": 1}


def test_masks_in_every_message() -> None:
    talk = from_messages(
        (
            Message("user", "I am a@b.de"),
            Message("assistant", "Hi"),
            Message("user", "212-555-0123"),
            Message("assistant", "Thanks, 212-555-0123"),
        )
    )
    masked = PersonalData(PersonalDataRule(action="mask"))(talk)
    assert [m.content for m in masked.messages] == [
        "I am [EMAIL]", "Hi", "[PHONE]", "Thanks, [PHONE]"
    ]  # fmt: skip
    assert (masked.prompt, masked.completion) == ("[PHONE]", "Thanks, [PHONE]")


def test_a_clean_text_costs_next_to_nothing() -> None:
    text = "This steel frying pan spreads the heat evenly. " * 13
    seconds = timeit.repeat(lambda: personal_data(text, KINDS, {}), number=2000, repeat=5)
    assert min(seconds) / 2000 < 5e-6  # 0.6 µs where nobody else is at work


@pytest.mark.parametrize(
    "text",
    [
        "1" * 100_000,
        "1 " * 50_000,
        "a@" * 50_000,
        "a" * 100_000 + "@1234567",
        "call " * 20_000,
        "+1 " * 30_000,
        "212-555-0123 " * 8_000,
        "x@" + "a." * 50_000,
        "tel " + "12 " * 30_000,
    ],
    ids=range(9),
)
def test_hostile_text_takes_no_time(text: str) -> None:
    began = time.process_time()
    personal_data(f"{text}1234567 @", KINDS, {})
    assert time.process_time() - began < 2
