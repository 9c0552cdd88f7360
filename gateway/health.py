"""Whether the platform works, told as it is: each part asked, none assumed."""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import web
from msgspec import Struct

from core.log import Unavailable
from gateway.database import LEDGER
from gateway.readers import LOG, VIEWS

PATIENCE_S = 2.0

Word = Literal["healthy", "degraded", "unhealthy"]


class Component(Struct, frozen=True):
    """`message` says why, when it is not well."""

    status: Literal["connected", "behind", "disconnected"]
    message: str = ""


class Health(Struct, frozen=True):
    """Without its log the platform can do nothing; without one of the others it can do less."""

    status: Word
    service: str
    version: str
    position: int
    components: dict[str, Component]


async def examine(app: web.Application, version: str) -> Health:
    log, database = await asyncio.gather(_log(app), _database(app))
    components = {"log": log, "database": database, "containers": _containers(app)}
    status: Word = "healthy"
    if any(one.status != "connected" for one in components.values()):
        status = "unhealthy" if log.status == "disconnected" else "degraded"
    return Health(status, "stratus", version, app[VIEWS].position, components)


async def _log(app: web.Application) -> Component:
    try:
        async with asyncio.timeout(PATIENCE_S):
            end = await app[LOG].end()
            await app[VIEWS].wait(end, PATIENCE_S)
    except Unavailable as no:
        return Component("disconnected", str(no))
    except TimeoutError:
        return Component("behind", f"the projections are at {app[VIEWS].position}")
    return Component("connected")


async def _database(app: web.Application) -> Component:
    try:
        async with asyncio.timeout(PATIENCE_S), app[LEDGER].reading() as database:
            await database.fetchval("select 1")
    except Unavailable as no:
        return Component("disconnected", str(no))
    except TimeoutError:
        return Component("disconnected", "no answer")
    return Component("connected")


def _containers(app: web.Application) -> Component:
    nodes = [node for node in app[VIEWS].fleet.nodes() if not node.cordoned]
    return Component("connected") if nodes else Component("disconnected", "no node offers an engine")
