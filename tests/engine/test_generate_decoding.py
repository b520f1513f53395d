"""Text that streams in is the text of the whole answer, and no character is ever broken."""

import random
from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from engine.generate.decoding import Decoding


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Tokenizer:
    """Every byte is a token: every character that is not ASCII is spread over several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize(
    "text", ["plain words", "naïve café", "日本語の説明", "😀 👩‍👩‍👧 flag 🇨🇭", "ש‏ל"]
)
def test_pieces_add_up_and_are_never_broken(bytes_tokenizer: Tokenizer, text: str) -> None:
    ids = bytes_tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    decoding = Decoding(lambda part: bytes_tokenizer.decode(list(part)))
    pieces = [decoding.push(token) for token in ids]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + decoding.flush() == text


def test_bytes_that_are_no_text_come_out_in_the_end(bytes_tokenizer: Tokenizer) -> None:
    random_ = random.Random(1)
    for _ in range(200):
        ids = [random_.randrange(256) for _ in range(random_.randrange(1, 40))]
        decoding = Decoding(lambda part: bytes_tokenizer.decode(list(part)))
        text = "".join(decoding.push(token) for token in ids) + decoding.flush()
        assert text == bytes_tokenizer.decode(ids)


def test_a_long_answer_costs_no_more_a_token() -> None:
    decoded = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return "".join(chr(97 + number % 26) for number in ids)

    decoding = Decoding(decode)
    for token in range(2000):
        decoding.push(token)
    assert decoded < 2000 * 6
