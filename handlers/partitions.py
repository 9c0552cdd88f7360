"""The partitions of the command queue this process has leases for, each read in order into the runtime."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import msgspec
import structlog

from core.bus import Bus, header
from core.commands import Answer, reply_address
from core.contexts import Stream
from core.dead import park
from core.jetstream import PARTITIONS
from core.leases import Lease, Leases
from core.log import Unavailable
from core.reader import Reader
from handlers.aggregate import Received
from handlers.runtime import ATTEMPTS, Runtime

log = structlog.get_logger(__name__)

OUTSTANDING_MAX = 4000
CAREFUL_AFTER = 2
"""So many owners in a row died without getting further: from now on, one command at a time."""

_encode = msgspec.json.Encoder().encode


class Partition:
    """One ordered part of the queue; `checkpoint` is the last sequence before the first unanswered one."""

    def __init__(self, name: str, bus: Bus, runtime: Runtime, leases: Leases, lease: Lease) -> None:
        self.checkpoint = lease.checkpoint
        self._name, self._bus, self._runtime, self._leases, self._lease = name, bus, runtime, leases, lease
        self._outstanding: deque[int] = deque()
        self._done: set[int] = set()
        self._reader: Reader | None = None
        self._careful: asyncio.Queue[Received] | None = None
        self._stepping: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def start(self) -> None:
        if self._lease.crashes >= CAREFUL_AFTER:
            log.warning("going carefully", partition=self._name, crashes=self._lease.crashes)
            self._careful = asyncio.Queue()
            self._stepping = asyncio.get_running_loop().create_task(self._step())
        subjects = (f"cmd.{self._name}.*.*.*.*",)
        self._reader = Reader(self._bus, "COMMANDS", self.checkpoint, self._take, subjects)
        await self._reader.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        """Take nothing new; wait up to `grace_s` for what is under way."""
        if self._reader is not None:
            await self._reader.stop()
        if self._stepping is not None:
            self._stepping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._stepping
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        self._closed = True
        await self._runtime.close()

    def _take(self, sequence: int, at_ms: int, subject: bytes, head: bytes, body: bytes) -> None:
        words = subject.decode().split(".")
        stream = Stream(words[2], words[3], words[4])
        reply = reply_address(head)

        def done(answer: Answer) -> None:
            if reply:
                self._bus.send(reply, _encode(answer))
            self._finished(sequence)

        received = Received(
            sequence,
            stream,
            words[5],
            header(head, b"Nats-Msg-Id").decode() or f"seq-{sequence}",
            header(head, b"Stratus-Actor").decode() or "anonymous",
            header(head, b"Stratus-Correlation").decode() or f"seq-{sequence}",
            body,
            done,
        )
        self._outstanding.append(sequence)
        self._idle.clear()
        if len(self._outstanding) > OUTSTANDING_MAX and self._reader is not None:
            self._reader.pause()
        if self._careful is not None:
            self._careful.put_nowait(received)
        else:
            self._runtime.receive(received)

    def _finished(self, sequence: int) -> None:
        if self._closed:
            return
        self._done.add(sequence)
        while self._outstanding and self._outstanding[0] in self._done:
            self.checkpoint = self._outstanding.popleft()
            self._done.discard(self.checkpoint)
        if not self._outstanding:
            self._idle.set()
        if self._reader is not None and len(self._outstanding) < OUTSTANDING_MAX // 2:
            self._reader.resume()

    async def _step(self) -> None:
        """One command at a time, noted before it is decided; one that keeps killing us is put aside."""
        queue = self._careful
        assert queue is not None
        while True:
            try:
                async with asyncio.timeout(1.0):
                    received = await queue.get()
            except TimeoutError:
                self._careful = None  # whatever it was, it is behind us
                return
            if self._lease.crashes >= ATTEMPTS and received.sequence == self._lease.suspect:
                reason = f"ended the process that decided it {self._lease.crashes} times"
                await put_aside(self._bus, received, reason)
                self._finished(received.sequence)
                continue
            await self._leases.suspect(self._name, received.sequence)
            self._runtime.receive(received)
            while received.sequence > self.checkpoint:
                await asyncio.sleep(0.001)


async def put_aside(bus: Bus, received: Received, reason: str) -> None:
    """Into the stream of the dead, until it is there."""
    log.warning("command parked", stream=str(received.stream), command=received.name, reason=reason)
    while True:
        try:
            await park(
                bus,
                f"cmd.{received.stream}.{received.name}",
                received.body,
                sequence=received.sequence,
                command_id=received.command,
                actor=received.actor,
                correlation=received.correlation,
                reason=reason,
            )
            return
        except Unavailable:
            await asyncio.sleep(0.2)


PARTITION_NAMES = tuple(str(number) for number in range(PARTITIONS))
