"""What may go wrong with a run, each as one function: a warning in words, or None."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from engine.preflight.resolve import Resolved
from engine.preflight.special import untrained_tokens
from engine.recipe import Recipe
from engine.system.gpu import Gpu
from engine.words import bytes_words

__all__ = [
    "PreflightWarning",
    "answers_cut",
    "context_too_long",
    "data_warnings",
    "disk_too_small",
    "double_bos",
    "end_masked",
    "end_never_trained",
    "gpu_shared",
    "left_out",
    "memory_too_small",
    "module_missing",
    "padding_is_end",
    "test_rows_in_train",
    "untrained_special_tokens",
]

ENOUGH_TO_SAY = 0.01
"""Share of rows from which a loss of data is a warning, not a note."""


@dataclass(frozen=True)
class PreflightWarning:
    key: str
    """Names the kind, for programs."""
    words: str
    severity: str
    """note (good to know), warning (results suffer), error (the run will fail)."""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def data_warnings(resolved: Resolved) -> list[PreflightWarning]:
    """Everything that rows, tokens and vocabulary give reason to warn of."""
    found = (
        answers_cut(resolved),
        left_out(resolved),
        end_never_trained(resolved),
        double_bos(resolved),
        padding_is_end(resolved),
        untrained_special_tokens(resolved),
        test_rows_in_train(resolved),
    )
    return [warning for warning in found if warning]


def answers_cut(resolved: Resolved) -> PreflightWarning | None:
    """Rows of train that lose the end of an answer."""
    train, most = resolved.splits["train"], resolved.recipe.train.max_length
    cut = train.whole("answers_cut")
    if not cut:
        return None
    return _by_share(
        "answers_cut",
        cut / train.rows_in_split,
        f"{_rows(resolved, cut)} of train lose the end of an answer at train.max_length = {most} "
        f"({_percent(cut / train.rows_in_split)}); tunebench preview --stats says which length "
        "fits",
    )


def left_out(resolved: Resolved) -> PreflightWarning | None:
    """Rows of train whose prompt alone fills ``max_length``."""
    train = resolved.splits["train"]
    gone = train.whole("left_out")
    if not gone:
        return None
    return _by_share(
        "left_out",
        gone / train.rows_in_split,
        f"{_rows(resolved, gone)} of train are left out: their prompt alone fills "
        f"train.max_length = {resolved.recipe.train.max_length}",
    )


def end_never_trained(resolved: Resolved) -> PreflightWarning | None:
    """No row ends with a trained end of text: the model would never learn to stop."""
    train = resolved.splits["train"]
    untrained = train.counts["eos_untrained"]
    whole = train.rows - train.counts["answers_cut"]
    if untrained < train.rows:
        missing = untrained - train.counts["answers_cut"]  # a cut answer has lost its end anyway
        if missing <= ENOUGH_TO_SAY * train.rows:
            return None
        return PreflightWarning(
            "end_seldom_trained",
            f"{_percent(missing / train.rows)} of the rows of train end without a trained end of "
            "text, though their answer is not cut",
            "warning",
        )
    why = "every answer is cut" if not whole else "the format writes none after an answer"
    return PreflightWarning(
        "end_never_trained",
        f"no row of train ends with a trained end of text ({why}): the model will not learn to "
        "stop" + ("; make train.max_length larger" if not whole else "; see format.template"),
        "warning",
    )


def double_bos(resolved: Resolved) -> PreflightWarning | None:
    """Rows that begin with two beginning-of-text tokens."""
    train = resolved.splits["train"]
    twice = train.whole("double_bos")
    if not twice:
        return None
    return PreflightWarning(
        "double_bos",
        f"{_rows(resolved, twice)} of train begin with two beginning-of-text tokens: the chat "
        "template writes one too many",
        "warning",
    )


def padding_is_end(resolved: Resolved) -> PreflightWarning | None:
    """Padding is the end-of-text token, and the ends of answers are not trained.

    Labels are masked by place, not by token, so the one does not cause the other here; where rows
    do end with a trained end of text there is nothing to warn of.
    """
    formatter, train = resolved.formatter, resolved.splits["train"]
    uncut = train.rows - train.counts["answers_cut"]
    ended = train.rows - train.counts["eos_untrained"]
    if formatter.pad_id != formatter.eos_id or not uncut or ended >= 0.5 * uncut:
        return None
    return PreflightWarning(
        "padding_is_end",
        "padding is the end-of-text token, and most answers' ends are not trained: nothing "
        "teaches the model where to stop; give the tokenizer a pad token of its own, and the "
        "format an end of text",
        "warning",
    )


def untrained_special_tokens(resolved: Resolved) -> PreflightWarning | None:
    """Special tokens of the format that the model has never seen, with embeddings that stay so."""
    recipe = resolved.recipe
    found = untrained_tokens(recipe, resolved)
    if not found:
        return None
    named = ", ".join(f"{token.token} ({token.why})" for token in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    listed = ", ".join(f'"{token.token}"' for token in found)
    return PreflightWarning(
        "untrained_special_tokens",
        f"the model was never trained on special tokens of the format: the embedding of {named}"
        f"{more}. Embeddings are frozen; set model.add_tokens = [{listed}], or lora.modules_to_save"
        ' = ["embed_tokens", "lm_head"]',
        "warning",
    )


def test_rows_in_train(resolved: Resolved) -> PreflightWarning | None:
    """Rows of validation or test that occur in train, as the dataset's report counted them."""
    report = resolved.dataset.report
    if not (report.leakage_after or report.near_leakage):
        return None
    words = []
    if report.leakage_after:
        words.append(f"{report.leakage_after:,} rows of validation and test occur in train")
    if report.near_leakage:
        words.append(f"{report.near_leakage:,} are nearly the same as one of train")
    return PreflightWarning(
        "test_rows_in_train",
        "; ".join(words) + ": their loss says less about new rows",
        "warning" if report.leakage_after else "note",
    )


def context_too_long(recipe: Recipe, max_positions: int) -> PreflightWarning | None:
    """Longer sequences than the model has places for."""
    if not max_positions or recipe.train.max_length <= max_positions:
        return None
    return PreflightWarning(
        "context_too_long",
        f"train.max_length = {recipe.train.max_length} is more than the model's context of "
        f"{max_positions:,} tokens",
        "warning",
    )


def module_missing(recipe: Recipe, weights: Iterable[str]) -> PreflightWarning | None:
    """Adapters for what the model has not: the run fails as soon as the model is loaded.

    ``weights``: names of all its weights.
    """
    lora = recipe.lora
    known = {"lm_head"}.union(*(name.split(".")[:-1] for name in weights))
    targets = [] if isinstance(lora.target_modules, str) else lora.target_modules
    for key, names in (("target_modules", targets), ("modules_to_save", lora.modules_to_save)):
        for name in names:
            module = name.rpartition(".")[2]
            if lora.enabled and module.isidentifier() and module not in known:
                words = f"lora.{key}: the model has no module {name!r}, so the run will fail"
                return PreflightWarning("module_missing", words, "error")
    layers = {int(part) for name in weights for part in name.split(".") if part.isdigit()}
    if lora.enabled and lora.layers_to_transform and not layers & {*lora.layers_to_transform}:
        return PreflightWarning(
            "module_missing",
            f"lora.layers_to_transform: the model has the layers {min(layers, default=0)} to "
            f"{max(layers, default=0)} only, so the run will fail",
            "error",
        )
    return None


def disk_too_small(needed: int, free: int, kept: int, each: int) -> PreflightWarning | None:
    """``kept`` checkpoints of ``each`` bytes at a time are ``needed`` bytes, of ``free`` ones."""
    if needed <= 0.9 * free:
        return None
    return PreflightWarning(
        "disk_too_small",
        f"{kept} checkpoints of {bytes_words(each)} are kept at a time: {bytes_words(needed)}, and "
        f"{bytes_words(free)} are free; make room, or train.save_total_limit smaller",
        "error" if needed > free else "warning",
    )


def memory_too_small(needed: int, free: int, total: int, measured: bool) -> PreflightWarning | None:
    """More memory than there is."""
    if not total or needed <= 0.95 * free:
        return None
    verb = "takes" if measured else "will take about"
    return PreflightWarning(
        "memory_too_small",
        f"training {verb} {bytes_words(needed)}, and {bytes_words(free)} of {bytes_words(total)} "
        "are free; --find-batch-size finds a batch that fits, train.gradient_checkpointing = true "
        "takes less",
        "error" if measured and needed > free else "warning",
    )


def gpu_shared(gpu: Gpu | None, own: Sequence[int] = ()) -> PreflightWarning | None:
    """Another process on the card. ``own``: pids of ours."""
    if gpu is None:
        return None
    others = [p for p in gpu.processes or () if p.pid not in own and (p.memory or 0) > SMALL]
    used = gpu.memory_used or 0
    if others:
        named = ", ".join(
            f"{p.name or 'process'} ({p.pid}, {bytes_words(p.memory)})" for p in others[:3]
        )
        words = f"GPU {gpu.index} is shared with {named}"
    elif used > UNNAMED and not own:
        words = f"{bytes_words(used)} of GPU {gpu.index} are in use by others"
    else:
        return None
    return PreflightWarning(
        "gpu_shared", f"{words}: less memory is free than it has, and speed suffers", "warning"
    )


def end_masked(places: int | None) -> PreflightWarning | None:
    """So many ends of text (``places``) are trained in their rows, but not in batches."""
    if not places:
        return None
    return PreflightWarning(
        "end_masked",
        f"{places} trained ends of text are masked in the batches: padding is the same token; give "
        "the tokenizer a pad token of its own",
        "warning",
    )


SMALL = 64 << 20
"""A process with less than this on a card does not compete for it."""
UNNAMED = 1 << 30
"""What driver and other users' idle contexts may take without being named."""


def _by_share(key: str, share: float, words: str) -> PreflightWarning:
    return PreflightWarning(key, words, "warning" if share >= ENOUGH_TO_SAY else "note")


def _rows(resolved: Resolved, count: int) -> str:
    about = "about " if resolved.splits["train"].is_estimate else ""
    return f"{about}{count:,} rows" if count != 1 else f"{about}1 row"


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "under 1 %"
    return f"{100 * share:.0f} %"
