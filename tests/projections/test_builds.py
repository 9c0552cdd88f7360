"""What a build says is kept, in order and once, whoever fails meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from core.bus import Bus
from projections.builds import BuildLogs, build_log
from projections.database import Database, reached
from projections.runtime import HistoryLost


@contextlib.asynccontextmanager
async def projecting(pool: Database, bus: Bus) -> AsyncGenerator[None, None]:
    task = asyncio.create_task(BuildLogs(pool, bus).run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def say(bus: Bus, image: str, *bodies: bytes) -> int:
    position = 0
    for body in bodies:
        position = (await bus.js.publish(f"out.usr_ada.builds.{image}", body)).seq
    return position


async def test_the_output_of_a_build_can_be_read_while_it_builds_and_ever_after(
    pool: Database, bus: Bus
) -> None:
    async with projecting(pool, bus):
        await say(bus, "img_b", b'{"at_ms":1,"lines":["other"]}')
        position = await say(
            bus, "img_a", b'{"at_ms":1,"lines":["step 1","step 2"]}', b'{"at_ms":2,"lines":["done"]}'
        )
        await reached(pool, "builds", position, 60)
    assert await build_log(pool, "img_a", 1000) == "step 1\nstep 2\ndone\n"
    assert await build_log(pool, "img_a", 7) == "2\ndone\n"
    assert await build_log(pool, "img_z", 1000) == ""


async def test_nothing_is_missed_or_doubled_between_two_lives(pool: Database, bus: Bus) -> None:
    async with projecting(pool, bus):
        await reached(pool, "builds", await say(bus, "img_a", b'{"at_ms":1,"lines":["one"]}'), 60)
    position = await say(bus, "img_a", b'{"at_ms":2,"lines":["two"]}')
    async with projecting(pool, bus):
        await reached(pool, "builds", position, 60)
    assert await build_log(pool, "img_a", 1000) == "one\ntwo\n"


async def test_what_is_no_output_does_not_hold_up_the_rest(pool: Database, bus: Bus) -> None:
    position = await say(
        bus, "img_a", b"not json", b'{"lines":3}', b"\xff", b'{"at_ms":1,"lines":["nul \\u0000 here"]}'
    )
    async with projecting(pool, bus):
        await reached(pool, "builds", position, 60)
    assert await build_log(pool, "img_a", 1000) == "nul  here\n"


async def test_a_stream_that_lost_what_was_read_is_refused(pool: Database, bus: Bus) -> None:
    await pool.execute("insert into checkpoints values ('builds', 99)")
    with pytest.raises(HistoryLost, match="99"):
        await BuildLogs(pool, bus).run()
