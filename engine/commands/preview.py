"""The verb ``preview``."""

import argparse
from typing import Any

from engine.commands.output import Output
from engine.errors import UsageError
from engine.home import existing_home
from engine.recipe import Recipe, load_recipe
from engine.text import clip

__all__ = ["preview", "stats_lines"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_HEIGHT = 4
_WIDE = 78


def preview(args: argparse.Namespace, out: Output) -> int:
    """``tunebench preview DATASET``: what the model will see of a row, or of a whole split."""
    from engine.data.dataset import open_dataset
    from engine.data.preview import preview_pack, preview_row, preview_stats, row_of_line
    from engine.data.tokens import Formatter

    if args.sample < 0:
        raise UsageError(f"--sample {args.sample}: a number of rows, 0 for all of them")
    recipe = (
        load_recipe(args.recipe, args.settings)
        if args.recipe
        else Recipe(name="preview").with_settings(args.settings)
    )
    dataset = open_dataset(existing_home(args.home), args.dataset)
    formatter = Formatter.of(recipe)
    completion_only = recipe.train.completion_only_loss

    def tell(done: int, rows: int) -> None:
        out.progress(f"tokenising  {done:,} of {rows:,} rows")

    if args.stats:
        seen = preview_stats(
            dataset,
            formatter,
            args.split,
            completion_only=completion_only,
            sample=args.sample,
            progress=tell,
        )
        lines = stats_lines(seen)
    elif args.pack is not None:
        seen = preview_pack(
            dataset,
            formatter,
            args.split,
            args.pack,
            completion_only=completion_only,
            progress=tell,
        )
        lines = _pack_lines(seen)
    else:
        row = args.row
        if args.line is not None:
            row = row_of_line(dataset, args.split, args.line)
        seen = preview_row(dataset, formatter, args.split, row, completion_only=completion_only)
        lines = _row_lines(seen)
    out.progress_done()
    out.document(seen)
    for line in lines:
        out.line(line)
    return 0


def _row_lines(seen: dict[str, Any]) -> list[str]:
    cut = seen["truncated_at"]
    tokens = seen["tokens"]
    lines = [seen["text"], ""]
    lines += [_token_line(place, token) for place, token in enumerate(tokens)]
    lines += [
        "",
        f"{len(tokens)} tokens, {seen['trained']} trained (*)"
        + (f"; cut at {cut} of {seen['length']} tokens" if cut is not None else ""),
        f"end of text trained: {'yes' if seen['eos_trained'] else 'no'}; "
        f"beginning of text: {seen['bos_count']} times",
    ]
    if seen["answer_cut"]:
        lines.append(f"warning: {seen['answer_cut']:,} tokens of the answer are cut off")
    if seen["double_bos"]:
        lines.append("warning: the text begins with two beginning-of-text tokens")
    if seen["unknown_tokens"]:
        lines.append(f"warning: {seen['unknown_tokens']:,} tokens are unknown to the vocabulary")
    return lines


def _pack_lines(seen: dict[str, Any]) -> list[str]:
    lines = []
    for row in seen["rows"]:
        end = row["start"] + row["length"]
        lines.append(f"row {row['row']:,} (line {row['line']:,}), {row['length']} tokens")
        lines += [
            _token_line(place, seen["tokens"][place], f"{seen['tokens'][place]['position']:>5} ")
            for place in range(row["start"], end)
        ]
        lines.append("")
    trained = sum(token["trained"] for token in seen["tokens"])
    lines.append(
        f"sequence {seen['pack']:,} of {seen['packs']:,}: {len(seen['rows'])} rows, "
        f"{seen['length']} of {seen['max_length']} tokens, {trained} trained (*)"
    )
    return lines


def _token_line(place: int, token: dict[str, Any], position: str = "") -> str:
    mark = "*" if token["trained"] else " "
    return f"{place:>5} {position}{mark} {token['id']:>7}  {token['text']!r}"


def stats_lines(stats: dict[str, Any]) -> list[str]:
    """The figures of a split in lines of at most 80 columns."""
    rows, most = stats["rows"], stats["max_length"]
    packing = stats["packing"]
    lines = [f"{rows:,} rows of {stats['split']}"]
    if stats["estimate"]:
        lines[0] += f", the first of {stats['rows_in_split']:,}: estimates"
    lines += ["", *_histogram(stats["histogram"]["counts"], stats["histogram"]["edges"]), ""]
    places = [f"{name} {value:,}" for name, value in stats["quantiles"].items()]
    lines += [
        "tokens: " + "  ".join(places),
        f"mean {stats['mean']:.1f}; after cutting {stats['tokens']:,} in all, "
        f"{stats['trained_tokens']:,} trained",
        "",
    ]
    counts = (
        ("truncated", f"rows longer than max_length {most}"),
        ("answers_cut", "rows with a token of the answer cut off"),
        ("answers_lost", "rows whose answer is cut off entirely"),
        ("untrained", "rows with no trained token left"),
        ("eos_untrained", "rows whose end of text or turn is not trained"),
        ("double_bos", "rows that begin with two beginning-of-text tokens"),
        ("unknown_rows", f"rows with unknown tokens ({stats['unknown_tokens']:,} tokens)"),
    )
    digits = max(len(f"{stats[key]:,}") for key, _ in counts)
    lines += [f"{stats[key]:>{digits},}  {words}" for key, words in counts]
    lines += [
        "",
        f"max_length {stats['fits_95']:,} cuts under 5 % of the rows, "
        f"{stats['fits_99']:,} under 1 %",
        f"packed: {packing['sequences']:,} sequences, {100 * packing['filled']:.0f} % full",
        stats["sentence"],
    ]
    return [clip(line, 80) for line in lines]


def _histogram(counts: list[int], edges: list[float]) -> list[str]:
    """Columns of block characters, one a bin and two cells wide, over a scale of tokens."""
    highest = max(counts)
    each = max(1, _WIDE // len(counts))
    steps = len(_BLOCKS) - 1
    # What is not nothing is seen.
    heights = [-(-count * _HEIGHT * steps // highest) for count in counts]
    lines = []
    for level in reversed(range(_HEIGHT)):
        cells = [_BLOCKS[max(0, min(steps, height - level * steps))] for height in heights]
        lines.append("".join(cell * each for cell in cells).rstrip())
    wide = each * len(counts)
    # The last bin may be wider than the others: it holds all that are longer.
    right = f"{edges[-2]:,.0f} and more tokens"
    middle = f"{edges[len(edges) // 2 - 1]:,.0f}"
    scale = "0".ljust(wide // 2 - len(middle) // 2) + middle
    return [*lines, scale + right.rjust(wide - len(scale))]
