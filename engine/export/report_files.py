"""Reports as files: one HTML file, or a Markdown file with a folder of charts beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import UserError
from engine.export import blocks as b
from engine.export.figures import Figure
from engine.export.html import html_of
from engine.export.markdown import markdown_of
from engine.export.written import free_name, written

__all__ = ["figures_in", "printed", "write_markdown", "write_report"]


def printed(title: str, blocks: Sequence[b.Block], format: str) -> str:
    """The report for standard output: Markdown comes without its charts."""
    return html_of(title, blocks) if format == "html" else markdown_of(blocks, None)


def write_report(
    path: Path, title: str, blocks: Sequence[b.Block], format: str, force: bool
) -> list[Path]:
    """Write it, whole or not at all; the files that it consists of, the report first."""
    if format == "html":
        with written(path, force) as file:
            file.write(html_of(title, blocks).encode("utf-8", "replace"))
        return [path]
    return write_markdown(path, "", blocks, force)


def write_markdown(path: Path, head: str, blocks: Sequence[b.Block], force: bool) -> list[Path]:
    """``head``, the blocks, and their charts in the folder ``NAME_files`` beside the file.

    Names of charts are ours. Files of other names in the folder stay as they are.
    """
    free_name(path, force)
    folder = path.with_name(f"{path.stem}_files")
    figures = list(figures_in(blocks))
    if figures:
        if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and force)):
            raise UserError(
                f"{folder}: is there already, and the charts go there; name another file"
                + ("" if force else ", or add --force")
            )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    charts = [folder / f"{figure.name}.svg" for figure in figures]
    for figure, chart in zip(figures, charts, strict=True):
        with written(chart, force) as file:
            file.write(figure.svg().encode("utf-8", "replace"))
    with written(path, force) as file:
        text = head + markdown_of(blocks, folder.name if figures else None)
        file.write(text.encode("utf-8", "replace"))
    return [path, *charts]


def figures_in(blocks: Sequence[b.Block]) -> Iterator[Figure]:
    for block in blocks:
        if isinstance(block, b.Pictures):
            yield from block.figures
        elif isinstance(block, b.Fold):
            yield from figures_in(block.blocks)
