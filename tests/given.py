"""Given, when, then: the way a decider is tested and explained."""

from __future__ import annotations

from typing import Generic

import pytest
from msgspec import Struct

from core.decider import C, Decider, E, S
from core.message import Command, Rejection


class Scenario(Struct, Generic[C, S, E], frozen=True):
    """`given(past).when(wish).then(facts)`, over any decider."""

    decider: Decider[C, S, E]
    past: tuple[E, ...] = ()

    def __call__(self, *past: E) -> Scenario[C, S, E]:
        return Scenario(self.decider, past)

    def when(self, command: C) -> Outcome[C, S, E]:
        return Outcome(self.decider, self.past, command)


class Outcome(Struct, Generic[C, S, E], frozen=True):
    decider: Decider[C, S, E]
    past: tuple[E, ...]
    command: C

    def _decide(self) -> list[E]:
        return self.decider.decide(self.command, self.decider.fold(self.past))

    def then(self, *events: E) -> None:
        assert self._decide() == list(events)

    def then_nothing(self) -> None:
        assert self._decide() == []

    def then_rejected(self, rejection: type[Rejection], reason: str | None = None) -> None:
        """`reason` is a regular expression that is found in what the caller reads."""
        with pytest.raises(rejection, match=reason):
            self._decide()

    def then_alongside(self, *wishes: Command) -> None:
        """What other streams are asked for, together with this one or not at all."""
        assert self.decider.alongside(self.command, self.decider.fold(self.past)) == wishes
