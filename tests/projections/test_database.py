"""Tables are brought up to date once, by one process, or not at all; and readers can wait for them."""

from __future__ import annotations

import asyncio

import pytest

from projections.database import Database, MigrationChanged, connect, migrate, reached

tables = "select count(*) from information_schema.tables where table_name = 'intervals'"


async def test_processes_that_start_together_migrate_once(empty_database: str) -> None:
    pools = [await connect(empty_database, connections_max=1) for _ in range(3)]
    await asyncio.gather(*(migrate(pool) for pool in pools))
    assert await pools[0].fetchval(tables) == 1
    for pool in pools:
        await pool.close()


async def test_a_migration_that_was_applied_may_not_be_changed(pool: Database) -> None:
    await pool.execute("update migrations set sha256 = 'other' where name = '0002_ledger.sql'")
    with pytest.raises(MigrationChanged, match="0002_ledger"):
        await migrate(pool)


async def test_a_database_from_the_future_is_refused(pool: Database) -> None:
    await pool.execute("insert into migrations values ('9999_flying_cars.sql', '')")
    with pytest.raises(MigrationChanged, match="flying_cars"):
        await migrate(pool)


async def test_migrations_are_applied_together_or_not_at_all(empty_database: str) -> None:
    pool = await connect(empty_database)
    await pool.execute("create table audit (unexpected int)")
    with pytest.raises(Exception, match="audit"):
        await migrate(pool)
    assert await pool.fetchval(tables) == 0
    await pool.close()


async def advance(pool: Database, position: int) -> None:
    async with pool.acquire() as db, db.transaction():
        await db.execute("update checkpoints set position = $1 where name = 'billing'", position)
        await db.execute("select pg_notify('reached', $1)", f"billing {position}")


async def test_a_reader_waits_for_the_projection_it_reads(pool: Database) -> None:
    await pool.execute("insert into checkpoints values ('billing', 3)")
    await reached(pool, "billing", 3, 0)
    waiting = asyncio.create_task(reached(pool, "billing", 5, 60))
    await advance(pool, 4)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await advance(pool, 5)
    await waiting


async def test_waiting_for_what_does_not_come_ends(pool: Database) -> None:
    with pytest.raises(TimeoutError):
        await reached(pool, "billing", 1, 0.05)
