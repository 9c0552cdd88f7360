"""The loop under every reactor: look, plan, ask; and look again when something has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from core.commands import Commands, Declined
from core.log import Log, Unavailable
from handlers.reactors import capacity, cleanup, healing, launching, loss, placement, stopping
from handlers.reactors.wish import Plan, Wish
from projections.hearts import Hearts
from projections.pending import Outlook
from projections.views import follow

log = structlog.get_logger(__name__)

PLANS: dict[str, Plan] = {
    "loss": loss.plan,
    "capacity": capacity.plan,
    "launching": launching.plan,
    "placement": placement.plan,
    "stopping": stopping.plan,
    "healing": healing.plan,
    "cleanup": cleanup.plan,
}
AT_ONCE = 64
TICK_S = 1.0
"""How late a timer (a back-off) may be noticed."""

UNAVAILABLE_MS = 1_000
ANSWERED_MS = 30_000
"""A wish that was answered and is still wished this much later is sent again."""

IDLE_SHARE = 3
"""For each second of planning so many seconds of not planning: a large plan is not made for each event."""

Clock = Callable[[], int]
Listen = Callable[[Hearts], Awaitable[None]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def run(history: Log, commands: Commands, clock: Clock = now_ms, listen: Listen | None = None) -> None:
    """Carry out the plans, for ever. One process at a time should (two do no harm, and twice the work).

    `listen` is told of the agents' signs of life; without, no node is ever given up.
    """
    views = Outlook()
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(history, views))
        await _catch_up(history, views)
        if listen is not None:
            await listen(views.hearts)
            views.hearts.listen(clock())
        reactors = Reactors(views, commands, group, clock)
        loop = asyncio.get_running_loop()
        while True:
            seen, began = views.position, loop.time()
            views.hearts.look(clock())
            reactors.react()
            await asyncio.sleep((loop.time() - began) * IDLE_SHARE)
            with suppress(TimeoutError):
                await views.wait(seen + 1, TICK_S)


class Reactors:
    """Sends what the plans wish, each wish once at a time; whatever is not answered is sent again."""

    def __init__(self, views: Outlook, commands: Commands, group: asyncio.TaskGroup, clock: Clock) -> None:
        self._views, self._commands, self._group, self._clock = views, commands, group, clock
        self._room = asyncio.Semaphore(AT_ONCE)
        self._sending: set[str] = set()
        self._rest_until: dict[str, int] = {}

    def react(self) -> None:
        now_ms = self._clock()
        wishes = {
            wish.command_id: (name, wish)
            for name, plan in PLANS.items()
            for wish in plan(self._views, now_ms)
        }
        self._rest_until = {id: until for id, until in self._rest_until.items() if id in wishes}
        for id, (name, wish) in wishes.items():
            if id not in self._sending and self._rest_until.get(id, 0) <= now_ms:
                self._sending.add(id)
                self._group.create_task(self._send(name, wish))

    async def _send(self, reactor: str, wish: Wish) -> None:
        id, rest_ms = wish.command_id, ANSWERED_MS
        try:
            async with self._room:
                await self._commands.send(
                    wish.command, wish.tenant, actor=f"reactor:{reactor}", command_id=id
                )
        except Declined as no:
            log.info("declined", command=id, rejection=no.rejection, reason=str(no))
        except Unavailable as error:
            log.warning("not answered", command=id, reason=str(error))
            rest_ms = UNAVAILABLE_MS
        finally:
            self._sending.discard(id)
        self._rest_until[id] = self._clock() + rest_ms


async def _catch_up(history: Log, views: Outlook) -> None:
    """Acting on what was long ago would ask again for all that has been done since."""
    while True:
        try:
            await views.wait(await history.end(), TICK_S)
            return
        except (Unavailable, TimeoutError):
            await asyncio.sleep(TICK_S / 10)
