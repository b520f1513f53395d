"""What ``tunebench evaluate`` found of a run: its table, and the answers that tell most."""

from typing import TYPE_CHECKING, Any

from engine.text import safe_line, steady
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, Run

if TYPE_CHECKING:
    from engine.home import Home

__all__ = ["LOOKS", "evaluation_runs"]

LOOKS = {
    "": "metrics of base and tuned, with intervals",
    "worst": "the answers that score worst",
    "best": "the answers that score best",
    "changed": "the answers that changed most",
    "gained": "the answers that gained most over the base",
    "lost": "the answers that lost most against the base",
}
SAMPLES = 20
CHARACTERS = 2_000


def evaluation_runs(home: "Home", run: str, look: str) -> tuple[str, list[Run]]:
    """(title, text) of a look at the newest evaluation; in a thread: it may read whole files.

    Raises :class:`UserError` when there is none, or when its texts are gone.
    """
    from engine.errors import UserError
    from engine.history.evaluated import evaluations_of, samples_of
    from tui.looking import looking

    with looking(home) as store:
        found = evaluations_of(store, run)
        if not found:
            raise UserError(f"nothing was evaluated yet: tunebench evaluate {run}")
        newest = found[0]
        samples = samples_of(store, newest["id"], look, SAMPLES) if look else []
    title = f"Evaluation on {newest['rows']:,} rows of {safe_line(str(newest['on']))[:30]}"
    if look:
        return f"{title}: {LOOKS[look]}", _samples(samples)
    return title, _table(newest)


def _table(document: dict[str, Any]) -> list[Run]:
    from engine.commands.metrics_table import table

    labels = {one["id"]: one["label"] for one in document["columns"]}
    lines = table(document["metrics"], labels, document.get("differences"), document.get("better"))
    runs: list[Run] = [
        (f"{steady(line)}\n", BOLD if n == 0 else PLAIN) for n, line in enumerate(lines)
    ]
    for name, words in document.get("definitions", {}).items():
        runs.append((f"\n{safe_line(name)}: {safe_line(str(words))}", QUIET))
    return runs


def _samples(samples: list[dict[str, Any]]) -> list[Run]:
    runs: list[Run] = []
    for one in samples:
        runs.append((f"row {one['row'] + 1:,}  ", QUIET))
        runs.append((f"{_cut(one['prompt'])}\n", BOLD))
        runs += [("reference  ", QUIET), (f"{_cut(one['reference'])}\n", PLAIN)]
        for answer in one["answers"]:
            score = next(iter(answer["scores"].values()))
            runs.append((f"{safe_line(answer['label'])[:30]}  chrF {score:.1f}  ", ACCENT))
            runs.append((f"{_cut(answer['text'])}\n", PLAIN))
        runs.append(("\n", PLAIN))
    return runs


def _cut(text: Any) -> str:
    if not isinstance(text, str):
        text = str(text[-1]["content"]) if text else ""
    return steady(text[:CHARACTERS])
