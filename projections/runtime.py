"""The loop under every projection in Postgres, and the checkpoints that make it exact.

Rows and checkpoint change in one transaction, or not at all. One reading of the log
feeds all of them, but each has a checkpoint of its own: one that is new, or was
emptied to be rebuilt, catches up by itself while the others pass over what they know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import structlog

from core.log import Log, Recorded
from projections.database import LOST, Connection, Database

log = structlog.get_logger(__name__)

COMMITS_MAX = 1000
"""Of one transaction."""

BACK_OFF_S = 0.1
BACK_OFF_S_MAX = 5.0


class HistoryLost(Exception):
    """The database has read further than the log reaches: it is not the log it was made from."""


class Overtaken(Exception):
    """Somebody else has moved a checkpoint: another projector runs, or a rebuild began."""


class Projection(Protocol):
    """A fold of the log into `tables`, each named with what orders its rows.

    `take` turns a commit into rows, by that commit and what the projection keeps in
    memory; `write` stores them. `load` makes the memory what the tables say, and
    forgets rows that were not stored.
    """

    name: str
    tables: dict[str, str]

    async def load(self, db: Connection) -> None: ...

    def take(self, recorded: Recorded) -> None: ...

    async def write(self, db: Connection) -> None: ...


class Projector:
    def __init__(self, pool: Database, history: Log, projections: Sequence[Projection]) -> None:
        self._pool, self._history, self._projections = pool, history, projections

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """For ever; calls `ready` once all is written that was in the log at the start.

        Waits for a Postgres or a log that is away. Raises `HistoryLost`.
        """
        start: int | None = None
        told = False

        def go_on(position: int) -> bool:
            nonlocal told
            if not told and start is not None and position >= start:
                told = True
                ready()
            return True

        async def attempt() -> None:
            nonlocal start
            start = await self._history.end() if start is None else start
            await self._follow(go_on)

        await for_ever("projections", attempt)

    async def catch_up(self, until: int) -> None:
        """Write everything up to this position and nothing after it.

        Raises any of `LOST`, `Overtaken`, `HistoryLost`.
        """
        await self._follow(lambda position: position < until, until)

    async def _follow(self, go_on: Callable[[int], bool], until: int | None = None) -> None:
        async with self._pool.acquire() as db:
            positions = await self._resume(db)
            furthest, end = max(positions), await self._history.end()
            if furthest > end:
                raise HistoryLost(f"the database has read up to {furthest}, the log ends at {end}")
            if not go_on(min(positions)):
                return
            async with aclosing(self._history.follow(after=min(positions))) as batches:
                async for batch in batches:
                    if until is not None:
                        batch = [recorded for recorded in batch if recorded.position <= until]
                    for start in range(0, len(batch), COMMITS_MAX):
                        positions = await self._write(db, positions, batch[start : start + COMMITS_MAX])
                        if not go_on(min(positions)):
                            return

    async def _resume(self, db: Connection) -> list[int]:
        """Where each projection stands, with its memory as it was there."""
        enrol = "insert into checkpoints (name, position) values ($1, 0) on conflict do nothing"
        find = "select position from checkpoints where name = $1"
        positions: list[int] = []
        await db.executemany(enrol, [(projection.name,) for projection in self._projections])
        async with db.transaction(isolation="repeatable_read", readonly=True):
            for projection in self._projections:
                positions.append(await db.fetchval(find, projection.name))
                await projection.load(db)
        return positions

    async def _write(self, db: Connection, positions: list[int], commits: Sequence[Recorded]) -> list[int]:
        advance = "update checkpoints set position = $2 where name = $1 and position = $3 returning true"
        last = commits[-1].position
        async with db.transaction():
            for projection, position in zip(self._projections, positions, strict=True):
                if position >= last:
                    continue
                if not await db.fetchval(advance, projection.name, last, position):
                    raise Overtaken(projection.name)
                for recorded in commits:
                    if recorded.position > position:
                        projection.take(recorded)
                await projection.write(db)
                await db.execute("select pg_notify('reached', $1)", f"{projection.name} {last}")
        return [max(position, last) for position in positions]


async def for_ever(what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    """Attempt it again and again, after longer and longer pauses while Postgres or the log is away."""
    loop, delay_s = asyncio.get_running_loop(), BACK_OFF_S
    while True:
        began = loop.time()
        try:
            await attempt()
        except Exception as error:
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from error  # what is cancelled may fail while it is cleaned up
            if not isinstance(error, (*LOST, Overtaken)):
                raise
            if loop.time() - began > BACK_OFF_S_MAX:
                delay_s = BACK_OFF_S
            log.warning(f"{what} wait", reason=f"{type(error).__name__}: {error}", retry_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, BACK_OFF_S_MAX)
