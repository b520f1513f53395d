"""The metrics agree with those who defined them; intervals and tests with what they stand for."""

import random
from itertools import product

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from engine.evaluate import statistics as counting
from engine.evaluate.bootstrap import interval, p_value, resampled_sums
from engine.evaluate.copied import copy_rate
from engine.evaluate.metrics import METRICS, RowMetric, compare, definitions, evaluated, footnotes
from engine.evaluate.rouge import longest_common_subsequence, rouge, unseen_share
from engine.evaluate.statistics import bleu, chrf, statistics
from engine.evaluate.variety import repetition, variety, words

PIECES = (
    *(
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "Hund",
        "Größe",
        "naïve",
        "e\u0301te",
        "привет",
        "мир",
    ),
    *(
        "日本語",
        "語",
        "한국",
        "مرحبا",
        "🙂",
        "👩\u200d🚀",
        "İx",
        "K",
        "ﬁ",
        "ß",
        "3.14",
        "1,000",
        "$5",
    ),
    *("a-b", "-\n", "&quot;", "<skipped>", "don't", "…", ".", "\n", "\r\n", "\u2028", "\u00a0"),
    *("\t", "\x0b", "\x1c", "\u3000", "\ud800x", "_"),
)


def pairs(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Predictions and references that have something in common, some of them empty."""
    chance = random.Random(seed)

    def text() -> str:
        length = chance.choice([0, 1, 2, 3, 4, 8, 60])
        return "".join(chance.choice(PIECES) + chance.choice(["", " ", " "]) for _ in range(length))

    def changed(text: str) -> str:
        kept = (p if chance.random() < 0.7 else chance.choice(PIECES) for p in text.split(" "))
        return " ".join(kept)

    references = [text() for _ in range(count)]
    predictions = [chance.choice([changed(one), one, text()]) for one in references]
    assert "" in references and "" in predictions
    return predictions, references


def test_the_metrics_agree_with_rouge_score_and_sacrebleu() -> None:
    predictions, references = pairs(500)
    ours = evaluated(statistics(predictions, references))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    theirs = [
        scorer.score(reference, prediction)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    for name in ("rouge1", "rouge2", "rougeL"):
        assert ours[name] == pytest.approx(np.mean([s[name].fmeasure for s in theirs]), abs=1e-9)
    assert ours["bleu"] == pytest.approx(
        BLEU().corpus_score(predictions, [references]).score, abs=1e-9
    )
    assert ours["chrf"] == pytest.approx(
        CHRF().corpus_score(predictions, [references]).score, abs=1e-9
    )
    assert 0.1 < ours["rougeL"] < 0.9 and 10 < ours["bleu"] < 90 and 10 < ours["chrf"] < 90


def test_every_row_agrees_with_rouge_score_and_sacrebleu() -> None:
    predictions, references = pairs(500, seed=1)
    found = statistics(predictions, references)
    scorer, sentence = RougeScorer(["rouge1", "rouge2", "rougeL"]), CHRF()
    for prediction, reference, row in zip(predictions, references, found.rows, strict=True):
        theirs = scorer.score(reference, prediction)
        wanted = [theirs[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")]
        assert rouge(prediction, reference) == pytest.approx(wanted, abs=1e-12)
        assert row[:3] == pytest.approx(wanted, abs=1e-12)
        score = sentence.sentence_score(prediction, [reference]).score
        assert row[counting.COLUMNS.index("row_chrf")] == pytest.approx(score, abs=1e-12)
    # To the last count, so that every choice of rows agrees too.
    assert found.rows[:, counting.BLEU_AT].tolist() == bleu()._extract_corpus_statistics(
        predictions, [references]
    )
    assert found.rows[:, counting.CHRF_AT].tolist() == chrf()._extract_corpus_statistics(
        predictions, [references]
    )


def test_many_different_characters_are_counted_exactly() -> None:
    chance = random.Random(2)
    texts = ["".join(chr(chance.randrange(0x4E00, 0x9F00)) for _ in range(80)) for _ in range(400)]
    changed = [
        text[:40] + other[40:] for text, other in zip(texts, texts[1:] + texts[:1], strict=True)
    ]
    found = statistics(changed, texts)
    theirs = chrf()._extract_corpus_statistics(changed, [texts])
    assert found.rows[:, counting.CHRF_AT].tolist() == theirs


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    chance = random.Random(3)
    for _ in range(300):
        one, other = (
            [chance.choice("abcd") for _ in range(chance.randrange(70))] for _ in range(2)
        )
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, j in product(range(len(one)), range(len(other))):
            same = one[i] == other[j]
            table[i + 1, j + 1] = table[i, j] + 1 if same else max(table[i, j + 1], table[i + 1, j])
        assert longest_common_subsequence(one, other) == table[-1, -1]


def test_what_the_other_metrics_are() -> None:
    found = evaluated(
        statistics(
            [" The cat sat. ", "", "go go go go go go", "Ça va"],
            ["The cat sat.", "x y", "Go on", "ça va"],
        )
    )
    assert found["exact_match"] == 0.25 and found["empty"] == 0.25 and found["rows"] == 4
    assert found["length_ratio"] == 11 / 9
    assert found["distinct_1"] == pytest.approx(6 / 11)  # the, cat, sat, go, ça, va
    assert found["distinct_2"] == pytest.approx(4 / 8)
    assert found["repetition"] == pytest.approx(2 / 3 / 4)  # 3 4-grams of one kind, in a row of 4
    assert repetition(words("a b c d e a b c d")) == pytest.approx(1 / 6)
    assert repetition(words("a b c")) == 0


def test_one_row_and_no_words_at_all_have_metrics_too() -> None:
    for prediction, reference in (("a b", "a c"), ("", ""), ("…", "日本"), (" ", "x")):
        found = evaluated(statistics([prediction], [reference]))
        for metric in METRICS:
            low, high = found[f"{metric.name}_ci"]
            assert low == high == pytest.approx(found[metric.name], abs=1e-12)


def test_processes_count_the_same_in_the_same_order() -> None:
    predictions, references = pairs(1200, seed=4)
    told: list[int] = []
    alone = statistics(predictions, references, workers=0)
    together = statistics(predictions, references, workers=2, on_progress=told.append)
    assert told == [500, 1000, 1200]
    assert (alone.rows == together.rows).all() and alone.distinct == together.distinct


def test_the_influence_of_a_text_on_distinct_n_is_what_leaving_it_out_does() -> None:
    texts = [words(text) for text in pairs(40, seed=5)[0]]
    (one, two), influence = variety(texts)
    assert 0 < one < two <= 1
    for left_out in range(len(texts)):
        rest = texts[:left_out] + texts[left_out + 1 :]
        for place, (value, without) in enumerate(zip((one, two), variety(rest)[0], strict=True)):
            moved = influence[left_out, place] - influence[0, place]
            first = variety(texts[1:])[0][place]
            assert moved == pytest.approx((len(texts) - 1) * (first - without), abs=1e-9)
            assert value == (one, two)[place]
    assert influence.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(6)
    held = 0
    for seed in range(200):
        rows = chance.exponential(1.0, (200, 1))
        low, high = interval(resampled_sums([rows], 400, seed)[0][:, 0] / len(rows))
        held += low <= 1.0 <= high
    assert 180 <= held <= 198  # 95 % of 200, give or take


def test_an_interval_of_bleu_is_what_sacrebleu_says() -> None:
    predictions, references = pairs(300, seed=7)
    low, high = evaluated(statistics(predictions, references))["bleu_ci"]
    score = BLEU().corpus_score(predictions, [references], n_bootstrap=1000)
    assert (high - low) / 2 == pytest.approx(score._ci, rel=0.15)
    assert (high + low) / 2 == pytest.approx(score._mean, rel=0.05)


def test_the_paired_test_sees_a_difference_and_no_other() -> None:
    _, references = pairs(300, seed=8)
    chance = random.Random(12)

    def worse(text: str, share: float) -> str:
        return " ".join(p if chance.random() > share else "x" for p in text.split(" "))

    base = statistics([worse(text, 0.5) for text in references], references)
    alike = statistics([worse(text, 0.5) for text in references], references)
    tuned = statistics([worse(text, 0.4) for text in references], references)
    _, differences = compare({"base": base, "alike": alike, "tuned": tuned, "same": base}, "base")
    for name in ("rouge1", "rougeL", "bleu", "chrf"):
        assert differences["tuned"][name]["p"] < 0.02, name
        assert differences["tuned"][name]["ci"][0] > 0
        assert differences["alike"][name]["p"] > 0.05, name
        assert differences["same"][name] == {"difference": 0.0, "ci": [0.0, 0.0], "p": 1.0}


def test_p_is_small_as_often_as_chance_says() -> None:
    chance = np.random.default_rng(10)
    small = 0
    for seed in range(300):
        rows = chance.normal(0, 1, (100, 1))
        again = resampled_sums([rows], 300, seed)[0][:, 0] / len(rows)
        small += p_value(float(rows.mean()), again) < 0.1
    assert 18 <= small <= 45  # a tenth of 300, give or take


def test_the_same_rows_and_seed_give_the_same_numbers() -> None:
    found = statistics(*pairs(100, seed=11))
    assert evaluated(found) == evaluated(found)


def test_a_script_that_rouge_does_not_see_is_said_to_be_one() -> None:
    assert unseen_share(["日本語", "a", "", "…"]) == 0.25
    assert unseen_share(["Größe", "\u212a"]) == 0  # the Kelvin sign is a k in lower case
    assert "no words in 100% of the references" in footnotes(["привет"])[0]
    assert footnotes([*["hello"] * 99, "привет"])[0].startswith("ROUGE: F1")


def test_the_copy_rate_asks_once_for_equal_texts() -> None:
    asked: list[str] = []

    def rate(text: str) -> float:
        asked.append(text)
        return len(text) / 10

    assert copy_rate(rate).rates(["", "", ""], ["a", "bb", "a"], ["", "", ""]) == [0.1, 0.2, 0.1]
    assert asked == ["a", "bb"]


def test_definitions_name_tokenizer_averaging_and_signature() -> None:
    said = definitions()
    assert set(said) == {*(metric.name for metric in METRICS), "interval", "p"}
    assert "no stemming" in said["rouge1"] and "mean of the rows" in said["rougeL"]
    assert "tok:13a|smooth:exp" in said["bleu"] and "nrefs:1" in said["bleu"]
    assert "nc:6|nw:0|space:no" in said["chrf"]


def test_a_further_metric_is_a_mean_with_its_interval_and_test() -> None:
    letters = RowMetric(
        "e", "e", "share of e", "", lambda _, ours, __: [t.count("e") for t in ours]
    )
    texts = ["e" * (n % 7) for n in range(100)]
    base, tuned = statistics(texts, texts), statistics([f"{t}e" for t in texts], texts)
    for found, its in ((base, texts), (tuned, [f"{t}e" for t in texts])):
        found.more["e"] = np.array(letters.rates(texts, its, texts), float)
    values, differences = compare({"base": base, "tuned": tuned}, "base", [letters])
    assert values["base"]["e"] == pytest.approx(np.mean([n % 7 for n in range(100)]))
    assert differences["tuned"]["e"]["difference"] == pytest.approx(1)
    assert differences["tuned"]["e"]["ci"] == pytest.approx([1, 1])
    assert differences["tuned"]["e"]["p"] < 0.01 and "e" not in values["base"]["e_ci"]


def test_a_further_metric_may_have_no_value_for_some_rows() -> None:
    texts = [str(n) for n in range(200)]
    base, tuned = statistics(texts, texts), statistics(texts, texts)
    rated = np.where(np.arange(200) % 4 == 0, np.nan, np.arange(200) % 3.0)
    base.more["j"], tuned.more["j"] = rated, rated + 1
    one = RowMetric("j", "j", "", "higher", lambda *_: [])
    values, differences = compare({"base": base, "tuned": tuned}, "base", [one])
    assert values["base"]["j"] == pytest.approx(np.nanmean(rated))
    assert values["base"]["j_rows"] == 150
    low, high = values["base"]["j_ci"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.nanstd(rated) / np.sqrt(150), rel=0.2)
    assert differences["tuned"]["j"]["ci"] == pytest.approx([1, 1])
