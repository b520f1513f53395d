"""Blocks as one HTML file: no script, nothing loaded, readable dark, light and on paper.

Charts stand in the page as SVG and take their colours from it.
"""

import base64
import hashlib
import html
from collections.abc import Iterator, Sequence

from engine.charts.colours import DARK, LIGHT, PAGE, Palette
from engine.export import blocks as b
from engine.text import safe, safe_line

__all__ = ["html_of"]


def _colours(palette: Palette) -> str:
    named = {"back": palette.back, "fore": palette.fore, "quiet": palette.quiet}
    named |= {"grid": palette.grid, "wrong": palette.wrong}
    named |= {f"series{number}": colour for number, colour in enumerate(palette.series)}
    return " ".join(f"--{name}: {value};" for name, value in named.items())


_STYLE = f"""
:root {{ {_colours(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_colours(DARK)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 64rem; padding: 1.5rem; background: var(--back);
  color: var(--fore); font: 15px/1.5 ui-sans-serif, system-ui, sans-serif; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem;
  border-bottom: 1px solid var(--grid); }}
h3 {{ font-size: 1rem; margin: 1.3rem 0 .4rem; overflow-wrap: anywhere; }}
p, ul {{ margin: .5rem 0; overflow-wrap: anywhere; }}
.quiet {{ color: var(--quiet); font-size: .87em; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: .5rem 0; font-size: .9em; }}
th, td {{ padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--grid); overflow-wrap: anywhere; }}
th {{ color: var(--quiet); font-weight: 600; }}
th:first-child, td:first-child {{ min-width: 9rem; max-width: 24rem; overflow-wrap: break-word; }}
.number {{ text-align: right; padding: .25rem .4rem .25rem .8rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }}
.long {{ white-space: normal; min-width: 9rem; max-width: 16rem; }}
.best {{ font-weight: 700; }}
.best::after {{ content: "\\00a0★"; color: var(--series1); }}
th.number:not(.best)::after, td.number:not(.best)::after {{ content: "\\00a0\\2003"; }}
pre {{ margin: .5rem 0; padding: .7rem .9rem; border: 1px solid var(--grid); border-radius: 4px;
  font: .82em/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
.answers {{ table-layout: fixed; width: 100%; }}
.answers td {{ white-space: pre-wrap; min-width: 10rem; }}
.prompt {{ white-space: pre-wrap; border-left: 3px solid var(--series0); padding-left: .7rem; }}
.charts {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem;
  margin: .5rem 0; }}
figure {{ margin: 0; }}
figure.wide {{ grid-column: 1 / -1; }}
figure > svg {{ display: block; width: 100%; height: auto; }}
summary {{ cursor: pointer; color: var(--quiet); margin: .6rem 0; }}
@media (max-width: 45rem) {{ .charts {{ grid-template-columns: minmax(0, 1fr); }} }}
@media print {{ body {{ max-width: none; padding: 0; font-size: 11px; }}
  h2, h3 {{ break-after: avoid; }} figure, tr {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }} }}
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src 'none'; script-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
"""Even markup that got in could load and run nothing, nor style itself."""
WIDE, NARROW = (960, 340), (560, 280)
"""Sizes of the first chart and of the others, in pixels."""
QUIET, LARGE = ' class="quiet"', ' class="wide"'
LONG = 20
"""Characters from which on a cell that is aligned like a number may be broken."""
MOST_BESIDE = 4
"""Answers beside each other; more stand below each other."""


def html_of(title: str, blocks: Sequence[b.Block]) -> str:
    """The whole file as text."""
    made = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_line(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        *(part for block in blocks for part in _block(block)),
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(made)


def _line(text: str) -> str:
    return html.escape(_allowed(safe_line(text)))


def _lines(text: str) -> str:
    return html.escape(_allowed(safe(text)))


def _allowed(text: str) -> str:
    """Without characters that no document may have."""
    return text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")


def _block(block: b.Block) -> Iterator[str]:
    match block:
        case b.Heading(level, text):
            yield f"<h{level}>{_line(text)}</h{level}>"
        case b.Words(text, quiet):
            yield f"<p{QUIET if quiet else ''}>{_line(text)}</p>"
        case b.Items(texts):
            yield "<ul>"
            yield from (f"<li>{_line(text)}</li>" for text in texts)
            yield "</ul>"
        case b.Table():
            yield from _table(block)
        case b.Answers(prompt, texts):
            yield f'<p class="prompt">{_lines(prompt)}</p>'
            yield from _answers(texts)
        case b.Code(text, _):
            yield f"<pre><code>{_lines(text)}</code></pre>"
        case b.Pictures(figures):
            yield '<div class="charts">'
            for number, figure in enumerate(figures):
                width, height = NARROW if number else WIDE
                _, _, svg = figure.svg(PAGE, width, height).partition("\n")
                yield f"<figure{'' if number else LARGE}>{svg}</figure>"
            yield "</div>"
        case b.Fold(title, inner):
            yield f"<details><summary>{_line(title)}</summary>"
            yield from (part for one in inner for part in _block(one))
            yield "</details>"


def _table(table: b.Table) -> Iterator[str]:
    def cell(tag: str, text: str, row: int, column: int) -> str:
        names = ["number"] if column in table.numbers else []
        names += ["long"] if len(text) > LONG and names else []
        names += ["best"] if (row, column) in table.best else []
        classes = f' class="{" ".join(names)}"' if names else ""
        return f"<{tag}{classes}>{_line(text)}</{tag}>"

    yield '<div class="scroll"><table>'
    if any(table.head):
        cells = "".join(cell("th", text, -1, column) for column, text in enumerate(table.head))
        yield f"<thead><tr>{cells}</tr></thead>"
    yield "<tbody>"
    for row, texts in enumerate(table.rows):
        cells = "".join(cell("td", text, row, column) for column, text in enumerate(texts))
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"


def _answers(texts: Sequence[tuple[str, str]]) -> Iterator[str]:
    if len(texts) <= MOST_BESIDE:
        yield '<div class="scroll"><table class="answers"><thead><tr>'
        yield "".join(f"<th>{_line(who)}</th>" for who, _ in texts)
        yield "</tr></thead><tbody><tr>"
        yield "".join(f"<td>{_lines(text)}</td>" for _, text in texts)
        yield "</tr></tbody></table></div>"
        return
    yield "<table><tbody>"
    for who, text in texts:
        yield f"<tr><th>{_line(who)}</th><td>{_lines(text)}</td></tr>"
    yield "</tbody></table>"
