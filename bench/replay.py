"""How fast the read side comes back from nothing: the whole log into memory, and into Postgres."""

from __future__ import annotations

import asyncio
import time

from bench.figures import median, show
from bench.ground import Ground, ground
from bench.history import commits
from core.jetstream import JetStreamLog, last_sequence
from core.log import encode
from projections.database import connect, migrate
from projections.rebuild import rebuild
from projections.views import Views, follow

CONTAINERS = 20_000
ROUNDS = 3


async def fill(here: Ground) -> tuple[int, int]:
    """Write the history; how many commits and events it has."""
    events = written = 0
    for stream, commit in commits(CONTAINERS):
        here.bus.send(stream.events.encode(), encode(commit))
        events += len(commit.decisions[0].events)
        written += 1
        if written % 2000 == 0:
            await here.bus.nats.flush(timeout=30)
    async with asyncio.timeout(120):
        while await last_sequence(here.bus, "EVENTS") < written:
            await asyncio.sleep(0.05)
    return written, events


async def into_memory(here: Ground, end: int) -> float:
    """Seconds until every in-memory projection stands at `end`."""
    views = Views()
    began = time.perf_counter()
    following = asyncio.create_task(follow(JetStreamLog(here.bus), views))
    await views.wait(end, 120)
    taken = time.perf_counter() - began
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return taken


async def into_postgres(here: Ground, end: int) -> float:
    """Seconds until the ledger and the audit index stand at `end`, committed."""
    pool = await connect(here.postgres_url)
    await migrate(pool)
    began = time.perf_counter()
    await rebuild(pool, JetStreamLog(here.bus), end)
    taken = time.perf_counter() - began
    await pool.close()
    return taken


async def main() -> None:
    async with ground("100ms") as here:
        written, events = await fill(here)
        memory = [await into_memory(here, written) for _ in range(ROUNDS)]
        rows = [("every in-memory projection", events / median(memory))]
        postgres = [await into_postgres(here, written) for _ in range(ROUNDS)]
        rows.append(("every projection in Postgres", events / median(postgres)))
    show(
        f"Replay of {events:,} events in {written:,} commits, one process",
        ("into", "events/s"),
        rows,
    )
