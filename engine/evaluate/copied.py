"""How much of the predictions stands literally in what the model was trained on."""

from collections.abc import Callable, Sequence

from engine.evaluate.metrics import RowMetric

__all__ = ["copy_rate"]


def copy_rate(rate: Callable[[str], float]) -> RowMetric:
    """The metric ``copied``; ``rate`` gives the share of one text that is copied, 0..1."""

    def rates(
        prompts: Sequence[str], predictions: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        known = {text: rate(text) for text in dict.fromkeys(predictions)}
        return [known[text] for text in predictions]

    words = (
        "share of a prediction's words that lie in a run of 8 or more words that stands literally "
        "in the train split, mean of the rows, 0..1"
    )
    return RowMetric("copied", "copied", words, "", rates)
