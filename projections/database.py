"""Postgres, for the questions that memory is too small for. All of it can be rebuilt from the log."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg
import structlog
from asyncpg import Pool, Record
from asyncpg.pool import PoolConnectionProxy

from core.log import Unavailable

__all__ = [
    "LOST",
    "Connection",
    "Database",
    "MigrationChanged",
    "Pool",
    "Reader",
    "connect",
    "migrate",
    "reached",
]

log = structlog.get_logger(__name__)

Connection: TypeAlias = "PoolConnectionProxy[Record]"
Database: TypeAlias = "Pool[Record]"
Reader: TypeAlias = "Connection | Database"

SETTINGS = {
    # a crash may lose the last moments together with their checkpoint; they are then projected again
    "synchronous_commit": "off",
    "jit": "off",
    "client_min_messages": "warning",
}
MIGRATING = 7_283_991_402
"""Any number, the same in every process: the advisory lock that lets one of them migrate."""

LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg, when a server ends a connection just before it is used
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    Unavailable,
)
"""What is raised when Postgres (or the log) is away for now: trying again later may help."""


class MigrationChanged(Exception):
    """The database was made by other migrations than ours."""


async def connect(url: str, *, schema: str = "public", connections_max: int = 10) -> Database:
    """A pool whose connections read and write in `schema`. Raises any of `LOST`."""
    settings = {**SETTINGS, "search_path": schema}
    return await asyncpg.create_pool(url, min_size=1, max_size=connections_max, server_settings=settings)


async def migrate(pool: Database) -> None:
    """Bring the tables up to date: all of `migrations/*.sql` that has not been applied, or nothing.

    Raises `MigrationChanged`.
    """
    ours = {
        file.name: file.read_text()
        for file in sorted(files("migrations").iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    }
    async with pool.acquire() as db, db.transaction():
        await db.execute("select pg_advisory_xact_lock($1)", MIGRATING)
        await db.execute(
            "create table if not exists migrations (name text primary key, sha256 text not null)"
        )
        applied = {
            row["name"]: row["sha256"] for row in await db.fetch("select name, sha256 from migrations")
        }
        if unknown := sorted(applied.keys() - ours.keys()):
            raise MigrationChanged(f"the database is newer than this program: {', '.join(unknown)}")
        for name, statements in ours.items():
            sha256 = hashlib.sha256(statements.encode()).hexdigest()
            if name not in applied:
                await db.execute(statements)
                await db.execute("insert into migrations (name, sha256) values ($1, $2)", name, sha256)
                log.info("migrated", migration=name)
            elif applied[name] != sha256:
                raise MigrationChanged(f"{name} was changed after it had been applied; add a new migration")


async def reached(pool: Database, name: str, position: int, timeout_s: float) -> None:
    """Until the projection `name` shows everything up to `position`. Raises `TimeoutError`."""
    if await _position(pool, name) >= position:
        return
    arrived = asyncio.Event()

    def hear(db: Any, pid: int, channel: str, payload: object) -> None:
        who, _, where = str(payload).partition(" ")
        if who == name and int(where) >= position:
            arrived.set()

    async with asyncio.timeout(timeout_s), pool.acquire() as db:
        await db.add_listener("reached", hear)
        try:
            if await _position(db, name) < position:
                await arrived.wait()
        finally:
            await db.remove_listener("reached", hear)


async def _position(db: Reader, name: str) -> int:
    return await db.fetchval("select position from checkpoints where name = $1", name) or 0
