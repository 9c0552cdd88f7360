"""The shape of every aggregate: an initial state and pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, Generic, TypeVar

from msgspec import Struct

from core.message import Command, Invalid

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")


def nothing_alongside(command: Any, state: Any) -> tuple[Command, ...]:
    """Most wishes concern one stream only."""
    return ()


def nothing_to_explain(question: Any, state: Any, facts: Any) -> Any:
    """Most aggregates are no secret to the projections."""
    raise Invalid("nothing can be asked of this")


class Decider(Struct, Generic[C, S, E], frozen=True):
    """Everything an aggregate is. It performs no effect and reads no clock.

    `alongside` names the wishes to other streams without which this one may not
    come true, as a user and the name it reserves: all are decided, and their
    events appended, together or not at all. Their deciders' own `alongside` is
    not asked.
    """

    initial: S
    decide: Callable[[C, S], list[E]]
    evolve: Callable[[S, E], S]
    alongside: Callable[[C, S], tuple[Command, ...]] = nothing_alongside
    explain: Callable[[Any, S, Any], Any] = nothing_to_explain

    def fold(self, events: Iterable[E]) -> S:
        return reduce(self.evolve, events, self.initial)
