"""Every event there ever was, to be looked up by what it was about, who caused it, and with what."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from core.log import Recorded
from projections.database import Connection, Reader

COLUMNS = (
    "position",
    "number",
    "at_ms",
    "tenant",
    "context",
    "key",
    "event",
    "actor",
    "correlation",
    "command",
)
LIMIT = 100


class Entry(Struct, frozen=True):
    """One event: the `number`th of the commit at `position`, taken by the log at `at_ms`."""

    position: int
    number: int
    at_ms: int
    tenant: str
    context: str
    key: str
    event: str
    actor: str
    correlation: str
    command: str


class Audit:
    name = "audit"
    tables = {"audit": "position, number"}

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    async def load(self, db: Connection) -> None:
        self._rows = []

    def take(self, recorded: Recorded) -> None:
        (tenant, context, key), position, at_ms, commit = recorded
        number = 0
        for decision in commit.decisions:
            who, request, command = (
                _text(decision.actor),
                _text(decision.correlation),
                _text(decision.command),
            )
            for event in decision.events:
                event_name = type(event).__name__
                self._rows.append(
                    (position, number, at_ms, tenant, context, key, event_name, who, request, command)
                )
                number += 1

    async def write(self, db: Connection) -> None:
        rows, self._rows = self._rows, []
        if rows:
            await db.copy_records_to_table("audit", records=rows, columns=COLUMNS)


async def search(
    db: Reader,
    tenants: Collection[str],
    *,
    context: str | None = None,
    key: str | None = None,
    event: str | None = None,
    actor: str | None = None,
    correlation: str | None = None,
    before: int | None = None,
    limit: int = LIMIT,
) -> list[Entry]:
    """The newest events of these tenants that match all that is given; `before` is a position."""
    given = {"context": context, "key": key, "event": event, "actor": actor, "correlation": correlation}
    wanted = {column: value for column, value in given.items() if value is not None}
    conditions = ["tenant = any($1)", "($2::bigint is null or position < $2)"]
    conditions += [f"{column} = ${number}" for number, column in enumerate(wanted, start=4)]
    query = (
        f"select {', '.join(COLUMNS)} from audit where {' and '.join(conditions)} "
        "order by position desc, number desc limit $3"
    )
    rows = await db.fetch(query, list(tenants), before, limit, *wanted.values())
    return [Entry(*row) for row in rows]


def _text(said: str) -> str:
    """What came in with a request may hold the one character that Postgres has no room for."""
    return said.replace("\0", "") if "\0" in said else said
