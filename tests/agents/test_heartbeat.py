"""A sign of life, over and over."""

import asyncio

from core.bus import Bus
from handlers.agents.heartbeat import Heart


async def test_a_node_gives_a_sign_of_life_again_and_again(bus: Bus) -> None:
    heard = list[bytes]()
    await bus.listen("beat.*", lambda subject, reply, head, body: heard.append(subject))
    beating = asyncio.create_task(Heart(bus, "node-1").run(every_s=0.02))
    async with asyncio.timeout(10):
        while len(heard) < 3:
            await asyncio.sleep(0.01)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    assert set(heard) == {b"beat.node-1"}
