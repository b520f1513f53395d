"""A sweep in the history: one line of the list, or a table of its runs, the best first."""

from engine.commands.output import Output
from engine.history.queries import SweepRow, sweep_values
from engine.text import clip

__all__ = ["line", "table"]


def line(sweep: SweepRow, begun: str) -> str:
    """Name, number of runs, their states, the best validation loss and whose it is."""
    count = f"sweep of {len(sweep.runs)}"
    states = ", ".join(f"{number} {state}" for state, number in sweep.states.items())
    best = sweep.best
    won = f"best {best.best_eval_loss:.4f} {best.name}" if best else "no validation loss yet"
    return f"{count:<21} {clip(sweep.id, 20):<20} {states}  {won}  {begun}"


def table(sweep: SweepRow, out: Output) -> None:
    """The runs with the sweep's values and their losses, sorted by the best validation loss."""
    keys = sweep.keys
    names = {key: key.split(".")[-1] for key in keys}
    widths = {key: max(8, min(24, len(names[key]))) for key in keys}
    long = min(40, max(len(row.name) for row in sweep.runs))
    heads = " ".join(f"{clip(names[key], widths[key]):>{widths[key]}}" for key in keys)
    out.line(f"{'run':<{long}} {heads} {'valid.':>8} {'train':>8} {'steps':>13}  state")
    for row in sweep.runs:
        values = sweep_values(row)
        cells = " ".join(
            f"{clip(str(values.get(key, '-')), widths[key]):>{widths[key]}}" for key in keys
        )
        losses = " ".join(
            f"{'-' if loss is None else f'{loss:.4f}':>8}"
            for loss in (row.best_eval_loss, row.loss)
        )
        steps = f"{row.step or 0}/{row.max_steps or '?'}"
        out.line(f"{clip(row.name, long):<{long}} {cells} {losses} {steps:>13}  {row.state}")
