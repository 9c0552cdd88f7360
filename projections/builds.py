"""What builds have said, kept for as long as the platform is.

Output is no event: it comes by its own stream, which forgets after a week, and a
rebuild of the other tables leaves it alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from msgspec import Struct

from core.bus import Bus
from core.jetstream import last_sequence
from core.reader import Reader as StreamReader
from projections.database import Database, Reader
from projections.runtime import COMMITS_MAX, HistoryLost, Overtaken, for_ever

log = structlog.get_logger(__name__)

NAME = "builds"
STREAM = "OUTPUT"
SUBJECT = "out.*.builds.*"
BACKLOG_MAX = 5_000


class Said(Struct, frozen=True):
    """One message of a build's output."""

    at_ms: int
    lines: list[str]


async def build_log(db: Reader, image_id: str, tail_chars: int) -> str:
    """The end of what the image's builds have said, oldest first, at most so many characters."""
    query = "select right(string_agg(text, '' order by position), $2) from build_logs where image_id = $1"
    return await db.fetchval(query, image_id, tail_chars) or ""


class BuildLogs:
    """Copies the stream into the table, each message once."""

    def __init__(self, pool: Database, bus: Bus) -> None:
        self._pool, self._bus = pool, bus

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """For ever, whatever is away; calls `ready` whenever it begins to read. Raises `HistoryLost`."""

        async def attempt() -> None:
            position = await self._resume()
            ready()
            await self._follow(position)

        await for_ever("build logs", attempt)

    async def _resume(self) -> int:
        async with self._pool.acquire() as db, db.transaction():
            await db.execute("insert into checkpoints values ($1, 0) on conflict do nothing", NAME)
            position: int = await db.fetchval("select position from checkpoints where name = $1", NAME)
        end = await last_sequence(self._bus, STREAM)
        if position > end:
            raise HistoryLost(f"build logs have been read up to {position}, the stream ends at {end}")
        return position

    async def _follow(self, position: int) -> None:
        backlog: list[tuple[int, bytes, bytes]] = []
        grown = asyncio.Event()

        def take(sequence: int, at_ms: int, subject: bytes, head: bytes, body: bytes) -> None:
            backlog.append((sequence, subject, body))
            grown.set()
            if len(backlog) >= BACKLOG_MAX:
                reader.pause()

        reader = StreamReader(self._bus, STREAM, position, take, [SUBJECT])
        await reader.start()
        try:
            while True:
                await grown.wait()
                messages, backlog = backlog[:COMMITS_MAX], backlog[COMMITS_MAX:]
                if not backlog:
                    grown.clear()
                    reader.resume()
                position = await self._write(position, messages)
        finally:
            await reader.stop()

    async def _write(self, position: int, messages: list[tuple[int, bytes, bytes]]) -> int:
        last = messages[-1][0]
        rows = [row for message in messages if (row := _row(*message))]
        advance = "update checkpoints set position = $2 where name = $1 and position = $3 returning true"
        columns = ("position", "tenant", "image_id", "at_ms", "text")
        async with self._pool.acquire() as db, db.transaction():
            if not await db.fetchval(advance, NAME, last, position):
                raise Overtaken(NAME)
            await db.copy_records_to_table("build_logs", records=rows, columns=columns)
            await db.execute("select pg_notify('reached', $1)", f"{NAME} {last}")
        return last


def _row(sequence: int, subject: bytes, body: bytes) -> tuple[int, str, str, int, str] | None:
    """None for what no agent of ours would say; it must not hold up the rest."""
    _, tenant, _, image_id = subject.decode().split(".")
    try:
        said = _decode(body)
    except msgspec.MsgspecError as error:
        log.warning("build output is unreadable", position=sequence, image_id=image_id, reason=str(error))
        return None
    text = "".join(f"{line}\n" for line in said.lines).replace("\0", "")  # Postgres has no room for NUL
    return sequence, tenant, image_id, said.at_ms, text


_decode = msgspec.json.Decoder(Said).decode
