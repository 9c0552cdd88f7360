"""The whole write side in one process and without a network: for tests and the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any
from uuid import uuid4

import msgspec

from core.commands import Answer, position_of
from core.contexts import stream_of
from core.decider import Decider
from core.log import Log, Unavailable
from core.message import Command
from handlers.aggregate import Received
from handlers.runtime import Runtime


class LocalCommands:
    """`core.commands.Commands` straight into a runtime; `queue` may be shared with others on the same log."""

    def __init__(
        self,
        history: Log,
        deciders: Mapping[str, Decider[Any, Any, Any]],
        states: Mapping[str, Any],
        actor: str = "test",
        sequences: count[int] | None = None,
    ) -> None:
        self.runtime = Runtime(history, deciders, states, self._park)
        self.parked: list[tuple[Received, str]] = []
        self._sequences = sequences or count(1)
        self._actor = actor

    async def send(
        self,
        command: Command,
        tenant: str,
        *,
        actor: str | None = None,
        correlation: str = "",
        command_id: str | None = None,
        timeout: float = 10.0,
    ) -> int:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(value: Answer) -> None:
            if not answer.done():
                answer.set_result(value)

        self.runtime.receive(
            Received(
                next(self._sequences),
                stream_of(command, tenant),
                type(command).__name__,
                command_id or uuid4().hex,
                actor or self._actor,
                correlation,
                msgspec.json.encode(command),
                done,
            )
        )
        try:
            async with asyncio.timeout(timeout):
                return position_of(await answer)
        except TimeoutError:
            raise Unavailable("no answer") from None

    async def _park(self, received: Received, reason: str) -> None:
        self.parked.append((received, reason))
