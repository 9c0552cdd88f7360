"""From nothing: the tables made anew out of the log, and whether two sets of them are the same."""

from __future__ import annotations

import hashlib
import secrets

from msgspec import Struct

from core.log import Log
from projections.audit import Audit
from projections.billing import Ledger
from projections.database import Database, connect, migrate
from projections.runtime import Projection, Projector


class Fingerprint(Struct, frozen=True):
    """Of all rows as they are at `position` of the log: equal for equal logs."""

    position: int
    sha256: str


def projections() -> tuple[Projection, ...]:
    """All that is made of the event log alone, with nothing in memory yet."""
    return Audit(), Ledger()


async def rebuild(pool: Database, history: Log, until: int | None = None) -> int:
    """Empty the tables and fill them again, up to `until` or else the log's end; where that was."""
    until = await history.end() if until is None else until
    anew = projections()
    tables = ", ".join(table for projection in anew for table in projection.tables)
    async with pool.acquire() as db, db.transaction():
        await db.execute("delete from checkpoints where name = any($1)", [one.name for one in anew])
        await db.execute(f"truncate {tables}")
    await Projector(pool, history, anew).catch_up(until)
    return until


async def replay(url: str, history: Log, until: int) -> Fingerprint:
    """What `fingerprint` should say at `until`, found out beside the tables that are in use."""
    schema = f"replay_{secrets.token_hex(4)}"
    pool = await connect(url, schema=schema, connections_max=2)
    try:
        await pool.execute(f"create schema {schema}")
        await migrate(pool)
        await Projector(pool, history, projections()).catch_up(until)
        return await fingerprint(pool)
    finally:
        await pool.execute(f"drop schema if exists {schema} cascade")
        await pool.close()


async def fingerprint(pool: Database) -> Fingerprint:
    rows = hashlib.sha256()

    async def add(data: bytes) -> None:
        rows.update(data)

    folds = projections()
    async with pool.acquire() as db, db.transaction(isolation="repeatable_read", readonly=True):
        position = await db.fetchval(
            "select min(position) from checkpoints where name = any($1)", [fold.name for fold in folds]
        )
        for fold in folds:
            for table, order in fold.tables.items():
                rows.update(table.encode())
                await db.copy_from_query(f"select * from {table} order by {order}", output=add)
    return Fingerprint(position or 0, rows.hexdigest())
