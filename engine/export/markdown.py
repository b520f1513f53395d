"""Blocks as Markdown (GitHub's, which the hub and most viewers know).

Charts are SVG files beside it: GitHub, GitLab and the hub show relative images, and take images out
that are written into the text as ``data:`` addresses.
"""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from engine.export import blocks as b
from engine.text import safe, safe_line

__all__ = ["escaped", "markdown_of"]

_SPECIAL = re.compile(r"[\\`*\[<>|~&$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""A line between letters means nothing: names of settings stay readable."""
_FIRST = re.compile(r"\s*(\d+(?=[.)])|(?=[#+=!-]))")


def markdown_of(blocks: Sequence[b.Block], pictures: str | None) -> str:
    """The text; ``pictures``: name of the folder beside it with ``FIGURE.svg``, None: without."""
    if pictures is None:
        blocks = _without_pictures(blocks)
    return "\n\n".join(part for block in blocks for part in _block(block, pictures)) + "\n"


def _without_pictures(blocks: Sequence[b.Block]) -> list[b.Block]:
    """Nor with the headings of parts that then have nothing."""
    found: list[b.Block] = []
    for block in (*(one for one in blocks if not isinstance(one, b.Pictures)), b.Heading(0, "")):
        if isinstance(block, b.Heading):
            while found and isinstance(last := found[-1], b.Heading) and last.level >= block.level:
                found.pop()
        found.append(block)
    return found[:-1]


def escaped(text: str) -> str:
    """Outside text on one line, as the characters that it is: no link, image, HTML or emphasis."""
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", safe_line(text))


def _begun(text: str) -> str:
    """Escaped, and neither a heading nor an item at the beginning of a line."""
    made = escaped(text).lstrip()
    found = _FIRST.match(made)
    return f"{made[: found.end()]}\\{made[found.end() :]}" if found else made


def _block(block: b.Block, pictures: str | None) -> Iterator[str]:
    match block:
        case b.Heading(level, text):
            yield f"{'#' * level} {escaped(text)}"
        case b.Words(text, _):
            yield _begun(text)
        case b.Items(texts):
            yield "\n".join(f"- {_begun(text)}" for text in texts)
        case b.Table():
            yield _table(block)
        case b.Answers(prompt, texts):
            yield "  \n".join(f"> {_begun(line)}" for line in safe(prompt).split("\n"))
            for who, text in texts:
                yield f"{_begun(who)}:"
                yield _fenced(text, "text")
        case b.Code(text, language):
            yield _fenced(text, language)
        case b.Pictures(figures):
            if pictures is not None:
                for figure in figures:
                    yield f"![{escaped(figure.title)}]({quote(pictures)}/{figure.name}.svg)"
        case b.Fold(title, inner):
            yield f"<details>\n<summary>{_summary(title)}</summary>"
            for one in inner:
                yield from _block(one, pictures)
            yield "</details>"


def _summary(text: str) -> str:
    """A folded part's title: HTML, where nothing of Markdown counts."""
    return safe_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fenced(text: str, language: str) -> str:
    text = safe(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _table(table: b.Table) -> str:
    def cell(text: str, row: int, column: int) -> str:
        made = escaped(text)
        return f"**{made}** ★" if (row, column) in table.best else made

    rules = ["--:" if column in table.numbers else "---" for column in range(len(table.head))]
    lines = [[escaped(text) for text in table.head], rules]
    lines += [
        [cell(text, row, column) for column, text in enumerate(texts)]
        for row, texts in enumerate(table.rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
