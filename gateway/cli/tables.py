"""What several commands print: tables without lines, of values that may come from anybody."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table


def table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def add(to: Table, *cells: object) -> None:
    """As text: neither rich nor the terminal makes anything else of it."""
    to.add_row(*(escape(plain(str(cell))) for cell in cells))


def plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def say(text: str) -> str:
    """A sentence among tables."""
    return escape(plain(text))


def show(*things: RenderableType) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for thing in things:
        console.print(thing)


def some(words: Iterable[str], most: int = 8) -> str:
    """The first of them: `a, b and 5 more`."""
    listed = list(words)
    left = len(listed) - most
    return ", ".join(listed) if left <= 0 else f"{', '.join(listed[:most])} and {left} more"
