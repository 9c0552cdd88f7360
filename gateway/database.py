"""The database, which may be away: then what needs it says so, and everything else works on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog
from aiohttp import web

from core.log import Unavailable
from gateway.policy import POLICY
from gateway.readers import VIEWS
from projections.database import LOST, Database, connect, reached

log = structlog.get_logger(__name__)

RETRY_S = 1.0
AWAY = "the database is away; what is read from it is catching up, try again soon"


class Ledger:
    """A pool of connections, once there is one. `url` '' means there will be none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Database | None = None

    async def run(self) -> None:
        """Connect, as often as it takes; the pool itself finds its way back later."""
        while self._url and self._pool is None:
            try:
                self._pool = await connect(self._url)
            except (*LOST, asyncpg.PostgresError) as no:
                log.warning("database away", reason=type(no).__name__)
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Database]:
        """Raises `Unavailable` when the database is not there, or goes away meanwhile."""
        if self._pool is None:
            raise Unavailable(AWAY)
        try:
            yield self._pool
        except LOST as no:
            raise Unavailable(AWAY) from no


async def caught_up(request: web.Request, database: Database, name: str) -> None:
    """Until the projection shows all this gateway has seen. Raises `Unavailable` when that takes too long."""
    try:
        await reached(database, name, request.app[VIEWS].position, request.app[POLICY].settle_s)
    except TimeoutError:
        raise Unavailable(f"{name} is catching up; try again soon") from None


LEDGER = web.AppKey("ledger", Ledger)
