"""`python -m handlers`: decides commands, and asks for what the platform wants of its own accord."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import structlog
import uvloop

from core import telemetry
from core.bus import Bus, connect_when_up
from core.commands import CommandQueue
from core.jetstream import JetStreamLog, create_streams
from core.leases import Lease, Leases
from core.settings import Settings
from handlers.aggregate import Received
from handlers.deciders import DECIDERS, STATES
from handlers.partitions import PARTITION_NAMES, Partition, put_aside
from handlers.questions import Answers, answer_questions
from handlers.reactors import runtime as reactors
from handlers.runtime import Runtime
from projections.hearts import Hearts

log = structlog.get_logger(__name__)

REACTORS = "reactors"
DRAIN_S = 2.0


class Handlers:
    """What this process leads right now: partitions of the queue, perhaps the reactors."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._history = JetStreamLog(bus)
        self._partitions: dict[str, Partition] = {}
        self._reacting: asyncio.Task[None] | None = None
        self.leases = Leases(bus, (*PARTITION_NAMES, REACTORS), self.lead, self.lose, self.checkpoint)

    async def lead(self, name: str, lease: Lease) -> None:
        if name == REACTORS:
            commands = CommandQueue(self._bus, actor="reactor")
            self._reacting = asyncio.create_task(reactors.run(self._history, commands, listen=self._listen))
            self._reacting.add_done_callback(_ended)
            return
        runtime = Runtime(self._history, DECIDERS, STATES, self._park)
        partition = self._partitions[name] = Partition(name, self._bus, runtime, self.leases, lease)
        await partition.start()

    async def lose(self, name: str) -> None:
        if name == REACTORS:
            if self._reacting is not None:
                self._reacting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._reacting
            return
        await self._partitions[name].stop(DRAIN_S)

    def checkpoint(self, name: str) -> int:
        partition = self._partitions.get(name)
        return partition.checkpoint if partition is not None else 0

    async def _listen(self, hearts: Hearts) -> None:
        def beat(subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
            hearts.heard(subject.decode().rpartition(".")[2], reactors.now_ms())

        await self._bus.listen("beat.*", beat)
        self._bus.on_reconnect.append(lambda: hearts.listen(reactors.now_ms()))

    async def _park(self, received: Received, reason: str) -> None:
        await put_aside(self._bus, received, reason)


def _ended(task: asyncio.Task[None]) -> None:
    """Reactors never end by themselves: if they do, this process is of no use and starts afresh."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("reactors failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)


async def main() -> None:
    settings = Settings.read(os.environ)
    telemetry.configure("handlers", settings.log_level)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bus = await connect_when_up(settings.nats_url, "handlers")
    await create_streams(bus)
    handlers = Handlers(bus)
    await answer_questions(bus, Answers(JetStreamLog(bus), DECIDERS, STATES))
    await handlers.leases.start()
    await handlers.leases.settled.wait()
    log.info("ready", leases=len(handlers.leases.held))
    await stop.wait()
    await handlers.leases.resign()
    await bus.close()


if __name__ == "__main__":
    uvloop.run(main())
