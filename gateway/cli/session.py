"""One conversation with a platform: what it knows by now, what it is asked, what it is told to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex

from core.bus import Bus
from core.commands import CommandQueue
from core.contexts import PLATFORM, stream_of
from core.jetstream import JetStreamLog
from core.message import Command, Event
from core.questions import QuestionBus
from gateway.cli import options
from projections.views import Views, follow

ACTOR = "cli"
CATCH_UP_S = 600.0


class Session:
    """`views` are kept up with the log as long as it is open."""

    def __init__(self, bus: Bus, history: JetStreamLog, views: Views) -> None:
        self.views, self.questions = views, QuestionBus(bus)
        self._commands, self._history = CommandQueue(bus, ACTOR), history

    async def send(self, command: Command) -> list[Event]:
        """Of a shared context: what has happened because of it, once `views` know; [] if it was so already.

        Raises `Declined`, `Unavailable`.
        """
        command_id = token_hex(16)
        position = await self._commands.send(command, PLATFORM, command_id=command_id)
        await self.views.wait(position, CATCH_UP_S)
        found = await self._history.read(stream_of(command, PLATFORM), position - 1, position)
        decisions = (decision for recorded in found for decision in recorded.commit.decisions)
        return [event for one in decisions if one.command == command_id for event in one.events]


@asynccontextmanager
async def opened(data_dir: Path, nats_url: str | None) -> AsyncIterator[Session]:
    """Once everything that had happened by then is known. Raises `click.ClickException`."""
    async with options.connected(data_dir, nats_url) as bus:
        history, views = JetStreamLog(bus), Views()
        following = asyncio.create_task(follow(history, views))
        try:
            await views.wait(await history.end(), CATCH_UP_S)
            yield Session(bus, history, views)
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
