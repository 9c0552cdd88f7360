"""Exactly once: rows and checkpoints move together, whatever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.log import Recorded, Unavailable
from core.memory import MemoryLog
from projections import runtime
from projections.audit import Audit
from projections.billing import Ledger
from projections.database import Connection, Database, reached
from projections.rebuild import Fingerprint, fingerprint, projections, rebuild, replay
from projections.runtime import HistoryLost, Projector
from tests.projections.history import ADA, History, container, histories, image
from tests.projections.test_billing import log_of
from tests.projections.test_views import example


class Mortal(Ledger):
    """Dies when its rows are written and the transaction is not."""

    lives = 0

    async def write(self, db: Connection) -> None:
        await super().write(db)
        if self.lives == 0:
            raise MemoryError
        self.lives -= 1


class Interrupted(MemoryLog):
    """Its connection breaks after every batch."""

    async def follow(self, *contexts: str, after: int = 0) -> AsyncGenerator[list[Recorded], None]:
        async for batch in super().follow(*contexts, after=after):
            yield batch[:2]
            raise Unavailable("gone")


async def made_of(pool: Database, history: History) -> Fingerprint:
    """What the tables are when nothing goes wrong."""
    await rebuild(pool, log_of(history.recorded))
    return await fingerprint(pool)


async def test_a_projector_that_dies_half_way_has_written_nothing(pool: Database) -> None:
    """B-17: nothing is taken for done that was not."""
    history = example()
    expected = await made_of(pool, history)
    await pool.execute("truncate billed_images, billed_containers, intervals, prices, audit")
    await pool.execute("update checkpoints set position = 0")
    log = log_of(history.recorded)
    with pytest.raises(MemoryError):
        await Projector(pool, log, [Audit(), Mortal()]).catch_up(len(history.recorded))
    assert await pool.fetchval("select count(*) from audit") == 0
    await Projector(pool, log, projections()).catch_up(len(history.recorded))
    assert await fingerprint(pool) == expected


async def test_a_projection_that_is_new_catches_up_while_the_others_pass(pool: Database) -> None:
    history = example()
    log = log_of(history.recorded)
    await Projector(pool, log, [Audit()]).catch_up(5)
    await Projector(pool, log, projections()).catch_up(len(history.recorded))
    assert await fingerprint(pool) == await made_of(pool, history)


@given(histories, st.data())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_tables_made_anew_are_the_same_to_the_last_bit(
    pool: Database, history: History, data: st.DataObject
) -> None:
    await pool.execute("truncate billed_images, billed_containers, intervals, prices, audit")
    await pool.execute("delete from checkpoints")
    log, end = log_of(history.recorded), len(history.recorded)
    projector = Projector(pool, log, projections())
    for stop in [*data.draw(st.lists(st.integers(0, end), max_size=4).map(sorted)), end]:
        await projector.catch_up(stop)
    grown = await fingerprint(pool)
    assert grown.position == end
    assert grown == await made_of(pool, history)


async def test_a_replay_beside_the_tables_tells_whether_they_are_right(
    pool: Database, empty_database: str
) -> None:
    history = example()
    log = log_of(history.recorded)
    await Projector(pool, log, projections()).catch_up(6)
    kept = await fingerprint(pool)
    assert await replay(empty_database, log, kept.position) == kept
    await pool.execute("update audit set actor = 'mallory' where position = 3")
    assert await replay(empty_database, log, kept.position) != await fingerprint(pool)
    schemas = "select count(*) from information_schema.schemata where schema_name like 'replay%'"
    assert await pool.fetchval(schemas) == 0


async def test_a_database_that_knows_more_than_the_log_is_refused(pool: Database) -> None:
    history = example()
    await Projector(pool, log_of(history.recorded), projections()).catch_up(len(history.recorded))
    projector = Projector(pool, log_of(history.recorded[:3]), projections())
    with pytest.raises(HistoryLost, match="the log ends at 3"):
        await projector.run()


async def test_many_transactions_make_the_same_as_one(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = example()
    expected = await made_of(pool, history)
    monkeypatch.setattr(runtime, "COMMITS_MAX", 2)
    assert await made_of(pool, history) == expected


@contextlib.asynccontextmanager
async def running(*projectors: Projector) -> AsyncGenerator[None, None]:
    tasks = [asyncio.create_task(projector.run()) for projector in projectors]
    yield
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_it_is_ready_when_it_has_written_what_there_was(pool: Database) -> None:
    history = example()
    ready = asyncio.Event()
    task = asyncio.create_task(Projector(pool, log_of(history.recorded), projections()).run(ready.set))
    await ready.wait()
    assert (await fingerprint(pool)).position == len(history.recorded)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_it_goes_on_when_postgres_or_the_log_comes_back(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-17."""
    monkeypatch.setattr(runtime, "BACK_OFF_S_MAX", 0.1)
    history = example()
    for name in "ab":
        history.do(container(name), ADA)
    log = Interrupted()
    log.recorded = history.recorded
    others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    async with running(Projector(pool, log, projections())):
        await reached(pool, "billing", 2, 60)
        async with pool.acquire() as db:
            await db.execute(f"{others} and datname = current_database()")
            while await db.fetchval("select min(position) from checkpoints") < len(history.recorded):
                await asyncio.sleep(0.02)
    assert await fingerprint(pool) == await made_of(pool, history)


async def test_it_ends_when_it_is_told_to_whatever_it_is_doing(pool: Database) -> None:
    """A connection that breaks while it is given up raises an error of its own over the cancellation."""
    log = log_of(example().recorded)
    others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    for turns in range(40):
        async with running(Projector(pool, log, projections())):
            await asyncio.sleep(turns * 0.0005)
            await pool.execute(f"{others} and datname = current_database()")
            for _ in range(turns % 4):
                await asyncio.sleep(0)


async def test_two_projectors_write_everything_once(pool: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "BACK_OFF_S_MAX", 0.1)
    monkeypatch.setattr(runtime, "COMMITS_MAX", 1)
    history = example()
    for name in "abcdef":
        history.do(image(name.upper()), ADA)
    log = log_of(history.recorded)
    async with running(Projector(pool, log, projections()), Projector(pool, log, projections())):
        await reached(pool, "billing", len(history.recorded), 60)
    assert await fingerprint(pool) == await made_of(pool, history)
