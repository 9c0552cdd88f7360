"""What has happened to whom, as those it concerns may see it: one line for each event."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from core.log import Recorded


class Line(Struct, frozen=True):
    """`position` is where in the log; events decided together share it. `event` holds `type` and fields."""

    position: int
    at_ms: int
    tenant: str
    context: str
    key: str
    event: Any
    actor: str
    correlation: str
    command: str


def lines(recorded: Recorded, tenants: Collection[str]) -> Iterator[Line]:
    """The events of a commit that are about one of the tenants, or about something of theirs."""
    stream = recorded.stream
    for decision in recorded.commit.decisions:
        for event in decision.events:
            if tenants_of(stream.tenant, stream.key, event).isdisjoint(tenants):
                continue
            yield Line(
                position=recorded.position,
                at_ms=recorded.at_ms,
                tenant=stream.tenant,
                context=stream.context,
                key=stream.key,
                event=msgspec.to_builtins(event),
                actor=decision.actor,
                correlation=decision.correlation,
                command=decision.command,
            )


def tenants_of(tenant: str, key: str, event: Any) -> set[str]:
    return {tenant, key, getattr(event, "tenant", tenant)}
