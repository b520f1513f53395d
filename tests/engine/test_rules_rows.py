"""The rules that look at one row: what each drops, what it must leave alone, and how fast."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.builtin import BUILTIN_BASE
from engine.data.rows import Message, Row, from_messages, texts, with_texts
from engine.data.rules.fold import fold
from engine.data.rules.row import Verdict
from engine.data.rules.row_rules import make_row_rules, rule_versions
from engine.errors import UserError
from engine.sections.data import CleanSection
from tests.engine.test_rules_personal_data import CARDS, EMAILS, PHONES


def rule(name: str, shape: str = "pair", model: str = BUILTIN_BASE, **options):
    clean = CleanSection.model_validate({"rules": [name]} | ({name: options} if options else {}))
    (made,) = make_row_rules(clean, model, shape)
    assert made.name == name
    return made


def verdict(made, prompt: str, completion: str) -> str:
    answer = made(Row(prompt, completion))
    return answer.reason if isinstance(answer, Verdict) else ""


def conversation(*contents: str) -> Row:
    roles = ("user", "assistant") if len(contents) % 2 == 0 else ("assistant", "user")
    row = from_messages(tuple(Message(roles[n % 2], content) for n, content in enumerate(contents)))
    assert row is not None
    return row


def test_texts_come_back_where_they_were() -> None:
    talk = conversation("Hi", "Hello", "Bye", "See you")
    changed = with_texts(talk, tuple(text.upper() for text in texts(talk)))
    assert changed == conversation("HI", "HELLO", "BYE", "SEE YOU")
    for row in (Row("a", "b"), Row("a", "b", "c", "d"), Row("", "b", "", "d"), talk):
        assert with_texts(row, texts(row)) == row
    assert with_texts(Row("a", "b", "", "d"), ("1", "2", "3", "4")) == Row("1", "2", "3", "4")
    with pytest.raises(ValueError):
        with_texts(talk, ("too", "few"))


def test_rules_come_in_the_recipes_order() -> None:
    clean = CleanSection(rules=["html", "echo", "empty", "length", "duplicates"])
    assert [made.name for made in make_row_rules(clean, BUILTIN_BASE)] == [
        "echo",
        "empty",
        "length",
    ]


def test_empty() -> None:
    empty = rule("empty")
    assert verdict(empty, "", "b") == verdict(empty, " \u2028", "") == "empty_prompt"
    assert verdict(empty, "a", "\u00a0") == "empty_completion"
    assert verdict(empty, "a", "b") == ""
    assert empty(Row("", "b", "Say b.")) == Row("", "b", "Say b.")
    assert isinstance(empty(conversation("Hi", "Hello", "", "Well?")), Row)
    assert empty(from_messages((Message("assistant", "Hello"),))).reason == "empty_prompt"
    assert verdict(rule("empty", "text"), "", "b") == ""
    assert verdict(rule("empty", "text"), "", " ") == "empty_completion"


def test_length_in_characters() -> None:
    assert rule("length", min=3)(Row("", "ab")) == Verdict("too_short", "2 characters")
    assert rule("length", min=2)(Row("", "a")) == Verdict("too_short", "1 character")
    assert rule("length", max=3)(Row("", "abcd")) == Verdict("too_long", "4 characters")
    assert verdict(rule("length", min=2, max=2), "", "ab") == ""
    assert verdict(rule("length", max=0), "", "a" * 10_000) == ""
    assert rule("length", of="prompt", min=2)(Row("a", "")) == Verdict("too_short", "1 character")
    both = rule("length", of="both", min=2)
    assert both(Row("ab", "c")) == Verdict("too_short", "completion: 1 character")
    assert both(Row("a", "bc")) == Verdict("too_short", "prompt: 1 character")
    assert verdict(rule("length", "text", of="both", min=2), "", "ab") == ""
    # An instruction and earlier turns are given too.
    assert isinstance(rule("length", of="prompt", min=9)(Row("", "b", "Say it so.")), Row)
    assert isinstance(rule("length", of="prompt", min=9)(conversation("Hello", "b", "c", "d")), Row)


def test_length_in_tokens() -> None:
    from engine.data.tokenizer_files import load_tokenizer_files

    text = "A steel banjo with a resonator"
    tokenizer = load_tokenizer_files(BUILTIN_BASE).tokenizer
    tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    answer = rule("length", unit="tokens", max=tokens - 1)(Row("", text))
    assert answer == Verdict("too_long", f"{tokens} tokens")
    assert isinstance(rule("length", unit="tokens", max=tokens)(Row("", text)), Row)
    with pytest.raises(UserError, match="no such folder"):
        rule("length", unit="tokens", model="/nowhere/at/all")


@pytest.mark.parametrize(
    ("prompt", "completion", "same"),
    [
        ("The Banjo", "the banjo", True),
        ("The Banjo", "  The\nBanjo!!", True),
        ("Straße", "STRASSE", True),
        ("T-shirt, red", "t shirt red", True),
        ("The Banjo", "The banjo is here", False),
        ("The Banjo", "The", False),
        ("The Banjo", "", False),
        ("", "", False),
        ("??", "??", True),
        ("??", "!!", False),
        ("A", "a" + "." * 100, True),
    ],
)
def test_echo(prompt: str, completion: str, same: bool) -> None:
    assert verdict(rule("echo"), prompt, completion) == ("echo" if same else "")


def test_echo_of_an_instruction_and_of_the_last_turn() -> None:
    assert isinstance(rule("echo")(Row("", "Say it.", "say it")), Verdict)
    assert isinstance(rule("echo")(conversation("Hi", "Hello", "Bye", "bye!")), Verdict)
    assert isinstance(rule("echo")(conversation("Bye", "Hello", "Hi", "bye!")), Row)


@pytest.mark.parametrize(
    ("completion", "evidence"),
    [
        ("test item not to bid " * 19, '"test item not to bid" 19 times'),
        ("Test item. " * 5 + "test it", '"Test item" 5 times'),
        ("great great great great", '"great" 4 times'),
        ("a" * 500, '"a" 500 times'),
        ("日本語。" * 4 + "日", '"日本語" 4 times'),
        ("1" * 40, '"1" 40 times'),
        (f"{'x' * 50}{'y' * 50} " * 4, f'"{"x" * 50}{"y" * 9}…" 4 times'),
        ("N/A", "N/A"),
        (" No description available. ", "No description available."),
        ("Lorem ipsum dolor sit amet, consectetur", "lorem ipsum"),
        ("(TBD)", "(TBD)"),
        ("...", "..."),
        ("- - -", "- - -"),
        ("Ask the boss!", "Ask the boss!"),
        ("?!?!", "?!?!"),
    ],
)
def test_placeholder(completion: str, evidence: str) -> None:
    made = rule("placeholder", phrases=["ask the  BOSS", "?!?!"])
    assert made(Row("a", completion)) == Verdict("placeholder", evidence)


@pytest.mark.parametrize(
    "completion",
    [
        "great great great",
        "A test of wills between two brothers.",
        "None of these knives needs sharpening.",
        "Lorem ipsum is the name of this game.",
        "1111",
        "👍",
        "+",
        "",
        "Bora Bora",
        "new new new new and a word that ends it",
        "first test test test test",
        "Coming soon to a kitchen near you: a pan.",
        "red blue green " * 3,
    ],
)
def test_no_placeholder(completion: str) -> None:
    assert verdict(rule("placeholder"), "a", completion) == ""


@settings(max_examples=300, deadline=None)
@given(
    st.text("ab", min_size=1, max_size=6), st.integers(2, 7), st.integers(0, 5), st.integers(2, 6)
)
def test_a_repeated_phrase_is_found_like_by_trying_them_all(
    phrase: str, times: int, more: int, repeats: int
) -> None:
    text = phrase * times + (phrase * 2)[:more] + ("b" if more == 5 else "")
    lengths = range(1, len(text) // repeats + 1)
    expected = any(text[n:] == text[:-n] for n in lengths)
    assert bool(verdict(rule("placeholder", repeats=repeats), "", text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "a" * 50_000 + "b" + "a" * 50_000,
        "ab" * 50_000 + "b",
        ("a" * 999 + "b") * 100 + "c",
        "a" * 75_000 + "b" * 25_000,
        "word " * 20_000,
        "test item not to bid " * 4_000 + "and more",
    ],
    ids=range(7),
)
@pytest.mark.parametrize("name", ["placeholder", "echo"])
def test_long_texts_take_no_time(name: str, text: str) -> None:
    made = rule(name)
    began = time.process_time()
    made(Row(text[:-1], text))
    assert time.process_time() - began < 0.2


def test_language() -> None:
    pytest.importorskip("py3langid")
    german = "Diese Bratpfanne aus Edelstahl verteilt die Hitze gleichmäßig auf allen Herden."
    english = "This stainless steel frying pan spreads the heat evenly on all kinds of stoves."
    made = rule("language")
    answer = made(Row("Pan", german))
    assert isinstance(answer, Verdict) and answer.reason == "wrong_language"
    assert answer.evidence.startswith("de (") and made(Row("Pan", german)) == answer
    assert verdict(made, "Pfanne", english) == ""
    assert verdict(rule("language", languages=["en", "de"]), "", german) == ""
    assert verdict(made, "", german[:39]) == ""
    assert verdict(rule("language", min_probability=1), "", "12 34 56 78 90 " * 9) == ""
    with pytest.raises(UserError, match=r"no language 'xx'; there are: .* en "):
        rule("language", languages=["xx"])


def test_language_without_its_package_says_how_to_get_it(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(UserError, match=r"pip install 'tunebench\[language\]'"):
        rule("language")


def test_what_belongs_into_a_fingerprint(tmp_path) -> None:
    pytest.importorskip("py3langid")
    assert rule_versions(CleanSection(), BUILTIN_BASE) == {}
    file = tmp_path / "mine.py"
    file.write_text("def rule(p, c): pass")
    clean = CleanSection.model_validate(
        {
            "rules": ["length", "language", "python", "near_duplicates"],
            "length": {"unit": "tokens"},
            "python": {"file": str(file)},
        }
    )
    versions = rule_versions(clean, BUILTIN_BASE)
    assert list(versions) == ["length", "language", "python", "near_duplicates"]
    assert versions["language"].startswith("py3langid 0.")
    file.write_text("def rule(p, c): return True")
    assert rule_versions(clean, BUILTIN_BASE)["python"] != versions["python"]
    assert rule_versions(clean, BUILTIN_BASE)["length"] == versions["length"]


@given(st.text(), st.text())
def test_folding_goes_character_by_character(one: str, other: str) -> None:
    assert fold(one + other) == fold(one) + fold(other)
    assert fold(fold(one)) == fold(one)


some_text = st.one_of(
    st.text(max_size=30),
    st.text(string.ascii_letters + " .", max_size=60),
    st.lists(
        st.sampled_from([*EMAILS, *PHONES, *CARDS, "n/a", "test ", " ", "+49", "call ", "a"]),
        max_size=6,
    ).map("".join),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["empty", "length", "echo", "placeholder", "personal_data"]),
    st.lists(some_text, min_size=2, max_size=4),
    st.booleans(),
)
def test_what_a_rule_keeps_it_keeps_again(name: str, contents: list[str], talk: bool) -> None:
    options = {"action": "mask"} if name == "personal_data" else {}
    made = rule(name, **options)
    kept = made(conversation(*contents) if talk and len(contents) != 3 else Row(*contents))
    if isinstance(kept, Row):
        assert made(kept) == kept
        assert not kept.messages or kept == from_messages(kept.messages)
