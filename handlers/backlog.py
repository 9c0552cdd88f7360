"""Who waits, in the order in which they are served: highest priority first, then first come.

A tenant's requests of one priority and one class are alike, so only the oldest of them,
their head, has to be looked at: where it finds no place, the others find none either. A
gang waits as one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

from handlers.room import Need


class Line(NamedTuple):
    """Those who wait behind the same head. `gang` is '' but for the members of one."""

    priority: int
    tenant: str
    gang: str
    need: Need | None


class Backlog:
    def __init__(self) -> None:
        self._lines: dict[Line, list[tuple[int, str]]] = {}

    def enter(self, line: Line, sequence: int, key: str) -> None:
        insort(self._lines.setdefault(line, []), (sequence, key))

    def leave(self, line: Line, sequence: int, key: str) -> None:
        waiting = self._lines[line]
        del waiting[bisect_left(waiting, (sequence, key))]
        if not waiting:
            del self._lines[line]

    def line(self, line: Line) -> list[tuple[int, str]]:
        """Sequences and keys, oldest first."""
        return self._lines.get(line, [])

    def heads(self) -> list[tuple[int, int, str, Line]]:
        """The heads of all lines, in the order in which they are served."""
        return sorted(_entry(line, waiting[0]) for line, waiting in self._lines.items())

    def head(self, line: Line) -> tuple[int, int, str, Line] | None:
        waiting = self._lines.get(line)
        return _entry(line, waiting[0]) if waiting else None

    def __iter__(self) -> Iterator[str]:
        everybody = (
            (-line.priority, sequence, key)
            for line, waiting in self._lines.items()
            for sequence, key in waiting
        )
        return (key for *_, key in sorted(everybody))


def _entry(line: Line, oldest: tuple[int, str]) -> tuple[int, int, str, Line]:
    sequence, key = oldest
    return -line.priority, sequence, key, line
