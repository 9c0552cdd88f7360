"""What several commands print: tables without lines, of values that may come from anybody."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

IDS = ("deployment", "container", "cluster", "node", "tenant", "image")
"""Columns that people copy from: on a narrow terminal the others give way."""

PIPED_COLUMNS = 400
"""As wide as a table may get where nobody looks at it as one page."""


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, no_wrap=name in IDS)
    return made


def add(to: Table, *cells: object) -> None:
    """As text: neither rich nor the terminal makes anything else of it."""
    to.add_row(*(escape(plain(str(cell))) for cell in cells))


def plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def say(text: str) -> str:
    """A sentence among tables."""
    return escape(plain(text))


def pen() -> Console:
    width = None if sys.stdout.isatty() else PIPED_COLUMNS
    return Console(soft_wrap=True, highlight=False, width=width)


def show(*things: RenderableType) -> None:
    console = pen()
    for thing in things:
        console.print(thing)


def some(words: Iterable[str], most: int = 8) -> str:
    """The first of them: `a, b and 5 more`."""
    listed = list(words)
    left = len(listed) - most
    return ", ".join(listed) if left <= 0 else f"{', '.join(listed[:most])} and {left} more"
