"""`python -m projections`: writes into Postgres what the log adds up to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import structlog
import uvloop

from core import telemetry
from core.bus import connect_when_up
from core.jetstream import JetStreamLog, create_streams
from core.settings import Settings
from projections.builds import BuildLogs
from projections.database import LOST, Database, MigrationChanged, connect, migrate
from projections.rebuild import projections
from projections.runtime import HistoryLost, Projector

log = structlog.get_logger(__name__)

RETRY_S = 0.2


async def project(settings: Settings) -> None:
    """For ever. Raises `HistoryLost` or `MigrationChanged` when the database is not this log's."""
    pool = await migrated(settings.postgres_url)
    bus = await connect_when_up(settings.nats_url, "projections")
    try:
        await create_streams(bus)
        caught_up, reading = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(Projector(pool, JetStreamLog(bus), projections()).run(caught_up.set))
            group.create_task(BuildLogs(pool, bus).run(reading.set))
            await caught_up.wait()
            await reading.wait()
            log.info("ready")
    finally:
        await bus.close()
        pool.terminate()


async def migrated(url: str) -> Database:
    """Patient with a Postgres that is still starting."""
    while True:
        try:
            pool = await connect(url)
            await migrate(pool)
            return pool
        except LOST as error:
            log.warning("waiting for Postgres", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(RETRY_S)


async def main() -> int:
    settings = Settings.read(os.environ)
    telemetry.configure("projections", settings.log_level)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    projecting, stopping = asyncio.create_task(project(settings)), asyncio.create_task(stop.wait())
    await asyncio.wait({projecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    projecting.cancel()  # what is half written is rolled back together with its checkpoint
    try:
        with suppress(asyncio.CancelledError):
            await projecting
    except* (HistoryLost, MigrationChanged) as wrong:
        log.critical("the database does not belong to this log", reason=str(wrong.exceptions[0]))
    return 0 if stop.is_set() else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
